use std::collections::BTreeSet;
use std::num::NonZeroU64;

use rand_mt::Mt;

use super::Seed;

/// CPython's `random.Random`, seeded by a non-negative integer: the same
/// calls in the same order give the same values as CPython 3.11.
///
/// The raw generator is MT19937; what is written here is how CPython turns
/// its words into numbers, choices and orders.
/// Source: CPython's `Modules/_randommodule.c` and `Lib/random.py`.
#[derive(Clone, Debug)]
pub struct CPythonRandom(Mt);

impl CPythonRandom {
    /// `random.seed(seed)`.
    pub fn new(seed: &Seed) -> Self {
        CPythonRandom(Mt::new_with_key(seed.key()))
    }

    /// `random.random()`: a multiple of 2^-53 in [0, 1).
    pub fn random(&mut self) -> f64 {
        let high = f64::from(self.0.next_u32() >> 5);
        let low = f64::from(self.0.next_u32() >> 6);
        (high * 67_108_864.0 + low) / 9_007_199_254_740_992.0
    }

    /// `random.getrandbits(bits)`; more than 64 bits count as 64.
    pub fn getrandbits(&mut self, bits: u32) -> u64 {
        match bits.min(64) {
            0 => 0,
            bits @ 1..=32 => u64::from(self.0.next_u32() >> (32 - bits)),
            bits => {
                let low = u64::from(self.0.next_u32());
                let high = u64::from(self.0.next_u32() >> (64 - bits));
                high << 32 | low
            }
        }
    }

    /// A number in `0 .. bound`; CPython's `Random._randbelow`.
    pub fn randbelow(&mut self, bound: NonZeroU64) -> u64 {
        let bits = u64::BITS - bound.leading_zeros();
        loop {
            let number = self.getrandbits(bits);
            if number < bound.get() {
                return number;
            }
        }
    }

    /// `random.randint(low, high)`, both ends included; none when the range
    /// is empty, where CPython raises, or when it is all of `u64`.
    pub fn randint(&mut self, low: u64, high: u64) -> Option<u64> {
        let width = NonZeroU64::new(high.checked_sub(low)?.checked_add(1)?)?;
        Some(low + self.randbelow(width))
    }

    /// `random.choice(items)`; none when there are no items.
    pub fn choice<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let index = self.index(items.len())?;
        items.get(index)
    }

    /// `random.shuffle(items)`.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            if let Some(other) = self.index(last + 1) {
                items.swap(last, other);
            }
        }
    }

    /// `random.sample(range(length), count)`; none when `count` is above
    /// `length`, where CPython raises.
    pub fn sample(&mut self, length: usize, count: usize) -> Option<Vec<usize>> {
        if count > length {
            return None;
        }
        // CPython's estimate of when a copied list is smaller than a set; the
        // two ways draw differently, so the estimate is part of the result.
        let mut set_size = 21_usize;
        if count > 5 {
            let wanted = count.saturating_mul(3);
            let table = std::iter::successors(Some(1_usize), |size| size.checked_mul(4))
                .find(|&size| size >= wanted);
            set_size = set_size.saturating_add(table.unwrap_or(usize::MAX));
        }
        if length <= set_size {
            let mut pool: Vec<usize> = (0..length).collect();
            return (0..count)
                .map(|_| {
                    let chosen = self.index(pool.len())?;
                    Some(pool.swap_remove(chosen))
                })
                .collect();
        }
        let mut selected = BTreeSet::new();
        (0..count)
            .map(|_| {
                loop {
                    let chosen = self.index(length)?;
                    if selected.insert(chosen) {
                        return Some(chosen);
                    }
                }
            })
            .collect()
    }

    /// An index into a list of a length; none into an empty one.
    fn index(&mut self, length: usize) -> Option<usize> {
        let bound = NonZeroU64::new(u64::try_from(length).ok()?)?;
        usize::try_from(self.randbelow(bound)).ok()
    }
}

/// The order in which `random.seed(seed); random.shuffle(x)` leaves
/// `x = list(range(count))`.
pub fn permutation(seed: &Seed, count: u32) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count).collect();
    CPythonRandom::new(seed).shuffle(&mut order);
    order
}
