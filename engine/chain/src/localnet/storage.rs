//! The chain's state as its clients read it: bytes under keys, made from the
//! subnet in memory when somebody asks.

use std::collections::{BTreeMap, BTreeSet};

use evaltasks_core::yuma::{Bonding, LiquidAlpha};
use parity_scale_codec::{Compact, Encode};
use sha2::{Digest, Sha256};
use subxt::dynamic::Value;

use super::blocks::Blocks;
use super::runtime::{Runtime, RuntimeError};
use super::state::Snapshot;
use super::value::{list, number, numbers, truths};
use crate::Address;
use crate::beacon::{Beacon, GENESIS_MS, PERIOD_MS};
use crate::local::LocalSubnet;
use crate::local::commits::TimelockedCommit;
use crate::local::state::{Registered, Whole};
use crate::mechanism::storage_index;
use crate::timelock::COMMIT_VERSION;

/// Hashes of earlier blocks that are in storage.
const BLOCK_HASHES: u32 = 256;
const SUBTENSOR: &str = "SubtensorModule";

/// All of storage after a block.
pub type Storage = BTreeMap<Vec<u8>, Vec<u8>>;

/// Writes all of storage. Items that the runtime has not are left out.
pub fn storage(now: &Snapshot, blocks: &Blocks, beacon: &Beacon) -> Result<Storage, RuntimeError> {
    let mut writer = Writer { runtime: &now.runtime, storage: Storage::new() };
    system(&mut writer, now, blocks)?;
    subnet(&mut writer, now)?;
    neurons(&mut writer, now)?;
    for mechanism in 0..now.subnet.mechanisms.count() {
        of_mechanism(&mut writer, now, mechanism)?;
    }
    commitments(&mut writer, now)?;
    timelocks(&mut writer, now, beacon)?;
    Ok(writer.storage)
}

struct Writer<'a> {
    runtime: &'a Runtime,
    storage: Storage,
}

impl Writer<'_> {
    fn put(
        &mut self,
        pallet: &str,
        entry: &str,
        keys: &[Value],
        value: &Value,
    ) -> Result<(), RuntimeError> {
        if !self.runtime.has_storage(pallet, entry) {
            return Ok(());
        }
        let bytes = self.runtime.storage_value(pallet, entry, value)?;
        self.put_bytes(pallet, entry, keys, bytes)
    }

    fn put_bytes(
        &mut self,
        pallet: &str,
        entry: &str,
        keys: &[Value],
        bytes: Vec<u8>,
    ) -> Result<(), RuntimeError> {
        self.storage.insert(self.runtime.storage_key(pallet, entry, keys)?, bytes);
        Ok(())
    }
}

fn system(writer: &mut Writer<'_>, now: &Snapshot, blocks: &Blocks) -> Result<(), RuntimeError> {
    let block = now.state.block;
    writer.put("System", "Number", &[], &number(block))?;
    writer.put("System", "ParentHash", &[], &Value::from_bytes(now.parent))?;
    writer.put("System", "ExtrinsicCount", &[], &number(now.state.extrinsics))?;
    writer.put_bytes("System", "Events", &[], now.events.clone())?;
    writer.put("Timestamp", "Now", &[], &number(now.timestamp_ms))?;
    let last = u32::try_from(block).unwrap_or(u32::MAX);
    for earlier in last.saturating_sub(BLOCK_HASHES)..last {
        // Of another branch they are not known here, but for the parent's.
        let hash = if earlier + 1 == last { Some(now.parent) } else { blocks.hash(earlier) };
        if let Some(hash) = hash {
            writer.put("System", "BlockHash", &[number(earlier)], &Value::from_bytes(hash))?;
        }
    }
    let ledger = &now.state.ledger;
    let with_money = ledger.balances.keys().filter_map(|name| account(name));
    let hotkeys = ledger.neurons.iter().filter_map(|one| account(&one.hotkey));
    let accounts: BTreeSet<[u8; 32]> =
        with_money.chain(hotkeys).chain(now.nonces.keys().copied()).collect();
    for who in accounts {
        let free = ledger.balances.get(&Address(who).to_string()).copied().unwrap_or(0);
        let zero = || number(0_u8);
        let money = Value::named_composite([
            ("free", number(free)),
            ("reserved", zero()),
            ("frozen", zero()),
            ("flags", zero()),
        ]);
        let info = Value::named_composite([
            ("nonce", number(now.nonce(&who))),
            ("consumers", zero()),
            ("providers", number(1_u8)),
            ("sufficients", zero()),
            ("data", money),
        ]);
        writer.put("System", "Account", &[Value::from_bytes(who)], &info)?;
    }
    Ok(())
}

