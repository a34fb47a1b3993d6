//! Where the arithmetic of the networks is done.
//!
//! [`eager`] runs a network step by step on candle's tensors: in training, on CUDA, and where oneDNN is missing.
//! [`plan`] runs it compiled, on the CPU. Both are made of the same [`ops`] and give the same pictures.

pub mod buffer;
#[cfg(feature = "cudnn")]
mod cuda;
#[cfg(feature = "cudnn")]
pub mod cudnn;
pub mod eager;
pub mod kernels;
pub mod onednn;
pub mod ops;
pub mod plan;
pub mod portable;
pub mod softmax;

use std::{fmt, str::FromStr};

use candle_core::{Device, Tensor};

use crate::error::Error;

/// A way to run a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Step by step on candle's tensors.
    Eager,
    /// Compiled for the CPU, on oneDNN.
    Plan {
        /// Whether pictures and weights are bf16.
        bf16: bool,
    },
}

/// The numbers that a network may be run in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Precision {
    /// bf16 where the CPU multiplies such numbers, else f32.
    #[default]
    Auto,
    /// f32.
    F32,
    /// bf16, however slow.
    Bf16,
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        match s {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(Error::Usage(format!(
                "no precision is called {s}: write auto, f32 or bf16"
            ))),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

/// A tensor of these values on `device`; through pinned memory where that is a CUDA device of a cuDNN build.
///
/// # Errors
/// Out of memory, a shape that does not fit.
pub fn upload(
    values: &[f32],
    shape: impl Into<candle_core::Shape>,
    device: &Device,
) -> candle_core::Result<Tensor> {
    #[cfg(feature = "cudnn")]
    return cudnn::upload(values, shape, device);
    #[cfg(not(feature = "cudnn"))]
    Tensor::from_slice(values, shape, device)
}

/// Lets f32 convolutions on CUDA multiply TF32 numbers, as training may; without cuDNN nothing changes.
pub fn allow_tf32(allowed: bool) {
    #[cfg(feature = "cudnn")]
    cudnn::allow_tf32(allowed);
    #[cfg(not(feature = "cudnn"))]
    let _ = allowed;
}

/// Whether the CPU multiplies bf16 numbers itself (AVX-512 BF16, which every CPU with AMX has as well).
pub fn cpu_has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

impl Engine {
    /// The engines that this machine has for `device`.
    pub fn present(device: &Device) -> Vec<Self> {
        let mut engines = vec![Self::Eager];
        if device.is_cpu() && onednn::version().is_ok() {
            engines.push(Self::Plan { bf16: false });
        }
        if device.is_cpu() && onednn::has_bf16() {
            engines.push(Self::Plan { bf16: true });
        }
        engines
    }

    /// The best engine for `device`, and why it is not a better one.
    pub fn choose(device: &Device, precision: Precision) -> (Self, Option<String>) {
        if !device.is_cpu() {
            let only_cpus = "the network runs in f32: bf16 is for CPUs and for training";
            let asked = (precision == Precision::Bf16).then(|| only_cpus.into());
            return (Self::Eager, asked);
        }
        let bf16 = match precision {
            Precision::Auto => cpu_has_bf16(),
            Precision::F32 => false,
            Precision::Bf16 => true,
        };
        match onednn::version() {
            Ok(version) if bf16 && !onednn::has_bf16() => (
                Self::Plan { bf16: false },
                Some(format!(
                    "the network runs in f32: oneDNN {version} has no bf16 convolutions for this CPU"
                )),
            ),
            Ok(_) => (Self::Plan { bf16 }, None),
            Err(why) => (
                Self::Eager,
                Some(format!(
                    "the network runs on candle's own convolutions, several times slower than on oneDNN, which is not to be had ({why}); install libdnnl2 or libdnnl3, or name the library in {}",
                    onednn::VARIABLE
                )),
            ),
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Eager => f.write_str("candle"),
            Self::Plan { bf16 } => {
                let version = onednn::version().unwrap_or("?");
                write!(
                    f,
                    "oneDNN {version} in {}",
                    if *bf16 { "bf16" } else { "f32" }
                )
            }
        }
    }
}
