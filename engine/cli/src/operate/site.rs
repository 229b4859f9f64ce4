//! What pages and answers are made from: the state, which another connection of
//! this process writes, the rules, and what the loop is doing.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use evaltasks_core::commitment::ModelId;
use evaltasks_core::competition::{Competition, Subnet};
use evaltasks_core::ranking::{CompetitionShare, Weights, emission_by_competition};

use super::health::{self, Health};
use super::limits::{
    DISK_MEASURED_EVERY, MAX_HISTORY_ROUNDS, MAX_HISTORY_SERIES, MAX_LEADERBOARD_ROWS,
    MAX_LISTED_EVENTS, MAX_LISTED_SUBMISSIONS, MAX_LISTED_WEIGHTS,
};
use super::live::Live;
use super::status::{
    CompetitionStatus, DiskStatus, Fault, History, HistoryRound, LeaderboardRow, Point,
    RoundProgress, Series, Status, Validator, Versions,
};
use crate::round::reason;
use crate::validator::state::{
    EvaluationRecord, EventKind, Found, HistoryPoint, Queries, Reader, RoundRecord, StateError,
    SubmissionFilter, SubmissionRecord, SubmissionState,
};
use crate::validator::{Task, fault_since_key, noted_faults};

/// A running validator, as others look at it.
pub struct Site {
    reader: Mutex<Reader>,
    counted: Mutex<Counted>,
    measured: Mutex<Option<(Instant, DiskStatus)>>,
    parts: SiteParts,
}

/// What a [`Site`] is made of beside the state.
pub struct SiteParts {
    /// The rules of the competitions.
    pub subnet: Arc<Subnet>,
    /// What the validator is doing.
    pub live: Arc<Live>,
    /// Who it is.
    pub validator: Validator,
    /// What it is.
    pub versions: Versions,
    /// Looks at the disks; asked now and then, because it takes a while.
    pub disk: Box<dyn Fn() -> DiskStatus + Send + Sync>,
}

impl Deref for Site {
    type Target = SiteParts;

    fn deref(&self) -> &SiteParts {
        &self.parts
    }
}

/// Events since the program began, by kind.
struct Counted {
    last_event: i64,
    by_kind: BTreeMap<EventKind, u64>,
}

impl Site {
    /// Looks at the state in a folder.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn new(folder: &Path, parts: SiteParts) -> Result<Site, StateError> {
        let reader = Reader::open(folder)?;
        let newest = reader.ask(|state| state.event_page(None, None, 1))?;
        let counted = Counted {
            last_event: newest.first().map_or(0, |event| event.id),
            by_kind: BTreeMap::new(),
        };
        let (reader, counted) = (Mutex::new(reader), Mutex::new(counted));
        Ok(Site { reader, counted, measured: Mutex::default(), parts })
    }

    /// What disks hold, as of a short while ago.
    pub fn disk(&self) -> DiskStatus {
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        match &*measured {
            Some((at, disk)) if at.elapsed() < DISK_MEASURED_EVERY => disk.clone(),
            _ => {
                let disk = (self.parts.disk)();
                *measured = Some((Instant::now(), disk.clone()));
                disk
            }
        }
    }

    /// Reads the state, all of it from one view. Askers take turns.
    ///
    /// # Errors
    /// Those of SQLite, explained.
    pub fn ask<T>(&self, question: impl FnOnce(Queries<'_>) -> Found<T>) -> Result<T, StateError> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner).ask(question)
    }

    /// Events since the program began, by kind; every kind has a number.
    ///
    /// # Errors
    /// Those of SQLite, explained.
    pub fn events_by_kind(&self) -> Result<BTreeMap<EventKind, u64>, StateError> {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, new) = self.ask(|state| state.events_by_kind(counted.last_event))?;
        counted.last_event = last;
        for (kind, count) in new {
            *counted.by_kind.entry(kind).or_default() += count;
        }
        let count = |kind| counted.by_kind.get(kind).copied().unwrap_or(0);
        Ok(EventKind::ALL.iter().map(|kind| (*kind, count(kind))).collect())
    }
}

