//! Why the chain did not take what it was sent, and when to try again.

use crate::source::SourceError;

/// When what failed may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Retry {
    /// Not before somebody has changed something: the stake, the registration,
    /// the version of the validator.
    Never,
    /// When the chain has reached this block.
    AtBlock(u64),
    /// At the next occasion: the chain's state has moved on, or its node was not
    /// reached.
    Later,
}

/// Why weights were not set. Reads after "failed to ...". A refusal is told as
/// part of it, so that it is no source.
#[derive(Debug, thiserror::Error)]
pub enum SetWeightsError {
    /// The chain looked at them and said no.
    #[error("set weights: {0}")]
    Refused(WeightsRefusal),
    /// The chain would say no, and will not from some block on: nothing was sent.
    #[error("set weights: {refusal}; block {block} is the first that may have them")]
    TooEarly {
        /// What it would say.
        refusal: WeightsRefusal,
        /// From when on it would not.
        block: u64,
    },
    /// It was not about the weights.
    #[error("set weights: {0}")]
    Extrinsic(ExtrinsicRefusal),
    /// They are on the chain, and are not those that were sent.
    #[error("set weights: the chain has others than were sent, at block {block}")]
    ReadBack {
        /// The block that the extrinsic is in.
        block: u64,
    },
    /// The chain was not reached, or said nothing.
    #[error("set weights")]
    Chain(#[source] SourceError),
}

impl From<WeightsRefusal> for SetWeightsError {
    fn from(refusal: WeightsRefusal) -> SetWeightsError {
        SetWeightsError::Refused(refusal)
    }
}

impl From<ExtrinsicRefusal> for SetWeightsError {
    fn from(refusal: ExtrinsicRefusal) -> SetWeightsError {
        SetWeightsError::Extrinsic(refusal)
    }
}

impl SetWeightsError {
    /// When to try again.
    pub fn retry(&self) -> Retry {
        match self {
            SetWeightsError::Refused(refusal) => refusal.retry(),
            SetWeightsError::TooEarly { block, .. } => Retry::AtBlock(*block),
            SetWeightsError::Extrinsic(refusal) => refusal.retry(),
            SetWeightsError::ReadBack { .. } | SetWeightsError::Chain(_) => Retry::Later,
        }
    }
}

/// What the chain has against an extrinsic, whatever it asks for.
///
/// Source: `InvalidTransaction` and `UnknownTransaction` of Substrate, the codes
/// of its transaction pool, and `DispatchError`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtrinsicRefusal {
    /// Its number was used.
    #[error("another extrinsic of this key was first (Stale)")]
    Stale,
    /// Its number is that of a later one.
    #[error("earlier extrinsics of this key are not in yet (Future)")]
    Future,
    /// The signature, or what it is over.
    #[error(
        "its signature does not fit: the runtime has changed meanwhile, or has a form of \
         extrinsics that this program does not know (BadProof)"
    )]
    BadProof,
    /// Its time is over.
    #[error("it took too long to get into a block (AncientBirthBlock)")]
    AncientBirthBlock,
    /// The key's account is empty.
    #[error("the key cannot pay its fee (Payment)")]
    Payment,
    /// A full block.
    #[error("the block has no room for it (ExhaustsResources)")]
    ExhaustsResources,
    /// The runtime has no such call for this signer.
    #[error("the runtime does not take this call from this key ({0})")]
    NotAllowed(&'static str),
    /// The pool has seen it fail.
    #[error("the node's pool has banned it for a while")]
    Banned,
    /// The pool has it.
    #[error("the node's pool has it already")]
    AlreadyImported,
    /// Another extrinsic with the same number waits.
    #[error("another extrinsic of this key waits in the node's pool")]
    PriorityTooLow,
    /// A full pool.
    #[error("the node's pool has no room for it")]
    Dropped,
    /// Another extrinsic with the same number got in.
    #[error("another extrinsic of this key took its place")]
    Usurped,
    /// Sent, and in no block before its time was over.
    #[error("it was in no block up to {last_block}, and will be in none")]
    Expired {
        /// The last block that could have had it.
        last_block: u64,
    },
    /// A code of the runtime's own that is not known.
    #[error("the runtime rejects it with its code {0}")]
    Custom(u8),
    /// The call ended in an error of the runtime that is not known.
    #[error("the call failed: {0}")]
    Dispatch(String),
    /// Something else, in the node's words.
    #[error("the node rejects it: {0:?}")]
    Other(String),
}

