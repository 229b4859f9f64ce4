use std::borrow::Cow;

/// Any error of the client below, with its chain of sources.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why the chain could not be read. Reads after "failed to ...".
#[derive(Debug, thiserror::Error)]
pub enum SubtensorError {
    /// No network's name, and no URL.
    #[error("use {text:?} as an endpoint of the chain: {problem}")]
    Endpoint {
        /// What was given.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// None, or too many.
    #[error("use {0} endpoints of the chain: there must be between 1 and {max}", max = crate::limits::MAX_ENDPOINTS)]
    Endpoints(usize),
    /// The system gives no threads.
    #[error("start the chain's client")]
    Start(#[source] std::io::Error),
    /// The client was stopped, or a part of it has failed.
    #[error("use the chain's client: it has stopped")]
    Stopped,
    /// Nobody answers there.
    #[error("connect to {endpoint}")]
    Connect {
        /// Where.
        endpoint: String,
        /// Why.
        source: Cause,
    },
    /// The endpoints are of two chains.
    #[error(
        "use {endpoint}: its chain begins with block {found}, and that of another endpoint with {expected}"
    )]
    OtherChain {
        /// Where.
        endpoint: String,
        /// Hash of its first block.
        found: String,
        /// Hash of the first block of the endpoint that answered first.
        expected: String,
    },
    /// It takes too long.
    #[error("read {what} from {endpoint}: no answer in {seconds} s")]
    Silent {
        /// What was asked.
        what: &'static str,
        /// Whom.
        endpoint: String,
        /// For how long.
        seconds: u64,
    },
    /// All were tried, more than once.
    #[error("reach the chain: no endpoint is of use, and each was tried {rounds} times")]
    Unreachable {
        /// How often.
        rounds: u32,
        /// What the last one did.
        source: Box<SubtensorError>,
    },
    /// The node says no, or something that is no answer.
    #[error("read {what} of the chain")]
    Read {
        /// What was asked.
        what: Cow<'static, str>,
        /// What was said.
        source: Cause,
    },
    /// The runtime has no such item, or has it in another form.
    #[error("read {item} of the chain: the runtime has none")]
    Missing {
        /// Its name in the metadata.
        item: Cow<'static, str>,
    },
    /// What cannot be.
    #[error("read {item} of the chain: {problem}")]
    Malformed {
        /// What was read.
        item: Cow<'static, str>,
        /// What is wrong with it.
        problem: String,
    },
    /// A block that may still be replaced, or is not there.
    #[error("read block {block}: the last block that is final is {last}")]
    NotFinal {
        /// Which.
        block: u64,
        /// The last.
        last: u64,
    },
    /// Not one of the subnet's.
    #[error("find mechanism {mechanism} of subnet {netuid}: it has {count}, which begin with 0")]
    NoMechanism {
        /// Which.
        mechanism: u8,
        /// Of which subnet.
        netuid: u16,
        /// How many there are.
        count: u8,
    },
    /// There is nothing to sign with.
    #[error("sign for the chain: no hotkey was given")]
    NoHotkey,
}

impl SubtensorError {
    /// Of what was asked, and what came of it.
    pub fn read(what: impl Into<Cow<'static, str>>, source: impl Into<Cause>) -> SubtensorError {
        SubtensorError::Read { what: what.into(), source: source.into() }
    }

    /// Whether another endpoint would say the same.
    pub(crate) fn is_certain(&self) -> bool {
        matches!(
            self,
            SubtensorError::Missing { .. }
                | SubtensorError::NotFinal { .. }
                | SubtensorError::NoMechanism { .. }
                | SubtensorError::NoHotkey
        )
    }
}
