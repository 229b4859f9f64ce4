use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, params};
use serde_json::Value;

use super::*;

fn identity() -> Identity {
    Identity { netuid: 9, genesis: "0x2f".to_owned(), hotkey: "5Validator".to_owned() }
}

fn open(folder: &Path) -> Result<State, StateError> {
    State::open(folder, &identity())
}

fn refused(folder: &Path) -> String {
    open(folder).err().unwrap().to_string().replace(&folder.display().to_string(), "DIR")
}

fn event(change: &Change, subject: &str) -> Found<()> {
    let kind = EventKind::SubmissionDue;
    change.event(&Occurrence { kind, subject, reason: "it is time", details: Value::Null })
}

fn new_submission(hotkey: &str, uid: u16) -> NewSubmission {
    NewSubmission {
        hotkey: hotkey.to_owned(),
        uid,
        commitment: "a:b:c:d:1".to_owned(),
        block: 10,
        extrinsic_index: Some(0),
        competition: Some(1),
        due_block: 20,
        rejected: None,
    }
}

fn new_round<'a>(entrants: &'a [(i64, Why)]) -> NewRound<'a> {
    NewRound {
        competition: 1,
        rules_sha256: "ab",
        seed_block: 15,
        seed: "7",
        folder: "main-15",
        entrants,
    }
}

#[test]
fn one_process_has_a_folder_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let state = open(folder.path()).unwrap();
    let message = refused(folder.path());
    let us = format!("use the state in DIR: the process {} (since ", std::process::id());
    assert!(message.starts_with(&us), "{message}");
    assert!(message.ends_with("has it; end that process, or name another folder with --state"));
    // Readers come in meanwhile.
    assert_eq!(Reader::open(folder.path()).unwrap().ask(|q| q.counts()).unwrap().events, 0);
    drop(state);
    assert!(open(folder.path()).is_ok());
}

#[test]
fn a_state_is_of_one_validator() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    let other = |change: &dyn Fn(&mut Identity)| {
        let mut identity = identity();
        change(&mut identity);
        State::open(folder.path(), &identity).err().unwrap().to_string()
    };
    let rows = [
        (other(&|id| id.netuid = 1), "its subnet is 9, not 1"),
        (other(&|id| id.genesis = "x".to_owned()), "its chain is 0x2f, not x"),
        (other(&|id| id.hotkey = "5B".to_owned()), "its validator is 5Validator, not 5B"),
    ];
    for (message, expected) in rows {
        assert!(message.contains(expected), "{message}");
    }
    assert!(open(folder.path()).is_ok());
}

#[test]
fn other_files_and_newer_ones_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("CREATE TABLE t (a)").unwrap();
    assert_eq!(
        refused(folder.path()),
        "use the state DIR/validator.sqlite: it belongs to another program; name another folder"
    );
    connection.execute_batch("DROP TABLE t").unwrap();
    drop(open(folder.path()).unwrap());
    connection.pragma_update(None, "user_version", VERSION + 1).unwrap();
    assert_eq!(
        refused(folder.path()),
        format!(
            "use the state DIR/validator.sqlite: its version is {}, and this program knows \
             {VERSION}; use the program that made it, or a newer one",
            VERSION + 1
        )
    );
    assert!(matches!(Reader::open(folder.path()), Err(StateError::Newer { .. })));
}

