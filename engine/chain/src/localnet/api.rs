//! The runtime's functions that clients call by name.

use parity_scale_codec::Encode;
use subxt::dynamic::Value;

use super::runtime::RuntimeError;
use super::state::Snapshot;
use super::storage::{account, bonding, emission, incentive, is_active, registration};
use super::value::{as_account, as_number, as_numbers, list, none, number, numbers, some, truths};
use crate::local::state::{Registered, Whole};
use crate::mechanism::storage_index;

/// What functions that name no mechanism tell of.
const FIRST_MECHANISM: u8 = 0;

/// Why a function gave nothing. Reads after "failed to ...".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No such function, or none that is simulated.
    #[error("Exported method {0} is not found")]
    Unknown(String),
    /// See [`RuntimeError`].
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

/// Calls a function on the state of a block.
pub fn call(now: &Snapshot, function: &str, arguments: &[u8]) -> Result<Vec<u8>, CallError> {
    let runtime = &now.runtime;
    let unknown = || CallError::Unknown(function.to_owned());
    let (api, method) = function.split_once('_').ok_or_else(unknown)?;
    let result = match (api, method) {
        ("Metadata", "metadata_versions") => {
            return Ok(runtime.metadata_versions().collect::<Vec<u32>>().encode());
        }
        ("Metadata", "metadata_at_version") => {
            let version = runtime.api_arguments(api, method, arguments)?;
            let version = version.first().and_then(as_number);
            let bytes = version.and_then(|version| runtime.encoded_metadata(version));
            return Ok(bytes.map(<[u8]>::to_vec).encode());
        }
        ("Metadata", "metadata") => {
            return Ok(runtime.encoded_metadata(14).unwrap_or_default().encode());
        }
        ("TransactionPaymentApi", "query_info") => Value::named_composite([
            ("weight", weight()),
            ("class", Value::unnamed_variant("Normal", [])),
            ("partial_fee", number(0_u8)),
        ]),
        ("Core", "version") => runtime.version().clone(),
        _ => {
            let arguments = runtime.api_arguments(api, method, arguments)?;
            answer(now, api, method, &arguments)?.ok_or_else(unknown)?
        }
    };
    Ok(runtime.api_result(api, method, &result)?)
}

fn weight() -> Value {
    Value::named_composite([("ref_time", number(0_u8)), ("proof_size", number(0_u8))])
}

/// What a function of the subnets returns; none where there is no such function.
fn answer(
    now: &Snapshot,
    api: &str,
    method: &str,
    arguments: &[Value],
) -> Result<Option<Value>, RuntimeError> {
    let first = arguments.first();
    let is_subnet = first.and_then(as_number) == Some(now.subnet.netuid);
    let of_subnet = |value: Value| if is_subnet { some(value) } else { none() };
    let mechanism = arguments.get(1).and_then(as_number::<u8>);
    let mechanism = mechanism.filter(|one| is_subnet && now.subnet.mechanisms.has(*one));
    Ok(Some(match (api, method) {
        ("AuraApi", "slot_duration") => number(now.block_time_ms),
        ("AccountNonceApi", "account_nonce") => {
            number(first.and_then(as_account).map_or(0, |account| now.nonce(&account)))
        }
        ("SubnetInfoRuntimeApi", "get_metagraph") => {
            of_subnet(Value::named_composite(metagraph(now, FIRST_MECHANISM)))
        }
        ("SubnetInfoRuntimeApi", "get_mechagraph") => {
            mechanism.map_or_else(none, |mechanism| some(mechagraph(now, mechanism)))
        }
        ("SubnetInfoRuntimeApi", "get_all_mechagraphs") => {
            list((0..now.subnet.mechanisms.count()).map(|one| some(mechagraph(now, one))))
        }
        ("SubnetInfoRuntimeApi", "get_all_metagraphs") => {
            list([some(Value::named_composite(metagraph(now, FIRST_MECHANISM)))])
        }
        ("SubnetInfoRuntimeApi", "get_selective_metagraph") => {
            let wanted = arguments.get(1).and_then(as_numbers).unwrap_or_default();
            of_subnet(selective(now, FIRST_MECHANISM, method, &wanted)?)
        }
        ("SubnetInfoRuntimeApi", "get_selective_mechagraph") => {
            let wanted = arguments.get(2).and_then(as_numbers).unwrap_or_default();
            match mechanism {
                Some(mechanism) => some(selective(now, mechanism, method, &wanted)?),
                None => none(),
            }
        }
        (
            "SubnetInfoRuntimeApi",
            "get_subnet_hyperparams"
            | "get_subnet_hyperparams_v2"
            | "get_subnet_info"
            | "get_subnet_info_v2"
            | "get_dynamic_info"
            | "get_subnet_state",
        ) => of_subnet(everything(now)),
        ("SubnetInfoRuntimeApi", "get_all_dynamic_info") => list([some(everything(now))]),
        ("SubnetInfoRuntimeApi", "get_next_epoch_start_block") => {
            of_subnet(number(now.state.next_epoch(&now.subnet)))
        }
        ("NeuronInfoRuntimeApi", "get_neurons" | "get_neurons_lite") => {
            let neurons = now.state.ledger.neurons.iter().enumerate();
            let neurons = neurons.map(|(uid, one)| neuron(now, uid, one));
            if is_subnet { list(neurons) } else { list([]) }
        }
        ("NeuronInfoRuntimeApi", "get_neuron" | "get_neuron_lite") => {
            let uid: Option<usize> = arguments.get(1).and_then(as_number);
            let found = uid.and_then(|uid| Some((uid, now.state.ledger.neurons.get(uid)?)));
            found.map_or_else(none, |(uid, one)| of_subnet(neuron(now, uid, one)))
        }
        ("SwapRuntimeApi", "current_alpha_price") => number(crate::local::UNITS_PER_TOKEN),
        _ => return Ok(None),
    }))
}

