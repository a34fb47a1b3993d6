//! The three convolutions, which are each other's gradients.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use candle_core::{Result, Shape, Tensor, bail};

use super::{Back, ChannelSums, Grads, Made, Operation, Values, act::before_act};
use crate::net::{
    engine::{
        kernels,
        onednn::{self, Packs},
        portable,
    },
    graph::{Act, Window},
};

/// How a convolution's window moves, and in which numbers its products are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Geometry {
    /// The window.
    pub window: Window,
    /// Groups of channels.
    pub groups: usize,
    /// Whether the products are of bf16 numbers (sums and results stay f32).
    pub bf16: bool,
}

impl Geometry {
    /// oneDNN's sizes of the convolution from `[n, h, w, inputs]` to `outputs` channels.
    fn shape(&self, (n, h, w, inputs): kernels::Size, outputs: usize) -> onednn::Shape {
        let Self { window, groups, .. } = *self;
        onednn::Shape {
            n,
            h,
            w,
            inputs,
            outputs,
            window,
            groups,
        }
    }
}

/// What oneDNN made, or `None` where it is not there or lacks the shape.
fn by_onednn(
    values: std::result::Result<Vec<f32>, String>,
    shape: impl Into<Shape>,
) -> Result<Option<Made>> {
    if let (Err(why), Ok(_)) = (&values, onednn::version()) {
        let mut lacking = LACKING.lock().unwrap_or_else(|e| e.into_inner());
        lacking.insert(why.clone());
    }
    Ok(values.ok().map(|values| (values, shape.into())))
}

/// Why candle's own convolutions did what oneDNN should have done, since [`take_lacking`] was last asked.
static LACKING: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// A sentence for the user where oneDNN is there but lacked convolutions, which candle's own did instead.
pub fn take_lacking() -> Option<String> {
    let mut lacking = LACKING.lock().unwrap_or_else(|e| e.into_inner());
    let all = std::mem::take(&mut *lacking);
    let first = all.first()?;
    Some(format!(
        "{} kinds of convolutions are not in oneDNN for this CPU and run on candle's own, slower; the first: {first}",
        all.len()
    ))
}

/// Convolution, bias, activation: inputs x `[N, H, W, I]`, weight `[O, I / groups, k, k]` and, where there is one,
/// bias `[O]`.
#[derive(Clone, Debug)]
pub struct Conv {
    /// The window.
    pub geometry: Geometry,
    /// What follows.
    pub act: Act,
    /// Where the weights are kept packed; only for weights that stay as and where they are for as long as that lives.
    pub packs: Option<Arc<Packs>>,
}

impl Operation for Conv {
    const NAME: &'static str = "conv";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let [x, weight, bias @ ..] = inputs else {
            bail!("a convolution has a picture and a weight")
        };
        let bias = bias.first().map(|b| b.data);
        let shape = self.geometry.shape(x.size()?, weight.dims[0]);
        let fuses = onednn::fuses(self.act);
        let act = if fuses { self.act } else { Act::None };
        let (bf16, packs) = (self.geometry.bf16, self.packs.as_deref());
        let made = onednn::forward(x.data, weight.data, bias, shape, act, bf16, packs);
        let made = made.map(|mut y| {
            if !fuses {
                kernels::act_in_place(&mut y, self.act);
            }
            y
        });
        let count = |side| self.geometry.window.count(side);
        by_onednn(
            made,
            (shape.n, count(shape.h), count(shape.w), shape.outputs),
        )
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let y = portable::conv(inputs[0], inputs[1], self.geometry)?;
        portable::bias_act(&y, inputs.get(2).copied(), self.act)
    }

    #[cfg(feature = "cudnn")]
    fn cuda(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let y = crate::net::engine::cuda::conv(inputs[0], inputs[1], self.geometry)?;
        portable::bias_act(&y, inputs.get(2).copied(), self.act)
    }

    fn backward(&self, back: &Back) -> Result<Grads> {
        let Back {
            inputs,
            output: y,
            grad,
            wanted,
            run,
        } = *back;
        let (x, weight, geometry) = (inputs[0], inputs[1], self.geometry);
        let grad = before_act(self.act, y, grad, run)?;
        let (_, h, w, _) = x.dims4()?;
        let mut grads = vec![None; inputs.len()];
        if wanted[0] {
            let data = ConvData {
                geometry,
                size: (h, w),
                packs: self.packs.clone(),
            };
            grads[0] = Some(run.apply(data, &[&grad, weight])?);
        }
        if wanted[1] {
            grads[1] = Some(run.apply(ConvWeights { geometry }, &[x, &grad])?);
        }
        if wanted.get(2) == Some(&true) {
            grads[2] = Some(run.apply(ChannelSums, &[&grad])?);
        }
        Ok(grads)
    }
}

