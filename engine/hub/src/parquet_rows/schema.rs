//! What the columns of a file mean: which are one member of a row, and how
//! their values are written in JSON.
//!
//! Source: `LogicalTypes.md` and `Encodings.md` of Apache Parquet, with the
//! rules for lists of older writers.

use std::ops::Range;

use parquet::basic::{ConvertedType, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::schema::types::Type;

/// A part of a row.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// The definition level from which on it is there; below, it is null.
    pub definition: i16,
    /// The columns that it is made of, as indices into [`Shape::columns`].
    pub columns: Range<usize>,
    pub kind: NodeKind,
}

/// See [`Node`].
#[derive(Clone, Debug)]
pub(super) enum NodeKind {
    /// One value of one column.
    Leaf,
    /// Members with names.
    Struct(Vec<(String, Node)>),
    /// What the `datasets` library calls an image or a sound: its bytes, else
    /// the members.
    Media(Vec<(String, Node)>),
    /// Elements in order. It has one where the definition level is at least
    /// `filled`, and a repetition level of `repetition` begins another.
    List { filled: i16, repetition: i16, element: Box<Node> },
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// As the physical type has it.
    Plain,
    Unsigned,
    Float16,
    Text,
    /// Days since 1970.
    Date,
    /// Since midnight.
    Time(Digits),
    /// Since 1970.
    Timestamp(Digits, Utc),
    /// An integer, over ten to the power of this.
    Decimal(u32),
    Uuid,
    Binary,
    /// Of [`NodeKind::Media`].
    Media,
}

/// Digits after the second.
pub(super) type Digits = u32;
/// Whether a time is in UTC.
pub(super) type Utc = bool;

/// The members of a row that are read, and their columns.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    pub members: Vec<(String, Node)>,
    /// Index in the file of each column, and what its values are.
    pub columns: Vec<(usize, Kind)>,
    /// Columns of the file passed so far.
    passed: usize,
}

const MAX_SCALE: i32 = 1 << 10;

impl Shape {
    /// The members that `wanted` accepts.
    pub fn new(root: &Type, wanted: &dyn Fn(&str) -> bool) -> Result<Self, &'static str> {
        let mut shape = Shape::default();
        for field in root.get_fields() {
            if wanted(field.name()) {
                let node = shape.field(field, 0, 0)?;
                shape.members.push((field.name().to_owned(), node));
            } else {
                shape.passed += leaves(field);
            }
        }
        Ok(shape)
    }

    /// A member: a lone repeated one is a list that cannot be null.
    fn field(&mut self, of: &Type, definition: i16, repetition: i16) -> Result<Node, &'static str> {
        match of.get_basic_info().repetition() {
            Repetition::REQUIRED => self.body(of, definition, repetition),
            Repetition::OPTIONAL => self.body(of, definition + 1, repetition),
            Repetition::REPEATED => {
                let element = self.body(of, definition + 1, repetition + 1)?;
                Ok(list(definition, repetition, element))
            }
        }
    }

    /// What a member is, its repetition left aside.
    fn body(&mut self, of: &Type, definition: i16, repetition: i16) -> Result<Node, &'static str> {
        if of.is_primitive() {
            self.columns.push((self.passed, kind(of)?));
            self.passed += 1;
            let end = self.columns.len();
            return Ok(Node { definition, columns: end - 1..end, kind: NodeKind::Leaf });
        }
        if let (true, [repeated]) = (is_list(of), of.get_fields())
            && repeated.get_basic_info().repetition() == Repetition::REPEATED
        {
            let (inner, deeper) = (definition + 1, repetition + 1);
            let element = if is_element(of, repeated) {
                self.body(repeated, inner, deeper)?
            } else {
                let only = repeated.get_fields().first().ok_or("it has a list of nothing")?;
                self.field(only, inner, deeper)?
            };
            return Ok(list(definition, repetition, element));
        }
        let start = self.columns.len();
        let mut members = Vec::new();
        for field in of.get_fields() {
            members.push((field.name().to_owned(), self.field(field, definition, repetition)?));
        }
        let columns = start..self.columns.len();
        if columns.is_empty() {
            return Err("it has a group without columns");
        }
        let kind = match self.bytes_of_media(&members) {
            Some(column) => {
                self.columns[column].1 = Kind::Media;
                NodeKind::Media(members)
            }
            None => NodeKind::Struct(members),
        };
        Ok(Node { definition, columns, kind })
    }

    /// The column with the bytes of an image or a sound.
    fn bytes_of_media(&self, members: &[(String, Node)]) -> Option<usize> {
        let [(bytes, node), (path, _)] = members else { return None };
        let is_leaf = matches!(node.kind, NodeKind::Leaf);
        let column = node.columns.start;
        let is_media = bytes == "bytes" && path == "path" && is_leaf;
        (is_media && self.columns.get(column)?.1 == Kind::Binary).then_some(column)
    }
}

