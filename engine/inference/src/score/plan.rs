//! Items as chunks of sequences: what items of one request have in common at
//! their beginning is computed once.

use std::sync::Arc;

use super::encode::Item;
use crate::decoder::forward::{Sequence, Target};
use crate::decoder::rotary::RotaryTable;

/// Tokens of one chunk. A single sequence may have more.
pub const CHUNK_TOKENS: usize = 4096;
/// Shorter common beginnings are not worth a sequence of their own.
const MIN_SHARED_TOKENS: usize = 8;

/// Sequences that are computed together.
pub struct ChunkPlan {
    /// Those without a prefix come first.
    pub sequences: Vec<Sequence>,
    /// What is scored.
    pub targets: Vec<Target>,
    /// Item and place within it, for every target.
    pub places: Vec<(usize, usize)>,
    /// Tokens that are computed, by operation.
    pub work: Vec<(usize, u64)>,
}

/// What a chunk takes of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkSize {
    /// Tokens that are computed.
    pub tokens: usize,
    /// Keys and values that are held: a prefix counts once for every sequence.
    pub positions: usize,
}

impl ChunkPlan {
    /// The most that any of some chunks takes.
    pub fn largest(plans: &[Self]) -> ChunkSize {
        plans.iter().fold(ChunkSize::default(), |largest, plan| {
            let lengths = || plan.sequences.iter().map(|sequence| sequence.tokens.len());
            let before = plan.sequences.iter().map(|sequence| sequence.first_position);
            let tokens = lengths().sum::<usize>();
            ChunkSize {
                tokens: largest.tokens.max(tokens),
                positions: largest.positions.max(tokens + before.sum::<usize>()),
            }
        })
    }
}

/// Items of one request, by index, that may share their beginning.
pub struct Family<'a> {
    /// Index of the request's operation.
    pub operation: usize,
    /// Index of the first item.
    pub first: usize,
    /// The items.
    pub items: &'a [Item],
}

/// Packs families into chunks, in order.
pub fn chunks<'a>(
    families: impl Iterator<Item = Family<'a>>,
    same_angles: impl Fn(usize, usize) -> bool,
    rotary: impl Fn(usize) -> Option<Arc<RotaryTable>>,
) -> Vec<ChunkPlan> {
    let mut plans = Vec::new();
    let mut builder = Builder::default();
    for family in families {
        // Whose angles differ cannot share what was computed with them.
        let mut lengths = family.items.iter().map(|item| item.length);
        let first_length = lengths.next().unwrap_or(0);
        let groups = if lengths.all(|length| same_angles(first_length, length)) {
            vec![family]
        } else {
            let Family { operation, first, items } = family;
            let each = items.chunks(1).zip(first..);
            each.map(|(items, first)| Family { operation, first, items }).collect()
        };
        for group in groups {
            let shared = shared_tokens(group.items);
            let tokens = group.items.iter().map(|item| item.inputs.len() - shared).sum::<usize>();
            if builder.tokens > 0 && builder.tokens + shared + tokens > CHUNK_TOKENS {
                plans.push(std::mem::take(&mut builder).finish());
            }
            builder.add(&group, shared, &rotary);
        }
    }
    if builder.tokens > 0 {
        plans.push(builder.finish());
    }
    plans
}

/// How many tokens all items begin with, if that is worth sharing.
fn shared_tokens(items: &[Item]) -> usize {
    let [first, rest @ ..] = items else { return 0 };
    if rest.is_empty() {
        return 0;
    }
    let shared = rest.iter().fold(first.inputs.len(), |shared, item| {
        let both = first.inputs.iter().zip(&item.inputs).take(shared);
        both.take_while(|(a, b)| a == b).count()
    });
    if shared < MIN_SHARED_TOKENS { 0 } else { shared }
}

#[derive(Default)]
struct Builder {
    roots: Vec<Sequence>,
    branches: Vec<Sequence>,
    /// Targets whose sequence is a root, and those whose sequence is a branch.
    targets: Vec<(bool, Target, (usize, usize))>,
    work: Vec<(usize, u64)>,
    tokens: usize,
}

impl Builder {
    fn add(
        &mut self,
        family: &Family<'_>,
        shared: usize,
        rotary: &impl Fn(usize) -> Option<Arc<RotaryTable>>,
    ) {
        let before = self.tokens;
        let length = family.items.iter().map(|item| item.length).max().unwrap_or(0);
        let angles = rotary(length);
        let root = (shared > 0).then(|| {
            let tokens = family.items[0].inputs[..shared].to_vec();
            self.push_root(tokens, angles.clone())
        });
        for (offset, item) in family.items.iter().enumerate() {
            let rest = item.inputs[shared..].to_vec();
            let own = match root {
                None => (true, self.push_root(rest, angles.clone())),
                Some(root) if rest.is_empty() => (true, root),
                Some(root) => {
                    self.tokens += rest.len();
                    self.branches.push(Sequence {
                        tokens: rest,
                        prefix: Some((root, shared)),
                        first_position: shared,
                        rotary: angles.clone(),
                    });
                    (false, self.branches.len() - 1)
                }
            };
            let first_target = item.inputs.len() - item.targets.len();
            for (place, &token) in item.targets.iter().enumerate() {
                let position = first_target + place;
                let (is_root, sequence, row) = match root {
                    Some(root) if position < shared => (true, root, position),
                    _ => (own.0, own.1, position - shared),
                };
                let target = Target { sequence, row, token };
                self.targets.push((is_root, target, (family.first + offset, place)));
            }
        }
        self.work.push((family.operation, (self.tokens - before) as u64));
    }

    fn push_root(&mut self, tokens: Vec<u32>, rotary: Option<Arc<RotaryTable>>) -> usize {
        self.tokens += tokens.len();
        self.roots.push(Sequence { tokens, prefix: None, first_position: 0, rotary });
        self.roots.len() - 1
    }

    fn finish(self) -> ChunkPlan {
        let roots = self.roots.len();
        let mut sequences = self.roots;
        sequences.extend(self.branches);
        let (targets, places) = self
            .targets
            .into_iter()
            .map(|(is_root, target, place)| {
                let sequence = if is_root { target.sequence } else { roots + target.sequence };
                (Target { sequence, ..target }, place)
            })
            .unzip();
        ChunkPlan { sequences, targets, places, work: self.work }
    }
}
