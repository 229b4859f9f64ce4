//! Sets weights when it is time.

use evaltasks_core::chain::{Receipt, SetWeightsError, SubnetView, WeightsRefusal};
use evaltasks_core::yuma::max_upscaled;
use serde_json::{Value, json};

use crate::round::reason;
use crate::validator::decide::{WeightsDecision, WeightsInputs, at_uids, retry_weights, weights};
use crate::validator::state::{
    EventKind, HotkeyWeight, NewWeights, Occurrence, WeightsRecord, WeightsState,
};
use crate::validator::{TurnError, Validator};

/// One step towards weights on chain, if one is due.
pub fn turn(validator: &Validator, view: &SubnetView) -> Result<bool, TurnError> {
    let block = view.metagraph.block;
    let (averages, latest, last_set) = validator.state().ask(|state| {
        let latest = state.weights_page(None, 1)?.into_iter().next();
        Ok((state.averages(None)?, latest, state.last_set_weights(validator.settings.dry_run)?))
    })?;
    let decision = weights(&WeightsInputs {
        view,
        subnet: &validator.subnet,
        hotkey: &validator.hotkey,
        averages: &averages,
        latest: latest.as_ref(),
        last_set: last_set.as_ref(),
        settings: &validator.settings,
    });
    match decision {
        WeightsDecision::Wait => return Ok(false),
        WeightsDecision::Blocked(reason) => {
            return Err(TurnError::Blocked(format!("set weights: {reason}")));
        }
        WeightsDecision::Plan { epoch_block, weights, reason } => {
            let dry = validator.settings.dry_run;
            let (state, kind) = match dry {
                true => (WeightsState::DryRun, EventKind::WeightsNotSent),
                false => (WeightsState::Planned, EventKind::WeightsPlanned),
            };
            let reason = if dry { format!("a dry run sends nothing; {reason}") } else { reason };
            validator.state().change(block, |change| {
                let new = NewWeights { epoch_block, weights: &weights, state };
                let id = change.add_weights(&new)?;
                let details = json!({"epoch_block": epoch_block, "weights": weights});
                change.event(&Occurrence {
                    kind,
                    subject: &format!("weights {id}"),
                    reason: &reason,
                    details,
                })
            })?;
        }
        WeightsDecision::Send(_) => {
            if let Some(pending) = &latest {
                send(validator, view, pending)?;
            }
        }
        WeightsDecision::Found { block: found, .. } => {
            if let Some(pending) = &latest {
                take_over(validator, view, pending, found)?;
            }
        }
        WeightsDecision::Expire(id) => {
            fail(validator, block, id, "their epoch is over", (WeightsState::Failed, 0))?;
        }
    }
    Ok(true)
}

fn send(
    validator: &Validator,
    view: &SubnetView,
    pending: &WeightsRecord,
) -> Result<(), TurnError> {
    let (id, block) = (pending.id, view.metagraph.block);
    let weights = at_uids(&pending.weights, &view.metagraph.neurons);
    if weights.is_empty() {
        let stands = match pending.state {
            WeightsState::Sent => (WeightsState::Sent, pending.epoch_block),
            _ => (WeightsState::Failed, 0),
        };
        return fail(validator, block, id, "nobody who gets any has a uid any more", stands);
    }
    if pending.state == WeightsState::Planned || weights != pending.weights {
        let details = match weights == pending.weights {
            true => Value::Null,
            false => json!({"weights": weights}),
        };
        validator.state().change(block, |change| {
            change.send_weights(id, &weights)?;
            change.event(&Occurrence {
                kind: EventKind::WeightsSent,
                subject: &format!("weights {id}"),
                reason: &format!("attempt {}", pending.attempts + 1),
                details,
            })
        })?;
    }
    let weights: Vec<(u16, f64)> = by_uid(&weights).collect();
    // The state is not held meanwhile: it takes until a block is final.
    match validator.chain.set_weights(&weights) {
        Ok(receipt) => {
            let reason = format!("in block {}", receipt.block);
            finish(validator, block, id, &receipt, &reason)
        }
        Err(error) => {
            let retry = retry_weights(&error, pending.attempts + 1, view, &validator.hotkey);
            let hint = hint(&error).map_or_else(String::new, |hint| format!("; {hint}"));
            let reason = format!("failed to {}{hint}", reason(&error));
            fail(validator, block, id, &reason, after(pending, &error, retry))
        }
    }
}