/// Gradient of a convolution with respect to its picture, which is also the transposed convolution: inputs grad
/// `[N, H', W', O]` and weight `[O, I / groups, k, k]`, result `[N, H, W, I]`.
#[derive(Clone, Debug)]
pub struct ConvData {
    /// The convolution's window.
    pub geometry: Geometry,
    /// The picture's height and width.
    pub size: (usize, usize),
    /// As for [`Conv`].
    pub packs: Option<Arc<Packs>>,
}

impl Operation for ConvData {
    const NAME: &'static str = "conv-data";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let (grad, weight) = (&inputs[0], &inputs[1]);
        let (n, oh, ow, outputs) = grad.size()?;
        let inputs = weight.dims[1] * self.geometry.groups;
        let size = (n, self.size.0, self.size.1, inputs);
        let shape = self.geometry.shape(size, outputs);
        let window = self.geometry.window;
        if (window.count(self.size.0), window.count(self.size.1)) != (oh, ow) {
            bail!(
                "a gradient of {oh} x {ow} does not come from {:?}",
                self.size
            )
        }
        let (bf16, packs) = (self.geometry.bf16, self.packs.as_deref());
        let made = onednn::backward_data(grad.data, weight.data, shape, bf16, packs);
        by_onednn(made, size)
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        portable::conv_data(inputs[0], inputs[1], self.geometry, self.size)
    }

    #[cfg(feature = "cudnn")]
    fn cuda(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        crate::net::engine::cuda::conv_data(inputs[0], inputs[1], self.geometry, self.size)
    }

    fn backward(&self, back: &Back) -> Result<Grads> {
        let Back {
            inputs,
            grad,
            wanted,
            run,
            ..
        } = *back;
        let geometry = self.geometry;
        let conv = Conv {
            geometry,
            act: Act::None,
            packs: self.packs.clone(),
        };
        let back = |_| run.apply(conv, &[grad, inputs[1]]);
        let weights = |_| run.apply(ConvWeights { geometry }, &[grad, inputs[0]]);
        Ok(vec![
            wanted[0].then_some(()).map(back).transpose()?,
            wanted[1].then_some(()).map(weights).transpose()?,
        ])
    }
}

/// Gradient of a convolution with respect to its weights: inputs x `[N, H, W, I]` and grad `[N, H', W', O]`, result
/// `[O, I / groups, k, k]`.
#[derive(Clone, Debug)]
pub struct ConvWeights {
    /// The convolution's window.
    pub geometry: Geometry,
}

impl Operation for ConvWeights {
    const NAME: &'static str = "conv-weights";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let (x, grad) = (&inputs[0], &inputs[1]);
        let Geometry {
            window,
            groups,
            bf16,
        } = self.geometry;
        let shape = self.geometry.shape(x.size()?, grad.size()?.3);
        let dims = (
            shape.outputs,
            shape.inputs / groups,
            window.size,
            window.size,
        );
        if window.size == 5
            && let Some(dw) = kernels::depthwise_weights(x.data, grad.data, shape)
        {
            return Ok(Some((dw, dims.into())));
        }
        by_onednn(
            onednn::backward_weights(x.data, grad.data, shape, bf16),
            dims,
        )
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        portable::conv_weights(inputs[0], inputs[1], self.geometry)
    }

    #[cfg(feature = "cudnn")]
    fn cuda(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        crate::net::engine::cuda::conv_weights(inputs[0], inputs[1], self.geometry)
    }

    fn backward(&self, back: &Back) -> Result<Grads> {
        let Back {
            inputs,
            grad,
            wanted,
            run,
            ..
        } = *back;
        let (_, h, w, _) = inputs[0].dims4()?;
        let data = ConvData {
            geometry: self.geometry,
            size: (h, w),
            packs: None,
        };
        let conv = Conv {
            geometry: self.geometry,
            act: Act::None,
            packs: None,
        };
        let data = |_| run.apply(data, &[inputs[1], grad]);
        let forward = |_| run.apply(conv, &[inputs[0], grad]);
        Ok(vec![
            wanted[0].then_some(()).map(data).transpose()?,
            wanted[1].then_some(()).map(forward).transpose()?,
        ])
    }
}
