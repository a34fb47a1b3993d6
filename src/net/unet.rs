//! The generators of pix2pix (Isola et al. 2017, arXiv 1611.07004): an encoder of 4x4 convolutions of stride 2 and a
//! decoder of transposed ones; the U-Net has a skip connection at every size, the encoder-decoder none.
//!
//! Structure, names and shapes are those of the authors' PyTorch code, `UnetGenerator`, whose checkpoints load: with
//! depth 8 `unet_256`, with depth 7 `unet_128`. Its colour convention is ours, L/50 - 1 to ab/110. Whatever the norm,
//! only the outermost transposed convolution has a bias.

use serde::{Deserialize, Serialize};

use super::{
    graph::{Act, Conv, Graph, NormKind, RELU, Value, Window},
    params::Init,
};
use crate::error::{Error, Result};

/// Sizes of a U-Net or an encoder-decoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UNetConfig {
    /// Channels of the outermost layer; doubled by every further one, at most eightfold.
    pub channels: usize,
    /// Halvings: sides must be multiples of `2^depth`. The paper has 8, for 256 px.
    pub depth: usize,
    /// Probability of dropping a value in the three decoder steps just outside the innermost; in training only.
    pub dropout: f32,
    /// What follows the convolutions.
    pub norm: Norm,
}

impl Default for UNetConfig {
    fn default() -> Self {
        Self {
            channels: 64,
            depth: 5,
            dropout: 0.5,
            norm: Norm::Batch,
        }
    }
}

impl UNetConfig {
    /// # Errors
    /// [`Error::Usage`] naming the setting and its range.
    fn validate(&self) -> Result<()> {
        let usage = |why: String| Err(Error::Usage(why));
        if !(2..=8).contains(&self.depth) {
            return usage(format!("U-Net depth {} is not within 2..=8", self.depth));
        }
        if self.channels == 0 {
            return usage("a U-Net needs 1 channel or more".into());
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return usage(format!("dropout {} is not within 0..1", self.dropout));
        }
        Ok(())
    }

    /// Channels inside of a level.
    fn width(&self, level: usize) -> usize {
        self.channels << level.min(3)
    }
}

/// What normalises the pictures of a network that is trained from nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// Batch norm: pix2pix's own, and free in use, where it is folded into the convolutions.
    #[default]
    Batch,
    /// Group norm, of some 8 channels each: the same in training and in use, whatever the batch.
    Group,
}

impl Norm {
    /// The normalisation of a picture of so many channels.
    pub fn kind(self, channels: usize) -> NormKind {
        let eps = 1e-5;
        match self {
            Self::Batch => NormKind::Batch { eps },
            Self::Group => {
                let most = (channels / 8).max(1);
                let mut fitting = (1..=most).rev().filter(|n| channels.is_multiple_of(*n));
                let groups = fitting.next().unwrap_or(1);
                NormKind::Group { groups, eps }
            }
        }
    }
}

/// A convolution as pix2pix draws it.
pub fn conv(name: impl Into<String>, channels: usize, window: Window) -> Conv {
    Conv::new(name, channels, window).init(Init::Normal(0., 0.02))
}

/// The U-Net.
///
/// # Errors
/// [`Error::Usage`] for settings out of range.
pub fn graph(config: &UNetConfig) -> Result<Graph> {
    network(config, true)
}

/// The same network without its skip connections.
///
/// # Errors
/// As for [`graph`].
pub fn encoder_decoder(config: &UNetConfig) -> Result<Graph> {
    network(config, false)
}

fn network(config: &UNetConfig, skips: bool) -> Result<Graph> {
    config.validate()?;
    let (graph, l) = Graph::new(1);
    let mut levels = Levels {
        graph,
        config,
        skips,
    };
    levels.level(l, 0, "model");
    Ok(levels.graph)
}

/// The network as it grows. Levels are numbered from the outside, 0.
struct Levels<'a> {
    graph: Graph,
    config: &'a UNetConfig,
    skips: bool,
}

impl Levels<'_> {
    /// From `x` at the outside of a level to what that level gives back there: down, what lies below, up.
    fn level(&mut self, x: Value, i: usize, name: &str) -> Value {
        let (outermost, innermost) = (i == 0, i + 1 == self.config.depth);
        // The authors number activations, too, and what is not there has no number.
        let [down, below, up] = match (outermost, innermost) {
            (true, _) => [0, 1, 3],
            (_, true) => [1, 2, 3],
            _ => [1, 3, 5],
        };
        let part = |number: usize| format!("{name}.model.{number}");
        let g = &mut self.graph;
        let width = self.config.width(i);
        let mut inside = g.conv(x, conv4(part(down), width).no_bias());
        if !outermost && !innermost {
            let kind = self.config.norm.kind(width);
            inside = g.norm(inside, part(down + 1), kind, Act::None);
        }
        if !innermost {
            inside = self.below(inside, i + 1, &part(below));
        }
        let y = self.graph.act(inside, RELU);
        match outermost {
            true => {
                let last = conv4(part(up), 2).transposed().act(Act::Tanh);
                self.graph.conv(y, last)
            }
            false => self.up(y, i, [part(up), part(up + 1)]),
        }
    }

    /// What lies below `x`, level `i`; beside `x` itself where there is a skip connection.
    fn below(&mut self, x: Value, i: usize, name: &str) -> Value {
        let steep = self.graph.act(x, Act::Leaky(0.2));
        let returned = self.level(steep, i, name);
        match self.skips {
            true => self.graph.cat(x, returned),
            false => returned,
        }
    }

    /// From the inside of level `i` to its outside.
    fn up(&mut self, x: Value, i: usize, [conv, norm]: [String; 2]) -> Value {
        let (config, g) = (self.config, &mut self.graph);
        let width = config.width(i - 1);
        let y = g.conv(x, conv4(conv, width).transposed().no_bias());
        let y = g.norm(y, norm, config.norm.kind(width), Act::None);
        let near_innermost = i + 1 < config.depth && i + 4 >= config.depth;
        match config.dropout > 0. && near_innermost {
            true => g.dropout(y, config.dropout),
            false => y,
        }
    }
}

/// The convolution between two sizes.
fn conv4(name: String, channels: usize) -> Conv {
    conv(name, channels, Window::new(4, 2, 1))
}