/// A state of the first program that had one.
#[test]
fn an_older_state_becomes_one_of_today() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(schema::STEPS[0]).unwrap();
    connection.pragma_update(None, "application_id", schema::APPLICATION_ID).unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
    let rows = [("final", 1), ("planned", 2)];
    for (state, uid) in rows {
        let weights = format!("[{{\"uid\":{uid},\"weight\":1.0}}]");
        let insert = "INSERT INTO weights
             (block, epoch_block, weights, state, attempts, retry_block)
             VALUES (10, 20, ?1, ?2, 0, 0)";
        connection.execute(insert, [&*weights, state]).unwrap();
    }
    let insert = "INSERT INTO submissions
         (hotkey, uid, commitment, block, extrinsic_index, state, due_block, changed_block)
         VALUES ('5A', 1, 'a', 10, 3, 'waiting', 20, 10)";
    connection.execute(insert, []).unwrap();
    drop(connection);
    let state = open(folder.path()).unwrap();
    let places: Vec<Option<u32>> =
        state.ask(|q| q.submissions(None)).unwrap().iter().map(|one| one.extrinsic_index).collect();
    assert_eq!(places, [Some(3)]);
    let weights = state.ask(|q| q.weights_page(None, 10)).unwrap();
    let hotkey = String::new();
    assert_eq!(weights.len(), 1);
    assert_eq!(weights[0].state, WeightsState::Final);
    assert_eq!(weights[0].weights, [HotkeyWeight { uid: 1, hotkey, weight: 1.0 }]);
}

#[test]
fn damage_is_told_and_set_aside_when_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    let mut state = open(folder.path()).unwrap();
    for index in 0..200 {
        state.change(1, |change| event(change, &format!("hotkey {index}"))).unwrap();
    }
    drop(state);
    let round = |rounds: &str| folder.path().join(rounds).join("1-main-15/results.json");
    std::fs::create_dir_all(round(ROUNDS_FOLDER).parent().unwrap()).unwrap();
    std::fs::write(round(ROUNDS_FOLDER), "kept").unwrap();
    assert_eq!(State::set_aside_damaged(folder.path()).unwrap(), None);
    let whole = std::fs::read(&path).unwrap();
    let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(4096 * 3)).unwrap();
    file.write_all(&[0xff; 4096 * 6]).unwrap();
    drop(file);
    let damaged = std::fs::read(&path).unwrap();
    let message = refused(folder.path());
    assert!(message.contains("it is damaged ("), "{message}");
    assert!(message.contains("nothing was changed. Put a backup in its place"), "{message}");
    assert_eq!(std::fs::read(&path).unwrap(), damaged);

    let aside = State::set_aside_damaged(folder.path()).unwrap().unwrap();
    assert_eq!(aside, folder.path().join("validator.sqlite.damaged-1"));
    assert_eq!(std::fs::read(&aside).unwrap(), damaged);
    assert!(!round(ROUNDS_FOLDER).exists());
    assert_eq!(std::fs::read(round("rounds.damaged-1")).unwrap(), b"kept");
    assert_eq!(open(folder.path()).unwrap().ask(|q| q.counts()).unwrap().events, 0);

    // Bytes that are no database at all get the next free name.
    std::fs::write(&path, "no database, but longer than the header of one".repeat(20)).unwrap();
    assert!(refused(folder.path()).contains("it is damaged (file is not a database"));
    let aside = State::set_aside_damaged(folder.path()).unwrap().unwrap();
    assert_eq!(aside, folder.path().join("validator.sqlite.damaged-2"));
    // A backup goes on where it was.
    std::fs::write(&path, whole).unwrap();
    assert_eq!(open(folder.path()).unwrap().ask(|q| q.counts()).unwrap().events, 200);
}

