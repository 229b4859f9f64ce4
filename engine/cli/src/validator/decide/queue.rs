//! From commitments to submissions that may be evaluated.

use std::collections::{BTreeMap, BTreeSet};

use evaltasks_core::chain::{Commitment, SubnetView};
use evaltasks_core::commitment::{DetailedId, MAX_COMMITMENT_BYTES, ModelId};
use evaltasks_core::competition::{Competition, Subnet, is_commit_hash, is_repository};

use crate::validator::limits::{
    CHECK_RETRY_BLOCKS, MAX_CHECK_ATTEMPTS, MAX_CHECK_RETRY_BLOCKS, MAX_PLACE_WAIT_BLOCKS,
};
use crate::validator::state::{NewSubmission, SubmissionRecord, SubmissionState};

/// What a view changes in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueDecision {
    /// A commitment that is not in the queue; `replaces` the hotkey's last.
    Add {
        /// What is to be in the queue.
        new: NewSubmission,
        /// What is not any more.
        replaces: Option<i64>,
    },
    /// Nobody's any more.
    Gone {
        /// Which.
        id: i64,
        /// Whose it was.
        hotkey: String,
        /// Why.
        reason: String,
    },
    /// The hotkey has another uid.
    Moved {
        /// Which.
        id: i64,
        /// Whose.
        hotkey: String,
        /// Before.
        from: u16,
        /// Now.
        to: u16,
    },
    /// Its place in the block is known now.
    Placed {
        /// Which.
        id: i64,
        /// Whose.
        hotkey: String,
        /// Where it stands.
        extrinsic_index: u32,
    },
    /// It counts from now on.
    Due {
        /// Which.
        id: i64,
        /// Whose.
        hotkey: String,
        /// Since which block.
        due_block: u64,
    },
}

/// What a commitment names, once it makes sense.
#[derive(Clone, Debug, PartialEq)]
pub struct Named<'a> {
    /// The competition.
    pub competition: &'a Competition,
    /// `organisation/name`.
    pub repository: String,
    /// Commit hash.
    pub revision: String,
    /// See [`evaltasks_core::commitment::secure_hash`].
    pub secure_hash: Option<String>,
    /// The model's own hash, in the old form of commitments.
    pub old_hash: Option<String>,
    /// SHA-256 over the names and contents of the files, where it was committed.
    pub model_sha256: Option<String>,
}

/// Reads a commitment's text.
///
/// # Errors
/// Why it names no model, for the miner.
pub fn named<'a>(text: &str, subnet: &'a Subnet) -> Result<Named<'a>, String> {
    let detailed: DetailedId = text.parse().map_err(|error| format!("failed to {error}"))?;
    let DetailedId { id, competition: key, model_sha256 } = detailed;
    let ModelId { namespace, name, commit, hash: old_hash, secure_hash, competition_id } = id;
    let repository = format!("{namespace}/{name}");
    if !is_repository(&repository) {
        return Err(format!("{repository:?} is no repository of the hub"));
    }
    let Some(revision) = commit else { return Err("the commitment has no commit".to_owned()) };
    if !is_commit_hash(&revision) {
        return Err(format!("{revision:?} is no commit hash: that has 40 hexadecimal digits"));
    }
    let competition = subnet.competitions.iter().find(|one| one.id == competition_id);
    let Some(competition) = competition else {
        return Err(format!("there is no competition {competition_id}"));
    };
    if let Some(key) = key.filter(|key| *key != competition.key) {
        return Err(format!("the competition {competition_id} is {}, not {key}", competition.key));
    }
    Ok(Named { competition, repository, revision, secure_hash, old_hash, model_sha256 })
}

