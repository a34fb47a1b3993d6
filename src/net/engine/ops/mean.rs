//! The mean over a picture, and one sample for a whole picture.

use candle_core::{Result, Tensor};

use super::{Back, Grads, Made, Operation, Values};
use crate::net::engine::kernels;

/// Mean over the picture: `[N, H, W, C]` to `[N, 1, 1, C]`.
#[derive(Clone, Debug)]
pub struct Mean;

impl Operation for Mean {
    const NAME: &'static str = "mean";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let size @ (n, _, _, c) = inputs[0].size()?;
        let made = kernels::mean(inputs[0].data, size);
        Ok(Some((made, (n, 1, 1, c).into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        inputs[0].mean_keepdim((1, 2))
    }

    fn backward(&self, back: &Back) -> Result<Grads> {
        let Back {
            inputs, grad, run, ..
        } = *back;
        let (_, h, w, _) = inputs[0].dims4()?;
        let factor = 1. / (h * w) as f32;
        let spread = Spread {
            size: (h, w),
            factor,
        };
        Ok(vec![Some(run.apply(spread, &[grad])?)])
    }
}

/// One sample for a whole picture, times a factor: `[N, 1, 1, C]` to `[N, H, W, C]`.
#[derive(Clone, Debug)]
struct Spread {
    size: (usize, usize),
    factor: f32,
}

impl Operation for Spread {
    const NAME: &'static str = "spread";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let (n, _, _, c) = inputs[0].size()?;
        let (h, w) = self.size;
        let made = kernels::spread(inputs[0].data, c, h * w, self.factor);
        Ok(Some((made, (n, h, w, c).into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let (n, _, _, c) = inputs[0].dims4()?;
        let (h, w) = self.size;
        let all = inputs[0].affine(f64::from(self.factor), 0.)?;
        all.broadcast_as((n, h, w, c))?.contiguous()
    }

    fn backward(&self, back: &Back) -> Result<Grads> {
        let Back { grad, run, .. } = *back;
        let sums = f64::from(self.factor) * (self.size.0 * self.size.1) as f64;
        Ok(vec![Some(run.apply(Mean, &[grad])?.affine(sums, 0.)?)])
    }
}
