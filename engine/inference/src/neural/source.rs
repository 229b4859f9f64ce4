//! Where the blocks of a model get their tensors, and which ones those are.

use std::collections::BTreeMap;

use evaltasks_core::backend::RunControl;

use crate::checkpoint::CheckpointFiles;
use crate::error::InferenceError;
use crate::weights::to_f32;

/// The tensors that a model consists of.
#[derive(Debug, Default)]
pub struct TensorList {
    tensors: BTreeMap<String, Expected>,
}

#[derive(Debug)]
struct Expected {
    shape: Vec<usize>,
    role: Role,
}

/// What a tensor is to the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Trained; counts as parameters.
    Parameter,
    /// Fixed, such as a running mean; needed, but no parameter.
    Buffer,
    /// Some checkpoints have it; nothing depends on it.
    Unused,
}

impl TensorList {
    /// Numbers in all parameters.
    pub fn parameters(&self) -> u64 {
        let parameters = self.tensors.values().filter(|one| one.role == Role::Parameter);
        parameters.map(|one| elements(&one.shape)).fold(0, u64::saturating_add)
    }

    /// Bytes of all tensors in memory.
    pub fn bytes(&self) -> u64 {
        let needed = self.tensors.values().filter(|one| one.role != Role::Unused);
        needed.map(|one| elements(&one.shape).saturating_mul(4)).fold(0, u64::saturating_add)
    }

    /// Whether `name` holds weights that the model computes with.
    pub fn requires(&self, name: &str) -> bool {
        self.tensors.get(name).is_some_and(|one| one.role != Role::Unused)
    }

    /// Compares the list with what is there: nothing may be missing, surplus
    /// or of another shape or type.
    pub fn check(&self, files: &CheckpointFiles) -> Result<(), InferenceError> {
        for (name, expected) in self.tensors.iter().filter(|(_, one)| one.role != Role::Unused) {
            let header = files.header(name)?;
            header.dtype(name)?;
            if header.shape != expected.shape {
                let (found, asked) = (&header.shape, &expected.shape);
                let reason = format!("has shape {found:?}, the configuration asks for {asked:?}");
                return Err(InferenceError::tensor(name, reason));
            }
        }
        match files.tensors().keys().find(|name| !self.tensors.contains_key(*name)) {
            Some(name) => {
                Err(InferenceError::tensor(name, "is surplus: the architecture has no such tensor"))
            }
            None => Ok(()),
        }
    }
}

fn elements(shape: &[usize]) -> u64 {
    shape.iter().fold(1, |product, &size| product.saturating_mul(size as u64))
}

/// Gives the blocks of a model their tensors.
pub enum Source<'a> {
    /// None yet: what is asked for is listed, and every tensor is empty.
    List(TensorList),
    /// Those of a checkpoint that was [checked](TensorList::check).
    Files(&'a CheckpointFiles, &'a RunControl),
}

impl Source<'_> {
    /// A parameter's numbers; none while listing.
    pub fn parameter(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, InferenceError> {
        self.tensor(name, shape, Role::Parameter)
    }

    /// A buffer's numbers; none while listing.
    pub fn buffer(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, InferenceError> {
        self.tensor(name, shape, Role::Buffer)
    }

    /// Accepts a tensor that nothing depends on.
    pub fn unused(&mut self, name: &str) {
        if let Source::List(list) = self {
            list.tensors
                .insert(name.to_owned(), Expected { shape: Vec::new(), role: Role::Unused });
        }
    }

    fn tensor(
        &mut self,
        name: &str,
        shape: &[usize],
        role: Role,
    ) -> Result<Vec<f32>, InferenceError> {
        match self {
            Source::List(list) => {
                list.tensors.insert(name.to_owned(), Expected { shape: shape.to_vec(), role });
                Ok(Vec::new())
            }
            Source::Files(files, control) => {
                control.check().map_err(InferenceError::Stopped)?;
                let numbers = to_f32(name, &files.tensor(name)?)?;
                files.release(name);
                if numbers.len() as u64 != elements(shape) {
                    return Err(InferenceError::tensor(name, "has another number of elements"));
                }
                Ok(numbers)
            }
        }
    }
}
