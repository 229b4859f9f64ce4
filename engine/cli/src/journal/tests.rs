//! What a journal does with what it is given, and with what it finds.

use std::fs;
use std::path::Path;
use std::time::Duration;

use evaltasks_core::state::{Record, RecordedAnswer, RequestDigest, Respondent, StateStore};
use evaltasks_core::task::{Answer, Span};
use rusqlite::Connection;

use super::codec::tests::answers;
use super::{JournalError, Limits, SqliteJournal, unix_seconds};

fn respondent(model: &str) -> Respondent {
    Respondent { model_sha256: model.to_owned(), backend: "fake 1".to_owned() }
}

fn request(index: u32) -> RequestDigest {
    let mut digest = [7; 32];
    digest[..4].copy_from_slice(&index.to_le_bytes());
    digest
}

/// An answer of about 4,000 bytes that belongs to one request alone.
fn answer(index: u32) -> Answer {
    let per_token = (0..1000).map(|token| -((index * 1000 + token) as f32)).collect();
    let logprob = f64::from(index) / -3.0;
    Answer::Spans(vec![Span { logprob, tokens: index, bytes: 1, greedy: false, per_token }])
}

fn record(journal: &SqliteJournal, of: &Respondent, indices: impl IntoIterator<Item = u32>) {
    let answers: Vec<(u32, Answer)> =
        indices.into_iter().map(|index| (index, answer(index))).collect();
    let cost = Duration::from_micros(5);
    let records: Vec<Record> = answers
        .iter()
        .map(|(index, answer)| Record { request: request(*index), answer, cost })
        .collect();
    journal.record(of, &records).unwrap();
}

/// Which of the answers a journal has; each has to be the right one.
fn found(journal: &SqliteJournal, of: &Respondent, count: u32) -> Vec<u32> {
    let requests: Vec<RequestDigest> = (0..count).map(request).collect();
    let found = journal.answers(of, &requests).unwrap();
    let right = found.into_iter().zip(0..).filter_map(|(found, index)| {
        let RecordedAnswer { answer: found, cost } = found?;
        assert_eq!((&found, cost), (&answer(index), Duration::from_micros(5)));
        Some(index)
    });
    right.collect()
}

fn open(folder: &Path) -> SqliteJournal {
    SqliteJournal::open(&folder.join("cache/responses.sqlite"), u64::MAX).unwrap()
}

/// The same file by other means.
fn sql(folder: &Path) -> Connection {
    Connection::open(folder.join("cache/responses.sqlite")).unwrap()
}

#[test]
fn answers_are_found_by_model_backend_and_request() {
    let folder = tempfile::tempdir().unwrap();
    let of = respondent("a");
    let journal = open(folder.path());
    let all = answers();
    let cost = Duration::from_micros(1_234_567);
    let records: Vec<Record> = (0..)
        .zip(&all)
        .map(|(index, answer)| Record { request: request(index), answer, cost })
        .collect();
    journal.record(&of, &records).unwrap();
    drop(journal);

    let journal = open(folder.path());
    let requests: Vec<RequestDigest> = (0..=all.len() as u32).map(request).collect();
    let found = journal.answers(&of, &requests).unwrap();
    let expected: Vec<_> =
        all.into_iter().map(|answer| Some(RecordedAnswer { answer, cost })).chain([None]).collect();
    assert_eq!(format!("{found:?}"), format!("{expected:?}"));
    for other in [respondent("b"), Respondent { backend: "fake 2".to_owned(), ..of.clone() }] {
        assert_eq!(journal.answers(&other, &requests).unwrap(), vec![None; requests.len()]);
    }
    // A later answer replaces the earlier one.
    record(&journal, &of, [2]);
    assert_eq!(journal.answers(&of, &[request(2)]).unwrap()[0].as_ref().unwrap().answer, answer(2));
    assert_eq!(journal.inventory().unwrap().entries, 6);
}

