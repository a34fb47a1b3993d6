//! Everything that knows tensors, beside `train` and `eval`.
//!
//! The narrow waist between the stream and the network is [`Colorizer::predict`]: plain vectors in, plain vectors
//! out; no tensor leaves. [`load`] makes one from a built-in name or a checkpoint file. Below the waist a
//! [`Generator`] maps picture stacks to picture stacks; [`ARCHS`] lists them.
//!
//! Adding a generator: one file with its network, one row in [`ARCHS`]; the contract tests and `--help` follow.

mod builtin;
pub mod checkpoint;
mod colorizer;
mod device;
pub mod engine;
pub mod layers;
mod model;
pub mod ops;
pub mod params;
pub mod patchgan;
mod portable;
pub mod squeeze;
pub mod unet;

pub use colorizer::{Network, thumb_size};
pub use device::DeviceChoice;
pub use model::{DEFAULT_MODEL, ModelInfo, info, is_model_name, load};

use candle_core::Tensor;
use params::Scope;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::{
    error::{Error, Result},
    frame::{AbMap, Thumb},
};

/// What the pipeline knows of a network: thumbnails in, colour maps out.
pub trait Colorizer: Send {
    /// What it is, for people and for the metadata of what it coloured: name, kind, digest.
    fn describe(&self) -> String;

    /// Where it runs, with the reason if that was chosen for the user; empty if it computes nothing.
    fn device(&self) -> &str {
        ""
    }

    /// The thumbnail that this network wants for a picture of display size `width` x `height`: display aspect kept,
    /// each side a multiple of the network's stride. `None`: it looks at no pixels, only the number of frames counts.
    fn thumb_size(&self, width: usize, height: usize) -> Option<(usize, usize)>;

    /// Colour of each thumbnail: as many maps as thumbnails, in order, each of finite values. A frame's colour does
    /// not depend on its batch mates: bit-identical for any batch size and number of threads on the CPU.
    ///
    /// # Errors
    /// Out of device memory even at batch 1, or a defect.
    fn predict(&mut self, thumbs: &[Thumb]) -> Result<Vec<AbMap>>;

    /// Frames that are best given together, where the user does not say.
    fn default_batch(&self) -> usize {
        1
    }

    /// What the user should hear of since the last call, such as a batch made smaller for want of device memory.
    fn take_warnings(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// A network from lightness to chroma.
pub trait Generator: Send + Sync {
    /// Each side of the input must be a multiple of this.
    fn stride(&self) -> usize;

    /// `l` `[1, N, H, W]` in network units to ab `[2, N, h, w]` in network units, where (h, w) divides (H, W).
    /// `noise` is given in training only: the source of dropout. Nothing may mix the samples of a batch.
    ///
    /// # Errors
    /// A defect, or out of memory.
    fn forward(&self, l: &Tensor, noise: Option<&mut ChaCha8Rng>) -> candle_core::Result<Tensor>;
}

/// A kind of generator.
pub struct Arch {
    /// Name on the command line and in checkpoints.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// Its settings with their defaults, as JSON.
    pub defaults: fn() -> Value,
    /// Builds it from parameters and settings; settings that are left out have their default.
    pub build: fn(&Scope, &Value) -> Result<Box<dyn Generator>>,
}

/// Every generator.
pub const ARCHS: &[Arch] = &[
    Arch {
        name: "unet",
        about: "pix2pix U-Net: the classic, 4x4 convolutions, skip connections at every size",
        defaults: || settings(&unet::UNetConfig::default()),
        build: |scope, config| Ok(Box::new(unet::UNet::new(scope, &parsed(config)?)?)),
    },
    Arch {
        name: "squeeze",
        about: "SqueezeNet encoder with a light decoder at a quarter of the size: small, fast, starts from ImageNet",
        defaults: || Value::Object(Default::default()),
        build: |scope, _| Ok(Box::new(squeeze::Squeeze::new(scope)?)),
    },
];

/// The row of [`ARCHS`] with this name.
///
/// # Errors
/// [`Error::Usage`] with the known names.
pub fn arch(name: &str) -> Result<&'static Arch> {
    ARCHS.iter().find(|arch| arch.name == name).ok_or_else(|| {
        let known: Vec<_> = ARCHS.iter().map(|arch| arch.name).collect();
        Error::Usage(format!(
            "no architecture is called {name}; there are: {}",
            known.join(", ")
        ))
    })
}

fn settings(config: &impl serde::Serialize) -> Value {
    serde_json::to_value(config).unwrap_or_default()
}

fn parsed<T: serde::de::DeserializeOwned>(config: &Value) -> Result<T> {
    serde_json::from_value(config.clone())
        .map_err(|e| Error::Usage(format!("the network's settings: {e}")))
}
