//! The calls that are understood, and what they do.

use evaltasks_core::chain::WeightsRefusal;
use subxt::dynamic::Value;
use subxt::ext::scale_value::ValueDef;

use super::blocks::blake2_256;
use super::extrinsic::Arguments;
use super::runtime::Runtime;
use super::state::{Event, Snapshot};
use super::value::{as_numbers, number};
use crate::Address;
use crate::local::commits::CommitCall;
use crate::local::{LocalChainError, WeightsCall};
use crate::mechanism::storage_index;

/// What somebody asks the chain for.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// `set_weights` and `set_mechanism_weights`.
    SetWeights { netuid: u16, mechanism: u8, uids: Vec<u16>, weights: Vec<u16>, version_key: u64 },
    /// `commit_timelocked_weights` and `commit_timelocked_mechanism_weights`.
    CommitWeights { netuid: u16, mechanism: u8, ciphertext: Vec<u8>, round: u64, version: u16 },
    /// `set_commitment`.
    SetCommitment {
        netuid: u16,
        /// The bytes of all its fields.
        data: Vec<u8>,
        /// As it was sent.
        info: Vec<u8>,
    },
    /// `burned_register` and `register`: free, and without work.
    Register { netuid: u16, hotkey: [u8; 32] },
    /// `add_stake`: as much stake as there was money.
    AddStake { hotkey: [u8; 32], units: u64 },
    /// `remark` and `remark_with_event`.
    Remark { with_event: Option<Vec<u8>> },
    /// All others.
    Unknown,
}

/// Why a call did nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pallet: &'static str,
    error: String,
}

impl Refusal {
    fn of_subtensor(error: impl Into<String>) -> Refusal {
        Refusal { pallet: "SubtensorModule", error: error.into() }
    }

    fn of_commitments(error: &str) -> Refusal {
        Refusal { pallet: "Commitments", error: error.to_owned() }
    }

    /// As the runtime encodes it; runtimes that have no such error say nothing
    /// of it.
    pub fn dispatch_error(&self, runtime: &Runtime) -> Value {
        let error = runtime.module_error(self.pallet, &self.error);
        error.unwrap_or_else(|_| Value::unnamed_variant("Other", []))
    }
}

impl From<WeightsRefusal> for Refusal {
    fn from(refusal: WeightsRefusal) -> Refusal {
        Refusal::of_subtensor(refusal.name())
    }
}

impl From<LocalChainError> for Refusal {
    fn from(error: LocalChainError) -> Refusal {
        use LocalChainError as L;
        match error {
            L::AlreadyRegistered { .. } => Refusal::of_subtensor("HotKeyAlreadyRegisteredInSubNet"),
            L::NoPlace => Refusal::of_subtensor("NoNeuronIdAvailable"),
            L::NotRegistered { .. } => Refusal::of_commitments("AccountNotAllowedCommit"),
            L::CommitmentTooLong { .. } | L::NoState { .. } => {
                Refusal::of_commitments("SpaceLimitExceeded")
            }
        }
    }
}

impl Call {
    /// Understands a call; `info` are the bytes of its argument of that name.
    pub fn read(pallet: &str, call: &str, arguments: &Arguments, info: Option<Vec<u8>>) -> Call {
        let understood = match (pallet, call) {
            ("SubtensorModule", "set_weights" | "set_mechanism_weights") => weights(arguments),
            (
                "SubtensorModule",
                "commit_timelocked_weights" | "commit_timelocked_mechanism_weights",
            ) => commit(arguments),
            ("SubtensorModule", "burned_register" | "register") => register(arguments),
            ("SubtensorModule", "add_stake") => stake(arguments),
            ("Commitments", "set_commitment") => commitment(arguments, info),
            ("System", "remark") => Some(Call::Remark { with_event: None }),
            ("System", "remark_with_event") => {
                arguments.numbers("remark").map(|bytes| Call::Remark { with_event: Some(bytes) })
            }
            _ => None,
        };
        understood.unwrap_or(Call::Unknown)
    }

    /// Whether it sets weights in any form.
    pub fn sets_weights(&self) -> bool {
        matches!(self, Call::SetWeights { .. } | Call::CommitWeights { .. })
    }

    /// The round of the beacon that opens what is committed.
    pub fn reveal_round(&self) -> Option<u64> {
        match self {
            Call::CommitWeights { round, .. } => Some(*round),
            _ => None,
        }
    }

