//! From losses to weights.
//!
//! The rules are those of the subnet 9 validator, but for the order of
//! submissions and for models without a loss; see [`rank`].

mod confidence;
mod emission;
mod epsilon;
mod retry;
mod score;
mod top_miners;

use std::cmp::Ordering;

use crate::competition::{Epsilon, RankingRules, WeightRule};
use crate::results::Duel;

pub use confidence::{
    RESAMPLES, ResampledLosses, RowValue, Spread, chance_of_defeat, confidence, resampled_means,
    spread, weighted_mean,
};
pub use emission::{
    CompetitionShare, Weights, emission_by_competition, moving_average, next_weights,
    next_weights_without, split_emission,
};
pub use epsilon::{epsilon_at, fully_decayed_epsilon};
pub use retry::{Evaluation, should_retry};
pub use score::{normalize, weighted_score};
pub use top_miners::top_miners;

/// A submission and what was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Who; unique among the candidates.
    pub uid: u16,
    /// Block of the commitment.
    pub block: u64,
    /// Place within the block.
    pub extrinsic_index: u32,
    /// Weighted loss; lower is better. A model that failed has infinity, and
    /// so in effect has one with a NaN or a negative loss.
    pub loss: f64,
}

impl Candidate {
    /// Whether there is a loss to compare.
    pub fn is_scored(&self) -> bool {
        self.loss.is_finite() && self.loss >= 0.0
    }

    /// The loss, or infinity when there is none.
    fn comparable_loss(&self) -> f64 {
        if self.is_scored() { self.loss } else { f64::INFINITY }
    }

    /// The loss reduced by the advantage of being earlier.
    fn discounted_loss(&self, epsilon: f64) -> f64 {
        if self.is_scored() { (1.0 - epsilon) * self.loss } else { f64::INFINITY }
    }

    /// No two candidates have the same.
    fn order(&self) -> (u64, u32, u16) {
        (self.block, self.extrinsic_index, self.uid)
    }
}

/// What became of one candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// Who.
    pub uid: u16,
    /// None in the competitive set. Otherwise the earlier submission that
    /// rules it out, the best of them where there are several.
    pub outclassed_by: Option<u16>,
    /// Duels won against the others of the competitive set; 0 outside it.
    pub wins: u32,
    /// Wins over duels, in [0, 1]; 1 for a competitive set of one.
    pub win_rate: f64,
    /// Weight within the competition, in [0, 1].
    pub weight: f64,
    /// 1 is best; none without a loss.
    pub place: Option<u32>,
}

/// A verdict over all candidates, one standing each, in the order given.
///
/// The weights sum to 1, or all are 0 when no candidate has a loss: what then
/// happens is for [`next_weights`].
///
/// 1. *Order*: by block, extrinsic index and uid.
/// 2. *Competitive set*: a candidate whose loss is below
///    `loss * (1 - epsilon)` of every earlier one, epsilon fully decayed.
/// 3. *Duels* within it: the lower loss wins, the earlier loss being reduced
///    by its [`epsilon_at`] the current block; equal losses have no winner.
///    Where the rules ask for significance, nor has a duel that turns out
///    otherwise in too many draws of `resampled`: a [`chance_of_defeat`] above
///    the level. Losses that were not resampled are taken as they are.
/// 4. *Weights* by [`WeightRule`] from the win rates; outside the competitive
///    set the win rate is 0.
/// 5. *Places*: by win rate, competitive before outclassed, by loss, by order;
///    the first is the winner. With significance, a lower loss alone does not
///    place a model of the competitive set before an earlier one.
///
/// Two things differ from the source. There, order is by block alone, so
/// that of two copies in one block each rules out the other. And there a model
/// without a loss has the weight of a win rate of 0, or all of it when it is
/// the earliest and every model failed; here it has none. As there, the
/// earliest model counts as an opponent even if it failed, which is why failed
/// models belong in `candidates`.
pub fn rank(
    candidates: &[Candidate],
    current_block: u64,
    rules: &RankingRules,
    resampled: &ResampledLosses,
) -> Vec<Standing> {
    let mut by_order: Vec<usize> = (0..candidates.len()).collect();
    by_order.sort_by_key(|&index| candidates[index].order());

    let mut standings: Vec<Standing> = candidates.iter().map(unranked).collect();
    let mut competitive = Vec::new();
    for (index, outclassed_by) in outclassed(candidates, &by_order, &rules.epsilon) {
        standings[index].outclassed_by = outclassed_by.map(|earlier| candidates[earlier].uid);
        if outclassed_by.is_none() {
            competitive.push(index);
        }
    }

    let duels = competitive.len().saturating_sub(1);
    for &index in &competitive {
        let candidate = &candidates[index];
        let beaten = |&&other: &&usize| {
            other != index
                && duel(candidate, &candidates[other], current_block, rules, resampled).won
        };
        let wins = competitive.iter().filter(beaten).count() as u32;
        standings[index].wins = wins;
        standings[index].win_rate = match duels {
            0 => f64::from(u8::from(candidate.is_scored())),
            duels => f64::from(wins) / duels as f64,
        };
    }

    let mut scored = by_order;
    scored.retain(|&index| candidates[index].is_scored());
    if let WeightRule::Softmax { temperature } = rules.weights {
        // In chronological order, for a sum that does not depend on the order given.
        let win_rates: Vec<f64> = scored.iter().map(|&index| standings[index].win_rate).collect();
        for (&index, weight) in scored.iter().zip(softmax(&win_rates, temperature)) {
            standings[index].weight = weight;
        }
    }

    // Stable, so that order decides what nothing else does.
    scored.sort_by(|&one, &other| {
        let (a, b) = (&standings[one], &standings[other]);
        (b.win_rate.total_cmp(&a.win_rate))
            .then(a.outclassed_by.is_some().cmp(&b.outclassed_by.is_some()))
            .then_with(|| match (rules.significance, a.outclassed_by) {
                (Some(_), None) => Ordering::Equal,
                _ => candidates[one].loss.total_cmp(&candidates[other].loss),
            })
    });
    for (place, &index) in (1..).zip(&scored) {
        standings[index].place = Some(place);
    }
    if let (WeightRule::WinnerTakesAll, Some(&winner)) = (rules.weights, scored.first()) {
        standings[winner].weight = 1.0;
    }
    standings
}

