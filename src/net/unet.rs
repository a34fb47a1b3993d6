//! The generator of pix2pix (Isola et al. 2017, arXiv 1611.07004): an encoder of 4x4 convolutions of stride 2, a
//! decoder of transposed ones, and a skip connection at every size.
//!
//! Two changes, both so that a frame's colour cannot depend on its batch mates: group norm instead of batch norm
//! (with the batch of 1 that the paper uses the two are close kin), and depth as a setting.

use serde::{Deserialize, Serialize};

use super::{
    graph::{Act, Conv, Graph, NormKind, RELU, Value, Window},
    params::Init,
};
use crate::error::{Error, Result};

/// Sizes of a U-Net.
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

/// The group norm that stands in for pix2pix's batch norm.
pub fn norm(channels: usize) -> NormKind {
    NormKind::Group {
        groups: (channels / 8).max(1),
        eps: 1e-5,
    }
}

/// A 4x4 convolution as pix2pix draws it.
pub fn conv4(name: String, channels: usize, stride: usize) -> Conv {
    Conv::new(name, channels, Window::new(4, stride, 1)).init(Init::Normal(0., 0.02))
}

/// The network. Levels are numbered from the outside, 0.
///
/// # Errors
/// [`Error::Usage`] for a depth below 2 or above 8.
pub fn graph(config: &UNetConfig) -> Result<Graph> {
    if !(2..=8).contains(&config.depth) {
        return Err(Error::Usage(format!(
            "U-Net depth {} is not within 2..=8",
            config.depth
        )));
    }
    let (mut g, l) = Graph::new(1);
    let y = level(&mut g, l, config, 0);
    g.act(y, Act::Tanh);
    Ok(g)
}

/// From `x` at the outside of a level to what that level gives back there: down, what lies below, up.
fn level(g: &mut Graph, x: Value, config: &UNetConfig, i: usize) -> Value {
    let width = |level: usize| config.channels << level.min(3);
    let (outermost, innermost) = (i == 0, i + 1 == config.depth);
    let mut inside = g.conv(x, conv4(format!("{i}.down"), width(i), 2));
    if !outermost && !innermost {
        let kind = norm(width(i));
        inside = g.norm(inside, format!("{i}.down_norm"), kind, Act::None);
    }
    let mut y = inside;
    if !innermost {
        let below = g.act(inside, Act::Leaky(0.2));
        let returned = level(g, below, config, i + 1);
        y = g.cat(inside, returned);
    }
    y = g.act(y, RELU);
    let outside = if outermost { 2 } else { width(i - 1) };
    y = g.conv(y, conv4(format!("{i}.up"), outside, 2).transposed());
    if !outermost {
        y = g.norm(y, format!("{i}.up_norm"), norm(outside), Act::None);
    }
    if config.dropout > 0. && !innermost && i > 0 && i + 4 >= config.depth {
        y = g.dropout(y, config.dropout);
    }
    y
}
