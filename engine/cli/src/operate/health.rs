//! Whether a validator needs its operator.

use std::time::Duration;

use evaltasks_core::model::group_digits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::limits::{MAX_BEHIND_BLOCKS, MAX_FAILING_BLOCKS, MAX_LOOP_SILENCE, MIN_FREE_BYTES};
use super::status::{ChainStatus, DiskStatus, Fault};
use crate::validator::Task;

/// What is wrong, if anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// Whether nothing is.
    pub healthy: bool,
    /// All that is wrong.
    pub causes: Vec<Cause>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    /// Which: a name for programs.
    pub name: CauseName,
    /// In a sentence without a full stop.
    pub reason: String,
}

/// See [`Cause::name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CauseName {
    /// No block was ever seen, or none for long.
    ChainBehind,
    /// The loop gives no sign of life.
    LoopStalled,
    /// A part of the validator has failed for long.
    PartFailing,
    /// The disk of the state or of the models is nearly full.
    DiskLow,
    /// The state cannot be read.
    StateUnreadable,
}

impl CauseName {
    /// Every one.
    pub const ALL: [CauseName; 5] = [
        CauseName::ChainBehind,
        CauseName::LoopStalled,
        CauseName::PartFailing,
        CauseName::DiskLow,
        CauseName::StateUnreadable,
    ];

    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            CauseName::ChainBehind => "chain_behind",
            CauseName::LoopStalled => "loop_stalled",
            CauseName::PartFailing => "part_failing",
            CauseName::DiskLow => "disk_low",
            CauseName::StateUnreadable => "state_unreadable",
        }
    }
}

/// What is wrong with all of these; `unreadable` says why the state is.
pub fn judge(
    chain: &ChainStatus,
    faults: &[Fault],
    disk: &DiskStatus,
    silence: Duration,
    unreadable: Option<&str>,
) -> Health {
    let follow = faults.iter().find(|fault| fault.task == Task::Follow.name());
    let failing = faults.iter().filter_map(|fault| failing(chain, fault));
    let first = [behind(chain, follow), stalled(silence)];
    let rest = [
        low("the state", disk.state_free_bytes),
        low("models", disk.models_free_bytes),
        unreadable.map(|reason| Cause {
            name: CauseName::StateUnreadable,
            reason: format!("the state cannot be read: {reason}"),
        }),
    ];
    let optional = first.into_iter().flatten().chain(failing);
    let causes: Vec<Cause> = optional.chain(rest.into_iter().flatten()).collect();
    Health { healthy: causes.is_empty(), causes }
}

fn behind(chain: &ChainStatus, fault: Option<&Fault>) -> Option<Cause> {
    let failure = fault.map_or_else(String::new, |fault| format!(": {}", fault.reason));
    let reason = match (chain.head_block, chain.behind_blocks) {
        (Some(block), Some(missed)) if missed > MAX_BEHIND_BLOCKS => {
            let (block, missed) = (group_digits(block), group_digits(missed));
            format!("no new block since {block}, about {missed} blocks ago{failure}")
        }
        (None, _) => format!("no block was seen yet{failure}"),
        _ => return None,
    };
    Some(Cause { name: CauseName::ChainBehind, reason })
}

fn stalled(silence: Duration) -> Option<Cause> {
    (silence > MAX_LOOP_SILENCE).then(|| Cause {
        name: CauseName::LoopStalled,
        reason: format!("no sign of life for {} minutes", silence.as_secs() / 60),
    })
}

/// Whoever follows the chain is judged by its blocks.
fn failing(chain: &ChainStatus, fault: &Fault) -> Option<Cause> {
    let since = fault.since_block?;
    let blocks = chain.head_block?.saturating_sub(since);
    let is_long = blocks > MAX_FAILING_BLOCKS && fault.task != Task::Follow.name();
    let (task, since, why) = (&fault.task, group_digits(since), &fault.reason);
    is_long.then(|| Cause {
        name: CauseName::PartFailing,
        reason: format!("the part {task} does not work since block {since}: {why}"),
    })
}

fn low(what: &str, free_bytes: Option<u64>) -> Option<Cause> {
    let free = free_bytes.filter(|&bytes| bytes < MIN_FREE_BYTES)?;
    Some(Cause {
        name: CauseName::DiskLow,
        reason: format!("the disk of {what} has {} MiB left", free >> 20),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_fails_for_long_is_said() {
        let chain = ChainStatus {
            head_block: Some(1000 + MAX_FAILING_BLOCKS),
            behind_blocks: Some(0),
            ..ChainStatus::default()
        };
        // (task, since, whether it is a cause)
        let rows = [
            ("round", Some(999), true),
            ("round", Some(1000), false),
            ("round", None, false),
            ("follow", Some(1), false),
        ];
        for (task, since_block, expected) in rows {
            let fault = Fault { task: task.into(), reason: "failed to a".into(), since_block };
            let health = judge(&chain, &[fault], &DiskStatus::default(), Duration::ZERO, None);
            let reason = "the part round does not work since block 999: failed to a".to_owned();
            let cause = Cause { name: CauseName::PartFailing, reason };
            assert_eq!(health.causes, if expected { vec![cause] } else { vec![] }, "{task}");
            assert_eq!(health.healthy, !expected);
        }
    }

    #[test]
    fn whatever_needs_the_operator_is_said() {
        let seen = |behind_blocks| ChainStatus {
            head_block: Some(1500),
            behind_blocks: Some(behind_blocks),
            ..ChainStatus::default()
        };
        let disk = |state, models| DiskStatus {
            state_free_bytes: state,
            models_free_bytes: models,
            ..DiskStatus::default()
        };
        let check =
            |chain: &ChainStatus, disk: &DiskStatus, seconds, why: &str, expected: &[&str]| {
                let why = Some(why).filter(|why| !why.is_empty());
                let fault = |reason: &str| Fault {
                    task: "follow".into(),
                    reason: reason.into(),
                    since_block: None,
                };
                let faults: Vec<Fault> = why.map(fault).into_iter().collect();
                let health = judge(chain, &faults, disk, Duration::from_secs(seconds), why);
                let said: Vec<String> = health
                    .causes
                    .iter()
                    .map(|cause| format!("{}: {}", cause.name.name(), cause.reason))
                    .collect();
                assert_eq!(said, expected);
                assert_eq!(health.healthy, expected.is_empty());
            };
        let (fine, room) = (seen(MAX_BEHIND_BLOCKS), disk(Some(MIN_FREE_BYTES), None));
        check(&fine, &room, 1200, "", &[]);
        let behind = "chain_behind: no new block since 1,500, about 26 blocks ago";
        check(&seen(26), &room, 0, "", &[behind]);
        let both = [
            "chain_behind: no block was seen yet: failed to connect",
            "state_unreadable: the state cannot be read: failed to connect",
        ];
        check(&ChainStatus::default(), &room, 0, "failed to connect", &both);
        check(&fine, &room, 1201, "", &["loop_stalled: no sign of life for 20 minutes"]);
        let low = [
            "disk_low: the disk of the state has 0 MiB left",
            "disk_low: the disk of models has 1023 MiB left",
        ];
        check(&fine, &disk(Some(0), Some(MIN_FREE_BYTES - 1)), 0, "", &low);
    }

    #[test]
    fn names_are_those_of_json() {
        for name in CauseName::ALL {
            assert_eq!(serde_json::to_value(name).unwrap(), name.name());
        }
    }
}
