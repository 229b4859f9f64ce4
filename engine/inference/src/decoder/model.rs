//! A decoder's weights and the ways to run them: layer by layer over one
//! chunk at a time, or, when the layers do not fit into memory together, over
//! all chunks at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use evaltasks_core::backend::RunControl;

use super::forward::{self, Caches, Chunk, Context, Workspaces};
use super::layers::{Frame, Layer};
use super::ops::{OpResult, Ops};
use super::rotary::RotaryTable;
use super::spill::Spill;
use crate::config::{DecoderConfig, Position};
use crate::kernels::head::TokenLogprob;
use crate::memory::Budget;
use crate::score::meter::Meter;
use crate::score::plan::ChunkPlan;

/// Where layers come from.
pub enum Layers<O: Ops> {
    /// All in memory.
    Resident(Vec<Layer<O>>),
    /// Read one at a time.
    Streamed(Box<ReadLayer<'static, O>>),
}

/// Reads and packs one layer.
pub type ReadLayer<'a, O> = dyn Fn(usize, &RunControl) -> OpResult<Layer<O>> + Send + 'a;

/// A decoder that can be run.
pub struct Decoder<O: Ops> {
    /// Where it runs.
    pub ops: Arc<O>,
    /// What it computes.
    pub config: DecoderConfig,
    /// Weights outside the layers.
    pub frame: Frame<O>,
    /// Weights of the layers.
    pub layers: Layers<O>,
    /// What a run may take beside the weights.
    pub budget: Budget,
    workspaces: Workspaces<O>,
    rotary: Mutex<BTreeMap<usize, Arc<RotaryTable>>>,
}

impl<O: Ops> Decoder<O> {
    /// Puts the parts together.
    pub fn new(
        ops: Arc<O>,
        config: DecoderConfig,
        frame: Frame<O>,
        layers: Layers<O>,
        budget: Budget,
    ) -> Self {
        let workspaces = Workspaces::default();
        let rotary = Mutex::default();
        Self { ops, config, frame, layers, budget, workspaces, rotary }
    }

    /// Whether sequences of `a` and `b` tokens are rotated by the same angles.
    pub fn same_angles(&self, a: usize, b: usize) -> bool {
        match &self.config.position {
            Position::Rotary(rotary) => rotary.frequencies.same(a, b),
            _ => true,
        }
    }

    /// Angles of a sequence of `length` tokens.
    pub fn rotary(&self, length: usize) -> Option<Arc<RotaryTable>> {
        let Position::Rotary(rotary) = &self.config.position else { return None };
        let mut tables = self.rotary.lock().unwrap_or_else(PoisonError::into_inner);
        if rotary.frequencies.depends_on_length() {
            // One table per length, as many as there are lengths at once.
            tables.retain(|_, table| Arc::strong_count(table) > 1);
            let table = tables
                .entry(length)
                .or_insert_with(|| Arc::new(RotaryTable::new(rotary, length, length)));
            return Some(table.clone());
        }
        match tables.get(&0) {
            Some(table) if table.positions() >= length => Some(table.clone()),
            _ => {
                let positions = length.next_power_of_two().max(64);
                let table = Arc::new(RotaryTable::new(rotary, length, positions));
                tables.insert(0, table.clone());
                Some(table)
            }
        }
    }

    fn context<'a>(&'a self, control: &'a RunControl) -> Context<'a, O> {
        Context { ops: &self.ops, config: &self.config, workspaces: &self.workspaces, control }
    }

