//! Rows of Parquet files.
//!
//! Opening reads the footer alone; rows are read from the pages that hold
//! them, of the columns that are wanted. Pages are decompressed and rows put
//! together here, within limits, and not by the library's own reader, which
//! believes what a file says of its sizes.

mod cells;
mod pages;
mod schema;
mod thrift;
mod values;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use evaltasks_core::source::Row;
use parquet::column::reader::get_column_reader;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use serde_json::{Map, Value};

use crate::HubError;
use crate::limits::{MAX_FOOTER_BYTES, MAX_OPEN_ROW_GROUPS, MAX_ROW_BYTES};
use crate::members::Members;
use crate::read_at::ReadAt;
pub(crate) use values::date;

use cells::{CellFault, Cells, Column, assemble, column};
use pages::{Pages, broken};
use schema::Shape;

/// What a file begins and ends with.
const MAGIC: &[u8; 4] = b"PAR1";
/// The length of the footer, and the magic.
const TAIL_BYTES: usize = 8;

/// A Parquet file whose footer has been read.
pub(crate) struct ParquetFile {
    /// What its rows are called by.
    name: String,
    source: Arc<dyn ReadAt>,
    metadata: ParquetMetaData,
    shape: Shape,
    members: Members,
    /// Index of the first row of each row group, and the number of all rows.
    first_rows: Vec<u64>,
    /// Row groups where they were read last, the latest in front.
    open: Mutex<VecDeque<OpenGroup>>,
}

/// A row group that is being read.
struct OpenGroup {
    index: usize,
    /// The next row, counted from the first of the group.
    at: u64,
    columns: Vec<Box<dyn Column>>,
}

impl ParquetFile {
    /// Reads the footer.
    ///
    /// # Errors
    /// What is no Parquet file, a footer over one of the
    /// [`limits`](crate::limits), and a file without a column that is wanted.
    pub fn open(name: &str, source: Arc<dyn ReadAt>, members: &Members) -> Result<Self, HubError> {
        let fault = |error| fault(name, error);
        let footer = footer(source.as_ref()).map_err(fault)?;
        let metadata =
            guarded(|| ParquetMetaDataReader::decode_metadata(&footer)).map_err(fault)?;
        let schema = metadata.file_metadata().schema();
        let shape = Shape::new(schema, &|name| members.wants(name));
        let shape = shape.map_err(|reason| fault(broken(reason)))?;
        let names: Vec<&str> = schema.get_fields().iter().map(|field| field.name()).collect();
        members.check_columns(name, &names)?;
        let mut first_rows = vec![0_u64];
        let mut rows = 0_u64;
        for group in metadata.row_groups() {
            let count = u64::try_from(group.num_rows()).ok();
            let sum = count.and_then(|count| rows.checked_add(count));
            rows = sum.ok_or_else(|| fault(broken("a row group has an impossible length")))?;
            first_rows.push(rows);
        }
        let members = members.clone();
        let open = Mutex::default();
        Ok(ParquetFile {
            name: name.to_owned(),
            source,
            metadata,
            shape,
            members,
            first_rows,
            open,
        })
    }

    /// Number of rows.
    pub fn len(&self) -> u64 {
        self.first_rows.last().copied().unwrap_or(0)
    }

    /// Appends the rows `start .. start + count`, which are there.
    pub fn read(&self, start: u64, count: u64, rows: &mut Vec<Row>) -> Result<(), HubError> {
        let end = start.saturating_add(count).min(self.len());
        let mut at = start;
        while at < end {
            let index = self.first_rows.partition_point(|first| *first <= at).saturating_sub(1);
            let first = self.first_rows.get(index).copied().unwrap_or(0);
            let group_end = self.first_rows.get(index + 1).copied().unwrap_or(end);
            let until = end.min(group_end);
            self.read_group(index, at - first, until - first, first, rows)?;
            at = until;
        }
        Ok(())
    }

    /// Rows of one group, counted from its first.
    fn read_group(
        &self,
        index: usize,
        start: u64,
        end: u64,
        first: u64,
        rows: &mut Vec<Row>,
    ) -> Result<(), HubError> {
        let fault = |error| fault(&self.name, error);
        let mut group = match self.take_open(index, start) {
            Some(group) => group,
            None => guarded(|| self.open_group(index)).map_err(fault)?,
        };
        let ahead = usize::try_from(start - group.at).unwrap_or(usize::MAX);
        if ahead > 0 {
            guarded(|| group.columns.iter_mut().try_for_each(|column| column.skip(ahead)))
                .map_err(fault)?;
        }
        for row in start..end {
            let origin = format!("{}#{}", self.name, first + row);
            let object =
                guarded(|| Ok(self.row(&mut group))).map_err(fault)?.map_err(
                    |error| match error {
                        CellFault::File(error) => fault(error),
                        CellFault::TooLong => {
                            HubError::RowTooLong { origin: origin.clone(), limit: MAX_ROW_BYTES }
                        }
                    },
                )?;
            let json = self.members.finish(&origin, object)?;
            if json.len() > MAX_ROW_BYTES as usize {
                return Err(HubError::RowTooLong { origin, limit: MAX_ROW_BYTES });
            }
            rows.push(Row { origin, json });
        }
        group.at = end;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.push_front(group);
        open.truncate(MAX_OPEN_ROW_GROUPS);
        Ok(())
    }

