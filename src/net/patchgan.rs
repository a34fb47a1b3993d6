//! The discriminator of pix2pix (Isola et al. 2017, arXiv 1611.07004): a small convolutional network that judges
//! every patch of (lightness, chroma) as a real or a made-up pair.

use serde::{Deserialize, Serialize};

use super::{
    graph::{Act, Graph},
    unet::{conv4, norm},
};

/// Sizes of a discriminator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PatchGanConfig {
    /// Channels of the first layer; doubled by every further one, at most eightfold.
    pub channels: usize,
    /// Layers of stride 2. 3 is pix2pix's 70 px receptive field, 1 sees 16 px.
    pub layers: usize,
}

impl Default for PatchGanConfig {
    fn default() -> Self {
        Self {
            channels: 64,
            layers: 3,
        }
    }
}

impl PatchGanConfig {
    /// The smallest picture side that gives at least one patch: 3 before the two layers of stride 1, doubled by each
    /// of stride 2.
    pub fn smallest_side(&self) -> usize {
        3 << self.layers
    }
}

/// The network: L and ab `[N, H, W, 3]` in network units to one logit a patch, `[N, h, w, 1]`.
pub fn graph(config: &PatchGanConfig) -> Graph {
    const LEAKY: Act = Act::Leaky(0.2);
    let width = |layer: usize| config.channels << layer.min(3);
    let (mut g, x) = Graph::new(3);
    let mut x = g.conv(x, conv4("0.conv".into(), width(0), 2).act(LEAKY));
    for i in 1..=config.layers {
        let stride = if i < config.layers { 2 } else { 1 };
        x = g.conv(x, conv4(format!("{i}.conv"), width(i), stride));
        x = g.norm(x, format!("{i}.norm"), norm(width(i)), LEAKY);
    }
    g.conv(x, conv4("last".into(), 1, 1));
    g
}
