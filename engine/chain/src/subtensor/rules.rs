//! What a subnet demands of weights, and when its epochs are.

use evaltasks_core::chain::WeightRules;

use super::SubtensorError;
use super::at::At;
use super::selective::{RuleFields, Selected};
use crate::timelock::COMMIT_VERSION;

const API: &str = "SubnetInfoRuntimeApi";
const PALLET: &str = "SubtensorModule";
/// The largest share that a weight may be, where the runtime does not say.
const MAX_WEIGHT: u16 = u16::MAX;
/// Blocks without an epoch after which one comes, whatever the tempo.
///
/// Source: `MAX_TEMPO` of the runtime.
const LONGEST_EPOCH_BLOCKS: u64 = 50_400;

/// The rules, from what the metagraph's call gave, or from the storage.
pub async fn weight_rules(
    at: &At,
    selected: Option<&Selected<'_>>,
) -> Result<WeightRules, SubtensorError> {
    let given = selected.and_then(|selected| selected.part::<RuleFields>().ok());
    let given = given.unwrap_or_default();
    let key = (at.subnet.netuid,);
    let tempo_blocks = match given.tempo {
        Some(tempo) => tempo,
        None => at.number_of("Tempo", key).await?,
    };
    let rate_limit_blocks = match given.weights_rate_limit {
        Some(limit) => limit,
        None => at.number_of("WeightsSetRateLimit", key).await?,
    };
    let min_weights = match given.min_allowed_weights {
        Some(min) => min,
        None => at.value(PALLET, "MinAllowedWeights", key).await?.unwrap_or(0),
    };
    let version_key = match given.weights_version {
        Some(version) => version,
        None => at.number_of("WeightsVersionKey", key).await?,
    };
    let commit_reveal = match given.commit_reveal_weights_enabled {
        Some(enabled) => enabled,
        None => at.value(PALLET, "CommitRevealWeightsEnabled", key).await?.unwrap_or(true),
    };
    let reveal_period_epochs = match given.commit_reveal_period {
        Some(period) => period,
        None => at.value(PALLET, "RevealPeriodEpochs", key).await?.unwrap_or(1),
    };
    let commit_version = match commit_reveal {
        false => 0,
        true => commit_version(at).await?,
    };
    Ok(WeightRules {
        tempo_blocks,
        rate_limit_blocks,
        min_weights,
        version_key,
        max_weight: given.max_weights_limit.unwrap_or(MAX_WEIGHT),
        commit_reveal,
        commit_version,
        reveal_period_epochs,
        next_epoch_block: next_epoch(at, tempo_blocks).await?,
    })
}

async fn commit_version(at: &At) -> Result<u16, SubtensorError> {
    if !at.has(PALLET, "CommitRevealWeightsVersion") {
        return Ok(COMMIT_VERSION);
    }
    let version = at.value(PALLET, "CommitRevealWeightsVersion", ()).await?;
    Ok(version.unwrap_or(COMMIT_VERSION))
}

/// The block of the next epoch: as the runtime tells; else by what it keeps of
/// the last one; else by the rule of runtimes that keep nothing of it.
async fn next_epoch(at: &At, tempo: u64) -> Result<u64, SubtensorError> {
    let netuid = at.subnet.netuid;
    let told = at.call(API, "get_next_epoch_start_block", &netuid).await?;
    if let Some(block) = told.map(|answer| answer.decode::<Option<u64>>()).transpose()?.flatten() {
        return Ok(block.max(at.number() + 1));
    }
    if !at.has(PALLET, "LastEpochBlock") {
        return Ok(next_epoch_by_number(at.number(), netuid, tempo));
    }
    let last = at.number_of("LastEpochBlock", (netuid,)).await?;
    let pending = match at.has(PALLET, "PendingEpochAt") {
        true => at.number_of("PendingEpochAt", (netuid,)).await?,
        false => 0,
    };
    let since = at.number_of("BlocksSinceLastStep", (netuid,)).await?;
    Ok(next_epoch_by_state(at.number(), Epochs { last, pending, since }, tempo))
}