/// What is said once of a subnet.
fn subnet(writer: &mut Writer<'_>, now: &Snapshot) -> Result<(), RuntimeError> {
    let subnet = &now.subnet;
    let rules = &subnet.epoch;
    let netuid = number(subnet.netuid);
    let neurons = &now.state.ledger.neurons;
    let (is_yuma3, liquid_alpha) = bonding(subnet);
    let of_subnet = [
        ("NetworksAdded", Value::bool(true)),
        ("SubnetworkN", number(neurons.len() as u16)),
        ("Tempo", number(rules.tempo_blocks)),
        ("Kappa", number(rules.kappa)),
        ("MaxAllowedUids", number(subnet.max_neurons)),
        ("ImmunityPeriod", number(subnet.immunity_blocks)),
        ("ActivityCutoff", number(rules.activity_cutoff_blocks)),
        ("MaxWeightsLimit", number(subnet.max_weight)),
        ("WeightsVersionKey", number(subnet.weights_version)),
        ("MinAllowedWeights", number(subnet.min_weights)),
        ("MaxAllowedValidators", number(rules.max_validators)),
        ("BondsMovingAverage", number(rules.bonds_moving_average)),
        ("BondsPenalty", number(rules.bonds_penalty)),
        ("WeightsSetRateLimit", number(subnet.rate_limit_blocks)),
        ("CommitRevealWeightsEnabled", Value::bool(subnet.commit_reveal)),
        ("Yuma3On", Value::bool(is_yuma3)),
        ("LiquidAlphaOn", Value::bool(liquid_alpha.is_some())),
        ("SubtokenEnabled", Value::bool(true)),
        ("FirstEmissionBlockNumber", number(0_u8)),
        ("BlocksSinceLastStep", number(now.state.block - now.state.last_epoch)),
        ("LastMechansimStepBlock", number(now.state.last_epoch)),
        ("LastEpochBlock", number(now.state.last_epoch)),
        ("SubnetEpochIndex", number(now.state.epochs)),
        ("RevealPeriodEpochs", number(subnet.reveal_period_epochs)),
        ("MechanismCountCurrent", number(subnet.mechanisms.count())),
    ];
    for (entry, value) in of_subnet {
        writer.put(SUBTENSOR, entry, std::slice::from_ref(&netuid), &value)?;
    }
    if let Some(split) = subnet.mechanisms.split() {
        let split = numbers(split.iter().copied());
        writer.put(SUBTENSOR, "MechanismEmissionSplit", std::slice::from_ref(&netuid), &split)?;
    }
    writer.put(SUBTENSOR, "TotalNetworks", &[], &number(2_u8))?;
    writer.put(SUBTENSOR, "StakeThreshold", &[], &number(rules.stake_threshold))?;
    writer.put(SUBTENSOR, "NetworksAdded", &[number(0_u8)], &Value::bool(true))?;

    let whole = |value: fn(&Whole) -> u16| {
        numbers(neurons.iter().map(move |one| one.whole.as_ref().map_or(0, value)))
    };
    let by_uid = [
        ("Active", truths(neurons.iter().map(|one| is_active(one, now)))),
        ("Consensus", whole(|one| one.consensus)),
        ("Dividends", whole(|one| one.dividends)),
        ("ValidatorTrust", whole(|one| one.validator_trust)),
        ("Emission", numbers(neurons.iter().map(emission))),
        ("ValidatorPermit", truths(neurons.iter().map(|one| one.validator_permit))),
    ];
    for (entry, value) in by_uid {
        writer.put(SUBTENSOR, entry, std::slice::from_ref(&netuid), &value)?;
    }
    Ok(())
}

