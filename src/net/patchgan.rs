//! The discriminator of pix2pix (Isola et al. 2017, arXiv 1611.07004): a small convolutional network that judges
//! every patch of (lightness, chroma) as a real or a made-up pair.

use candle_core::{Result as Candle, Tensor};
use serde::{Deserialize, Serialize};

use super::{
    layers::{Conv, GroupNorm},
    ops::{self, Window},
    params::{Init, Scope},
};
use crate::error::Result;

/// Sizes of a [`PatchGan`].
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

/// See the module's description.
pub struct PatchGan {
    first: Conv,
    rest: Vec<(Conv, GroupNorm)>,
    last: Conv,
}

impl PatchGan {
    /// Builds the network under `scope`.
    pub fn new(scope: &Scope, config: &PatchGanConfig) -> Result<Self> {
        let init = Init::Normal(0., 0.02);
        let window = |stride| Window {
            size: 4,
            stride,
            pad: 1,
        };
        let width = |layer: usize| config.channels << layer.min(3);
        let layer = |i: usize| -> Result<_> {
            let stride = if i < config.layers { 2 } else { 1 };
            let (scope, sizes) = (scope.at(i), (width(i - 1), width(i)));
            // The ReLU comes after the norm.
            let conv = Conv::new(&scope.at("conv"), sizes, window(stride), 1., init)?;
            Ok((
                conv,
                GroupNorm::new(&scope.at("norm"), width(i), width(i) / 8)?,
            ))
        };
        Ok(Self {
            first: Conv::new(&scope.at(0).at("conv"), (3, width(0)), window(2), 0.2, init)?,
            rest: (1..=config.layers).map(layer).collect::<Result<_>>()?,
            last: Conv::new(
                &scope.at("last"),
                (width(config.layers), 1),
                window(1),
                1.,
                init,
            )?,
        })
    }

    /// `l` `[1, N, H, W]` and `ab` `[2, N, H, W]`, network units, to one logit a patch, `[1, N, h, w]`.
    pub fn forward(&self, l: &Tensor, ab: &Tensor) -> Candle<Tensor> {
        let mut x = self.first.forward(&Tensor::cat(&[l, ab], 0)?)?;
        for (conv, norm) in &self.rest {
            x = ops::leaky(&norm.forward(&conv.forward(&x)?)?, 0.2)?;
        }
        self.last.forward(&x)
    }
}
