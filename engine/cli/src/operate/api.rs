//! The API: one table says which addresses there are, what they take and what
//! they give. The server, the OpenAPI description and the tests read it.

use evaltasks_core::competition::Competition;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::limits::{DEFAULT_PAGE_ITEMS, MAX_FILTER_BYTES, MAX_PAGE_ITEMS};
use super::site::{self, Site};
use super::status::{CompetitionStatus, LeaderboardRow, Status};
use crate::http::ErrorAnswer;
use crate::round::reason;
use crate::validator::state::{
    EvaluationRecord, EventKind, EventRecord, Found, Queries, RoundRecord, StateError,
    SubmissionFilter, SubmissionRecord, SubmissionState, WeightsRecord,
};

/// An address of the API.
pub struct Endpoint {
    /// Path, with parameters in braces.
    pub path: &'static str,
    /// Name for programs that are made from the description.
    pub name: &'static str,
    /// What it gives, in a sentence.
    pub summary: &'static str,
    /// What it takes.
    pub parameters: &'static [Parameter],
    /// Form of its answer.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    answer: Box<Answer>,
}

/// Gives an answer as JSON.
type Answer = dyn Fn(&Site, &Arguments) -> Result<Vec<u8>, Refusal> + Send + Sync;

impl Endpoint {
    /// The answer to a request, as JSON.
    pub fn answer(&self, site: &Site, given: &[(String, String)]) -> Result<Vec<u8>, Refusal> {
        (self.answer)(site, &Arguments::parse(self.parameters, given)?)
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Refusal {
    /// The request makes no sense.
    Request(String),
    /// It names something that is not there.
    Missing(String),
    /// The state cannot be read.
    State(StateError),
    /// The answer has no form in JSON.
    Json(serde_json::Error),
    /// The page's template is at fault.
    Page(minijinja::Error),
}

impl From<StateError> for Refusal {
    fn from(error: StateError) -> Refusal {
        Refusal::State(error)
    }
}

impl Refusal {
    /// Status of the answer, and what it says.
    pub fn answer(&self) -> (u16, ErrorAnswer) {
        let (status, error) = match self {
            Refusal::Request(error) => (400, error.clone()),
            Refusal::Missing(error) => (404, error.clone()),
            Refusal::State(error) => (503, format!("failed to {}", reason(error))),
            Refusal::Json(error) => (500, format!("failed to write JSON: {error}")),
            Refusal::Page(error) => (500, format!("failed to write the page: {}", reason(error))),
        };
        (status, ErrorAnswer { error })
    }
}

/// Everything that the API has.
pub fn endpoints() -> Vec<Endpoint> {
    use Parameter::{Before, Competition, Kind, Limit, Round, State, Submission};
    vec![
        endpoint("/api/v1/status", "status", "Everything at a glance", &[], get_status),
        endpoint(
            "/api/v1/competitions",
            "competitions",
            "All competitions, their last rounds and their history",
            &[],
            get_competitions,
        ),
        endpoint(
            "/api/v1/competitions/{competition}",
            "competition",
            "One competition, its last round and its history",
            &[Competition],
            get_competition,
        ),
        endpoint(
            "/api/v1/competitions/{competition}/leaderboard",
            "leaderboard",
            "The models of a competition's last round, the best first",
            &[Competition],
            get_leaderboard,
        ),
        endpoint(
            "/api/v1/submissions",
            "submissions",
            "Submissions, the latest first",
            &[State, Competition, Before, Limit],
            get_submissions,
        ),
        endpoint(
            "/api/v1/submissions/{submission}",
            "submission",
            "A submission, and what its last rounds made of it",
            &[Submission],
            get_submission,
        ),
        endpoint(
            "/api/v1/rounds",
            "rounds",
            "Rounds, the latest first",
            &[Competition, Before, Limit],
            get_rounds,
        ),
        endpoint(
            "/api/v1/rounds/{round}",
            "round",
            "A round, and what it made of each model, the best first",
            &[Round],
            get_round,
        ),
        endpoint(
            "/api/v1/weights",
            "weights",
            "Settings of weights, the latest first",
            &[Before, Limit],
            get_weights,
        ),
        endpoint(
            "/api/v1/events",
            "events",
            "Decisions and their reasons, the latest first",
            &[Kind, Before, Limit],
            get_events,
        ),
    ]
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ListOf{T}")]
pub struct List<T> {
    /// In the list's order.
    pub items: Vec<T>,
    /// The `before` of the part that follows; none at the end.
    pub next_before: Option<i64>,
}

/// Answer of the list of competitions.
#[derive(Serialize, JsonSchema)]
struct Competitions {
    /// By id.
    competitions: Vec<CompetitionStatus>,
}

/// Answer of a leaderboard.
#[derive(Serialize, JsonSchema)]
struct Leaderboard {
    /// The best first; those without a score last.
    leaderboard: Vec<LeaderboardRow>,
}

/// A submission and its rounds.
#[derive(Serialize, JsonSchema)]
struct SubmissionAnswer {
    /// The submission.
    submission: SubmissionRecord,
    /// What rounds made of it, the earliest first; the last ones.
    evaluations: Vec<EvaluationRecord>,
}

/// A round and its models.
#[derive(Serialize, JsonSchema)]
struct RoundAnswer {
    /// The round.
    round: RoundRecord,
    /// What it made of each model: the best first, those without a rank last.
    evaluations: Vec<EvaluationRecord>,
}

fn get_status(site: &Site, _: &Arguments) -> Result<Status, Refusal> {
    Ok(site::status(site)?)
}

fn get_competitions(site: &Site, _: &Arguments) -> Result<Competitions, Refusal> {
    Ok(Competitions { competitions: site::competitions(site)? })
}

fn get_competition(site: &Site, given: &Arguments) -> Result<CompetitionStatus, Refusal> {
    find_competition(site, given.competition.as_deref().unwrap_or_default())
}

fn get_leaderboard(site: &Site, given: &Arguments) -> Result<Leaderboard, Refusal> {
    Ok(Leaderboard { leaderboard: get_competition(site, given)?.leaderboard })
}

fn get_submissions(site: &Site, given: &Arguments) -> Result<List<SubmissionRecord>, Refusal> {
    let filter = SubmissionFilter { state: given.state, competition: competition_id(site, given)? };
    list(
        site,
        given,
        |one: &SubmissionRecord| one.id,
        |state, before, limit| state.submission_page(&filter, before, limit),
    )
}

fn get_submission(site: &Site, given: &Arguments) -> Result<SubmissionAnswer, Refusal> {
    let id = given.submission.unwrap_or_default();
    let (submission, evaluations) =
        site.ask(|state| Ok((state.submission(id)?, state.evaluations_of(id, MAX_PAGE_ITEMS)?)))?;
    let submission = submission.ok_or_else(|| missing("submission", &id.to_string()))?;
    Ok(SubmissionAnswer { submission, evaluations })
}

fn get_rounds(site: &Site, given: &Arguments) -> Result<List<RoundRecord>, Refusal> {
    let competition = competition_id(site, given)?;
    list(
        site,
        given,
        |one: &RoundRecord| one.id,
        |state, before, limit| state.rounds(competition, before, limit),
    )
}

fn get_round(site: &Site, given: &Arguments) -> Result<RoundAnswer, Refusal> {
    let id = given.round.unwrap_or_default();
    let (round, evaluations) = site.ask(|state| Ok((state.round(id)?, state.evaluations(id)?)))?;
    let round = round.ok_or_else(|| missing("round", &id.to_string()))?;
    Ok(RoundAnswer { round, evaluations })
}

fn get_weights(site: &Site, given: &Arguments) -> Result<List<WeightsRecord>, Refusal> {
    list(
        site,
        given,
        |one: &WeightsRecord| one.id,
        |state, before, limit| state.weights_page(before, limit),
    )
}

/// Decisions, as the page of events also shows them.
pub fn get_events(site: &Site, given: &Arguments) -> Result<List<EventRecord>, Refusal> {
    list(
        site,
        given,
        |one: &EventRecord| one.id,
        |state, before, limit| state.event_page(given.kind, before, limit),
    )
}

/// A part of a list, and where the next one begins.
fn list<T>(
    site: &Site,
    given: &Arguments,
    id: impl Fn(&T) -> i64,
    page: impl FnOnce(Queries<'_>, Option<i64>, u32) -> Found<Vec<T>>,
) -> Result<List<T>, Refusal> {
    let items = site.ask(|state| page(state, given.before, given.limit))?;
    let full = items.len() >= given.limit as usize;
    let next_before = items.last().map(id).filter(|_| full);
    Ok(List { items, next_before })
}

/// A competition by its key.
pub fn find_competition(site: &Site, key: &str) -> Result<CompetitionStatus, Refusal> {
    let found = site::competition(site, rules_of(site, key)?)?;
    found.ok_or_else(|| missing("competition", key))
}

fn rules_of<'a>(site: &'a Site, key: &str) -> Result<&'a Competition, Refusal> {
    let found = site.subnet.competitions.iter().find(|one| one.key == key);
    found.ok_or_else(|| missing("competition", key))
}

fn competition_id(site: &Site, given: &Arguments) -> Result<Option<u32>, Refusal> {
    given.competition.as_deref().map(|key| Ok(rules_of(site, key)?.id)).transpose()
}

fn missing(what: &str, name: &str) -> Refusal {
    Refusal::Missing(format!("there is no {what} {name}"))
}

fn endpoint<T: Serialize + JsonSchema>(
    path: &'static str,
    name: &'static str,
    summary: &'static str,
    parameters: &'static [Parameter],
    answer: impl Fn(&Site, &Arguments) -> Result<T, Refusal> + Send + Sync + 'static,
) -> Endpoint {
    let answer = move |site: &Site, given: &Arguments| {
        serde_json::to_vec(&answer(site, given)?).map_err(Refusal::Json)
    };
    let schema = SchemaGenerator::subschema_for::<T>;
    Endpoint { path, name, summary, parameters, schema, answer: Box::new(answer) }
}

/// What a request can say beside its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    Before,
    Competition,
    Kind,
    Limit,
    Round,
    State,
    Submission,
}

impl Parameter {
    pub fn name(self) -> &'static str {
        match self {
            Parameter::Before => "before",
            Parameter::Competition => "competition",
            Parameter::Kind => "kind",
            Parameter::Limit => "limit",
            Parameter::Round => "round",
            Parameter::State => "state",
            Parameter::Submission => "submission",
        }
    }