/// What the subnet is in its first mechanism, and its parameters.
fn everything(now: &Snapshot) -> Value {
    Value::named_composite(metagraph(now, FIRST_MECHANISM).into_iter().chain(parameters(now)))
}

/// The metagraph of a mechanism. Its netuid is the key of what the mechanism has
/// of its own, as in the runtime.
fn mechagraph(now: &Snapshot, mechanism: u8) -> Value {
    let index = storage_index(now.subnet.netuid, mechanism);
    let fields = metagraph(now, mechanism).into_iter();
    Value::named_composite(fields.map(|(name, value)| match name {
        "netuid" => (name, number(index)),
        _ => (name, value),
    }))
}

/// A metagraph of which only some fields are wanted, by their place.
fn selective(
    now: &Snapshot,
    mechanism: u8,
    method: &str,
    wanted: &[u16],
) -> Result<Value, RuntimeError> {
    let names = now.runtime.api_result_fields("SubnetInfoRuntimeApi", method)?;
    let fields = metagraph(now, mechanism).into_iter().chain(selective_only(now));
    let mut fields: Vec<(&str, Value)> = fields.collect();
    let values = names.into_iter().enumerate().map(|(place, name)| {
        let is_wanted = wanted.iter().any(|one| usize::from(*one) == place);
        let found = fields.iter_mut().find(|(one, _)| *one == name);
        let value = match found {
            // The first field says which subnet it is, wanted or not.
            Some((_, value)) if place == 0 => value.clone(),
            Some((_, value)) if is_wanted => some(std::mem::replace(value, none())),
            _ => none(),
        };
        (name, value)
    });
    Ok(Value::named_composite(values))
}

/// A vector of text as the metagraph has it.
fn text(text: &str) -> Value {
    Value::from_bytes(text)
}

