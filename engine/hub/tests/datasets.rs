//! Local datasets: what becomes a row, and what is refused.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::path::Path;

use evaltasks_core::competition::{DatasetRules, Location, TextUnit};
use evaltasks_core::source::Row;
use evaltasks_hub::limits::{MAX_FOLDER_DEPTH, MAX_ROW_BYTES};
use evaltasks_hub::open_dataset;
use proptest::prelude::*;

fn rules(path: &Path, unit: TextUnit, text_field: Option<&str>) -> DatasetRules {
    DatasetRules {
        text_field: text_field.map(str::to_owned),
        unit,
        ..DatasetRules::all_of(Location::Local(path.to_owned()))
    }
}

/// The error and its sources, as a person reads them.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

fn read_all(
    path: &Path,
    unit: TextUnit,
    text_field: Option<&str>,
) -> Result<Vec<(String, String)>, String> {
    let dataset = open_dataset(&rules(path, unit, text_field)).map_err(|error| chain(&error))?;
    let rows = dataset.rows(0, u64::MAX).map_err(|error| chain(error.as_ref()))?;
    assert_eq!(rows.len() as u64, dataset.len());
    Ok(rows.into_iter().map(|Row { origin, json }| (origin, json)).collect())
}

/// A folder with these files; names may have folders in them.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

