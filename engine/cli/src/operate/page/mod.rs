//! The pages: made on the server, in the look of the reports, without scripts.
//!
//! What is shown is decided here; how, in the templates. Every text passes the
//! formatter of `report::html`, so no value can become markup.

use evaltasks_core::model::group_digits;
use minijinja::Value;
use minijinja::value::Serde;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use super::api::{self, Arguments, Parameter, Refusal};
use super::health::Health;
use super::limits::{MAX_LEADERBOARD_ROWS, MAX_OVERVIEW_ROWS};
use super::plot::{self, Plot};
use super::site::{self, Site};
use super::status::{
    ChainStatus, CompetitionStatus, DiskStatus, Fault, LeaderboardRow, Mode, RoundProgress, Status,
    TaskTokens, Validator, Versions,
};
use crate::report::text::{self, Tone};
use crate::report::{SERIES_STYLE, render_page};
use crate::validator::state::{
    EvaluationOutcome, EventKind, EventRecord, RoundState, SubmissionRecord, SubmissionState,
    WeightsRecord, WeightsState,
};

const STYLE: &str = include_str!("page.css");
const OVERVIEW: &str =
    concat!(include_str!("head.html"), include_str!("overview.html"), include_str!("foot.html"));
const COMPETITION: &str =
    concat!(include_str!("head.html"), include_str!("competition.html"), include_str!("foot.html"));
const EVENTS: &str =
    concat!(include_str!("head.html"), include_str!("events.html"), include_str!("foot.html"));
/// Seconds after which a page loads itself again.
const REFRESH_SECONDS: u32 = 30;
/// Weights that are listed of one setting, the largest first.
const MAX_WEIGHTS: usize = 16;
/// Rounds that the page of a competition lists.
const MAX_ROUNDS: u32 = 20;

/// All competitions and everything else at a glance.
///
/// # Errors
/// When the state cannot be read.
pub fn overview(site: &Site, refreshes: bool) -> Result<String, Refusal> {
    let status = site::status(site)?;
    let page = Overview::new(&status);
    page_of(OVERVIEW, site, "Overview", refreshes, &status.health, &page)
}

/// One competition in full.
///
/// # Errors
/// When there is none of that key, or the state cannot be read.
pub fn competition(site: &Site, key: &str, refreshes: bool) -> Result<String, Refusal> {
    let status = api::find_competition(site, key)?;
    let rounds = site.ask(|state| state.rounds(Some(status.id), None, MAX_ROUNDS))?;
    let page = CompetitionPage {
        competition: CompetitionView::new(&status, MAX_LEADERBOARD_ROWS),
        rounds: rounds
            .iter()
            .map(|round| RoundView {
                id: round.id,
                block: round.block,
                state: round.state.word(),
                tone: match round.state {
                    RoundState::Finished => Tone::Good,
                    RoundState::Running => Tone::Quiet,
                    RoundState::Skipped => Tone::Bad,
                },
                winner: round.winner_hotkey.as_deref(),
                winner_loss: round.winner_loss,
                reason: round.reason.as_deref(),
            })
            .collect(),
    };
    let title = status.title.clone();
    page_of(COMPETITION, site, &title, refreshes, &site::health(site), &page)
}

/// Decisions, the latest first; `given` is the request's query.
///
/// # Errors
/// When the query makes no sense, or the state cannot be read.
pub fn events(site: &Site, given: &[(String, String)]) -> Result<String, Refusal> {
    let known = [Parameter::Kind, Parameter::Before, Parameter::Limit];
    let given = Arguments::parse(&known, given)?;
    let list = api::get_events(site, &given)?;
    let page = EventsPage {
        events: list.items.iter().map(EventView::new).collect(),
        kind: given.kind.map(EventKind::word),
        kinds: EventKind::ALL.iter().map(|kind| kind.word()).collect(),
        latest: given.before.is_none(),
        next_before: list.next_before,
        limit: given.limit,
    };
    page_of(EVENTS, site, "Events", false, &site::health(site), &page)
}

/// What every page says.
#[derive(Serialize)]
struct Frame<'a, T> {
    title: &'a str,
    validator: &'a Validator,
    mode: &'static str,
    versions: &'a Versions,
    health: &'a Health,
    /// Date and time.
    at: String,
    /// Seconds after which the page loads itself again; none when it does not.
    refresh_seconds: Option<u32>,
    competitions: Vec<Link<'a>>,
    page: &'a T,
}

#[derive(Serialize)]
struct Link<'a> {
    title: &'a str,
    /// As a part of a path.
    href: String,
}

fn page_of<T: Serialize>(
    template: &'static str,
    site: &Site,
    title: &str,
    refreshes: bool,
    health: &Health,
    page: &T,
) -> Result<String, Refusal> {
    let frame = Frame {
        title,
        validator: &site.validator,
        mode: match site.validator.mode {
            Mode::Live => "sets weights",
            Mode::DryRun => "dry run: no weights are set",
            Mode::Offline => "offline: on a chain in memory",
        },
        versions: &site.versions,
        health,
        at: date(site.live.now_ms()),
        refresh_seconds: refreshes.then_some(REFRESH_SECONDS),
        competitions: site
            .subnet
            .competitions
            .iter()
            .map(|one| Link { title: &one.title, href: href(&one.key) })
            .collect(),
        page,
    };
    let page = Value::from(Serde(frame));
    render_page(template, &[SERIES_STYLE, STYLE], page).map_err(Refusal::Page)
}

