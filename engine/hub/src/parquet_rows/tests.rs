use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use evaltasks_core::competition::{DatasetRules, Location};

use super::*;

/// Bytes in memory that count how many of them were read.
struct Counted {
    bytes: Vec<u8>,
    read: AtomicU64,
}

impl ReadAt for Counted {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, start: u64, length: usize) -> Result<Vec<u8>, HubError> {
        self.read.fetch_add(length as u64, Ordering::SeqCst);
        let start = usize::try_from(start).unwrap();
        Ok(self.bytes[start..start + length].to_vec())
    }
}

fn counted(bytes: Vec<u8>) -> Arc<Counted> {
    Arc::new(Counted { bytes, read: AtomicU64::new(0) })
}

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/parquet"))
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).unwrap()
}

fn members(columns: &[&str], text_field: Option<&str>) -> Members {
    Members::new(&DatasetRules {
        columns: columns.iter().map(|name| (*name).to_owned()).collect(),
        text_field: text_field.map(str::to_owned),
        ..DatasetRules::all_of(Location::Local(PathBuf::new()))
    })
}

fn open(bytes: Vec<u8>) -> Result<ParquetFile, HubError> {
    ParquetFile::open("a.parquet", counted(bytes), &Members::default())
}

fn read(file: &ParquetFile, start: u64, count: u64) -> Result<Vec<Value>, HubError> {
    let mut rows = Vec::new();
    file.read(start, count, &mut rows)?;
    Ok(rows.iter().map(|row| serde_json::from_str(&row.json).unwrap()).collect())
}

fn expected() -> Map<String, Value> {
    serde_json::from_slice(&fixture("expected.json")).unwrap()
}