/// What is said of each neuron.
fn neurons(writer: &mut Writer<'_>, now: &Snapshot) -> Result<(), RuntimeError> {
    let netuid = number(now.subnet.netuid);
    let ledger = &now.state.ledger;
    for (uid, one) in ledger.neurons.iter().enumerate() {
        let Some(hotkey) = account(&one.hotkey).map(Value::from_bytes) else { continue };
        let of_uid = [netuid.clone(), number(uid as u16)];
        let registered = number(one.registered_at);
        writer.put(SUBTENSOR, "Keys", &of_uid, &hotkey)?;
        writer.put(SUBTENSOR, "BlockAtRegistration", &of_uid, &registered)?;
        let of_hotkey = [netuid.clone(), hotkey.clone()];
        writer.put(SUBTENSOR, "Uids", &of_hotkey, &number(uid as u16))?;
        let member = [hotkey.clone(), netuid.clone()];
        writer.put(SUBTENSOR, "IsNetworkMember", &member, &Value::bool(true))?;
    }
    for (hotkey, stake) in &ledger.stakes {
        if let Some(hotkey) = account(hotkey) {
            let keys = [Value::from_bytes(hotkey), netuid.clone()];
            writer.put(SUBTENSOR, "TotalHotkeyAlpha", &keys, &number(*stake))?;
        }
    }
    for (hotkey, coldkey) in &ledger.coldkeys {
        if let (Some(hotkey), Some(coldkey)) = (account(hotkey), account(coldkey)) {
            let owner = Value::from_bytes(coldkey);
            writer.put(SUBTENSOR, "Owner", &[Value::from_bytes(hotkey)], &owner)?;
        }
    }
    Ok(())
}

/// What each mechanism has of its own.
fn of_mechanism(
    writer: &mut Writer<'_>,
    now: &Snapshot,
    mechanism: u8,
) -> Result<(), RuntimeError> {
    let index = number(storage_index(now.subnet.netuid, mechanism));
    let neurons = &now.state.ledger.neurons;
    let by_uid = [
        ("Incentive", numbers(neurons.iter().map(|one| incentive(one, mechanism)))),
        ("LastUpdate", numbers(neurons.iter().map(|one| one.last_update(mechanism)))),
    ];
    for (entry, value) in by_uid {
        writer.put(SUBTENSOR, entry, std::slice::from_ref(&index), &value)?;
    }
    for (uid, one) in (0_u16..).zip(neurons) {
        let Some(own) = one.in_mechanism(mechanism) else { continue };
        for (entry, pairs) in [("Weights", &own.weights), ("Bonds", &own.bonds)] {
            if !pairs.is_empty() {
                let pair = |&(uid, share): &(u16, u16)| numbers([uid, share]);
                let keys = [index.clone(), number(uid)];
                writer.put(SUBTENSOR, entry, &keys, &list(pairs.iter().map(pair)))?;
            }
        }
    }
    for (epoch, commits) in &now.state.ledger.commits {
        let commit = |one: &TimelockedCommit| {
            let who = Value::from_bytes(account(&one.hotkey)?);
            let bytes = Value::from_bytes(&one.ciphertext);
            Some(list([who, number(one.block), bytes, number(one.round)]))
        };
        let own = commits.iter().filter(|one| one.mechanism == mechanism);
        let own: Vec<Value> = own.filter_map(commit).collect();
        if !own.is_empty() {
            let keys = [index.clone(), number(*epoch)];
            writer.put(SUBTENSOR, "TimelockedWeightCommits", &keys, &list(own))?;
        }
    }
    Ok(())
}