/// Everything at a glance.
///
/// # Errors
/// When the state cannot be read.
pub fn status(site: &Site) -> Result<Status, StateError> {
    let rejected =
        SubmissionFilter { state: Some(SubmissionState::Rejected), ..SubmissionFilter::default() };
    site.ask(|state| {
        let faults = faults(&state)?;
        let running = state.running_round()?.map(|round| round.id);
        Ok(Status {
            at_ms: site.live.now_ms(),
            versions: site.versions.clone(),
            validator: site.validator.clone(),
            health: judge(site, &faults, None),
            chain: site.live.chain(),
            faults,
            disk: site.disk(),
            progress: site.live.progress().map(|one| RoundProgress { round: running, ..one }),
            submissions: submissions_by_state(&state)?
                .into_iter()
                .map(|(in_state, count)| (in_state.word().to_owned(), count))
                .collect(),
            competitions: competitions_in(site, &state, |_| true)?,
            queue: state.queue(MAX_LISTED_SUBMISSIONS)?,
            rejected: state.submission_page(&rejected, None, MAX_LISTED_SUBMISSIONS)?,
            events: state.event_page(None, None, MAX_LISTED_EVENTS)?,
            weights: state.weights_page(None, MAX_LISTED_WEIGHTS)?,
            final_weights: state.final_weights()?,
        })
    })
}

/// How many submissions are in each state, also where there are none.
///
/// # Errors
/// Those of SQLite.
pub fn submissions_by_state(state: &Queries<'_>) -> Found<BTreeMap<SubmissionState, u64>> {
    let counts = state.submissions_by_state()?;
    let count = |one| counts.get(one).copied().unwrap_or(0);
    Ok(SubmissionState::ALL.iter().map(|one| (*one, count(one))).collect())
}

/// What is wrong, also when the state cannot be read.
pub fn health(site: &Site) -> Health {
    match site.ask(|state| faults(&state)) {
        Ok(faults) => judge(site, &faults, None),
        Err(error) => judge(site, &[], Some(&reason(&error))),
    }
}

fn judge(site: &Site, faults: &[Fault], unreadable: Option<&str>) -> Health {
    let live = &site.live;
    health::judge(&live.chain(), faults, &site.disk(), live.silence(), unreadable)
}

/// What the validator noted of its parts that do not work.
fn faults(state: &Queries<'_>) -> Found<Vec<Fault>> {
    let fault = |(task, reason): (Task, String)| {
        let since = state.meta(&fault_since_key(task))?;
        let since_block = since.and_then(|block| block.parse().ok());
        Ok(Fault { task: task.name().to_owned(), reason, since_block })
    };
    noted_faults(state)?.into_iter().map(fault).collect()
}

/// All competitions of the file, by id.
///
/// # Errors
/// When the state cannot be read.
pub fn competitions(site: &Site) -> Result<Vec<CompetitionStatus>, StateError> {
    site.ask(|state| competitions_in(site, &state, |_| true))
}

/// One competition of the file.
///
/// # Errors
/// When the state cannot be read.
pub fn competition(
    site: &Site,
    rules: &Competition,
) -> Result<Option<CompetitionStatus>, StateError> {
    let found = site.ask(|state| competitions_in(site, &state, |one| one.id == rules.id))?;
    Ok(found.into_iter().next())
}

/// Those that are wanted: what one gives hangs on all.
fn competitions_in(
    site: &Site,
    state: &Queries<'_>,
    is_wanted: impl Fn(&Competition) -> bool,
) -> Found<Vec<CompetitionStatus>> {
    let head = site.live.chain().head_block;
    let mut all: Vec<&Competition> = site.subnet.competitions.iter().collect();
    all.sort_by_key(|competition| competition.id);
    let is_active = |rules: &Competition, block| {
        site.subnet.competitions_at(block).iter().any(|one| one.id == rules.id)
    };
    let mut found = Vec::new();
    for rules in all {
        let mut rounds = state.finished_rounds(rules.id, MAX_HISTORY_ROUNDS)?;
        rounds.reverse();
        let last = rounds.last().map(|last| state.evaluations(last.id));
        found.push(FoundCompetition {
            rules,
            active: head.is_some_and(|block| is_active(rules, block)),
            rounds,
            evaluations: last.transpose()?.unwrap_or_default(),
        });
    }
    let emission = emission(&found);
    let wanted = found.into_iter().zip(emission).filter(|(one, _)| is_wanted(one.rules));
    wanted.map(|(one, emission)| competition_in(one, &emission, state)).collect()
}

