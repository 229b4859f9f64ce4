use std::collections::{BTreeMap, BTreeSet};

use super::Standing;
use crate::competition::{OnAllFailed, RankingRules};

/// Weights by uid; who is not in it has 0.
pub type Weights = BTreeMap<u16, f64>;

/// A competition's part in the subnet's weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CompetitionShare<'a> {
    /// Share of the emission, in [0, 1].
    pub emission_share: f64,
    /// Weights below this count as nothing; see [`RankingRules::min_weight`].
    pub min_weight: f64,
    /// The competition's averaged weights; empty before its first round.
    pub weights: &'a Weights,
}

/// The averaged weights of a competition after a round.
///
/// `previous` is the average so far; none before the first round. When no
/// candidate has a loss, [`OnAllFailed`] says what happens: the average stays
/// as it is, or it is emptied at once.
pub fn next_weights(
    previous: Option<&Weights>,
    standings: &[Standing],
    rules: &RankingRules,
) -> Weights {
    if standings.iter().all(|standing| standing.place.is_none()) {
        return match rules.on_all_failed {
            OnAllFailed::KeepPrevious => previous.cloned().unwrap_or_default(),
            OnAllFailed::Zero => Weights::new(),
        };
    }
    let round = standings.iter().map(|standing| (standing.uid, standing.weight)).collect();
    moving_average(previous, &round, rules)
}

/// The same where some have an average and could not be looked at: as nothing
/// new is known of them, they keep their part `m` of it, and the others divide
/// the rest as if it were the whole.
///
/// `next = previous` for the absent, and `(1 - m) * next_weights(previous / (1 - m))`
/// for the others.
pub fn next_weights_without(
    absent: &BTreeSet<u16>,
    previous: Option<&Weights>,
    standings: &[Standing],
    rules: &RankingRules,
) -> Weights {
    let is_kept = |previous: &&Weights| previous.keys().any(|uid| absent.contains(uid));
    let Some(previous) = previous.filter(is_kept) else {
        return next_weights(previous, standings, rules);
    };
    let previous = if rules.min_weight > 0.0 { scaled_to_one(previous) } else { previous.clone() };
    let (kept, others): (Weights, Weights) =
        previous.into_iter().partition(|(uid, _)| absent.contains(uid));
    let left = (1.0 - kept.values().sum::<f64>()).max(0.0);
    let part = |weight: f64| if left > 0.0 { weight / left } else { 0.0 };
    let others = others.into_iter().map(|(uid, weight)| (uid, part(weight))).collect();
    let mut next = next_weights(Some(&others), standings, rules);
    next.values_mut().for_each(|weight| *weight *= left);
    next.extend(kept);
    next
}

/// `p * previous + (1 - p) * round`, where `p` is
/// [`RankingRules::moving_average_previous`] and the round's weights are
/// scaled to sum 1; these alone when there is no average yet.
///
/// Under a [`RankingRules::min_weight`] the average so far is scaled to sum 1
/// as well: the source does so when it applies the minimum.
///
/// Source: `CompetitionTracker.record_competition_weights` of the subnet 9
/// validator, which computes in f32.
pub fn moving_average(
    previous: Option<&Weights>,
    round: &Weights,
    rules: &RankingRules,
) -> Weights {
    let mut average = scaled_to_one(round);
    let Some(previous) = previous else { return average };
    let share = rules.moving_average_previous;
    average.values_mut().for_each(|weight| *weight *= 1.0 - share);
    let previous = if rules.min_weight > 0.0 { scaled_to_one(previous) } else { previous.clone() };
    for (uid, weight) in previous {
        *average.entry(uid).or_default() += share * weight;
    }
    average
}

/// The subnet's weights: the sum over competitions of share times weight,
/// scaled to sum 1, so that a competition without weights gives its share to
/// the others. Empty or all 0 when there is nothing to give.
///
/// Source: `CompetitionTracker.get_subnet_weights` of the subnet 9 validator.
pub fn split_emission(competitions: &[CompetitionShare<'_>]) -> Weights {
    let mut subnet = Weights::new();
    for competition in competitions {
        for (uid, weight) in without_small(competition.weights, competition.min_weight) {
            *subnet.entry(uid).or_default() += weight * competition.emission_share;
        }
    }
    scaled_to_one(&subnet)
}

/// What each competition gives to whom, in [0, 1]: its weights times its share,
/// where the shares of competitions without weights go to the others. Together
/// they are [`split_emission`], but for rounding and for weights that do not sum
/// to 1.
pub fn emission_by_competition(competitions: &[CompetitionShare<'_>]) -> Vec<Weights> {
    // Each alone, scaled to sum 1 or all zero.
    let alone = competitions.iter().map(|one| split_emission(std::slice::from_ref(one)));
    let mut alone: Vec<Weights> = alone.collect();
    let given: f64 = competitions
        .iter()
        .zip(&alone)
        .filter(|(_, weights)| weights.values().any(|weight| *weight > 0.0))
        .map(|(competition, _)| competition.emission_share)
        .sum();
    for (competition, weights) in competitions.iter().zip(&mut alone) {
        let part = |weight: f64| weight * competition.emission_share / given;
        weights.values_mut().for_each(|one| *one = if given > 0.0 { part(*one) } else { 0.0 });
    }
    alone
}

fn without_small(weights: &Weights, min_weight: f64) -> Weights {
    if min_weight <= 0.0 {
        return weights.clone();
    }
    let mut kept = scaled_to_one(weights);
    kept.retain(|_, weight| *weight >= min_weight);
    scaled_to_one(&kept)
}

/// The same ratios with sum 1; all 0 when there is no positive, finite sum.
fn scaled_to_one(weights: &Weights) -> Weights {
    let sum: f64 = weights.values().sum();
    let scale = |weight: f64| if sum > 0.0 && sum.is_finite() { weight / sum } else { 0.0 };
    weights.iter().map(|(&uid, &weight)| (uid, scale(weight))).collect()
}
