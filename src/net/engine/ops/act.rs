//! Bias and activation, and sums of channels.

use candle_core::{Result, Tensor, bail};

use super::{Back, Grads, Made, Operation, Run, Values};
use crate::net::{
    engine::{kernels, portable},
    graph::Act,
};

/// Bias and activation: inputs x `[.., C]` and, where there is one, bias `[C]`.
#[derive(Clone, Debug)]
pub struct BiasAct(pub Act);

impl Operation for BiasAct {
    const NAME: &'static str = "bias-act";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let x = &inputs[0];
        let made = match inputs.get(1) {
            Some(bias) => kernels::bias_act(x.data, bias.data, self.0),
            None => {
                let mut y = x.data.to_vec();
                kernels::act_in_place(&mut y, self.0);
                y
            }
        };
        Ok(Some((made, x.dims.into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        portable::bias_act(inputs[0], inputs.get(1).copied(), self.0)
    }

    fn backward(&self, back: &Back) -> Result<Grads> {
        let Back {
            inputs,
            output: y,
            grad,
            wanted,
            run,
        } = *back;
        let grad = before_act(self.0, y, grad, run)?;
        let mut grads = vec![None; inputs.len()];
        if wanted.get(1) == Some(&true) {
            grads[1] = Some(run.apply(ChannelSums, &[&grad])?);
        }
        grads[0] = Some(grad);
        Ok(grads)
    }
}

/// Gradient before an activation: inputs its result y and the gradient after it.
#[derive(Clone, Debug)]
pub struct ActGrad(pub Act);

impl Operation for ActGrad {
    const NAME: &'static str = "act-grad";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let (y, grad) = (&inputs[0], &inputs[1]);
        let made = kernels::act_grad(y.data, grad.data, self.0);
        Ok(Some((made, y.dims.into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        portable::act_grad(inputs[0], inputs[1], self.0)
    }

    fn backward(&self, back: &Back) -> Result<Grads> {
        let Back {
            inputs,
            grad,
            wanted,
            run,
            ..
        } = *back;
        if self.0 == Act::Tanh && wanted[0] {
            bail!("tanh has no second derivative here")
        }
        let g = match wanted[1] {
            true => Some(before_act(self.0, inputs[0], grad, run)?),
            false => None,
        };
        Ok(vec![None, g])
    }
}

/// Sum of each channel: `[.., C]` to `[C]`.
#[derive(Clone, Debug)]
pub struct ChannelSums;

impl Operation for ChannelSums {
    const NAME: &'static str = "channel-sums";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let c = *inputs[0].dims.last().unwrap_or(&1);
        Ok(Some((kernels::channel_sums(inputs[0].data, c), c.into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        inputs[0].flatten_to(inputs[0].rank() - 2)?.sum(0)
    }

    fn backward(&self, back: &Back) -> Result<Grads> {
        let Back { inputs, grad, .. } = *back;
        Ok(vec![Some(
            grad.broadcast_as(inputs[0].shape())?.contiguous()?,
        )])
    }
}

/// The gradient before an activation whose result is `y`.
pub(super) fn before_act(act: Act, y: &Tensor, grad: &Tensor, run: Run) -> Result<Tensor> {
    match act {
        Act::None => Ok(grad.clone()),
        Act::Tanh => run.apply(ActGrad(act), &[y, grad]),
        // Piecewise linear: the slope does not move with y, and candle wants a gradient of all that it knows.
        Act::Leaky(_) | Act::Relu6 => run.apply(ActGrad(act), &[&y.detach(), grad]),
    }
}