/// A competition with what is known of it.
struct FoundCompetition<'a> {
    rules: &'a Competition,
    /// Whether it is on now.
    active: bool,
    /// Finished ones, the oldest first.
    rounds: Vec<RoundRecord>,
    /// Those of the last round.
    evaluations: Vec<EvaluationRecord>,
}

/// What each competition gives to whom, by uid. One that is over gives nothing.
fn emission(competitions: &[FoundCompetition<'_>]) -> Vec<Weights> {
    let averages = |one: &FoundCompetition<'_>| -> Weights {
        let counted = one.evaluations.iter().filter(|_| one.active);
        counted.map(|found| (found.uid, found.average)).collect()
    };
    let averages: Vec<Weights> = competitions.iter().map(averages).collect();
    let shares = competitions.iter().zip(&averages).map(|(one, weights)| CompetitionShare {
        emission_share: one.rules.emission_share,
        min_weight: one.rules.ranking.min_weight,
        weights,
    });
    emission_by_competition(&shares.collect::<Vec<_>>())
}

fn competition_in(
    found: FoundCompetition<'_>,
    emission: &Weights,
    state: &Queries<'_>,
) -> Found<CompetitionStatus> {
    let FoundCompetition { rules, active, rounds, evaluations } = found;
    let rounds: Vec<HistoryRound> =
        rounds.iter().map(|round| HistoryRound { round: round.id, block: round.block }).collect();
    let leaderboard = match rounds.last() {
        Some(last) => leaderboard(evaluations, emission, &state.submissions_in(last.round)?),
        None => Vec::new(),
    };
    Ok(CompetitionStatus {
        key: rules.key.clone(),
        id: rules.id,
        title: rules.title.clone(),
        active,
        emission_share: rules.emission_share,
        round: rounds.last().copied(),
        leaderboard,
        history: history(rounds, state)?,
    })
}

fn leaderboard(
    evaluations: Vec<EvaluationRecord>,
    emission: &Weights,
    submissions: &BTreeMap<i64, SubmissionRecord>,
) -> Vec<LeaderboardRow> {
    let row = |found: EvaluationRecord| {
        let submission = submissions.get(&found.submission);
        LeaderboardRow {
            rank: found.rank,
            uid: found.uid,
            hotkey: found.hotkey,
            name: submission.map(name).unwrap_or_default(),
            submission: found.submission,
            block: submission.map_or(0, |one| one.block),
            outcome: found.outcome,
            reason: found.reason,
            loss: found.loss,
            weight: found.weight,
            average: found.average,
            emission: emission.get(&found.uid).copied().unwrap_or(0.0),
        }
    };
    evaluations.into_iter().take(MAX_LEADERBOARD_ROWS).map(row).collect()
}

fn history(rounds: Vec<HistoryRound>, state: &Queries<'_>) -> Found<History> {
    let numbers: Vec<i64> = rounds.iter().map(|round| round.round).collect();
    let points = state.history(&numbers, MAX_HISTORY_SERIES)?;
    let mut weights: BTreeMap<i64, f64> = BTreeMap::new();
    for point in &points {
        *weights.entry(point.submission).or_default() += point.average;
    }
    let mut series = Vec::new();
    for of_one in points.chunk_by(|a, b| a.submission == b.submission) {
        let Some(first) = of_one.first() else { continue };
        let Some(submission) = state.submission(first.submission)? else { continue };
        series.push(line(&rounds, &submission, of_one));
    }
    let weight = |one: &Series| weights.get(&one.submission).copied().unwrap_or(0.0);
    series.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
    Ok(History { rounds, series })
}

fn line(rounds: &[HistoryRound], submission: &SubmissionRecord, found: &[HistoryPoint]) -> Series {
    let points = rounds.iter().map(|round| {
        let point = found.iter().find(|point| point.round == round.round)?;
        Some(Point { loss: point.loss, average: point.average })
    });
    Series {
        uid: submission.uid,
        hotkey: submission.hotkey.clone(),
        name: name(submission),
        submission: submission.id,
        points: points.collect(),
    }
}

/// What to call a submission: the repository that it names, else the hotkey.
pub fn name(submission: &SubmissionRecord) -> String {
    match submission.commitment.parse::<ModelId>() {
        Ok(model) => format!("{}/{}", model.namespace, model.name),
        Err(_) => submission.hotkey.clone(),
    }
}
