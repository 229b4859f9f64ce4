//! Between a [`Task`] and the ABI. Plugins use it through [`crate::export`].

use std::marker::PhantomData;
use std::sync::Once;

use serde::de::DeserializeOwned;

use crate::bindings::evaltasks::task::host as imports;
use crate::bindings::evaltasks::task::types as wit;
use crate::bindings::exports::evaltasks::task::task::Guest;
use crate::host::Engine;
use crate::{Error, Measure, Metric, Plan, Response, Step, Task};

/// A task as the engine sees it.
pub struct Component<T>(PhantomData<T>);

/// Makes a [`Task`] the plugin of this crate.
#[macro_export]
macro_rules! export {
    ($task:ty) => {
        // Elsewhere there is nobody to export to.
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Exported = $crate::guest::Component<$task>;
    $crate::bindings::export_component!(Exported with_types_in $crate::bindings);
        };
    };
}

impl<T: Task> Guest for Component<T> {
    fn describe() -> wit::Info {
        report_panics();
        info::<T>()
    }

    fn prepare(config: String) -> Result<Plan, Error> {
        report_panics();
        T::prepare(&parse(&config)?)
    }

    fn build(config: String, start: u32, count: u32) -> Result<Vec<wit::Step>, Error> {
        report_panics();
        let steps = T::build(&Engine, &parse(&config)?, start, count)?;
        steps.into_iter().map(step).collect()
    }

    fn score(config: String, state: Vec<u8>, responses: Vec<Response>) -> Result<wit::Step, Error> {
        report_panics();
        let state = serde_json::from_slice(&state)
            .map_err(|error| Error::Internal(format!("a row's state cannot be read: {error}")))?;
        step(T::score(&Engine, &parse(&config)?, state, &responses)?)
    }

    fn aggregate(config: String, samples: Vec<Vec<Measure>>) -> Result<Vec<Metric>, Error> {
        report_panics();
        T::aggregate(&parse(&config)?, &samples)
    }
}

/// What a task says of itself.
pub fn info<T: Task>() -> wit::Info {
    wit::Info {
        id: T::ID.to_owned(),
        version: T::VERSION.to_owned(),
        summary: T::SUMMARY.to_owned(),
        config_schema: schemars::schema_for!(T::Config).as_value().to_string(),
        operations: T::OPERATIONS.iter().map(|&name| name.to_owned()).collect(),
        max_rounds: T::MAX_ROUNDS,
    }
}

/// Reads a configuration.
pub fn parse<Config: DeserializeOwned>(config: &str) -> Result<Config, Error> {
    serde_json::from_str(config).map_err(|error| Error::Config(error.to_string()))
}

fn step<State: serde::Serialize>(step: Step<State>) -> Result<wit::Step, Error> {
    Ok(match step {
        Step::Ask(state, requests) => {
            let state = serde_json::to_vec(&state).map_err(|error| {
                Error::Internal(format!("a row's state cannot be kept: {error}"))
            })?;
            wit::Step::Ask(wit::Ask { state, requests })
        }
        Step::Done(measures) => wit::Step::Done(measures),
        Step::Skip(reason) => wit::Step::Skip(reason),
    })
}

/// Lets the host know what a panic says, before it ends the call.
fn report_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(|panic| imports::log(0, &panic.to_string())));
    });
}
