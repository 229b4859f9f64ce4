//! The API: one table says which addresses there are, what they take and what
//! they give. The server, the OpenAPI description and the tests read it.

use evaltasks_core::source::SourceError;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::limits::{DEFAULT_PAGE_ITEMS, MAX_FILTER_BYTES, MAX_PAGE_ITEMS};
use super::records::{
    EvaluationFilter, EvaluationRecord, EventRecord, List, PageRequest, RoundRecord,
    SubmissionFilter, SubmissionRecord, SubmissionState, WeightsRecord,
};
use super::site::{self, Site};
use super::status::{CompetitionStatus, LeaderboardRow, Status};
use crate::round::reason;

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
    answer: Box<dyn Fn(&Site, &Arguments) -> Result<Vec<u8>, Refusal> + Send + Sync>,
}

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
    State(SourceError),
    /// The answer has no form in JSON.
    Json(serde_json::Error),
}

impl From<SourceError> for Refusal {
    fn from(error: SourceError) -> Refusal {
        Refusal::State(error)
    }
}

/// What is said in place of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorAnswer {
    /// What is wrong, in a sentence without a full stop.
    pub error: String,
}

impl Refusal {
    /// Status of the answer, and what it says.
    pub fn answer(&self) -> (u16, ErrorAnswer) {
        let (status, error) = match self {
            Refusal::Request(error) => (400, error.clone()),
            Refusal::Missing(error) => (404, error.clone()),
            Refusal::State(error) => (503, format!("failed to {}", reason(&**error))),
            Refusal::Json(error) => (500, format!("failed to write JSON: {error}")),
        };
        (status, ErrorAnswer { error })
    }
}

/// Everything that the API has.
pub fn endpoints() -> Vec<Endpoint> {
    use Parameter::{Before, Competition, Hotkey, Kind, Limit, Round, State};
    vec![
        endpoint(
            "/api/v1/status",
            "status",
            "Everything at a glance",
            &[],
            |site, _| -> Result<Status, _> { Ok(site::status(site)?) },
        ),
        endpoint(
            "/api/v1/competitions",
            "competitions",
            "All competitions, their last rounds and their history",
            &[],
            |site, _| Ok(Competitions { competitions: site::competitions(site)? }),
        ),
        endpoint(
            "/api/v1/competitions/{competition}",
            "competition",
            "One competition, its last round and its history",
            &[Competition],
            |site, given| competition(site, given),
        ),
        endpoint(
            "/api/v1/competitions/{competition}/leaderboard",
            "leaderboard",
            "The models of a competition's last round, the best first",
            &[Competition],
            |site, given| Ok(Leaderboard { leaderboard: competition(site, given)?.leaderboard }),
        ),
        endpoint(
            "/api/v1/submissions",
            "submissions",
            "Submissions, the latest first",
            &[State, Competition, Before, Limit],
            |site, given| -> Result<List<SubmissionRecord>, _> {
                let filter = SubmissionFilter {
                    states: given.state.into_iter().collect(),
                    competition: given.competition.clone(),
                };
                Ok(site.records.submissions(&filter, &given.page)?)
            },
        ),
        endpoint(
            "/api/v1/rounds",
            "rounds",
            "Rounds, the latest first",
            &[Competition, Before, Limit],
            |site, given| -> Result<List<RoundRecord>, _> {
                Ok(site.records.rounds(given.competition.as_deref(), &given.page)?)
            },
        ),
        endpoint(
            "/api/v1/evaluations",
            "evaluations",
            "What rounds made of models, the latest first",
            &[Round, Hotkey, Before, Limit],
            |site, given| -> Result<List<EvaluationRecord>, _> {
                let filter = EvaluationFilter { round: given.round, hotkey: given.hotkey.clone() };
                Ok(site.records.evaluations(&filter, &given.page)?)
            },
        ),
        endpoint(
            "/api/v1/weights",
            "weights",
            "Settings of weights, the latest first",
            &[Before, Limit],
            |site, given| -> Result<List<WeightsRecord>, _> {
                Ok(site.records.weights(&given.page)?)
            },
        ),
        endpoint(
            "/api/v1/events",
            "events",
            "Decisions and their reasons, the latest first",
            &[Kind, Before, Limit],
            |site, given| -> Result<List<EventRecord>, _> {
                Ok(site.records.events(given.kind.as_deref(), &given.page)?)
            },
        ),
    ]
}

/// Answer of the list of competitions.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Competitions {
    /// By id.
    competitions: Vec<CompetitionStatus>,
}

