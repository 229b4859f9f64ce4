//! A serde deserializer over the tree that records problems and goes on.
//!
//! The reading of one [`Field`] never fails: what goes wrong within it is
//! recorded, and the field becomes invalid. Keys that a struct does not know
//! are recorded and skipped. Expectations are what the visitors say they
//! expect, so a message never lags behind the types.

use std::fmt;
use std::rc::Rc;

use serde::de::value::SeqDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected,
    IntoDeserializer, MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};

use super::field::Field;
use super::problem::{Problems, Span, did_you_mean, nearest, quote};
use super::scalar::{Scalar, describe};
use super::tree::{Content, Entry, Node};

/// Reads the whole tree. Keys of its root that begin with `x-` are ignored:
/// they are for anchors.
pub(crate) fn root<T: DeserializeOwned>(node: &Node, problems: &Problems) -> Field<T> {
    let reader = Reader { node, key: node.span, root: true, misspelt: false, problems };
    // A field always succeeds over this deserializer.
    <Field<T> as serde::Deserialize>::deserialize(reader).unwrap_or(Field::Invalid)
}

/// Reads one node.
#[derive(Clone, Copy)]
struct Reader<'a> {
    node: &'a Node,
    key: Span,
    root: bool,
    /// Whether the key was taken for another; its value then stays unread.
    misspelt: bool,
    problems: &'a Problems,
}

/// Why a value is not what its reader expects.
#[derive(Debug)]
enum ReadError {
    /// Recorded already.
    Reported,
    /// Not recorded yet. Without a span, it is about the node being read.
    Wrong { span: Option<Span>, message: String, hint: Option<String> },
}

impl ReadError {
    fn new(message: String, hint: Option<String>) -> Self {
        ReadError::Wrong { span: None, message, hint }
    }

    /// Fixes the place, unless a deeper reader has done so.
    fn at(self, place: Span) -> Self {
        match self {
            ReadError::Wrong { span: None, message, hint } => {
                ReadError::Wrong { span: Some(place), message, hint }
            }
            fixed => fixed,
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Reported => formatter.write_str("read a value"),
            ReadError::Wrong { message, .. } => formatter.write_str(message),
        }
    }
}

impl std::error::Error for ReadError {}

impl serde::de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        ReadError::new(message.to_string(), None)
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        ReadError::new(format!("expected {expected}, found {}", describe(unexpected)), None)
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }
}

impl<'a> Reader<'a> {
    fn scalar(&self) -> Option<Scalar<'a>> {
        match &self.node.content {
            Content::Scalar { text, plain: true } => Some(Scalar::plain(text)),
            Content::Scalar { text, plain: false } => Some(Scalar::Text(text)),
            _ => None,
        }
    }

    /// "Expected this, found that", with what to do about it.
    fn mismatch(&self, expected: &dyn fmt::Display) -> ReadError {
        let unexpected = match (&self.node.content, self.scalar()) {
            (Content::Broken, _) => return ReadError::Reported,
            (_, Some(scalar)) => scalar.unexpected(),
            (Content::Sequence(_), _) => Unexpected::Seq,
            _ => Unexpected::Map,
        };
        let hint = match unexpected {
            Unexpected::Unit => Some("give it a value or remove the key".to_owned()),
            _ => None,
        };
        let message = format!("expected {expected}, found {}", describe(unexpected));
        ReadError::Wrong { span: Some(self.node.span), message, hint }
    }

    fn child(&self, node: &'a Node, key: Span) -> Reader<'a> {
        Reader { node, key, root: false, misspelt: false, problems: self.problems }
    }

    fn fix<T>(&self, result: Result<T, ReadError>) -> Result<T, ReadError> {
        result.map_err(|error| error.at(self.node.span))
    }

    fn entries(&self, known: Option<&'static [&'static str]>) -> MapReader<'a> {
        let entries = match &self.node.content {
            Content::Mapping(entries) => entries.as_slice(),
            _ => &[],
        };
        let known = known.map(<[_]>::to_vec);
        MapReader { reader: *self, entries: entries.iter(), known, value: None }
    }
}

