use serde_json::json;

use super::*;

fn text(words: std::ops::Range<usize>) -> Row {
    let text: Vec<String> = words.map(|number| format!("w{number}")).collect();
    Row { origin: String::new(), json: json!({"text": text.join(" ")}).to_string() }
}

struct Scene {
    folder: tempfile::TempDir,
    max_digests: usize,
}

impl Scene {
    fn new(max_digests: usize) -> Self {
        Scene { folder: tempfile::tempdir().unwrap(), max_digests }
    }

    /// By a process of its own, as it were: the file is opened anew.
    fn compare(&self, block: u64, tasks: &[&[Row]]) -> Vec<Contamination> {
        let path = self.folder.path().join("deep/history.sqlite");
        let history = History::holding(&path, self.max_digests).unwrap();
        let drawn: Vec<Drawn> =
            tasks.iter().map(|rows| Drawn { competition: "c", task: "t", rows }).collect();
        history.compare(RoundName { block, seed: &Seed::from(1) }, &drawn).unwrap()
    }

    /// Rows, rows before, grams, grams before.
    fn counts(&self, block: u64, rows: &[Row]) -> [u64; 4] {
        let found = self.compare(block, &[rows]).remove(0);
        [found.rows, found.rows_served_before, found.grams, found.grams_served_before]
    }
}

#[test]
fn what_other_rounds_drew_before_is_counted() {
    let scene = Scene::new(MAX_DIGESTS);
    // (block, rows, rows, of them before, grams, of them before)
    let rows: [(u64, Vec<Row>, [u64; 4]); 7] = [
        (1, vec![text(0..32), text(0..32)], [2, 0, 20, 0]),
        // A round that is run again is not its own past.
        (1, vec![text(0..32), text(0..32)], [2, 0, 20, 0]),
        (2, vec![text(0..32), text(100..112)], [2, 1, 20, 20]),
        // Half of the text is new.
        (3, vec![text(10..42)], [1, 0, 20, 10]),
        (3, vec![text(10..42)], [1, 0, 20, 10]),
        (4, vec![text(10..42)], [1, 1, 20, 20]),
        (5, vec![], [0, 0, 0, 0]),
    ];
    for (block, drawn, expected) in rows {
        assert_eq!(scene.counts(block, &drawn), expected, "block {block}");
    }
    // Another seed is another round.
    let path = scene.folder.path().join("deep/history.sqlite");
    let history = History::open(&path).unwrap();
    let drawn = [Drawn { competition: "c", task: "t", rows: &[text(0..32)] }];
    let round = RoundName { block: 1, seed: &Seed::from(2) };
    assert_eq!(history.compare(round, &drawn).unwrap()[0].gram_share(), Some(1.0));
}

#[test]
fn tasks_of_one_round_do_not_count_against_each_other() {
    let scene = Scene::new(MAX_DIGESTS);
    let same = [text(0..32)];
    for found in scene.compare(1, &[&same, &same]) {
        assert_eq!((found.rows_served_before, found.grams_served_before), (0, 0));
    }
}

#[test]
fn a_full_history_keeps_a_share_that_still_tells() {
    let scene = Scene::new(1000);
    for block in 0..8 {
        let start = block as usize * 10_000;
        let fresh = scene.compare(block, &[&[text(start..start + 1012)]]).remove(0);
        assert_eq!(fresh.grams_served_before, 0, "{block}");
    }
    // Half of 1,000 n-grams that were there, half that were not.
    let found = scene.compare(9, &[&[text(0..512), text(500_000..500_512)]]).remove(0);
    assert!(found.one_in >= 8, "{found:?}");
    let expected = 1000 / found.one_in;
    assert!((expected / 2..expected * 2).contains(&found.grams), "{found:?}");
    let share = found.gram_share().unwrap();
    assert!((0.3..0.7).contains(&share), "{found:?}");
    let connection = Connection::open(scene.folder.path().join("deep/history.sqlite")).unwrap();
    let count: i64 = connection.query_row("SELECT count(*) FROM grams", [], |r| r.get(0)).unwrap();
    assert!(count <= 1000);
}

#[test]
fn another_file_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.sqlite");
    std::fs::write(&path, "no database, but long enough to be looked at").unwrap();
    assert!(History::open(&path).is_err());
    let journal = folder.path().join("journal.sqlite");
    crate::journal::SqliteJournal::open(&journal, 1 << 20).unwrap();
    let Err(error) = History::open(&journal) else { panic!("it is a journal") };
    assert!(error.to_string().contains("belongs to another program"), "{error}");
}
