//! The generator on EfficientNet-Lite0 (Tan & Le 2019, arXiv 1905.11946; the "lite" edition without squeeze-excite and
//! with ReLU6), without its classifier and last convolution, and the light [`decoder`]. Better and lighter than
//! SqueezeNet at equal training time.

use std::collections::BTreeMap;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::{
    decoder::{self, Head},
    graph::{Act, Conv, Graph, NormKind, RELU, Value, Window},
};
use crate::error::{Error, Result};

/// A run of equal blocks: repeats, kernel, stride of the first, expansion, channels.
type Stage = (usize, usize, usize, usize, usize);

const STAGES: [Stage; 7] = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
];

/// Stages up to 1/16 of the input.
const CUT: usize = 5;

/// Settings of the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LiteConfig {
    /// What it makes.
    pub head: Head,
    /// Without the stages past 1/16: less than half of the parameters, for live use.
    pub cut: bool,
    /// What the decoder is normalised by. The encoder keeps its batch norms, which ImageNet knows: in use they are
    /// part of its convolutions.
    pub norm: DecoderNorm,
    /// Whether a picture is blurred before every second sample of it is dropped (Zhang 2019, arXiv 1904.11486), so
    /// that the colours move less when the picture moves a little.
    pub blur: bool,
}

impl Default for LiteConfig {
    fn default() -> Self {
        Self {
            head: Head::Classification,
            cut: false,
            norm: DecoderNorm::Batch,
            blur: false,
        }
    }
}

/// A kind of norm in the decoder; it needs one, as the encoder's features are some 10 strong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecoderNorm {
    /// Batch norm: in use part of the convolutions.
    Batch,
    /// Group norm, groups of 8 channels: the same in training and in use.
    Group,
}

impl DecoderNorm {
    fn kind(self) -> decoder::Norm {
        match self {
            Self::Batch => |_| BATCH,
            Self::Group => |channels| NormKind::Group {
                groups: channels / 8,
                eps: 1e-5,
            },
        }
    }
}

/// After every convolution of the encoder.
const BATCH: NormKind = NormKind::Batch { eps: 1e-3 };

/// The network; the encoder's names are `stem`, `blocks.0` and so on, each convolution with its `bn`.
pub fn graph(config: &LiteConfig) -> Graph {
    let (mut g, l) = Graph::new(1);
    let stages = if config.cut { &STAGES[..CUT] } else { &STAGES };
    let maps = encoder(&mut g, l, stages, config.blur);
    // The maps are at 1/2, 1/4, 1/8 and 1/16, and at 1/32 unless cut.
    let deep = match maps.get(4) {
        None => maps[3],
        Some(coarse) => {
            let coarse = g.up(*coarse, 2);
            g.cat(coarse, maps[3])
        }
    };
    let norm = config.norm.kind();
    let mix = Conv::same("decoder.mix16", 192, 1);
    let deep = g.layer(deep, mix, Some(norm(192)), RELU);
    let skips = [maps[2], maps[1]];
    decoder::decoder(&mut g, deep, &skips, Some(norm), config.head);
    g
}

/// The last map of each size.
fn encoder(g: &mut Graph, l: Value, stages: &[Stage], blur: bool) -> Vec<Value> {
    let stem = Conv::new("stem", 32, Window::same(3, 2));
    let mut x = shrinking(g, l, stem, blur);
    let mut maps = Vec::new();
    let mut block = 0;
    for &(repeats, size, stride, expand, channels) in stages {
        if stride == 2 {
            maps.push(x);
        }
        for i in 0..repeats {
            let inverted = Inverted {
                name: format!("blocks.{block}"),
                window: Window::same(size, if i == 0 { stride } else { 1 }),
                expand,
                channels,
                blur,
            };
            x = inverted.of(g, x);
            block += 1;
        }
    }
    maps.push(x);
    maps
}