impl ExtrinsicRefusal {
    /// When to try again.
    pub fn retry(&self) -> Retry {
        use ExtrinsicRefusal::*;
        match self {
            Payment | NotAllowed(_) | Custom(_) | Dispatch(_) => Retry::Never,
            _ => Retry::Later,
        }
    }
}

/// What the chain has against weights, by the names that the runtime gives it.
/// The order is that of its checks: of several reasons it names the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum WeightsRefusal {
    /// The subnet wants them timelocked.
    #[error("weights must be committed and revealed here (CommitRevealEnabled)")]
    CommitRevealEnabled,
    /// Subnet 0 has none.
    #[error("the root network has no weights (CanNotSetRootNetworkWeights)")]
    CanNotSetRootNetworkWeights,
    /// Two lists that belong together.
    #[error("there are not as many weights as uids (WeightVecNotEqualSize)")]
    WeightVecNotEqualSize,
    /// The subnet has fewer.
    #[error("the subnet has no such mechanism (MechanismDoesNotExist)")]
    MechanismDoesNotExist,
    /// More than there are neurons.
    #[error("there are more weights than neurons (UidsLengthExceedUidsInSubNet)")]
    UidsLengthExceedUidsInSubNet,
    /// Whoever signs has no uid.
    #[error("the hotkey is not registered in the subnet (HotKeyNotRegisteredInSubNet)")]
    HotKeyNotRegisteredInSubNet,
    /// Below the threshold.
    #[error("the stake is too low (NotEnoughStakeToSetWeights)")]
    NotEnoughStakeToSetWeights,
    /// An old validator.
    #[error("the subnet demands a newer validator (IncorrectWeightVersionKey)")]
    IncorrectWeightVersionKey,
    /// The rate limit.
    #[error("the last weights were set too few blocks ago (SettingWeightsTooFast)")]
    SettingWeightsTooFast,
    /// Too many others have more stake.
    #[error("the neuron has no validator permit (NeuronNoValidatorPermit)")]
    NeuronNoValidatorPermit,
    /// A uid twice.
    #[error("a uid is named twice (DuplicateUids)")]
    DuplicateUids,
    /// A uid of nobody.
    #[error("a uid belongs to nobody (UidVecContainInvalidOne)")]
    UidVecContainInvalidOne,
    /// Fewer than demanded.
    #[error("there are too few weights (WeightVecLengthIsLow)")]
    WeightVecLengthIsLow,
    /// One is too large a share.
    #[error("a weight is too large a share of all (MaxWeightExceeded)")]
    MaxWeightExceeded,
    /// The subnet wants them plain.
    #[error("weights are not committed here (CommitRevealDisabled)")]
    CommitRevealDisabled,
    /// Another form of commits.
    #[error("the subnet wants commits of another version (IncorrectCommitRevealVersion)")]
    IncorrectCommitRevealVersion,
    /// The rate limit of commits.
    #[error("the last weights were committed too few blocks ago (CommittingWeightsTooFast)")]
    CommittingWeightsTooFast,
    /// Ten in an epoch.
    #[error("too many commits wait to be revealed (TooManyUnrevealedCommits)")]
    TooManyUnrevealedCommits,
    /// A round of the past.
    #[error("the round that is to reveal the weights is over (InvalidRevealRound)")]
    InvalidRevealRound,
    /// Nothing to reveal.
    #[error("there is no commit to reveal (NoWeightsCommitFound)")]
    NoWeightsCommitFound,
    /// Revealed at another time.
    #[error("this is not the epoch in which the commit is revealed (RevealTooEarly)")]
    RevealTooEarly,
}

impl WeightsRefusal {
    /// What the runtime calls each of them.
    const NAMES: [(WeightsRefusal, &'static str); 21] = {
        macro_rules! named {
            ($($name:ident),* $(,)?) => { [$((WeightsRefusal::$name, stringify!($name))),*] };
        }
        named![
            CommitRevealEnabled,
            CanNotSetRootNetworkWeights,
            WeightVecNotEqualSize,
            MechanismDoesNotExist,
            UidsLengthExceedUidsInSubNet,
            HotKeyNotRegisteredInSubNet,
            NotEnoughStakeToSetWeights,
            IncorrectWeightVersionKey,
            SettingWeightsTooFast,
            NeuronNoValidatorPermit,
            DuplicateUids,
            UidVecContainInvalidOne,
            WeightVecLengthIsLow,
            MaxWeightExceeded,
            CommitRevealDisabled,
            IncorrectCommitRevealVersion,
            CommittingWeightsTooFast,
            TooManyUnrevealedCommits,
            InvalidRevealRound,
            NoWeightsCommitFound,
            RevealTooEarly,
        ]
    };

    /// All of them.
    pub fn all() -> impl Iterator<Item = WeightsRefusal> {
        WeightsRefusal::NAMES.into_iter().map(|(refusal, _)| refusal)
    }

    /// What the runtime calls it.
    pub fn name(self) -> &'static str {
        let mut names = WeightsRefusal::NAMES.into_iter();
        names.find(|(refusal, _)| *refusal == self).map_or("", |(_, name)| name)
    }

