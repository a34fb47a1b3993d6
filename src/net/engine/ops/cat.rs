//! Joining channels and taking some of them.

use candle_core::{Result, Tensor, bail};

use super::{Back, Grads, Made, Operation, Values};
use crate::net::engine::kernels;

/// Channels of a, then of b: inputs `[N, H, W, A]` and `[N, H, W, B]`.
#[derive(Clone, Debug)]
pub struct Cat;

impl Operation for Cat {
    const NAME: &'static str = "cat";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let (a, b) = (&inputs[0], &inputs[1]);
        let ((n, h, w, ca), (_, _, _, cb)) = (a.size()?, b.size()?);
        if a.data.len() * cb != b.data.len() * ca {
            bail!("pictures of {:?} and {:?} cannot be joined", a.dims, b.dims)
        }
        let y = kernels::cat(a.data, ca, b.data, cb);
        Ok(Some((y, (n, h, w, ca + cb).into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        Tensor::cat(inputs, 3)
    }

    fn backward(&self, back: &Back) -> Result<Grads> {
        let Back {
            inputs,
            grad,
            wanted,
            run,
            ..
        } = *back;
        let (a, b) = (inputs[0].dim(3)?, inputs[1].dim(3)?);
        let part = |wanted: bool, first, count| match wanted {
            true => run.apply(Slice { first, count }, &[grad]).map(Some),
            false => Ok(None),
        };
        Ok(vec![part(wanted[0], 0, a)?, part(wanted[1], a, b)?])
    }
}

/// `count` channels from `first` on.
#[derive(Clone, Debug)]
pub struct Slice {
    /// The first.
    pub first: usize,
    /// How many.
    pub count: usize,
}

impl Operation for Slice {
    const NAME: &'static str = "slice";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let (n, h, w, c) = inputs[0].size()?;
        let made = kernels::slice(inputs[0].data, c, self.first, self.count);
        Ok(Some((made, (n, h, w, self.count).into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        inputs[0].narrow(3, self.first, self.count)?.contiguous()
    }

    fn backward(&self, back: &Back) -> Result<Grads> {
        let Back {
            inputs, grad, run, ..
        } = *back;
        let Self { first, count } = *self;
        let channels = inputs[0].dim(3)?;
        let back = Unslice {
            first,
            count,
            channels,
        };
        Ok(vec![Some(run.apply(back, &[grad])?)])
    }
}

/// Zeros with the input as the channels from `first` on: the gradient of [`Slice`].
#[derive(Clone, Debug)]
struct Unslice {
    first: usize,
    count: usize,
    channels: usize,
}

impl Operation for Unslice {
    const NAME: &'static str = "unslice";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let (n, h, w, count) = inputs[0].size()?;
        let made = kernels::unslice(inputs[0].data, self.channels, self.first, count);
        Ok(Some((made, (n, h, w, self.channels).into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let after = self.channels - self.first - self.count;
        inputs[0].pad_with_zeros(3, self.first, after)
    }

    fn backward(&self, back: &Back) -> Result<Grads> {
        let Back { grad, run, .. } = *back;
        let Self { first, count, .. } = *self;
        Ok(vec![Some(run.apply(Slice { first, count }, &[grad])?)])
    }
}
