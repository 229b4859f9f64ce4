//! Enough of Thrift's compact protocol to look at headers before they are
//! believed.
//!
//! Source: `compact-protocol.md` of Apache Thrift, `parquet.thrift` of Apache
//! Parquet.

use parquet::basic::Encoding;

use crate::limits::{MAX_COLUMN_DEPTH, MAX_COLUMNS, MAX_DICTIONARY_VALUES, MAX_FOOTER_ELEMENTS};

/// Values within values.
const MAX_DEPTH: u32 = 32;

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// There are too few of them.
    Ends,
    /// What is wrong.
    Bad(&'static str),
}

impl Fault {
    /// Reads after a colon.
    pub fn text(self) -> &'static str {
        match self {
            Fault::Ends => "a header ends too early",
            Fault::Bad(reason) => reason,
        }
    }
}

/// A reader of compact Thrift.
struct Compact<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Elements of lists that may still come.
    elements_left: usize,
}

impl<'a> Compact<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Compact { bytes, at: 0, elements_left: MAX_FOOTER_ELEMENTS }
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        let byte = *self.bytes.get(self.at).ok_or(Fault::Ends)?;
        self.at += 1;
        Ok(byte)
    }

    fn advance(&mut self, count: u64) -> Result<(), Fault> {
        let left = (self.bytes.len() - self.at) as u64;
        if count > left {
            return Err(Fault::Ends);
        }
        self.at += count as usize;
        Ok(())
    }

    fn varint(&mut self) -> Result<u64, Fault> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Fault::Bad("a number has more than 64 bits"))
    }

    fn integer(&mut self) -> Result<i64, Fault> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    /// Type and number of a list's elements.
    fn list(&mut self) -> Result<(u8, usize), Fault> {
        let head = self.byte()?;
        let short = u64::from(head >> 4);
        let size = if short == 15 { self.varint()? } else { short };
        let size = usize::try_from(size).map_err(|_| Fault::Ends)?;
        if size > self.bytes.len() - self.at {
            return Err(Fault::Ends);
        }
        self.elements_left = self
            .elements_left
            .checked_sub(size)
            .ok_or(Fault::Bad("its footer has too many parts"))?;
        Ok((head & 0x0f, size))
    }

    /// Calls `field` with the number and type of each field of a struct; a
    /// field that it does not read (`false`) is skipped.
    fn fields(
        &mut self,
        depth: u32,
        field: &mut dyn FnMut(&mut Self, i64, u8) -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        let mut id = 0_i64;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Ok(());
            }
            let delta = i64::from(head >> 4);
            id = if delta == 0 { self.integer()? } else { id.saturating_add(delta) };
            let kind = head & 0x0f;
            if !field(self, id, kind)? {
                self.skip(kind, depth)?;
            }
        }
    }

    fn skip(&mut self, kind: u8, depth: u32) -> Result<(), Fault> {
        if depth == MAX_DEPTH {
            return Err(Fault::Bad("a header is nested too deeply"));
        }
        match kind {
            TRUE | FALSE => Ok(()),
            BYTE => self.advance(1),
            I16..=I64 => self.varint().map(|_| ()),
            DOUBLE => self.advance(8),
            BINARY => {
                let length = self.varint()?;
                self.advance(length)
            }
            LIST | SET => {
                let (kind, size) = self.list()?;
                (0..size).try_for_each(|_| self.skip_element(kind, depth + 1))
            }
            MAP => {
                let size = self.varint()?;
                if size == 0 {
                    return Ok(());
                }
                if size > (self.bytes.len() - self.at) as u64 {
                    return Err(Fault::Ends);
                }
                let kinds = self.byte()?;
                (0..size).try_for_each(|_| {
                    self.skip_element(kinds >> 4, depth + 1)?;
                    self.skip_element(kinds & 0x0f, depth + 1)
                })
            }
            STRUCT => self.fields(depth + 1, &mut |_, _, _| Ok(false)),
            _ => Err(Fault::Bad("a header has a field of an unknown type")),
        }
    }

    /// In a list, a truth value has a byte of its own.
    fn skip_element(&mut self, kind: u8, depth: u32) -> Result<(), Fault> {
        if matches!(kind, TRUE | FALSE) { self.advance(1) } else { self.skip(kind, depth) }
    }
}

/// Looks a footer through before a parser reserves memory by what it says: all
/// lists are as long as they claim, and the schema is no deeper than
/// [`MAX_COLUMN_DEPTH`].
pub(crate) fn check_footer(bytes: &[u8]) -> Result<(), Fault> {
    const SCHEMA: i64 = 2;
    const CHILDREN: i64 = 5;
    let mut compact = Compact::new(bytes);
    compact.fields(0, &mut |compact, id, kind| {
        if (id, kind) != (SCHEMA, LIST) {
            return Ok(false);
        }
        let (element, size) = compact.list()?;
        if element != STRUCT {
            return Err(Fault::Bad("its schema is no list of columns"));
        }
        if size > MAX_COLUMNS {
            return Err(Fault::Bad("it has too many columns"));
        }
        // Children that are still to come, of each group that is open.
        let mut open: Vec<i64> = Vec::new();
        for _ in 0..size {
            let mut children = 0;
            compact.fields(1, &mut |compact, id, kind| {
                let is_count = id == CHILDREN && (I16..=I64).contains(&kind);
                if is_count {
                    children = compact.integer()?;
                }
                Ok(is_count)
            })?;
            if let Some(left) = open.last_mut() {
                *left -= 1;
            }
            if children > 0 {
                open.push(children);
            }
            if open.len() > MAX_COLUMN_DEPTH {
                return Err(Fault::Bad("its columns are nested too deeply"));
            }
            while open.last().is_some_and(|left| *left <= 0) {
                open.pop();
            }
        }
        Ok(true)
    })
}

