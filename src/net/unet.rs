//! The generator of pix2pix (Isola et al. 2017, arXiv 1611.07004): an encoder of 4x4 convolutions of stride 2, a
//! decoder of transposed ones, and a skip connection at every size.
//!
//! Two changes, both so that a frame's colour cannot depend on its batch mates: group norm instead of batch norm
//! (with the batch of 1 that the paper uses the two are close kin), and depth as a setting.

use candle_core::{Result as Candle, Tensor};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{
    Generator,
    layers::{Conv, ConvTranspose, GroupNorm},
    ops::{self, Window},
    params::{Init, Scope},
};
use crate::error::{Error, Result};

/// Sizes of a [`UNet`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UNetConfig {
    /// Channels of the outermost layer; doubled by every further one, at most eightfold.
    pub channels: usize,
    /// Halvings: sides must be multiples of `2^depth`. The paper has 8 at 256 px.
    pub depth: usize,
    /// Probability of dropping a value in the three decoder steps just outside the innermost; in training only.
    pub dropout: f32,
}

impl Default for UNetConfig {
    fn default() -> Self {
        Self {
            channels: 64,
            depth: 5,
            dropout: 0.5,
        }
    }
}

/// One level: down, what lies below, up. Numbered from the outside, 0.
struct Level {
    down: Conv,
    down_norm: Option<GroupNorm>,
    up: ConvTranspose,
    up_norm: Option<GroupNorm>,
    dropout: f32,
}

/// See the module's description.
pub struct UNet {
    levels: Vec<Level>,
}

impl UNet {
    /// Builds the network under `scope`.
    ///
    /// # Errors
    /// [`Error::Usage`] for a depth below 2 or above 8.
    pub fn new(scope: &Scope, config: &UNetConfig) -> Result<Self> {
        if !(2..=8).contains(&config.depth) {
            return Err(Error::Usage(format!(
                "U-Net depth {} is not within 2..=8",
                config.depth
            )));
        }
        let levels = (0..config.depth).map(|i| Level::new(&scope.at(i), config, i));
        Ok(Self {
            levels: levels.collect::<Result<_>>()?,
        })
    }
}

impl Level {
    fn new(scope: &Scope, config: &UNetConfig, i: usize) -> Result<Self> {
        let window = Window {
            size: 4,
            stride: 2,
            pad: 1,
        };
        let init = Init::Normal(0., 0.02);
        let width = |level: usize| config.channels << level.min(3);
        let (outermost, innermost) = (i == 0, i + 1 == config.depth);
        let outside = |first| if outermost { first } else { width(i - 1) };
        let below = if innermost { width(i) } else { 2 * width(i) };
        let norm = |name: &str, channels: usize| {
            GroupNorm::new(&scope.at(name), channels, (channels / 8).max(1))
        };
        Ok(Self {
            down: Conv::new(&scope.at("down"), (outside(1), width(i)), window, 1., init)?,
            down_norm: match outermost || innermost {
                true => None,
                false => Some(norm("down_norm", width(i))?),
            },
            up: ConvTranspose::new(&scope.at("up"), (below, outside(2)), window, init)?,
            up_norm: match outermost {
                true => None,
                false => Some(norm("up_norm", outside(2))?),
            },
            dropout: match !innermost && i + 4 >= config.depth && i > 0 {
                true => config.dropout,
                false => 0.,
            },
        })
    }
}

/// From `x` at the outside of the first level to what that level gives back there, skip not yet joined.
fn descend(levels: &[Level], x: &Tensor, noise: &mut Option<&mut ChaCha8Rng>) -> Candle<Tensor> {
    let [level, below @ ..] = levels else {
        return Ok(x.clone());
    };
    let mut inside = level.down.forward(x)?;
    if let Some(norm) = &level.down_norm {
        inside = norm.forward(&inside)?;
    }
    let mut y = inside.clone();
    if !below.is_empty() {
        let returned = descend(below, &ops::leaky(&inside, 0.2)?, noise)?;
        y = Tensor::cat(&[&inside, &returned], 0)?;
    }
    y = level.up.forward(&ops::leaky(&y, 0.)?)?;
    if let Some(norm) = &level.up_norm {
        y = norm.forward(&y)?;
    }
    match noise {
        Some(rng) if level.dropout > 0. => dropped(&y, level.dropout, rng),
        _ => Ok(y),
    }
}

/// `x` with each value dropped with probability `p` and the others scaled to keep the mean.
fn dropped(x: &Tensor, p: f32, rng: &mut ChaCha8Rng) -> Candle<Tensor> {
    let keep = |_| {
        if rng.random::<f32>() < p {
            0.
        } else {
            1. / (1. - p)
        }
    };
    let mask: Vec<f32> = (0..x.elem_count()).map(keep).collect();
    x * Tensor::from_vec(mask, x.shape(), x.device())?
}

impl Generator for UNet {
    fn stride(&self) -> usize {
        1 << self.levels.len()
    }

    fn forward(&self, l: &Tensor, mut noise: Option<&mut ChaCha8Rng>) -> Candle<Tensor> {
        descend(&self.levels, l, &mut noise)?.tanh()
    }
}
