//! What a checkpoint is, from its headers alone.

use std::collections::BTreeSet;

use evaltasks_core::backend::RunControl;
use evaltasks_core::model::{Checkpoint, NormLimits, Violation};

use crate::checkpoint::{CheckpointFiles, TensorHeader};
use crate::config::{ConfigError, config_summary, resolve, tensors};
use crate::error::InferenceError;
use crate::neural::TensorList;
use crate::perception;
use crate::weights::for_each_f32;

/// The facts that constraints are checked against.
///
/// The parameters of a known architecture are those that its configuration
/// asks for, every one of which must be there with the right shape; tied
/// weights count once. An unknown architecture's are all numbers in the files.
pub fn facts(files: &CheckpointFiles) -> Result<Checkpoint, InferenceError> {
    let summary = config_summary(&files.config)?;
    let plan = Plan::of(files)?;
    let parameters = match &plan {
        Plan::Decoder(plan) => plan.parameters(),
        Plan::Perceiver(list) => list.parameters(),
        Plan::Unknown => files.tensors().values().map(TensorHeader::elements).sum(),
    };
    let is_weight = |name: &str| match &plan {
        Plan::Decoder(plan) => plan.requires(name),
        Plan::Perceiver(list) => list.requires(name),
        Plan::Unknown => true,
    };
    let weights = files.tensors().iter().filter(|(name, _)| is_weight(name));
    let dtypes: BTreeSet<&str> = weights
        .map(|(name, header)| header.dtype(name).map(|_| header.stored.name()))
        .collect::<Result<_, _>>()?;
    Ok(Checkpoint {
        directory: files.directory.clone(),
        architecture: summary.architecture.unwrap_or_else(|| "unknown".to_owned()),
        parameters,
        bytes: files.bytes,
        dtypes: dtypes.into_iter().map(str::to_owned).collect(),
        vocabulary_size: summary.vocabulary_size.map(|size| size as u64),
        sequence_length: summary.max_positions.map(|length| length as u64),
    })
}

/// The tensors of a checkpoint, by the family of its architecture.
enum Plan {
    Decoder(Box<tensors::TensorPlan>),
    Perceiver(TensorList),
    Unknown,
}

impl Plan {
    fn of(files: &CheckpointFiles) -> Result<Self, InferenceError> {
        if let Some(architecture) = perception::find(&files.config) {
            return perception::tensors(architecture, files).map(Plan::Perceiver);
        }
        match resolve(&files.config) {
            Ok((config, spec)) => plan(files, &config, spec).map(Box::new).map(Plan::Decoder),
            Err(ConfigError::UnsupportedArchitecture { .. }) => Ok(Plan::Unknown),
            Err(error) => Err(error.into()),
        }
    }
}

/// The tensors that a configuration asks for, checked against those that are
/// there: none may be missing, surplus or of another shape.
pub fn plan(
    files: &CheckpointFiles,
    config: &crate::config::DecoderConfig,
    spec: &crate::config::architecture::ArchSpec,
) -> Result<tensors::TensorPlan, InferenceError> {
    let present = |name: &str| files.tensors().contains_key(name);
    let plan = tensors::expected_tensors(config, spec, &present)?;
    for (name, shape) in plan.required() {
        let header = files.header(name)?;
        header.dtype(name)?;
        if header.shape != shape {
            return Err(InferenceError::tensor(
                name,
                format!("has shape {:?}, the configuration asks for {shape:?}", header.shape),
            ));
        }
    }
    if let Some(name) = files.tensors().keys().find(|name| !plan.knows(name)) {
        return Err(InferenceError::tensor(
            name,
            "is surplus: the architecture has no such tensor",
        ));
    }
    for alias in &plan.tied_aliases {
        if files.tensor(alias)?.bytes != files.tensor(&plan.embedding)?.bytes {
            return Err(InferenceError::tensor(
                alias,
                "differs from the embedding, though the configuration ties them",
            ));
        }
        files.release(alias);
        files.release(&plan.embedding);
    }
    Ok(plan)
}

/// What of `limits` the weights do not meet.
///
/// The norm of a matrix is the root of its elements' sum of squares, summed
/// in `f64` in file order. Vectors are not looked at.
///
/// # Errors
///
/// A number that is not finite, and [`InferenceError::Stopped`].
pub fn norm_violations(
    files: &CheckpointFiles,
    limits: &NormLimits,
    control: &RunControl,
) -> Result<Vec<Violation>, InferenceError> {
    let mut matrices = 0_u32;
    let mut over_soft = 0_u32;
    let mut over_hard = 0_u32;
    let mut largest = (0.0, "");
    let is_matrix = |name: &str, header: &TensorHeader| {
        // What no weight can be is a mask.
        header.shape.len() == 2 && header.dtype(name).is_ok()
    };
    for (name, _) in files.tensors().iter().filter(|(name, header)| is_matrix(name, header)) {
        control.check().map_err(InferenceError::Stopped)?;
        let mut squares = 0.0_f64;
        for_each_f32(name, &files.tensor(name)?, |number| {
            squares += f64::from(number) * f64::from(number);
        })?;
        files.release(name);
        let norm = squares.sqrt();
        matrices += 1;
        over_soft += u32::from(norm > limits.soft);
        over_hard += u32::from(norm > limits.hard);
        if norm > largest.0 {
            largest = (norm, name);
        }
    }
    let mut violations = Vec::new();
    if over_hard > 0 {
        let (norm, name) = largest;
        violations.push(Violation {
            what: format!("matrices with a norm over {}", limits.hard),
            found: format!("{over_hard} of {matrices}, the largest {norm:.3} of {name}"),
            allowed: "none".to_owned(),
        });
    }
    if f64::from(over_soft) > limits.soft_fraction * f64::from(matrices) {
        violations.push(Violation {
            what: format!("matrices with a norm over {}", limits.soft),
            found: format!("{over_soft} of {matrices}"),
            allowed: format!("at most {:.0} %", 100.0 * limits.soft_fraction),
        });
    }
    Ok(violations)
}
