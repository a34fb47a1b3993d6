//! The residual generator of Johnson et al. (2016, arXiv 1603.08155) as in CycleGAN (Zhu et al. 2017, arXiv
//! 1703.10593): two halvings, residual blocks at a quarter of the size, two doublings.
//!
//! Two changes. A doubling is the nearest sample, then a 3x3 convolution, instead of a transposed convolution, whose
//! windows of 3 at stride 2 overlap unevenly and leave a checkerboard (Odena et al. 2016, distill.pub). And what lies
//! outside of the picture is zero instead of its reflection, as everywhere in the engine.

use serde::{Deserialize, Serialize};

use super::{
    graph::{Act, Graph, RELU, Value, Window},
    unet::{Norm, conv},
};
use crate::error::{Error, Result};

/// Sizes of a residual generator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResNetConfig {
    /// Channels of the first and the last layers; four times as many in the blocks.
    pub channels: usize,
    /// Residual blocks. CycleGAN has 6 for 128 px, 9 for 256.
    pub blocks: usize,
    /// What follows the convolutions.
    pub norm: Norm,
}

impl Default for ResNetConfig {
    fn default() -> Self {
        Self {
            channels: 64,
            blocks: 6,
            norm: Norm::Batch,
        }
    }
}

/// The network.
///
/// # Errors
/// [`Error::Usage`] where it would have no channels.
pub fn graph(config: &ResNetConfig) -> Result<Graph> {
    let channels = config.channels;
    if channels == 0 {
        return Err(Error::Usage("a ResNet needs 1 channel or more".into()));
    }
    let (graph, l) = Graph::new(1);
    let mut net = Layers {
        graph,
        norm: config.norm,
    };
    let mut x = net.layer(l, "stem", channels, Window::same(7, 1), RELU);
    for i in 1..=2 {
        let half = Window::new(3, 2, 1);
        x = net.layer(x, &format!("down{i}"), channels << i, half, RELU);
    }
    for i in 0..config.blocks {
        x = net.block(x, &format!("blocks.{i}"));
    }
    for i in 1..=2 {
        let large = net.graph.up(x, 2);
        let name = format!("up{i}");
        x = net.layer(large, &name, channels << (2 - i), Window::same(3, 1), RELU);
    }
    let head = conv("head", 2, Window::same(7, 1)).act(Act::Tanh);
    net.graph.conv(x, head);
    Ok(net.graph)
}

/// The network as it grows.
struct Layers {
    graph: Graph,
    norm: Norm,
}

impl Layers {
    /// Convolution, norm, activation.
    fn layer(&mut self, x: Value, name: &str, channels: usize, window: Window, act: Act) -> Value {
        let kind = Some(self.norm.kind(channels));
        self.graph.layer(x, conv(name, channels, window), kind, act)
    }

    /// `x` and what two layers add to it.
    fn block(&mut self, x: Value, name: &str) -> Value {
        let channels = self.graph.channels(x);
        let window = Window::same(3, 1);
        let y = self.layer(x, &format!("{name}.first"), channels, window, RELU);
        let y = self.layer(y, &format!("{name}.second"), channels, window, Act::None);
        self.graph.add(y, x)
    }
}
