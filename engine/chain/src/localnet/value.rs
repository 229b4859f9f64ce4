//! Values that the metadata's types are encoded from and decoded to.

use subxt::dynamic::Value;
use subxt::ext::scale_value::{Composite, ValueDef};

/// A whole number of any width.
pub fn number(number: impl Into<u128>) -> Value {
    Value::u128(number.into())
}

/// A list.
pub fn list(items: impl IntoIterator<Item = Value>) -> Value {
    Value::unnamed_composite(items)
}

/// A list of whole numbers.
pub fn numbers<T: Into<u128>>(items: impl IntoIterator<Item = T>) -> Value {
    list(items.into_iter().map(number))
}

/// A list of truths.
pub fn truths(items: impl IntoIterator<Item = bool>) -> Value {
    list(items.into_iter().map(Value::bool))
}

/// Something that may be absent, and is there.
pub fn some(value: Value) -> Value {
    Value::unnamed_variant("Some", [value])
}

/// Something that may be absent, and is.
pub fn none() -> Value {
    Value::unnamed_variant("None", [])
}

/// A whole number that fits.
pub fn as_number<T: TryFrom<u128>>(value: &Value) -> Option<T> {
    innermost(value).as_u128().and_then(|number| number.try_into().ok())
}

/// A list of whole numbers that fit.
pub fn as_numbers<T: TryFrom<u128>>(value: &Value) -> Option<Vec<T>> {
    items(value)?.iter().map(|one| as_number(one)).collect()
}

/// The bytes of an account.
pub fn as_account(value: &Value) -> Option<[u8; 32]> {
    as_numbers::<u8>(value)?.try_into().ok()
}

/// The items of a list, whatever types are wrapped around it.
pub fn items(value: &Value) -> Option<&[Value]> {
    match &value.value {
        ValueDef::Composite(Composite::Unnamed(items)) => match items.as_slice() {
            [only] if matches!(only.value, ValueDef::Composite(_)) => self::items(only),
            items => Some(items),
        },
        _ => None,
    }
}

/// What is in types of one field each.
pub fn innermost(value: &Value) -> &Value {
    match &value.value {
        ValueDef::Composite(Composite::Unnamed(items)) => match items.as_slice() {
            [only] => innermost(only),
            _ => value,
        },
        _ => value,
    }
}