/// What the runtime keeps of a subnet's epochs.
struct Epochs {
    /// Block of the last one.
    last: u64,
    /// Block at which one was asked for; 0 for none.
    pending: u64,
    /// Blocks without one.
    since: u64,
}

/// The first block after this one with
/// `block >= pending > 0`, or `block - last >= tempo`, or `since > 50400`.
fn next_epoch_by_state(block: u64, epochs: Epochs, tempo: u64) -> u64 {
    let Epochs { last, pending, since } = epochs;
    let longest = block + (LONGEST_EPOCH_BLOCKS + 1).saturating_sub(since);
    let by_tempo = last.saturating_add(tempo).min(longest);
    let first = if pending > 0 { by_tempo.min(pending) } else { by_tempo };
    first.max(block + 1)
}

/// The first block after this one with `(block + netuid + 1) % (tempo + 1) = 0`.
fn next_epoch_by_number(block: u64, netuid: u16, tempo: u64) -> u64 {
    let length = tempo.saturating_add(1);
    let offset = u64::from(netuid) + 1;
    let next = block + 1;
    next + (length - (next + offset) % length) % length
}

/// The first block at which weights that are committed now are revealed.
///
/// They are revealed `period` epochs after the one that they are committed in.
pub fn first_reveal_block(rules: &WeightRules, is_stateful: bool) -> u64 {
    // Older runtimes have one block more in an epoch.
    let length = if is_stateful { rules.tempo_blocks } else { rules.tempo_blocks + 1 };
    let more = rules.reveal_period_epochs.saturating_sub(1);
    rules.next_epoch_block.saturating_add(more.saturating_mul(length))
}

/// Whether the runtime keeps the block of the last epoch.
pub fn is_stateful(at: &At) -> bool {
    at.has(PALLET, "LastEpochBlock")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn when_the_next_epoch_is() {
        let by_state = |block, last, pending, since, tempo| {
            next_epoch_by_state(block, Epochs { last, pending, since }, tempo)
        };
        let rows = [
            // (block, last, pending, since, tempo)
            (by_state(100, 90, 0, 10, 360), 450),
            (by_state(449, 90, 0, 359, 360), 450),
            (by_state(450, 90, 0, 360, 360), 451),
            (by_state(100, 90, 120, 10, 360), 120),
            (by_state(130, 90, 120, 40, 360), 131),
            (by_state(100, 90, 0, 50_400, u64::MAX), 101),
            (by_state(100, 90, 0, 50_399, u64::MAX), 102),
            // 360 blocks of tempo and netuid 9: 351 + 9 + 1 = 361.
            (next_epoch_by_number(0, 9, 360), 351),
            (next_epoch_by_number(350, 9, 360), 351),
            (next_epoch_by_number(351, 9, 360), 712),
            (next_epoch_by_number(5, 9, 0), 6),
        ];
        for (index, (found, expected)) in rows.into_iter().enumerate() {
            assert_eq!(found, expected, "row {index}");
        }
    }

    #[test]
    fn when_a_commit_is_revealed() {
        let rules = |reveal_period_epochs| WeightRules {
            tempo_blocks: 360,
            rate_limit_blocks: 100,
            min_weights: 1,
            version_key: 0,
            max_weight: u16::MAX,
            commit_reveal: true,
            commit_version: 4,
            reveal_period_epochs,
            next_epoch_block: 1000,
        };
        let rows =
            [(0, true, 1000), (1, true, 1000), (3, true, 1720), (1, false, 1000), (3, false, 1722)];
        for (period, is_stateful, expected) in rows {
            assert_eq!(first_reveal_block(&rules(period), is_stateful), expected, "{period}");
        }
    }

    proptest! {
        #[test]
        fn the_next_epoch_by_number_is_the_first(
            block in 0_u64..100_000, netuid: u16, tempo in 0_u64..1000
        ) {
            let fires = |block: u64| (block + u64::from(netuid) + 1).is_multiple_of(tempo + 1);
            let found = next_epoch_by_number(block, netuid, tempo);
            prop_assert!(found > block && fires(found));
            prop_assert!(!(block + 1..found).any(fires));
        }
    }
}
