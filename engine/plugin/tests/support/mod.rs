//! A host for plugins that are made in the test.

pub mod guests;

use evaltasks_core::host::{Host, Ragged, TextSettings};
use evaltasks_core::task::Blob;

/// Three rows, one blob of four bytes, a token per byte.
pub struct TestHost;

impl Host for TestHost {
    fn rows(&self, source: u32, start: u32, count: u32) -> Result<Vec<String>, String> {
        let rows = ["{\"text\":\"a\"}", "{\"text\":\"bc\"}", "{\"text\":\"def\"}"];
        match source {
            0 => {
                let rows = rows.iter().skip(start as usize).take(count as usize);
                Ok(rows.map(|row| (*row).to_owned()).collect())
            }
            _ => Err(format!("there is no source {source}")),
        }
    }
    fn blob_read(&self, id: u32, offset: u32, length: u32) -> Result<Vec<u8>, String> {
        if id != 0 {
            return Err(format!("there is no blob {id}"));
        }
        Ok(b"blob".iter().skip(offset as usize).take(length as usize).copied().collect())
    }
    fn blob_put(&self, _media: &str, _bytes: &[u8]) -> Result<Blob, String> {
        Err("no blob can be put".to_owned())
    }
    fn encode(&self, texts: &[String], _special: bool) -> Result<Ragged, String> {
        let mut ids = Ragged::default();
        for text in texts {
            ids.push(&text.bytes().map(u32::from).collect::<Vec<_>>());
        }
        Ok(ids)
    }
    fn decode(&self, ids: &Ragged) -> Result<Vec<String>, String> {
        Ok(ids.iter().map(|ids| ids.len().to_string()).collect())
    }
    fn text_settings(&self) -> TextSettings {
        TextSettings { sequence_length: 8, end_of_sequence: Some(0) }
    }
    fn random(&self, key: &str, count: u32) -> Vec<u32> {
        (0..count.min(1 << 20)).map(|word| word ^ key.len() as u32).collect()
    }
    fn permutation(&self, count: u32) -> Vec<u32> {
        (0..count).rev().collect()
    }
    fn log(&self, _level: u8, _message: &str) {}
}