/// A convolution with its norm and ReLU6. With `blur`, one of stride 2 is done at stride 1, and every second sample of
/// its result, blurred, is taken: the same samples as without, as both windows have the same centre.
fn shrinking(g: &mut Graph, x: Value, conv: Conv, blur: bool) -> Value {
    let Window { size, stride, .. } = conv.window;
    if !blur || stride == 1 {
        return g.layer(x, conv, Some(BATCH), Act::Relu6);
    }
    let (name, channels) = (format!("{}.blur", conv.name), conv.channels);
    let window = Window::same(size, 1);
    let y = g.layer(x, Conv { window, ..conv }, Some(BATCH), Act::Relu6);
    g.conv(y, Conv::binomial(name, channels, stride))
}

/// An inverted residual block (Sandler et al. 2018, arXiv 1801.04381).
struct Inverted {
    name: String,
    window: Window,
    expand: usize,
    channels: usize,
    blur: bool,
}

impl Inverted {
    fn of(&self, g: &mut Graph, x: Value) -> Value {
        let Self { name, window, .. } = self;
        let inputs = g.channels(x);
        let wide = inputs * self.expand;
        let mut y = x;
        if self.expand > 1 {
            let expand = Conv::same(format!("{name}.expand"), wide, 1);
            y = g.layer(y, expand, Some(BATCH), Act::Relu6);
        }
        let depthwise = Conv::new(format!("{name}.depthwise"), wide, *window).groups(wide);
        y = shrinking(g, y, depthwise, self.blur);
        let project = Conv::same(format!("{name}.project"), self.channels, 1);
        y = g.layer(y, project, Some(BATCH), Act::None);
        match window.stride == 1 && inputs == self.channels {
            true => g.add(y, x),
            false => y,
        }
    }
}

/// Our encoder's parameters from ImageNet EfficientNet-Lite0 weights, named as in its PyTorch port.
///
/// The original sees R, G, B of 0..255, (v - 127) / 128; ours sees one channel x = L/50 - 1, for which a grey of
/// 127.5 (x + 1) is a close stand-in, so that the original would see x 127.5 / 128 + 0.5 / 128: the three input planes
/// sum into one, scaled. The offset of 0.004 is left out: zeros around the picture would have to follow it.
///
/// # Errors
/// [`Error::Model`] where a tensor of EfficientNet-Lite0 is missing.
pub fn from_imagenet(
    config: &LiteConfig,
    weights: &BTreeMap<String, Tensor>,
) -> Result<BTreeMap<String, Tensor>> {
    let mut ours = BTreeMap::new();
    let own = |name: &str| name.starts_with("decoder") || name.contains(".blur.");
    let parameters = graph(config).parameters().into_iter();
    for parameter in parameters.filter(|p| !own(&p.name)) {
        let theirs = their_name(&parameter.name);
        let value = weights.get(&theirs).ok_or_else(|| {
            Error::model(
                &theirs,
                "these are not the weights of EfficientNet-Lite0: this is missing",
            )
        })?;
        let value = match parameter.name.as_str() {
            "stem.weight" => (value.sum_keepdim(1)? * (127.5 / 128.))?,
            _ => value.clone(),
        };
        ours.insert(parameter.name, value);
    }
    Ok(ours)
}

/// The PyTorch port's name of a parameter of ours.
fn their_name(name: &str) -> String {
    // The only block without an expansion counts its norms from 1 as well.
    let parts = [
        ("stem.bn", "_bn0"),
        ("stem", "_conv_stem"),
        ("blocks.", "_blocks."),
        ("expand.bn", "_bn0"),
        ("expand", "_expand_conv"),
        ("depthwise.bn", "_bn1"),
        ("depthwise", "_depthwise_conv"),
        ("project.bn", "_bn2"),
        ("project", "_project_conv"),
    ];
    let replaced = |name: String, (ours, theirs): &(&str, &str)| name.replace(ours, theirs);
    parts.iter().fold(name.to_owned(), replaced)
}
