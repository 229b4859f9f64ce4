//! Yuma Consensus: from the weights that validators set to who is paid.
//!
//! The runtime computes in `I32F32`, and so does this: every operation, its
//! order and its rounding are the runtime's, so that results agree to the last
//! of the chain's 65535 steps. The one exception is the exponential of
//! [`LiquidAlpha`], which is computed in `f64` and may differ in the last bits
//! of a [`Fixed`].
//!
//! Source: `pallets/subtensor/src/epoch` of the subtensor runtime.

mod bonds;
mod fixed;
mod rows;
#[cfg(test)]
mod tests;
mod weights;

pub use bonds::{Bonding, LiquidAlpha};
pub use fixed::Fixed;
pub use weights::max_upscaled;

use rows::{Row, normalize, normalize_rows, row_sum, weighted_column_sums};

/// What an epoch depends on beside the neurons.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EpochRules {
    /// Blocks from one epoch to the next.
    pub tempo_blocks: u64,
    /// Blocks after its last weights at which a validator no longer counts.
    pub activity_cutoff_blocks: u64,
    /// Share of the stake that must support a weight, of 65535.
    pub kappa: u16,
    /// How much a weight above consensus is cut before it becomes a bond, of
    /// 65535: 0 not at all, 65535 down to the consensus.
    pub bonds_penalty: u16,
    /// Share of the old bonds in the new, in millionths.
    pub bonds_moving_average: u64,
    /// Less stake than this counts as none, in units of 10^-9 of a token.
    pub stake_threshold: u64,
    /// How many may have a permit.
    pub max_validators: u16,
    /// The owner's neuron: it may weigh itself, and needs no stake.
    pub owner: Option<u16>,
    /// How bonds come about.
    pub bonding: Bonding,
}

impl Default for EpochRules {
    /// The chain's own values for a new subnet.
    fn default() -> Self {
        EpochRules {
            tempo_blocks: 360,
            activity_cutoff_blocks: 5000,
            kappa: 32767,
            bonds_penalty: u16::MAX,
            bonds_moving_average: 900_000,
            stake_threshold: 0,
            max_validators: 64,
            owner: None,
            bonding: Bonding::ByStake,
        }
    }
}

/// What an epoch needs to know of one neuron.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Participant {
    /// In units of 10^-9 of a token.
    pub stake: u64,
    /// Whether its weights count in this epoch.
    pub validator_permit: bool,
    /// Block of its last weights.
    pub last_update: u64,
    /// Block of its registration.
    pub registered_at: u64,
    /// What it gives others, (uid, weight), each uid once; only ratios matter.
    pub weights: Vec<(u16, u16)>,
    /// What the epoch before left in [`Outcome::bonds`].
    pub bonds: Vec<(u16, u16)>,
}

impl Participant {
    /// Whether it has set weights lately, as of a block.
    pub fn is_active(&self, block: u64, rules: &EpochRules) -> bool {
        self.last_update.saturating_add(rules.activity_cutoff_blocks) >= block
    }
}

/// What an epoch makes of one neuron. Shares are of 65535, rounded down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Share of all stake.
    pub stake: u16,
    /// The most that a weight for it counts.
    pub consensus: u16,
    /// Share of what miners get.
    pub incentive: u16,
    /// Share of what validators get.
    pub dividends: u16,
    /// How much of its weights is within consensus.
    pub validator_trust: u16,
    /// Whether its weights count in the next epoch.
    pub validator_permit: bool,
    /// For the next epoch, (uid, bond); uids ascending.
    pub bonds: Vec<(u16, u16)>,
    /// Share of the emission that it gets as a miner.
    pub miner_emission: Fixed,
    /// Share of the emission that it gets as a validator.
    pub validator_emission: Fixed,
}

/// One epoch at a block; an outcome for each participant, in uid order.
///
/// 1. *Stake* `S`: the share of the stake of those that reach the threshold.
///    Active stake `Sa`: of those with a permit and recent weights.
/// 2. *Weights* `W`: rows of those with a permit, less what they give
///    themselves and what they gave before the other one was registered; each
///    row sums to 1.
/// 3. *Consensus* `C`: for each neuron the largest weight that at least `kappa`
///    of the active stake supports. `W' = min(W, C)`. Validator trust is the
///    sum of a row of `W'`, incentive `I` the normalised `sum(Sa W')`.
/// 4. *Bonds* and dividends `D` by [`Bonding`], from
///    `(1 - penalty) W + penalty W'`.
/// 5. *Emission* in the ratio of `I` and `D`; where both are 0, of `Sa`, else
///    of `S`.
/// 6. The *permits* of the next epoch go to the largest stakes; who has none
///    loses its bonds.
///
/// Uids in weights and bonds that no participant has are left aside. There may
/// be as many participants as there are uids.
pub fn epoch(participants: &[Participant], block: u64, rules: &EpochRules) -> Vec<Outcome> {
    let stake = stake_shares(participants, rules);
    let active_stake = active_stake(participants, &stake, block, rules);
    let weights = weights(participants, rules.owner);
    let consensus = consensus(&weights, &active_stake, Fixed::from_share(rules.kappa));
    let clipped: Vec<Row> = weights.iter().map(|row| clip(row, &consensus)).collect();
    let mut incentive = weighted_column_sums(&clipped, &active_stake);
    normalize(&mut incentive);

    let recent = block.saturating_sub(rules.tempo_blocks);
    let bonded = bonds::Bonded {
        weights: bonds::penalized(&weights, &clipped, Fixed::from_share(rules.bonds_penalty)),
        old: bonds::old_bonds(participants, recent),
        active_stake: &active_stake,
        consensus: &consensus,
        incentive: &incentive,
    };
    let (bonds, dividends) = bonded.next(rules);

    let sum: Fixed = incentive.iter().chain(&dividends).copied().sum();
    let instead =
        if active_stake.iter().any(|share| *share > Fixed::ZERO) { &active_stake } else { &stake };
    let permits = permits(&stake, rules.max_validators);
    let mut outcomes = Vec::with_capacity(participants.len());
    for (uid, bonds) in bonds.into_iter().enumerate() {
        let nobody = sum == Fixed::ZERO;
        outcomes.push(Outcome {
            stake: stake[uid].to_share(),
            consensus: consensus[uid].to_share(),
            incentive: incentive[uid].to_share(),
            dividends: dividends[uid].to_share(),
            validator_trust: row_sum(&clipped[uid]).to_share(),
            validator_permit: permits[uid],
            bonds: if permits[uid] { bonds } else { Vec::new() },
            miner_emission: incentive[uid] / sum,
            validator_emission: if nobody { instead[uid] } else { dividends[uid] / sum },
        });
    }
    outcomes
}

