//! `evaltasks inspect`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use clap::Args;
use evaltasks_core::backend::{Backend, RunControl};
use evaltasks_core::competition::{Competition, Location, TokenizerRule};
use evaltasks_core::model::{Checkpoint, Violation, group_digits};
use evaltasks_core::source::{ModelReference, ModelSource, SourceError};
use evaltasks_hub::hub::Pinned;
use evaltasks_hub::{Hub, digest_model};
use serde::Serialize;

use super::engine::{EngineArguments, open_tokenizer};
use super::hub::{HubArguments, model_reference};
use super::{Outcome, input, print, print_json};
use crate::report::visible;
use crate::round::{guard_backend, reason};

/// What to inspect.
#[derive(Args)]
#[command(after_help = "\
Headers and digests are read, and the norms of the weights where a competition
limits them; the model is not run. Of a model on the hub, only the configuration
and the headers are asked for: what can be known from them is checked before
anything else is downloaded.

Examples:
  evaltasks inspect ./my-model
  evaltasks inspect ./my-model.gguf
  evaltasks inspect ./my-model --competitions competitions/sn9.yaml
  evaltasks inspect HuggingFaceTB/SmolLM2-135M@main --competitions competitions/sn9.yaml")]
pub struct Arguments {
    /// Directory of the model, its GGUF file, or organisation/name@revision on
    /// the hub
    model: String,
    /// Competition file: say of each competition whether it accepts the model
    #[arg(long, value_name = "FILE")]
    competitions: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArguments,
    #[command(flatten)]
    hub: HubArguments,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    checkpoint: Checkpoint,
    /// SHA-256 over the names and contents of all files; none of a model that
    /// is not on this machine.
    model_sha256: Option<String>,
    /// SHA-256 over all tensors, whatever their names and files; none of such a
    /// model either.
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
    let subnet = arguments.competitions.as_deref().map(input::subnet).transpose()?;
    let competitions = subnet.map_or_else(Vec::new, |subnet| subnet.competitions);
    let hub = arguments.hub.hub(None, Arc::default());
    let inspector = Inspector { backend: &backend, hub: &hub, competitions: &competitions };
    let report = match model_reference(&arguments.model) {
        ModelReference::Repository { repository, revision } => {
            inspector.remote(&hub.pin(&repository, Some(&revision))?)?
        }
        local @ ModelReference::Directory(_) => inspector.local(&local)?,
    };
    if arguments.json { print_json(&report) } else { print(&text(&report)) }
}

/// Looks at models by the rules of some competitions.
struct Inspector<'a> {
    backend: &'a dyn Backend,
    hub: &'a Hub,
    competitions: &'a [Competition],
}

impl Inspector<'_> {
    fn local(&self, model: &ModelReference) -> Result<Report> {
        let directory = self.hub.fetch(model, None).map_err(|error| anyhow!(error))?;
        let checkpoint = guard_backend(|| self.backend.inspect(&directory))?;
        let digest = digest_model(&directory)?;
        Ok(Report {
            competitions: self.verdicts(&checkpoint, true),
            checkpoint,
            model_sha256: Some(digest.model_sha256),
            tensors_sha256: digest.tensors_sha256,
        })
    }

    /// By headers alone.
    fn remote(&self, pinned: &Pinned) -> Result<Report> {
        let is_own = |rules: &Competition| rules.model.tokenizer == TokenizerRule::Submission;
        let outline = self.hub.outline(pinned, self.competitions.iter().any(is_own))?;
        let checkpoint = guard_backend(|| self.backend.inspect(outline.path()))?;
        Ok(Report {
            competitions: self.verdicts(&checkpoint, false),
            // The outline is gone when the report is read.
            checkpoint: Checkpoint { directory: pinned.to_string().into(), ..checkpoint },
            model_sha256: None,
            tensors_sha256: None,
        })
    }

    fn verdicts(&self, checkpoint: &Checkpoint, has_weights: bool) -> Vec<Verdict> {
        let verdict = |rules| self.verdict(rules, checkpoint, has_weights);
        self.competitions.iter().map(verdict).collect()
    }

    fn verdict(
        &self,
        competition: &Competition,
        checkpoint: &Checkpoint,
        has_weights: bool,
    ) -> Verdict {
        let rules = &competition.model;
        let mut unchecked = Vec::new();
        let vocabulary_size = self
            .vocabulary_size(&rules.tokenizer, checkpoint)
            .map_err(|reason| unchecked.push(format!("the vocabulary was not checked: {reason}")))
            .unwrap_or(None);
        let mut violations = rules.constraints(vocabulary_size).violations(checkpoint);
        // A round reads the weights only of a model whose headers are in order.
        match &rules.norms {
            Some(_) if !has_weights => {
                unchecked.push("the norms were not checked: the weights are on the hub".to_owned());
            }
            Some(limits) if violations.is_empty() => {
                let control = RunControl::default();
                let norms = || self.backend.norm_violations(checkpoint, limits, &control);
                match guard_backend(norms) {
                    Ok(found) => violations.extend(found),
                    Err(error) => unchecked.push(format!("failed to {}", reason(&error))),
                }
            }
            _ => {}
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
    fn vocabulary_size(
        &self,
        rule: &TokenizerRule,
        checkpoint: &Checkpoint,
    ) -> Result<Option<u64>, String> {
        let failed = |error: SourceError| format!("failed to {}", reason(error.as_ref()));
        let path = match rule {
            TokenizerRule::Without => return Ok(None),
            TokenizerRule::Submission => checkpoint.directory.clone(),
            TokenizerRule::Fixed(Location::Local(path)) => path.clone(),
            TokenizerRule::Fixed(Location::Hub { repository, revision }) => {
                self.hub.fetch_tokenizer(repository, revision.as_deref()).map_err(failed)?
            }
        };
        let tokenizer = open_tokenizer(&path).map_err(failed)?;
        Ok(Some(tokenizer.vocabulary_size().into()))
    }
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
    let is_local = report.model_sha256.is_some();
    let no_tensors = if is_local { "no tensors" } else { "not fetched" };
    let tensors = report.tensors_sha256.as_deref().unwrap_or(no_tensors);
    let rows = [
        (
            if is_local { "directory" } else { "repository" },
            visible(&directory.display().to_string()),
        ),
        ("architecture", visible(architecture)),
        ("parameters", group_digits(*parameters)),
        ("bytes", group_digits(*bytes)),
        ("dtype", dtypes.join(", ")),
        ("vocabulary", vocabulary_size.map_or("none".to_owned(), group_digits)),
        ("sequence length", length),
        ("model sha256", report.model_sha256.clone().unwrap_or_else(|| "not fetched".to_owned())),
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