    pub fn description(self) -> &'static str {
        match self {
            Parameter::Before => "Only items with a smaller id: `next_before` of the part before",
            Parameter::Competition => "Key of a competition",
            Parameter::Kind => "Kind of the decisions",
            Parameter::Limit => "Number of items at most",
            Parameter::Round => "Number of a round in the state",
            Parameter::State => "How far submissions are",
            Parameter::Submission => "Number of a submission in the state",
        }
    }

    pub fn schema(self, generator: &mut SchemaGenerator) -> Schema {
        match self {
            Parameter::Before | Parameter::Round | Parameter::Submission => {
                json_schema!({"type": "integer", "format": "int64"})
            }
            Parameter::Competition => {
                json_schema!({"type": "string", "maxLength": MAX_FILTER_BYTES})
            }
            Parameter::Kind => generator.subschema_for::<EventKind>(),
            Parameter::Limit => json_schema!({
                "type": "integer",
                "minimum": 1,
                "maximum": MAX_PAGE_ITEMS,
                "default": DEFAULT_PAGE_ITEMS,
            }),
            Parameter::State => generator.subschema_for::<SubmissionState>(),
        }
    }
}

/// The parameters of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arguments {
    pub before: Option<i64>,
    pub competition: Option<String>,
    pub kind: Option<EventKind>,
    pub limit: u32,
    pub round: Option<i64>,
    pub state: Option<SubmissionState>,
    pub submission: Option<i64>,
}

