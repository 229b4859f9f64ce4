//! What a simulation file says, before it is known to make sense.
//!
//! The doc comments are the descriptions in the JSON Schema, which editors
//! show. A field without `serde(default)` must be given.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::competition::RankingSection;
use crate::document::{
    Entries, Field, Fraction, Name, NonNegative, PathText, Positive, Text, Whole,
};
use crate::limits::{MAX_SIMULATED_EPOCHS, MAX_SIMULATED_PARTICIPANTS, MAX_SIMULATED_STAKE};

/// A simulated subnet: who takes part, how each behaves, and by what rules the
/// miners are ranked. Keys that begin with `x-` are ignored; put YAML anchors
/// there.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("patternProperties" = {"^x-": true}))]
pub struct SimulationFile {
    /// Version of this format.
    pub version: Field<Whole<1, 1>>,
    /// Title for people. Default: the file's name.
    #[serde(default)]
    #[schemars(example = &"What does copying pay?")]
    pub title: Field<Text>,
    /// How many epochs are paid; one before them, in which validators get their
    /// permits, is not counted.
    #[schemars(example = 60)]
    pub epochs: Field<Whole<1, { MAX_SIMULATED_EPOCHS }>>,
    /// The competition whose ranking decides. Either this or `ranking`.
    #[serde(default)]
    pub competition: Field<CompetitionReferenceSection>,
    /// How scores become weights, as in a competition file. Either this or
    /// `competition`.
    #[serde(default)]
    pub ranking: Field<RankingSection>,
    /// Blocks between a commitment and its first evaluation. Default: the
    /// competition's, else 0.
    #[serde(default)]
    #[schemars(example = 50)]
    pub delay_blocks: Field<Whole<0, 1_000_000>>,
    /// The subnet itself.
    #[serde(default)]
    pub subnet: Field<SubnetSection>,
    /// How far measured losses are from true ones. Default: not at all.
    #[serde(default)]
    pub noise: Field<NoiseSection>,
    /// Validators by a name of your choice.
    pub validators: Field<Entries<ValidatorSection>>,
    /// Miners by a name of your choice.
    pub miners: Field<Entries<MinerSection>>,
}

/// A competition of another file.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompetitionReferenceSection {
    /// The competition file: a path that begins with `./`, `../` or `/`,
    /// relative to this file.
    #[schemars(example = &"./sn9.yaml")]
    pub file: Field<PathText>,
    /// Key of the competition. Default: the only one.
    #[serde(default)]
    pub key: Field<Name>,
}

/// The subnet itself.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubnetSection {
    /// Blocks of an epoch. A block takes 12 seconds. Default: 360.
    #[serde(default)]
    #[schemars(example = 360)]
    pub tempo: Field<Whole<20, 7200>>,
    /// Tokens that miners and validators share per block, at most 1000.
    /// Default: 1.
    #[serde(default)]
    #[schemars(example = 1.0)]
    pub emission_per_block: Field<Positive>,
    /// Yuma Consensus, version 2 or 3. Default: 3.
    #[serde(default)]
    pub yuma: Field<Whole<2, 3>>,
    /// Whether bonds move faster where a validator is ahead of consensus; with
    /// Yuma 3 only. Default: false.
    #[serde(default)]
    pub liquid_alpha: Field<bool>,
    /// Share of the stake that must support a weight. Default: 32767/65535.
    #[serde(default)]
    #[schemars(example = 0.5)]
    pub kappa: Field<Fraction>,
    /// How much a weight above consensus is cut before it becomes a bond.
    /// Default: 1, down to the consensus.
    #[serde(default)]
    pub bonds_penalty: Field<Fraction>,
    /// Share of the old bonds in the new. Default: 0.9.
    #[serde(default)]
    pub bonds_moving_average: Field<Fraction>,
}

/// How far measured losses are from true ones: factors of `1 + deviation`,
/// normally distributed.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoiseSection {
    /// Standard deviation of what all models share in a validator's round: its
    /// rows are harder or easier. Default: 0.
    #[serde(default)]
    #[schemars(example = 0.01)]
    pub shared: Field<NonNegative>,
    /// Standard deviation of what each model has to itself in a validator's
    /// round; equal weights have it alike. Default: 0.
    #[serde(default)]
    #[schemars(example = 0.0005)]
    pub own: Field<NonNegative>,
}