/// Everything that a metagraph says of a mechanism, by the names of its fields;
/// those that nothing here stands for are 0.
fn metagraph(now: &Snapshot, mechanism: u8) -> Vec<(&'static str, Value)> {
    let (subnet, state) = (&now.subnet, &now.state);
    let (rules, ledger) = (&subnet.epoch, &state.ledger);
    let neurons = &ledger.neurons;
    let (_, liquid_alpha) = bonding(subnet);
    let zero = || number(0_u8);
    let accounts = |of: fn(&Snapshot, &Registered) -> [u8; 32]| {
        list(neurons.iter().map(|one| Value::from_bytes(of(now, one))))
    };
    let whole = |value: fn(&Whole) -> u16| {
        numbers(neurons.iter().map(move |one| one.whole.as_ref().map_or(0, value)))
    };
    let stakes = || numbers(neurons.iter().map(|one| ledger.stake(&one.hotkey)));
    let owner = rules.owner.and_then(|uid| neurons.get(usize::from(uid)));
    let owner_hotkey = Value::from_bytes(owner.map_or([0; 32], |one| hotkey(now, one)));
    let owner_coldkey = Value::from_bytes(owner.map_or([0; 32], |one| coldkey(now, one)));
    let since = state.block - state.last_epoch;
    let (alpha_low, alpha_high) = DEFAULT_ALPHA;
    vec![
        ("netuid", number(subnet.netuid)),
        ("name", text("local")),
        ("symbol", text("L")),
        ("identity", none()),
        ("network_registered_at", zero()),
        ("owner_hotkey", owner_hotkey),
        ("owner_coldkey", owner_coldkey),
        ("block", number(state.block)),
        ("tempo", number(rules.tempo_blocks)),
        ("last_step", number(state.last_epoch)),
        ("blocks_since_last_step", number(since)),
        ("subnet_emission", zero()),
        ("alpha_in", zero()),
        ("alpha_out", zero()),
        ("tao_in", zero()),
        ("alpha_out_emission", number(subnet.emission_per_block)),
        ("alpha_in_emission", zero()),
        ("tao_in_emission", zero()),
        ("pending_alpha_emission", number(state.pending)),
        ("pending_root_emission", zero()),
        ("subnet_volume", zero()),
        ("moving_price", Value::named_composite([("bits", zero())])),
        ("rho", number(10_u8)),
        ("kappa", number(rules.kappa)),
        ("min_allowed_weights", number(subnet.min_weights)),
        ("max_weights_limit", number(subnet.max_weight)),
        ("weights_version", number(subnet.weights_version)),
        ("weights_rate_limit", number(subnet.rate_limit_blocks)),
        ("activity_cutoff", number(rules.activity_cutoff_blocks)),
        ("max_validators", number(rules.max_validators)),
        ("num_uids", number(neurons.len() as u16)),
        ("max_uids", number(subnet.max_neurons)),
        ("burn", zero()),
        ("difficulty", zero()),
        ("registration_allowed", Value::bool(true)),
        ("pow_registration_allowed", Value::bool(true)),
        ("immunity_period", number(subnet.immunity_blocks)),
        ("min_difficulty", zero()),
        ("max_difficulty", zero()),
        ("min_burn", zero()),
        ("max_burn", zero()),
        ("adjustment_alpha", zero()),
        ("adjustment_interval", number(100_u8)),
        ("target_regs_per_interval", number(1_u8)),
        ("max_regs_per_block", number(1_u8)),
        ("serving_rate_limit", zero()),
        ("commit_reveal_weights_enabled", Value::bool(subnet.commit_reveal)),
        ("commit_reveal_period", number(subnet.reveal_period_epochs)),
        ("liquid_alpha_enabled", Value::bool(liquid_alpha.is_some())),
        ("alpha_high", number(alpha_high)),
        ("alpha_low", number(alpha_low)),
        ("bonds_moving_avg", number(rules.bonds_moving_average)),
        ("hotkeys", accounts(hotkey)),
        ("coldkeys", accounts(coldkey)),
        ("identities", list(neurons.iter().map(|_| none()))),
        ("axons", list(neurons.iter().map(|_| axon()))),
        ("active", truths(neurons.iter().map(|one| is_active(one, now)))),
        ("validator_permit", truths(neurons.iter().map(|one| one.validator_permit))),
        ("pruning_score", list([])),
        ("last_update", numbers(neurons.iter().map(|one| one.last_update(mechanism)))),
        ("emission", numbers(neurons.iter().map(emission))),
        ("dividends", whole(|one| one.dividends)),
        ("incentives", numbers(neurons.iter().map(|one| incentive(one, mechanism)))),
        ("consensus", whole(|one| one.consensus)),
        ("trust", list([])),
        ("rank", list([])),
        ("block_at_registration", numbers(neurons.iter().map(|one| one.registered_at))),
        ("alpha_stake", stakes()),
        ("tao_stake", numbers(neurons.iter().map(|_| 0_u64))),
        ("total_stake", stakes()),
        ("tao_dividends_per_hotkey", list([])),
        ("alpha_dividends_per_hotkey", list([])),
    ]
}

/// The chain's own bounds, of 65535, where the subnet has none.
const DEFAULT_ALPHA: (u16, u16) = (45_875, 58_982);

