//! A transformer's layer that norms before its branches.

use crate::config::Activation;
use crate::error::InferenceError;
use crate::kernels::lanes::Level;
use crate::neural::attention::{AttentionNames, Mask};
use crate::neural::{ActivationFunction, Attention, LayerNorm, Linear, Matrix, Source};

/// Sizes and names of a [`Block`]; names stand below the block's own.
pub struct BlockPlan<'a> {
    /// Width of the residual stream.
    pub width: usize,
    /// Width inside the MLP.
    pub inner: usize,
    /// Heads; divides `width`.
    pub heads: usize,
    /// Of both norms.
    pub epsilon: f32,
    /// Inside the MLP.
    pub activation: ActivationFunction,
    /// Whether the MLP is `down(silu(gate) * up)`, gate and up in one map.
    pub gated: bool,
    /// Before attention, and before the MLP.
    pub norms: [&'a str; 2],
    /// The attention.
    pub attention: &'a str,
    /// Its maps.
    pub maps: AttentionNames<'a>,
    /// Into the MLP and out of it.
    pub mlp: [&'a str; 2],
    /// Factors on the two branches.
    pub scales: Option<[&'a str; 2]>,
}

/// `x += attention(norm(x)); x += mlp(norm(x))`.
pub struct Block {
    norms: [LayerNorm; 2],
    attention: Attention,
    up: Linear,
    down: Linear,
    activation: ActivationFunction,
    gated: bool,
    /// Empty for none.
    scales: [Vec<f32>; 2],
}

impl Block {
    /// The block called `name`.
    pub fn new(
        source: &mut Source<'_>,
        name: &str,
        plan: &BlockPlan<'_>,
    ) -> Result<Self, InferenceError> {
        let BlockPlan { width, inner, heads, epsilon, activation, gated, .. } = *plan;
        let below = |part: &str| format!("{name}.{part}");
        let attention = below(plan.attention);
        let outputs = if gated { 2 * inner } else { inner };
        let scale = |source: &mut Source<'_>, index: usize| match plan.scales {
            Some(names) => source.parameter(&below(names[index]), &[width]),
            None => Ok(Vec::new()),
        };
        Ok(Self {
            norms: [
                LayerNorm::new(source, &below(plan.norms[0]), width, epsilon)?,
                LayerNorm::new(source, &below(plan.norms[1]), width, epsilon)?,
            ],
            attention: Attention::new(source, &attention, &plan.maps, (width, width), heads)?,
            up: Linear::new(source, &below(plan.mlp[0]), (outputs, width), true)?,
            down: Linear::new(source, &below(plan.mlp[1]), (width, inner), true)?,
            activation,
            gated,
            scales: [scale(source, 0)?, scale(source, 1)?],
        })
    }

    /// All rows through the block.
    pub fn apply(&self, level: Level, hidden: &mut Matrix, mask: Mask) {
        let normed = self.norms[0].apply(level, hidden);
        self.add(0, self.attention.apply(level, &normed, &normed, mask), hidden);
        let inner = self.up.apply(level, &self.norms[1].apply(level, hidden));
        let inner = match self.gated {
            true => gate(level, &inner),
            false => self.activation.apply(level, inner),
        };
        self.add(1, self.down.apply(level, &inner), hidden);
    }

    fn add(&self, branch: usize, mut output: Matrix, hidden: &mut Matrix) {
        if !self.scales[branch].is_empty() {
            output.scale_columns(&self.scales[branch]);
        }
        hidden.add(&output);
    }
}

/// `silu(first half) * second half` of every row.
fn gate(level: Level, both: &Matrix) -> Matrix {
    let width = both.columns() / 2;
    let mut gates = Matrix::zeros(both.rows(), width);
    for row in 0..both.rows() {
        gates.row_mut(row).copy_from_slice(&both.row(row)[..width]);
    }
    let mut gates = ActivationFunction::Common(Activation::Silu).apply(level, gates);
    for row in 0..both.rows() {
        for (gate, value) in gates.row_mut(row).iter_mut().zip(&both.row(row)[width..]) {
            *gate *= value;
        }
    }
    gates
}
