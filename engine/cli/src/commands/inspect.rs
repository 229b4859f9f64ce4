//! `evaltasks inspect`.

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use clap::Args;
use evaltasks_core::backend::{Backend, RunControl};
use evaltasks_core::competition::{Competition, Location, TokenizerRule};
use evaltasks_core::model::{Checkpoint, Violation, group_digits};
use evaltasks_core::source::{ModelReference, ModelSource};
use evaltasks_hub::{LocalModels, digest_model};
use serde::Serialize;

use super::engine::{EngineArguments, open_tokenizer};
use super::{Outcome, input, print, print_json};
use crate::report::visible;
use crate::round::{guard_backend, reason};

/// What to inspect.
#[derive(Args)]
#[command(after_help = "\
Headers and digests are read, and the norms of the weights where a competition
limits them; the model is not run.

Examples:
  evaltasks inspect ./my-model
  evaltasks inspect ./my-model.gguf
  evaltasks inspect ./my-model --competitions competitions/sn9.yaml")]
pub struct Arguments {
    /// Directory of the model, or its GGUF file
    model: PathBuf,
    /// Competition file: say of each competition whether it accepts the model
    #[arg(long, value_name = "FILE")]
    competitions: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArguments,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    checkpoint: Checkpoint,
    /// SHA-256 over the names and contents of all files.
    model_sha256: String,
    /// SHA-256 over all tensors, whatever their names and files.
    tensors_sha256: Option<String>,
    competitions: Vec<Verdict>,
}

/// Whether a competition accepts the model.
#[derive(Serialize)]
struct Verdict {
    key: String,
    id: u32,
    accepted: bool,
    violations: Vec<Violation>,
    /// What could not be checked, and why.
    unchecked: Vec<String>,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<Outcome> {
    let backend = arguments.engine.backend()?;
    let reference = ModelReference::Directory(arguments.model.clone());
    let directory = LocalModels.fetch(&reference, None).map_err(|error| anyhow!(error))?;
    let checkpoint = guard_backend(|| backend.inspect(&directory))?;
    let digest = digest_model(&directory)?;
    let subnet = arguments.competitions.as_deref().map(input::subnet).transpose()?;
    let competitions = subnet.map_or_else(Vec::new, |subnet| {
        subnet.competitions.iter().map(|rules| verdict(rules, &checkpoint, &backend)).collect()
    });
    let report = Report {
        checkpoint,
        model_sha256: digest.model_sha256,
        tensors_sha256: digest.tensors_sha256,
        competitions,
    };
    if arguments.json { print_json(&report) } else { print(&text(&report)) }
}

fn verdict(competition: &Competition, checkpoint: &Checkpoint, backend: &dyn Backend) -> Verdict {
    let rules = &competition.model;
    let mut unchecked = Vec::new();
    let vocabulary_size = vocabulary_size(&rules.tokenizer, checkpoint)
        .map_err(|reason| unchecked.push(format!("the vocabulary was not checked: {reason}")))
        .unwrap_or(None);
    let mut violations = rules.constraints(vocabulary_size).violations(checkpoint);
    // A round reads the weights only of a model whose headers are in order.
    if let (Some(limits), true) = (&rules.norms, violations.is_empty()) {
        let control = RunControl::default();
        match guard_backend(|| backend.norm_violations(checkpoint, limits, &control)) {
            Ok(found) => violations.extend(found),
            Err(error) => unchecked.push(format!("failed to {}", reason(&error))),
        }
    }
    Verdict {
        key: competition.key.clone(),
        id: competition.id,
        accepted: violations.is_empty(),
        violations,
        unchecked,
    }
}

/// Ids of the tokenizer that the model would be read with, if with any.
fn vocabulary_size(rule: &TokenizerRule, checkpoint: &Checkpoint) -> Result<Option<u64>, String> {
    let path = match rule {
        TokenizerRule::Without => return Ok(None),
        TokenizerRule::Submission => &checkpoint.directory,
        TokenizerRule::Fixed(Location::Local(path)) => path,
        TokenizerRule::Fixed(location @ Location::Hub { .. }) => {
            return Err(format!("the tokenizer {location} is not on this machine"));
        }
    };
    let tokenizer =
        open_tokenizer(path).map_err(|error| format!("failed to {}", reason(error.as_ref())))?;
    Ok(Some(tokenizer.vocabulary_size().into()))
}

fn text(report: &Report) -> String {
    let Checkpoint {
        directory,
        architecture,
        parameters,
        bytes,
        dtypes,
        vocabulary_size,
        sequence_length,
    } = &report.checkpoint;
    let length = sequence_length.map_or("not declared".to_owned(), group_digits);
    let tensors = report.tensors_sha256.as_deref().unwrap_or("no tensors");
    let rows = [
        ("directory", visible(&directory.display().to_string())),
        ("architecture", visible(architecture)),
        ("parameters", group_digits(*parameters)),
        ("bytes", group_digits(*bytes)),
        ("dtype", dtypes.join(", ")),
        ("vocabulary", vocabulary_size.map_or("none".to_owned(), group_digits)),
        ("sequence length", length),
        ("model sha256", report.model_sha256.clone()),
        ("tensors sha256", tensors.to_owned()),
    ];
    let mut text: String =
        rows.iter().map(|(name, value)| format!("{name:<16} {value}\n")).collect();
    for Verdict { key, id, accepted, violations, unchecked } in &report.competitions {
        let answer = if *accepted { "accepts the model" } else { "would reject it" };
        text += &format!("\n{} ({id}): {answer}\n", visible(key));
        for line in violations.iter().map(ToString::to_string).chain(unchecked.clone()) {
            text += &format!("  {}\n", visible(&line));
        }
    }
    text
}
