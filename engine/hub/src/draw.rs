use evaltasks_core::competition::DatasetRules;
use evaltasks_core::limits::MAX_ROWS_PER_TASK;
use evaltasks_core::random::{CPythonRandom, Seed, draw_pages};
use evaltasks_core::source::{Dataset, Drawn, DrawnPage, Row};
use sha2::{Digest, Sha256};

use crate::HubError;
use crate::limits::MAX_DRAWN_BYTES;

/// The rows that a round uses.
///
/// Without `pages`, and when the dataset has no more rows than the pages would
/// hold, all rows in order. Else `pages` pages of `rows_per_page` rows, each
/// from a row drawn by [`draw_pages`]: as in the reference validator, row 0 is
/// never the first of a page, a page at the end is short, and pages that
/// overlap repeat rows. `rows` of the rules stands for the dataset's number of
/// rows in all of this; a page behind the last row has none.
///
/// # Errors
/// No rows, more than [`MAX_ROWS_PER_TASK`] rows or [`MAX_DRAWN_BYTES`] bytes,
/// and whatever the dataset says.
pub fn draw_rows(
    dataset: &dyn Dataset,
    rules: &DatasetRules,
    seed: &Seed,
) -> Result<Drawn, HubError> {
    let available = rules.rows.unwrap_or(dataset.len());
    let page = u64::from(rules.rows_per_page);
    let wanted = rules.pages.map_or(u64::MAX, |pages| u64::from(pages).saturating_mul(page));
    let count = wanted.min(available);
    let limit = MAX_ROWS_PER_TASK as u64;
    if count > limit {
        return Err(HubError::TooManyDrawn { rows: count, limit });
    }
    let pages = match rules.pages {
        Some(pages) if wanted < available => {
            let starts = draw_pages(&mut CPythonRandom::new(seed), available, pages as usize)?;
            starts.into_iter().map(|start| (start, page)).collect()
        }
        _ => vec![(0, available)],
    };
    let mut read = Reading { rows: Vec::new(), bytes_left: MAX_DRAWN_BYTES };
    let mut drawn = Vec::new();
    for (start, length) in pages {
        let before = read.rows.len();
        read.read(dataset, start, length)?;
        let rows = (read.rows.len() - before) as u64;
        drawn.push(DrawnPage { config: None, start, rows });
    }
    if read.rows.is_empty() {
        return Err(HubError::NothingDrawn { rows: dataset.len() });
    }
    Ok(Drawn { rows: read.rows, revision: None, pages: drawn })
}

struct Reading {
    rows: Vec<Row>,
    bytes_left: u64,
}

impl Reading {
    /// Reads a page in steps, so that the limit on bytes is met before memory
    /// is full.
    fn read(&mut self, dataset: &dyn Dataset, start: u64, length: u64) -> Result<(), HubError> {
        const STEP_ROWS: u64 = 16;
        let page_end = start.saturating_add(length).min(dataset.len());
        let mut at = start;
        while at < page_end {
            let end = at.saturating_add(STEP_ROWS).min(page_end);
            let step = dataset.rows(at, end - at).map_err(|source| HubError::Draw {
                start: at,
                end,
                source,
            })?;
            self.bytes_left = bytes_left(self.bytes_left, &step)?;
            self.rows.extend(step);
            at = end;
        }
        Ok(())
    }
}

/// What of so many bytes is left after these rows.
pub(crate) fn bytes_left(before: u64, rows: &[Row]) -> Result<u64, HubError> {
    let bytes: u64 = rows.iter().map(|row| row.json.len() as u64).sum();
    before.checked_sub(bytes).ok_or(HubError::TooManyDrawnBytes { limit: MAX_DRAWN_BYTES })
}

/// SHA-256, in hexadecimal, over the JSON of all rows in order, each preceded
/// by its length in 8 little-endian bytes. Where rows came from does not
/// count.
pub fn rows_sha256<'a>(rows: impl IntoIterator<Item = &'a Row>) -> String {
    let mut hasher = Sha256::new();
    for row in rows {
        hasher.update((row.json.len() as u64).to_le_bytes());
        hasher.update(&row.json);
    }
    hex::encode(hasher.finalize())
}

/// SHA-256, in hexadecimal, of the JSON of one row.
pub fn row_sha256(row: &Row) -> String {
    hex::encode(Sha256::digest(&row.json))
}

#[cfg(test)]
mod tests {
    use evaltasks_core::source::SourceError;

    use super::*;

    struct Hundred;

    impl Dataset for Hundred {
        fn len(&self) -> u64 {
            100
        }
        fn rows(&self, start: u64, count: u64) -> Result<Vec<Row>, SourceError> {
            assert!(start < 48, "rows after the limit are not read");
            let row = Row { origin: String::new(), json: "0123456789".to_owned() };
            Ok(vec![row; count as usize])
        }
    }

    #[test]
    fn bytes_are_limited() {
        let cases =
            [(0, 40, 400, true), (0, 40, 399, false), (0, 100, 320, false), (100, 9, 0, true)];
        for (start, length, bytes_left, expected) in cases {
            let mut reading = Reading { rows: Vec::new(), bytes_left };
            let result = reading.read(&Hundred, start, length);
            assert_eq!(result.is_ok(), expected, "{start} {length} {bytes_left}");
        }
    }
}
