//! Weights that are committed first and revealed later: the extrinsics
//! `commit_timelocked_weights` and `commit_timelocked_mechanism_weights`.

use evaltasks_core::chain::WeightsRefusal;

use super::weights::{WeightsCall, has_waited};
use super::{LocalSubnet, state::State};
use crate::limits::MAX_UNREVEALED_COMMITS;
use crate::timelock::{COMMIT_VERSION, MAX_COMMIT_BYTES, WeightsPayload};

/// Weights that nobody can read before a round of the beacon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelockedCommit {
    /// In which mechanism.
    pub mechanism: u8,
    /// Whose.
    pub hotkey: String,
    /// When.
    pub block: u64,
    /// The locked [`WeightsPayload`].
    pub ciphertext: Vec<u8>,
    /// The round that opens it.
    pub round: u64,
}

/// What a validator sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitCall<'a> {
    /// The subnet that is meant.
    pub netuid: u16,
    /// The mechanism that is meant.
    pub mechanism: u8,
    /// The locked [`WeightsPayload`].
    pub ciphertext: &'a [u8],
    /// The round that opens it.
    pub round: u64,
    /// The form of the ciphertext.
    pub version: u16,
}

/// What is in a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The round is to come.
    NotYet,
    /// Nothing that anybody can use.
    Unusable,
    /// These weights, and whose they are: the account.
    Weights(WeightsPayload),
}

impl State {
    /// Keeps a commit, or names the first thing that is wrong with it, in the
    /// order in which the runtime looks. `round` is the beacon's newest.
    pub fn commit_timelocked(
        &mut self,
        hotkey: &str,
        call: &CommitCall<'_>,
        subnet: &LocalSubnet,
        round: u64,
    ) -> Result<(), WeightsRefusal> {
        let demand =
            |fine: bool, otherwise: WeightsRefusal| if fine { Ok(()) } else { Err(otherwise) };
        self.take_index();
        let block = self.block;
        let known = call.netuid == subnet.netuid && subnet.mechanisms.has(call.mechanism);
        demand(known, WeightsRefusal::MechanismDoesNotExist)?;
        demand(subnet.commit_reveal, WeightsRefusal::CommitRevealDisabled)?;
        let is_readable = call.version == COMMIT_VERSION;
        demand(is_readable, WeightsRefusal::IncorrectCommitRevealVersion)?;
        let uid = self.ledger.uid(hotkey).ok_or(WeightsRefusal::HotKeyNotRegisteredInSubNet)?;
        let last_update = self.ledger.neurons[uid].last_update(call.mechanism);
        let waited = has_waited(block, last_update, subnet);
        demand(waited, WeightsRefusal::CommittingWeightsTooFast)?;
        let epoch = self.epoch_index(subnet);
        let commits = self.ledger.commits.get(&epoch);
        let is_own =
            |one: &&TimelockedCommit| one.hotkey == hotkey && one.mechanism == call.mechanism;
        let own = commits.into_iter().flatten().filter(is_own);
        demand(own.count() < MAX_UNREVEALED_COMMITS, WeightsRefusal::TooManyUnrevealedCommits)?;
        // The call itself cannot hold more bytes than these.
        let is_possible = call.round >= round && call.ciphertext.len() <= MAX_COMMIT_BYTES;
        demand(is_possible, WeightsRefusal::InvalidRevealRound)?;
        let commit = TimelockedCommit {
            mechanism: call.mechanism,
            hotkey: hotkey.to_owned(),
            block,
            ciphertext: call.ciphertext.to_vec(),
            round: call.round,
        };
        let ledger = self.ledger_mut();
        let own = ledger.in_mechanism_mut(uid, call.mechanism);
        own.ok_or(WeightsRefusal::MechanismDoesNotExist)?.last_update = block;
        ledger.commits.entry(epoch).or_default().push(commit);
        Ok(())
    }

    /// Sets the weights of the commits whose epoch has come, one mechanism after
    /// the other, and gives the mechanisms and hotkeys of those that could be set.
    /// What cannot be opened yet waits until the epoch is over; what is of an
    /// earlier one is forgotten.
    pub fn reveal(
        &mut self,
        subnet: &LocalSubnet,
        mut open: impl FnMut(&TimelockedCommit) -> Opened,
    ) -> Vec<(u8, String)> {
        let now = self.epoch_index(subnet);
        let Some(epoch) = now.checked_sub(subnet.reveal_period_epochs) else { return Vec::new() };
        if self.ledger.commits.range(..=epoch).next().is_none() {
            return Vec::new();
        }
        let commits = &mut self.ledger_mut().commits;
        let later = commits.split_off(&(epoch + 1));
        let mut due = std::mem::replace(commits, later).remove(&epoch).unwrap_or_default();
        due.sort_by_key(|commit| commit.mechanism);
        let (mut revealed, mut waiting) = (Vec::new(), Vec::new());
        for commit in due {
            match open(&commit) {
                Opened::NotYet => waiting.push(commit),
                Opened::Unusable => {}
                Opened::Weights(payload) => {
                    let call = WeightsCall {
                        netuid: subnet.netuid,
                        mechanism: commit.mechanism,
                        uids: &payload.uids,
                        weights: &payload.values,
                        version_key: payload.version_key,
                    };
                    if self.set_revealed_weights(&commit.hotkey, &call, subnet).is_ok() {
                        revealed.push((commit.mechanism, commit.hotkey));
                    }
                }
            }
        }
        if !waiting.is_empty() {
            self.ledger_mut().commits.insert(epoch, waiting);
        }
        revealed
    }
}
