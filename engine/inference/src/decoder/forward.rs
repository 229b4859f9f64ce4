//! The forward pass, written over [`Ops`].

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use evaltasks_core::backend::RunControl;

use super::layers::{Frame, Layer};
use super::ops::{OpResult, Ops, Span};
use super::rotary::RotaryTable;
use super::spill::{Place, Spill, Waiting};
use crate::config::{DecoderConfig, Position, QkNorm, Residual};
use crate::error::InferenceError;
use crate::kernels::attention::AttentionShape;
use crate::kernels::head::TokenLogprob;

/// Rows that go through a layer together: as many as keep the activations of
/// one tile in the second-level cache.
pub const MAX_TILE_ROWS: usize = 192;

/// Tokens that are computed one after the other.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// Inputs, after those of the prefix.
    pub tokens: Vec<u32>,
    /// An earlier sequence of the chunk whose first tokens come before these,
    /// and how many of them. That sequence has no prefix itself.
    pub prefix: Option<(usize, usize)>,
    /// Position of the first token.
    pub first_position: usize,
    /// Angles; none without rotation.
    pub rotary: Option<Arc<RotaryTable>>,
}

/// Sequences on their way through the layers.
pub struct Chunk<O: Ops> {
    sequences: Vec<Sequence>,
    tiles: Vec<Tile<O>>,
}

impl<O: Ops> Chunk<O> {
    /// Drops what is computed anew in every layer, and puts the hidden states
    /// away until the next one: each into its place, which is reserved when
    /// `places` has none yet.
    pub fn park(
        &mut self,
        ops: &O,
        spill: &mut Spill,
        places: &mut Vec<Place>,
    ) -> OpResult<Vec<Waiting>> {
        let mut waiting = Vec::with_capacity(self.tiles.len());
        for (index, tile) in self.tiles.iter_mut().enumerate() {
            tile.qkv = O::Matrix::default();
            let parked = ops.park(std::mem::take(&mut tile.hidden))?;
            if places.len() == index {
                places.push(spill.reserve((parked.numbers.len() * size_of::<f32>()) as u64));
            }
            waiting.push(spill.put(parked, places[index])?);
        }
        Ok(waiting)
    }

    /// Brings the hidden states back.
    pub fn unpark(&mut self, ops: &O, spill: &mut Spill, waiting: Vec<Waiting>) -> OpResult {
        for (tile, waiting) in self.tiles.iter_mut().zip(waiting) {
            tile.hidden = ops.unpark(spill.take(waiting)?)?;
        }
        Ok(())
    }
}

/// Some rows of a chunk, from any sequences.
struct Tile<O: Ops> {
    spans: Vec<Span>,
    hidden: O::Matrix,
    qkv: O::Matrix,
}

/// Buffers of one thread, used again from tile to tile.
pub struct Workspace<O: Ops> {
    normed: O::Matrix,
    attended: O::Matrix,
    branch: O::Matrix,
    wide: O::Matrix,
    activated: O::Matrix,
    scratch: O::Scratch,
}

/// Workspaces of all threads.
pub struct Workspaces<O: Ops>(Mutex<Vec<Workspace<O>>>);

impl<O: Ops> Default for Workspaces<O> {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl<O: Ops> Workspaces<O> {
    /// Runs `work` with a workspace that no other thread uses.
    pub fn with<T>(&self, work: impl FnOnce(&mut Workspace<O>) -> T) -> T {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut workspace = free.unwrap_or_else(|| Workspace {
            normed: O::Matrix::default(),
            attended: O::Matrix::default(),
            branch: O::Matrix::default(),
            wide: O::Matrix::default(),
            activated: O::Matrix::default(),
            scratch: O::Scratch::default(),
        });
        let result = work(&mut workspace);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(workspace);
        result
    }
}

/// What stays the same through a run.
pub struct Context<'a, O: Ops> {
    /// Where it is computed.
    pub ops: &'a O,
    /// What is computed.
    pub config: &'a DecoderConfig,
    /// Buffers.
    pub workspaces: &'a Workspaces<O>,
    /// Deadline and cancellation.
    pub control: &'a RunControl,
}

