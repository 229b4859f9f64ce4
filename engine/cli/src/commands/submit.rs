//! `evaltasks submit`.

use std::path::{Path, PathBuf};
use std::slice;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use evaltasks_chain::{Chain, Subtensor};
use evaltasks_core::commitment::{DetailedId, MAX_COMMITMENT_BYTES, ModelId, secure_hash};
use evaltasks_core::competition::{Competition, Subnet, is_commit_hash};
use evaltasks_core::source::ModelReference;
use evaltasks_hub::hub::Pinned;
use serde::Serialize;

use super::chain::ChainArguments;
use super::engine::EngineArguments;
use super::hub::{HubArguments, model_reference};
use super::inspect::{Inspector, Report, Verdict};
use super::{Outcome, input, print, print_json};
use crate::operate::say;
use crate::report::visible;
use crate::round::reason;

/// Bytes of a commitment that every validator of subnet 9 reads.
const MAX_TEXT_BYTES: usize = 128;

/// What to submit.
#[derive(Args)]
#[command(after_help = "\
Everything that a validator checks is checked first: whether the competition is
open, and the model's architecture, parameters, size, tokenizer, sequence length
and norms. What cannot be checked is not submitted.

What is committed is the text that subnet 9 reads,
namespace:name:commit:secure_hash:competition, with the secure hash of what
validators fetch from the repository; --detailed adds the competition's key and
the digest of all files. A commitment replaces the last one.

Examples:
  evaltasks submit org/my-model@0123456789abcdef0123456789abcdef01234567 \\
      --competitions competitions/sn9.yaml --competition b3_text \\
      --wallet-name miner --wallet-hotkey first
  evaltasks submit ./my-model --repository org/my-model@0123...4567 \\
      --competitions competitions/sn9.yaml --competition 2 --dry-run")]
pub struct Arguments {
    /// organisation/name@commit on the hub, which is fetched and checked; or the
    /// directory, or the GGUF file, that was uploaded to --repository
    model: String,
    /// Where a directory was uploaded: organisation/name@commit
    #[arg(long, value_name = "REPOSITORY")]
    repository: Option<String>,
    /// Key or id of the competition
    #[arg(long, value_name = "COMPETITION")]
    competition: String,
    /// Competition file of the subnet
    #[arg(long, value_name = "FILE")]
    competitions: PathBuf,
    /// Commit the competition's key and the digest of all files, too, of a
    /// repository. It is longer than what validators of other programs may read
    #[arg(long)]
    detailed: bool,
    /// Check everything, and commit nothing
    #[arg(long)]
    dry_run: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    chain: ChainArguments,
    #[command(flatten)]
    engine: EngineArguments,
    #[command(flatten)]
    hub: HubArguments,
}

/// What was done.
#[derive(Serialize)]
struct Submitted {
    /// The repository at its commit.
    model: String,
    /// Of the files that validators hash, before the key comes in.
    hash: String,
    /// Key of the competition.
    competition: String,
    /// Address of the key that commits.
    hotkey: String,
    /// What is committed.
    commitment: String,
    /// Where it is on the chain; none after a dry run.
    committed: Option<Committed>,
}

