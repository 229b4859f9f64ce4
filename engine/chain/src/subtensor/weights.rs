//! Setting weights: looked at before they are sent, and read back after.

use std::sync::Arc;

use evaltasks_core::chain::{
    ExtrinsicRefusal, Receipt, SetWeightsError, WeightRules, WeightsRefusal,
};
use evaltasks_core::yuma::max_upscaled;
use parity_scale_codec::{Decode, Encode};
use rand_core::OsRng;
use subxt::dynamic::Value;
use subxt::ext::scale_decode::{self, DecodeAsType};
use subxt::utils::AccountId32;

use super::SubtensorError;
use super::at::{At, Subnet, best, malformed};
use super::connection::{Connection, Link};
use super::metagraph::rules;
use super::rules::{first_reveal_block, is_stateful};
use super::submit::{Call, Failure, Included, NotIncluded, after, call, send, sign};
use crate::limits::MAX_UNREVEALED_COMMITS;
use crate::timelock::{COMMIT_VERSION, WeightsPayload, lock_for, reveal_round};
use crate::{BeaconKey, Hotkey};

const PALLET: &str = "SubtensorModule";
/// Where commits wait: (key of the weights, epoch) to a list of [`Waiting`].
const COMMITS: &str = "TimelockedWeightCommits";
/// Milliseconds from block to block, where the runtime does not say.
const BLOCK_TIME_MS: u64 = 12_000;

const BEACON: &str = "BeaconConfig";

/// What the chain says of its beacon.
#[derive(DecodeAsType)]
#[decode_as_type(crate_path = "scale_decode")]
struct BeaconConfig {
    public_key: Vec<u8>,
}

/// Who committed, at which block, what, and the round that opens it.
type Waiting = (AccountId32, u64, Vec<u8>, u64);

/// Weights as the chain takes them, and what they are for.
pub struct Setting<'a> {
    /// Of which subnet.
    pub subnet: Subnet,
    /// Who gives them.
    pub hotkey: &'a Hotkey,
    /// The validator's version; the subnet's own where none is given.
    pub version_key: Option<u64>,
}

impl From<SubtensorError> for SetWeightsError {
    fn from(error: SubtensorError) -> SetWeightsError {
        SetWeightsError::Chain(error.into())
    }
}

/// Sets weights, and returns once they are final and were read back.
pub async fn set_weights(
    connection: &Connection,
    setting: &Setting<'_>,
    weights: &[(u16, f64)],
) -> Result<Receipt, SetWeightsError> {
    let upscaled = max_upscaled(&weights.iter().copied().collect());
    let account = AccountId32(setting.hotkey.address().0);
    let read = |link| standing(link, setting.subnet, account);
    let standing = connection.read("what is demanded of weights", read).await?;
    let standing = standing?;
    standing.check(&upscaled, setting)?;
    let sending = Sending::new(&standing, setting, upscaled)?;

    let prepare = |link: Arc<Link>| {
        let sending = &sending;
        async move {
            let at = At::last_final(Arc::clone(&link), setting.subnet).await?;
            Ok((sign(&at, setting.hotkey, &sending.call).await?, link))
        }
    };
    let (signed, link) = connection.read("what an extrinsic is signed with", prepare).await?;
    let included = send(connection, &link, &signed).await.map_err(|error| match error {
        NotIncluded::Refused(refusal) => refused(refusal),
        NotIncluded::Chain(error) => error.into(),
    })?;
    let result = |link| result(link, setting.subnet, included, account, &sending.content);
    match connection.read("the weights that were set", result).await? {
        Err(failure) => Err(failed(failure)),
        Ok(false) => Err(SetWeightsError::ReadBack { block: included.block }),
        Ok(true) => Ok(Receipt {
            block: included.block,
            extrinsic: signed.hash(),
            reveal_round: sending.reveal_round,
        }),
    }
}

fn refused(refusal: ExtrinsicRefusal) -> SetWeightsError {
    use ExtrinsicRefusal::Custom;
    match refusal {
        Custom(code) => match WeightsRefusal::from_pool_code(code) {
            Some(known) => known.into(),
            None => Custom(code).into(),
        },
        other => other.into(),
    }
}

fn failed(failure: Failure) -> SetWeightsError {
    let known = failure.name.as_deref().and_then(WeightsRefusal::from_name);
    match known {
        Some(refusal) => refusal.into(),
        None => ExtrinsicRefusal::Dispatch(failure.text).into(),
    }
}

/// What decides whether a hotkey may set weights now.
struct Standing {
    rules: WeightRules,
    neurons: u64,
    /// None of a hotkey that is not registered.
    uid: Option<u16>,
    validator_permit: bool,
    /// The subnet's owner needs no permit.
    is_owner: bool,
    last_update: u64,
    /// The next block: the first that could have an extrinsic.
    next_block: u64,
    /// Its commits of this epoch.
    waiting: usize,
    /// When a commit that is sent now is revealed.
    reveal_block: u64,
    /// Since 1970, of the block before the next.
    now_ms: u64,
    block_time_ms: u64,
    /// The beacon whose rounds open commits.
    beacon: BeaconKey,
}

