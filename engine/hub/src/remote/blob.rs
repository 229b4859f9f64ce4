//! Texts that rows only name: one file for each, at an address that the row
//! completes.

use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use evaltasks_core::competition::{BlobCompression, BlobRules, DatasetRules, url_members};
use evaltasks_core::source::Row;
use flate2::read::MultiGzDecoder;
use reqwest::Url;
use serde_json::{Map, Value};

use super::signature::{is_s3, sign};
use super::{DatasetFault, Datasets};
use crate::HubError;
use crate::limits::{MAX_BLOB_CONNECTIONS, MAX_DRAWN_BYTES, MAX_ROW_BYTES};
use crate::net::Ask;

const TEXT: &str = "text";

impl Datasets {
    /// Gives every row the text that it names, as `text`.
    ///
    /// # Errors
    /// That of the first row whose text cannot be had, and more bytes than a
    /// round may hold.
    pub(super) fn fill(
        &self,
        blob: &BlobRules,
        rules: &DatasetRules,
        rows: &mut [Row],
    ) -> Result<(), HubError> {
        let texts = collect(rows, MAX_DRAWN_BYTES, |row| self.text(blob, row))?;
        let mut left = MAX_DRAWN_BYTES;
        for (row, text) in rows.iter_mut().zip(texts) {
            let mut object = members(row);
            object.insert(TEXT.to_owned(), text.into());
            if !rules.columns.is_empty() {
                object.retain(|name, _| name == TEXT || rules.columns.contains(name));
            }
            row.json = Value::Object(object).to_string();
            left = crate::draw::bytes_left(left, std::slice::from_ref(row))?;
        }
        Ok(())
    }

    fn text(&self, blob: &BlobRules, row: &Row) -> Result<String, DatasetFault> {
        let object = members(row);
        let url = address(&blob.url, &object, &row.origin)?;
        let failed = |reason: String| DatasetFault::BlobContent {
            origin: row.origin.clone(),
            url: url.to_string(),
            reason,
        };
        let key = format!("blob\n{url}");
        let kept = self.cache.as_ref().and_then(|cache| cache.get(&key));
        let is_new = kept.is_none();
        let stored = match kept {
            Some(bytes) => bytes,
            None => self.fetch_blob(&url).map_err(|source| DatasetFault::Blob {
                origin: row.origin.clone(),
                url: url.to_string(),
                source,
            })?,
        };
        let bytes = match blob.compression {
            BlobCompression::None => stored.clone(),
            BlobCompression::Gzip => {
                let mut bytes = Vec::new();
                let longest = u64::from(MAX_ROW_BYTES) + 1;
                MultiGzDecoder::new(stored.as_slice())
                    .take(longest)
                    .read_to_end(&mut bytes)
                    .map_err(|error| failed(format!("it is not gzip: {error}")))?;
                bytes
            }
        };
        if bytes.len() > MAX_ROW_BYTES as usize {
            return Err(failed(format!("it has more than {MAX_ROW_BYTES} bytes")));
        }
        if let (Some(cache), true) = (&self.cache, is_new) {
            cache.put(&key, &stored);
        }
        let encoding = blob.encoding_field.as_ref().map(|field| match object.get(field) {
            Some(Value::String(name)) => Ok(name.as_str()),
            _ => Err(failed(format!("the row does not name its encoding as {field:?}"))),
        });
        let encoding = encoding.transpose()?.unwrap_or("utf-8");
        decode(bytes, encoding).map_err(failed)
    }

