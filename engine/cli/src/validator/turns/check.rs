//! Fetches and checks one model.

use evaltasks_core::chain::SubnetView;
use serde_json::{Value, json};

use crate::validator::decide::{named, next_check, retry_check};
use crate::validator::state::{EventKind, Occurrence, SubmissionRecord, SubmissionState};
use crate::validator::works::Checked;
use crate::validator::{TurnError, Validator};

/// Checks the next model that is due, if one is.
pub fn turn(validator: &Validator, view: &SubnetView) -> Result<bool, TurnError> {
    let block = view.metagraph.block;
    let known = validator.state().ask(|state| state.submissions(None))?;
    let Some(next) = next_check(block, &known) else { return Ok(false) };
    if next.state == SubmissionState::Due {
        validator.state().change(block, |change| {
            change.set_submission(next.id, SubmissionState::Fetching, None)?;
            change.event(&Occurrence {
                kind: EventKind::SubmissionChecking,
                subject: &next.hotkey,
                reason: "it is the earliest that is due",
                details: json!({"submission": next.id, "attempt": next.attempts + 1}),
            })
        })?;
    }
    // The state is not held meanwhile: it may take hours.
    let checked = match named(&next.commitment, &validator.subnet) {
        Ok(named) => validator.works.check(next, &named),
        // The competition file has changed since it was queued.
        Err(reason) => Checked::Rejected(reason),
    };
    if validator.is_cancelled() {
        return Err(TurnError::Cancelled);
    }
    record(validator, block, next, &checked)?;
    Ok(true)
}

fn record(
    validator: &Validator,
    block: u64,
    of: &SubmissionRecord,
    checked: &Checked,
) -> Result<(), TurnError> {
    let event = |kind, reason: &str, details| {
        let (reason, subject) = (reason.to_owned(), of.hotkey.clone());
        move |change: &crate::validator::state::Change<'_>| {
            change.event(&Occurrence { kind, subject: &subject, reason: &reason, details })
        }
    };
    let mut state = validator.state();
    // It may have gone, or been replaced, in the meantime.
    let now = state.ask(|state| state.submission(of.id))?;
    if now.is_none_or(|now| now.state != SubmissionState::Fetching) {
        return Ok(());
    }
    state.change(block, |change| match checked {
        Checked::Accepted { model_sha256 } => {
            change.set_submission(of.id, SubmissionState::Accepted, None)?;
            change.set_model(of.id, model_sha256)?;
            let details = json!({"model_sha256": model_sha256});
            let reason = "it is what the competition asks for, by its headers";
            event(EventKind::SubmissionAccepted, reason, details)(change)
        }
        Checked::Rejected(reason) => {
            change.reject_submission(of.id, reason)?;
            event(EventKind::SubmissionRejected, reason, Value::Null)(change)
        }
        Checked::Unavailable(reason) => match retry_check(block, of.attempts + 1) {
            Some(retry_block) => {
                change.postpone_submission(of.id, reason, retry_block)?;
                let details = json!({"retry_block": retry_block});
                event(EventKind::SubmissionPostponed, reason, details)(change)
            }
            None => {
                let reason = format!("given up after {} attempts: {reason}", of.attempts + 1);
                change.reject_submission(of.id, &reason)?;
                event(EventKind::SubmissionRejected, &reason, Value::Null)(change)
            }
        },
    })?;
    Ok(())
}
