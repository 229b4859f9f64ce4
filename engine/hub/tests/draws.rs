//! Rows drawn by seed, against CPython's `random`.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use evaltasks_core::competition::{DatasetRules, Location};
use evaltasks_core::limits::MAX_ROWS_PER_TASK;
use evaltasks_core::random::Seed;
use evaltasks_core::source::{Dataset, Row, SourceError};
use evaltasks_hub::{draw_rows, rows_sha256};

/// So many rows, each its own number.
struct Numbers(u64);

impl Dataset for Numbers {
    fn len(&self) -> u64 {
        self.0
    }
    fn rows(&self, start: u64, count: u64) -> Result<Vec<Row>, SourceError> {
        let end = start.saturating_add(count).min(self.0);
        let row = |index: u64| Row { origin: String::new(), json: index.to_string() };
        Ok((start..end).map(row).collect())
    }
}

fn rules(pages: Option<u32>, rows_per_page: u32) -> DatasetRules {
    DatasetRules { pages, rows_per_page, ..DatasetRules::all_of(Location::Local("unused".into())) }
}

fn draw(rows: u64, pages: Option<u32>, rows_per_page: u32, seed: u64) -> Vec<u64> {
    draw_rows(&Numbers(rows), &rules(pages, rows_per_page), &Seed::from(seed))
        .unwrap()
        .rows
        .iter()
        .map(|row| row.json.parse().unwrap())
        .collect()
}

#[test]
fn pages_begin_where_cpython_draws_them() {
    // random.seed(1131219055); [random.randint(1, 21400000) for _ in range(6)]
    let starts = [4833786, 15792681, 15289627, 3210259, 20498809, 9584676];
    let expected: Vec<u64> = starts.iter().flat_map(|&start| start..start + 100).collect();
    assert_eq!(draw(21_400_000, Some(6), 100, 1131219055), expected);

    // [random.randint(1, 13) for _ in range(3)] is [8, 5, 11] and [8, 9, 13]
    // with seeds 12 and 11: pages overlap, are cut at the end, or lie past it.
    assert_eq!(draw(13, Some(3), 4, 12), [8, 9, 10, 11, 5, 6, 7, 8, 11, 12]);
    assert_eq!(draw(13, Some(3), 4, 11), [8, 9, 10, 11, 9, 10, 11, 12]);
}

#[test]
fn small_datasets_are_read_whole() {
    let all: Vec<u64> = (0..10).collect();
    for (pages, rows_per_page) in [
        (None, 50),
        (None, 0),
        (Some(1), 10),
        (Some(2), 5),
        (Some(10_000), 100),
        (Some(u32::MAX), u32::MAX),
    ] {
        assert_eq!(draw(10, pages, rows_per_page, 7), all, "{pages:?} {rows_per_page}");
    }
}

/// A task would only say that it has too few rows.
#[test]
fn what_has_no_rows_is_refused() {
    // The last: rows that the rules speak of and the dataset has not.
    for (rows, pages, rows_per_page, said) in [
        (0, None, 50, None),
        (0, Some(3), 50, None),
        (10, Some(0), 50, None),
        (10, Some(3), 0, None),
        (2, Some(2), 100, Some(100_000)),
    ] {
        let rules = DatasetRules { rows: said, ..rules(pages, rows_per_page) };
        let error = draw_rows(&Numbers(rows), &rules, &Seed::from(7)).unwrap_err();
        let expected = format!(
            "draw rows: there are none in the pages that were drawn; the dataset has {rows}"
        );
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn too_much_is_refused_with_what_to_do() {
    let limit = MAX_ROWS_PER_TASK as u64;
    let seed = Seed::from(0);
    let count = |rows, pages, rows_per_page| {
        draw_rows(&Numbers(rows), &rules(pages, rows_per_page), &seed)
            .map(|drawn| drawn.rows.len() as u64)
    };
    assert_eq!(count(limit, None, 50).unwrap(), limit);
    for result in [count(limit + 1, None, 50), count(u64::MAX, Some(u32::MAX), u32::MAX)] {
        let error = result.unwrap_err().to_string();
        assert!(error.ends_with("at most 1000000 are allowed; set pages to draw fewer"), "{error}");
    }
}

#[test]
fn a_failing_dataset_is_named_with_the_rows() {
    struct Broken;
    impl Dataset for Broken {
        fn len(&self) -> u64 {
            100
        }
        fn rows(&self, start: u64, _: u64) -> Result<Vec<Row>, SourceError> {
            if start < 64 { Ok(Vec::new()) } else { Err("the disk is gone".into()) }
        }
    }
    let error = draw_rows(&Broken, &rules(None, 50), &Seed::from(0)).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(
        (error.to_string().as_str(), source.as_str()),
        ("draw rows 64 to 80", "the disk is gone")
    );
}

#[test]
fn the_digest_of_rows_is_of_their_content_in_order() {
    let row = |origin: &str, json: &str| Row { origin: origin.to_owned(), json: json.to_owned() };
    // By Python: hashlib over len(row).to_bytes(8, "little") + row for each row.
    let cases: [(&[Row], &str); 3] = [
        (&[], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (
            &[row("a", "{}"), row("b", r#"{"text":"é"}"#)],
            "dcc34857253ad578caa724698698dafbdac2c5a77dee89367938257229bf5c87",
        ),
        (
            &[row("b", r#"{"text":"é"}"#), row("c", "{}")],
            "3e6a2d9ceb3267aa49f695a30913f8369d0c4a8a8a97cd38c99eb3825481d26d",
        ),
    ];
    for (rows, expected) in cases {
        assert_eq!(rows_sha256(rows), expected);
    }
    assert_ne!(rows_sha256(&[row("", "ab")]), rows_sha256(&[row("", "a"), row("", "b")]));
}