/// By the node's newest block: an epoch or another commit may be in it.
async fn standing(
    link: Arc<Link>,
    subnet: Subnet,
    account: AccountId32,
) -> Result<Result<Standing, WeightsRefusal>, SubtensorError> {
    let (block, hash) = best(&link).await?;
    let at = At::hash(link, subnet, block, hash).await?;
    let rules = match rules(&at).await {
        Err(SubtensorError::NoMechanism { .. }) => {
            return Ok(Err(WeightsRefusal::MechanismDoesNotExist));
        }
        rules => rules?,
    };
    let (netuid, index) = (subnet.netuid, subnet.index());
    let uid = at.value::<_, u16>(PALLET, "Uids", (netuid, account)).await?;
    let permits: Vec<bool> =
        at.value(PALLET, "ValidatorPermit", (netuid,)).await?.unwrap_or_default();
    let updates: Vec<u64> = at.value(PALLET, "LastUpdate", (index,)).await?.unwrap_or_default();
    let of_uid = usize::from(uid.unwrap_or(u16::MAX));
    let owner = at.value::<_, AccountId32>(PALLET, "SubnetOwnerHotkey", (netuid,)).await?;
    let waiting = match rules.commit_reveal {
        true => waiting(&at).await?,
        false => Vec::new(),
    };
    let is_recent = |block: u64| block.saturating_add(rules.tempo_blocks) >= rules.next_epoch_block;
    let is_own = |one: &&Waiting| one.0 == account && is_recent(one.1);
    Ok(Ok(Standing {
        neurons: at.number_of("SubnetworkN", (netuid,)).await?,
        uid,
        validator_permit: permits.get(of_uid).copied().unwrap_or(false),
        is_owner: owner == Some(account),
        last_update: updates.get(of_uid).copied().unwrap_or(0),
        next_block: block + 1,
        waiting: waiting.iter().filter(is_own).count(),
        reveal_block: first_reveal_block(&rules, is_stateful(&at)),
        now_ms: at.value("Timestamp", "Now", ()).await?.unwrap_or(0),
        block_time_ms: block_time_ms(&at),
        beacon: beacon(&at).await?,
        rules,
    }))
}

/// The runtime's time from block to block.
fn block_time_ms(at: &At) -> u64 {
    let pallet = at.metadata().pallet_by_name("Aura");
    let constant = pallet.as_ref().and_then(|pallet| pallet.constant_by_name("SlotDuration"));
    let time = constant.and_then(|constant| u64::decode(&mut constant.value()).ok());
    time.filter(|time| *time > 0).unwrap_or(BLOCK_TIME_MS)
}

/// The key of the beacon that the chain follows: quicknet's, unless it says
/// otherwise.
async fn beacon(at: &At) -> Result<BeaconKey, SubtensorError> {
    if !at.has("Drand", BEACON) {
        return Ok(BeaconKey::QUICKNET);
    }
    let Some(config) = at.value::<_, BeaconConfig>("Drand", BEACON, ()).await? else {
        return Ok(BeaconKey::QUICKNET);
    };
    BeaconKey::from_bytes(&config.public_key)
        .map_err(|error| malformed("Drand::BeaconConfig", error))
}

async fn waiting(at: &At) -> Result<Vec<Waiting>, SubtensorError> {
    if !at.has(PALLET, COMMITS) {
        return Ok(Vec::new());
    }
    let prefix = (at.subnet.index(),);
    let lists = at.entries::<(u16, u64), _, Vec<Waiting>>(PALLET, COMMITS, prefix).await?;
    Ok(lists.into_iter().filter_map(|(_, list)| list).flatten().collect())
}

