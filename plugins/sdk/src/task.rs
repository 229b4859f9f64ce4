use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Error, Host, Measure, Metric, Plan, Request, Response, Source};

/// A task as its author writes it. Every function is a pure function of its
/// arguments and of what the host answers: an instance may be thrown away
/// between any two calls.
pub trait Task {
    /// Name of the task: `[a-z][a-z0-9_]*`.
    const ID: &'static str;
    /// Semantic version; a change of scores is a major change.
    const VERSION: &'static str;
    /// One line for people.
    const SUMMARY: &'static str;
    /// Names of the operations that it asks for, such as `loglikelihood`.
    const OPERATIONS: &'static [&'static str];
    /// How many times a row may be asked about.
    const MAX_ROUNDS: u32 = 1;

    /// Configuration, read from the competition's JSON. Its schema is shown
    /// to people and checked by the engine.
    type Config: DeserializeOwned + JsonSchema;
    /// What a row remembers between two rounds of questions; an enum with one
    /// variant per round for tasks of several.
    type State: Serialize + DeserializeOwned;

    /// Which datasets the task reads. By default the one that the competition
    /// binds.
    ///
    /// # Errors
    /// When the configuration makes no sense.
    fn prepare(config: &Self::Config) -> Result<Plan, Error> {
        let _ = config;
        let source = Source {
            dataset: String::new(),
            revision: None,
            split: "train".to_owned(),
            columns: Vec::new(),
        };
        Ok(Plan { sources: vec![source], rows: None })
    }

    /// The first step of rows `start .. start + count`; fewer when there are no
    /// more rows.
    ///
    /// # Errors
    /// When the data is not what the task needs.
    fn build(
        host: &dyn Host,
        config: &Self::Config,
        start: u32,
        count: u32,
    ) -> Result<Vec<Step<Self::State>>, Error>;

    /// What follows from the answers about one row.
    ///
    /// # Errors
    /// [`Error::Disqualified`] puts the model out of the competition; any
    /// other error is a fault of the task.
    fn score(
        host: &dyn Host,
        config: &Self::Config,
        state: Self::State,
        responses: &[Response],
    ) -> Result<Step<Self::State>, Error>;

    /// Metrics over all rows that were done, in row order; the first becomes
    /// the loss. See [`crate::metrics`].
    ///
    /// # Errors
    /// When nothing can be said, or the model fails a gate.
    fn aggregate(config: &Self::Config, samples: &[Vec<Measure>]) -> Result<Vec<Metric>, Error>;
}

/// What a row wants next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step<State> {
    /// Ask the model, and continue with this state.
    Ask(State, Vec<Request>),
    /// The row is finished.
    Done(Vec<Measure>),
    /// The row does not count, and why.
    Skip(String),
}

impl<State> Step<State> {
    /// Asks the model.
    pub fn ask(state: State, requests: impl IntoIterator<Item = Request>) -> Self {
        Step::Ask(state, requests.into_iter().collect())
    }
}

/// For tasks that have nothing to configure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}
