//! Binary members of rows.
//!
//! A row is JSON, so bytes stand in it as an object of two members:
//! `{"media": "image/png", "base64": "..."}`. Tasks see a blob instead:
//! `{"id": 0, "length": 68, "media": "image/png"}`. Bytes that a dataset could
//! not vouch for are gone: `{"rejected": "why"}`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::task::Blob;

const MEDIA: &str = "media";
const BASE64: &str = "base64";

/// Bytes as a member of a row.
pub fn binary_member(media: &str, bytes: &[u8]) -> Value {
    json!({MEDIA: media, BASE64: STANDARD.encode(bytes)})
}

/// A member of a row whose bytes cannot be used.
pub fn rejected_member(reason: &str) -> Value {
    json!({"rejected": reason})
}

/// Media type and bytes of a binary member.
///
/// # Errors
/// Bytes that are not valid base64.
pub fn read_binary(member: &Value) -> Result<Option<(&str, Vec<u8>)>, String> {
    let Some(object) = member.as_object().filter(|object| object.len() == 2) else {
        return Ok(None);
    };
    let text = |key: &str| object.get(key).and_then(Value::as_str);
    let (Some(media), Some(encoded)) = (text(MEDIA), text(BASE64)) else { return Ok(None) };
    let bytes = STANDARD.decode(encoded).map_err(|error| format!("is not base64: {error}"))?;
    Ok(Some((media, bytes)))
}

/// Whether a row may have binary members; cheap, and never wrong about those
/// that have.
pub fn may_hold_binaries(row: &str) -> bool {
    row.contains("\"base64\"")
}

/// The row with blobs in place of its binary members, in the order of their
/// names; none when it has no such member.
pub(crate) fn extract_binaries(
    row: &str,
    mut put: impl FnMut(&str, &[u8]) -> Result<Blob, String>,
) -> Result<Option<String>, String> {
    if !may_hold_binaries(row) {
        return Ok(None);
    }
    let Ok(mut object) = serde_json::from_str::<Map<String, Value>>(row) else { return Ok(None) };
    let mut found = false;
    for (name, member) in &mut object {
        let binary = read_binary(member).map_err(|fault| format!("the member `{name}` {fault}"))?;
        let Some((media, bytes)) = binary else { continue };
        let Blob { id, length, media, .. } = put(media, &bytes)?;
        *member = json!({"id": id, "length": length, "media": media});
        found = true;
    }
    Ok(found.then(|| Value::Object(object).to_string()))
}