/// A validator, or several alike.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ValidatorSection {
    /// How many there are. With more than one, `-1` and so on is added to the
    /// name. Default: 1.
    #[serde(default)]
    pub count: Field<Whole<1, { MAX_SIMULATED_PARTICIPANTS as u64 }>>,
    /// Tokens of each.
    #[schemars(example = 10_000)]
    pub stake: Field<Whole<1, { MAX_SIMULATED_STAKE }>>,
    /// What it does. Default: honest.
    #[serde(default)]
    pub behaviour: Field<ValidatorBehaviourSection>,
}

/// What a validator does.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ValidatorBehaviourSection {
    /// Evaluates all models in every epoch and sets weights by the rules.
    Honest,
    /// Evaluates nothing and sets the mean of the other validators' weights, by
    /// their stake.
    WeightCopier {
        /// Which weights it sees. Default: current.
        #[serde(default)]
        reads: Field<super::Reads>,
    },
}

/// A miner, or several alike.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MinerSection {
    /// How many there are. With more than one, `-1` and so on is added to the
    /// name. Default: 1.
    #[serde(default)]
    pub count: Field<Whole<1, { MAX_SIMULATED_PARTICIPANTS as u64 }>>,
    /// What it does.
    pub behaviour: Field<MinerBehaviourSection>,
}

/// What a miner does. Improvements and epsilon are fractions of a loss.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum MinerBehaviourSection {
    /// Trains: submits a model, and again and again a better one of its own.
    Honest {
        /// True loss of its first model.
        #[schemars(example = 2.5)]
        loss: Field<Positive>,
        /// By how much each model is better than the one before. Default: 0.01.
        #[serde(default)]
        #[schemars(example = 0.01)]
        improvement: Field<Fraction>,
        /// Epochs from one submission to the next. Default: 4.
        #[serde(default)]
        every_epochs: Field<Whole<1, { MAX_SIMULATED_EPOCHS }>>,
        /// Epoch of its first submission. Default: 1.
        #[serde(default)]
        from_epoch: Field<Whole<1, { MAX_SIMULATED_EPOCHS }>>,
    },
    /// Submits once, late, a model better than the best there is.
    LateImprover {
        /// When.
        #[schemars(example = 30)]
        from_epoch: Field<Whole<1, { MAX_SIMULATED_EPOCHS }>>,
        /// By how much it is better. Default: 0.02.
        #[serde(default)]
        #[schemars(example = 0.02)]
        improvement: Field<Fraction>,
    },
    /// Submits the weights of the best model of others, some blocks after they
    /// were submitted.
    Copycat {
        /// How many. Default: 5.
        #[serde(default)]
        #[schemars(example = 5)]
        after_blocks: Field<Whole<1, 7200>>,
    },
    /// Submits the weights of the best model of others in the very block in
    /// which they are submitted, behind the original.
    SameBlockCopycat,
    /// Submits a model once that often or always fails.
    Crashing {
        /// True loss where it does not fail.
        #[schemars(example = 2.0)]
        loss: Field<Positive>,
        /// How often it fails, in each round of each validator. Default: 1.
        #[serde(default)]
        chance: Field<Fraction>,
    },
    /// Takes the best model of others and makes it better by about as much as
    /// epsilon demands.
    EpsilonGamer {
        /// The improvement, as a multiple of the epsilon that the best model
        /// has at the end of the epoch.
        #[schemars(example = 0.9, example = 1.1)]
        factor: Field<NonNegative>,
        /// Epochs from one attempt to the next. Default: 4.
        #[serde(default)]
        every_epochs: Field<Whole<1, { MAX_SIMULATED_EPOCHS }>>,
        /// Epoch of its first attempt. Default: 1.
        #[serde(default)]
        from_epoch: Field<Whole<1, { MAX_SIMULATED_EPOCHS }>>,
    },
}
