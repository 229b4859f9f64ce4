//! From a simulation file to a simulation, or to everything that is wrong.

use std::collections::BTreeMap;
use std::path::Path;

use super::file::{
    CompetitionReferenceSection, MinerBehaviourSection, NoiseSection, SimulationFile,
    SubnetSection, ValidatorBehaviourSection,
};
use super::{Miner, MinerBehaviour, Noise, Reads, Simulation, Validator, ValidatorBehaviour};
use crate::competition::{Competition, Named, RankingRules, Subnet, named, ranking_rules};
use crate::document::{
    Checked, Content, Entries, Field, Fraction, Given, Name, Place, Problems, Source, Whole,
    did_you_mean, quote, read, tree,
};
use crate::limits::{MAX_DOCUMENT_BYTES, MAX_SIMULATED_EMISSION, MAX_SIMULATED_PARTICIPANTS};
use crate::yuma::{Bonding, EpochRules, LiquidAlpha};

const DEFAULT_IMPROVEMENT: f64 = 0.01;
const DEFAULT_LATE_IMPROVEMENT: f64 = 0.02;
const DEFAULT_EVERY_EPOCHS: u32 = 4;
const DEFAULT_COPY_BLOCKS: u64 = 5;
/// Of bonds: their moving average is kept in millionths.
const MILLION: f64 = 1_000_000.0;

/// Reads the competition file that a simulation names, or says why not: after
/// "failed to ...".
pub type RulesOf<'a> = dyn Fn(&Path) -> Result<Subnet, String> + 'a;

/// Reads a simulation file, and finds everything that is wrong with it.
pub fn check_simulation(source: &Source<'_>, rules_of: &RulesOf<'_>) -> Checked<Simulation> {
    let problems = Problems::new();
    let read = read::<SimulationFile>(source.text, &problems);
    let simulation =
        read.value.given().and_then(|given| simulation(&problems, source, rules_of, given));
    problems.into_checked(source, simulation)
}

/// Whether a document is meant as a simulation: it has the key `miners`.
pub fn is_simulation(text: &str) -> bool {
    // No larger than what is read.
    if text.len() as u64 > MAX_DOCUMENT_BYTES {
        return false;
    }
    let tree = tree(text, &Problems::new(), |_| String::new());
    let Some(Content::Mapping(entries)) = tree.as_ref().map(|root| &root.content) else {
        return false;
    };
    entries.iter().any(|entry| entry.key() == "miners")
}

/// The JSON Schema of simulation files, for editors; ends in a line feed.
pub fn simulation_schema() -> String {
    let schema = schemars::schema_for!(SimulationFile);
    // A JSON value always serialises.
    format!("{:#}\n", schema.as_value())
}

fn simulation(
    problems: &Problems,
    source: &Source<'_>,
    rules_of: &RulesOf<'_>,
    given: &Given<SimulationFile>,
) -> Option<Simulation> {
    let Given { value: file, place } = given;
    let version = problems.required(&file.version, "version", *place);
    let epochs = problems.required(&file.epochs, "epochs", *place);
    let title = file.title.optional(|given| Some(given.value.0.clone()));
    let rules = rules(problems, source, rules_of, given);
    let delay_blocks = file.delay_blocks.optional(|given| Some(given.value.get()));
    let subnet = file.subnet.optional(|given| subnet(problems, &given.value));
    let subnet = subnet
        .and_then(|found| found.or_else(|| self::subnet(problems, &SubnetSection::default())));
    let noise = file.noise.optional(|given| noise(&given.value));
    let mut names = Names { problems, source, taken: BTreeMap::new(), full: false };
    let validators = problems.required(&file.validators, "validators", *place);
    let validators = validators.and_then(|given| validators_in(&mut names, given));
    let miners = problems.required(&file.miners, "miners", *place);
    let miners = miners.and_then(|given| miners_in(&mut names, given));
    version?;
    let rules = rules?;
    let (epoch, emission_per_block) = subnet?;
    Some(Simulation {
        title: title?,
        epochs: epochs?.value.to_u32(),
        competition: rules.competition,
        ranking: rules.ranking,
        delay_blocks: delay_blocks?.unwrap_or(rules.delay_blocks),
        epoch,
        emission_per_block,
        noise: noise?.unwrap_or_default(),
        validators: validators?,
        miners: miners?,
    })
}

