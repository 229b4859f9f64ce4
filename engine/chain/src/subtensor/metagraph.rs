//! The neurons of a subnet, and what they give each other.

use evaltasks_core::chain::{Commitment, Metagraph, Neuron, SubnetView, WeightRules};
use futures_util::future::try_join_all;
use subxt::utils::AccountId32;

use super::SubtensorError;
use super::at::{At, Subnet};
use super::commitments::{Committed, Places, commitments};
use super::rules::weight_rules;
use super::selective::{COMMITMENTS, NEURONS, NeuronFields, RULES, Selected, select};
use crate::Address;
use crate::limits::{MAX_NEURONS, MAX_WAITING_QUESTIONS};
use crate::local::UNITS_PER_TOKEN;

const PALLET: &str = "SubtensorModule";
/// What is given to all is this.
const WHOLE: f64 = u16::MAX as f64;

/// That the subnet has the mechanism: the first is there in every one.
pub async fn has_mechanism(at: &At) -> Result<(), SubtensorError> {
    const COUNT: &str = "MechanismCountCurrent";
    let Subnet { netuid, mechanism } = at.subnet;
    if mechanism == 0 {
        return Ok(());
    }
    // Runtimes without it have one mechanism for each subnet.
    let count = match at.has(PALLET, COUNT) {
        true => at.value::<_, u8>(PALLET, COUNT, (netuid,)).await?.unwrap_or(1),
        false => 1,
    };
    match mechanism < count {
        true => Ok(()),
        false => Err(SubtensorError::NoMechanism { mechanism, netuid, count }),
    }
}

/// Everything of a subnet at a block.
pub async fn view(at: &At, places: &Places) -> Result<SubnetView, SubtensorError> {
    has_mechanism(at).await?;
    let selected = select(at, &[NEURONS, COMMITMENTS, RULES]).await?;
    let (hotkeys, metagraph) = neurons(at, selected.as_ref()).await?;
    let committed = commitments(at, &hotkeys, selected.as_ref(), places).await?;
    let Committed { commitments, undecodable } = committed;
    Ok(SubnetView {
        block_hash: format!("{:?}", at.client.block_hash()),
        metagraph,
        commitments,
        undecodable,
        rules: weight_rules(at, selected.as_ref()).await?,
    })
}

/// The neurons alone.
pub async fn metagraph(at: &At) -> Result<Metagraph, SubtensorError> {
    has_mechanism(at).await?;
    let selected = select(at, &[NEURONS]).await?;
    Ok(neurons(at, selected.as_ref()).await?.1)
}

/// What is demanded of weights.
pub async fn rules(at: &At) -> Result<WeightRules, SubtensorError> {
    has_mechanism(at).await?;
    let selected = select(at, &[RULES]).await?;
    weight_rules(at, selected.as_ref()).await
}

/// What the neurons have committed.
pub async fn all_commitments(at: &At, places: &Places) -> Result<Vec<Commitment>, SubtensorError> {
    has_mechanism(at).await?;
    let selected = select(at, &[NEURONS, COMMITMENTS]).await?;
    let (hotkeys, _) = neurons(at, selected.as_ref()).await?;
    Ok(commitments(at, &hotkeys, selected.as_ref(), places).await?.commitments)
}

/// What each neuron gives others, in the order of uids.
pub async fn weights(at: &At) -> Result<Vec<Vec<(u16, u16)>>, SubtensorError> {
    has_mechanism(at).await?;
    let count = neuron_count(at).await?;
    let mut rows = vec![Vec::new(); count];
    let given =
        at.entries::<(u16, u16), _, Vec<(u16, u16)>>(PALLET, "Weights", (at.subnet.index(),));
    for ((_, uid), row) in given.await? {
        // Rows of those who were replaced by nobody are left.
        if let Some(place) = rows.get_mut(usize::from(uid)) {
            *place = row.ok_or_else(|| broken("Weights", "a row is no list of weights"))?;
        }
    }
    Ok(rows)
}

async fn neuron_count(at: &At) -> Result<usize, SubtensorError> {
    let count = at.number_of("SubnetworkN", (at.subnet.netuid,)).await?;
    let count = usize::try_from(count).ok().filter(|count| *count <= MAX_NEURONS);
    count.ok_or_else(|| broken("SubnetworkN", "there are too many neurons"))
}

/// Their keys, in the order of uids, and the neurons.
pub async fn neurons(
    at: &At,
    selected: Option<&Selected<'_>>,
) -> Result<(Vec<AccountId32>, Metagraph), SubtensorError> {
    let mut columns = match selected {
        Some(selected) => Columns::selected(selected.part()?)?,
        None => Columns::stored(at).await?,
    };
    if at.subnet.mechanism != 0 {
        columns.fill();
    }
    let metagraph = columns.metagraph(at.number())?;
    Ok((columns.hotkeys, metagraph))
}

/// One list for each thing that is known of neurons, by uid.
struct Columns {
    hotkeys: Vec<AccountId32>,
    validator_permit: Vec<bool>,
    last_update: Vec<u64>,
    dividends: Vec<u16>,
    incentives: Vec<u16>,
    registered_at: Vec<u64>,
    /// In units.
    stake: Vec<u64>,
}