/// Looks up the embeddings of some sequences and cuts their rows into tiles.
pub fn embed<O: Ops>(
    context: &Context<'_, O>,
    frame: &Frame<O>,
    sequences: Vec<Sequence>,
) -> OpResult<Chunk<O>> {
    let mut tiles: Vec<Tile<O>> = tile_spans(&sequences, context.ops.threads())
        .into_iter()
        .map(|spans| Tile { spans, hidden: O::Matrix::default(), qkv: O::Matrix::default() })
        .collect();
    let config = context.config;
    context.ops.for_each(&mut tiles, |tile| {
        let ids: Vec<u32> = tile
            .spans
            .iter()
            .flat_map(|span| &sequences[span.sequence].tokens[token_range(&sequences, span)])
            .copied()
            .collect();
        let scale = config.embedding_scale.unwrap_or(1.0);
        match &frame.embedding {
            Some(table) => context.ops.look_up(table, &ids, scale, &mut tile.hidden)?,
            None => context.ops.look_up_packed(&frame.head, &ids, scale, &mut tile.hidden)?,
        }
        context.workspaces.with(|work| {
            if let (Position::Learned { offset }, Some(table)) =
                (&config.position, &frame.positions)
            {
                let rows: Vec<u32> = tile
                    .spans
                    .iter()
                    .flat_map(|span| span.rows.clone().zip(span.first_position + offset..))
                    .map(|(_, row)| row as u32)
                    .collect();
                context.ops.look_up(table, &rows, 1.0, &mut work.branch)?;
                context.ops.add(&work.branch, &mut tile.hidden)?;
            }
            if let Some(weights) = &frame.embedding_norm {
                context.ops.normalize(config.norm, weights, &tile.hidden, &mut work.normed)?;
                std::mem::swap(&mut tile.hidden, &mut work.normed);
            }
            Ok(())
        })
    })?;
    Ok(Chunk { sequences, tiles })
}

/// Where a span's tokens are in its sequence.
fn token_range(sequences: &[Sequence], span: &Span) -> Range<usize> {
    let start = span.first_position - sequences[span.sequence].first_position;
    start..start + span.rows.len()
}

/// Cuts all rows into tiles of about the same size, a multiple of the number
/// of threads of them. The cut does not change any result.
fn tile_spans(sequences: &[Sequence], threads: usize) -> Vec<Vec<Span>> {
    let rows: usize = sequences.iter().map(|sequence| sequence.tokens.len()).sum();
    let count = rows.div_ceil(threads * MAX_TILE_ROWS) * threads;
    let size = rows.div_ceil(count.max(1)).max(1);
    let mut tiles = Vec::new();
    let mut spans: Vec<Span> = Vec::new();
    let mut filled = 0;
    for (index, sequence) in sequences.iter().enumerate() {
        let mut done = 0;
        while done < sequence.tokens.len() {
            let taken = (sequence.tokens.len() - done).min(size - filled);
            spans.push(Span {
                sequence: index,
                rows: filled..filled + taken,
                first_position: sequence.first_position + done,
                rotary: sequence.rotary.clone(),
            });
            done += taken;
            filled += taken;
            if filled == size {
                tiles.push(std::mem::take(&mut spans));
                filled = 0;
            }
        }
    }
    if !spans.is_empty() {
        tiles.push(spans);
    }
    tiles
}

/// The attention of one layer.
pub fn attention_shape(config: &DecoderConfig, layer: usize) -> AttentionShape {
    AttentionShape {
        heads: config.heads,
        kv_heads: config.kv_heads,
        head_dim: config.head_dim,
        scale: config.layers[layer].attention_scale,
        softcap: config.attention_softcap,
        window: config.layers[layer].window,
        alibi_slopes: match config.position {
            Position::Alibi => crate::config::alibi::slopes(config.heads),
            _ => Vec::new(),
        },
    }
}

/// What one layer's caches do with what they held.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Caches {
    /// Scoring: emptied and filled with this layer's keys and values.
    Fresh,
    /// Generation: this layer's own, which grow.
    Growing,
}

