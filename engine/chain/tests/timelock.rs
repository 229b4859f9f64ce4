//! Weights that the subnet's own tools lock, and ours.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use evaltasks_chain::{
    MAX_COMMIT_BYTES, TimelockError, WeightsPayload, lock, reveal_round, unlock,
};
use parity_scale_codec::Encode;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::Deserialize;

/// See `tests/timelock/make.py`.
#[derive(Deserialize)]
struct Theirs {
    round: u64,
    signature: String,
    locked: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    payload: String,
    ciphertext: String,
}

fn theirs() -> Theirs {
    serde_json::from_str(include_str!("timelock/theirs.json")).unwrap()
}

fn signature() -> Vec<u8> {
    hex::decode(theirs().signature).unwrap()
}

fn payload() -> Vec<u8> {
    let hotkey = (0..32).collect();
    let (uids, values) = (vec![1, 2, 300], vec![65535, 100, 7]);
    WeightsPayload { hotkey, uids, values, version_key: 1_004_062 }.encode()
}

#[test]
fn what_the_subnets_tools_locked_opens() {
    for Locked { payload, ciphertext } in theirs().locked {
        let opened = unlock(&hex::decode(ciphertext).unwrap(), &signature()).unwrap();
        assert_eq!(hex::encode(opened), payload);
    }
}

/// The subnet's tools opened these bytes: see `make.py`, which prints the
/// payload.
#[test]
fn what_is_locked_has_the_bytes_that_the_tools_open() {
    let locked = lock(&payload(), theirs().round, &mut ChaCha20Rng::seed_from_u64(7)).unwrap();
    assert_eq!(hex::encode(&locked), include_str!("timelock/ours.hex").trim());
    assert_eq!(unlock(&locked, &signature()).unwrap(), payload());
}

#[test]
fn payloads_are_written_as_the_chain_reads_them() {
    // By hand from the rules of SCALE: lengths times four, little-endian numbers.
    let expected = format!(
        "80{}0c01000200\
         2c010cffff6400070\
         0{}",
        (0..32).map(|byte| format!("{byte:02x}")).collect::<String>(),
        "1e520f0000000000"
    );
    assert_eq!(hex::encode(payload()), expected);
}

#[test]
fn another_round_opens_nothing() {
    let locked = lock(&payload(), theirs().round + 1, &mut ChaCha20Rng::seed_from_u64(7)).unwrap();
    assert_eq!(unlock(&locked, &signature()), Err(TimelockError::WrongSignature));
}

#[test]
fn damaged_bytes_are_refused() {
    let theirs = hex::decode(&theirs().locked[1].ciphertext).unwrap();
    for length in 0..theirs.len() {
        assert!(unlock(&theirs[..length], &signature()).is_err(), "{length} bytes");
    }
    for at in 0..theirs.len() {
        let mut changed = theirs.clone();
        changed[at] ^= 1;
        let opened = unlock(&changed, &signature());
        // The name of the cipher at the end is not looked at.
        assert!(opened.is_err() || at >= theirs.len() - 8, "byte {at}");
    }
    assert!(matches!(unlock(&theirs, &[0; 48]), Err(TimelockError::Malformed(_))));
    let long = vec![0; MAX_COMMIT_BYTES + 1];
    assert!(matches!(unlock(&long, &signature()), Err(TimelockError::Malformed(_))));
    let random = &mut ChaCha20Rng::seed_from_u64(7);
    for length in [MAX_COMMIT_BYTES - 100, MAX_COMMIT_BYTES + 1] {
        let refused = lock(&vec![0; length], 1, random);
        assert!(matches!(refused, Err(TimelockError::TooLarge { .. })), "{length}");
    }
}

#[test]
fn rounds_follow_the_clock() {
    const GENESIS_MS: u64 = 1_692_803_367_000;
    // Now, head, first block that reveals, block time; floor(milliseconds / 3000).
    let rows = [
        ((GENESIS_MS, 100, 100, 12_000), 12),
        ((GENESIS_MS, 100, 460, 12_000), 1_452),
        ((GENESIS_MS + 2_999, 100, 97, 12_000), 0),
        ((GENESIS_MS + 3_000, 100, 97, 12_000), 1),
        ((GENESIS_MS + 1_000, 100, 101, 250), 0),
        ((GENESIS_MS + 1_000, 100, 105, 250), 1),
        ((0, 100, 460, 12_000), 0),
        ((u64::MAX, 0, u64::MAX, u64::MAX), (u64::MAX - GENESIS_MS) / 3_000),
    ];
    for ((now, head, reveal, block_time), expected) in rows {
        assert_eq!(reveal_round(now, head, reveal, block_time), expected, "{now} {head} {reveal}");
    }
}