    fn fetch_blob(&self, url: &Url) -> Result<Vec<u8>, crate::DownloadFault> {
        let keys = self.settings.aws.as_ref().filter(|_| is_s3(url));
        // A signature is for one server, so no redirect may carry it on.
        let net = if keys.is_some() { &self.net_in_place } else { self.net.as_ref() };
        super::ask(net, url.as_str(), |attempt| {
            let signed = keys.map(|keys| sign(url, keys, net.clock().date())).unwrap_or_default();
            let headers: Vec<(&'static str, &str)> =
                signed.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let ask = Ask {
                url: url.as_str(),
                headers: &headers,
                token: None,
                range: None,
                max_bytes: MAX_ROW_BYTES.into(),
            };
            attempt.get(&ask)?.expect(&[200])?.body.bytes()
        })
    }
}

/// The text of every row, in order. As soon as they have more than `max_bytes`
/// together, no more is asked for: texts that a row names may be far larger
/// than the row.
fn collect(
    rows: &[Row],
    max_bytes: u64,
    text: impl Fn(&Row) -> Result<String, DatasetFault> + Sync,
) -> Result<Vec<String>, HubError> {
    let next = AtomicUsize::new(0);
    let failed = AtomicUsize::new(usize::MAX);
    let left = AtomicU64::new(max_bytes);
    let is_full = AtomicBool::new(false);
    let texts: Mutex<Vec<Option<Result<String, DatasetFault>>>> =
        Mutex::new(rows.iter().map(|_| None).collect());
    thread::scope(|scope| {
        for _ in 0..MAX_BLOB_CONNECTIONS.min(rows.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::SeqCst);
                    // Rows before the first fault are still looked at, so that
                    // the fault named is always the same one.
                    let Some(row) = rows.get(index) else { return };
                    if index > failed.load(Ordering::SeqCst) || is_full.load(Ordering::SeqCst) {
                        return;
                    }
                    let text = text(row);
                    match &text {
                        Ok(text) => {
                            let bytes = text.len() as u64;
                            let take = |left: u64| left.checked_sub(bytes);
                            if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_err()
                            {
                                is_full.store(true, Ordering::SeqCst);
                                return;
                            }
                        }
                        Err(_) => drop(failed.fetch_min(index, Ordering::SeqCst)),
                    }
                    let mut texts = texts.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(place) = texts.get_mut(index) {
                        *place = Some(text);
                    }
                }
            });
        }
    });
    if is_full.into_inner() {
        return Err(HubError::TooManyDrawnBytes { limit: max_bytes });
    }
    let texts = texts.into_inner().unwrap_or_else(PoisonError::into_inner);
    let texts: Result<Vec<String>, DatasetFault> = texts.into_iter().flatten().collect();
    Ok(texts?)
}

fn members(row: &Row) -> Map<String, Value> {
    serde_json::from_str(&row.json).unwrap_or_default()
}

/// The template with the row's members in place of their names, written so
/// that none can change which server is asked or where a part of the path ends.
fn address(template: &str, object: &Map<String, Value>, origin: &str) -> Result<Url, DatasetFault> {
    let mut text = template.to_owned();
    for member in url_members(template).unwrap_or_default() {
        let no_key =
            || DatasetFault::NoKey { origin: origin.to_owned(), member: member.to_owned() };
        let value = match object.get(member) {
            Some(Value::String(value)) if !value.is_empty() && !value.starts_with('.') => {
                value.clone()
            }
            Some(Value::Number(value)) => value.to_string(),
            _ => return Err(no_key()),
        };
        let written: String = value
            .bytes()
            .map(|byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    char::from(byte).to_string()
                }
                _ => format!("%{byte:02X}"),
            })
            .collect();
        text = text.replace(&format!("{{{member}}}"), &written);
    }
    Url::parse(&text).map_err(|_| DatasetFault::BlobContent {
        origin: origin.to_owned(),
        url: text,
        reason: "it is no address".to_owned(),
    })
}