/// Takes a chunk through one layer. There is one cache per sequence.
///
/// # Errors
///
/// [`InferenceError::NotFinite`] with the layer's name, and
/// [`InferenceError::Stopped`].
pub fn advance<O: Ops>(
    context: &Context<'_, O>,
    index: usize,
    layer: &Layer<O>,
    chunk: &mut Chunk<O>,
    caches: &mut [O::Cache],
    kind: Caches,
) -> OpResult {
    let shape = attention_shape(context.config, index);
    let Chunk { sequences, tiles } = chunk;
    context.ops.for_each(tiles, |tile| {
        context.control.check().map_err(InferenceError::Stopped)?;
        context.workspaces.with(|work| attention_inputs(context, layer, tile, work))
    })?;
    fill_caches(context, &shape, layer, sequences, tiles, caches, kind)?;
    let caches = &*caches;
    context.ops.for_each(tiles, |tile| {
        context.control.check().map_err(InferenceError::Stopped)?;
        context.workspaces.with(|work| {
            context.ops.attend(
                &shape,
                &tile.spans,
                &layer.qkv,
                &tile.qkv,
                caches,
                &mut work.attended,
                &mut work.scratch,
            )?;
            finish_block(context, layer, tile, work)?;
            finite(context, layer, &tile.hidden)
        })
    })
}

fn finite<O: Ops>(context: &Context<'_, O>, layer: &Layer<O>, matrix: &O::Matrix) -> OpResult {
    if context.ops.all_finite(matrix)? {
        return Ok(());
    }
    Err(InferenceError::NotFinite { place: layer.name.clone() })
}

/// Queries, keys and values of a tile, normed and rotated.
fn attention_inputs<O: Ops>(
    context: &Context<'_, O>,
    layer: &Layer<O>,
    tile: &mut Tile<O>,
    work: &mut Workspace<O>,
) -> OpResult {
    let (ops, config) = (context.ops, context.config);
    let input = match &layer.attention_in {
        Some(weights) => {
            ops.normalize(config.norm, weights, &tile.hidden, &mut work.normed)?;
            &work.normed
        }
        None => &tile.hidden,
    };
    ops.linear(&layer.qkv, input, &mut tile.qkv, &mut work.scratch)?;
    for (part, weights) in [(0, &layer.query_norm), (1, &layer.key_norm)] {
        let Some(weights) = weights else { continue };
        let heads = if part == 0 { config.heads } else { config.kv_heads };
        let (norm, width) = match config.qk_norm {
            QkNorm::None => continue,
            QkNorm::SharedHead(norm) | QkNorm::OwnHead(norm) => (norm, config.head_dim),
            QkNorm::FullWidth(norm) => (norm, heads * config.head_dim),
        };
        ops.normalize_part(norm, weights, &layer.qkv, part, width, &mut tile.qkv)?;
    }
    if let Position::Rotary(rotary) = &config.position {
        for part in [0, 1] {
            let (pairing, dim) = (rotary.pairing, config.head_dim);
            ops.rotate(pairing, &tile.spans, &layer.qkv, part, dim, &mut tile.qkv)?;
        }
    }
    finite(context, layer, &tile.qkv)
}