#[test]
fn a_value_that_makes_no_sense_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = open(folder.path()).unwrap();
    state.change(1, |change| change.add_submission(&new_submission("5A", 1)).map(drop)).unwrap();
    let rows = [
        ("state = 'odd'", "\"odd\" is no SubmissionState"),
        ("state = 'due', due_block = -1", "out of range"),
        ("due_block = 1, uid = 70000", "out of range"),
    ];
    for (odd, expected) in rows {
        state.connection.execute(&format!("UPDATE submissions SET {odd}"), []).unwrap();
        let error = state.ask(|q| q.submissions(None)).err().unwrap();
        assert!(matches!(error, StateError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// What may be wrong with the disk, as SQLite meets it, and how that is told.
#[test]
fn a_disk_that_does_not_take_a_change_keeps_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = open(folder.path()).unwrap();
    state.change(1, |change| event(change, "5A")).unwrap();
    state.connection.busy_timeout(Duration::ZERO).unwrap();
    let other = Connection::open(folder.path().join(FILE_NAME)).unwrap();
    let rows = [
        ("PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1000000", "the disk is full"),
        ("PRAGMA query_only = 1", "PRAGMA query_only = 0", "it is read-only for this user"),
        ("", "", "another program keeps it locked"),
    ];
    for (fault, mended, expected) in rows {
        state.connection.execute_batch(fault).unwrap();
        if fault.is_empty() {
            other.execute_batch("BEGIN IMMEDIATE").unwrap();
        }
        let long = "x".repeat(1 << 16);
        let change = state.change(2, |change| {
            event(change, "5B")?;
            change.set_meta("long", &long)
        });
        let message = change.err().unwrap().to_string();
        assert!(message.contains(expected), "{message}");
        state.connection.execute_batch(mended).unwrap();
        assert_eq!(state.ask(|q| q.counts()).unwrap().events, 1);
        assert_eq!(state.ask(|q| q.meta("long")).unwrap(), None);
    }
    other.execute_batch("ROLLBACK").unwrap();
    state.change(3, |change| event(change, "5C")).unwrap();
    assert_eq!(state.ask(|q| q.counts()).unwrap().events, 2);
}

#[test]
fn history_is_bounded_whatever_the_clock_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = open(folder.path()).unwrap();
    let id = state.change(1, |change| change.add_submission(&new_submission("5A", 1))).unwrap();
    // The clock of this machine was ahead once.
    state.change(1, |change| event(change, "5A")).unwrap();
    let future = 9_000_000_000_000_i64;
    state.connection.execute("UPDATE events SET at_ms = ?1", [future]).unwrap();
    let entrants = [(id, Why::New)];
    for block in 2..12 {
        state
            .change(block, |change| {
                event(change, "5A")?;
                event(change, "5A")?;
                let (round, folder) = change.add_round(&new_round(&entrants))?;
                assert_eq!(folder, format!("{round}-main-15"));
                change.end_round(round, RoundState::Finished, None, Some(("5A", 10, 0.5)))
            })
            .unwrap();
    }
    let events = state.ask(|q| q.event_page(None, None, 100)).unwrap();
    assert_eq!(events.len(), 21);
    // The newest first.
    assert!(events.is_sorted_by_key(|event| std::cmp::Reverse(event.id)));
    assert!(events[0].at_ms < future as u64);

    let folders = state.change(12, |change| change.prune(5, 3)).unwrap();
    assert_eq!(folders.len(), 7);
    assert_eq!(folders[0], "1-main-15");
    let counts = state.ask(|q| q.counts()).unwrap();
    assert_eq!(counts, Counts { submissions: 1, rounds: 3, events: 5 });
    assert_eq!(state.ask(|q| q.evaluations_of(id, 100)).unwrap().len(), 3);
    let left = state.ask(|q| q.events_after(0, 100)).unwrap();
    assert_eq!(left.iter().map(|event| event.id).collect::<Vec<_>>(), [17, 18, 19, 20, 21]);
    // Numbers are not given twice.
    state.change(13, |change| event(change, "5A")).unwrap();
    assert_eq!(state.ask(|q| q.event_page(None, None, 1)).unwrap()[0].id, 22);

    // What is gone goes once no round tells of it.
    let gone = SubmissionState::Gone;
    state.change(14, |change| change.set_submission(id, gone, Some("left"))).unwrap();
    state.change(14, |change| change.prune(5, 3)).unwrap();
    assert_eq!(state.ask(|q| q.submissions(Some(gone))).unwrap().len(), 1);
    state.change(15, |change| change.prune(5, 0)).unwrap();
    assert_eq!(state.ask(|q| q.submissions(Some(gone))).unwrap().len(), 0);
}

/// Submissions of a state of version 1, with the outcomes of their rounds and
/// what was known of them then.
#[test]
fn failures_since_the_last_loss_are_known_of_older_states() {
    let rows: [(&[&str], u32, Option<f64>, u32); 4] = [
        (&["scored", "failed"], 2, Some(0.5), 1),
        (&["failed", "outclassed", "void"], 2, Some(0.5), 0),
        (&["scored", "failed", "copy"], 3, Some(0.5), 2),
        (&["failed", "failed"], 2, None, 2),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(schema::FIRST).unwrap();
    connection.pragma_update(None, "application_id", schema::APPLICATION_ID).unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
    for (id, (outcomes, evaluations, loss, _)) in (1..).zip(rows) {
        let hotkey = format!("5M{id}");
        let add = "INSERT INTO submissions (id, hotkey, uid, commitment, block, extrinsic_index,
             state, due_block, changed_block) VALUES (?1, ?2, ?1, '', 1, 0, 'accepted', 1, 1)";
        connection.execute(add, params![id, hotkey]).unwrap();
        let add = "INSERT INTO standings VALUES (?1, 'ab', ?2, ?3, 1, 0.5)";
        connection.execute(add, params![id, evaluations, loss]).unwrap();
        for (round, outcome) in (1_i64..).zip(outcomes) {
            let add = "INSERT OR IGNORE INTO rounds (id, competition, rules_sha256, block,
                 seed_block, seed, state, folder) VALUES (?1, 1, 'ab', 1, 1, '7', 'finished', '')";
            connection.execute(add, [round]).unwrap();
            let add = "INSERT INTO evaluations VALUES (?1, ?2, 'new', ?3, '', NULL, '[]', 1, 0, 0)";
            connection.execute(add, params![round, id, outcome]).unwrap();
        }
    }
    drop(connection);
    let standings = open(folder.path()).unwrap().ask(|q| q.standings()).unwrap();
    let found: Vec<(u32, Option<f64>)> =
        standings.iter().map(|one| (one.failures, one.loss)).collect();
    let expected: Vec<(u32, Option<f64>)> = rows.map(|(_, _, loss, count)| (count, loss)).to_vec();
    assert_eq!(found, expected);
}

