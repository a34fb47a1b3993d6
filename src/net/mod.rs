//! Everything that knows tensors, beside `train` and `eval`.
//!
//! The narrow waist between the stream and the network is [`Colorizer::predict`]: plain vectors in, plain vectors
//! out; no tensor leaves. [`load`] makes one from a built-in name or a checkpoint file. Below the waist a network is
//! a [`graph::Graph`], run by an [`engine`]; [`ARCHS`] lists the generators.
//!
//! Adding a generator: one file that writes its graph, one row in [`ARCHS`]; the contract tests and `--help` follow.

pub mod bins;
pub mod border;
mod builtin;
pub mod checkpoint;
mod colorizer;
pub mod decoder;
mod device;
pub mod engine;
pub mod features;
pub mod grain;
pub mod graph;
pub mod import;
pub mod lite;
mod look;
mod model;
mod orthogonal;
pub mod params;
pub mod patchgan;
mod quality;
pub mod resnet;
pub mod spectral;
pub mod squeeze;
pub mod unet;

pub use bins::Decoding;
pub use colorizer::{Model, Network, Said, colour_map, seen, thumb_size};
pub use device::{DeviceChoice, Machine, Place};
pub use engine::Precision;
pub use look::{Look, Looks, Setting};
pub use model::{
    DEFAULT_MODEL, ModelInfo, Options, bundled, info, is_model_name, load, open, ready, undecoded,
};
pub use quality::Quality;

use std::collections::BTreeMap;

use candle_core::Tensor;
use graph::Graph;
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
    /// `scale` is 1 for the size that it was made for; less costs less, and shows.
    fn thumb_size(&self, width: usize, height: usize, scale: f64) -> Option<(usize, usize)>;

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

/// A kind of generator.
pub struct Arch {
    /// Name on the command line and in checkpoints.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// Its settings with their defaults, as JSON.
    pub defaults: fn() -> Value,
    /// Other settings, as JSON, that make networks of another kind: what every generator promises is tested of them
    /// too.
    pub variants: &'static [&'static str],
    /// The network with these settings, those left out having their default: L `[N, H, W, 1]` in network units to
    /// ab `[N, h, w, 2]` in network units or to logits of bins `[N, h, w, Q]`, of which [`decoded`] makes ab; (h, w)
    /// divides (H, W). In use nothing in it mixes the samples of a batch.
    pub graph: fn(&Value) -> Result<Graph>,
    /// Turns the weights of the network that its encoder is known from into ours, by name.
    pub pretrained: Option<Pretrained>,
}

/// From another network's parameters to those of ours with these settings.
pub type Pretrained = fn(&Value, &BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>>;

/// Every generator.
pub const ARCHS: &[Arch] = &[
    Arch {
        name: "unet",
        about: "pix2pix U-Net: the classic, 4x4 convolutions, skip connections at every size",
        defaults: || settings(&unet::UNetConfig::default()),
        variants: &[],
        graph: |config| unet::graph(&parsed(config)?),
        pretrained: None,
    },
    Arch {
        name: "encoder-decoder",
        about: "the same without skip connections, as the paper compares it with: all goes through the narrowest",
        defaults: || settings(&unet::UNetConfig::default()),
        variants: &[],
        graph: |config| unet::encoder_decoder(&parsed(config)?),
        pretrained: None,
    },
    Arch {
        name: "resnet",
        about: "residual generator of CycleGAN: full size, blocks at a quarter of it; the most arithmetic",
        defaults: || settings(&resnet::ResNetConfig::default()),
        variants: &[],
        graph: |config| resnet::graph(&parsed(config)?),
        pretrained: None,
    },
    Arch {
        name: "squeeze",
        about: "SqueezeNet encoder with a light decoder at a quarter of the size: small, fast, starts from ImageNet",
        defaults: || settings(&squeeze::SqueezeConfig::default()),
        variants: &[r#"{"head": "classification"}"#],
        graph: |config| Ok(squeeze::graph(&parsed(config)?)),
        pretrained: Some(|_, weights| squeeze::from_imagenet(weights)),
    },
    Arch {
        name: "lite",
        about: "EfficientNet-Lite0 encoder with the same decoder: better and lighter, starts from ImageNet",
        defaults: || settings(&lite::LiteConfig::default()),
        variants: &[
            r#"{"head": "regression"}"#,
            r#"{"cut": true}"#,
            r#"{"norm": "group", "cut": true}"#,
            r#"{"blur": true}"#,
        ],
        graph: |config| Ok(lite::graph(&parsed(config)?)),
        pretrained: Some(|config, weights| lite::from_imagenet(&parsed(config)?, weights)),
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

/// The network whose result is ab, for use: `graph`, and where it makes logits of bins, their mean colour, whose bins
/// and frequencies are the statistics `head.bins` `[Q, 2]` (CIE units) and `head.prior` `[Q]`. A training on the logits
/// runs `graph` with the parameters of this one.
pub fn decoded(mut graph: Graph, decoding: &Decoding) -> Graph {
    if decoder::Head::of(&graph) == decoder::Head::Classification {
        graph.decode(graph.output(), "head", *decoding);
    }
    graph
}

fn settings(config: &impl serde::Serialize) -> Value {
    serde_json::to_value(config).unwrap_or_default()
}

fn parsed<T: serde::de::DeserializeOwned>(config: &Value) -> Result<T> {
    serde_json::from_value(config.clone())
        .map_err(|e| Error::Usage(format!("the network's settings: {e}")))
}