/// Every bit of every column: the row is as it was written, or it is nothing.
#[test]
fn a_flipped_bit_is_a_missing_answer() {
    let folder = tempfile::tempdir().unwrap();
    let of = respondent("a");
    let journal = open(folder.path());
    // Two bits apart, so that no flip makes the one the other.
    record(&journal, &of, [0, 3]);
    let connection = sql(folder.path());
    for column in ["answer", "checksum", "request"] {
        let read = format!("SELECT {column} FROM answers WHERE id = 1");
        let whole: Vec<u8> = connection.query_row(&read, [], |row| row.get(0)).unwrap();
        let write = format!("UPDATE answers SET {column} = ?1 WHERE id = 1");
        for bit in (0..8 * whole.len()).step_by(if column == "answer" { 101 } else { 1 }) {
            let mut other = whole.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            connection.execute(&write, [&other]).unwrap();
            assert_eq!(found(&journal, &of, 4), [3], "{column} {bit}");
        }
        connection.execute(&write, [&whole]).unwrap();
        assert_eq!(found(&journal, &of, 4), [0, 3]);
    }
    connection.execute("UPDATE answers SET cost_us = 6 WHERE id = 1", []).unwrap();
    assert_eq!(found(&journal, &of, 4), [3]);
    // Answers of another model under this one's name.
    connection.execute("UPDATE answers SET cost_us = 5 WHERE id = 1", []).unwrap();
    connection.execute("UPDATE respondents SET model = 'b'", []).unwrap();
    assert_eq!(found(&journal, &respondent("b"), 4), [0_u32; 0]);
}

/// Whatever a disk does to the file, no answer is a wrong one.
#[test]
fn a_damaged_file_gives_right_answers_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let of = respondent("a");
    let journal = open(folder.path());
    record(&journal, &of, 0..12);
    journal.prune(Limits::default()).unwrap();
    drop(journal);
    let path = folder.path().join("cache/responses.sqlite");
    let whole = fs::read(&path).unwrap();
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let (mut refused, mut lost) = (0, 0);
    for round in 0..300 {
        let mut damaged = whole.clone();
        match round % 3 {
            0 => damaged[random(whole.len())] ^= 1 << random(8),
            1 => damaged.truncate(random(whole.len())),
            _ => {
                let start = random(whole.len() - 64);
                (start..start + 64).for_each(|at| damaged[at] = random(256) as u8);
            }
        }
        for extension in ["-wal", "-shm"] {
            let _ = fs::remove_file(format!("{}{extension}", path.display()));
        }
        fs::write(&path, &damaged).unwrap();
        let requests: Vec<RequestDigest> = (0..12).map(request).collect();
        let answers = SqliteJournal::open(&path, u64::MAX)
            .map_err(Into::into)
            .and_then(|journal| journal.answers(&of, &requests));
        match answers {
            Err(_) => refused += 1,
            Ok(answers) => {
                for (index, found) in (0..).zip(answers) {
                    match found {
                        Some(found) => assert_eq!(found.answer, answer(index), "{round}"),
                        None => lost += 1,
                    }
                }
            }
        }
    }
    assert!(refused > 20 && lost > 20, "the damage was felt: {refused} {lost}");
}

/// Two connections, as of two processes, that write at the same time.
#[test]
fn two_writers_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let of = respondent("a");
    std::thread::scope(|scope| {
        for first in 0..4 {
            let (folder, of) = (folder.path(), &of);
            scope.spawn(move || {
                // All four may find that there is no file.
                let journal = open(folder);
                for index in (first..80).step_by(4) {
                    record(&journal, of, [index]);
                    assert!(found(&journal, of, 80).contains(&index));
                }
            });
        }
    });
    let all: Vec<u32> = (0..80).collect();
    assert_eq!(found(&open(folder.path()), &of, 80), all);
}

/// The kind of log of a new file can be changed by one at a time.
#[test]
fn a_journal_is_made_by_whoever_comes_first() {
    const AT_ONCE: usize = 8;
    for _ in 0..8 {
        let folder = tempfile::tempdir().unwrap();
        let start = std::sync::Barrier::new(AT_ONCE);
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    start.wait();
                    open(folder.path());
                });
            }
        });
    }
}

#[test]
fn what_was_used_least_recently_goes_first() {
    let folder = tempfile::tempdir().unwrap();
    let of = respondent("a");
    let path = folder.path().join("cache/responses.sqlite");
    let journal = SqliteJournal::open(&path, 2 << 20).unwrap();
    record(&journal, &of, 0..300);
    // The first hundred were used a day ago, the others two days ago.
    let connection = sql(folder.path());
    let day = 24 * 60 * 60;
    let now = unix_seconds();
    let aged = "UPDATE answers SET used_at = ?1 - CASE WHEN id <= 100 THEN 1 ELSE 2 END * ?2";
    connection.execute(aged, [now, day].map(|seconds| seconds as i64)).unwrap();
    // Of the others, fifty are used now.
    let requests: Vec<RequestDigest> = (250..300).map(request).collect();
    assert!(journal.answers(&of, &requests).unwrap().iter().all(Option::is_some));
    record(&journal, &of, 300..600);
    let left = found(&journal, &of, 600);
    assert!(journal.inventory().unwrap().bytes <= 2 << 20);
    assert!((250..600).all(|index| left.contains(&index)), "{left:?}");
    assert!((100..250).all(|index| !left.contains(&index)), "{left:?}");
    assert!(left.len() > 350, "room is made, not more: {}", left.len());
}

