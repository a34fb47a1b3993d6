//! Enlarging, and its gradient.

use candle_core::{Result, Tensor, bail};

use super::{Back, Grads, Made, Operation, Values};
use crate::net::engine::{kernels, portable};

/// Each sample as a block of so many by so many: `[N, H, W, C]` to `[N, factor * H, factor * W, C]`.
#[derive(Clone, Debug)]
pub struct Up(pub usize);

impl Operation for Up {
    const NAME: &'static str = "up";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let size @ (n, h, w, c) = inputs[0].size()?;
        let mut y = vec![0.; inputs[0].data.len() * self.0 * self.0];
        kernels::up(inputs[0].data, size, self.0, &mut y);
        Ok(Some((y, (n, h * self.0, w * self.0, c).into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        portable::up(inputs[0], self.0)
    }

    fn backward(&self, back: &Back) -> Result<Grads> {
        let Back { grad, run, .. } = *back;
        Ok(vec![Some(run.apply(BlockSum(self.0), &[grad])?)])
    }
}

/// Sum of each block: `[N, H, W, C]` to `[N, H / factor, W / factor, C]`. Each side must be a multiple.
#[derive(Clone, Debug)]
pub struct BlockSum(pub usize);

impl Operation for BlockSum {
    const NAME: &'static str = "block-sum";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let size @ (n, h, w, c) = inputs[0].size()?;
        if h % self.0 != 0 || w % self.0 != 0 {
            bail!("{h} x {w} samples are not blocks of {0} x {0}", self.0)
        }
        let made = kernels::block_sum(inputs[0].data, size, self.0);
        Ok(Some((made, (n, h / self.0, w / self.0, c).into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        portable::block_sum(inputs[0], self.0)
    }

    fn backward(&self, back: &Back) -> Result<Grads> {
        let Back { grad, run, .. } = *back;
        Ok(vec![Some(run.apply(Up(self.0), &[grad])?)])
    }
}
