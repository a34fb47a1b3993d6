//! The discriminators of pix2pix (Isola et al. 2017, arXiv 1611.07004): a small convolutional network that judges
//! every patch of (lightness, chroma), or of chroma alone, as real or made up.
//!
//! Structure, names and shapes are those of the authors' PyTorch code, `NLayerDiscriminator` and, for a receptive
//! field of one pixel, `PixelDiscriminator`. Biases too: none before batch norm. Where theirs has instance norm without
//! scale and shift, ours has both; theirs has no group norm and no spectral normalisation.

use serde::{Deserialize, Serialize};

use super::{
    graph::{Act, Conv, Graph, NormKind, Value, Window},
    unet::{self, conv},
};
use crate::error::{Error, Result};

const LEAKY: Act = Act::Leaky(0.2);

/// The receptive fields that there are, in pixels: 1, then 18 * 2^(layers of stride 2 - 1) - 2.
const RECEPTIVE: [usize; 6] = [1, 16, 34, 70, 142, 286];

/// What a discriminator is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PatchGanConfig {
    /// Channels of the first layer; doubled by every further one, at most eightfold.
    pub channels: usize,
    /// Side of the patch that a logit sees: 1, 16, 34, 70 (pix2pix), 142 or 286 px.
    pub receptive: usize,
    /// Whether it sees L beside ab.
    pub conditional: bool,
    /// What follows all convolutions but the first and the last.
    pub norm: Norm,
}

impl Default for PatchGanConfig {
    fn default() -> Self {
        Self {
            channels: 64,
            receptive: 70,
            conditional: true,
            norm: Norm::Batch,
        }
    }
}

/// What keeps a discriminator's numbers in bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// Nothing: as WGAN-GP needs it.
    None,
    /// Batch norm.
    #[default]
    Batch,
    /// Each channel of each sample.
    Instance,
    /// Groups of some 8 channels of each sample.
    Group,
    /// No step of the network, but weights divided by their largest singular value: [`super::spectral`].
    Spectral,
}

impl Norm {
    /// Whether it is a step of the network, whose gradient mixes samples or places.
    pub fn is_step(self) -> bool {
        self.kind(1).is_some()
    }

    fn kind(self, channels: usize) -> Option<NormKind> {
        match self {
            Self::None | Self::Spectral => None,
            Self::Batch => Some(unet::Norm::Batch.kind(channels)),
            Self::Instance => Some(NormKind::Group {
                groups: channels,
                eps: 1e-5,
            }),
            Self::Group => Some(unet::Norm::Group.kind(channels)),
        }
    }

    /// Batch norm subtracts a bias again.
    fn biased(self, conv: Conv) -> Conv {
        Conv {
            bias: self != Self::Batch,
            ..conv
        }
    }
}

impl PatchGanConfig {
    /// # Errors
    /// [`Error::Usage`] naming the setting and what it may be.
    pub fn validate(&self) -> Result<()> {
        if !RECEPTIVE.contains(&self.receptive) {
            return Err(Error::Usage(format!(
                "no discriminator sees {} px: its receptive field may be 1, 16, 34, 70, 142 or 286",
                self.receptive
            )));
        }
        if self.channels == 0 {
            return Err(Error::Usage(
                "a discriminator needs 1 channel or more".into(),
            ));
        }
        Ok(())
    }

    /// Layers of stride 2.
    fn layers(&self) -> usize {
        RECEPTIVE
            .iter()
            .skip(1)
            .filter(|r| **r <= self.receptive)
            .count()
    }

    /// Channels of the picture that it is given: L, if it sees it, then a and b.
    pub fn inputs(&self) -> usize {
        if self.conditional { 3 } else { 2 }
    }

    /// The smallest picture side that gives at least one logit: 3 before the two layers of stride 1, doubled by each
    /// of stride 2.
    pub fn smallest_side(&self) -> usize {
        match self.layers() {
            0 => 1,
            layers => 3 << layers,
        }
    }
}

/// The network: `[N, H, W, inputs]` in network units to one logit a patch, `[N, h, w, 1]`.
pub fn graph(config: &PatchGanConfig) -> Graph {
    let (mut g, x) = Graph::new(config.inputs());
    match config.layers() {
        0 => pixel(&mut g, x, config),
        layers => patches(&mut g, x, config, layers),
    };
    g
}

fn pixel(g: &mut Graph, x: Value, config: &PatchGanConfig) -> Value {
    let (channels, norm) = (config.channels, config.norm);
    let point = |name: &str, channels| conv(name, channels, Window::same(1, 1));
    let x = g.conv(x, point("net.0", channels).act(LEAKY));
    let x = layer(g, x, norm, point("net.2", 2 * channels), "net.3");
    g.conv(x, norm.biased(point("net.5", 1)))
}

fn patches(g: &mut Graph, x: Value, config: &PatchGanConfig, layers: usize) -> Value {
    let conv4 = |number: usize, channels, stride| {
        let name = format!("model.{number}");
        conv(name, channels, Window::new(4, stride, 1))
    };
    let mut x = g.conv(x, conv4(0, config.channels, 2).act(LEAKY));
    for i in 1..=layers {
        let stride = if i < layers { 2 } else { 1 };
        let conv = conv4(3 * i - 1, config.channels << i.min(3), stride);
        x = layer(g, x, config.norm, conv, &format!("model.{}", 3 * i));
    }
    g.conv(x, conv4(3 * layers + 2, 1, 1))
}

/// Convolution, norm, activation.
fn layer(g: &mut Graph, x: Value, norm: Norm, conv: Conv, name: &str) -> Value {
    let conv = norm.biased(conv);
    match norm.kind(conv.channels) {
        None => g.conv(x, conv.act(LEAKY)),
        Some(kind) => {
            let x = g.conv(x, conv);
            g.norm(x, name, kind, LEAKY)
        }
    }
}
