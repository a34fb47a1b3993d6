//! The colour of a choice of bins.

use candle_core::{Result, Tensor, bail};

use super::{Back, Grads, Made, Operation, Values};
use crate::{
    color::AB_SCALE,
    net::{
        bins::Decoding,
        engine::{
            portable,
            softmax::{self, Palette},
        },
    },
};

/// The annealed mean (Zhang et al. 2016, section 2.3) with the bins' frequency taken out, then calmed: logits `[N, H, W, Q]` to ab
/// `[N, H, W, 2]`, `softmax((z - k log p) / T)` times the bins. Bins and frequencies are constants.
#[derive(Clone, Debug)]
pub struct Decode {
    /// The bins `[Q, 2]`, network units.
    bins: Tensor,
    /// What is taken off the logits, `[Q]`.
    offset: Tensor,
    decoding: Decoding,
}

impl Decode {
    /// Of `bins` `[Q, 2]` in CIE units and their frequencies `[Q]`.
    ///
    /// # Errors
    /// Shapes that do not fit, out of memory.
    pub fn new(bins: &Tensor, prior: &Tensor, decoding: &Decoding) -> Result<Self> {
        let offset = decoding.offset(&prior.to_vec1()?);
        Ok(Self {
            bins: (bins.detach() / f64::from(AB_SCALE))?,
            offset: Tensor::from_vec(offset, bins.dim(0)?, bins.device())?,
            decoding: *decoding,
        })
    }

    /// As the plain loops want it.
    fn palette(&self) -> Result<Palette> {
        let bins = self.bins.flatten_all()?.to_vec1()?;
        Ok(Palette::new(&bins, &self.offset.to_vec1()?, &self.decoding))
    }
}

impl Operation for Decode {
    const NAME: &'static str = "decode";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let ((n, h, w, count), palette) = (inputs[0].size()?, self.palette()?);
        let mut ab = vec![0.; n * h * w * 2];
        let mut room = vec![0.; softmax::padded(count)];
        softmax::decode(inputs[0].data, &palette, &mut room, &mut ab);
        Ok(Some((ab, (n, h, w, 2).into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        portable::decode(inputs[0], &self.bins, &self.offset, &self.decoding)
    }

    fn backward(&self, back: &Back) -> Result<Grads> {
        let Back {
            inputs, grad, run, ..
        } = *back;
        if self.decoding.calm > 0 {
            bail!("calmed colours have no gradient here");
        }
        let dz = run.apply(DecodeGrad(self.clone()), &[&inputs[0].detach(), grad])?;
        Ok(vec![Some(dz)])
    }
}

/// Gradient of [`Decode`]: inputs the logits and the gradient `[N, H, W, 2]`.
#[derive(Clone, Debug)]
struct DecodeGrad(Decode);

impl Operation for DecodeGrad {
    const NAME: &'static str = "decode-grad";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let (z, grad) = (&inputs[0], &inputs[1]);
        let dz = softmax::decode_grad(z.data, grad.data, &self.0.palette()?);
        Ok(Some((dz, z.dims.into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let (z, grad, op) = (inputs[0], inputs[1], &self.0);
        portable::decode_grad(z, grad, &op.bins, &op.offset, op.decoding.temperature)
    }

    fn backward(&self, _: &Back) -> Result<Grads> {
        bail!("the mean colour of bins has no second derivative here")
    }
}