impl Default for Arguments {
    fn default() -> Arguments {
        Arguments {
            before: None,
            competition: None,
            kind: None,
            limit: DEFAULT_PAGE_ITEMS,
            round: None,
            state: None,
            submission: None,
        }
    }
}

impl Arguments {
    /// Takes what is `known`, each once, and refuses all else.
    pub fn parse(known: &[Parameter], given: &[(String, String)]) -> Result<Arguments, Refusal> {
        let mut arguments = Arguments::default();
        let mut seen = Vec::new();
        for (name, value) in given {
            let parameter = known.iter().find(|parameter| parameter.name() == name);
            let parameter = *parameter.ok_or_else(|| {
                let names: Vec<_> = known.iter().map(|one| one.name()).collect();
                let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                Refusal::Request(format!("there is no such parameter; known here: {names}"))
            })?;
            let wrong = |demand: &str| {
                Refusal::Request(format!("the parameter {} must be {demand}", parameter.name()))
            };
            if seen.contains(&parameter) {
                return Err(wrong("given once"));
            }
            seen.push(parameter);
            arguments.take(parameter, value).map_err(|demand| wrong(&demand))?;
        }
        Ok(arguments)
    }

    /// Takes one value; else says what it must be.
    fn take(&mut self, parameter: Parameter, value: &str) -> Result<(), String> {
        let number = || value.parse::<i64>().map_err(|_| "a whole number".to_owned());
        match parameter {
            Parameter::Before => self.before = Some(number()?),
            Parameter::Competition if value.len() > MAX_FILTER_BYTES => {
                return Err(format!("at most {MAX_FILTER_BYTES} bytes long"));
            }
            Parameter::Competition => self.competition = Some(value.to_owned()),
            Parameter::Kind => {
                self.kind = Some(one_of(EventKind::ALL, |kind| kind.word(), value)?);
            }
            Parameter::Limit => {
                let range = 1..=MAX_PAGE_ITEMS;
                let limit = value.parse().ok().filter(|limit| range.contains(limit));
                self.limit = limit.ok_or_else(|| format!("from 1 to {MAX_PAGE_ITEMS}"))?;
            }
            Parameter::Round => self.round = Some(number()?),
            Parameter::State => {
                self.state = Some(one_of(SubmissionState::ALL, |state| state.word(), value)?);
            }
            Parameter::Submission => self.submission = Some(number()?),
        }
        Ok(())
    }
}

/// The value of a word.
fn one_of<T: Copy>(all: &[T], word: fn(T) -> &'static str, given: &str) -> Result<T, String> {
    all.iter().copied().find(|one| word(*one) == given).ok_or_else(|| {
        let words: Vec<_> = all.iter().map(|one| word(*one)).collect();
        format!("one of {}", words.join(", "))
    })
}
