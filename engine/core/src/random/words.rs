use sha2::{Digest, Sha256};

use super::Seed;

/// Separates these digests from every other use of SHA-256.
const DOMAIN: &[u8] = b"evaltasks random words 1\0";

/// `count` words of a counter-based generator: the same seed, task and key
/// give the same words, and a longer answer begins with the shorter one.
///
/// Words `8 i .. 8 i + 8` are the digest, read as little-endian words, of
/// `SHA-256(DOMAIN || seed || len(task) || task || len(key) || key || i)`: the
/// seed in 32 big-endian bytes, lengths in bytes and the counter `i` in 8
/// little-endian bytes each.
pub fn words(seed: &Seed, task: &str, key: &str, count: u32) -> Vec<u32> {
    let mut prefix = Sha256::new_with_prefix(DOMAIN);
    prefix.update(seed.to_bytes());
    for text in [task, key] {
        prefix.update((text.len() as u64).to_le_bytes());
        prefix.update(text.as_bytes());
    }
    let count = count as usize;
    let mut words = Vec::with_capacity(count.next_multiple_of(8));
    for block in 0..(count as u64).div_ceil(8) {
        let digest: [u8; 32] = prefix.clone().chain_update(block.to_le_bytes()).finalize().into();
        let (chunks, _) = digest.as_chunks::<4>();
        words.extend(chunks.iter().map(|&word| u32::from_le_bytes(word)));
    }
    words.truncate(count);
    words
}