#[test]
fn who_offers_no_model_leaves_the_averages() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = open(folder.path()).unwrap();
    let mut replaced = None;
    let mut check = |competition: Option<u32>, is_rejected: bool, expected: &[(u32, &str)]| {
        let new = NewSubmission { competition, ..new_submission("5A", 1) };
        let averages = state.change(1, |change| {
            change.set_averages(1, [("5A", 0.5), ("5B", 0.5)])?;
            change.set_averages(2, [("5A", 1.0)])?;
            if let Some(id) = replaced {
                change.set_submission(id, SubmissionState::Gone, None)?;
            }
            let id = change.add_submission(&new)?;
            replaced = Some(id);
            if is_rejected {
                change.reject_submission(id, "too large")?;
            }
            change.queries().averages(None)
        });
        let averages = averages.unwrap();
        let mut found: Vec<(u32, &str)> =
            averages.iter().map(|one| (one.competition, &*one.hotkey)).collect();
        found.sort_unstable();
        assert_eq!(found, expected);
    };
    check(Some(1), false, &[(1, "5A"), (1, "5B")]);
    check(Some(2), false, &[(1, "5B"), (2, "5A")]);
    check(Some(1), true, &[(1, "5B")]);
    // It names no competition.
    check(None, false, &[(1, "5B")]);
}

#[test]
fn a_hotkey_has_one_submission_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = open(folder.path()).unwrap();
    let add = |change: &Change| change.add_submission(&new_submission("5A", 1));
    let first = state.change(1, add).unwrap();
    assert!(state.change(1, add).is_err());
    state
        .change(2, |change| {
            change.set_submission(first, SubmissionState::Gone, Some("replaced"))?;
            add(change)
        })
        .unwrap();
    let all = state.ask(|q| q.submissions_of("5A")).unwrap();
    let states: Vec<_> = all.iter().map(|one| one.state.word()).collect();
    assert_eq!(states, ["waiting", "gone"]);
}
