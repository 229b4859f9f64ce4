//! From the values of columns to members of rows.
//!
//! A column stores, beside its values, two levels for each: how deep the value
//! is defined, and at which list it begins a new element. Source: Melnik et
//! al., "Dremel: Interactive Analysis of Web-Scale Datasets", section 4.

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::{ParquetError, Result};
use serde_json::{Map, Value};

use super::pages::broken;
use super::schema::{Kind, Node, NodeKind};
use super::values::Physical;
use crate::limits::MAX_ROW_VALUES;

/// A column that is read row by row.
pub(super) trait Column: Send {
    /// Passes over so many rows.
    fn skip(&mut self, rows: usize) -> Result<()>;

    /// What the next row has. `bytes_left` is what the row may still take.
    fn row(&mut self, bytes_left: &mut usize) -> std::result::Result<Cells, CellFault>;
}

/// Why a row cannot be had.
pub(super) enum CellFault {
    /// The file is at fault.
    File(ParquetError),
    /// The row is too long.
    TooLong,
}

impl From<ParquetError> for CellFault {
    fn from(error: ParquetError) -> Self {
        CellFault::File(error)
    }
}

/// The values that one row has in one column.
pub(super) struct Cells {
    definition: Vec<i16>,
    repetition: Vec<i16>,
    values: std::vec::IntoIter<Value>,
    /// The definition level at which there is a value.
    full: i16,
    at: usize,
    count: usize,
}

impl Cells {
    fn definition(&self) -> Result<i16> {
        match self.at < self.count {
            true => Ok(self.definition.get(self.at).copied().unwrap_or(self.full)),
            false => Err(broken("the columns of a row have different lengths")),
        }
    }

    /// None behind the last value of the row.
    fn repetition(&self) -> Option<i16> {
        (self.at < self.count).then(|| self.repetition.get(self.at).copied().unwrap_or(0))
    }

    fn take(&mut self) -> Result<Value> {
        let is_there = self.definition()? >= self.full;
        self.at += 1;
        if !is_there {
            return Ok(Value::Null);
        }
        self.values.next().ok_or_else(|| broken("a column has too few values"))
    }
}

/// A column of one physical type.
struct Typed<T: DataType> {
    reader: ColumnReaderImpl<T>,
    kind: Kind,
    max_definition: i16,
    max_repetition: i16,
}

impl<T: DataType> Column for Typed<T>
where
    T::T: Physical,
{
    fn skip(&mut self, rows: usize) -> Result<()> {
        match self.reader.skip_records(rows)? {
            skipped if skipped == rows => Ok(()),
            _ => Err(ended()),
        }
    }

    fn row(&mut self, bytes_left: &mut usize) -> std::result::Result<Cells, CellFault> {
        let (mut definition, mut repetition, mut found) = (Vec::new(), Vec::new(), Vec::new());
        let (records, _, count) = self.reader.read_records(
            1,
            (self.max_definition > 0).then_some(&mut definition),
            (self.max_repetition > 0).then_some(&mut repetition),
            &mut found,
        )?;
        if records != 1 {
            return Err(ended().into());
        }
        if count > MAX_ROW_VALUES {
            return Err(CellFault::TooLong);
        }
        let mut values = Vec::with_capacity(found.len());
        for value in found {
            *bytes_left = bytes_left.checked_sub(value.bytes()).ok_or(CellFault::TooLong)?;
            let json = value.json(self.kind);
            values.push(json.ok_or_else(|| broken("a value is not what its column says"))?);
        }
        let values = values.into_iter();
        Ok(Cells { definition, repetition, values, full: self.max_definition, at: 0, count })
    }
}

fn ended() -> ParquetError {
    broken("a row group has fewer rows than it says")
}

/// Reads the rows of a column.
pub(super) fn column(
    reader: ColumnReader,
    kind: Kind,
    max_definition: i16,
    max_repetition: i16,
) -> Box<dyn Column> {
    macro_rules! typed {
        ($reader:expr) => {
            Box::new(Typed { reader: $reader, kind, max_definition, max_repetition })
        };
    }
    match reader {
        ColumnReader::BoolColumnReader(reader) => typed!(reader),
        ColumnReader::Int32ColumnReader(reader) => typed!(reader),
        ColumnReader::Int64ColumnReader(reader) => typed!(reader),
        ColumnReader::Int96ColumnReader(reader) => typed!(reader),
        ColumnReader::FloatColumnReader(reader) => typed!(reader),
        ColumnReader::DoubleColumnReader(reader) => typed!(reader),
        ColumnReader::ByteArrayColumnReader(reader) => typed!(reader),
        ColumnReader::FixedLenByteArrayColumnReader(reader) => typed!(reader),
    }
}

/// A member of a row, put together from its columns' cells.
pub(super) fn assemble(node: &Node, cells: &mut [Cells]) -> Result<Value> {
    let first = node.columns.start;
    let definition = cell(cells, first)?.definition()?;
    if definition < node.definition {
        return pass(node, cells, Value::Null);
    }
    match &node.kind {
        NodeKind::Leaf => cell(cells, first)?.take(),
        NodeKind::Struct(members) => {
            let mut object = Map::new();
            for (name, member) in members {
                object.insert(name.clone(), assemble(member, cells)?);
            }
            Ok(Value::Object(object))
        }
        NodeKind::Media(members) => {
            let mut parts = Vec::new();
            for (name, member) in members {
                parts.push((name.clone(), assemble(member, cells)?));
            }
            match parts.first() {
                Some((_, bytes)) if !bytes.is_null() => Ok(bytes.clone()),
                _ => Ok(Value::Object(parts.into_iter().collect())),
            }
        }
        NodeKind::List { filled, .. } if definition < *filled => {
            pass(node, cells, Value::Array(Vec::new()))
        }
        NodeKind::List { repetition, element, .. } => {
            let mut elements = Vec::new();
            loop {
                elements.push(assemble(element, cells)?);
                let next = cell(cells, first)?.repetition();
                if next.is_none_or(|next| next < *repetition) {
                    return Ok(Value::Array(elements));
                }
            }
        }
    }
}

fn cell(cells: &mut [Cells], index: usize) -> Result<&mut Cells> {
    cells.get_mut(index).ok_or_else(|| broken("a column is missing"))
}

/// Stands for all columns of a node, each of which says that nothing is there.
fn pass(node: &Node, cells: &mut [Cells], value: Value) -> Result<Value> {
    for index in node.columns.clone() {
        cell(cells, index)?.take()?;
    }
    Ok(value)
}
