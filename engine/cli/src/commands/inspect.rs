//! `evaltasks inspect`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, anyhow, ensure};
use clap::Args;
use evaltasks_chain::Address;
use evaltasks_core::backend::{Backend, RunControl};
use evaltasks_core::commitment::secure_hash;
use evaltasks_core::competition::{Competition, DEFAULT_COPY_SIMILARITY, TokenizerRule};
use evaltasks_core::model::{Checkpoint, Violation, group_digits};
use evaltasks_core::results::CopyKind;
use evaltasks_core::source::{ModelReference, ModelSource};
use evaltasks_hub::hub::Pinned;
use evaltasks_hub::{
    Hub, Likeness, ModelSketch, directory_hash, likeness, pretrained_hash, sketch_model,
};
use serde::Serialize;

use super::engine::{EngineArguments, open_tokenizer};
use super::hub::{HubArguments, model_reference};
use super::{Outcome, input, print, print_json};
use crate::report::visible;
use crate::round::{guard_backend, open_tokenizer_at, reason};

/// Of the sketches that two models are compared by; any will do here.
const SKETCH_KEY: u64 = 0;

/// What to inspect.
#[derive(Args)]
#[command(after_help = "\
Headers and digests are read, and the norms of the weights where a competition
limits them; the model is not run. Of a model on the hub, only the configuration
and the headers are asked for: what can be known from them is checked before
anything else is downloaded.

The directory hash is over every file, hidden ones too; the pretrained hash is
over those that transformers' from_pretrained downloads. That one, with the key
of the miner, becomes the secure hash, which a commitment on subnet 9 holds.

Examples:
  evaltasks inspect ./my-model
  evaltasks inspect ./my-model.gguf
  evaltasks inspect ./my-model --hotkey 5F3sa2TJAWMqDhXG6jhV4N8ko9SxwGy8TpaNS1repo5EYjQX
  evaltasks inspect ./my-model --against ./base-model
  evaltasks inspect ./my-model --competitions competitions/sn9.yaml
  evaltasks inspect HuggingFaceTB/SmolLM2-135M@main --competitions competitions/sn9.yaml")]
pub struct Arguments {
    /// Directory of the model, its GGUF file, or organisation/name@revision on
    /// the hub
    model: String,
    /// Competition file: say of each competition whether it accepts the model
    #[arg(long, value_name = "FILE")]
    competitions: Option<PathBuf>,
    /// Another model: say how similar its weights are, and whether one is a copy
    /// of the other
    #[arg(long, value_name = "MODEL")]
    against: Option<PathBuf>,
    /// Key of the miner who commits the model: print the secure hash, too
    #[arg(long, value_name = "SS58", value_parser = str::parse::<Address>)]
    hotkey: Option<Address>,
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
pub(super) struct Report {
    #[serde(flatten)]
    pub checkpoint: Checkpoint,
    /// SHA-256 over the names and contents of all files; none of a model that
    /// is not on this machine.
    pub model_sha256: Option<String>,
    /// BLAKE3 over all tensors, whatever their names and files; none of such a
    /// model either.
    tensors_blake3: Option<String>,
    /// Over the contents of all files, as subnet 9 hashes directories; none of
    /// a model that is not on this machine.
    directory_hash: Option<String>,
    /// The same hash of the configuration and the safetensors alone, as
    /// transformers' `from_pretrained` downloads them; none without such weights.
    pretrained_hash: Option<String>,
    /// [`Report::committed_hash`] with `--hotkey`, as a commitment holds them.
    secure_hash: Option<String>,
    /// What `--against` found.
    likeness: Option<Comparison>,
    pub competitions: Vec<Verdict>,
}

impl Report {
    /// What a commitment holds, but for the miner's key: the pretrained hash, or
    /// else the directory hash.
    pub fn committed_hash(&self) -> Option<&str> {
        self.pretrained_hash.as_deref().or(self.directory_hash.as_deref())
    }
}

/// How similar the model is to another.
#[derive(Serialize)]
pub(super) struct Comparison {
    /// The other model.
    against: PathBuf,
    /// 1 for the same numbers, 0 for numbers that have nothing in common.
    similarity: f64,
    /// Whether it is a copy at the usual threshold, and in which way.
    copy: Option<CopyKind>,
}

/// Whether a competition accepts the model.
#[derive(Serialize)]
pub(super) struct Verdict {
    key: String,
    id: u32,
    pub accepted: bool,
    pub violations: Vec<Violation>,
    /// What could not be checked, and why.
    pub unchecked: Vec<String>,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<Outcome> {
    let backend = arguments.engine.backend()?;
    let subnet = arguments.competitions.as_deref().map(input::subnet).transpose()?;
    let competitions = subnet.map_or_else(Vec::new, |subnet| subnet.competitions);
    let hub = arguments.hub.hub(None, Arc::default());
    let inspector = Inspector {
        backend: &backend,
        hub: &hub,
        competitions: &competitions,
        against: arguments.against.as_deref(),
        hotkey: arguments.hotkey,
    };
    let report = match model_reference(&arguments.model) {
        ModelReference::Repository { repository, revision } if !hub.is_offline() => {
            inspector.remote(&hub.pin(&repository, Some(&revision))?)?
        }
        kept_here => inspector.local(&kept_here)?,
    };
    if arguments.json { print_json(&report) } else { print(&text(&report)) }
}

/// Looks at models by the rules of some competitions.
pub(super) struct Inspector<'a> {
    pub backend: &'a dyn Backend,
    pub hub: &'a Hub,
    pub competitions: &'a [Competition],
    pub against: Option<&'a Path>,
    pub hotkey: Option<Address>,
}

impl Inspector<'_> {
    pub fn local(&self, model: &ModelReference) -> Result<Report> {
        let directory = self.hub.fetch(model, None).map_err(|error| anyhow!(error))?;
        let checkpoint = guard_backend(|| self.backend.inspect(&directory))?;
        let (digest, sketch) = sketch_model(&directory, SKETCH_KEY)?;
        let directory_hash = directory_hash(&directory, &digest)?;
        let pretrained_hash = pretrained_hash(&digest);
        let committed = pretrained_hash.as_ref().unwrap_or(&directory_hash);
        Ok(Report {
            likeness: self.against.map(|other| self.compare(&sketch, other)).transpose()?,
            secure_hash: self.hotkey.map(|key| secure_hash(committed, &key.to_string())),
            directory_hash: Some(directory_hash),
            pretrained_hash,
            competitions: self.verdicts(&checkpoint, true),
            checkpoint,
            model_sha256: Some(digest.model_sha256),
            tensors_blake3: digest.tensors_blake3,
        })
    }

