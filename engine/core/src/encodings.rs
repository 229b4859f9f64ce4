//! Token ids of texts that were encoded before.
//!
//! A task builds its rows in shards, and some have to look at all of their
//! texts for each of them: without this, a text would be encoded as often as
//! there are shards.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::host::Ragged;
use crate::limits::MAX_KEPT_TOKENS;

/// What an entry counts beside its tokens.
const TOKENS_PER_ENTRY: usize = 32;

/// Which text: its digest, and whether special tokens were added.
type Key = ([u8; 32], bool);

/// Ids by text, of so many that they count [`MAX_KEPT_TOKENS`]; later ones are
/// not kept. What is asked for never depends on what is kept.
pub struct Encodings(Mutex<Kept>);

struct Kept {
    ids: HashMap<Key, Arc<[u32]>>,
    tokens_left: usize,
}

impl Default for Encodings {
    fn default() -> Self {
        Encodings::holding(MAX_KEPT_TOKENS)
    }
}

impl Encodings {
    fn holding(tokens: usize) -> Self {
        Encodings(Mutex::new(Kept { ids: HashMap::new(), tokens_left: tokens }))
    }

    /// The ids of every text, in order; `encode` is called once, for those that
    /// are not known, if there are any.
    ///
    /// # Errors
    /// Those of `encode`.
    pub fn encode(
        &self,
        texts: &[String],
        special: bool,
        encode: impl FnOnce(&[String]) -> Result<Ragged, String>,
    ) -> Result<Ragged, String> {
        let keys: Vec<Key> =
            texts.iter().map(|text| (Sha256::digest(text).into(), special)).collect();
        let found: Vec<Option<Arc<[u32]>>> = {
            let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            keys.iter().map(|key| kept.ids.get(key).cloned()).collect()
        };
        let missing: Vec<String> = texts
            .iter()
            .zip(&found)
            .filter(|(_, found)| found.is_none())
            .map(|(text, _)| text.clone())
            .collect();
        let new = if missing.is_empty() { Ragged::default() } else { encode(&missing)? };
        if new.ends.len() != missing.len() {
            return Err(format!("{} texts were encoded of {}", new.ends.len(), missing.len()));
        }
        let mut new = new.iter();
        let mut all = Ragged::default();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, found) in keys.into_iter().zip(found) {
            match found {
                Some(ids) => all.push(&ids),
                None => {
                    let ids = new.next().unwrap_or_default();
                    all.push(ids);
                    kept.keep(key, ids);
                }
            }
        }
        Ok(all)
    }
}

impl Kept {
    fn keep(&mut self, key: Key, ids: &[u32]) {
        let cost = ids.len().saturating_add(TOKENS_PER_ENTRY);
        if let Some(left) = self.tokens_left.checked_sub(cost)
            && self.ids.insert(key, ids.into()).is_none()
        {
            self.tokens_left = left;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// One id per byte, and one more with special tokens; notes what it reads.
    fn encode(
        encodings: &Encodings,
        texts: &[&str],
        special: bool,
    ) -> (Vec<Vec<u32>>, Vec<String>) {
        let read = RefCell::default();
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let ids = encodings.encode(&texts, special, |missing| {
            *read.borrow_mut() = missing.to_vec();
            let mut ids = Ragged::default();
            for text in missing {
                let bytes = text.bytes().map(u32::from);
                ids.push(&special.then_some(0).into_iter().chain(bytes).collect::<Vec<_>>());
            }
            Ok(ids)
        });
        (ids.unwrap().iter().map(<[u32]>::to_vec).collect(), read.into_inner())
    }

    #[test]
    fn a_text_is_encoded_once_as_long_as_there_is_room() {
        let encodings = Encodings::holding(2 * TOKENS_PER_ENTRY + 4);
        let rows: [(&[&str], bool, &[&str]); 6] = [
            (&["ab", "", "b"], false, &["ab", "", "b"]),
            (&["ab", "", "b"], false, &["b"]),
            // Special tokens make another encoding, for which there is no room.
            (&["ab"], true, &["ab"]),
            (&["ab"], true, &["ab"]),
            (&[], true, &[]),
            (&["b", "ab", "b", "ab"], false, &["b", "b"]),
        ];
        for (texts, special, expected) in rows {
            let (ids, read) = encode(&encodings, texts, special);
            assert_eq!(read, expected, "{texts:?}");
            assert_eq!(ids, encode(&Encodings::holding(0), texts, special).0, "{texts:?}");
        }
    }

    #[test]
    fn what_fails_is_not_kept() {
        let encodings = Encodings::default();
        let texts = ["a".to_owned()];
        let failed = encodings.encode(&texts, false, |_| Err("no".to_owned()));
        assert_eq!(failed, Err("no".to_owned()));
        let lost = encodings.encode(&texts, false, |_| Ok(Ragged::default()));
        assert_eq!(lost, Err("0 texts were encoded of 1".to_owned()));
        assert_eq!(encode(&encodings, &["a"], false).1, ["a"]);
    }
}
