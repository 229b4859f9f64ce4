use std::ops::Range;

use evaltasks_core::task::TaskError;

/// Why a file is no plugin. Reads after "failed to ...".
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The file cannot be read.
    #[error("read the plugin {path}")]
    Read {
        /// Which file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// No component is so large.
    #[error("read the plugin: it has more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// It is another file than the competition means.
    #[error("trust the plugin: its SHA-256 is {found}, and the competition pins {pinned}")]
    Digest {
        /// Of the file.
        found: String,
        /// In the competition.
        pinned: String,
    },
    /// A module has no typed interface.
    #[error(
        "load the plugin: it is a core WebAssembly module, not a component; \
         `evaltasks plugin build` makes one"
    )]
    CoreModule,
    /// It is something else altogether, or broken.
    #[error("read the plugin as a WebAssembly component: {0}")]
    NotAComponent(String),
    /// It wants more of the world than a task may see.
    #[error(
        "load the plugin: it imports `{name}`, and a plugin may import nothing but `evaltasks:task`"
    )]
    ForbiddenImport {
        /// What it wants.
        name: String,
    },
    /// It is a component, but no task.
    #[error("load the plugin: it does not export `evaltasks:task/task`")]
    NoTask,
    /// It was made for another engine.
    #[error(
        "load the plugin: it speaks evaltasks:task {plugin}, and this engine speaks {engine}; {advice}"
    )]
    Version {
        /// Of the plugin.
        plugin: semver::Version,
        /// Of the engine.
        engine: semver::Version,
        /// What to do.
        advice: &'static str,
    },
    /// Its code is not valid, or its interface is another one.
    #[error("compile the plugin: {0}")]
    Compile(String),
    /// A core module does not fit the ABI.
    #[error("make a component of the module: {0}")]
    Componentize(String),
    /// The competition wants to give it more than the operator allows.
    #[error(
        "load the plugin: the limit {name} is {value}, over the operator's ceiling of {ceiling}"
    )]
    Ceiling {
        /// Name of the limit.
        name: &'static str,
        /// In the competition.
        value: u64,
        /// The operator's.
        ceiling: u64,
    },
    /// Its description cannot be used.
    #[error("use what the plugin says of itself: {0}")]
    Description(String),
    /// It failed while it described itself.
    #[error(transparent)]
    Call(#[from] Box<CallError>),
    /// This machine is at fault.
    #[error("start the plugin runtime: {0}")]
    Runtime(String),
}

/// A call that a plugin did not survive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plugin {plugin}: {export}{}: {fault}{}", rows_text(rows), said_text(said))]
pub struct CallError {
    /// Id and version of the plugin, or its digest before those are known.
    pub plugin: String,
    /// Which of its functions was called.
    pub export: &'static str,
    /// Rows that were asked for, where the call was about several.
    pub rows: Option<Range<u32>>,
    /// What went wrong.
    pub fault: Fault,
    /// The last thing that the plugin logged as an error in this call, such as
    /// the text of a panic.
    pub said: Option<String>,
}

/// What can go wrong in a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The deterministic limit.
    #[error("used up its fuel of {limit}")]
    Fuel {
        /// The limit.
        limit: u64,
    },
    /// The backstop.
    #[error("took more than {limit_ms} ms")]
    Time {
        /// The limit.
        limit_ms: u64,
    },
    /// A limit on what it holds or hands over.
    #[error("wants more than {limit} {what}")]
    Limit {
        /// Units and name of the limit.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A WebAssembly trap.
    #[error("trapped: {reason}{}", frames_text(frames))]
    Trap {
        /// Class of the trap.
        reason: String,
        /// Names of the functions on the stack, innermost first.
        frames: Vec<String>,
    },
    /// What it handed over breaks the rules of the ABI or of the limits.
    #[error("{0}")]
    Output(String),
    /// It does not start.
    #[error("cannot be started: {0}")]
    Start(String),
    /// It called a function of the host where that has no meaning.
    #[error("called `{0}`, which only answers in `build` and `score`")]
    NoHost(&'static str),
    /// Earlier rows of the shard used up the patience.
    #[error("was not called: {0} rows of the shard failed before")]
    GivenUp(usize),
    /// The engine itself is at fault.
    #[error("the plugin runtime failed: {0}")]
    Runtime(String),
}

impl From<Box<CallError>> for TaskError {
    fn from(error: Box<CallError>) -> Self {
        TaskError::Internal(error.to_string())
    }
}

fn rows_text(rows: &Option<Range<u32>>) -> String {
    rows.as_ref().map_or_else(String::new, |rows| format!(" of rows {}..{}", rows.start, rows.end))
}

fn said_text(said: &Option<String>) -> String {
    said.as_ref().map_or_else(String::new, |said| format!("; it said: {said}"))
}

fn frames_text(frames: &[String]) -> String {
    match frames {
        [] => String::new(),
        frames => format!(" (in {})", frames.join(" < ")),
    }
}
