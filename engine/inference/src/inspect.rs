//! What a checkpoint is, from its headers alone.

use std::collections::BTreeSet;

use evaltasks_core::model::{Checkpoint, NormLimits};

use crate::checkpoint::{CheckpointFiles, TensorHeader};
use crate::config::{ConfigError, config_summary, resolve, tensors};
use crate::error::InferenceError;
use crate::weights::to_f32;

/// The facts that constraints are checked against.
///
/// The parameters of a known architecture are those that its configuration
/// asks for, every one of which must be there with the right shape; tied
/// weights count once. An unknown architecture's are all numbers in the files.
pub fn facts(files: &CheckpointFiles) -> Result<Checkpoint, InferenceError> {
    let summary = config_summary(&files.config)?;
    let parameters = match resolve(&files.config) {
        Ok((config, spec)) => plan(files, &config, spec)?.parameters(),
        Err(ConfigError::UnsupportedArchitecture { .. }) => {
            files.tensors().values().map(TensorHeader::elements).sum()
        }
        Err(error) => return Err(error.into()),
    };
    let dtypes: BTreeSet<&str> =
        files.tensors().values().map(|header| header.stored.name()).collect();
    Ok(Checkpoint {
        directory: files.directory.clone(),
        architecture: summary.architecture.unwrap_or_else(|| "unknown".to_owned()),
        parameters,
        bytes: files.bytes,
        dtypes: dtypes.into_iter().map(str::to_owned).collect(),
        vocabulary_size: summary.vocabulary_size.map_or(0, |size| size as u64),
        sequence_length: summary.max_positions.map(|length| length as u64),
    })
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

/// Refuses weights whose norms are out of hand.
///
/// The norm of a matrix is the root of its elements' sum of squares, summed
/// in `f64` in file order. Vectors are not looked at.
pub fn check_norms(files: &CheckpointFiles, limits: &NormLimits) -> Result<(), InferenceError> {
    let mut matrices = 0_u32;
    let mut over_soft = 0_u32;
    for (name, header) in files.tensors().iter().filter(|(_, header)| header.shape.len() == 2) {
        let numbers = to_f32(name, &files.tensor(name)?)?;
        files.release(name);
        let squares: f64 =
            numbers.iter().map(|&number| f64::from(number) * f64::from(number)).sum();
        let norm = squares.sqrt();
        matrices += 1;
        if norm > limits.hard {
            return Err(InferenceError::tensor(
                name,
                format!("{:?} has norm {norm:.3}, the limit is {}", header.shape, limits.hard),
            ));
        }
        over_soft += u32::from(norm > limits.soft);
    }
    let allowed = limits.soft_fraction * f64::from(matrices);
    if f64::from(over_soft) > allowed {
        return Err(InferenceError::tensor(
            "(all)",
            format!(
                "{over_soft} of {matrices} matrices have a norm over {}, at most {:.0} % may",
                limits.soft,
                100.0 * limits.soft_fraction
            ),
        ));
    }
    Ok(())
}
