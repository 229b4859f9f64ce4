//! Seeded draws against CPython's own; `make_cpython_random.py` beside the
//! fixture wrote it.

use std::num::NonZeroU64;

use evaltasks_core::random::{CPythonRandom, Seed, permutation, words};
use serde::Deserialize;

#[derive(Deserialize)]
struct Row {
    seed: Seed,
    random: Vec<f64>,
    getrandbits: Vec<(u32, u64)>,
    randbelow: Vec<(NonZeroU64, u64)>,
    randint: Vec<(u64, u64, u64)>,
    choice: Vec<(usize, usize)>,
    sample: Vec<(usize, usize, Vec<usize>)>,
    shuffle: Vec<Vec<u32>>,
    far: Vec<u64>,
    words: Vec<(String, String, Vec<u32>)>,
}

#[test]
fn draws_equal_cpythons() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/cpython-random.json");
    let rows: Vec<Row> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(!rows.is_empty());
    for row in rows {
        let seed = &row.seed;
        let mut random = CPythonRandom::new(seed);
        for expected in row.random {
            assert_eq!(random.random().to_bits(), expected.to_bits(), "random, seed {seed}");
        }
        for (bits, expected) in row.getrandbits {
            assert_eq!(random.getrandbits(bits), expected, "getrandbits {bits}, seed {seed}");
        }
        for (bound, expected) in row.randbelow {
            assert_eq!(random.randbelow(bound), expected, "randbelow {bound}, seed {seed}");
        }
        for (low, high, expected) in row.randint {
            let drawn = random.randint(low, high);
            assert_eq!(drawn, Some(expected), "randint {low} {high}, seed {seed}");
        }
        for (length, expected) in row.choice {
            let items: Vec<usize> = (0..length).collect();
            assert_eq!(random.choice(&items), Some(&expected), "choice {length}, seed {seed}");
        }
        for (length, count, expected) in row.sample {
            let drawn = random.sample(length, count);
            assert_eq!(drawn, Some(expected), "sample {length} {count}, seed {seed}");
        }
        for expected in row.shuffle {
            let mut items: Vec<u32> = (0..).take(expected.len()).collect();
            random.shuffle(&mut items);
            assert_eq!(items, expected, "shuffle, seed {seed}");
        }
        let far: Vec<u64> = (0..2000).map(|_| random.getrandbits(32)).collect();
        assert_eq!(far[1997..], row.far, "far, seed {seed}");
        for (task, key, expected) in row.words {
            let count = u32::try_from(expected.len()).unwrap();
            assert_eq!(words(seed, &task, &key, count), expected, "words {task} {key}, {seed}");
        }
    }
}

#[test]
fn what_cannot_be_drawn_is_none() {
    let mut random = CPythonRandom::new(&Seed::from(1));
    assert_eq!(random.randint(2, 1), None);
    assert_eq!(random.randint(0, u64::MAX), None);
    assert_eq!(random.choice::<u8>(&[]), None);
    assert_eq!(random.sample(3, 4), None);
    assert_eq!(random.sample(0, 1), None);
    assert_eq!(permutation(&Seed::from(1), 0), [0_u32; 0]);
    assert_eq!(words(&Seed::from(1), "", "", 0), [0_u32; 0]);
}
