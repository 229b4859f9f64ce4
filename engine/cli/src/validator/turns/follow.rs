//! Reads what changed on chain into the queue.

use evaltasks_core::chain::SubnetView;
use serde_json::{Value, json};

use crate::validator::decide::{QueueDecision, queue};
use crate::validator::state::{Change, EventKind, Found, Occurrence, SubmissionState};
use crate::validator::{TurnError, Validator};

/// Takes in everything that a view changes, in one step.
pub fn turn(validator: &Validator, view: &SubnetView) -> Result<bool, TurnError> {
    let mut state = validator.state();
    let known = state.ask(|state| state.submissions(None))?;
    let decisions = queue(view, &validator.subnet, &known);
    if decisions.is_empty() {
        return Ok(false);
    }
    state.change(view.metagraph.block, |change| {
        decisions.iter().try_for_each(|decision| carry_out(change, decision))
    })?;
    Ok(true)
}

fn carry_out(change: &Change<'_>, decision: &QueueDecision) -> Found<()> {
    let event = |kind, subject: &str, reason: &str, details| {
        change.event(&Occurrence { kind, subject, reason, details })
    };
    match decision {
        QueueDecision::Add { new, replaces } => {
            if let Some(id) = replaces {
                let reason = "replaced by a later commitment";
                change.set_submission(*id, SubmissionState::Gone, Some(reason))?;
                event(EventKind::SubmissionGone, &new.hotkey, reason, json!({"submission": id}))?;
            }
            let id = change.add_submission(new)?;
            let details = json!({
                "submission": id,
                "uid": new.uid,
                "commitment": new.commitment,
                "block": new.block,
                "extrinsic_index": new.extrinsic_index,
            });
            match &new.rejected {
                Some(reason) => event(EventKind::SubmissionRejected, &new.hotkey, reason, details),
                None => {
                    let reason = format!("committed; counts from block {}", new.due_block);
                    event(EventKind::SubmissionQueued, &new.hotkey, &reason, details)
                }
            }
        }
        QueueDecision::Gone { id, hotkey, reason } => {
            change.set_submission(*id, SubmissionState::Gone, Some(reason))?;
            change.forget_averages(hotkey)?;
            event(EventKind::SubmissionGone, hotkey, reason, json!({"submission": id}))
        }
        QueueDecision::Moved { id, hotkey, from, to } => {
            change.move_submission(*id, *to)?;
            let reason = format!("the uid was {from} and is {to}");
            event(EventKind::SubmissionMoved, hotkey, &reason, json!({"submission": id}))
        }
        QueueDecision::Placed { id, hotkey, extrinsic_index } => {
            change.place_submission(*id, *extrinsic_index)?;
            let reason = format!("its place in the block is {extrinsic_index}");
            event(EventKind::SubmissionPlaced, hotkey, &reason, json!({"submission": id}))
        }
        QueueDecision::Due { id, hotkey, due_block } => {
            change.set_submission(*id, SubmissionState::Due, None)?;
            let reason = format!("counts since block {due_block}");
            event(EventKind::SubmissionDue, hotkey, &reason, Value::Null)
        }
    }
}
