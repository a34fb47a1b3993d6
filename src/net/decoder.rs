//! The light decoder behind pretrained encoders: a head at a quarter of the input's size, where chroma loses little
//! (a quarter of 128 px costs 1.7 dE00).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    bins,
    graph::{Act, Conv, Graph, NormKind, RELU, Value},
    params::Init,
};

/// Channels at 1/16, 1/8 and 1/4 of the input.
const CHANNELS: [usize; 3] = [192, 128, 96];

/// What a generator makes of each pixel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// a and b, by tanh (Isola et al. 2017).
    #[default]
    Regression,
    /// Logits of the [`bins`] (Zhang et al. 2016).
    Classification,
}

impl Head {
    /// The head of a generator.
    pub fn of(graph: &Graph) -> Self {
        match graph.channels(graph.output()) {
            2 => Self::Regression,
            _ => Self::Classification,
        }
    }

    /// Its convolution; drawn so that training starts from grey, not from noise: tanh near 0 and a small first
    /// gradient, or bins equally likely.
    fn conv(self, name: &str) -> Conv {
        let (channels, act) = match self {
            Self::Regression => (2, Act::Tanh),
            Self::Classification => (bins::COUNT, Act::None),
        };
        let conv = Conv::same(name, channels, 3).act(act);
        conv.init(Init::Normal(0., 0.01))
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Regression => "regression",
            Self::Classification => "classification",
        })
    }
}

/// The norm that follows a convolution of so many channels.
pub type Norm = fn(usize) -> NormKind;

/// From the encoder's map at 1/16, `deep`, and its maps at 1/8 and 1/4, `skips`, to the `head` at 1/4: a global vector
/// is added at 1/16; then every step doubles the map, joins it with the encoder's, and mixes. `norm` follows every
/// convolution but the global one and the head; an encoder whose features are not around 1 needs one, or the ReLUs
/// here die in the first steps.
pub fn decoder(g: &mut Graph, deep: Value, skips: &[Value; 2], norm: Option<Norm>, head: Head) {
    let layer = |g: &mut Graph, x, conv: Conv| {
        let norm = norm.map(|norm| norm(conv.channels));
        g.layer(x, conv, norm, RELU)
    };
    let mean = g.mean(deep);
    let low = layer(g, deep, Conv::same("decoder.bottom", CHANNELS[0], 3));
    let global = g.conv(mean, Conv::same("decoder.global", CHANNELS[0], 1));
    let mut x = g.add(low, global);
    for (i, skip) in skips.iter().enumerate() {
        let (name, channels) = (format!("decoder.join{}", 8 >> i), CHANNELS[i + 1]);
        let coarse = g.up(x, 2);
        let joined = g.cat(coarse, *skip);
        x = layer(g, joined, Conv::same(format!("{name}.mix"), channels, 1));
        x = layer(g, x, Conv::same(format!("{name}.smooth"), channels, 3));
    }
    g.conv(x, head.conv("decoder.head"));
}
