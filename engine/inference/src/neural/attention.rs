//! Attention over whole sequences.

use crate::error::InferenceError;
use crate::kernels::attention::{self as kernel, AttentionScratch, AttentionShape};
use crate::kernels::key_values::KeyValues;
use crate::kernels::lanes::Level;
use crate::neural::{Linear, Matrix, Source};

/// Queries that the kernel scores at once.
const QUERIES_AT_ONCE: usize = 128;

/// Which keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// All.
    None,
    /// Those up to its own position.
    Causal,
}

/// Multi-head attention with its four maps.
pub struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    heads: usize,
}

/// Names of the maps below the block's own name.
pub enum AttentionNames<'a> {
    /// Four maps.
    Split {
        /// Queries, keys, values, output.
        maps: [&'a str; 4],
        /// Which have a bias, in the same order.
        biases: [bool; 4],
    },
    /// All queries, all keys, all values in one map; output; both with a bias.
    Fused([&'a str; 2]),
}

impl Attention {
    /// Maps `[width, width]` under `{name}.`; `memory` is the width of what
    /// keys and values are made of.
    pub fn new(
        source: &mut Source<'_>,
        name: &str,
        names: &AttentionNames<'_>,
        (width, memory): (usize, usize),
        heads: usize,
    ) -> Result<Self, InferenceError> {
        match names {
            AttentionNames::Split { maps, biases } => {
                let inputs = [width, memory, memory, width];
                let mut map = |index: usize| {
                    let full = format!("{name}.{}", maps[index]);
                    Linear::new(source, &full, (width, inputs[index]), biases[index])
                };
                Ok(Self { query: map(0)?, key: map(1)?, value: map(2)?, out: map(3)?, heads })
            }
            AttentionNames::Fused([fused, out]) => {
                let part = |part: &str| format!("{name}.{fused}.{part}");
                let weight = source.parameter(&part("weight"), &[3 * width, width])?;
                let bias = source.parameter(&part("bias"), &[3 * width])?;
                // Nothing is there while tensors are listed.
                let third = |index: usize, numbers: &[f32]| {
                    let length = numbers.len() / 3;
                    numbers[index * length..(index + 1) * length].to_vec()
                };
                let map = |index: usize| {
                    let weight = third(index, &weight);
                    Linear::from_weights(&weight, (width, width), Some(third(index, &bias)))
                };
                let out = Linear::new(source, &format!("{name}.{out}"), (width, width), true)?;
                Ok(Self { query: map(0), key: map(1), value: map(2), out, heads })
            }
        }
    }

    /// Rows of `input` attend to rows of `memory`.
    pub fn apply(&self, level: Level, input: &Matrix, memory: &Matrix, mask: Mask) -> Matrix {
        self.apply_to(level, input, &self.memory(level, memory), mask)
    }

    /// What is attended to, ready for [`Self::apply_to`].
    pub fn memory(&self, level: Level, rows: &Matrix) -> Memory {
        Memory { keys: self.key.apply(level, rows), values: self.value.apply(level, rows) }
    }

    /// [`Self::apply`] to what was made ready before. With a causal mask, the
    /// rows of `input` are the last positions.
    pub fn apply_to(&self, level: Level, input: &Matrix, memory: &Memory, mask: Mask) -> Matrix {
        let queries = self.query.apply(level, input);
        let Memory { keys, values } = memory;
        self.out.apply(level, &attend(level, self.heads, &queries, keys, values, mask))
    }
}

/// Keys and values.
pub struct Memory {
    keys: Matrix,
    values: Matrix,
}

impl Memory {
    /// Adds what comes after it.
    pub fn extend(&mut self, later: &Self) {
        self.keys.extend(&later.keys);
        self.values.extend(&later.values);
    }
}

/// `softmax(q k^T / sqrt(d)) v` for every head; all are `[positions, heads * d]`.
pub fn attend(
    level: Level,
    heads: usize,
    queries: &Matrix,
    keys: &Matrix,
    values: &Matrix,
    mask: Mask,
) -> Matrix {
    let head_dim = queries.columns() / heads;
    let mut out = Matrix::zeros(queries.rows(), queries.columns());
    let mut scratch = AttentionScratch::default();
    let mut cache = KeyValues::new(level);
    let shape = |heads, kv_heads| AttentionShape {
        heads,
        kv_heads,
        head_dim,
        scale: (head_dim as f32).sqrt().recip(),
        softcap: None,
        window: None,
        alibi_slopes: Vec::new(),
    };
    if mask == Mask::Causal {
        cache.reset(heads, head_dim, keys.rows());
        for (key, value) in keys.iter().zip(values.iter()) {
            cache.push(key, value);
        }
        let first = keys.rows() - queries.rows();
        let (query_stride, data) = queries.padded_rows();
        let (stride, target) = out.padded_rows_mut();
        kernel::attend(
            level,
            &shape(heads, heads),
            first,
            queries.rows(),
            data,
            query_stride,
            &cache,
            target,
            stride,
            &mut scratch,
        );
        return out;
    }
    // The kernel is causal. At the last position all keys are seen, so one
    // head's queries go there together, as if each were a head of its own.
    for head in 0..heads {
        let columns = head * head_dim..(head + 1) * head_dim;
        cache.reset(1, head_dim, keys.rows());
        for (key, value) in keys.iter().zip(values.iter()) {
            cache.push(&key[columns.clone()], &value[columns.clone()]);
        }
        for first in (0..queries.rows()).step_by(QUERIES_AT_ONCE) {
            let count = QUERIES_AT_ONCE.min(queries.rows() - first);
            let gathered: Vec<f32> = (first..first + count)
                .flat_map(|row| &queries.row(row)[columns.clone()])
                .copied()
                .collect();
            let mut attended = vec![0.0; gathered.len()];
            let width = gathered.len();
            kernel::attend(
                level,
                &shape(count, 1),
                keys.rows() - 1,
                1,
                &gathered,
                width,
                &cache,
                &mut attended,
                width,
                &mut scratch,
            );
            for (row, attended) in (first..).zip(attended.chunks_exact(head_dim)) {
                out.row_mut(row)[columns.clone()].copy_from_slice(attended);
            }
        }
    }
    out
}