/// What stands before the bytes of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageHeader {
    /// Its own bytes.
    pub bytes: usize,
    /// Bytes of the page as it is stored.
    pub stored_bytes: usize,
    /// Bytes of the page once it is decompressed.
    pub page_bytes: usize,
    /// What the page is, where readers care.
    pub kind: Option<PageKind>,
}

/// See [`PageHeader::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageKind {
    /// Values that others refer to.
    Dictionary { values: u32, encoding: Encoding },
    /// Values, with their levels among what is compressed.
    Data { values: u32, encoding: Encoding, definition: Encoding, repetition: Encoding },
    /// Values, with their levels before what is compressed.
    DataV2 {
        values: u32,
        nulls: u32,
        rows: u32,
        encoding: Encoding,
        definition_bytes: u32,
        repetition_bytes: u32,
        compressed: bool,
    },
}

/// The page header that `bytes` begin with.
pub(crate) fn read_page_header(bytes: &[u8]) -> Result<PageHeader, Fault> {
    /// By field number: what pages have in common, and what one kind has.
    type Numbers = [Option<i64>; 9];
    const DATA: i64 = 0;
    const DICTIONARY: i64 = 2;
    const DATA_V2: i64 = 3;

    let mut compact = Compact::new(bytes);
    let (mut common, mut own): (Numbers, Numbers) = ([None; 9], [None; 9]);
    compact.fields(0, &mut |compact, id, kind| match (id, kind) {
        (1..=3, I16..=I64) => {
            common[id as usize] = Some(compact.integer()?);
            Ok(true)
        }
        (5 | 7 | 8, STRUCT) => {
            own = [None; 9];
            compact.fields(1, &mut |compact, id, kind| {
                let number = match (id, kind) {
                    (1..=8, I16..=I64) => compact.integer()?,
                    (1..=8, TRUE | FALSE) => i64::from(kind == TRUE),
                    _ => return Ok(false),
                };
                own[id as usize] = Some(number);
                Ok(true)
            })?;
            Ok(true)
        }
        _ => Ok(false),
    })?;
    let required =
        |numbers: &Numbers, id: usize| numbers[id].ok_or(Fault::Bad("a page header lacks a field"));
    let count = |number: i64| {
        u32::try_from(number).map_err(|_| Fault::Bad("a page header has a number out of range"))
    };
    let number = |id| required(&own, id).and_then(count);
    let encoding = |id| required(&own, id).and_then(encoding);
    let kind = match required(&common, 1)? {
        DATA => Some(PageKind::Data {
            values: number(1)?,
            encoding: encoding(2)?,
            definition: encoding(3)?,
            repetition: encoding(4)?,
        }),
        DICTIONARY => {
            let values = number(1)?;
            if values as usize > MAX_DICTIONARY_VALUES {
                return Err(Fault::Bad("a dictionary has too many values"));
            }
            Some(PageKind::Dictionary { values, encoding: encoding(2)? })
        }
        DATA_V2 => Some(PageKind::DataV2 {
            values: number(1)?,
            nulls: number(2)?,
            rows: number(3)?,
            encoding: encoding(4)?,
            definition_bytes: number(5)?,
            repetition_bytes: number(6)?,
            compressed: own[7] != Some(0),
        }),
        _ => None,
    };
    let page_bytes = count(required(&common, 2)?)? as usize;
    let stored_bytes = count(required(&common, 3)?)? as usize;
    Ok(PageHeader { bytes: compact.at, stored_bytes, page_bytes, kind })
}

/// Encodings that are read. Not among them is `DELTA_BYTE_ARRAY`, in which a
/// page of a megabyte can hold a terabyte of text, nor
/// `DELTA_LENGTH_BYTE_ARRAY`, where the library reserves memory for as many
/// values as the page claims to have.
fn encoding(number: i64) -> Result<Encoding, Fault> {
    Ok(match number {
        0 => Encoding::PLAIN,
        2 => Encoding::PLAIN_DICTIONARY,
        3 => Encoding::RLE,
        #[expect(deprecated, reason = "levels of old files have it")]
        4 => Encoding::BIT_PACKED,
        5 => Encoding::DELTA_BINARY_PACKED,
        6 | 7 => {
            return Err(Fault::Bad(
                "its texts are encoded by differences, which is not read; write them with another \
                 encoding",
            ));
        }
        8 => Encoding::RLE_DICTIONARY,
        9 => Encoding::BYTE_STREAM_SPLIT,
        _ => return Err(Fault::Bad("a page has an unknown encoding")),
    })
}