#[test]
fn rows_are_what_pyarrow_wrote() {
    let expected = expected();
    assert!(expected.len() > 10);
    for (name, rows) in expected {
        let rows = rows.as_array().unwrap();
        let file = open(fixture(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(file.len(), rows.len() as u64, "{name}");
        let found = read(&file, 0, file.len()).unwrap_or_else(|error| panic!("{name}: {error}"));
        for (index, (found, row)) in found.iter().zip(rows).enumerate() {
            assert_eq!(found, row, "{name} {index}");
        }
        assert_eq!(found.len(), rows.len(), "{name}");
    }
}

#[test]
fn any_range_of_rows_is_a_slice_of_all() {
    let expected = expected();
    for name in ["zstd.parquet", "v2.parquet", "none.parquet"] {
        let all = expected[name].as_array().unwrap();
        let file = open(fixture(name)).unwrap();
        // Forwards, backwards, over the ends of row groups.
        for (start, count) in [(0, 5), (100, 20), (31, 2), (40, 1), (3, 90), (119, 1), (64, 32)] {
            let rows = read(&file, start, count).unwrap();
            let range = start as usize..(start + count) as usize;
            assert_eq!(rows, all[range], "{name} {start} {count}");
        }
        let mut rows = Vec::new();
        file.read(33, 1, &mut rows).unwrap();
        assert_eq!(rows[0].origin, "a.parquet#33");
    }
}

#[test]
fn only_what_is_wanted_is_read() {
    let bytes = fixture("none.parquet");
    let all = bytes.len() as u64;
    let footer = u64::from(u32::from_le_bytes(bytes[bytes.len() - 8..][..4].try_into().unwrap()));
    let source = counted(bytes);
    let read_by = |columns: &[&str], start, count| {
        source.read.store(0, Ordering::SeqCst);
        let file = ParquetFile::open("a", Arc::clone(&source) as _, &members(columns, None));
        let file = file.unwrap();
        let opening = source.read.swap(0, Ordering::SeqCst);
        assert_eq!(opening, footer + 8);
        read(&file, start, count).unwrap();
        source.read.load(Ordering::SeqCst)
    };
    let one = read_by(&["id"], 40, 1);
    let more = read_by(&[], 40, 1);
    assert!(0 < one && one < more && more < all, "{one} {more} {all}");
}

#[test]
fn columns_and_text_are_chosen_by_name() {
    let bytes = fixture("none.parquet");
    let open = |members: &Members| ParquetFile::open("a", counted(bytes.clone()), members);
    let row = |columns: &[&str], text_field| {
        let file = open(&members(columns, text_field)).unwrap();
        read(&file, 1, 1).unwrap().remove(0).to_string()
    };
    assert_eq!(row(&["id"], None), r#"{"id":1}"#);
    assert_eq!(row(&["id"], Some("text")), r#"{"id":1,"text":"row 1 "}"#);
    assert_eq!(row(&[], Some("text")), r#"{"id":1,"tags":["t0"],"text":"row 1 "}"#);
    let cases = [
        (
            members(&["no"], None),
            "it has no column \"no\"; its columns are \"id\", \"text\", \"tags\"",
        ),
        (members(&[], Some("body")), "it has no column \"body\""),
    ];
    for (members, expected) in cases {
        let error = open(&members).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let file = open(&members(&[], Some("id"))).unwrap();
    let error = read(&file, 0, 1).unwrap_err().to_string();
    assert!(error.contains("the field \"id\" is not a text; set text_field to one of"), "{error}");
}

/// A file with this footer and nothing else.
fn with_footer(footer: &[u8]) -> Vec<u8> {
    let length = u32::try_from(footer.len()).unwrap().to_le_bytes();
    [MAGIC.as_slice(), footer, length.as_slice(), MAGIC].concat()
}

#[test]
fn files_that_lie_are_refused() {
    // Field 2, a list of structs, each with field 4 (a name) and field 5 (one
    // child).
    let nested = |depth: usize| {
        let mut footer = vec![0x29, 0xfc];
        footer.extend([depth as u8 | 0x80, 1]);
        for _ in 0..depth {
            footer.extend([0x48, 1, b'a', 0x15, 2, 0]);
        }
        footer.push(0);
        with_footer(&footer)
    };
    let huge = |bytes: &[u8]| with_footer(&[&[0x29, 0xfc][..], bytes].concat());
    let mut endless = with_footer(&[]);
    let at = endless.len() - 8;
    endless[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut beyond = with_footer(&[]);
    beyond[at..at + 4].copy_from_slice(&1000_u32.to_le_bytes());
    let cases: [(Vec<u8>, &str); 10] = [
        (b"PAR1".to_vec(), "it is too short"),
        (vec![b'x'; 100], "it does not end in PAR1"),
        (endless, "its footer has more than 16777216 bytes"),
        (beyond, "its footer is longer than the file"),
        (huge(&[0xff, 0xff, 0xff, 0xff, 7]), "a header ends too early"),
        (huge(&[0xff; 11]), "a number has more than 64 bits"),
        (nested(130), "its columns are nested too deeply"),
        (with_footer(&[0x1c; 50]), "a header is nested too deeply"),
        (fixture("delta_byte_array.parquet"), ""),
        (fixture("delta_length_byte_array.parquet"), ""),
    ];
    for (bytes, expected) in cases {
        match open(bytes) {
            Err(error) => {
                let error = error.to_string();
                assert!(!expected.is_empty() && error.contains(expected), "{expected}: {error}");
            }
            Ok(file) => {
                let error = read(&file, 0, 1).unwrap_err().to_string();
                assert!(error.contains("encoded by differences, which is not read"), "{error}");
            }
        }
    }
}

/// A file with any byte changed gives rows or an error, and soon.
#[test]
fn broken_files_do_no_harm() {
    for name in ["kinds.parquet", "v2.parquet", "gzip.parquet", "delta.parquet"] {
        let bytes = fixture(name);
        let mut refused = 0;
        for at in (0..bytes.len()).step_by(11) {
            for change in [0x01, 0x80, 0xff] {
                let mut broken = bytes.clone();
                broken[at] ^= change;
                let rows = open(broken).and_then(|file| read(&file, 0, file.len().min(200)));
                refused += usize::from(rows.is_err());
            }
        }
        assert!(refused > 10, "{name}: {refused}");
        for length in (0..bytes.len()).step_by(97) {
            assert!(open(bytes[..length].to_vec()).is_err(), "{name} {length}");
        }
    }
}