/// Puts the keys and values of all rows into their sequences' caches. Those
/// that others continue come first.
fn fill_caches<O: Ops>(
    context: &Context<'_, O>,
    shape: &AttentionShape,
    layer: &Layer<O>,
    sequences: &[Sequence],
    tiles: &[Tile<O>],
    caches: &mut [O::Cache],
    kind: Caches,
) -> OpResult {
    let ops = context.ops;
    let mut parts: Vec<Vec<(&O::Matrix, Range<usize>)>> = vec![Vec::new(); sequences.len()];
    for tile in tiles {
        for span in &tile.spans {
            parts[span.sequence].push((&tile.qkv, span.rows.clone()));
        }
    }
    let roots = sequences.iter().take_while(|sequence| sequence.prefix.is_none()).count();
    let (root_caches, other_caches) = caches.split_at_mut(roots);
    let fill = |index: usize, cache: &mut O::Cache, before: &[O::Cache]| -> OpResult {
        let sequence = &sequences[index];
        if kind == Caches::Fresh {
            let capacity = sequence.first_position + sequence.tokens.len();
            ops.reset(shape, capacity, cache)?;
            if let Some((root, count)) = sequence.prefix {
                ops.copy_prefix(&before[root], count, cache)?;
            }
        }
        for (matrix, rows) in &parts[index] {
            ops.append(&layer.qkv, matrix, rows.clone(), cache)?;
        }
        Ok(())
    };
    let mut items: Vec<_> = root_caches.iter_mut().enumerate().collect();
    ops.for_each(&mut items, |(index, cache)| fill(*index, cache, &[]))?;
    drop(items);
    let root_caches = &*root_caches;
    let mut items: Vec<_> = other_caches.iter_mut().enumerate().collect();
    if items.is_empty() {
        return Ok(());
    }
    ops.for_each(&mut items, |(index, cache)| fill(roots + *index, cache, root_caches))
}

/// Adds attention and MLP to the residual stream, as the architecture wires
/// them. `work.attended` holds the heads' outputs.
fn finish_block<O: Ops>(
    context: &Context<'_, O>,
    layer: &Layer<O>,
    tile: &mut Tile<O>,
    work: &mut Workspace<O>,
) -> OpResult {
    let (ops, config) = (context.ops, context.config);
    let Workspace { normed, attended, branch, wide, activated, scratch } = work;
    let hidden = &mut tile.hidden;
    let mut mlp = |input: &O::Matrix, scratch: &mut O::Scratch| -> OpResult<()> {
        ops.linear(&layer.up, input, wide, scratch)?;
        ops.activate(config.activation, &layer.up, wide, activated)
    };
    match config.residual {
        Residual::Sequential => {
            add_branch(
                context,
                &layer.out,
                attended,
                &layer.attention_out,
                hidden,
                branch,
                normed,
                scratch,
            )?;
            match &layer.mlp_in {
                Some(weights) => {
                    ops.normalize(config.norm, weights, hidden, normed)?;
                    mlp(normed, scratch)?;
                }
                None => mlp(hidden, scratch)?,
            }
            add_branch(
                context,
                &layer.down,
                activated,
                &layer.mlp_out,
                hidden,
                branch,
                normed,
                scratch,
            )
        }
        Residual::Parallel => {
            match layer.mlp_in.as_ref().or(layer.attention_in.as_ref()) {
                Some(weights) => {
                    ops.normalize(config.norm, weights, hidden, normed)?;
                    mlp(normed, scratch)?;
                }
                None => mlp(hidden, scratch)?,
            }
            ops.linear_add(&layer.out, attended, hidden, scratch)?;
            ops.linear_add(&layer.down, activated, hidden, scratch)
        }
        Residual::PostNorm => {
            ops.linear_add(&layer.out, attended, hidden, scratch)?;
            norm_stream(context, &layer.attention_out, hidden, normed)?;
            mlp(hidden, scratch)?;
            ops.linear_add(&layer.down, activated, hidden, scratch)?;
            norm_stream(context, &layer.mlp_out, hidden, normed)
        }
    }
}

/// `hidden += norm(input * linear)`, the norm being optional.
fn add_branch<O: Ops>(
    context: &Context<'_, O>,
    linear: &O::Linear,
    input: &O::Matrix,
    norm: &Option<O::NormWeights>,
    hidden: &mut O::Matrix,
    branch: &mut O::Matrix,
    normed: &mut O::Matrix,
    scratch: &mut O::Scratch,
) -> OpResult {
    let Some(weights) = norm else {
        return context.ops.linear_add(linear, input, hidden, scratch);
    };
    context.ops.linear(linear, input, branch, scratch)?;
    context.ops.normalize(context.config.norm, weights, branch, normed)?;
    context.ops.add(normed, hidden)
}

