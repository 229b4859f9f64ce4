//! `evaltasks data`, and where a round draws its rows from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, ensure};
use clap::Args;
use evaltasks_core::backend::Tokenizer;
use evaltasks_core::competition::{Location, Subnet, TokenizerRule};
use evaltasks_core::document::Bytes;
use evaltasks_core::model::group_digits;
use evaltasks_core::random::Seed;
use evaltasks_core::results::DrawnData;
use evaltasks_core::source::{DatasetSource, ModelSource};
use evaltasks_hub::limits::ROW_CACHE_BYTES;
use evaltasks_hub::net::SystemClock;
use evaltasks_hub::{DataSettings, Datasets, Frozen, Hub, HubSettings, Recorder};
use serde::Serialize;

use super::engine::open_tokenizer;
use super::hub::HubArguments;
use super::plugins::PluginArguments;
use super::{Outcome, describe, input, print, print_json, user_cache};
use crate::operate::say;
use crate::report::visible;
use crate::round::{
    CompetitionPreview, FindTask, TaskPreview, competitions_of, default_block, preview,
};

/// Pages that are named of one dataset.
const SHOWN_PAGES: usize = 6;

/// Where rows come from.
#[derive(Args)]
pub struct DataArguments {
    /// Folder in which rows of pinned datasets are kept, and texts that rows
    /// name; by default evaltasks/rows in the user's cache. Results do not
    /// depend on it
    #[arg(long, value_name = "DIR")]
    row_cache: Option<PathBuf>,
    /// Size at which the rows that were used least recently go; 0 keeps none.
    /// 2GiB by default
    #[arg(long, value_name = "BYTES")]
    row_cache_max_bytes: Option<Bytes>,
}

impl DataArguments {
    /// Draws from this machine, and from the net, which is not waited for any
    /// more once `cancelled` is true.
    pub fn datasets(&self, hub: HubSettings, cancelled: &Arc<AtomicBool>) -> Datasets {
        let variable = |name: &str| std::env::var(name).ok();
        let token = hub.token.map(|token| token.0);
        let mut settings = DataSettings::new(hub.endpoint, token, &variable);
        settings.offline = hub.offline;
        let folder = self.row_cache.clone();
        let folder = folder.or_else(|| user_cache().map(|cache| cache.join("rows")));
        let quota = self.row_cache_max_bytes.map_or(ROW_CACHE_BYTES, |bytes| bytes.0);
        settings.cache = folder.filter(|_| quota > 0).map(|folder| (folder, quota));
        let clock = SystemClock::cancelled_by(Arc::clone(cancelled));
        Datasets::with_clock(settings, Arc::new(clock))
    }
}

/// What to draw.
#[derive(Args)]
#[command(after_help = "\
Draws the rows that a round with this seed would draw, and says of every task
which they are: where they come from, their commit, the pages, how many rows and
bytes, and how many tokens by the competition's tokenizer.

--save writes a frozen round: a folder with all rows, which `evaltasks run FILE
--frozen DIR` uses instead of the data, on any machine and without a network.

Environment:
  HF_DATASETS_SERVER  address of the datasets server
  HF_ENDPOINT         address of the hub, for datasets that are read by files
  HF_TOKEN            token for datasets that are not for everybody
  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION
                      keys for texts in buckets of Amazon S3

Examples:
  evaltasks data competitions/demo.yaml --seed 42
  evaltasks data competitions/sn9.yaml --seed 0x9f2c41d0 --save frozen/5100000
  evaltasks run competitions/sn9.yaml --frozen frozen/5100000")]
