//! The tables, and how those of an older program become today's.

use rusqlite::{Connection, TransactionBehavior};

/// Marks the file as the state of a validator: `EvVa`.
pub const APPLICATION_ID: i64 = 0x4576_5661;

/// Step `n` leads from version `n` to version `n + 1`. A step that was
/// released is never changed.
pub const STEPS: &[&str] = &[FIRST, FAILURES, HOTKEYS_OF_WEIGHTS, UNKNOWN_PLACES];

/// Version of the tables that this program knows.
pub const VERSION: i64 = STEPS.len() as i64;

pub(super) const FIRST: &str = "
    CREATE TABLE meta (
        key TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE submissions (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        hotkey TEXT NOT NULL,
        uid INTEGER NOT NULL,
        commitment TEXT NOT NULL,
        block INTEGER NOT NULL,
        extrinsic_index INTEGER NOT NULL,
        competition INTEGER,
        state TEXT NOT NULL,
        reason TEXT,
        due_block INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        retry_block INTEGER NOT NULL DEFAULT 0,
        model_sha256 TEXT,
        dropped TEXT,
        changed_block INTEGER NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX current_submissions ON submissions (hotkey) WHERE state <> 'gone';
    CREATE INDEX submissions_by_state ON submissions (state, block, extrinsic_index, uid);
    CREATE TABLE competitions (
        id INTEGER PRIMARY KEY,
        last_seed_block INTEGER NOT NULL,
        last_round INTEGER NOT NULL,
        averaged INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE rounds (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        competition INTEGER NOT NULL,
        rules_sha256 TEXT NOT NULL,
        block INTEGER NOT NULL,
        seed_block INTEGER NOT NULL,
        seed TEXT NOT NULL,
        state TEXT NOT NULL,
        reason TEXT,
        folder TEXT NOT NULL,
        winner_hotkey TEXT,
        winner_block INTEGER,
        winner_loss REAL
    ) STRICT;
    CREATE INDEX rounds_by_competition ON rounds (competition, id);
    CREATE TABLE evaluations (
        round INTEGER NOT NULL REFERENCES rounds (id) ON DELETE CASCADE,
        submission INTEGER NOT NULL REFERENCES submissions (id) ON DELETE CASCADE,
        why TEXT NOT NULL,
        outcome TEXT NOT NULL,
        reason TEXT,
        loss REAL,
        tasks TEXT NOT NULL,
        rank INTEGER,
        weight REAL NOT NULL,
        average REAL NOT NULL,
        PRIMARY KEY (round, submission)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX evaluations_by_submission ON evaluations (submission, round);
    CREATE TABLE standings (
        submission INTEGER PRIMARY KEY REFERENCES submissions (id) ON DELETE CASCADE,
        rules_sha256 TEXT NOT NULL,
        evaluations INTEGER NOT NULL,
        loss REAL,
        winner_block INTEGER,
        winner_loss REAL
    ) STRICT;
    CREATE TABLE averages (
        competition INTEGER NOT NULL,
        hotkey TEXT NOT NULL,
        weight REAL NOT NULL,
        PRIMARY KEY (competition, hotkey)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE weights (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        block INTEGER NOT NULL,
        epoch_block INTEGER NOT NULL,
        weights TEXT NOT NULL,
        state TEXT NOT NULL,
        reason TEXT,
        attempts INTEGER NOT NULL,
        retry_block INTEGER NOT NULL,
        receipt TEXT
    ) STRICT;
    CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        block INTEGER NOT NULL,
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        reason TEXT NOT NULL,
        details TEXT NOT NULL,
        at_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX events_by_subject ON events (subject, id);
";

/// Failures are counted from the last loss on, where all evaluations were
/// counted before. Of a submission that never had a loss they are the same.
const FAILURES: &str = "
    ALTER TABLE standings RENAME COLUMN evaluations TO failures;
    UPDATE standings SET failures = (
        SELECT count(*) FROM evaluations JOIN rounds ON id = round
        WHERE evaluations.submission = standings.submission
        AND rounds.rules_sha256 = standings.rules_sha256
        AND outcome IN ('failed', 'copy')
        AND round > coalesce((
            SELECT max(round) FROM evaluations AS before
            WHERE before.submission = standings.submission
            AND before.outcome IN ('scored', 'outclassed')
        ), 0)
    ) WHERE loss IS NOT NULL;
";

/// Weights that were to be sent had uids alone: they are decided upon anew.
const HOTKEYS_OF_WEIGHTS: &str = "DELETE FROM weights WHERE state = 'planned';";

/// The place of a commitment in its block may not be known.
const UNKNOWN_PLACES: &str = "
    DROP INDEX submissions_by_state;
    ALTER TABLE submissions ADD COLUMN place INTEGER;
    UPDATE submissions SET place = extrinsic_index;
    ALTER TABLE submissions DROP COLUMN extrinsic_index;
    ALTER TABLE submissions RENAME COLUMN place TO extrinsic_index;
    CREATE INDEX submissions_by_state ON submissions (state, block, extrinsic_index, uid);
";

/// Takes the steps from `version` on, all or none.
pub fn migrate(connection: &mut Connection, version: i64) -> Result<(), rusqlite::Error> {
    let Ok(done) = usize::try_from(version) else { return Ok(()) };
    let missing = STEPS.get(done..).unwrap_or_default();
    if missing.is_empty() {
        return Ok(());
    }
    let changing = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in missing {
        changing.execute_batch(step)?;
    }
    changing.pragma_update(None, "application_id", APPLICATION_ID)?;
    changing.pragma_update(None, "user_version", VERSION)?;
    changing.commit()
}