fn list(definition: i16, repetition: i16, element: Node) -> Node {
    let columns = element.columns.clone();
    let kind = NodeKind::List {
        filled: definition + 1,
        repetition: repetition + 1,
        element: Box::new(element),
    };
    Node { definition, columns, kind }
}

fn is_list(of: &Type) -> bool {
    let info = of.get_basic_info();
    let logical = matches!(info.logical_type_ref(), Some(LogicalType::List | LogicalType::Map));
    let converted = matches!(
        info.converted_type(),
        ConvertedType::LIST | ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE
    );
    logical || converted
}

/// Whether the repeated part of a list is its element, and not a wrapping of
/// one.
fn is_element(list: &Type, repeated: &Type) -> bool {
    repeated.is_primitive()
        || repeated.get_fields().len() != 1
        || repeated.name() == "array"
        || repeated.name() == format!("{}_tuple", list.name())
}

fn leaves(of: &Type) -> usize {
    if of.is_primitive() { 1 } else { of.get_fields().iter().map(|field| leaves(field)).sum() }
}

fn kind(of: &Type) -> Result<Kind, &'static str> {
    let info = of.get_basic_info();
    let physical = of.get_physical_type();
    let digits = |unit: &TimeUnit| match unit {
        TimeUnit::MILLIS => 3,
        TimeUnit::MICROS => 6,
        TimeUnit::NANOS => 9,
    };
    let is_bytes = matches!(physical, Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY);
    let decimal = |scale: i32| match scale {
        0..=MAX_SCALE => Ok(Kind::Decimal(scale.unsigned_abs())),
        _ => Err("it has a decimal with too many digits"),
    };
    match info.logical_type_ref() {
        Some(LogicalType::String | LogicalType::Enum | LogicalType::Json) => return Ok(Kind::Text),
        Some(LogicalType::Decimal(decimals)) => return decimal(decimals.scale),
        Some(LogicalType::Date) => return Ok(Kind::Date),
        Some(LogicalType::Time(time)) => return Ok(Kind::Time(digits(&time.unit))),
        Some(LogicalType::Timestamp(time)) => {
            return Ok(Kind::Timestamp(digits(&time.unit), time.is_adjusted_to_u_t_c));
        }
        Some(LogicalType::Integer(integer)) if !integer.is_signed => return Ok(Kind::Unsigned),
        Some(LogicalType::Uuid) => return Ok(Kind::Uuid),
        Some(LogicalType::Float16) => return Ok(Kind::Float16),
        _ => {}
    }
    Ok(match info.converted_type() {
        ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON => Kind::Text,
        ConvertedType::DECIMAL => return decimal(of.get_scale()),
        ConvertedType::DATE => Kind::Date,
        ConvertedType::TIME_MILLIS => Kind::Time(3),
        ConvertedType::TIME_MICROS => Kind::Time(6),
        ConvertedType::TIMESTAMP_MILLIS => Kind::Timestamp(3, true),
        ConvertedType::TIMESTAMP_MICROS => Kind::Timestamp(6, true),
        ConvertedType::UINT_8
        | ConvertedType::UINT_16
        | ConvertedType::UINT_32
        | ConvertedType::UINT_64 => Kind::Unsigned,
        _ if physical == Physical::INT96 => Kind::Timestamp(9, false),
        _ if is_bytes => Kind::Binary,
        _ => Kind::Plain,
    })
}
