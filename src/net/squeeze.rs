//! A small generator on an ImageNet encoder: SqueezeNet v1.0 (Iandola et al. 2016, arXiv 1602.07360) without its
//! classifier, and a light decoder of our own with a head at a quarter of the input's size, where chroma loses
//! little (a quarter of 128 px costs 1.7 dE00).
//!
//! No normalisation anywhere: SqueezeNet has none, and the decoder is shallow enough to train without.

use std::collections::BTreeMap;

use candle_core::{Result as Candle, Tensor};
use rand_chacha::ChaCha8Rng;

use super::{
    Generator,
    layers::Conv,
    ops,
    ops::Window,
    params::{Init, Scope},
};
use crate::error::{Error, Result};

/// The decoder's channels at 1/16, 1/8 and 1/4 of the input.
const DECODER: [usize; 3] = [192, 128, 96];

/// How strong ImageNet SqueezeNet's features are, about.
const STRENGTH: f64 = 100.;

/// 1x1 "squeeze", then 1x1 and 3x3 "expand" side by side.
struct Fire {
    squeeze: Conv,
    expand1x1: Conv,
    expand3x3: Conv,
}

impl Fire {
    fn new(scope: &Scope, inputs: usize, squeeze: usize, expand: usize) -> Result<Self> {
        Ok(Self {
            squeeze: Conv::same(&scope.at("squeeze"), (inputs, squeeze), 1, 0.)?,
            expand1x1: Conv::same(&scope.at("expand1x1"), (squeeze, expand), 1, 0.)?,
            expand3x3: Conv::same(&scope.at("expand3x3"), (squeeze, expand), 3, 0.)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Candle<Tensor> {
        let x = self.squeeze.forward(x)?;
        Tensor::cat(
            &[self.expand1x1.forward(&x)?, self.expand3x3.forward(&x)?],
            0,
        )
    }
}

/// A decoder step: the coarser map doubled, joined with the encoder's, mixed by a 1x1 and a 3x3 convolution.
struct Join {
    mix: Conv,
    smooth: Conv,
}

impl Join {
    fn new(scope: &Scope, (coarse, skip, outputs): (usize, usize, usize)) -> Result<Self> {
        Ok(Self {
            mix: Conv::same(&scope.at("mix"), (coarse + skip, outputs), 1, 0.)?,
            smooth: Conv::same(&scope.at("smooth"), (outputs, outputs), 3, 0.)?,
        })
    }

    fn forward(&self, coarse: &Tensor, skip: &Tensor) -> Candle<Tensor> {
        let joined = Tensor::cat(&[&ops::repeat(coarse, 2)?, skip], 0)?;
        self.smooth.forward(&self.mix.forward(&joined)?)
    }
}

/// See the module's description.
pub struct Squeeze {
    conv1: Conv,
    fires: Vec<Fire>,
    bottom: Conv,
    global: Conv,
    joins: [Join; 2],
    head: Conv,
}

impl Squeeze {
    /// Builds the network under `scope`; the encoder's names are the original's (`conv1`, `fire2`, ...).
    pub fn new(scope: &Scope) -> Result<Self> {
        let stem = Window {
            size: 7,
            stride: 2,
            pad: 3,
        };
        let fire = |number: usize| {
            // Sizes of fire2 to fire9 (table 1 of the paper): expand grows by 128 every second module.
            let expand = 64 * (number / 2);
            let inputs = if number == 2 {
                96
            } else {
                128 * ((number - 1) / 2)
            };
            Fire::new(
                &scope.at(format!("fire{number}")),
                inputs,
                expand / 4,
                expand,
            )
        };
        let [low, mid, high] = DECODER;
        let decoder = scope.at("decoder");
        // tanh near 0 and a small first gradient: training starts from grey, not from noise.
        let head = Init::Normal(0., 0.01);
        let same3 = Window {
            size: 3,
            stride: 1,
            pad: 1,
        };
        Ok(Self {
            conv1: Conv::new(&scope.at("conv1"), (1, 96), stem, 0., Init::he(49))?,
            fires: (2..=9).map(fire).collect::<Result<_>>()?,
            bottom: Conv::same(&decoder.at("bottom"), (512, low), 3, 0.)?,
            global: Conv::same(&decoder.at("global"), (512, low), 1, 1.)?,
            joins: [
                Join::new(&decoder.at("join8"), (low, 512, mid))?,
                Join::new(&decoder.at("join4"), (mid, 256, high))?,
            ],
            head: Conv::new(&decoder.at("head"), (high, 2), same3, 1., head)?,
        })
    }
}

impl Generator for Squeeze {
    fn stride(&self) -> usize {
        16
    }

    fn forward(&self, l: &Tensor, _: Option<&mut ChaCha8Rng>) -> Candle<Tensor> {
        let stem = self.conv1.forward(l)?; // [96, N, H/2, W/2]
        let run = |x: Tensor, fires: &[Fire]| fires.iter().try_fold(x, |x, fire| fire.forward(&x));
        let quarter = run(ops::max_pool(&stem)?, &self.fires[..3])?; // [256, N, H/4, W/4]
        let eighth = run(ops::max_pool(&quarter)?, &self.fires[3..7])?; // [512, N, H/8, W/8]
        let deep = run(ops::max_pool(&eighth)?, &self.fires[7..])?; // [512, N, H/16, W/16]
        let mean = deep.mean_keepdim((2, 3))?; // [512, N, 1, 1]
        let low = self.bottom.forward(&deep)?;
        let low = low.broadcast_add(&self.global.forward(&mean)?)?; // [192, N, H/16, W/16]
        let mid = self.joins[0].forward(&low, &eighth)?; // [128, N, H/8, W/8]
        let high = self.joins[1].forward(&mid, &quarter)?; // [96, N, H/4, W/4]
        self.head.forward(&high)?.tanh() // [2, N, H/4, W/4]
    }
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
    let get = |name: &str| {
        weights.get(name).ok_or_else(|| {
            Error::model(
                name,
                "these are not the weights of SqueezeNet v1.0: this is missing",
            )
        })
    };
    let mut ours: BTreeMap<_, _> = weights
        .iter()
        .filter(|(name, _)| name.starts_with("fire"))
        .map(|(name, value)| {
            let divisor = if name.ends_with("bias") { STRENGTH } else { 1. };
            Ok((name.clone(), (value / divisor)?))
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