/// Where weights stand after an error, and the block at which they are sent
/// again. An earlier sending of which nothing was heard may be in a block
/// already, and be what the chain now has against another: the weights stay
/// sent until they are found, or cannot come any more.
fn after(
    pending: &WeightsRecord,
    error: &SetWeightsError,
    retry: Option<u64>,
) -> (WeightsState, u64) {
    let is_unsure =
        pending.state == WeightsState::Sent || matches!(error, SetWeightsError::Chain(_));
    match (is_unsure, retry) {
        (true, retry) => (WeightsState::Sent, retry.unwrap_or(pending.epoch_block)),
        (false, Some(block)) => (WeightsState::Planned, block),
        (false, None) => (WeightsState::Failed, 0),
    }
}

/// Records weights as set that the chain has since they were sent, unless it
/// has others. Those that are committed cannot be read.
fn take_over(
    validator: &Validator,
    view: &SubnetView,
    pending: &WeightsRecord,
    found: u64,
) -> Result<(), TurnError> {
    let block = view.metagraph.block;
    if !view.rules.commit_reveal {
        let rows = validator.chain.weights(block).map_err(TurnError::Chain)?;
        let mut neurons = view.metagraph.neurons.iter();
        let uid = neurons.find(|one| one.hotkey == validator.hotkey).map(|one| one.uid);
        let row = uid.and_then(|uid| rows.get(usize::from(uid)));
        let sent = max_upscaled(&by_uid(&pending.weights).collect());
        if row != Some(&sent) {
            let reason = format!("the chain has others than were sent, of block {found}");
            return fail(validator, block, pending.id, &reason, (WeightsState::Failed, 0));
        }
    }
    let receipt = Receipt { block: found, extrinsic: String::new(), reveal_round: None };
    let reason = "the chain has them: they were sent before, and nothing was heard of them";
    finish(validator, block, pending.id, &receipt, reason)
}

fn by_uid(weights: &[HotkeyWeight]) -> impl Iterator<Item = (u16, f64)> + '_ {
    weights.iter().map(|one| (one.uid, f64::from(one.weight)))
}

/// What the operator can do about a refusal.
fn hint(error: &SetWeightsError) -> Option<&'static str> {
    let SetWeightsError::Refused(refusal) = error else { return None };
    match refusal {
        WeightsRefusal::HotKeyNotRegisteredInSubNet => Some("register the hotkey in the subnet"),
        WeightsRefusal::NotEnoughStakeToSetWeights => Some("add stake to the hotkey"),
        WeightsRefusal::IncorrectWeightVersionKey => Some("install a newer version"),
        WeightsRefusal::NeuronNoValidatorPermit => {
            Some("more stake gives a permit, from an epoch on")
        }
        _ => None,
    }
}

fn finish(
    validator: &Validator,
    block: u64,
    id: i64,
    receipt: &Receipt,
    reason: &str,
) -> Result<(), TurnError> {
    validator.state().change(block, |change| {
        change.finish_weights(id, receipt)?;
        change.event(&Occurrence {
            kind: EventKind::WeightsFinal,
            subject: &format!("weights {id}"),
            reason,
            details: json!(receipt),
        })
    })?;
    Ok(())
}

fn fail(
    validator: &Validator,
    block: u64,
    id: i64,
    reason: &str,
    (state, retry_block): (WeightsState, u64),
) -> Result<(), TurnError> {
    validator.state().change(block, |change| {
        change.fail_weights(id, reason, state, retry_block)?;
        change.event(&Occurrence {
            kind: EventKind::WeightsFailed,
            subject: &format!("weights {id}"),
            reason,
            details: json!({"retry_block": (retry_block > 0).then_some(retry_block)}),
        })
    })?;
    Ok(())
}