    /// Does it, and says what happened, or why nothing did.
    pub fn apply(&self, signer: &[u8; 32], now: &mut Snapshot) -> Result<Vec<Event>, Refusal> {
        let hotkey = Address(*signer).to_string();
        let subnet = now.subnet;
        match self {
            Call::SetWeights { netuid, mechanism, uids, weights, version_key } => {
                let call = WeightsCall {
                    netuid: *netuid,
                    mechanism: *mechanism,
                    uids,
                    weights,
                    version_key: *version_key,
                };
                now.state.set_weights(&hotkey, &call, &subnet)?;
                let uid = now.state.ledger.uid(&hotkey).unwrap_or_default() as u16;
                let index = storage_index(*netuid, *mechanism);
                Ok(vec![Event::of_subtensor("WeightsSet", [number(index), number(uid)])])
            }
            Call::CommitWeights { netuid, mechanism, ciphertext, round, version } => {
                let call = CommitCall {
                    netuid: *netuid,
                    mechanism: *mechanism,
                    ciphertext,
                    round: *round,
                    version: *version,
                };
                now.state.commit_timelocked(&hotkey, &call, &subnet, now.round())?;
                let hash = Value::from_bytes(blake2_256(ciphertext));
                let index = number(storage_index(*netuid, *mechanism));
                let fields = [Value::from_bytes(signer), index, hash, number(*round)];
                Ok(vec![Event::of_subtensor("TimelockedWeightsCommitted", fields)])
            }
            Call::SetCommitment { netuid, data, info } => {
                if *netuid != subnet.netuid {
                    now.state.take_index();
                    return Err(LocalChainError::NotRegistered { hotkey }.into());
                }
                now.state.commit(&hotkey, data)?;
                now.state.ledger_mut().commitment_info.insert(hotkey, info.clone());
                let who = Value::from_bytes(signer);
                Ok(vec![Event::named(
                    "Commitments",
                    "Commitment",
                    [("netuid", number(*netuid)), ("who", who)],
                )])
            }
            Call::Register { netuid, hotkey } => {
                let name = Address(*hotkey).to_string();
                if *netuid != subnet.netuid {
                    now.state.take_index();
                    return Err(Refusal::of_subtensor("SubnetNotExists"));
                }
                let uid = now.state.register(&name, &subnet)?;
                let coldkey = Address(*signer).to_string();
                now.state.ledger_mut().coldkeys.entry(name).or_insert(coldkey);
                let fields = [number(*netuid), number(uid), Value::from_bytes(hotkey)];
                Ok(vec![Event::of_subtensor("NeuronRegistered", fields)])
            }
            Call::AddStake { hotkey, units } => {
                now.state.take_index();
                let coldkey = Address(*signer).to_string();
                let ledger = now.state.ledger_mut();
                let balance = ledger.balances.get_mut(&coldkey);
                let balance = balance.filter(|balance| **balance >= *units);
                let balance =
                    balance.ok_or_else(|| Refusal::of_subtensor("NotEnoughBalanceToStake"))?;
                *balance -= units;
                let hotkey = Address(*hotkey).to_string();
                let stake = ledger.stakes.entry(hotkey).or_default();
                *stake = stake.saturating_add(*units);
                Ok(Vec::new())
            }
            Call::Remark { with_event } => {
                now.state.take_index();
                let remarked = |remark: &Vec<u8>| {
                    let hash = Value::from_bytes(blake2_256(remark));
                    let sender = Value::from_bytes(signer);
                    Event::named("System", "Remarked", [("sender", sender), ("hash", hash)])
                };
                Ok(with_event.iter().map(remarked).collect())
            }
            Call::Unknown => {
                now.state.take_index();
                Err(Refusal { pallet: "System", error: "CallFiltered".to_owned() })
            }
        }
    }
}

fn weights(arguments: &Arguments) -> Option<Call> {
    Some(Call::SetWeights {
        netuid: arguments.number("netuid")?,
        mechanism: mechanism(arguments)?,
        uids: arguments.numbers("dests")?,
        weights: arguments.numbers("weights")?,
        version_key: arguments.number("version_key")?,
    })
}

fn commit(arguments: &Arguments) -> Option<Call> {
    Some(Call::CommitWeights {
        netuid: arguments.number("netuid")?,
        mechanism: mechanism(arguments)?,
        ciphertext: arguments.numbers("commit")?,
        round: arguments.number("reveal_round")?,
        version: arguments.number("commit_reveal_version")?,
    })
}

/// 0 for calls that name none.
fn mechanism(arguments: &Arguments) -> Option<u8> {
    if arguments.get("mecid").is_some() { arguments.number("mecid") } else { Some(0) }
}

fn register(arguments: &Arguments) -> Option<Call> {
    Some(Call::Register {
        netuid: arguments.number("netuid")?,
        hotkey: arguments.account("hotkey")?,
    })
}

fn stake(arguments: &Arguments) -> Option<Call> {
    Some(Call::AddStake {
        hotkey: arguments.account("hotkey")?,
        units: arguments.number("amount_staked")?,
    })
}

fn commitment(arguments: &Arguments, info: Option<Vec<u8>>) -> Option<Call> {
    let fields = super::runtime::field(arguments.get("info")?, "fields")?;
    let fields = match &fields.value {
        // The list is within a type of one field.
        ValueDef::Composite(outer) => {
            outer.values().next().and_then(|inner| match &inner.value {
                ValueDef::Composite(fields) => Some(fields.values().collect::<Vec<_>>()),
                _ => None,
            })?
        }
        _ => return None,
    };
    let bytes = |field: &&Value| match &field.value {
        ValueDef::Variant(variant) => {
            variant.values.values().next().and_then(as_numbers::<u8>).unwrap_or_default()
        }
        _ => Vec::new(),
    };
    Some(Call::SetCommitment {
        netuid: arguments.number("netuid")?,
        data: fields.iter().flat_map(bytes).collect(),
        info: info?,
    })
}