    /// The refusal that the runtime calls so.
    pub fn from_name(name: &str) -> Option<WeightsRefusal> {
        let mut names = WeightsRefusal::NAMES.into_iter();
        names.find(|(_, known)| *known == name).map(|(refusal, _)| refusal)
    }

    /// The refusal that the transaction pool tells by a number.
    ///
    /// Source: `CustomTransactionError` of the runtime.
    pub fn from_pool_code(code: u8) -> Option<WeightsRefusal> {
        match code {
            1 => Some(WeightsRefusal::NotEnoughStakeToSetWeights),
            6 => Some(WeightsRefusal::SettingWeightsTooFast),
            15 => Some(WeightsRefusal::InvalidRevealRound),
            16 => Some(WeightsRefusal::NoWeightsCommitFound),
            17 => Some(WeightsRefusal::RevealTooEarly),
            18 => Some(WeightsRefusal::WeightVecNotEqualSize),
            19 => Some(WeightsRefusal::HotKeyNotRegisteredInSubNet),
            _ => None,
        }
    }

    /// When to try again, where the block is not known.
    pub fn retry(self) -> Retry {
        use WeightsRefusal::*;
        match self {
            // The owner may switch, neurons come and go, and time passes.
            CommitRevealEnabled
            | CommitRevealDisabled
            | UidsLengthExceedUidsInSubNet
            | UidVecContainInvalidOne
            | WeightVecLengthIsLow
            | SettingWeightsTooFast
            | CommittingWeightsTooFast
            | TooManyUnrevealedCommits
            | InvalidRevealRound
            | RevealTooEarly => Retry::Later,
            CanNotSetRootNetworkWeights
            | WeightVecNotEqualSize
            | MechanismDoesNotExist
            | HotKeyNotRegisteredInSubNet
            | NotEnoughStakeToSetWeights
            | IncorrectWeightVersionKey
            | NeuronNoValidatorPermit
            | DuplicateUids
            | MaxWeightExceeded
            | IncorrectCommitRevealVersion
            | NoWeightsCommitFound => Retry::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_the_names_that_the_runtime_gives_them() {
        for refusal in WeightsRefusal::all() {
            let name = format!("{refusal:?}");
            assert_eq!(refusal.name(), name);
            assert_eq!(WeightsRefusal::from_name(&name), Some(refusal));
            assert!(refusal.to_string().ends_with(&format!("({name})")), "{refusal}");
        }
        assert_eq!(WeightsRefusal::from_name("Unheard"), None);
    }

    #[test]
    fn when_to_try_again() {
        let refused = |one: WeightsRefusal| SetWeightsError::from(one).retry();
        let failed = |one: ExtrinsicRefusal| SetWeightsError::from(one).retry();
        let rows = [
            (refused(WeightsRefusal::SettingWeightsTooFast), Retry::Later),
            (refused(WeightsRefusal::NotEnoughStakeToSetWeights), Retry::Never),
            (failed(ExtrinsicRefusal::Stale), Retry::Later),
            (failed(ExtrinsicRefusal::Payment), Retry::Never),
            (failed(ExtrinsicRefusal::Custom(255)), Retry::Never),
        ];
        for (found, expected) in rows {
            assert_eq!(found, expected);
        }
        // A chain of causes says it once.
        let stale = SetWeightsError::from(ExtrinsicRefusal::Stale);
        assert_eq!(
            stale.to_string(),
            "set weights: another extrinsic of this key was first (Stale)"
        );
        assert!(std::error::Error::source(&stale).is_none());
        let refusal = WeightsRefusal::SettingWeightsTooFast;
        let early = SetWeightsError::TooEarly { refusal, block: 7 };
        assert_eq!(early.retry(), Retry::AtBlock(7));
        assert_eq!(
            early.to_string(),
            "set weights: the last weights were set too few blocks ago (SettingWeightsTooFast); \
             block 7 is the first that may have them"
        );
    }

    #[test]
    fn what_the_pool_tells_by_a_number() {
        let known: Vec<u8> =
            (0..=255).filter(|code| WeightsRefusal::from_pool_code(*code).is_some()).collect();
        assert_eq!(known, [1, 6, 15, 16, 17, 18, 19]);
    }
}