fn stake_shares(participants: &[Participant], rules: &EpochRules) -> Vec<Fixed> {
    let counted = |(uid, one): (usize, &Participant)| {
        let is_owner = rules.owner.map(usize::from) == Some(uid);
        if one.stake >= rules.stake_threshold || is_owner { one.stake } else { 0 }
    };
    let stakes: Vec<u64> = participants.iter().enumerate().map(counted).collect();
    let sum: u128 = stakes.iter().copied().map(u128::from).sum();
    stakes.into_iter().map(|stake| Fixed::ratio(stake, sum)).collect()
}

fn active_stake(
    participants: &[Participant],
    stake: &[Fixed],
    block: u64,
    rules: &EpochRules,
) -> Vec<Fixed> {
    let share = |(one, &share): (&Participant, &Fixed)| {
        if one.is_active(block, rules) && one.validator_permit { share } else { Fixed::ZERO }
    };
    let mut active: Vec<Fixed> = participants.iter().zip(stake).map(share).collect();
    normalize(&mut active);
    active
}

/// The weights that count.
fn weights(participants: &[Participant], owner: Option<u16>) -> Vec<Row> {
    let row = |(uid, one): (usize, &Participant)| -> Row {
        let counts = |&&(of, weight): &&(u16, u16)| {
            let itself = usize::from(of) == uid && owner != Some(of);
            let after = |other: &Participant| one.last_update > other.registered_at;
            weight > 0 && !itself && participants.get(usize::from(of)).is_some_and(after)
        };
        let permitted = if one.validator_permit { one.weights.as_slice() } else { &[] };
        rows::sorted(permitted.iter().filter(counts))
    };
    let mut rows: Vec<Row> = participants.iter().enumerate().map(row).collect();
    normalize_rows(&mut rows);
    rows
}

/// For each column the largest weight that at least `kappa` of the active stake
/// supports; 0 when there is none.
///
/// The runtime searches a weighted median: the weight `w` for which the stake
/// of all smaller ones is at most `1 - kappa`, and that of all up to `w` is
/// more. This is the same said from above.
fn consensus(weights: &[Row], active_stake: &[Fixed], kappa: Fixed) -> Vec<Fixed> {
    // Scaled twice in the runtime, too: it may change the last bit.
    let mut stake = active_stake.to_vec();
    normalize(&mut stake);
    let total: Fixed = stake.iter().copied().sum();
    let needed = kappa.min(total);
    let mut columns: Vec<Vec<(Fixed, Fixed)>> = vec![Vec::new(); weights.len()];
    for (row, &stake) in weights.iter().zip(&stake).filter(|(_, stake)| **stake > Fixed::ZERO) {
        for &(column, weight) in row {
            columns[usize::from(column)].push((weight, stake));
        }
    }
    let supported = |mut column: Vec<(Fixed, Fixed)>| {
        column.sort_unstable_by(|one, other| other.cmp(one));
        let mut support = Fixed::ZERO;
        let found = column.into_iter().find(|&(_, stake)| {
            support = support + stake;
            support >= needed
        });
        found.map_or(Fixed::ZERO, |(weight, _)| weight)
    };
    columns.into_iter().map(supported).collect()
}

fn clip(row: &Row, consensus: &[Fixed]) -> Row {
    row.iter()
        .map(|&(column, weight)| (column, weight.min(consensus[usize::from(column)])))
        .collect()
}

/// The `most` largest stakes above 0. Of equal ones the later uid goes first,
/// as in the runtime.
fn permits(stake: &[Fixed], most: u16) -> Vec<bool> {
    let mut by_stake: Vec<usize> = (0..stake.len()).collect();
    by_stake.sort_by_key(|&uid| stake[uid]);
    let mut permits = vec![false; stake.len()];
    for uid in by_stake.into_iter().rev().take(most.into()) {
        permits[uid] = stake[uid] > Fixed::ZERO;
    }
    permits
}