#[test]
fn pruning_removes_what_it_says() {
    let rows = [
        (Limits::default(), 0, 200),
        (Limits { max_age_seconds: Some(3600), max_bytes: None }, 100, 100),
        (Limits { max_age_seconds: Some(0), max_bytes: None }, 100, 100),
        (Limits { max_age_seconds: None, max_bytes: Some(0) }, 200, 0),
        (Limits { max_age_seconds: Some(3600), max_bytes: Some(0) }, 200, 0),
        (Limits { max_age_seconds: None, max_bytes: Some(u64::MAX) }, 0, 200),
    ];
    for (limits, removed, left) in rows {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path());
        record(&journal, &respondent("old"), 0..100);
        sql(folder.path()).execute("UPDATE answers SET used_at = used_at - 7200", []).unwrap();
        record(&journal, &respondent("new"), 0..100);
        let before = journal.inventory().unwrap();
        assert_eq!((before.entries, before.kept.len()), (200, 2));
        assert_eq!(journal.prune(limits).unwrap(), removed, "{limits:?}");
        let after = journal.inventory().unwrap();
        assert_eq!((after.entries, after.kept.len()), (left, left as usize / 100), "{limits:?}");
        assert!(removed == 0 || after.bytes < before.bytes, "{limits:?}");
        let size = fs::metadata(folder.path().join("cache/responses.sqlite")).unwrap().len();
        assert_eq!(size, after.bytes, "{limits:?}");
    }
}

#[test]
fn files_that_are_no_journal_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let of = |name: &str| folder.path().join(name);
    fs::write(of("text"), "{\"not\": \"a database\"}".repeat(100)).unwrap();
    let connection = Connection::open(of("other")).unwrap();
    connection.execute_batch("CREATE TABLE mine (x); INSERT INTO mine VALUES (1);").unwrap();
    drop(connection);
    drop(SqliteJournal::open(&of("newer"), u64::MAX).unwrap());
    Connection::open(of("newer")).unwrap().pragma_update(None, "user_version", 2).unwrap();
    drop(SqliteJournal::open(&of("cut"), u64::MAX).unwrap());
    let bytes = fs::read(of("cut")).unwrap();
    fs::write(of("cut"), &bytes[..5000]).unwrap();
    fs::create_dir(of("folder")).unwrap();
    let rows = [
        ("text", "it is no SQLite database"),
        ("other", "it belongs to another program"),
        ("newer", "its version is 2, this program's is 1"),
        ("cut", "it is damaged"),
        ("folder", "unable to open database file"),
        ("text/below", "make the folder of the cache"),
    ];
    for (name, reason) in rows {
        let before = fs::read(of(name)).ok();
        let error = SqliteJournal::open(&of(name), u64::MAX).err().unwrap();
        let told = crate::round::reason(&error);
        assert!(told.contains(reason), "{name}: {told}");
        let is_refused = matches!(error, JournalError::NotACache { .. });
        assert_eq!(is_refused, reason.starts_with("it"), "{name}");
        assert_eq!(fs::read(of(name)).ok(), before, "{name}");
    }
    assert!(SqliteJournal::open_existing(&of("absent")).is_err());
    assert!(!of("absent").exists());
}

/// A disk without room: nothing of the record is there, and what was, stays.
#[test]
fn a_full_disk_is_an_error_and_no_loss() {
    let folder = tempfile::tempdir().unwrap();
    let of = respondent("a");
    let journal = open(folder.path());
    record(&journal, &of, 0..3);
    let pages: i64 =
        journal.lock().pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    let limit = |pages: i64| {
        let limited = journal.lock();
        limited.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
    };
    limit(pages + 1);
    let answer = answer(3);
    let cost = Duration::from_micros(5);
    let records: Vec<Record> =
        (3..9).map(|index| Record { request: request(index), answer: &answer, cost }).collect();
    let error = journal.record(&of, &records).unwrap_err();
    assert!(crate::round::reason(error.as_ref()).contains("full"), "{error}");
    assert_eq!(found(&journal, &of, 9), [0, 1, 2]);
    limit(pages + 100);
    record(&journal, &of, 3..9);
    assert_eq!(found(&journal, &of, 9).len(), 9);
}