/// What decides who wins.
struct Rules {
    competition: Option<String>,
    ranking: RankingRules,
    delay_blocks: u64,
}

fn rules(
    problems: &Problems,
    source: &Source<'_>,
    rules_of: &RulesOf<'_>,
    given: &Given<SimulationFile>,
) -> Option<Rules> {
    let Given { value: file, place } = given;
    let (mut rules, at) = match (&file.competition, &file.ranking) {
        (Field::Absent, Field::Absent) => {
            let message = "one of the keys `competition` and `ranking` is missing";
            problems.error(place.key, message, None);
            return None;
        }
        (Field::Absent, ranking) => {
            let given = ranking.given()?;
            let ranking = ranking_rules(problems, given)?;
            let at = given.value.significance.given().map_or(given.place, |given| given.place);
            (Rules { competition: None, ranking, delay_blocks: 0 }, at)
        }
        (competition, Field::Absent) => {
            let given = competition.given()?;
            let competition = competition_of(problems, source, rules_of, given)?;
            let rules = Rules {
                ranking: competition.ranking,
                delay_blocks: competition.evaluation.delay_blocks,
                competition: Some(competition.title),
            };
            (rules, given.place)
        }
        (_, ranking) => {
            let at = ranking.given().map_or(place.key, |given| given.place.key);
            let hint = "remove the one that shall not count".to_owned();
            problems.error(at, "both `competition` and `ranking` are given", Some(hint));
            return None;
        }
    };
    if rules.ranking.significance.take().is_some() {
        let message = "`significance` has no effect: simulated losses have no rows";
        problems.warning(at.key, message, None);
    }
    Some(rules)
}

fn competition_of(
    problems: &Problems,
    source: &Source<'_>,
    rules_of: &RulesOf<'_>,
    given: &Given<CompetitionReferenceSection>,
) -> Option<Competition> {
    let Given { value: section, place } = given;
    let file = problems.required(&section.file, "file", *place)?;
    let at = file.place.value;
    let Some(Named::Local(path)) = named(&file.value.0, source.directory) else {
        let hint = "a path begins with `./`, `../` or `/`".to_owned();
        problems.error(at, format!("{} is no path", quote(&file.value.0)), Some(hint));
        return None;
    };
    let subnet = match rules_of(&path) {
        Ok(subnet) => subnet,
        Err(reason) => {
            problems.error(at, format!("failed to {reason}"), None);
            return None;
        }
    };
    let keys = || subnet.competitions.iter().map(|competition| competition.key.as_str());
    let found = match &section.key {
        Field::Invalid => None,
        Field::Absent if subnet.competitions.len() == 1 => Some(0),
        Field::Absent => {
            let message = "the file has several competitions: the key `key` is missing";
            let listed: Vec<String> = keys().map(quote).collect();
            problems.error(place.key, message, Some(format!("they are: {}", listed.join(", "))));
            None
        }
        Field::Given(Given { value: Name(key), place }) => {
            let found = keys().position(|known| known == key);
            if found.is_none() {
                let message = format!("unknown competition {}", quote(key));
                problems.error(place.value, message, did_you_mean(key, keys()));
            }
            found
        }
    };
    subnet.competitions.get(found?).cloned()
}

