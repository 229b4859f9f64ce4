//! A validator on a chain in memory: its decisions are the same whenever and
//! however often it is killed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use evaltasks_core::random::{Seed, words};

use crate::submit::{network, wallet};
use crate::support::{demo_model, files, quick_competition, root, run, write};

/// The last of the ends of transactions, two for each, and of the lines of the
/// log at which a validator is killed: small enough for many kills in one run.
const LAST_POINT: u32 = 7;
/// More points than there are kills.
const POINTS: u32 = 1000;
/// Block after which a rehearsal ends: twelve rounds, two settings of weights.
const LAST_BLOCK: &str = "1075";

/// Two competitions and four submissions, two of which come later, one of them
/// too large.
struct Rehearsal {
    folder: tempfile::TempDir,
    file: String,
}

impl Rehearsal {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let miners = [
            (3, 300, "hasty"),
            (5, 310, "careful"),
            (6, 420, "copycat"),
            (7, 430, "oversized"),
            (8, 600, "small"),
        ];
        let listed: Vec<String> = miners
            .iter()
            .map(|(uid, block, model)| {
                let model = demo_model(model).display().to_string();
                format!("  - {{uid: {uid}, block: {block}, model: {model}}}\n")
            })
            .collect();
        let rules = quick_competition(&format!("submissions:\n{}", listed.concat()))
            .replace("version: 1", "version: 1\nsubnet: {netuid: 9, block_cadence: 60}")
            .replace("max_batches: 6", "max_batches: 2")
            .replace("    tasks:", "    evaluation: {delay_blocks: 20}\n    tasks:");
        let file = write(folder.path(), "rehearsal.yaml", rules);
        Rehearsal { folder, file }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn arguments(&self, state: &str, more: &[&str]) -> Vec<String> {
        let fixed = [
            "validate",
            &self.file,
            "--offline",
            "--poll-interval=0s",
            "--in-process",
            "--threads=1",
            "--commit-tokens=64",
            "--from-block=361",
            "--until-block",
            LAST_BLOCK,
            "--keep-events=30",
            "--state",
            &self.path(state).display().to_string(),
        ];
        fixed.iter().chain(more).map(|&argument| argument.to_owned()).collect()
    }

    /// To the end, or to where it is to crash.
    fn run(&self, state: &str, more: &[&str]) -> std::process::ExitStatus {
        let arguments = self.arguments(state, more);
        let mut command = program(&arguments);
        command.stderr(Stdio::null()).status().unwrap()
    }

    /// Until it has logged so many lines, then a signal that nothing can catch;
    /// whether it had ended before that.
    fn run_and_kill(&self, state: &str, lines: usize) -> bool {
        let mut child =
            program(&self.arguments(state, &[])).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let read = log.lines().take(lines).count();
        child.kill().unwrap();
        let ended = child.wait().unwrap();
        read < lines && ended.success()
    }

    /// What is left: all tables but for the time of events, and all files of
    /// rounds but for the time they took.
    fn left(&self, state: &str) -> Left {
        let folder = self.path(state);
        let rounds = files(&folder.join("rounds"));
        let rounds = rounds.into_iter().filter(|(name, _)| !name.ends_with("timing.json"));
        Left { tables: tables(&folder), files: rounds.collect() }
    }
}

#[derive(Debug, PartialEq)]
struct Left {
    tables: Vec<(String, Vec<String>)>,
    files: Vec<(String, Vec<u8>)>,
}

fn program(arguments: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evaltasks"));
    command.current_dir(root()).args(arguments).env("NO_COLOR", "1").stdout(Stdio::null());
    command
}

fn tables(folder: &Path) -> Vec<(String, Vec<String>)> {
    let connection = rusqlite::Connection::open(folder.join("validator.sqlite")).unwrap();
    let tables = [
        "meta",
        "submissions",
        "competitions",
        "rounds",
        "evaluations",
        "standings",
        "averages",
        "weights",
        "events",
    ];
    tables.iter().map(|table| ((*table).to_owned(), rows(&connection, table))).collect()
}

/// Every row as text, in the order of the first columns.
fn rows(connection: &rusqlite::Connection, table: &str) -> Vec<String> {
    let mut select = connection.prepare(&format!("SELECT * FROM {table} ORDER BY 1, 2")).unwrap();
    let names: Vec<String> = select.column_names().map(str::to_owned).collect();
    let rows = select.query_map([], |row| {
        let cells = names.iter().enumerate().filter(|(_, name)| *name != "at_ms");
        let cells = cells.map(|(index, name)| {
            let value: rusqlite::types::Value = row.get(index).unwrap();
            format!("{name}={value:?}")
        });
        Ok(cells.collect::<Vec<_>>().join(" "))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_validator_that_is_killed_a_hundred_times_decides_the_same() {
    let rehearsal = Rehearsal::new();
    assert!(rehearsal.run("undisturbed", &[]).success());
    let expected = rehearsal.left("undisturbed");
    let count = |table: &str| {
        let rows = &expected.tables.iter().find(|(name, _)| name == table).unwrap().1;
        rows.len()
    };
    // The rehearsal is one of everything.
    assert_eq!((count("rounds"), count("weights"), count("submissions")), (12, 2, 5));
    assert!(expected.files.iter().filter(|(name, _)| name.ends_with("results.json")).count() == 12);
    let events = expected.tables.iter().find(|(name, _)| name == "events").unwrap();
    assert!(events.1[0].starts_with("id=Integer(") && !events.1[0].starts_with("id=Integer(1)"));

    let mut kills = 0;
    let points = words(&Seed::from(1), "validate", "where to kill", POINTS);
    let mut points = points.into_iter().map(|word| word % (LAST_POINT + 1));
    // At every other commit or so, right before it or right after it.
    let mut run = 0;
    while kills < 70 {
        let state = format!("aborted-{run}");
        loop {
            let point = points.next().unwrap();
            let ended = rehearsal.run(&state, &["--crash-after", &point.to_string()]);
            if ended.success() {
                break;
            }
            kills += 1;
        }
        assert_eq!(rehearsal.left(&state), expected, "{state}");
        fs::remove_dir_all(rehearsal.path(&state)).unwrap();
        run += 1;
    }
    // Wherever it is when its log has come so far.
    while kills < 100 {
        let state = format!("killed-{run}");
        while !rehearsal.run_and_kill(&state, points.next().unwrap() as usize + 1) {
            kills += 1;
        }
        assert_eq!(rehearsal.left(&state), expected, "{state}");
        fs::remove_dir_all(rehearsal.path(&state)).unwrap();
        run += 1;
    }
}

#[test]
fn a_mechanism_that_is_not_there_ends_a_validator_at_its_start() {
    let folder = tempfile::tempdir().unwrap();
    let network = network(&wallet(folder.path()));
    let file = write(folder.path(), "competition.yaml", quick_competition(""));
    let wallets = folder.path().join("wallets").display().to_string();
    let state = folder.path().join("state").display().to_string();
    let url = network.url();
    let ended = run(&[
        "validate",
        &file,
        "--network",
        &url,
        "--netuid",
        "1",
        "--mechanism",
        "3",
        "--wallet-path",
        &wallets,
        "--wallet-hotkey",
        "miner",
        "--state",
        &state,
    ]);
    assert_eq!(ended.code, 1, "{ended:?}");
    let expected = "failed to find mechanism 3 of subnet 1: it has 1, which begin with 0";
    assert!(ended.stderr.contains(expected), "{ended:?}");
}
