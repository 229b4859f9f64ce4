use std::collections::BTreeSet;

use crate::chain::Neuron;

/// Uids that other validators hold to be good, and that are worth a look
/// beside one's own winners: whoever has at least `min_share` of the weights
/// of a validator that has a permit and at least `min_stake` TAO.
///
/// `weights` gives each neuron's weights as (uid, weight) on the chain's
/// scale; only their ratios matter. A uid that is listed twice is taken by
/// its larger entry.
///
/// Source: `get_top_miners` of the subnet 9 validator.
pub fn top_miners<'a>(
    neurons: impl IntoIterator<Item = (&'a Neuron, &'a [(u16, u16)])>,
    min_stake: f64,
    min_share: f64,
) -> BTreeSet<u16> {
    let mut top = BTreeSet::new();
    for (neuron, weights) in neurons {
        let counts = neuron.validator_permit && neuron.stake >= min_stake;
        if !counts {
            continue;
        }
        let total: u64 = weights.iter().map(|&(_, weight)| u64::from(weight)).sum();
        let threshold = total as f64 * min_share;
        let above = weights.iter().filter(|&&(_, weight)| f64::from(weight) >= threshold);
        top.extend(above.map(|&(uid, _)| uid));
    }
    top
}
