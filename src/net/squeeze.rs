//! A small generator on an ImageNet encoder: SqueezeNet v1.0 (Iandola et al. 2016, arXiv 1602.07360) without its
//! classifier, and the light [`decoder`].
//!
//! No normalisation anywhere: SqueezeNet has none, and the decoder is shallow enough to train without.

use std::collections::BTreeMap;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::{
    decoder::{self, Head},
    graph::{Conv, Graph, RELU, Value, Window},
};
use crate::error::{Error, Result};

/// Settings of the network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SqueezeConfig {
    /// What it makes.
    pub head: Head,
}

/// How strong ImageNet SqueezeNet's features are, about.
const STRENGTH: f64 = 100.;

/// The network; the encoder's names are the original's (`conv1`, `fire2`, ...).
pub fn graph(config: &SqueezeConfig) -> Graph {
    let (mut g, l) = Graph::new(1);
    let stem = g.conv(l, Conv::new("conv1", 96, Window::new(7, 2, 3)).act(RELU)); // 1/2
    let mut x = g.max_pool(stem);
    for number in 2..=4 {
        x = fire(&mut g, x, number);
    }
    let quarter = x; // 256 channels
    x = g.max_pool(x);
    for number in 5..=8 {
        x = fire(&mut g, x, number);
    }
    let eighth = x; // 512
    x = g.max_pool(x);
    let deep = fire(&mut g, x, 9); // 512 at 1/16
    decoder::decoder(&mut g, deep, &[eighth, quarter], None, config.head);
    g
}

/// 1x1 "squeeze", then 1x1 and 3x3 "expand" side by side; expand grows by 128 every second module (table 1 of the
/// paper).
pub(super) fn fire(g: &mut Graph, x: Value, number: usize) -> Value {
    let expand = 64 * (number / 2);
    let conv = |part: &str, channels, size| {
        Conv::same(format!("fire{number}.{part}"), channels, size).act(RELU)
    };
    let x = g.conv(x, conv("squeeze", expand / 4, 1));
    let a = g.conv(x, conv("expand1x1", expand, 1));
    let b = g.conv(x, conv("expand3x3", expand, 3));
    g.cat(a, b)
}

/// Our encoder's parameters from ImageNet SqueezeNet v1.0 weights.
///
/// The original sees B, G, R of 0..255 minus (104, 117, 123); ours sees one channel x = L/50 - 1, for which a grey of
/// 127.5 (x + 1) is a close stand-in: the three input planes sum into one, the offset goes into the bias. Its features
/// are then some hundreds strong; as ReLU networks are homogeneous, dividing the first layer and every bias by
/// [`STRENGTH`] divides all of them, and the decoder sees numbers around 1.
///
/// # Errors
/// [`Error::Model`] where a tensor of SqueezeNet v1.0 is missing.
pub fn from_imagenet(weights: &BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>> {
    let get = |name: &str| original(weights, name);
    let fires = graph(&SqueezeConfig::default())
        .parameters()
        .into_iter()
        .map(|p| p.name);
    let mut ours: BTreeMap<_, _> = fires
        .filter(|name| name.starts_with("fire"))
        .map(|name| {
            let divisor = if name.ends_with("bias") { STRENGTH } else { 1. };
            let value = (get(&name)? / divisor)?;
            Ok((name, value))
        })
        .collect::<Result<_>>()?;
    let planes = get("conv1.weight")?;
    let mut bias = get("conv1.bias")?.clone();
    for (i, mean) in [104., 117., 123.].into_iter().enumerate() {
        let sum = planes.narrow(1, i, 1)?.flatten_from(1)?.sum(1)?;
        bias = (bias + (sum * (127.5 - mean))?)?;
    }
    ours.insert(
        "conv1.weight".into(),
        (planes.sum_keepdim(1)? * (127.5 / STRENGTH))?,
    );
    ours.insert("conv1.bias".into(), (bias / STRENGTH)?);
    Ok(ours)
}

/// A tensor of the original by its name.
///
/// # Errors
/// [`Error::Model`] where it is missing.
pub(super) fn original<'a>(
    weights: &'a BTreeMap<String, Tensor>,
    name: &str,
) -> Result<&'a Tensor> {
    weights.get(name).ok_or_else(|| {
        Error::model(
            name,
            "these are not the weights of SqueezeNet v1.0: this is missing",
        )
    })
}