pub struct Arguments {
    /// Competition file
    file: PathBuf,
    /// Seed of the round, of up to 256 bits, in decimal or as 0x and
    /// hexadecimal digits
    #[arg(long)]
    seed: Seed,
    /// Block at which the round takes place: decides the schedule. By default
    /// the first block at which all submissions in FILE count
    #[arg(long)]
    block: Option<u64>,
    /// Key or id of a competition, whatever the schedule says
    #[arg(long, value_name = "ID")]
    competition: Option<String>,
    /// Folder to write a frozen round to
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataArguments,
    #[command(flatten)]
    hub: HubArguments,
    #[command(flatten)]
    plugins: PluginArguments,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    seed: String,
    block: u64,
    competitions: Vec<CompetitionPreview>,
    /// SHA-256 of the frozen round, if one was written.
    frozen_sha256: Option<String>,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<Outcome> {
    let tasks = arguments.plugins.tasks()?;
    let subnet = input::subnet_with(&arguments.file, &tasks)?;
    let block = arguments.block.unwrap_or_else(|| default_block(&subnet, &subnet.submissions));
    let competitions = competitions_of(&subnet, block, arguments.competition.as_deref())?;
    let datasets = arguments.data.datasets(arguments.hub.settings(), &Arc::default());
    let hub = arguments.hub.hub(None, Arc::default());
    let recorder = Recorder::new(&datasets);
    let find_task: &FindTask = &|reference| tasks.find(reference);
    let seed = &arguments.seed;
    let mut previews = Vec::new();
    for competition in competitions {
        let tokenizer = tokenizer(&competition.model.tokenizer, &hub).unwrap_or_else(|error| {
            say::warning(&format!("tokens are not counted: {}", describe(&error)));
            None
        });
        previews.push(preview(competition, find_task, &recorder, tokenizer.as_ref(), seed));
    }
    let rules = previews.iter().map(|one| (one.key.clone(), one.rules_sha256.clone())).collect();
    let saved = arguments.save.as_ref();
    let frozen_sha256 =
        saved.map(|folder| recorder.save(folder, seed, block, rules)).transpose()?;
    let report = Report { seed: seed.to_string(), block, competitions: previews, frozen_sha256 };
    if arguments.json { print_json(&report) } else { print(&text(&report, saved)) }?;
    let drawn = report.competitions.iter().flat_map(|one| &one.tasks);
    let missing = drawn.filter(|task| task.failure.is_some()).count();
    Ok(if missing == 0 { Outcome::Fine } else { Outcome::Wrong })
}

/// The tokenizer that every model is read with, if there is one.
fn tokenizer(rule: &TokenizerRule, hub: &Hub) -> Result<Option<Arc<dyn Tokenizer>>> {
    let opened = match rule {
        TokenizerRule::Fixed(Location::Local(path)) => open_tokenizer(path),
        TokenizerRule::Fixed(Location::Hub { repository, revision }) => {
            let fetched = hub.fetch_tokenizer(repository, revision.as_deref());
            fetched.and_then(|path| open_tokenizer(&path))
        }
        TokenizerRule::Submission | TokenizerRule::Without => return Ok(None),
    };
    opened.map(Some).map_err(|error| anyhow::anyhow!(error).context("open the tokenizer"))
}

fn text(report: &Report, saved: Option<&PathBuf>) -> String {
    let mut text = format!("seed {} at block {}\n", report.seed, group_digits(report.block));
    for competition in &report.competitions {
        text += &format!("\n{} ({})\n", visible(&competition.key), competition.id);
        for task in &competition.tasks {
            text += &task_text(task);
        }
    }
    if let (Some(folder), Some(sha256)) = (saved, &report.frozen_sha256) {
        text += &format!("\nfrozen round: {}\nsha256: {sha256}\n", folder.display());
    }
    text
}

fn task_text(task: &TaskPreview) -> String {
    let tokens =
        task.tokens.map_or_else(String::new, |tokens| format!(", {} tokens", group_digits(tokens)));
    let mut text = format!("  {} (weight {}){tokens}\n", visible(&task.task), task.weight);
    if let Some(failure) = &task.failure {
        text += &format!("    failed to {}\n", visible(failure));
    }
    for data in &task.data {
        text += &data_text(data);
    }
    text
}

fn data_text(data: &DrawnData) -> String {
    let at = data.revision.as_ref().map_or_else(String::new, |commit| format!(" at {commit}"));
    let shown = data.pages.iter().take(SHOWN_PAGES).map(|page| {
        let config = page.config.as_ref().map_or_else(String::new, |config| format!("{config}:"));
        format!("{}{}+{}", visible(&config), page.start, page.rows)
    });
    let more = data.pages.len().saturating_sub(SHOWN_PAGES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(
        "    {}{}\n    {} rows, {} bytes, sha256 {}\n    pages {}{more}\n",
        visible(&data.dataset),
        visible(&at),
        group_digits(data.rows),
        group_digits(data.bytes),
        data.sha256,
        shown.collect::<Vec<_>>().join(" "),
    )
}

/// Opens a frozen round for a file.
///
/// # Errors
/// When it cannot be used, or was drawn by other rules.
pub fn frozen(folder: &Path, subnet: &Subnet) -> Result<Frozen> {
    let frozen = Frozen::open(folder)?;
    let known: BTreeMap<&str, String> = subnet
        .competitions
        .iter()
        .map(|one| (one.key.as_str(), evaltasks_core::competition::rules_sha256(one)))
        .collect();
    for (key, sha256) in &frozen.index().rules_sha256 {
        let own = known.get(key.as_str());
        ensure!(
            own == Some(sha256),
            "use the frozen round in {}: the rules of the competition {key} have changed since",
            folder.display()
        );
    }
    Ok(frozen)
}

/// The seed of a frozen round.
pub fn frozen_seed(frozen: &Frozen) -> Result<Seed> {
    frozen.index().seed.parse().context("read the seed of the frozen round")
}

/// Where a round draws from.
pub enum RoundData {
    /// The data itself.
    Live(Box<Datasets>),
    /// What was drawn before.
    Frozen(Frozen),
}

impl RoundData {
    /// A frozen round, else the data.
    pub fn new(
        frozen: Option<Frozen>,
        arguments: &DataArguments,
        hub: &HubArguments,
        cancelled: &Arc<AtomicBool>,
    ) -> Self {
        match frozen {
            Some(frozen) => RoundData::Frozen(frozen),
            None => RoundData::Live(Box::new(arguments.datasets(hub.settings(), cancelled))),
        }
    }

    /// As the engine takes it.
    pub fn source(&self) -> &dyn DatasetSource {
        match self {
            RoundData::Live(datasets) => datasets.as_ref(),
            RoundData::Frozen(frozen) => frozen,
        }
    }
}
