//! The kit to write a task plugin in Rust.
//!
//! This crate exists so that the author of a plugin meets typed rows,
//! configuration and states instead of the ABI in `plugins/wit`. It is compiled
//! for WebAssembly, and therefore shares no code with the engine.

/// A task as its author writes it.
pub trait Task {
    /// Configuration, read from the competition's JSON.
    type Config;
    /// What a row remembers between two rounds of questions.
    type State;
    /// A question to the model, and its answer.
    type Request;
    /// See [`Task::Request`].
    type Response;
    /// A number measured on a row.
    type Measure;
    /// Why the task could not go on.
    type Error;

    /// The first questions about rows `start .. start + count`; fewer when
    /// there are no more rows.
    fn build(config: &Self::Config, start: u32, count: u32)
    -> Result<Vec<Step<Self>>, Self::Error>;

    /// What follows from the answers about one row.
    fn score(
        config: &Self::Config,
        state: Self::State,
        responses: &[Self::Response],
    ) -> Result<Step<Self>, Self::Error>;
}

/// What a row wants next.
pub enum Step<T: Task + ?Sized> {
    /// Ask the model, and continue with this state.
    Ask(T::State, Vec<T::Request>),
    /// The row is finished.
    Done(Vec<T::Measure>),
    /// The row does not count, and why.
    Skip(String),
}