/// Answer of a leaderboard.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Leaderboard {
    /// The best first; those without a score last.
    leaderboard: Vec<LeaderboardRow>,
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

fn competition(site: &Site, given: &Arguments) -> Result<CompetitionStatus, Refusal> {
    find_competition(site, given.competition.as_deref().unwrap_or_default())
}

/// A competition by its key.
pub fn find_competition(site: &Site, key: &str) -> Result<CompetitionStatus, Refusal> {
    let found = site::competitions(site)?.into_iter().find(|one| one.key == key);
    found.ok_or_else(|| Refusal::Missing(format!("there is no competition `{key}`")))
}

/// What a request can say beside its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    Before,
    Competition,
    Hotkey,
    Kind,
    Limit,
    Round,
    State,
}

impl Parameter {
    pub fn name(self) -> &'static str {
        match self {
            Parameter::Before => "before",
            Parameter::Competition => "competition",
            Parameter::Hotkey => "hotkey",
            Parameter::Kind => "kind",
            Parameter::Limit => "limit",
            Parameter::Round => "round",
            Parameter::State => "state",
        }
    }

    pub fn description(self) -> &'static str {
        match self {
            Parameter::Before => "Only items with a smaller id: `next_before` of the part before",
            Parameter::Competition => "Key of a competition",
            Parameter::Hotkey => "SS58 address of a miner's hotkey",
            Parameter::Kind => "Kind of the decisions",
            Parameter::Limit => "Number of items at most",
            Parameter::Round => "Number of a round in the state",
            Parameter::State => "Where submissions stand",
        }
    }

    pub fn schema(self, generator: &mut SchemaGenerator) -> Schema {
        match self {
            Parameter::Before | Parameter::Round => json_schema!({"type": "integer", "minimum": 0}),
            Parameter::Competition | Parameter::Hotkey | Parameter::Kind => {
                json_schema!({"type": "string", "maxLength": MAX_FILTER_BYTES})
            }
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
    pub page: PageRequest,
    pub competition: Option<String>,
    pub hotkey: Option<String>,
    pub kind: Option<String>,
    pub round: Option<u64>,
    pub state: Option<SubmissionState>,
}

impl Arguments {
    /// Takes what is `known`, and refuses all else.
    pub fn parse(known: &[Parameter], given: &[(String, String)]) -> Result<Arguments, Refusal> {
        let mut arguments = Arguments {
            page: PageRequest { before: None, limit: DEFAULT_PAGE_ITEMS },
            competition: None,
            hotkey: None,
            kind: None,
            round: None,
            state: None,
        };
        let mut seen = Vec::new();
        for (name, value) in given {
            let parameter = known.iter().find(|parameter| parameter.name() == name);
            let parameter = parameter.ok_or_else(|| {
                let names: Vec<_> = known.iter().map(|one| one.name()).collect();
                let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                Refusal::Request(format!("there is no such parameter; known here: {names}"))
            })?;
            let wrong = |what: &str| {
                Refusal::Request(format!("the parameter `{}` must be {what}", parameter.name()))
            };
            if seen.contains(parameter) {
                return Err(wrong("given once"));
            }
            seen.push(*parameter);
            let text = || match value.len() {
                0..=MAX_FILTER_BYTES => Ok(Some(value.clone())),
                _ => Err(wrong(&format!("at most {MAX_FILTER_BYTES} bytes long"))),
            };
            let number = || value.parse::<u64>().map_err(|_| wrong("a whole number"));
            match parameter {
                Parameter::Before => arguments.page.before = Some(number()?),
                Parameter::Competition => arguments.competition = text()?,
                Parameter::Hotkey => arguments.hotkey = text()?,
                Parameter::Kind => arguments.kind = text()?,
                Parameter::Limit => {
                    let limit = usize::try_from(number()?).unwrap_or(usize::MAX);
                    if !(1..=MAX_PAGE_ITEMS).contains(&limit) {
                        return Err(wrong(&format!("from 1 to {MAX_PAGE_ITEMS}")));
                    }
                    arguments.page.limit = limit;
                }
                Parameter::Round => arguments.round = Some(number()?),
                Parameter::State => {
                    let names = SubmissionState::ALL.map(SubmissionState::name).join(", ");
                    let state = SubmissionState::of_name(value);
                    arguments.state = Some(state.ok_or_else(|| wrong(&format!("one of {names}")))?);
                }
            }
        }
        Ok(arguments)
    }
}