    fn compare(&self, sketch: &ModelSketch, other: &Path) -> Result<Comparison> {
        let reference = ModelReference::Directory(other.to_owned());
        let directory = self.hub.fetch(&reference, None).map_err(|error| anyhow!(error))?;
        let (_, other_sketch) = sketch_model(&directory, SKETCH_KEY)?;
        let Likeness { similarity, kind } =
            likeness(sketch, &other_sketch, DEFAULT_COPY_SIMILARITY);
        Ok(Comparison { against: other.to_owned(), similarity, copy: kind })
    }

    /// By headers alone.
    pub fn remote(&self, pinned: &Pinned) -> Result<Report> {
        ensure!(
            self.against.is_none() && self.hotkey.is_none(),
            "compare or hash a model on the hub: its weights are not here; name its directory"
        );
        let is_own = |rules: &Competition| rules.model.tokenizer == TokenizerRule::Submission;
        let outline = self.hub.outline(pinned, self.competitions.iter().any(is_own))?;
        let checkpoint = guard_backend(|| self.backend.inspect(outline.path()))?;
        Ok(Report {
            competitions: self.verdicts(&checkpoint, false),
            // The outline is gone when the report is read.
            checkpoint: Checkpoint { directory: pinned.to_string().into(), ..checkpoint },
            model_sha256: None,
            tensors_blake3: None,
            directory_hash: None,
            pretrained_hash: None,
            secure_hash: None,
            likeness: None,
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
        let opened = match rule {
            TokenizerRule::Without => return Ok(None),
            TokenizerRule::Submission => open_tokenizer(&checkpoint.directory),
            TokenizerRule::Fixed(location) => {
                open_tokenizer_at(location, self.hub, &open_tokenizer)
            }
        };
        let tokenizer = opened.map_err(|error| format!("failed to {}", reason(error.as_ref())))?;
        Ok(Some(tokenizer.vocabulary_size().into()))
    }
}

fn similarity(found: &Comparison) -> String {
    let Comparison { against, similarity, copy } = found;
    let copy = match copy {
        None => "not a copy",
        Some(CopyKind::Identical) => "a copy: the same weights",
        Some(CopyKind::Rounded) => "a copy: the same weights, rounded to the coarser type",
        Some(CopyKind::Reordered) => "a copy: the same weights in another order",
        Some(CopyKind::Near) => "a near-copy",
        Some(CopyKind::Scaled) => "a near-copy, each tensor times a factor",
    };
    format!("{similarity:.6} to {}: {copy}", visible(&against.display().to_string()))
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
    let tensors = report.tensors_blake3.as_deref().unwrap_or(no_tensors);
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
        ("tensors blake3", tensors.to_owned()),
        (
            "directory hash",
            report.directory_hash.clone().unwrap_or_else(|| "not fetched".to_owned()),
        ),
    ];
    let pretrained = report.pretrained_hash.iter().map(|hash| ("pretrained hash", hash.clone()));
    let secure = report.secure_hash.iter().map(|hash| ("secure hash", hash.clone()));
    let likeness = report.likeness.iter().map(|found| ("similarity", similarity(found)));
    let mut text: String = rows
        .into_iter()
        .chain(pretrained)
        .chain(secure)
        .chain(likeness)
        .map(|(name, value)| format!("{name:<16} {value}\n"))
        .collect();
    for Verdict { key, id, accepted, violations, unchecked } in &report.competitions {
        let answer = if *accepted { "accepts the model" } else { "would reject it" };
        text += &format!("\n{} ({id}): {answer}\n", visible(key));
        for line in violations.iter().map(ToString::to_string).chain(unchecked.clone()) {
            text += &format!("  {}\n", visible(&line));
        }
    }
    text
}
