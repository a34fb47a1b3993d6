//! How likely a choice of bins makes the truth.

use candle_core::{Result, Tensor, bail};

use super::{Back, Grads, Made, Operation, Values};
use crate::{
    color::AB_SCALE,
    net::engine::{
        portable,
        softmax::{self, Target},
    },
};

/// Cross-entropy with the soft encoding of the true colour in its nearest bins ([`crate::net::bins::soft`]): logits
/// `[N, H, W, Q]` and truth `[N, H, W, 2]` in network units to the loss of each pixel, `[N, H, W, 1]`. The truth has no
/// gradient.
#[derive(Clone, Debug)]
pub struct CrossEntropy {
    /// The bins `[Q, 2]`, CIE units.
    bins: Tensor,
    /// A weight for each bin, `[Q]`.
    weights: Option<Tensor>,
}

impl CrossEntropy {
    /// Over `bins` `[Q, 2]`, CIE units. With `weights` `[Q]` a pixel's loss is multiplied by that of the bin nearest to
    /// its truth ([`crate::net::bins::rebalanced`]).
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn new(bins: &Tensor, weights: Option<&Tensor>) -> Result<Self> {
        let (count, _) = bins.dims2()?;
        if let Some(weights) = weights.filter(|w| w.dims() != [count]) {
            bail!("weights {:?} for {count} bins", weights.dims())
        }
        Ok(Self {
            bins: bins.detach(),
            weights: weights.map(Tensor::detach),
        })
    }

    /// `f` of the target and the sizes of the logits.
    fn with_target<T>(&self, f: impl FnOnce(Target) -> T) -> Result<T> {
        let bins = self.bins.flatten_all()?.to_vec1::<f32>()?;
        let weights = self.weights.as_ref().map(Tensor::to_vec1).transpose()?;
        Ok(f(Target {
            bins: bins.as_chunks::<2>().0,
            scale: AB_SCALE,
            weights: weights.as_deref(),
        }))
    }
}

impl Operation for CrossEntropy {
    const NAME: &'static str = "cross-entropy";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let (z, truth) = (&inputs[0], &inputs[1]);
        let (n, h, w, _) = z.size()?;
        let loss = |target: Target| softmax::cross_entropy(z.data, truth.data, target);
        Ok(Some((self.with_target(loss)?, (n, h, w, 1).into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        portable::cross_entropy(inputs[0], inputs[1], &self.bins, self.weights.as_ref())
    }

    fn backward(&self, back: &Back) -> Result<Grads> {
        let Back {
            inputs, grad, run, ..
        } = *back;
        let (z, truth) = (inputs[0].detach(), inputs[1].detach());
        let dz = run.apply(CrossEntropyGrad(self.clone()), &[&z, &truth, grad])?;
        Ok(vec![Some(dz), None])
    }
}

/// Gradient of [`CrossEntropy`]: inputs the logits, the truth and the gradient `[N, H, W, 1]`.
#[derive(Clone, Debug)]
struct CrossEntropyGrad(CrossEntropy);

impl Operation for CrossEntropyGrad {
    const NAME: &'static str = "cross-entropy-grad";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let (z, truth, grad) = (&inputs[0], &inputs[1], &inputs[2]);
        let dz =
            |target: Target| softmax::cross_entropy_grad(z.data, truth.data, grad.data, target);
        Ok(Some((self.0.with_target(dz)?, z.dims.into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let (z, truth, grad, op) = (inputs[0], inputs[1], inputs[2], &self.0);
        portable::cross_entropy_grad(z, truth, grad, &op.bins, op.weights.as_ref())
    }

    fn backward(&self, _: &Back) -> Result<Grads> {
        bail!("cross-entropy has no second derivative here")
    }
}