/// Where a commitment is.
#[derive(Serialize)]
struct Committed {
    block: u64,
    /// Hash of the extrinsic; none where the same was committed before.
    extrinsic: Option<String>,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<Outcome> {
    let subnet = input::subnet(&arguments.competitions)?;
    let competition = find(&subnet, &arguments.competition)?;
    let (repository, directory) = named(arguments)?;
    let hotkey = arguments.chain.hotkey()?;
    let address = hotkey.address().to_string();
    let chain = arguments.chain.subtensor(subnet.netuid, Some(hotkey))?;
    check_open(&chain, &subnet, competition)?;

    let backend = arguments.engine.backend()?;
    let hub = arguments.hub.hub(None, Arc::default());
    let inspector = Inspector {
        backend: &backend,
        hub: &hub,
        competitions: slice::from_ref(competition),
        against: None,
        hotkey: None,
    };
    let Checked { verdict, hash, model_sha256 } = match &directory {
        Some(directory) => uploaded(&inspector, &repository, directory)?,
        None => fetched(&inspector, &repository)?,
    };
    if !verdict.accepted || !verdict.unchecked.is_empty() {
        let problems = verdict.violations.iter().map(ToString::to_string);
        for problem in problems.chain(verdict.unchecked) {
            say::error(&visible(&problem));
        }
        let key = visible(&competition.key);
        say::note(&format!("nothing was committed: {key} would reject the model"));
        return Ok(Outcome::Wrong);
    }

    let (hash, model_sha256) =
        hash.zip(model_sha256).context("hash the model: it is not on this machine")?;
    let commitment = text(&DetailedId {
        id: model_id(&repository, competition, secure_hash(&hash, &address))?,
        competition: arguments.detailed.then(|| competition.key.clone()),
        model_sha256: arguments.detailed.then_some(model_sha256),
    })?;
    let committed = match arguments.dry_run {
        true => None,
        false => Some(commit(&chain, &address, &commitment)?),
    };
    let submitted = Submitted {
        model: repository.to_string(),
        hash,
        competition: competition.key.clone(),
        hotkey: address,
        commitment,
        committed,
    };
    if arguments.json { print_json(&submitted) } else { print(&shown(&submitted)) }
}

/// The competition of this key or id.
fn find<'a>(subnet: &'a Subnet, named: &str) -> Result<&'a Competition> {
    let is_meant = |one: &&Competition| one.key == named || one.id.to_string() == named;
    subnet.competitions.iter().find(is_meant).ok_or_else(|| {
        let known: Vec<&str> = subnet.competitions.iter().map(|one| one.key.as_str()).collect();
        anyhow!("find the competition {named:?}: the file has {}", known.join(", "))
    })
}

/// The repository, and the directory that was uploaded to it, if one is given.
fn named(arguments: &Arguments) -> Result<(Pinned, Option<PathBuf>)> {
    let pinned = |reference: ModelReference| match reference {
        ModelReference::Repository { repository, revision } => {
            ensure!(
                is_commit_hash(&revision),
                "submit {repository}@{revision}: name a commit by its 40 digits; a branch may move"
            );
            Ok(Pinned::new(&repository, &revision)?)
        }
        ModelReference::Directory(path) => {
            bail!("submit to {}: it is no organisation/name@commit", path.display())
        }
    };
    match (model_reference(&arguments.model), &arguments.repository) {
        (ModelReference::Directory(_), Some(_)) if arguments.detailed => {
            bail!("hash what validators fetch: --detailed goes with organisation/name@commit alone")
        }
        (ModelReference::Directory(path), Some(repository)) => {
            Ok((pinned(model_reference(repository))?, Some(path)))
        }
        (ModelReference::Directory(path), None) => bail!(
            "submit {}: validators fetch from the hub; name where it was uploaded by \
             --repository organisation/name@commit",
            path.display()
        ),
        (_, Some(_)) => bail!("submit a repository: --repository goes with a directory"),
        (repository, None) => Ok((pinned(repository)?, None)),
    }
}

/// Whether the competition takes models now.
fn check_open(chain: &Subtensor, subnet: &Subnet, competition: &Competition) -> Result<()> {
    let block = chain.block().map_err(|error| anyhow!(error))?;
    let open = subnet.competitions_at(block);
    if open.iter().any(|one| one.key == competition.key) {
        return Ok(());
    }
    let open: Vec<&str> = open.iter().map(|one| one.key.as_str()).collect();
    let open = if open.is_empty() { "none".to_owned() } else { open.join(", ") };
    bail!("submit to {}: it is not open at block {block}, where these are: {open}", competition.key)
}

/// What is known of a model.
struct Checked {
    verdict: Verdict,
    /// What validators hash; none of a model that was not read.
    hash: Option<String>,
    /// Over the names and contents of all files; none of such a model either.
    model_sha256: Option<String>,
}

