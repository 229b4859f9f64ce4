//! Keys and values of one sequence in one layer, packed for attention's two
//! products as they come.

use super::lanes::Level;
use super::product::{Left, tile_height, tile_rows};

/// A multiple of every level's register tile, and of a register's lanes.
const CAPACITY_STEP: usize = 48;

/// Keys are the left operand of the scores, `[kv_heads][capacity / height]
/// [head_dim][height]`; values, transposed, that of the sums,
/// `[kv_heads][blocks of head_dim][capacity][height]`.
#[derive(Clone, Debug)]
pub struct KeyValues {
    keys: Vec<f32>,
    values: Vec<f32>,
    capacity: usize,
    length: usize,
    kv_heads: usize,
    head_dim: usize,
    /// Rows of the register tile.
    height: usize,
}

impl KeyValues {
    /// An empty store for a processor, without room.
    pub fn new(level: Level) -> Self {
        Self {
            keys: Vec::new(),
            values: Vec::new(),
            capacity: 0,
            length: 0,
            kv_heads: 0,
            head_dim: 0,
            height: tile_rows(level),
        }
    }

    /// Empties the store and makes room for `capacity` positions, keeping
    /// allocations.
    pub fn reset(&mut self, kv_heads: usize, head_dim: usize, capacity: usize) {
        self.capacity = capacity.next_multiple_of(CAPACITY_STEP);
        self.length = 0;
        self.kv_heads = kv_heads;
        self.head_dim = head_dim;
        let size = kv_heads * self.capacity * head_dim;
        self.keys.resize(size, 0.0);
        self.values.resize(size, 0.0);
    }

    /// Positions that are held.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Elements of a key.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// The keys of one head at positions `start ..`, as many as there are of
    /// `count`, rounded up to whole register tiles; those beyond the length
    /// are of no meaning. `start` is a multiple of every tile's height.
    pub fn keys(&self, head: usize, start: usize, count: usize) -> Left<'_> {
        Left {
            data: &self.keys[(head * self.capacity + start) * self.head_dim..],
            rows: count.next_multiple_of(self.height).min(self.capacity - start),
            row_depth: self.head_dim,
            from: 0,
            depth: self.head_dim,
        }
    }

    /// The values of one head at positions `start .. start + count`, one row
    /// per element.
    pub fn values(&self, head: usize, start: usize, count: usize) -> Left<'_> {
        Left {
            data: &self.values[head * self.capacity * self.head_dim..],
            rows: self.head_dim,
            row_depth: self.capacity,
            from: start,
            depth: count,
        }
    }

    /// Appends one position: all heads of its key, all heads of its value.
    pub fn push(&mut self, key: &[f32], value: &[f32]) {
        let position = self.length;
        assert!(position < self.capacity);
        let (dim, height) = (self.head_dim, self.height);
        for head in 0..self.kv_heads {
            let of_head = head * self.capacity * dim;
            let block = of_head + position / height * height * dim + position % height;
            let source = &key[head * dim..(head + 1) * dim];
            for (target, &element) in self.keys[block..].iter_mut().step_by(height).zip(source) {
                *target = element;
            }
            let source = &value[head * dim..(head + 1) * dim];
            for (first, rows) in blocks(dim, height) {
                let start = of_head + first * self.capacity + position * rows;
                self.values[start..start + rows].copy_from_slice(&source[first..first + rows]);
            }
        }
        self.length += 1;
    }

    /// Fills an empty store with the first `count` positions of another of the
    /// same processor.
    pub fn copy_from(&mut self, other: &Self, count: usize) {
        assert!(self.length == 0 && count <= other.length && count <= self.capacity);
        assert_eq!(self.height, other.height);
        let dim = self.head_dim;
        for head in 0..self.kv_heads {
            let (target, source) = (head * self.capacity * dim, head * other.capacity * dim);
            let keys = count.next_multiple_of(self.height) * dim;
            self.keys[target..target + keys].copy_from_slice(&other.keys[source..source + keys]);
            for (first, rows) in blocks(dim, self.height) {
                let target = target + first * self.capacity;
                let source = source + first * other.capacity;
                let values = count * rows;
                self.values[target..target + values]
                    .copy_from_slice(&other.values[source..source + values]);
            }
        }
        self.length = count;
    }

    /// Room for at least one more position, doubling when it is full.
    pub fn reserve_one(&mut self) {
        if self.length < self.capacity {
            return;
        }
        let mut larger = Self { keys: Vec::new(), values: Vec::new(), ..*self };
        larger.reset(self.kv_heads, self.head_dim, (2 * self.capacity).max(CAPACITY_STEP));
        larger.copy_from(self, self.length);
        *self = larger;
    }
}

/// First row and height of every register tile over `rows` rows.
fn blocks(rows: usize, tallest: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut first = 0;
    std::iter::from_fn(move || {
        let height = (first < rows).then(|| tile_height(tallest, rows - first))?;
        first += height;
        Some((first - height, height))
    })
}
