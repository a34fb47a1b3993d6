//! Pooling, its gradient, and the gradient of that.

use candle_core::{Result, Tensor};

use super::{Back, Grads, Made, Operation, Values};
use crate::net::engine::{kernels, portable};

/// SqueezeNet's pooling, see [`crate::net::graph::Op::MaxPool`]: `[N, H, W, C]` to `[N, H / 2, W / 2, C]`.
#[derive(Clone, Debug)]
pub struct MaxPool;

impl Operation for MaxPool {
    const NAME: &'static str = "max-pool";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let size @ (n, h, w, c) = inputs[0].size()?;
        let mut y = vec![0.; n * (h / 2) * (w / 2) * c];
        kernels::max_pool(inputs[0].data, size, &mut y);
        Ok(Some((y, (n, h / 2, w / 2, c).into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        portable::max_pool(inputs[0])
    }

    fn backward(&self, back: &Back) -> Result<Grads> {
        let Back {
            inputs, grad, run, ..
        } = *back;
        // Which sample is the largest does not move with x.
        Ok(vec![Some(
            run.apply(MaxScatter, &[&inputs[0].detach(), grad])?,
        )])
    }
}

/// Each window's value to where its largest sample of x is: inputs x `[N, H, W, C]` and values
/// `[N, H / 2, W / 2, C]`, result as x.
#[derive(Clone, Debug)]
struct MaxScatter;

impl Operation for MaxScatter {
    const NAME: &'static str = "max-scatter";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let (x, grad) = (&inputs[0], &inputs[1]);
        let made = kernels::max_scatter(x.data, grad.data, x.size()?);
        Ok(Some((made, x.dims.into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        portable::max_scatter(inputs[0], inputs[1])
    }

    fn backward(&self, back: &Back) -> Result<Grads> {
        let Back {
            inputs, grad, run, ..
        } = *back;
        Ok(vec![None, Some(run.apply(MaxGather, &[inputs[0], grad])?)])
    }
}

/// What h has where each window's largest sample of x is: inputs x and h `[N, H, W, C]`.
#[derive(Clone, Debug)]
struct MaxGather;

impl Operation for MaxGather {
    const NAME: &'static str = "max-gather";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let size @ (n, h, w, c) = inputs[0].size()?;
        let made = kernels::max_gather(inputs[0].data, inputs[1].data, size);
        Ok(Some((made, (n, h / 2, w / 2, c).into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        portable::max_gather(inputs[0], inputs[1])
    }

    fn backward(&self, back: &Back) -> Result<Grads> {
        let Back {
            inputs, grad, run, ..
        } = *back;
        Ok(vec![None, Some(run.apply(MaxScatter, &[inputs[0], grad])?)])
    }
}