#[test]
fn files_become_rows() {
    use TextUnit::{File, Line, Paragraph};
    type Expected<'a> = &'a [(&'a str, &'a str)];
    type Case<'a> = (&'a str, &'a [u8], TextUnit, Option<&'a str>, Expected<'a>);
    let cases: &[Case] = &[
        (
            "a.txt",
            b"one\n\ntwo",
            Line,
            None,
            &[("a.txt:1", r#"{"text":"one"}"#), ("a.txt:3", r#"{"text":"two"}"#)],
        ),
        (
            "a.txt",
            b" \t\r\n  one \r\n\x0c\r\ntwo\r",
            Line,
            None,
            &[("a.txt:2", r#"{"text":"  one "}"#), ("a.txt:4", r#"{"text":"two"}"#)],
        ),
        (
            "a.txt",
            b"\n\none\ntwo\n \n\nthree\n",
            Paragraph,
            None,
            &[("a.txt:3", r#"{"text":"one\ntwo"}"#), ("a.txt:7", r#"{"text":"three"}"#)],
        ),
        (
            "a.txt",
            b"one\r\ntwo\r\n\r\nthree",
            Paragraph,
            None,
            &[("a.txt:1", r#"{"text":"one\r\ntwo"}"#), ("a.txt:4", r#"{"text":"three"}"#)],
        ),
        ("a.txt", b"\none\n\ntwo\n\n", File, None, &[("a.txt", r#"{"text":"\none\n\ntwo\n\n"}"#)]),
        ("a.txt", b"one\r\n", File, None, &[("a.txt", r#"{"text":"one\r\n"}"#)]),
        ("a.TXT", b"\xEF\xBB\xBFone", File, None, &[("a.TXT", r#"{"text":"one"}"#)]),
        ("a.txt", b"\xEF\xBB\xBFone\n", Line, None, &[("a.txt:1", r#"{"text":"one"}"#)]),
        (
            "a.txt",
            "é\u{0}\u{2028}\"\n".as_bytes(),
            Line,
            None,
            &[("a.txt:1", "{\"text\":\"é\\u0000\u{2028}\\\"\"}")],
        ),
        // The unit is for text alone.
        (
            "a.jsonl",
            b"{\"b\": 1, \"a\": 2}\n\n  {}\r\n",
            File,
            None,
            &[("a.jsonl:1", r#"{"b": 1, "a": 2}"#), ("a.jsonl:3", "{}")],
        ),
        (
            "a.jsonl",
            br#"{"text": "x", "n": 1.50}"#,
            Line,
            Some("text"),
            &[("a.jsonl:1", r#"{"text": "x", "n": 1.50}"#)],
        ),
        (
            "a.jsonl",
            br#"{"body": "x", "text": 7}"#,
            Line,
            Some("body"),
            &[("a.jsonl:1", r#"{"body":"x","text":"x"}"#)],
        ),
    ];
    for (name, content, unit, text_field, expected) in cases {
        let folder = folder(&[(name, content)]);
        let rows = read_all(&folder.path().join(name), *unit, *text_field).unwrap();
        let rows: Vec<_> = rows.iter().map(|(origin, json)| (&**origin, &**json)).collect();
        assert_eq!(&rows, expected, "{name} {:?} by {unit:?}", String::from_utf8_lossy(content));
    }
}

#[test]
fn what_cannot_be_a_row_is_named_with_its_place() {
    use TextUnit::{File, Line, Paragraph};
    let too_long = vec![b'x'; MAX_ROW_BYTES as usize + 1];
    let too_long_block = [vec![b'x'; MAX_ROW_BYTES as usize], b"\nx".to_vec()].concat();
    let second_too_long = [b"x\n".to_vec(), too_long.clone()].concat();
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep = format!(r#"{{"a": {deep}}}"#).into_bytes();
    type Case<'a> = (&'a str, &'a [u8], TextUnit, Option<&'a str>, &'a str);
    let cases: &[Case] = &[
        ("a.txt", b"", Line, None, "as a dataset: it has no rows"),
        ("a.txt", b" \n\t\n", File, None, "as a dataset: it has no rows"),
        ("a.txt", b"\xEF\xBB\xBF", Paragraph, None, "as a dataset: it has no rows"),
        ("a.csv", b"one", Line, None, "as a dataset: it has no rows"),
        ("a.pdf", b"one", Line, None, "only .txt, .jsonl, .csv"),
        ("noextension", b"one", Line, None, "only .txt, .jsonl, .csv"),
        ("a.txt", &too_long, Line, None, "row at a.txt:1: it is longer than 16777216 bytes"),
        ("a.txt", &too_long, File, None, "row at a.txt:1: it is longer than 16777216 bytes"),
        ("a.txt", &second_too_long, Line, None, "row at a.txt:2: it is longer than"),
        ("a.txt", &too_long_block, Paragraph, None, "row at a.txt:1: it is longer than"),
        ("a.jsonl", &too_long, Line, None, "row at a.jsonl:1: it is longer than"),
        ("a.txt", b"ok\nab\xFFc\n", Line, None, "row at a.txt:2: byte 5 of the file is not valid"),
        ("a.txt", b"\xED\xA0\x80", File, None, "row at a.txt: byte 0 of the file is not valid"),
        ("a.jsonl", b"{}\n{\"a\": \"\xC3\"}", Line, None, "row at a.jsonl:2: byte 10 of the file"),
        (
            "a.jsonl",
            b"{}\n[1]\n",
            Line,
            None,
            "row at a.jsonl:2, column 1, as a JSON object: invalid type: sequence",
        ),
        (
            "a.jsonl",
            b"{}\n\n{\"a\": 1",
            Line,
            None,
            "row at a.jsonl:3, column 7, as a JSON object: EOF while",
        ),
        ("a.jsonl", b"{} {}", Line, None, "row at a.jsonl:1, column 4, as a JSON object: trailing"),
        (
            "a.jsonl",
            b"{\"a\": NaN}",
            Line,
            None,
            "row at a.jsonl:1, column 7, as a JSON object: expected",
        ),
        (
            "a.jsonl",
            b"{\"a\": \0}",
            Line,
            None,
            "row at a.jsonl:1, column 7, as a JSON object: expected",
        ),
        ("a.jsonl", &deep, Line, None, "as a JSON object: recursion limit exceeded"),
        (
            "a.jsonl",
            b"{\"a\": \"x\", \"b\": 1}",
            Line,
            Some("text"),
            "row at a.jsonl:1: the field \"text\" is missing; set text_field to one of \"a\"",
        ),
        (
            "a.jsonl",
            b"{\"text\": [\"x\"]}",
            Line,
            Some("text"),
            "the field \"text\" is not a text; set text_field to one of none: no member is a text",
        ),
    ];
    for (name, content, unit, text_field, expected) in cases {
        let folder = folder(&[(name, content)]);
        let error = read_all(&folder.path().join(name), *unit, *text_field).unwrap_err();
        assert!(error.contains(expected), "expected {expected:?} in {error:?}");
    }
}

#[test]
fn records_of_csv_are_rows_of_texts() {
    type Case<'a> = (&'a str, &'a [u8], Option<&'a str>, &'a [(&'a str, &'a str)]);
    let cases: &[Case] = &[
        (
            "a.csv",
            b"id,body\n1,one\n\n2,\"two, \"\"2\"\"\nlines\"\r\n3,\n",
            None,
            &[
                ("a.csv:2", r#"{"body":"one","id":"1"}"#),
                ("a.csv:4", "{\"body\":\"two, \\\"2\\\"\\nlines\",\"id\":\"2\"}"),
                ("a.csv:6", r#"{"body":"","id":"3"}"#),
            ],
        ),
        (
            "a.tsv",
            b"\xEF\xBB\xBFid\ttext\n1\ta,b",
            Some("text"),
            &[("a.tsv:2", r#"{"id":"1","text":"a,b"}"#)],
        ),
        ("a.csv", b"body\nx\n", Some("body"), &[("a.csv:2", r#"{"body":"x","text":"x"}"#)]),
    ];
    for (name, content, text_field, expected) in cases {
        let folder = folder(&[(name, content)]);
        let rows = read_all(&folder.path().join(name), TextUnit::File, *text_field).unwrap();
        let parsed = |json: &str| serde_json::from_str::<serde_json::Value>(json).unwrap();
        let rows: Vec<_> = rows.iter().map(|(origin, json)| (&**origin, parsed(json))).collect();
        let expected: Vec<_> =
            expected.iter().map(|(origin, json)| (*origin, parsed(json))).collect();
        assert_eq!(rows, expected, "{name}");
    }
}

#[test]
fn broken_csv_is_refused() {
    let endless = [b"a\n\"".as_slice(), &vec![b'x'; MAX_ROW_BYTES as usize + (1 << 20)]].concat();
    let cases: &[(&[u8], Option<&str>, &str)] = &[
        (b"a,b\n1\n", None, "line 2 has 1 values for 2 columns"),
        (b"a,a\n1,2\n", None, "two columns are called \"a\""),
        (b"a\n\xff\n", None, "row at a.csv:2: byte 2 of the file"),
        (b"\xff\n1\n", None, "not valid UTF-8"),
        (b"a\n", None, "it has no rows"),
        (b"a\n1\n", Some("b"), "it has no column \"b\"; its columns are \"a\""),
        (&endless, None, "longer than 16777216 bytes"),
    ];
    for (content, text_field, expected) in cases {
        let folder = folder(&[("a.csv", content)]);
        let error = read_all(&folder.path().join("a.csv"), TextUnit::File, *text_field);
        let error = error.unwrap_err();
        assert!(error.contains(expected), "expected {expected:?} in {error:?}");
    }
}

#[test]
fn columns_are_chosen_by_name() {
    let folder = folder(&[("a.jsonl", b"{\"a\": 1, \"b\": \"x\", \"c\": 2}")]);
    let rules = DatasetRules {
        columns: vec!["c".to_owned()],
        ..rules(folder.path(), TextUnit::File, Some("b"))
    };
    let rows = open_dataset(&rules).unwrap().rows(0, 1).unwrap();
    assert_eq!(rows[0].json, r#"{"b":"x","c":2,"text":"x"}"#);
}

#[test]
fn parquet_files_stand_among_others() {
    let parquet =
        fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/parquet/zstd.parquet"));
    let folder =
        folder(&[("a.txt", b"first"), ("b.parquet", &parquet.unwrap()), ("c.txt", b"last")]);
    let rows = read_all(folder.path(), TextUnit::File, None).unwrap();
    assert_eq!(rows.len(), 122);
    assert_eq!((&*rows[1].0, &*rows[121].0), ("b.parquet#0", "c.txt"));
    let dataset = open_dataset(&rules(folder.path(), TextUnit::File, None)).unwrap();
    let some = dataset.rows(119, 3).unwrap();
    let origins: Vec<&str> = some.iter().map(|row| row.origin.as_str()).collect();
    assert_eq!(origins, ["b.parquet#118", "b.parquet#119", "c.txt"]);
}

#[test]
fn folders_are_read_in_the_order_of_their_paths_bytes() {
    let folder = folder(&[
        ("b.txt", b"5"),
        ("a/z.txt", b"4"),
        ("a/b/c.jsonl", b"{\"text\": \"2\"}\n{\"text\": \"3\"}"),
        ("a.txt", b"1"),
        ("B.txt", b"0"),
        ("notes.md", b"no row"),
        (".hidden.txt", b"no row"),
        (".git/objects.txt", b"no row"),
        ("empty.txt", b""),
        ("\u{e9}.txt", b"6"),
    ]);
    let rows = read_all(folder.path(), TextUnit::Line, None).unwrap();
    let origins: Vec<_> = rows.iter().map(|(origin, _)| &**origin).collect();
    let expected = [
        "B.txt:1",
        "a.txt:1",
        "a/b/c.jsonl:1",
        "a/b/c.jsonl:2",
        "a/z.txt:1",
        "b.txt:1",
        "\u{e9}.txt:1",
    ];
    assert_eq!(origins, expected);
}

#[test]
fn any_range_of_rows_is_a_slice_of_all() {
    let folder =
        folder(&[("a.txt", b"0\n1\n2"), ("b.txt", b""), ("c.txt", b"3\n4"), ("d.txt", b"5")]);
    let dataset = open_dataset(&rules(folder.path(), TextUnit::Line, None)).unwrap();
    let all = dataset.rows(0, 6).unwrap();
    assert_eq!(dataset.len(), 6);
    for start in 0..8_u64 {
        for count in [0, 1, 2, 3, 5, 6, 7, u64::MAX] {
            let from = start.min(6) as usize;
            let to = start.saturating_add(count).min(6) as usize;
            assert_eq!(dataset.rows(start, count).unwrap(), all[from..to], "{start} {count}");
        }
    }
}

#[test]
fn a_file_that_changes_is_noticed() {
    let folder = folder(&[("a.txt", b"one\ntwo\n")]);
    let dataset = open_dataset(&rules(folder.path(), TextUnit::Line, None)).unwrap();
    fs::write(folder.path().join("a.txt"), "one").unwrap();
    let error = dataset.rows(0, 1).unwrap_err();
    assert!(chain(error.as_ref()).contains("it changed while it was in use"));
}

#[test]
fn places_that_are_no_dataset_are_refused() {
    let folder = folder(&[("a.md", b"x"), ("deep/x.txt", b"x")]);
    let missing = folder.path().join("missing.txt");
    let nul = folder.path().join("a\0.txt");
    let only_others = folder.path().join("others");
    fs::create_dir(&only_others).unwrap();
    fs::write(only_others.join("a.arrow"), "x").unwrap();
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for (path, expected) in [
        (missing.as_path(), "No such file"),
        (nul.as_path(), "NUL byte"),
        (only_others.as_path(), "only .txt, .jsonl, .csv, .tsv and .parquet files"),
        (empty.as_path(), "only .txt, .jsonl, .csv, .tsv and .parquet files"),
    ] {
        let error = read_all(path, TextUnit::Line, None).unwrap_err();
        assert!(error.contains(expected), "expected {expected:?} in {error:?}");
    }
    let mut hub = rules(folder.path(), TextUnit::Line, None);
    hub.location = Location::Hub { repository: "org/set".to_owned(), revision: None };
    let error = open_dataset(&hub).err().unwrap().to_string();
    assert!(error.starts_with("fetch org/set: only local paths are read here"), "{error}");
}

#[test]
fn folders_as_deep_as_the_limit_are_read_and_deeper_ones_refused() {
    for (folders, expected) in
        [(MAX_FOLDER_DEPTH - 1, None), (MAX_FOLDER_DEPTH, Some("nested deeper"))]
    {
        let name = format!("{}x.txt", "d/".repeat(folders));
        let folder = folder(&[(&name, b"x")]);
        let error = read_all(folder.path(), TextUnit::Line, None).err();
        match expected {
            None => assert_eq!(error, None),
            Some(expected) => assert!(error.unwrap().contains(expected)),
        }
    }
}

#[cfg(unix)]
#[test]
fn links_that_leave_the_folder_or_loop_are_refused() {
    use std::os::unix::fs::symlink;
    let outside = folder(&[("secret.txt", b"x")]);
    let cases: &[(&str, &Path, Option<&str>)] = &[
        ("inside.txt", Path::new("a/real.txt"), None),
        ("outside.txt", &outside.path().join("secret.txt"), Some("outside of the folder")),
        ("climbs.txt", Path::new("../../../../../../etc/passwd"), Some("outside of the folder")),
        ("folder", Path::new("a"), Some("links to folders are not followed")),
        ("a/loop", Path::new(".."), Some("links to folders are not followed")),
        ("out", outside.path(), Some("outside of the folder")),
        ("self.txt", Path::new("self.txt"), Some("too many")),
        ("broken.txt", Path::new("nothing.txt"), Some("no such file")),
        ("device.txt", Path::new("/dev/zero"), Some("outside of the folder")),
    ];
    for (link, target, expected) in cases {
        let folder = folder(&[("a/real.txt", b"x")]);
        symlink(target, folder.path().join(link)).unwrap();
        let result = read_all(folder.path(), TextUnit::Line, None);
        match expected {
            None => assert_eq!(result.unwrap().len(), 2, "{link}"),
            Some(expected) => {
                let error = result.unwrap_err();
                assert!(error.to_lowercase().contains(expected), "{link}: {error}");
            }
        }
    }
    let error = read_all(Path::new("/dev/zero"), TextUnit::Line, None).unwrap_err();
    assert!(error.contains("neither a file nor a folder"), "{error}");
}

#[cfg(unix)]
#[test]
fn sockets_and_pipes_are_refused_without_waiting_for_them() {
    let folder = folder(&[("a.txt", b"x")]);
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("b.txt")).unwrap();
    let error = read_all(folder.path(), TextUnit::Line, None).unwrap_err();
    assert!(error.contains("neither a file nor a folder"), "{error}");
}

proptest! {
    /// Lines by the index are the lines that the standard library sees.
    #[test]
    fn lines_match_the_standard_library(content in "[ab \t\r\n\u{e9}]{0,60}") {
        let folder = folder(&[("a.txt", content.as_bytes()), ("z.txt", b"end")]);
        let rows = read_all(folder.path(), TextUnit::Line, None).unwrap();
        let expected: Vec<_> = content
            .split('\n')
            .enumerate()
            .filter(|(_, line)| !line.trim_ascii().is_empty())
            .map(|(index, line)| {
                let text = line.strip_suffix('\r').unwrap_or(line);
                (format!("a.txt:{}", index + 1), serde_json::json!({ "text": text }).to_string())
            })
            .chain([("z.txt:1".to_owned(), r#"{"text":"end"}"#.to_owned())])
            .collect();
        prop_assert_eq!(rows, expected);
    }
}
