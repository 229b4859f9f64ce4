//! Devices by name. All code that knows a particular device is here.

use std::str::FromStr;

use candle_core::{Device, Tensor};

use crate::error::InferenceError;
use crate::kernels::attention::AttentionShape;

/// Where models run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The processor, with kernels of our own.
    #[default]
    Cpu,
    /// The processor, with candle's operations: slow, for comparison.
    CandleCpu,
    /// A graphics card of NVIDIA's; needs the feature `cuda`.
    Cuda(usize),
    /// Apple's graphics processor; needs the feature `metal`.
    Metal,
}

impl DeviceChoice {
    /// Candle's device; none for our own kernels.
    pub(crate) fn open(self) -> Result<Option<Device>, InferenceError> {
        let refused = |error: candle_core::Error| InferenceError::Device {
            device: self.to_string(),
            reason: error.to_string(),
        };
        match self {
            Self::Cpu => Ok(None),
            Self::CandleCpu => Ok(Some(Device::Cpu)),
            Self::Cuda(index) => Device::new_cuda(index).map(Some).map_err(refused),
            Self::Metal => Device::new_metal(0).map(Some).map_err(refused),
        }
    }
}

/// Attention of one sequence by the device's own kernel: queries
/// `[rows, heads, head_dim]` of the last of all positions, keys and values
/// `[positions, kv_heads, head_dim]`, all `f32`; the result is as the queries.
/// None where the device has no kernel for the shape.
///
/// The kernel rounds its inputs to `bf16`, and adds no linear bias as ours is.
#[cfg(feature = "flash-attn")]
pub(crate) fn fused_attention(
    shape: &AttentionShape,
    queries: &Tensor,
    keys: &Tensor,
    values: &Tensor,
) -> Result<Option<Tensor>, candle_core::Error> {
    const MAX_HEAD_DIM: usize = 256;
    let known = shape.head_dim.is_multiple_of(8)
        && shape.head_dim <= MAX_HEAD_DIM
        && shape.alibi_slopes.is_empty();
    if !known || !queries.device().is_cuda() {
        return Ok(None);
    }
    let batch = |tensor: &Tensor| tensor.to_dtype(candle_core::DType::BF16)?.unsqueeze(0);
    let attended = candle_flash_attn::flash_attn_alibi_windowed_softcap(
        &batch(queries)?,
        &batch(keys)?,
        &batch(values)?,
        None,
        shape.scale,
        // A query's own key is in our window.
        shape.window.map(|window| window.saturating_sub(1)),
        Some(0),
        // Zero is none.
        shape.softcap.unwrap_or(0.0),
    )?;
    attended.squeeze(0)?.to_dtype(candle_core::DType::F32).map(Some)
}

/// Without the feature there is none.
#[cfg(not(feature = "flash-attn"))]
pub(crate) fn fused_attention(
    _: &AttentionShape,
    _: &Tensor,
    _: &Tensor,
    _: &Tensor,
) -> Result<Option<Tensor>, candle_core::Error> {
    Ok(None)
}

impl std::fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::CandleCpu => f.write_str("candle-cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("cuda:")) {
            ("cpu", _) => Ok(Self::Cpu),
            ("candle-cpu", _) => Ok(Self::CandleCpu),
            ("metal", _) => Ok(Self::Metal),
            ("cuda", _) => Ok(Self::Cuda(0)),
            (_, Some(index)) => index
                .parse()
                .map(Self::Cuda)
                .map_err(|_| format!("`{index}` is not the number of a card")),
            _ => Err(format!("`{text}` is not a device: use cpu, cuda:N or metal")),
        }
    }
}