/// What only a metagraph of chosen fields says.
fn selective_only(now: &Snapshot) -> [(&'static str, Value); 2] {
    let neurons = now.state.ledger.neurons.iter();
    let validators = (0_u16..).zip(neurons.clone()).filter(|(_, one)| one.validator_permit);
    let commitments = neurons.filter_map(|one| {
        let bytes = registration(now, &one.hotkey);
        let who = account(&one.hotkey)?;
        let pair = [Value::from_bytes(who), Value::from_bytes(&bytes)];
        (!bytes.is_empty()).then(|| list(pair))
    });
    [("validators", numbers(validators.map(|(uid, _)| uid))), ("commitments", list(commitments))]
}

/// What lists of parameters say beside what a metagraph does.
fn parameters(now: &Snapshot) -> Vec<(&'static str, Value)> {
    let subnet = &now.subnet;
    let (is_yuma3, _) = bonding(subnet);
    let zero = || number(0_u8);
    vec![
        ("alpha_sigmoid_steepness", Value::named_composite([("bits", zero())])),
        ("yuma_version", number(if is_yuma3 { 3_u8 } else { 2 })),
        ("subnet_is_active", Value::bool(true)),
        ("transfers_enabled", Value::bool(true)),
        ("bonds_reset_enabled", Value::bool(false)),
        ("user_liquidity_enabled", Value::bool(false)),
        ("max_allowed_validators", number(subnet.epoch.max_validators)),
        ("scaling_law_power", number(50_u8)),
        ("subnetwork_n", number(now.state.ledger.neurons.len() as u16)),
        ("max_allowed_uids", number(subnet.max_neurons)),
        ("network_modality", zero()),
        ("network_connect", list([])),
        ("emission_values", zero()),
        ("emission_value", zero()),
        ("owner", Value::from_bytes([0; 32])),
        ("subnet_name", text("local")),
        ("token_symbol", text("L")),
        ("subnet_identity", none()),
        ("emission_history", list([])),
    ]
}

fn hotkey(_: &Snapshot, one: &Registered) -> [u8; 32] {
    account(&one.hotkey).unwrap_or_default()
}

/// Who owns a neuron; a hotkey of nobody owns itself.
fn coldkey(now: &Snapshot, one: &Registered) -> [u8; 32] {
    let coldkey = now.state.ledger.coldkeys.get(&one.hotkey);
    coldkey.and_then(|coldkey| account(coldkey)).unwrap_or_else(|| hotkey(now, one))
}

/// Nobody can be reached.
fn axon() -> Value {
    let names =
        ["block", "version", "ip", "port", "ip_type", "protocol", "placeholder1", "placeholder2"];
    Value::named_composite(names.map(|name| (name, number(0_u8))))
}

fn neuron(now: &Snapshot, uid: usize, one: &Registered) -> Value {
    let ledger = &now.state.ledger;
    let whole = |value: fn(&Whole) -> u16| number(one.whole.as_ref().map_or(0, value));
    let own = one.in_mechanism(FIRST_MECHANISM);
    let pairs = |pairs: Option<&Vec<(u16, u16)>>| {
        list(pairs.into_iter().flatten().map(|&(uid, share)| numbers([uid, share])))
    };
    let owner = coldkey(now, one);
    let stake = list([list([Value::from_bytes(owner), number(ledger.stake(&one.hotkey))])]);
    Value::named_composite([
        ("hotkey", Value::from_bytes(hotkey(now, one))),
        ("coldkey", Value::from_bytes(owner)),
        ("uid", number(uid as u16)),
        ("netuid", number(now.subnet.netuid)),
        ("active", Value::bool(is_active(one, now))),
        ("axon_info", axon()),
        ("prometheus_info", axon()),
        ("stake", stake),
        ("rank", number(0_u8)),
        ("emission", number(emission(one))),
        ("incentive", number(incentive(one, FIRST_MECHANISM))),
        ("consensus", whole(|one| one.consensus)),
        ("trust", number(0_u8)),
        ("validator_trust", whole(|one| one.validator_trust)),
        ("dividends", whole(|one| one.dividends)),
        ("last_update", number(one.last_update(FIRST_MECHANISM))),
        ("validator_permit", Value::bool(one.validator_permit)),
        ("weights", pairs(own.map(|own| &own.weights))),
        ("bonds", pairs(own.map(|own| &own.bonds))),
        ("pruning_score", number(0_u8)),
    ])
}