/// What a view changes. `known` is all that is not gone.
///
/// Who lost the uid, or what was committed, is gone; a later commitment takes
/// the place of an earlier one, and waits anew. What is there and cannot be
/// decoded changes nothing. While a commitment's place in its block is not
/// known, it does not count, but for no more than [`MAX_PLACE_WAIT_BLOCKS`].
pub fn queue(view: &SubnetView, subnet: &Subnet, known: &[SubmissionRecord]) -> Vec<QueueDecision> {
    let neurons = &view.metagraph.neurons;
    let commitments: BTreeMap<&str, &Commitment> =
        view.commitments.iter().map(|one| (one.hotkey.as_str(), one)).collect();
    let uids: BTreeMap<&str, u16> =
        neurons.iter().map(|one| (one.hotkey.as_str(), one.uid)).collect();
    let undecodable: BTreeSet<&str> = view.undecodable.iter().map(String::as_str).collect();
    let by_hotkey: BTreeMap<&str, &SubmissionRecord> =
        known.iter().map(|one| (one.hotkey.as_str(), one)).collect();

    let mut decisions = Vec::new();
    for record in known {
        let hotkey = record.hotkey.clone();
        let reason = match uids.get(record.hotkey.as_str()) {
            None => Some(format!("the hotkey has lost the uid {}", record.uid)),
            Some(_) => {
                let hotkey = record.hotkey.as_str();
                let is_there = commitments.contains_key(hotkey) || undecodable.contains(hotkey);
                (!is_there).then(|| "the commitment was withdrawn".to_owned())
            }
        };
        if let Some(reason) = reason {
            decisions.push(QueueDecision::Gone { id: record.id, hotkey, reason });
        }
    }
    for neuron in neurons {
        let hotkey = neuron.hotkey.as_str();
        let Some(commitment) = commitments.get(hotkey) else { continue };
        let text = text(commitment);
        match by_hotkey.get(hotkey) {
            Some(record) if record.block == commitment.block && record.commitment == text => {
                let (from, to) = (record.uid, neuron.uid);
                let (id, hotkey) = (record.id, record.hotkey.clone());
                if let Some(extrinsic_index) = new_place(record, commitment) {
                    decisions.push(QueueDecision::Placed { id, hotkey, extrinsic_index });
                } else if from != to {
                    decisions.push(QueueDecision::Moved { id, hotkey, from, to });
                } else if record.state == SubmissionState::Waiting
                    && counts_from(record) <= view.metagraph.block
                {
                    let due_block = record.due_block;
                    decisions.push(QueueDecision::Due { id, hotkey, due_block });
                }
            }
            earlier => decisions.push(QueueDecision::Add {
                new: submission(commitment, text, neuron.uid, subnet),
                replaces: earlier.map(|record| record.id),
            }),
        }
    }
    decisions
}

/// The place of a commitment, where another one, or none, is known. 0 stands
/// for one that is alone in its block, and is not gone back to.
fn new_place(record: &SubmissionRecord, commitment: &Commitment) -> Option<u32> {
    let known = record.extrinsic_index;
    commitment.extrinsic_index.filter(|place| match known {
        None => true,
        Some(known) => known == 0 && *place > 0,
    })
}

/// The first block at which a submission may count.
fn counts_from(record: &SubmissionRecord) -> u64 {
    let wait_blocks = if record.extrinsic_index.is_none() { MAX_PLACE_WAIT_BLOCKS } else { 0 };
    record.due_block.saturating_add(wait_blocks)
}

/// What was committed, as far as it is text; longer than any model needs is
/// cut.
fn text(commitment: &Commitment) -> String {
    let end = commitment.data.len().min(MAX_COMMITMENT_BYTES + 1);
    String::from_utf8_lossy(&commitment.data[..end]).into_owned()
}

fn submission(commitment: &Commitment, text: String, uid: u16, subnet: &Subnet) -> NewSubmission {
    let named = match std::str::from_utf8(&commitment.data) {
        Ok(whole) => named(whole, subnet),
        Err(_) => Err("the commitment is no text".to_owned()),
    };
    let delay = named.as_ref().map_or(0, |named| named.competition.evaluation.delay_blocks);
    NewSubmission {
        hotkey: commitment.hotkey.clone(),
        uid,
        block: commitment.block,
        extrinsic_index: commitment.extrinsic_index,
        competition: named.as_ref().ok().map(|named| named.competition.id),
        due_block: commitment.block.saturating_add(delay),
        rejected: named.err(),
        commitment: text,
    }
}

/// The submission to fetch and check next: one that was begun, else the
/// earliest that is due. `known` is in order.
pub fn next_check(block: u64, known: &[SubmissionRecord]) -> Option<&SubmissionRecord> {
    let begun = known.iter().find(|one| one.state == SubmissionState::Fetching);
    let due =
        |one: &&SubmissionRecord| one.state == SubmissionState::Due && one.retry_block <= block;
    begun.or_else(|| known.iter().find(due))
}

/// Block at which a model that could not be had is asked for again, after so
/// many attempts; none when it is given up.
pub fn retry_check(block: u64, attempts: u32) -> Option<u64> {
    if attempts >= MAX_CHECK_ATTEMPTS {
        return None;
    }
    let doubled = CHECK_RETRY_BLOCKS.saturating_mul(1 << attempts.saturating_sub(1).min(32));
    Some(block.saturating_add(doubled.min(MAX_CHECK_RETRY_BLOCKS)))
}