/// A name as a part of a path.
fn href(key: &str) -> String {
    const SPECIAL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');
    utf8_percent_encode(key, SPECIAL).to_string()
}

/// A date for people, in UTC.
fn date(at_ms: u64) -> String {
    let at = i64::try_from(at_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| text::NONE.to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// A time that passed, in its largest unit.
fn ago(seconds: u64) -> String {
    let (number, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..86400 => (seconds / 3600, "hour"),
        _ => (seconds / 86400, "day"),
    };
    format!("{} {unit}{}", group_digits(number), if number == 1 { "" } else { "s" })
}

#[derive(Serialize)]
struct Overview<'a> {
    chain: ChainView<'a>,
    faults: &'a [Fault],
    disk: Vec<DiskRow>,
    progress: Option<ProgressView<'a>>,
    competitions: Vec<CompetitionView<'a>>,
    queue: Vec<SubmissionView<'a>>,
    queued: u64,
    rejected: Vec<SubmissionView<'a>>,
    rejected_count: u64,
    final_weights: Option<WeightsView<'a>>,
    weights: Vec<WeightsView<'a>>,
    events: Vec<EventView<'a>>,
}

impl<'a> Overview<'a> {
    fn new(status: &'a Status) -> Self {
        let count =
            |state: &SubmissionState| status.submissions.get(state.word()).copied().unwrap_or(0);
        let queued = [SubmissionState::Waiting, SubmissionState::Due, SubmissionState::Fetching];
        Self {
            chain: ChainView::new(&status.chain),
            faults: &status.faults,
            disk: disk(&status.disk),
            progress: status.progress.as_ref().map(|one| ProgressView::new(one, status.at_ms)),
            competitions: status
                .competitions
                .iter()
                .map(|one| CompetitionView::new(one, MAX_OVERVIEW_ROWS))
                .collect(),
            queue: status.queue.iter().map(|one| SubmissionView::new(one, status)).collect(),
            queued: queued.iter().map(count).sum(),
            rejected: status.rejected.iter().map(|one| SubmissionView::new(one, status)).collect(),
            rejected_count: count(&SubmissionState::Rejected),
            final_weights: status.final_weights.as_ref().map(WeightsView::new),
            weights: status.weights.iter().map(WeightsView::new).collect(),
            events: status.events.iter().map(EventView::new).collect(),
        }
    }
}

#[derive(Serialize)]
struct ChainView<'a> {
    #[serde(flatten)]
    chain: &'a ChainStatus,
    age: Option<String>,
}

impl<'a> ChainView<'a> {
    fn new(chain: &'a ChainStatus) -> Self {
        Self { chain, age: chain.head_age_seconds.map(ago) }
    }
}

#[derive(Serialize)]
struct DiskRow {
    name: &'static str,
    size: String,
}

/// What is known of the disks.
fn disk(disk: &DiskStatus) -> Vec<DiskRow> {
    let rows = [
        ("State", disk.state_bytes),
        ("Free for the state", disk.state_free_bytes),
        ("Models", disk.models_bytes),
        ("Quota of models", disk.models_quota_bytes),
        ("Free for models", disk.models_free_bytes),
    ];
    let size = |bytes| indicatif::HumanBytes(bytes).to_string();
    rows.into_iter()
        .filter_map(|(name, bytes)| Some(DiskRow { name, size: size(bytes?) }))
        .collect()
}

#[derive(Serialize)]
struct ProgressView<'a> {
    round: &'a RoundProgress,
    running: String,
    model_running: Option<String>,
    tasks: Vec<TaskView<'a>>,
}

#[derive(Serialize)]
struct TaskView<'a> {
    task: &'a TaskTokens,
    share: f64,
    bar: String,
}

impl<'a> ProgressView<'a> {
    fn new(round: &'a RoundProgress, now_ms: u64) -> Self {
        let since = |start_ms: u64| ago(now_ms.saturating_sub(start_ms) / 1000);
        let tasks = round.model.iter().flat_map(|model| &model.tasks).map(|task| {
            let share = task.done_tokens as f64 / task.total_tokens.max(1) as f64;
            let share = share.clamp(0.0, 1.0);
            TaskView { task, share, bar: format!("{:.2}%", share * 100.0) }
        });
        Self {
            round,
            running: since(round.since_ms),
            model_running: round.model.as_ref().map(|model| since(model.since_ms)),
            tasks: tasks.collect(),
        }
    }
}

#[derive(Serialize)]
struct CompetitionPage<'a> {
    competition: CompetitionView<'a>,
    rounds: Vec<RoundView<'a>>,
}