/// Every pair of candidates with a loss, both ways, in the order given;
/// `n (n - 1)` entries.
pub fn duels(
    candidates: &[Candidate],
    current_block: u64,
    rules: &RankingRules,
    resampled: &ResampledLosses,
) -> Vec<Duel> {
    let scored = || candidates.iter().filter(|candidate| candidate.is_scored());
    scored()
        .flat_map(|one| {
            scored()
                .filter(|other| other.order() != one.order())
                .map(|other| duel(one, other, current_block, rules, resampled))
        })
        .collect()
}

/// Whether one candidate wins over another, by epsilon and, where the rules ask
/// for it, by significance.
fn duel(
    one: &Candidate,
    other: &Candidate,
    current_block: u64,
    rules: &RankingRules,
    resampled: &ResampledLosses,
) -> Duel {
    let ahead = beats(one, other, &rules.epsilon, current_block);
    let p_value = rules
        .significance
        .filter(|_| ahead)
        .and_then(|_| chance_of_defeat(one, other, &rules.epsilon, current_block, resampled));
    let significant = match (rules.significance, p_value) {
        (Some(level), Some(p_value)) => p_value <= level,
        _ => true,
    };
    Duel {
        uid: one.uid,
        against: other.uid,
        won: ahead && significant,
        difference: one.loss - other.loss,
        p_value,
    }
}

/// Whether the first candidate beats the second, the earlier of the two
/// having its advantage.
pub fn beats(one: &Candidate, other: &Candidate, epsilon: &Epsilon, current_block: u64) -> bool {
    let discounted = |candidate: &Candidate| {
        candidate.discounted_loss(epsilon_at(epsilon, current_block, candidate.block))
    };
    if one.order() < other.order() {
        discounted(one) < other.comparable_loss()
    } else {
        one.comparable_loss() < discounted(other)
    }
}

/// Every candidate in turn, and the earlier one that rules it out, if any.
fn outclassed(
    candidates: &[Candidate],
    by_order: &[usize],
    epsilon: &Epsilon,
) -> Vec<(usize, Option<usize>)> {
    let epsilon = fully_decayed_epsilon(epsilon);
    // Below every earlier loss is below the lowest of them.
    let mut best: Option<usize> = None;
    by_order
        .iter()
        .map(|&index| {
            let loss = candidates[index].comparable_loss();
            let ruled_out_by =
                best.filter(|&best| loss >= candidates[best].discounted_loss(epsilon));
            if best.is_none_or(|best| loss < candidates[best].comparable_loss()) {
                best = Some(index);
            }
            (index, ruled_out_by)
        })
        .collect()
}

/// `exp(x / temperature)` over the sum of all; the greatest `x` is subtracted
/// first, which changes nothing but keeps the powers finite.
fn softmax(values: &[f64], temperature: f64) -> Vec<f64> {
    let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> =
        values.iter().map(|value| ((value - greatest) / temperature).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

fn unranked(candidate: &Candidate) -> Standing {
    Standing {
        uid: candidate.uid,
        outclassed_by: None,
        wins: 0,
        win_rate: 0.0,
        weight: 0.0,
        place: None,
    }
}
