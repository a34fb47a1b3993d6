//! The generator on EfficientNet-Lite0 (Tan & Le 2019, arXiv 1905.11946; the "lite" edition without squeeze-excite and
//! with ReLU6), without its classifier and last convolution, and the light [`decoder`]. Better and lighter than
//! SqueezeNet at equal training time.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::{
    decoder,
    graph::{Act, Conv, Graph, NormKind, RELU, Value, Window},
};
use crate::error::{Error, Result};

/// A run of equal blocks: repeats, kernel, stride of the first, expansion, channels.
const STAGES: [(usize, usize, usize, usize, usize); 7] = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
];

/// After every convolution, in the decoder too: the encoder's features are some 10 strong.
const NORM: Option<NormKind> = Some(NormKind::Batch { eps: 1e-3 });

/// The network; the encoder's names are `stem`, `blocks.0` and so on, each convolution with its `bn`.
pub fn graph() -> Graph {
    let (mut g, l) = Graph::new(1);
    let mut x = g.layer(
        l,
        Conv::new("stem", 32, Window::same(3, 2)),
        NORM,
        Act::Relu6,
    );
    let mut maps = Vec::new();
    let mut block = 0;
    for (repeats, size, stride, expand, channels) in STAGES {
        if stride == 2 {
            maps.push(x);
        }
        for i in 0..repeats {
            let window = Window::same(size, if i == 0 { stride } else { 1 });
            x = inverted(
                &mut g,
                x,
                &format!("blocks.{block}"),
                window,
                expand,
                channels,
            );
            block += 1;
        }
    }
    // The maps are at 1/2, 1/4, 1/8 and 1/16; x is at 1/32.
    let coarse = g.up(x, 2);
    let joined = g.cat(coarse, maps[3]);
    let deep = g.layer(joined, Conv::same("decoder.mix16", 192, 1), NORM, RELU);
    decoder::regression(&mut g, deep, &[maps[2], maps[1]], NORM);
    g
}

/// An inverted residual block (Sandler et al. 2018, arXiv 1801.04381).
fn inverted(
    g: &mut Graph,
    x: Value,
    name: &str,
    window: Window,
    expand: usize,
    channels: usize,
) -> Value {
    let inputs = g.channels(x);
    let wide = inputs * expand;
    let mut y = x;
    if expand > 1 {
        y = g.layer(
            y,
            Conv::same(format!("{name}.expand"), wide, 1),
            NORM,
            Act::Relu6,
        );
    }
    let depthwise = Conv::new(format!("{name}.depthwise"), wide, window).groups(wide);
    y = g.layer(y, depthwise, NORM, Act::Relu6);
    y = g.layer(
        y,
        Conv::same(format!("{name}.project"), channels, 1),
        NORM,
        Act::None,
    );
    if window.stride == 1 && inputs == channels {
        y = g.add(y, x);
    }
    y
}

/// Our encoder's parameters from ImageNet EfficientNet-Lite0 weights, named as in its PyTorch port.
///
/// The original sees R, G, B of 0..255, (v - 127) / 128; ours sees one channel x = L/50 - 1, for which a grey of
/// 127.5 (x + 1) is a close stand-in, so that the original would see x 127.5 / 128 + 0.5 / 128: the three input planes
/// sum into one, scaled. The offset of 0.004 is left out: zeros around the picture would have to follow it.
///
/// # Errors
/// [`Error::Model`] where a tensor of EfficientNet-Lite0 is missing.
pub fn from_imagenet(weights: &BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>> {
    let mut ours = BTreeMap::new();
    let encoder = graph().parameters().into_iter();
    for parameter in encoder.filter(|p| !p.name.starts_with("decoder")) {
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