#[derive(Serialize)]
struct RoundView<'a> {
    id: i64,
    block: u64,
    state: &'static str,
    tone: Tone,
    winner: Option<&'a str>,
    winner_loss: Option<f64>,
    reason: Option<&'a str>,
}

#[derive(Serialize)]
struct CompetitionView<'a> {
    #[serde(flatten)]
    competition: &'a CompetitionStatus,
    href: String,
    rows: Vec<RowView<'a>>,
    more: usize,
    losses: Option<Plot<'a>>,
    weights: Option<Plot<'a>>,
}

impl<'a> CompetitionView<'a> {
    fn new(competition: &'a CompetitionStatus, rows: usize) -> Self {
        Self {
            competition,
            href: href(&competition.key),
            rows: competition.leaderboard.iter().take(rows).map(RowView::new).collect(),
            more: competition.leaderboard.len().saturating_sub(rows),
            losses: plot::losses(&competition.history),
            weights: plot::weights(&competition.history),
        }
    }
}

#[derive(Serialize)]
struct RowView<'a> {
    #[serde(flatten)]
    row: &'a LeaderboardRow,
    status: &'static str,
    tone: Tone,
    bar: String,
}

impl<'a> RowView<'a> {
    fn new(row: &'a LeaderboardRow) -> Self {
        let average = if row.average.is_finite() { row.average.clamp(0.0, 1.0) } else { 0.0 };
        Self {
            row,
            status: row.outcome.word(),
            tone: match row.outcome {
                EvaluationOutcome::Scored => Tone::Good,
                EvaluationOutcome::Rejected | EvaluationOutcome::Failed => Tone::Bad,
                _ => Tone::Quiet,
            },
            bar: format!("{:.2}%", average * 100.0),
        }
    }
}

#[derive(Serialize)]
struct SubmissionView<'a> {
    #[serde(flatten)]
    submission: &'a SubmissionRecord,
    name: String,
    key: Option<&'a str>,
    status: &'static str,
    /// Block at which something happens next.
    next_block: u64,
}

impl<'a> SubmissionView<'a> {
    fn new(submission: &'a SubmissionRecord, status: &'a Status) -> Self {
        let of = |id| status.competitions.iter().find(|one| one.id == id);
        Self {
            submission,
            name: site::name(submission),
            key: submission.competition.and_then(of).map(|one| one.key.as_str()),
            status: submission.state.word(),
            next_block: submission.due_block.max(submission.retry_block),
        }
    }
}

#[derive(Serialize)]
struct WeightsView<'a> {
    #[serde(flatten)]
    record: &'a WeightsRecord,
    status: &'static str,
    tone: Tone,
    shares: Vec<Share>,
    more: usize,
}

#[derive(Serialize)]
struct Share {
    uid: u16,
    weight: f64,
    bar: String,
}

impl<'a> WeightsView<'a> {
    fn new(record: &'a WeightsRecord) -> Self {
        let mut weights: Vec<(u16, f64)> =
            record.weights.iter().map(|one| (one.uid, f64::from(one.weight))).collect();
        weights.retain(|(_, weight)| *weight > 0.0);
        weights.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let share = |(uid, weight): &(u16, f64)| Share {
            uid: *uid,
            weight: *weight,
            bar: format!("{:.2}%", weight.clamp(0.0, 1.0) * 100.0),
        };
        Self {
            record,
            status: match record.state {
                WeightsState::DryRun => "dry run",
                state => state.word(),
            },
            tone: match record.state {
                WeightsState::Final => Tone::Good,
                WeightsState::Failed => Tone::Bad,
                _ => Tone::Quiet,
            },
            shares: weights.iter().take(MAX_WEIGHTS).map(share).collect(),
            more: weights.len().saturating_sub(MAX_WEIGHTS),
        }
    }
}

#[derive(Serialize)]
struct EventsPage<'a> {
    events: Vec<EventView<'a>>,
    kind: Option<&'static str>,
    kinds: Vec<&'static str>,
    /// Whether these are the latest.
    latest: bool,
    next_before: Option<i64>,
    limit: u32,
}

#[derive(Serialize)]
struct EventView<'a> {
    event: &'a EventRecord,
    kind: String,
    at: String,
    tone: Tone,
    /// None when there are none.
    details: Option<String>,
}

impl<'a> EventView<'a> {
    fn new(event: &'a EventRecord) -> Self {
        Self {
            event,
            kind: event.kind.word().replace('_', " "),
            at: date(event.at_ms),
            tone: match event.kind {
                EventKind::SubmissionRejected
                | EventKind::RoundSkipped
                | EventKind::WeightsFailed
                | EventKind::TaskFailed => Tone::Bad,
                EventKind::SubmissionAccepted
                | EventKind::RoundFinished
                | EventKind::WeightsFinal
                | EventKind::TaskRecovered => Tone::Good,
                _ => Tone::Quiet,
            },
            details: (!event.details.is_null()).then(|| text::reason(&event.details.to_string())),
        }
    }
}