    /// Log-probabilities of every plan's targets.
    pub fn token_logprobs(
        &self,
        plans: &[ChunkPlan],
        control: &RunControl,
    ) -> OpResult<Vec<Vec<TokenLogprob>>> {
        let context = self.context(control);
        let mut meter = Meter::new(plans.iter().flat_map(|plan| plan.work.clone()), control);
        match &self.layers {
            Layers::Resident(layers) => {
                self.budget.activation_bytes(ChunkPlan::largest(plans))?;
                let mut caches = Vec::new();
                plans
                    .iter()
                    .map(|plan| {
                        let mut chunk = self.start(&context, plan, &mut caches)?;
                        for (index, layer) in layers.iter().enumerate() {
                            let caches = &mut caches[..plan.sequences.len()];
                            let kind = Caches::Fresh;
                            forward::advance(&context, index, layer, &mut chunk, caches, kind)?;
                            meter.advance(plan, index, layers.len());
                        }
                        self.finish(&context, plan, &mut chunk)
                    })
                    .collect()
            }
            Layers::Streamed(read) => self.stream(&context, plans, read, &mut meter),
        }
    }

    /// Takes all chunks through one layer before the next is read.
    fn stream(
        &self,
        context: &Context<'_, O>,
        plans: &[ChunkPlan],
        read: &ReadLayer<'_, O>,
        meter: &mut Meter<'_>,
    ) -> OpResult<Vec<Vec<TokenLogprob>>> {
        let ops = context.ops;
        let mut spill = Spill::new(self.budget.activation_bytes(ChunkPlan::largest(plans))?);
        let mut caches = Vec::new();
        let mut chunks = Vec::with_capacity(plans.len());
        for plan in plans {
            let mut chunk = self.start(context, plan, &mut caches)?;
            let mut places = Vec::new();
            let waiting = chunk.park(ops, &mut spill, &mut places)?;
            chunks.push((chunk, places, waiting));
        }
        for index in 0..self.config.layers.len() {
            let layer = read(index, context.control)?;
            for ((chunk, places, waiting), plan) in chunks.iter_mut().zip(plans) {
                let caches = &mut caches[..plan.sequences.len()];
                chunk.unpark(ops, &mut spill, std::mem::take(waiting))?;
                forward::advance(context, index, &layer, chunk, caches, Caches::Fresh)?;
                *waiting = chunk.park(ops, &mut spill, places)?;
                meter.advance(plan, index, self.config.layers.len());
            }
        }
        let finished = chunks.into_iter().zip(plans);
        finished
            .map(|((mut chunk, _, waiting), plan)| {
                chunk.unpark(ops, &mut spill, waiting)?;
                self.finish(context, plan, &mut chunk)
            })
            .collect()
    }

    fn start(
        &self,
        context: &Context<'_, O>,
        plan: &ChunkPlan,
        caches: &mut Vec<O::Cache>,
    ) -> OpResult<Chunk<O>> {
        let shape = forward::attention_shape(&self.config, 0);
        while caches.len() < plan.sequences.len() {
            caches.push(self.ops.cache(&shape, 0)?);
        }
        forward::embed(context, &self.frame, plan.sequences.clone())
    }

    fn finish(
        &self,
        context: &Context<'_, O>,
        plan: &ChunkPlan,
        chunk: &mut Chunk<O>,
    ) -> OpResult<Vec<TokenLogprob>> {
        forward::token_logprobs(context, &self.frame, chunk, &plan.targets)
    }

    /// Takes sequences through all layers with caches that grow, and gives
    /// the logits after each one's last token. `caches[layer]` has one cache
    /// per sequence.
    pub fn continue_sequences(
        &self,
        sequences: Vec<forward::Sequence>,
        caches: &mut [Vec<O::Cache>],
        control: &RunControl,
    ) -> OpResult<Vec<Vec<f32>>> {
        let context = self.context(control);
        let mut chunk = forward::embed(&context, &self.frame, sequences)?;
        for (index, caches) in caches.iter_mut().enumerate() {
            let mut advance = |layer: &Layer<O>| {
                forward::advance(&context, index, layer, &mut chunk, caches, Caches::Growing)
            };
            match &self.layers {
                Layers::Resident(layers) => advance(&layers[index])?,
                Layers::Streamed(read) => advance(&read(index, control)?)?,
            }
        }
        forward::last_logits(&context, &self.frame, &mut chunk)
    }
}