    fn row(&self, group: &mut OpenGroup) -> Result<Map<String, Value>, CellFault> {
        let mut bytes_left = MAX_ROW_BYTES as usize;
        let cells = group.columns.iter_mut().map(|column| column.row(&mut bytes_left));
        let mut cells = cells.collect::<Result<Vec<Cells>, CellFault>>()?;
        let mut object = Map::new();
        for (name, node) in &self.shape.members {
            object.insert(name.clone(), assemble(node, &mut cells)?);
        }
        Ok(object)
    }

    /// The row group, if it stands open before that row.
    fn take_open(&self, index: usize, row: u64) -> Option<OpenGroup> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let found = open.iter().position(|group| group.index == index && group.at <= row)?;
        open.remove(found)
    }

    fn open_group(&self, index: usize) -> Result<OpenGroup, ParquetError> {
        let group = self.metadata.row_groups().get(index);
        let group = group.ok_or_else(|| broken("a row group is missing"))?;
        let mut columns = Vec::new();
        for (leaf, kind) in &self.shape.columns {
            let chunk = group.columns().get(*leaf);
            let chunk = chunk.ok_or_else(|| broken("a row group lacks a column"))?;
            if chunk.file_path().is_some() {
                return Err(broken("a column is in another file"));
            }
            let dictionary = chunk.dictionary_page_offset().filter(|offset| *offset > 0);
            let start = dictionary.unwrap_or(chunk.data_page_offset());
            let range = u64::try_from(start).ok().zip(u64::try_from(chunk.compressed_size()).ok());
            let range = range.ok_or_else(|| broken("a column has an impossible place"))?;
            let descriptor = chunk.column_descr_ptr();
            let (definition, repetition) = (descriptor.max_def_level(), descriptor.max_rep_level());
            let source = Arc::clone(&self.source);
            let pages = Pages::new(source, chunk.compression(), range, repetition > 0)?;
            let reader = get_column_reader(descriptor, Box::new(pages));
            columns.push(column(reader, *kind, definition, repetition));
        }
        Ok(OpenGroup { index, at: 0, columns })
    }
}

/// The bytes of the footer, looked through.
fn footer(source: &dyn ReadAt) -> Result<Vec<u8>, ParquetError> {
    let read = |start, length| {
        source.read_at(start, length).map_err(|error| ParquetError::External(Box::new(error)))
    };
    let smallest = (MAGIC.len() + TAIL_BYTES) as u64;
    if source.len() < smallest {
        return Err(broken("it is too short for one"));
    }
    let tail_start = source.len() - TAIL_BYTES as u64;
    let tail = read(tail_start, TAIL_BYTES)?;
    let Some((length, magic)) = tail.split_first_chunk::<4>() else {
        return Err(broken("it is too short for one"));
    };
    if magic != MAGIC {
        return Err(broken("it does not end in PAR1"));
    }
    let length = u32::from_le_bytes(*length) as usize;
    if length > MAX_FOOTER_BYTES {
        return Err(broken(&format!("its footer has more than {MAX_FOOTER_BYTES} bytes")));
    }
    let start = tail_start.checked_sub(length as u64);
    let start = start.ok_or_else(|| broken("its footer is longer than the file"))?;
    let footer = read(start, length)?;
    thrift::check_footer(&footer).map_err(|fault| broken(fault.text()))?;
    Ok(footer)
}

/// Runs code of the library, which panics on some broken files.
fn guarded<T>(call: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    let caught = catch_unwind(AssertUnwindSafe(call));
    caught.unwrap_or_else(|_| Err(broken("its pages contradict themselves")))
}

/// An error of the library, or one of reading that came through it.
fn fault(name: &str, error: ParquetError) -> HubError {
    let reason = match error {
        ParquetError::External(error) => match error.downcast::<HubError>() {
            Ok(error) => return *error,
            Err(error) => error.to_string(),
        },
        ParquetError::General(reason) | ParquetError::EOF(reason) | ParquetError::NYI(reason) => {
            reason
        }
        other => other.to_string(),
    };
    HubError::Parquet { origin: name.to_owned(), reason }
}

#[cfg(test)]
mod tests;
