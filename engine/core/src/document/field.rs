//! A value of a document together with its place.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::problem::Span;
use super::text::Name;

/// What a document says at one key.
///
/// A value that is wrong becomes `Invalid` and its problem is recorded, so that
/// everything around it is still read. It takes this module's deserializer to
/// do so: fields cannot be read from other serde formats.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Field<T> {
    /// Nothing.
    #[default]
    Absent,
    /// Something that is wrong, and reported already.
    Invalid,
    /// A value.
    Given(Given<T>),
}

/// A value that a document gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Given<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub place: Place,
}

/// Where a value stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Its key; the value itself for an entry of a list.
    pub key: Span,
    /// The value.
    pub value: Span,
}

impl<T> Field<T> {
    /// The value, if there is a valid one.
    pub fn given(&self) -> Option<&Given<T>> {
        match self {
            Field::Given(given) => Some(given),
            Field::Absent | Field::Invalid => None,
        }
    }

    /// The value, if there is a valid one.
    pub fn value(&self) -> Option<&T> {
        self.given().map(|given| &given.value)
    }

    /// Whether the document says nothing at this key.
    pub fn is_absent(&self) -> bool {
        matches!(self, Field::Absent)
    }

    /// Some(none) when the document says nothing; none when what it says is
    /// invalid or `resolve` finds it so.
    pub fn optional<R>(&self, resolve: impl FnOnce(&Given<T>) -> Option<R>) -> Option<Option<R>> {
        match self {
            Field::Absent => Some(None),
            Field::Invalid => None,
            Field::Given(given) => resolve(given).map(Some),
        }
    }

    /// The value, or the default when the document gives none; none when what
    /// it gives is invalid.
    pub fn or(&self, default: T) -> Option<T>
    where
        T: Clone,
    {
        match self {
            Field::Absent => Some(default),
            Field::Invalid => None,
            Field::Given(given) => Some(given.value.clone()),
        }
    }
}

/// How [`Field`] asks for its place, after its value.
type PlaceTuple = (usize, usize, usize, usize);

impl Place {
    fn from_tuple((key_start, key_end, start, end): PlaceTuple) -> Self {
        Place { key: Span { start: key_start, end: key_end }, value: Span { start, end } }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // An option, so that serde takes a key that is not there for `Absent`.
        // The tree's deserializer answers with a list: the value and its place,
        // or nothing when the value is invalid.
        deserializer.deserialize_option(FieldVisitor(PhantomData))
    }
}

struct FieldVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FieldVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(Field::Absent)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let Some(value) = access.next_element::<T>()? else { return Ok(Field::Invalid) };
        let place = access.next_element::<PlaceTuple>()?.map(Place::from_tuple).unwrap_or_default();
        Ok(Field::Given(Given { value, place }))
    }
}

impl<T: JsonSchema> JsonSchema for Field<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A mapping with names of the author's choice, in the document's order.
#[derive(Clone, Debug, PartialEq)]
pub struct Entries<T>(pub Vec<(Field<Name>, Field<T>)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for EntriesVisitor<T> {
            type Value = Entries<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a mapping")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = access.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Entries<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Entries_of_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "type": "object",
            "propertyNames": generator.subschema_for::<Name>(),
            "additionalProperties": generator.subschema_for::<T>(),
        })
    }
}

/// A mapping whose meaning is not ours, as JSON.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Config(pub serde_json::Map<String, serde_json::Value>);