impl<'de, 'a: 'de> Deserializer<'de> for Reader<'a> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let Some(scalar) = self.scalar() else {
            return match &self.node.content {
                Content::Sequence(_) => self.deserialize_seq(visitor),
                Content::Mapping(_) => self.deserialize_map(visitor),
                _ => Err(ReadError::Reported),
            };
        };
        self.fix(match scalar {
            Scalar::Null => visitor.visit_unit(),
            Scalar::Bool(value) => visitor.visit_bool(value),
            Scalar::Unsigned(value) => visitor.visit_u64(value),
            Scalar::Signed(value) => visitor.visit_i64(value),
            Scalar::Float(value) if !value.is_finite() => {
                let found = describe(Unexpected::Float(value));
                Err(ReadError::new(format!("expected a finite number, found {found}"), None))
            }
            Scalar::Float(value) => visitor.visit_f64(value),
            Scalar::Text(text) => visitor.visit_borrowed_str(text),
        })
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.scalar() {
            Some(Scalar::Unsigned(value)) => self.fix(visitor.visit_u64(value)),
            _ => Err(self.mismatch(&(&visitor as &dyn Expected))),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.fix(match self.scalar() {
            Some(Scalar::Unsigned(value)) => visitor.visit_u64(value),
            Some(Scalar::Signed(value)) => visitor.visit_i64(value),
            Some(Scalar::Float(value)) => visitor.visit_f64(value),
            _ => Err(self.mismatch(&(&visitor as &dyn Expected))),
        })
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.scalar() {
            Some(Scalar::Text(text)) => self.fix(visitor.visit_borrowed_str(text)),
            Some(Scalar::Null) | None => Err(self.mismatch(&(&visitor as &dyn Expected))),
            Some(_) => match self.mismatch(&(&visitor as &dyn Expected)) {
                ReadError::Wrong { span, message, .. } => {
                    let hint = Some("put it in quotes to make it text".to_owned());
                    Err(ReadError::Wrong { span, message, hint })
                }
                reported => Err(reported),
            },
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    /// The protocol of [`Field`]: a list of the value and its place, or nothing
    /// when the value is invalid.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_seq(FieldReader { reader: self, value_read: false })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.content {
            Content::Sequence(items) => {
                self.fix(visitor.visit_seq(ItemReader { reader: self, items: items.iter() }))
            }
            _ => Err(self.mismatch(&"a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.content {
            Content::Mapping(_) => self.fix(visitor.visit_map(self.entries(None))),
            _ => Err(self.mismatch(&"a mapping")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        if let Content::Mapping(_) = self.node.content {
            return self.fix(visitor.visit_map(self.entries(Some(fields))));
        }
        // Derived visitors only know the name of the Rust type.
        let mut expected = (&visitor as &dyn Expected).to_string();
        if expected.starts_with("struct ") {
            let keys: Vec<String> = fields.iter().map(|field| quote(field)).collect();
            expected = format!("a mapping with the keys {}", keys.join(", "));
        }
        match self.scalar() {
            // Some mappings can be given as a word instead.
            Some(Scalar::Text(text)) => {
                visitor.visit_borrowed_str(text).map_err(|_: ReadError| self.mismatch(&expected))
            }
            _ => Err(self.mismatch(&expected)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let (variant, span, value) = match (&self.node.content, self.scalar()) {
            (_, Some(Scalar::Text(text))) => (text, self.node.span, None),
            (Content::Mapping(entries), _) if entries.len() == 1 => {
                let entry = &entries[0];
                (entry.key(), entry.key.span, Some(self.child(&entry.value, entry.key.span)))
            }
            _ => {
                let listed: Vec<String> = variants.iter().map(|name| quote(name)).collect();
                return Err(self.mismatch(&format!("one of {}", listed.join(", "))));
            }
        };
        if !variants.contains(&variant) {
            let hint = did_you_mean(variant, variants.iter().copied());
            let message = format!("{} is not known here", quote(variant));
            return Err(ReadError::Wrong { span: Some(span), message, hint });
        }
        self.fix(visitor.visit_enum(VariantReader { reader: self, variant, value }))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u128 f32 char bytes byte_buf unit unit_struct
        tuple tuple_struct
    }
}

struct FieldReader<'a> {
    reader: Reader<'a>,
    value_read: bool,
}

impl<'de, 'a: 'de> SeqAccess<'de> for FieldReader<'a> {
    type Error = ReadError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ReadError> {
        let Reader { node, key, problems, .. } = self.reader;
        if self.value_read {
            let place = [key.start, key.end, node.span.start, node.span.end];
            return seed.deserialize(SeqDeserializer::new(place.into_iter())).map(Some);
        }
        self.value_read = true;
        if self.reader.misspelt {
            return Ok(None);
        }
        match seed.deserialize(self.reader) {
            Ok(value) => Ok(Some(value)),
            Err(ReadError::Reported) => Ok(None),
            Err(ReadError::Wrong { span, message, hint }) => {
                problems.error(span.unwrap_or(node.span), message, hint);
                Ok(None)
            }
        }
    }
}

struct ItemReader<'a> {
    reader: Reader<'a>,
    items: std::slice::Iter<'a, Rc<Node>>,
}

impl<'de, 'a: 'de> SeqAccess<'de> for ItemReader<'a> {
    type Error = ReadError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ReadError> {
        self.items
            .next()
            .map(|item| seed.deserialize(self.reader.child(item, item.span)))
            .transpose()
    }
}

struct MapReader<'a> {
    reader: Reader<'a>,
    entries: std::slice::Iter<'a, Entry>,
    /// The keys of a struct that may still come; any key when none.
    known: Option<Vec<&'static str>>,
    value: Option<Reader<'a>>,
}

