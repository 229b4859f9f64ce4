//! Keeps history bounded.

use std::collections::BTreeSet;
use std::path::Path;

use evaltasks_core::chain::SubnetView;
use serde_json::json;

use crate::validator::decide::Settings;
use crate::validator::state::{EventKind, Occurrence, ROUNDS_FOLDER, State, StateError};
use crate::validator::{TurnError, Validator};

/// Removes what is older than the retention, a tenth of it at a time.
pub fn turn(validator: &Validator, view: &SubnetView) -> Result<bool, TurnError> {
    let Settings { keep_events, keep_rounds, .. } = validator.settings;
    let mut state = validator.state();
    let (events, rounds) = state.ask(|state| {
        let competitions = state.competitions()?;
        let mut rounds = 0;
        for competition in &competitions {
            rounds = state.round_span(competition.id)?.max(rounds);
        }
        Ok((state.event_span()?, rounds))
    })?;
    let is_over = |count: u64, keep: u64| count > keep.saturating_add(keep / 10);
    if !is_over(events, keep_events) && !is_over(rounds, keep_rounds) {
        return Ok(false);
    }
    let folders = state.change(view.metagraph.block, |change| {
        let folders = change.prune(keep_events, keep_rounds)?;
        change.event(&Occurrence {
            kind: EventKind::HistoryPruned,
            subject: "history",
            reason: &format!("the last {keep_events} events and {keep_rounds} rounds are kept"),
            details: json!({"rounds": folders.len()}),
        })?;
        Ok(folders)
    })?;
    for folder in folders {
        remove(&state.folder().join(ROUNDS_FOLDER).join(folder))?;
    }
    Ok(true)
}

/// Removes the folders of rounds that the state does not know: their rounds
/// were pruned, and the validator was ended before the files were gone.
pub fn remove_strays(state: &State) -> Result<(), StateError> {
    let folder = state.folder().join(ROUNDS_FOLDER);
    let known: BTreeSet<String> = state.ask(|state| state.round_folders())?.into_iter().collect();
    let Ok(found) = std::fs::read_dir(&folder) else { return Ok(()) };
    let names = found.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    for name in names.filter(|name| !known.contains(name)) {
        // What cannot be removed takes room, and does no other harm.
        if let Err(error) = remove(&folder.join(&name)) {
            tracing::warn!("failed to {}", crate::round::reason(&error));
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), TurnError> {
    match std::fs::remove_dir_all(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(TurnError::Remove { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