/// Consensus, and tokens per block.
fn subnet(problems: &Problems, section: &SubnetSection) -> Option<(EpochRules, f64)> {
    let usual = EpochRules::default();
    let tempo = section.tempo.optional(|given| Some(given.value.get()));
    let emission = section.emission_per_block.optional(|given| {
        let tokens = given.value.get();
        if tokens <= MAX_SIMULATED_EMISSION {
            return Some(tokens);
        }
        let message = format!("{tokens} tokens per block are more than {MAX_SIMULATED_EMISSION}");
        problems.error(given.place.value, message, None);
        None
    });
    let yuma = section.yuma.optional(|given| Some(given.value.get()));
    let liquid = section.liquid_alpha.or(false);
    let share = |field: &Field<Fraction>, default| {
        let share = field.optional(|given| Some(share_of(given.value.get(), f64::from(u16::MAX))));
        share.map(|share| share.map_or(default, |share| share as u16))
    };
    let kappa = share(&section.kappa, usual.kappa);
    let bonds_penalty = share(&section.bonds_penalty, usual.bonds_penalty);
    let average =
        section.bonds_moving_average.optional(|given| Some(share_of(given.value.get(), MILLION)));
    let bonding = match (yuma?.unwrap_or(3), liquid?) {
        (2, true) => {
            let at = section.liquid_alpha.given().map_or(Place::default(), |given| given.place);
            let hint = "remove it, or write `yuma: 3`".to_owned();
            problems.error(at.value, "Yuma 2 has no liquid alpha", Some(hint));
            return None;
        }
        (2, false) => Bonding::ByStake,
        (_, true) => Bonding::ByWeight { liquid_alpha: Some(LiquidAlpha::default()) },
        (_, false) => Bonding::ByWeight { liquid_alpha: None },
    };
    let epoch = EpochRules {
        tempo_blocks: tempo?.unwrap_or(usual.tempo_blocks),
        kappa: kappa?,
        bonds_penalty: bonds_penalty?,
        bonds_moving_average: average?.unwrap_or(usual.bonds_moving_average),
        // Whoever is here to validate may.
        max_validators: MAX_SIMULATED_PARTICIPANTS as u16,
        bonding,
        ..usual
    };
    Some((epoch, emission?.unwrap_or(1.0)))
}

/// A fraction as the chain keeps it: so many of `whole`, to the nearest.
fn share_of(fraction: f64, whole: f64) -> u64 {
    (fraction * whole).round() as u64
}

fn noise(section: &NoiseSection) -> Option<Noise> {
    let shared = section.shared.optional(|given| Some(given.value.get()));
    let own = section.own.optional(|given| Some(given.value.get()));
    Some(Noise { shared: shared?.unwrap_or(0.0), own: own?.unwrap_or(0.0) })
}

/// Names of everybody so far.
struct Names<'a> {
    problems: &'a Problems,
    source: &'a Source<'a>,
    taken: BTreeMap<String, Place>,
    full: bool,
}

/// How many participants an entry stands for.
type Count = Field<Whole<1, { MAX_SIMULATED_PARTICIPANTS as u64 }>>;

impl Names<'_> {
    /// The names that an entry stands for; none when anything is wrong with
    /// them.
    fn of(&mut self, name: &Given<Name>, count: &Count) -> Option<Vec<String>> {
        let count = count.optional(|given| Some(given.value.get()))?.unwrap_or(1);
        let base = name.value.0.as_str();
        let names: Vec<String> = match count {
            1 => vec![base.to_owned()],
            _ => (1..=count).map(|number| format!("{base}-{number}")).collect(),
        };
        for name_of_one in &names {
            let Some(first) = self.taken.insert(name_of_one.clone(), name.place) else { continue };
            let line = self.source.line(first.key);
            let message = format!("the name {} is taken on line {line}", quote(name_of_one));
            self.problems.error(name.place.key, message, None);
            return None;
        }
        if self.taken.len() > MAX_SIMULATED_PARTICIPANTS {
            if !self.full {
                let message =
                    format!("there are more than {MAX_SIMULATED_PARTICIPANTS} participants");
                self.problems.error(name.place.key, message, None);
            }
            self.full = true;
            return None;
        }
        Some(names)
    }
}

fn validators_in(
    names: &mut Names<'_>,
    given: &Given<Entries<super::file::ValidatorSection>>,
) -> Option<Vec<Validator>> {
    let problems = names.problems;
    let Given { value: Entries(entries), place } = given;
    let mut validators = Some(Vec::new());
    for (name, section) in entries {
        let one = name.given().zip(section.given()).and_then(|(name, section)| {
            let Given { value: section, place } = section;
            let names = names.of(name, &section.count);
            let stake = problems.required(&section.stake, "stake", *place);
            let behaviour = section.behaviour.optional(|given| match &given.value {
                ValidatorBehaviourSection::Honest => Some(ValidatorBehaviour::Honest),
                ValidatorBehaviourSection::WeightCopier { reads } => {
                    reads.or(Reads::Current).map(ValidatorBehaviour::WeightCopier)
                }
            });
            let behaviour = behaviour?.unwrap_or(ValidatorBehaviour::Honest);
            let stake = stake?.value.get();
            Some(names?.into_iter().map(move |name| Validator { name, stake, behaviour }))
        });
        extend(&mut validators, one);
    }
    let validators = validators?;
    if validators.is_empty() {
        problems.error(place.key, "a subnet needs at least one validator", None);
        return None;
    }
    if validators.iter().all(|one| one.behaviour != ValidatorBehaviour::Honest) {
        let message = "no validator evaluates anything: there are no weights to copy";
        problems.warning(place.key, message, None);
    }
    Some(validators)
}

