//! Features of an ImageNet network on colour pictures: what pictures look like, not their pixels. For the perceptual
//! losses of the trainer and the Frechet distance of the evaluation.
//!
//! The network is SqueezeNet v1.0 (Iandola et al. 2016, arXiv 1602.07360), frozen, in its original form: three
//! channels and no padding in the first layer, so that any size of picture from 32 up will do. Its weights are not part
//! of the program.

use std::{collections::BTreeMap, path::Path};

use candle_core::{DType, Device, Tensor};

use super::{
    checkpoint,
    graph::{Conv, Graph, RELU, Value, Window},
    params::Params,
    squeeze,
};
use crate::error::{Error, Result, io_sentence, shown};

/// What the original subtracts from B, G and R of 0..255.
const MEANS: [f64; 3] = [104., 117., 123.];

/// A place in the network, after its ReLU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// The first convolution: 96 channels at 1/2 of the picture's size.
    Relu1,
    /// A fire module, 2 to 9: 2 and 3 have 128 channels, 4 has 256, all at 1/4; 5 has 256, 6 and 7 have 384, 8 has
    /// 512, at 1/8; 9 has 512 at 1/16.
    Fire(u8),
}

impl Layer {
    /// The last one, whose mean over the picture stands for the picture as a whole.
    pub const LAST: Self = Self::Fire(9);

    /// Channels of its features.
    pub fn channels(self) -> usize {
        match self {
            Self::Relu1 => 96,
            Self::Fire(number) => 128 * (usize::from(number) / 2),
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Relu1 => 1,
            Self::Fire(number) => number,
        }
    }
}

/// The frozen network.
pub struct Features {
    params: Params,
}

impl Features {
    /// Reads SqueezeNet v1.0 from the safetensors file at `path`.
    ///
    /// # Errors
    /// [`Error::Model`] where it cannot be read or is of another network.
    pub fn open(path: &Path, device: &Device) -> Result<Self> {
        let name = shown(path);
        let bytes = std::fs::read(path).map_err(|e| Error::model(&name, io_sentence(&e)))?;
        let weights = checkpoint::tensors(&bytes, &name, &Device::Cpu)?;
        Self::new(&weights, device).map_err(|e| Error::model(&name, e))
    }

    /// From SqueezeNet's weights by name; those of its classifier are left out.
    ///
    /// The original sees B, G, R of 0..255 less [`MEANS`], ours R, G, B of 0..1: without padding, the order, the scale
    /// and the offset go into the first convolution exactly.
    ///
    /// # Errors
    /// [`Error::Model`] where one is missing or of another shape.
    pub fn new(weights: &BTreeMap<String, Tensor>, device: &Device) -> Result<Self> {
        let graph = Self::graph(Layer::LAST);
        let mut ours = BTreeMap::new();
        for name in graph.parameters().into_iter().map(|p| p.name) {
            let value = squeeze::original(weights, &name)?.clone();
            ours.insert(name, value);
        }
        let weight = squeeze::original(weights, "conv1.weight")?;
        let mut bias = squeeze::original(weights, "conv1.bias")?.clone();
        for (i, mean) in MEANS.into_iter().enumerate() {
            let sum = weight.narrow(1, i, 1)?.flatten_from(1)?.sum(1)?;
            bias = (bias - (sum * mean)?)?;
        }
        let order = Tensor::new(&[2u32, 1, 0], weight.device())?;
        let weight = (weight.index_select(&order, 1)? * 255.)?;
        ours.insert("conv1.weight".into(), weight);
        ours.insert("conv1.bias".into(), bias);
        let params = Params::given(&graph, &ours, device)?;
        Ok(Self { params })
    }

    /// The same network in numbers of another type, see [`Params::to_dtype`].
    ///
    /// # Errors
    /// Out of memory.
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        let params = self.params.to_dtype(dtype)?;
        Ok(Self { params })
    }

    /// The parameters of every graph here.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// From sRGB pictures `[N, H, W, 3]`, encoded, 0..1, sides of 32 or more, to the features of `layer`.
    pub fn graph(layer: Layer) -> Graph {
        let (mut g, rgb) = Graph::new(3);
        let stem = g.conv(rgb, Conv::new("conv1", 96, Window::new(7, 2, 0)).act(RELU));
        fires(&mut g, stem, Layer::Relu1, layer);
        g
    }

    /// From the features of `from` to those of a later layer: several layers cost no more than the last of them.
    pub fn between(from: Layer, to: Layer) -> Graph {
        let (mut g, x) = Graph::new(from.channels());
        fires(&mut g, x, from, to);
        g
    }
}

/// The fire modules behind `from` up to `to`, with the poolings before 2, 5 and 9.
fn fires(g: &mut Graph, mut x: Value, from: Layer, to: Layer) {
    for number in from.number() + 1..=to.number() {
        if [2, 5, 9].contains(&number) {
            x = g.max_pool(x);
        }
        x = squeeze::fire(g, x, number.into());
    }
}
