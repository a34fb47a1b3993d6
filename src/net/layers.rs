//! The layers that networks are made of: each a struct of tensors, a builder from sizes and a [`Scope`], a forward.
//!
//! All take and give picture stacks `[C, N, H, W]` (see [`super::ops`]).

use candle_core::{Result as Candle, Tensor};

use super::{
    ops::{self, Window},
    params::{Init, Scope},
};
use crate::error::Result;

/// Convolution with bias and a (leaky) ReLU of its own.
pub struct Conv {
    weight: Tensor,
    bias: Tensor,
    window: Window,
    slope: f32,
}

impl Conv {
    /// `weight` is `[outputs, inputs, size, size]`. `slope`: 0 for ReLU, 0.2 for the usual leaky one, 1 for none.
    pub fn new(
        scope: &Scope,
        (inputs, outputs): (usize, usize),
        window: Window,
        slope: f32,
        init: Init,
    ) -> Result<Self> {
        let shape = [outputs, inputs, window.size, window.size];
        Ok(Self {
            weight: scope.get("weight", &shape, init)?,
            bias: scope.get("bias", &[outputs], Init::Constant(0.))?,
            window,
            slope,
        })
    }

    /// A convolution that keeps the size of the picture (odd `size`, stride 1), with He's initialisation.
    pub fn same(
        scope: &Scope,
        (inputs, outputs): (usize, usize),
        size: usize,
        slope: f32,
    ) -> Result<Self> {
        let window = Window {
            size,
            stride: 1,
            pad: size / 2,
        };
        let init = Init::he(inputs * size * size);
        Self::new(scope, (inputs, outputs), window, slope, init)
    }

    /// `[inputs, N, H, W]` to `[outputs, N, H', W']`.
    pub fn forward(&self, x: &Tensor) -> Candle<Tensor> {
        ops::bias_leaky(
            &ops::conv(x, &self.weight, self.window)?,
            &self.bias,
            self.slope,
        )
    }
}

/// Transposed convolution with bias: the picture grows by the window's stride.
pub struct ConvTranspose {
    weight: Tensor,
    bias: Tensor,
    window: Window,
}

impl ConvTranspose {
    /// `weight` is `[inputs, outputs, size, size]`, as in PyTorch.
    pub fn new(
        scope: &Scope,
        (inputs, outputs): (usize, usize),
        window: Window,
        init: Init,
    ) -> Result<Self> {
        let shape = [inputs, outputs, window.size, window.size];
        Ok(Self {
            weight: scope.get("weight", &shape, init)?,
            bias: scope.get("bias", &[outputs], Init::Constant(0.))?,
            window,
        })
    }

    /// `[inputs, N, H, W]` to `[outputs, N, span(H), span(W)]`.
    pub fn forward(&self, x: &Tensor) -> Candle<Tensor> {
        let y = ops::conv_transpose(x, &self.weight, self.window)?;
        ops::bias_leaky(&y, &self.bias, 1.)
    }
}

/// Group normalisation: each group of channels of each sample to mean 0 and variance 1, then scale and shift. Unlike
/// batch normalisation, a frame's colour does not depend on the frames beside it.
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
}

impl GroupNorm {
    const EPS: f64 = 1e-5;

    /// `groups` must divide `channels`. Weights are drawn from normal(1, 0.02) as in pix2pix.
    pub fn new(scope: &Scope, channels: usize, groups: usize) -> Result<Self> {
        Ok(Self {
            weight: scope.get("weight", &[channels], Init::Normal(1., 0.02))?,
            bias: scope.get("bias", &[channels], Init::Constant(0.))?,
            groups,
        })
    }

    /// `[C, N, H, W]` to the same.
    pub fn forward(&self, x: &Tensor) -> Candle<Tensor> {
        let (c, n, h, w) = x.dims4()?;
        let mean = |t: &Tensor| t.sum_keepdim((1, 3))? / (c / self.groups * h * w) as f64;
        let x = x.reshape((self.groups, c / self.groups, n, h * w))?;
        let x = x.broadcast_sub(&mean(&x)?)?;
        let variance = mean(&x.sqr()?)?;
        let x = x.broadcast_div(&(variance + Self::EPS)?.sqrt()?)?;
        let x = x.reshape((c, n, h, w))?;
        let scaled = x.broadcast_mul(&self.weight.reshape((c, 1, 1, 1))?)?;
        ops::bias_leaky(&scaled, &self.bias, 1.)
    }
}
