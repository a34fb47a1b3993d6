//! Sums of pictures, and masks.

use candle_core::{Result, Tensor, bail};

use super::{Back, Grads, Made, Mean, Operation, Values};
use crate::net::engine::kernels;

/// Sum: inputs a `[N, H, W, C]`, and b as a or `[N, 1, 1, C]`.
#[derive(Clone, Debug)]
pub struct Add;

impl Operation for Add {
    const NAME: &'static str = "add";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let (a, b) = (&inputs[0], &inputs[1]);
        let ((n, h, w, c), (_, bh, bw, _)) = (a.size()?, b.size()?);
        let mut y = a.data.to_vec();
        if n * bh * bw * c != b.data.len() || (bh, bw) != (1, 1) && (bh, bw) != (h, w) {
            bail!("pictures of {:?} and {:?} cannot be added", a.dims, b.dims)
        }
        let pictures = y.chunks_exact_mut(h * w * c);
        for (y, b) in pictures.zip(b.data.chunks_exact(bh * bw * c)) {
            kernels::add(y, b);
        }
        Ok(Some((y, a.dims.into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        inputs[0].broadcast_add(inputs[1])
    }

    fn backward(&self, back: &Back) -> Result<Grads> {
        let Back {
            inputs,
            grad,
            wanted,
            run,
            ..
        } = *back;
        let b = match inputs[0].dims() == inputs[1].dims() {
            _ if !wanted[1] => None,
            true => Some(grad.clone()),
            false => {
                let (_, h, w, _) = inputs[0].dims4()?;
                Some(run.apply(Mean, &[grad])?.affine((h * w) as f64, 0.)?)
            }
        };
        Ok(vec![Some(grad.clone()), b])
    }
}

/// Values times a mask of their shape, as dropout has it: one input.
#[derive(Clone, Debug)]
pub struct Mask(pub Tensor);

impl Operation for Mask {
    const NAME: &'static str = "mask";

    fn cpu(&self, _: &[Values]) -> Result<Option<Made>> {
        Ok(None)
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        inputs[0] * &self.0
    }

    fn backward(&self, back: &Back) -> Result<Grads> {
        let Back { grad, run, .. } = *back;
        Ok(vec![Some(run.apply(self.clone(), &[grad])?)])
    }
}
