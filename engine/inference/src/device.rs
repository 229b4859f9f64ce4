//! Devices by name. All code that knows a particular device is here.

use std::str::FromStr;

use candle_core::Device;

use crate::error::InferenceError;

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
