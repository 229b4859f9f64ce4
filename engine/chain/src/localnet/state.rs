//! What the chain is after a block, and what happened in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use subxt::dynamic::Value;

use super::blocks::Hash;
use super::runtime::{Runtime, RuntimeError};
use super::value::{list, number};
use crate::beacon::round_at;
use crate::local::LocalSubnet;
use crate::local::state::State;

/// The chain after a block.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub subnet: LocalSubnet,
    pub state: State,
    /// Of accounts that have signed anything.
    pub nonces: Arc<BTreeMap<[u8; 32], u32>>,
    pub timestamp_ms: u64,
    /// Between two blocks.
    pub block_time_ms: u64,
    /// The SCALE bytes of what happened in the block.
    pub events: Vec<u8>,
    pub parent: Hash,
    /// What reads this state and makes the next block.
    pub runtime: Arc<Runtime>,
}

impl Snapshot {
    /// The nonce that an account's next extrinsic has.
    pub fn nonce(&self, account: &[u8; 32]) -> u32 {
        self.nonces.get(account).copied().unwrap_or(0)
    }

    /// The beacon's newest round.
    pub fn round(&self) -> u64 {
        round_at(self.timestamp_ms)
    }

    /// Counts an extrinsic of an account.
    pub fn use_nonce(&mut self, account: &[u8; 32]) {
        let nonce = Arc::make_mut(&mut self.nonces).entry(*account).or_default();
        *nonce = nonce.saturating_add(1);
    }
}

/// Something that the chain tells of.
#[derive(Clone, Debug, PartialEq)]
pub struct Event(Value);

impl Event {
    /// Of a pallet whose events name what they hold.
    pub fn named<const COUNT: usize>(
        pallet: &str,
        name: &str,
        fields: [(&str, Value); COUNT],
    ) -> Event {
        Event(Value::unnamed_variant(pallet, [Value::named_variant(name, fields)]))
    }

    /// Of the pallet of the subnets, whose events name nothing.
    pub fn of_subtensor<const COUNT: usize>(name: &str, fields: [Value; COUNT]) -> Event {
        let event = Value::unnamed_variant(name, fields);
        Event(Value::unnamed_variant("SubtensorModule", [event]))
    }

    /// The extrinsic did what it should.
    pub fn success() -> Event {
        Event::named("System", "ExtrinsicSuccess", [("dispatch_info", dispatch_info())])
    }

    /// The extrinsic did nothing.
    pub fn failure(error: Value) -> Event {
        let fields = [("dispatch_error", error), ("dispatch_info", dispatch_info())];
        Event::named("System", "ExtrinsicFailed", fields)
    }
}

/// Nothing is weighed, and nobody pays.
fn dispatch_info() -> Value {
    let zero = || number(0_u8);
    Value::named_composite([
        ("weight", Value::named_composite([("ref_time", zero()), ("proof_size", zero())])),
        ("class", Value::unnamed_variant("Normal", [])),
        ("pays_fee", Value::unnamed_variant("No", [])),
    ])
}

/// When in a block something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Before the first extrinsic.
    Initialization,
    /// In the extrinsic of this place.
    Extrinsic(u32),
}

/// The bytes of all that happened in a block.
pub fn encode_events(
    events: impl IntoIterator<Item = (Phase, Event)>,
    runtime: &Runtime,
) -> Result<Vec<u8>, RuntimeError> {
    let record = |(phase, Event(event)): (Phase, Event)| {
        let phase = match phase {
            Phase::Initialization => Value::unnamed_variant("Initialization", []),
            Phase::Extrinsic(index) => Value::unnamed_variant("ApplyExtrinsic", [number(index)]),
        };
        Value::named_composite([("phase", phase), ("event", event), ("topics", list([]))])
    };
    let records = list(events.into_iter().map(record));
    runtime.storage_value("System", "Events", &records)
}