/// Text of bytes in an encoding by the name that Python or the web gives it.
/// What is malformed becomes U+FFFD.
fn decode(bytes: Vec<u8>, encoding: &str) -> Result<String, String> {
    let name = encoding.trim().to_ascii_lowercase().replace('_', "-");
    // The web means another encoding by these names than everybody else.
    match name.as_str() {
        "iso-8859-1" | "iso8859-1" | "latin-1" | "latin1" | "l1" => {
            return Ok(bytes.iter().map(|byte| char::from(*byte)).collect());
        }
        "ascii" | "us-ascii" => {
            let of = |byte: &u8| if byte.is_ascii() { char::from(*byte) } else { '\u{fffd}' };
            return Ok(bytes.iter().map(of).collect());
        }
        _ => {}
    }
    let by = |label: &str| encoding_rs::Encoding::for_label(label.as_bytes());
    let found = by(encoding).or_else(|| by(&name));
    let found = found.ok_or_else(|| format!("the encoding {encoding:?} is not known"))?;
    let (text, _) = found.decode_without_bom_handling(&bytes);
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_cannot_be_led_astray() {
        let template = "https://host/content/{id}/{n}";
        let rows = [
            (r#"{"id": "ab12", "n": 3}"#, Some("https://host/content/ab12/3")),
            (r#"{"id": "a/b?c#d e", "n": 0}"#, Some("https://host/content/a%2Fb%3Fc%23d%20e/0")),
            (r#"{"id": "@evil", "n": -1}"#, Some("https://host/content/%40evil/-1")),
            (r#"{"id": "..", "n": 1}"#, None),
            (r#"{"id": "", "n": 1}"#, None),
            (r#"{"id": null, "n": 1}"#, None),
            (r#"{"n": 1}"#, None),
        ];
        for (row, expected) in rows {
            let found = address(template, &serde_json::from_str(row).unwrap(), "row").ok();
            assert_eq!(found.as_ref().map(Url::as_str), expected, "{row}");
        }
    }

    #[test]
    fn texts_are_bounded_as_they_come() {
        let row = |index: usize| Row { origin: index.to_string(), json: "{}".to_owned() };
        let rows: Vec<Row> = (0..1000).map(row).collect();
        let asked = AtomicUsize::new(0);
        let text = |_: &Row| {
            asked.fetch_add(1, Ordering::SeqCst);
            Ok("a".repeat(10))
        };
        assert_eq!(collect(&rows, 10_000, text).unwrap().len(), 1000);
        assert_eq!(asked.swap(0, Ordering::SeqCst), 1000);
        let refused = collect(&rows, 99, text).unwrap_err();
        assert!(matches!(refused, HubError::TooManyDrawnBytes { limit: 99 }), "{refused}");
        // Nine fit, and each connection asks for one more at most.
        assert!(asked.into_inner() <= 9 + MAX_BLOB_CONNECTIONS);

        let fails = |row: &Row| match row.origin.as_str() {
            "7" | "9" => {
                Err(DatasetFault::NoKey { origin: row.origin.clone(), member: "a".into() })
            }
            _ => Ok(String::new()),
        };
        let fault = collect(&rows, 99, fails).unwrap_err();
        let source = std::error::Error::source(&fault)
            .map_or_else(|| fault.to_string(), ToString::to_string);
        assert!(source.contains('7') && !source.contains('9'), "{source}");
    }

    #[test]
    fn texts_in_any_encoding() {
        let rows: [(&[u8], &str, Result<&str, &str>); 9] = [
            ("é".as_bytes(), "UTF-8", Ok("é")),
            (b"\xef\xbb\xbfa", "utf-8", Ok("\u{feff}a")),
            (b"a\xffb", "utf_8", Ok("a\u{fffd}b")),
            (b"\xe9\x80", "ISO-8859-1", Ok("é\u{80}")),
            (b"\xe9\x80", "windows-1252", Ok("é€")),
            (b"a\x80", "ascii", Ok("a\u{fffd}")),
            (b"\x82\xa0", "shift_jis", Ok("あ")),
            (b"\xc4\xe3", "GB18030", Ok("你")),
            (b"a", "utf-7", Err("the encoding \"utf-7\" is not known")),
        ];
        for (bytes, encoding, expected) in rows {
            let found = decode(bytes.to_vec(), encoding);
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{encoding}");
        }
    }
}
