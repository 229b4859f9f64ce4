//! The one call that gives a whole subnet: `get_selective_metagraph`.

use subxt::ext::scale_decode;
use subxt::ext::scale_decode::DecodeAsType;
use subxt::metadata::Metadata;
use subxt::utils::AccountId32;

use super::SubtensorError;
use super::at::{Answer, At};
use crate::names::field_names;

const API: &str = "SubnetInfoRuntimeApi";
/// The only mechanism of most subnets.
const FIRST_MECHANISM: u8 = 0;

/// The neurons of a subnet, by uid.
#[derive(Debug, DecodeAsType)]
#[decode_as_type(crate_path = "scale_decode")]
pub struct NeuronFields {
    pub hotkeys: Option<Vec<AccountId32>>,
    pub validator_permit: Option<Vec<bool>>,
    pub last_update: Option<Vec<u64>>,
    pub dividends: Option<Vec<u16>>,
    pub incentives: Option<Vec<u16>>,
    pub block_at_registration: Option<Vec<u64>>,
    /// In units.
    pub total_stake: Option<Vec<u64>>,
}

/// What the subnet demands of weights.
#[derive(Debug, Default, DecodeAsType)]
#[decode_as_type(crate_path = "scale_decode")]
pub struct RuleFields {
    pub tempo: Option<u64>,
    pub min_allowed_weights: Option<u16>,
    pub max_weights_limit: Option<u16>,
    pub weights_version: Option<u64>,
    pub weights_rate_limit: Option<u64>,
    pub commit_reveal_weights_enabled: Option<bool>,
    pub commit_reveal_period: Option<u64>,
}

/// What miners have committed: the bytes of each one's registration.
#[derive(Debug, DecodeAsType)]
#[decode_as_type(crate_path = "scale_decode")]
pub struct CommitmentFields {
    pub commitments: Option<Vec<(AccountId32, Vec<u8>)>>,
}

/// The names of [`NeuronFields`].
pub const NEURONS: &[&str] = &[
    "hotkeys",
    "validator_permit",
    "last_update",
    "dividends",
    "incentives",
    "block_at_registration",
    "total_stake",
];
/// The names of [`RuleFields`].
pub const RULES: &[&str] = &[
    "tempo",
    "min_allowed_weights",
    "max_weights_limit",
    "weights_version",
    "weights_rate_limit",
    "commit_reveal_weights_enabled",
    "commit_reveal_period",
];
/// The name of [`CommitmentFields`].
pub const COMMITMENTS: &[&str] = &["commitments"];

/// What the call gave; each part by itself, so that a runtime that lacks one
/// still gives the others.
pub struct Selected<'a>(Answer<'a>);

impl Selected<'_> {
    /// A part of it.
    pub fn part<Part: DecodeAsType>(&self) -> Result<Part, SubtensorError> {
        // `None` is a subnet that does not exist.
        self.0.decode::<Option<Part>>()?.ok_or_else(|| SubtensorError::Malformed {
            item: "the subnet".into(),
            problem: "there is none of this number".to_owned(),
        })
    }
}

/// Asks for some parts of the subnet, by the names of their fields; none where
/// the runtime cannot tell.
pub async fn select<'a>(
    at: &'a At,
    parts: &[&[&str]],
) -> Result<Option<Selected<'a>>, SubtensorError> {
    let is_first = at.subnet.mechanism == FIRST_MECHANISM;
    let function = if is_first { "get_selective_metagraph" } else { "get_selective_mechagraph" };
    let Some(indexes) = indexes(at.metadata(), function, &parts.concat()) else { return Ok(None) };
    let netuid = at.subnet.netuid;
    let answer = match is_first {
        true => at.call(API, function, &(netuid, indexes)).await?,
        false => at.call(API, function, &(netuid, at.subnet.mechanism, indexes)).await?,
    };
    Ok(answer.map(Selected))
}

/// The numbers by which the function is asked for fields. It numbers them as
/// the type of its answer does; the metadata tell what that is.
fn indexes(metadata: &Metadata, function: &str, wanted: &[&str]) -> Option<Vec<u16>> {
    let names = field_names(metadata, API, function)?;
    let index = |wanted: &&str| {
        let position = names.iter().position(|name| name == wanted)?;
        u16::try_from(position).ok()
    };
    Some(wanted.iter().filter_map(index).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subtensor::tests::metadata;

    #[test]
    fn fields_have_the_numbers_that_the_runtime_knows() {
        let wanted = [NEURONS, RULES, COMMITMENTS].concat();
        let indexes = |function| indexes(&metadata(), function, &wanted);
        let found = indexes("get_selective_metagraph").unwrap();
        let number = |name| found[wanted.iter().position(|wanted| *wanted == name).unwrap()];
        // The runtime's own enum of them.
        let rows = [
            ("tempo", 8),
            ("hotkeys", 52),
            ("validator_permit", 57),
            ("last_update", 59),
            ("total_stake", 69),
            ("commitments", 73),
        ];
        for (name, expected) in rows {
            assert_eq!(number(name), expected, "{name}");
        }
        assert_eq!(found.len(), wanted.len());
        assert_eq!(indexes("get_selective_mechagraph"), Some(found));
        assert_eq!(indexes("get_neurons"), None);
    }
}