/// The beacon, and the signatures that open what is committed.
fn timelocks(writer: &mut Writer<'_>, now: &Snapshot, beacon: &Beacon) -> Result<(), RuntimeError> {
    writer.put(SUBTENSOR, "CommitRevealWeightsVersion", &[], &number(COMMIT_VERSION))?;
    let mut rounds = BTreeSet::from([now.round()]);
    let commits = now.state.ledger.commits.values().flatten();
    rounds.extend(commits.map(|one| one.round).filter(|round| *round <= now.round()));
    let bytes = |bytes: &[u8]| Value::from_bytes(bytes);
    let config = Value::named_composite([
        ("public_key", bytes(beacon.public().as_bytes())),
        ("period", number(PERIOD_MS / 1000)),
        ("genesis_time", number(GENESIS_MS / 1000)),
        ("hash", bytes(&[])),
        ("group_hash", bytes(&[])),
        ("scheme_id", bytes(b"bls-unchained-g1-rfc9380")),
        ("metadata", Value::named_composite([("beacon_id", bytes(b"localnet"))])),
    ]);
    writer.put("Drand", "BeaconConfig", &[], &config)?;
    writer.put("Drand", "LastStoredRound", &[], &number(now.round()))?;
    for round in rounds {
        let signature = beacon.sign(round).unwrap_or_default();
        let pulse = Value::named_composite([
            ("round", number(round)),
            ("randomness", bytes(&Sha256::digest(&signature))),
            ("signature", bytes(&signature)),
        ]);
        writer.put("Drand", "Pulses", &[number(round)], &pulse)?;
    }
    Ok(())
}

fn commitments(writer: &mut Writer<'_>, now: &Snapshot) -> Result<(), RuntimeError> {
    let netuid = number(now.subnet.netuid);
    for (hotkey, commitment) in &now.state.ledger.commitments {
        let Some(who) = account(hotkey) else { continue };
        let keys = [netuid.clone(), Value::from_bytes(who)];
        writer.put_bytes("Commitments", "CommitmentOf", &keys, registration(now, hotkey))?;
        writer.put("Commitments", "LastCommitment", &keys, &number(commitment.block))?;
    }
    Ok(())
}

/// The bytes of a commitment as the chain keeps them: a deposit of nothing, the
/// block, and what was committed.
pub fn registration(now: &Snapshot, hotkey: &str) -> Vec<u8> {
    let ledger = &now.state.ledger;
    let Some(commitment) = ledger.commitments.get(hotkey) else { return Vec::new() };
    let block = u32::try_from(commitment.block).unwrap_or(u32::MAX);
    let mut bytes = (0_u64, block).encode();
    match ledger.commitment_info.get(hotkey) {
        Some(info) => bytes.extend(info),
        None => bytes.extend(one_field(&commitment.data)),
    }
    bytes
}

/// A list of one field: plain bytes, whose form says their number up to 128.
fn one_field(data: &[u8]) -> Vec<u8> {
    const MAX_RAW: usize = 128;
    const RAW: u8 = 1;
    const BIG_RAW: u8 = 136;
    let mut bytes = Compact(1_u32).encode();
    match u8::try_from(data.len()) {
        Ok(length) if data.len() <= MAX_RAW => {
            bytes.push(RAW + length);
            bytes.extend(data);
        }
        _ => {
            bytes.push(BIG_RAW);
            data.encode_to(&mut bytes);
        }
    }
    bytes
}

/// The account of an address; none if it is not one.
pub fn account(address: &str) -> Option<[u8; 32]> {
    address.parse::<Address>().ok().map(|address| address.0)
}

/// Whether a neuron has set weights lately.
pub fn is_active(neuron: &Registered, now: &Snapshot) -> bool {
    neuron.is_active(now.state.block, &now.subnet.epoch)
}

/// What the last epoch paid a neuron, as the chain tells it.
pub fn emission(neuron: &Registered) -> u64 {
    neuron.whole.map_or(0, |whole| whole.emission)
}

/// Its share of what a mechanism's miners got.
pub fn incentive(neuron: &Registered, mechanism: u8) -> u16 {
    neuron.outcome(mechanism).map_or(0, |outcome| outcome.incentive)
}

/// Whether bonds are those of Yuma 3, and whether their pace is.
pub fn bonding(subnet: &LocalSubnet) -> (bool, Option<LiquidAlpha>) {
    match subnet.epoch.bonding {
        Bonding::ByStake => (false, None),
        Bonding::ByWeight { liquid_alpha } => (true, liquid_alpha),
    }
}