impl<'a> MapReader<'a> {
    /// The known key that an unknown one was probably meant to be, so that it
    /// is not missed too. Reports the unknown one.
    fn unknown(&mut self, entry: &Entry) -> Option<&'static str> {
        let Reader { root, problems, node, .. } = self.reader;
        let key = entry.key();
        if root && key.starts_with("x-") || problems.is_full() {
            return None;
        }
        let known = self.known.as_deref().unwrap_or_default();
        let message = format!("unknown key {}", quote(key));
        problems.error(entry.key.span, message, did_you_mean(key, known.iter().copied()));
        let meant = nearest(key, known)?;
        let is_there = matches!(&node.content, Content::Mapping(entries)
            if entries.iter().any(|entry| entry.key() == meant));
        (!is_there).then_some(meant)
    }
}

impl<'de, 'a: 'de> MapAccess<'de> for MapReader<'a> {
    type Error = ReadError;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ReadError> {
        while let Some(entry) = self.entries.next() {
            let reader = self.reader.child(&entry.value, entry.key.span);
            let is_known = self.known.as_ref().is_none_or(|known| known.contains(&entry.key()));
            if is_known {
                self.value = Some(reader);
                let key = self.reader.child(&entry.key, entry.key.span);
                return seed.deserialize(key).map(Some);
            }
            if let Some(meant) = self.unknown(entry) {
                if let Some(known) = &mut self.known {
                    known.retain(|key| *key != meant);
                }
                self.value = Some(Reader { misspelt: true, ..reader });
                return seed.deserialize(meant.into_deserializer()).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, ReadError> {
        match self.value.take() {
            Some(reader) => seed.deserialize(reader),
            None => Err(ReadError::custom("expected a key before its value")),
        }
    }
}

/// A variant: a word alone, or a mapping from the word to its content.
struct VariantReader<'a> {
    reader: Reader<'a>,
    variant: &'a str,
    value: Option<Reader<'a>>,
}

impl<'de, 'a: 'de> EnumAccess<'de> for VariantReader<'a> {
    type Error = ReadError;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), ReadError> {
        Ok((seed.deserialize(self.variant.into_deserializer())?, self))
    }
}

impl<'a> VariantReader<'a> {
    fn content(&self) -> Result<Reader<'a>, ReadError> {
        self.value.ok_or_else(|| {
            let hint = format!("write `{}: ...` below the key", self.variant);
            ReadError::new(format!("{} needs a value", quote(self.variant)), Some(hint))
        })
    }
}

impl<'de, 'a: 'de> VariantAccess<'de> for VariantReader<'a> {
    type Error = ReadError;

    fn unit_variant(self) -> Result<(), ReadError> {
        match self.value {
            None => Ok(()),
            Some(_) => {
                let message = format!("{} takes no value", quote(self.variant));
                let hint = format!("write {} alone", quote(self.variant));
                Err(ReadError::new(message, Some(hint)).at(self.reader.node.span))
            }
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, ReadError> {
        seed.deserialize(self.content()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, ReadError> {
        self.content()?.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.content()?.deserialize_struct("", fields, visitor)
    }
}