impl Columns {
    fn selected(fields: NeuronFields) -> Result<Columns, SubtensorError> {
        fn given<T>(name: &'static str, list: Option<T>) -> Result<T, SubtensorError> {
            list.ok_or(SubtensorError::Missing { item: format!("the metagraph's {name}").into() })
        }
        Ok(Columns {
            hotkeys: given("hotkeys", fields.hotkeys)?,
            validator_permit: given("validator_permit", fields.validator_permit)?,
            last_update: given("last_update", fields.last_update)?,
            dividends: given("dividends", fields.dividends)?,
            incentives: given("incentives", fields.incentives)?,
            registered_at: given("block_at_registration", fields.block_at_registration)?,
            stake: given("total_stake", fields.total_stake)?,
        })
    }

    /// From the storage, for runtimes without the call. Their stake is that in
    /// the subnet's own token alone.
    async fn stored(at: &At) -> Result<Columns, SubtensorError> {
        let (netuid, index) = (at.subnet.netuid, at.subnet.index());
        let count = neuron_count(at).await?;
        let keys = at.entries::<(u16, u16), _, AccountId32>(PALLET, "Keys", (netuid,)).await?;
        let hotkeys = by_uid("Keys", count, keys)?;
        let registered = at.entries::<(u16, u16), _, u64>(PALLET, "BlockAtRegistration", (netuid,));
        let registered_at = by_uid("BlockAtRegistration", count, registered.await?)?;
        let mut stake = Vec::with_capacity(count);
        for some in hotkeys.chunks(MAX_WAITING_QUESTIONS / 2) {
            let questions = some.iter().map(|key| at.number_of("TotalHotkeyAlpha", (*key, netuid)));
            stake.extend(try_join_all(questions).await?);
        }
        let list = |entry| at.value::<_, Vec<u16>>(PALLET, entry, (index,));
        Ok(Columns {
            validator_permit: at
                .value(PALLET, "ValidatorPermit", (netuid,))
                .await?
                .unwrap_or_default(),
            last_update: at.value(PALLET, "LastUpdate", (index,)).await?.unwrap_or_default(),
            dividends: at.value(PALLET, "Dividends", (netuid,)).await?.unwrap_or_default(),
            incentives: list("Incentive").await?.unwrap_or_default(),
            registered_at,
            stake,
            hotkeys,
        })
    }

    /// A mechanism that was added to a subnet has no lists before its first epoch,
    /// and the chain takes what is not in them as 0.
    fn fill(&mut self) {
        let count = self.hotkeys.len().min(MAX_NEURONS);
        self.last_update.resize(self.last_update.len().max(count), 0);
        self.incentives.resize(self.incentives.len().max(count), 0);
    }

    fn metagraph(&self, block: u64) -> Result<Metagraph, SubtensorError> {
        let count = self.hotkeys.len();
        let lengths = [
            ("validator_permit", self.validator_permit.len()),
            ("last_update", self.last_update.len()),
            ("dividends", self.dividends.len()),
            ("incentives", self.incentives.len()),
            ("block_at_registration", self.registered_at.len()),
            ("total_stake", self.stake.len()),
        ];
        if count > MAX_NEURONS {
            return Err(broken("hotkeys", &format!("there are more than {MAX_NEURONS}")));
        }
        if let Some((name, length)) = lengths.into_iter().find(|(_, length)| *length != count) {
            return Err(broken(name, &format!("there are {length} for {count} neurons")));
        }
        let neuron = |uid: usize| Neuron {
            uid: uid as u16,
            hotkey: Address(self.hotkeys[uid].0).to_string(),
            stake: self.stake[uid] as f64 / UNITS_PER_TOKEN as f64,
            validator_permit: self.validator_permit[uid],
            last_update: self.last_update[uid],
            registered_at: self.registered_at[uid],
            incentive: f64::from(self.incentives[uid]) / WHOLE,
            dividends: f64::from(self.dividends[uid]) / WHOLE,
        };
        Ok(Metagraph { block, neurons: (0..count).map(neuron).collect() })
    }
}

/// Entries of a map by uid: one for every neuron.
fn by_uid<Value>(
    entry: &'static str,
    count: usize,
    entries: Vec<((u16, u16), Option<Value>)>,
) -> Result<Vec<Value>, SubtensorError> {
    let mut entries: Vec<(u16, Option<Value>)> =
        entries.into_iter().map(|((_, uid), value)| (uid, value)).collect();
    entries.sort_by_key(|(uid, _)| *uid);
    let is_whole = entries.len() == count
        && entries.iter().enumerate().all(|(index, (uid, _))| index == usize::from(*uid));
    let values: Option<Vec<Value>> = entries.into_iter().map(|(_, value)| value).collect();
    match values.filter(|_| is_whole) {
        Some(values) => Ok(values),
        None => Err(broken(entry, &format!("it is not one for each of {count} neurons"))),
    }
}

fn broken(item: &str, problem: &str) -> SubtensorError {
    SubtensorError::Malformed { item: item.to_owned().into(), problem: problem.to_owned() }
}