/// Norms the residual stream itself.
fn norm_stream<O: Ops>(
    context: &Context<'_, O>,
    norm: &Option<O::NormWeights>,
    hidden: &mut O::Matrix,
    normed: &mut O::Matrix,
) -> OpResult {
    if let Some(weights) = norm {
        context.ops.normalize(context.config.norm, weights, hidden, normed)?;
        std::mem::swap(hidden, normed);
    }
    Ok(())
}

/// A row of a sequence and the token that should follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Index of the sequence in the chunk.
    pub sequence: usize,
    /// Index of the token in [`Sequence::tokens`].
    pub row: usize,
    /// The token to score.
    pub token: u32,
}

/// Log-probabilities of targets, in their order, after the last layer.
pub fn token_logprobs<O: Ops>(
    context: &Context<'_, O>,
    frame: &Frame<O>,
    chunk: &mut Chunk<O>,
    targets: &[Target],
) -> OpResult<Vec<TokenLogprob>> {
    let (ops, config) = (context.ops, context.config);
    let mut by_sequence: Vec<Vec<usize>> = vec![Vec::new(); chunk.sequences.len()];
    for (index, target) in targets.iter().enumerate() {
        by_sequence[target.sequence].push(index);
    }
    let sequences = &chunk.sequences;
    let mut items: Vec<_> = chunk.tiles.iter_mut().map(|tile| (tile, Vec::new())).collect();
    ops.for_each(&mut items, |(tile, found)| {
        context.control.check().map_err(InferenceError::Stopped)?;
        let mut wanted = Vec::new();
        for span in &tile.spans {
            let tokens = token_range(sequences, span);
            for &index in &by_sequence[span.sequence] {
                let row = targets[index].row;
                if tokens.contains(&row) {
                    wanted.push((span.rows.start + row - tokens.start, targets[index].token));
                    found.push((index, None));
                }
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        context.workspaces.with(|work| {
            let Workspace { normed, scratch, .. } = work;
            norm_stream(context, &frame.final_norm, &mut tile.hidden, normed)?;
            let logprobs = ops.token_logprobs(
                &frame.head,
                config.logit_softcap,
                &tile.hidden,
                &wanted,
                scratch,
            )?;
            for ((_, slot), logprob) in found.iter_mut().zip(logprobs) {
                *slot = Some(logprob);
            }
            Ok(())
        })
    })?;
    let mut result = vec![None; targets.len()];
    for (index, logprob) in items.into_iter().flat_map(|(_, found)| found) {
        result[index] = logprob;
    }
    result
        .into_iter()
        .map(|logprob| match logprob {
            Some(logprob) if logprob.logprob.is_finite() => Ok(logprob),
            _ => Err(InferenceError::NotFinite { place: "the output head".to_owned() }),
        })
        .collect()
}

/// All logits after the last token of every sequence, in their order.
pub fn last_logits<O: Ops>(
    context: &Context<'_, O>,
    frame: &Frame<O>,
    chunk: &mut Chunk<O>,
) -> OpResult<Vec<Vec<f32>>> {
    let (ops, config) = (context.ops, context.config);
    let sequences = &chunk.sequences;
    let mut items: Vec<_> = chunk.tiles.iter_mut().map(|tile| (tile, Vec::new())).collect();
    ops.for_each(&mut items, |(tile, found)| {
        context.workspaces.with(|work| {
            let Workspace { normed, scratch, .. } = work;
            norm_stream(context, &frame.final_norm, &mut tile.hidden, normed)?;
            for span in &tile.spans {
                if token_range(sequences, span).end < sequences[span.sequence].tokens.len() {
                    continue;
                }
                let row = span.rows.end - 1;
                let cap = config.logit_softcap;
                found.push((
                    span.sequence,
                    ops.logits(&frame.head, cap, &tile.hidden, row, scratch)?,
                ));
            }
            Ok(())
        })
    })?;
    let mut result = vec![Vec::new(); sequences.len()];
    for (sequence, logits) in items.into_iter().flat_map(|(_, found)| found) {
        if !logits.iter().all(|logit| logit.is_finite()) {
            return Err(InferenceError::NotFinite { place: "the output head".to_owned() });
        }
        result[sequence] = logits;
    }
    Ok(result)
}