impl Checked {
    fn of(report: Report) -> Result<Checked> {
        let hash = report.committed_hash().map(str::to_owned);
        let Report { competitions, model_sha256, .. } = report;
        let verdict = competitions.into_iter().next();
        let verdict = verdict.context("check the model: nothing was said of it")?;
        Ok(Checked { verdict, hash, model_sha256 })
    }
}

/// A repository, by its headers, and then by all of it.
fn fetched(inspector: &Inspector<'_>, repository: &Pinned) -> Result<Checked> {
    let by_headers = Checked::of(inspector.remote(repository)?)?;
    if !by_headers.verdict.accepted {
        return Ok(by_headers);
    }
    Checked::of(inspector.local(&ModelReference::Repository {
        repository: repository.repository().to_owned(),
        revision: repository.commit().to_owned(),
    })?)
}

/// A directory that is what the repository has.
fn uploaded(inspector: &Inspector<'_>, repository: &Pinned, directory: &Path) -> Result<Checked> {
    let report = inspector.local(&ModelReference::Directory(directory.to_owned()))?;
    match inspector.hub.differing(repository, directory) {
        Ok(files) => ensure!(
            files.is_empty(),
            "submit {}: {repository} has other files than it: {}",
            directory.display(),
            visible(&files.join(", "))
        ),
        // What the hub does not say may be right all the same.
        Err(error) => say::warning(&format!(
            "{repository} was not compared with {}: failed to {}",
            directory.display(),
            reason(&error)
        )),
    }
    Checked::of(report)
}

/// The model as subnet 9 names it.
fn model_id(
    repository: &Pinned,
    competition: &Competition,
    secure_hash: String,
) -> Result<ModelId> {
    let (namespace, name) =
        repository.repository().split_once('/').context("name the repository")?;
    Ok(ModelId {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        commit: Some(repository.commit().to_owned()),
        hash: None,
        secure_hash: Some(secure_hash),
        competition_id: competition.id,
    })
}

/// What is committed.
fn text(id: &DetailedId) -> Result<String> {
    let text = id.to_string();
    let is_plain = id.competition.is_none() && id.model_sha256.is_none();
    let most = if is_plain { MAX_TEXT_BYTES } else { MAX_COMMITMENT_BYTES };
    ensure!(
        text.len() <= most,
        "commit {text}: it has {} bytes, and validators read {most}; the repository's name must \
         be shorter",
        text.len()
    );
    Ok(text)
}

/// Commits a text, unless it is committed already: a new commitment would be a
/// later one.
fn commit(chain: &Subtensor, hotkey: &str, text: &str) -> Result<Committed> {
    let block = chain.block().map_err(|error| anyhow!(error))?;
    let commitments = chain.commitments(block).map_err(|error| anyhow!(error))?;
    let before = commitments.into_iter().find(|one| one.hotkey == hotkey);
    if let Some(before) = before.filter(|before| before.data == text.as_bytes()) {
        return Ok(Committed { block: before.block, extrinsic: None });
    }
    let receipt = chain.commit(text.as_bytes())?;
    Ok(Committed { block: receipt.block, extrinsic: Some(receipt.extrinsic) })
}

fn shown(report: &Submitted) -> String {
    let committed = match &report.committed {
        None => "no: this is a dry run".to_owned(),
        Some(Committed { block, extrinsic: None }) => format!("before, in block {block}"),
        Some(Committed { block, extrinsic: Some(hash) }) => {
            format!("in block {block}, extrinsic {hash}")
        }
    };
    let rows = [
        ("model", &report.model),
        ("hash", &report.hash),
        ("competition", &report.competition),
        ("hotkey", &report.hotkey),
        ("commitment", &report.commitment),
        ("committed", &committed),
    ];
    rows.into_iter().map(|(name, value)| format!("{name:<16} {}\n", visible(value))).collect()
}