impl Standing {
    /// What the chain would say, in its order, as far as it can be told without
    /// asking it.
    fn check(&self, weights: &[(u16, u16)], setting: &Setting<'_>) -> Result<(), SetWeightsError> {
        let rules = &self.rules;
        let demand = |fine: bool, refusal: WeightsRefusal| match fine {
            true => Ok(()),
            false => Err(SetWeightsError::Refused(refusal)),
        };
        demand(setting.subnet.netuid != 0, WeightsRefusal::CanNotSetRootNetworkWeights)?;
        let count = weights.len() as u64;
        demand(count <= self.neurons, WeightsRefusal::UidsLengthExceedUidsInSubNet)?;
        let uid = self.uid.ok_or(WeightsRefusal::HotKeyNotRegisteredInSubNet)?;
        let version = setting.version_key.unwrap_or(rules.version_key);
        let is_new = version == 0 || version >= rules.version_key;
        demand(is_new, WeightsRefusal::IncorrectWeightVersionKey)?;
        let first = self.last_update.saturating_add(rules.rate_limit_blocks);
        if self.last_update > 0 && self.next_block < first {
            let refusal = match rules.commit_reveal {
                true => WeightsRefusal::CommittingWeightsTooFast,
                false => WeightsRefusal::SettingWeightsTooFast,
            };
            return Err(SetWeightsError::TooEarly { refusal, block: first });
        }
        if rules.commit_reveal && self.waiting >= MAX_UNREVEALED_COMMITS {
            let refusal = WeightsRefusal::TooManyUnrevealedCommits;
            return Err(SetWeightsError::TooEarly { refusal, block: rules.next_epoch_block });
        }
        let for_itself = matches!(weights, [(only, _)] if *only == uid);
        let permitted = self.validator_permit || self.is_owner || for_itself;
        demand(permitted, WeightsRefusal::NeuronNoValidatorPermit)?;
        let known = weights.iter().all(|(uid, _)| u64::from(*uid) < self.neurons);
        demand(known, WeightsRefusal::UidVecContainInvalidOne)?;
        let needed = u64::from(rules.min_weights).min(self.neurons);
        let enough = count > 0 && (count >= needed || for_itself);
        demand(enough, WeightsRefusal::WeightVecLengthIsLow)
    }
}

/// What is sent, and what the chain should have after it.
struct Sending {
    call: Call,
    content: Content,
    reveal_round: Option<u64>,
}

/// What the chain keeps of weights.
enum Content {
    /// For the neuron of this uid.
    Plain(u16, Vec<(u16, u16)>),
    /// The ciphertext.
    Locked(Vec<u8>),
}

impl Sending {
    fn new(
        standing: &Standing,
        setting: &Setting<'_>,
        weights: Vec<(u16, u16)>,
    ) -> Result<Sending, SetWeightsError> {
        let rules = &standing.rules;
        let Subnet { netuid, mechanism } = setting.subnet;
        let version_key = setting.version_key.unwrap_or(rules.version_key);
        let number = |number: u64| Value::u128(number.into());
        let mut arguments = vec![("netuid", number(netuid.into()))];
        if mechanism != 0 {
            arguments.push(("mecid", number(mechanism.into())));
        }
        let name = |plain, of_mechanism| if mechanism == 0 { plain } else { of_mechanism };
        let (uids, values): (Vec<u16>, Vec<u16>) = weights.iter().copied().unzip();
        if !rules.commit_reveal {
            let list = |list: &[u16]| {
                Value::unnamed_composite(list.iter().map(|one| number(u64::from(*one))))
            };
            arguments.extend([
                ("dests", list(&uids)),
                ("weights", list(&values)),
                ("version_key", number(version_key)),
            ]);
            let uid = standing.uid.ok_or(WeightsRefusal::HotKeyNotRegisteredInSubNet)?;
            return Ok(Sending {
                call: call(PALLET, name("set_weights", "set_mechanism_weights"), arguments),
                content: Content::Plain(uid, weights),
                reveal_round: None,
            });
        }
        if rules.commit_version != COMMIT_VERSION {
            return Err(WeightsRefusal::IncorrectCommitRevealVersion.into());
        }
        let hotkey = setting.hotkey.address().0.to_vec();
        let payload = WeightsPayload { hotkey, uids, values, version_key }.encode();
        let head = standing.next_block - 1;
        let round =
            reveal_round(standing.now_ms, head, standing.reveal_block, standing.block_time_ms);
        let locked = lock_for(&standing.beacon, &payload, round, &mut OsRng);
        let locked = locked.map_err(|error| SetWeightsError::Chain(error.into()))?;
        arguments.extend([
            ("commit", Value::from_bytes(&locked)),
            ("reveal_round", number(round)),
            ("commit_reveal_version", number(COMMIT_VERSION.into())),
        ]);
        let name = name("commit_timelocked_weights", "commit_timelocked_mechanism_weights");
        Ok(Sending {
            call: call(PALLET, name, arguments),
            content: Content::Locked(locked),
            reveal_round: Some(round),
        })
    }
}

/// Why the call failed, or whether the chain has what was sent.
async fn result(
    link: Arc<Link>,
    subnet: Subnet,
    included: Included,
    account: AccountId32,
    content: &Content,
) -> Result<Result<bool, Failure>, SubtensorError> {
    let at = match after(link, subnet, included).await? {
        Ok(at) => at,
        Err(failure) => return Ok(Err(failure)),
    };
    let is_set = match content {
        Content::Plain(uid, sent) => {
            let keys = (subnet.index(), *uid);
            let found = at.value::<_, Vec<(u16, u16)>>(PALLET, "Weights", keys).await?;
            found.as_ref() == Some(sent)
        }
        Content::Locked(sent) => {
            waiting(&at).await?.iter().any(|one| one.0 == account && one.2 == *sent)
        }
    };
    Ok(Ok(is_set))
}