fn miners_in(
    names: &mut Names<'_>,
    given: &Given<Entries<super::file::MinerSection>>,
) -> Option<Vec<Miner>> {
    let problems = names.problems;
    let Given { value: Entries(entries), place } = given;
    let mut miners = Some(Vec::new());
    for (name, section) in entries {
        let one = name.given().zip(section.given()).and_then(|(name, section)| {
            let Given { value: section, place } = section;
            let names = names.of(name, &section.count);
            let behaviour = problems.required(&section.behaviour, "behaviour", *place);
            let behaviour = behaviour.and_then(|given| behaviour_of(problems, given))?;
            Some(names?.into_iter().map(move |name| Miner { name, behaviour }))
        });
        extend(&mut miners, one);
    }
    let miners = miners?;
    if miners.is_empty() {
        problems.error(place.key, "a subnet needs at least one miner", None);
        return None;
    }
    Some(miners)
}

/// Adds to a list, which is none once anything was wrong.
fn extend<T>(all: &mut Option<Vec<T>>, more: Option<impl Iterator<Item = T>>) {
    match (all.as_mut(), more) {
        (Some(list), Some(more)) => list.extend(more),
        _ => *all = None,
    }
}

fn behaviour_of(
    problems: &Problems,
    given: &Given<MinerBehaviourSection>,
) -> Option<MinerBehaviour> {
    let at = given.place;
    let fraction = |field: &Field<Fraction>, default| {
        field.optional(|given| Some(given.value.get())).map(|found| found.unwrap_or(default))
    };
    match &given.value {
        MinerBehaviourSection::Honest { loss, improvement, every_epochs, from_epoch } => {
            let loss = problems.required(loss, "loss", at);
            let improvement = fraction(improvement, DEFAULT_IMPROVEMENT);
            let every_epochs = epochs(every_epochs, DEFAULT_EVERY_EPOCHS);
            let from_epoch = epochs(from_epoch, 1);
            Some(MinerBehaviour::Honest {
                loss: loss?.value.get(),
                improvement: improvement?,
                every_epochs: every_epochs?,
                from_epoch: from_epoch?,
            })
        }
        MinerBehaviourSection::LateImprover { from_epoch, improvement } => {
            let from_epoch = problems.required(from_epoch, "from_epoch", at);
            let improvement = fraction(improvement, DEFAULT_LATE_IMPROVEMENT)?;
            Some(MinerBehaviour::LateImprover {
                from_epoch: from_epoch?.value.to_u32(),
                improvement,
            })
        }
        MinerBehaviourSection::Copycat { after_blocks } => {
            let after_blocks = after_blocks.optional(|given| Some(given.value.get()))?;
            Some(MinerBehaviour::Copycat {
                after_blocks: after_blocks.unwrap_or(DEFAULT_COPY_BLOCKS),
            })
        }
        MinerBehaviourSection::SameBlockCopycat => Some(MinerBehaviour::SameBlockCopycat),
        MinerBehaviourSection::Crashing { loss, chance } => {
            let loss = problems.required(loss, "loss", at);
            let chance = fraction(chance, 1.0)?;
            Some(MinerBehaviour::Crashing { loss: loss?.value.get(), chance })
        }
        MinerBehaviourSection::EpsilonGamer { factor, every_epochs, from_epoch } => {
            let factor = problems.required(factor, "factor", at);
            let every_epochs = epochs(every_epochs, DEFAULT_EVERY_EPOCHS)?;
            let from_epoch = epochs(from_epoch, 1)?;
            Some(MinerBehaviour::EpsilonGamer {
                factor: factor?.value.get(),
                every_epochs,
                from_epoch,
            })
        }
    }
}

/// A number of epochs.
fn epochs<const MOST: u64>(field: &Field<Whole<1, MOST>>, default: u32) -> Option<u32> {
    field.optional(|given| Some(given.value.to_u32())).map(|found| found.unwrap_or(default))
}
