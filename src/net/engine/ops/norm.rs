//! Normalisation by the input's own statistics or by fixed ones.

use candle_core::{Result, Tensor, bail};

use super::{Back, Grads, Made, Operation, Values, evaluate};
use crate::net::{
    engine::{
        kernels::{self, Scaled},
        portable,
    },
    graph::Act,
};

/// Mean and variance for a [`Norm`].
#[derive(Clone, Debug)]
pub struct Statistics {
    /// `[2, parts, groups]`: the means, then the biased variances.
    pub moments: Tensor,
    /// Added to the variance.
    pub eps: f32,
    /// Samples that each is taken over; `None` where they are not the input's own but fixed.
    pub samples: Option<usize>,
}

impl Statistics {
    /// Statistics of `x` `[N, H, W, C]`: of each channel over the batch, or, with `groups`, of each group of channels
    /// of each sample.
    ///
    /// # Errors
    /// Out of memory.
    pub fn of(x: &Tensor, groups: Option<usize>, eps: f32) -> Result<Self> {
        let (n, _, _, c) = x.dims4()?;
        let (parts, groups) = groups.map_or((1, c), |groups| (n, groups));
        Ok(Self {
            moments: evaluate(&Moments { parts, groups }, &[x])?,
            eps,
            samples: Some(x.elem_count() / (parts * groups)),
        })
    }

    /// Fixed statistics of each channel.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn fixed(mean: &Tensor, variance: &Tensor, eps: f32) -> Result<Self> {
        let moments = Tensor::stack(&[mean.detach(), variance.detach()], 0)?.unsqueeze(1)?;
        Ok(Self {
            moments,
            eps,
            samples: None,
        })
    }

    /// For each channel of each part: the mean, and 1 / sqrt(variance + eps); `parts * c` each.
    fn of_channels(&self, c: usize) -> Result<(Vec<f32>, Vec<f32>)> {
        let (_, parts, groups) = self.moments.dims3()?;
        let all = self.moments.flatten_all()?.to_vec1::<f32>()?;
        let (means, variances) = all.split_at(parts * groups);
        let spread = |values: &[f32], f: &dyn Fn(f32) -> f32| {
            let repeated = values
                .iter()
                .flat_map(|v| std::iter::repeat_n(f(*v), c / groups));
            repeated.collect::<Vec<f32>>()
        };
        let inverse = |v: f32| 1. / (v + self.eps).sqrt();
        Ok((spread(means, &|v| v), spread(variances, &inverse)))
    }
}

/// Means and biased variances: `[N, H, W, C]` to `[2, parts, groups]`. Their gradient is part of [`Norm`]'s.
#[derive(Clone, Debug)]
struct Moments {
    parts: usize,
    groups: usize,
}

impl Operation for Moments {
    const NAME: &'static str = "moments";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let c = inputs[0].size()?.3;
        let made = kernels::moments(inputs[0].data, self.parts, c, self.groups);
        Ok(Some((made, (2, self.parts, self.groups).into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        portable::moments(inputs[0], self.parts, self.groups)
    }

    fn backward(&self, _: &Back) -> Result<Grads> {
        bail!("moments are differentiated by their norm")
    }
}

/// Normalisation by the statistics of its own input or by fixed ones, scale, shift, activation: inputs x
/// `[N, H, W, C]`, weight `[C]`, bias `[C]`. Where the statistics are the input's, its gradient counts that they move
/// with it (Ioffe & Szegedy 2015).
#[derive(Clone, Debug)]
pub struct Norm {
    /// Which mean and variance.
    pub statistics: Statistics,
    /// What follows.
    pub act: Act,
}

impl Norm {
    /// Statistics, weight and bias as one factor and one shift.
    fn scaled(&self, weight: &[f32], bias: &[f32]) -> Result<Scaled> {
        let (mean, inverse) = self.statistics.of_channels(weight.len())?;
        let weights = weight.iter().cycle();
        let scale: Vec<f32> = inverse.iter().zip(weights).map(|(i, w)| i * w).collect();
        let terms = bias.iter().cycle().zip(mean.iter().zip(&scale));
        let shift = terms.map(|(b, (m, s))| b - m * s).collect();
        Ok(Scaled {
            mean,
            scale,
            shift,
            act: self.act,
        })
    }

    /// The factors a, b, d `[3, parts, C]` of the input's gradient `grad * a + x * b + d`: with
    /// x^ = (x - mean) * inverse and g = grad * weight it is `inverse * (g - mean(g) - x^ * mean(g * x^))`, the means
    /// over what the statistics are of. `sums` are those of [`NormSums`].
    fn factors(&self, sums: &[f32], weight: &Tensor) -> Result<Tensor> {
        let (_, parts, groups) = self.statistics.moments.dims3()?;
        let c = weight.elem_count();
        let (mean, inverse) = self.statistics.of_channels(c)?;
        let weights = weight.to_vec1::<f32>()?;
        let each = c / groups;
        let (mut a, mut b, mut d) = (Vec::new(), Vec::new(), Vec::new());
        for (part, sums) in sums.chunks_exact(2 * c).enumerate() {
            for group in 0..groups {
                let channels = group * each..(group + 1) * each;
                let at = part * c + channels.start;
                let (mean, inverse) = (mean[at], inverse[at]);
                let total = |sums: &[f32]| -> f32 {
                    let products = channels.clone().map(|i| weights[i] * sums[i]);
                    products.sum()
                };
                let (g, slope) = match self.statistics.samples {
                    None => (0., 0.),
                    Some(samples) => {
                        let (g, gx) = (total(sums), total(&sums[c..]));
                        (g / samples as f32, inverse * inverse * gx / samples as f32)
                    }
                };
                a.extend(channels.clone().map(|i| inverse * weights[i]));
                b.extend(channels.clone().map(|_| -inverse * slope));
                d.extend(channels.map(|_| inverse * (slope * mean - g)));
            }
        }
        a.extend(b);
        a.extend(d);
        Tensor::from_vec(a, (3, parts, c), weight.device())
    }
}

impl Operation for Norm {
    const NAME: &'static str = "norm";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let (x, weight, bias) = (&inputs[0], &inputs[1], &inputs[2]);
        let scaled = self.scaled(weight.data, bias.data)?;
        let made = kernels::affine(x.data, x.size()?.3, &scaled.scale, &scaled.shift, self.act);
        Ok(Some((made, x.dims.into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let y = portable::norm(inputs, &self.statistics)?;
        portable::bias_act(&y, None, self.act)
    }

    fn backward(&self, back: &Back) -> Result<Grads> {
        let Back { inputs, grad, .. } = *back;
        if grad.track_op() {
            bail!(
                "a normalisation has no second derivative here: take none in the critic of WGAN-GP"
            )
        }
        let (x, weight) = (inputs[0], inputs[1]);
        let c = x.dim(3)?;
        let (_, inverse) = self.statistics.of_channels(c)?;
        let scaled = self.scaled(&weight.to_vec1()?, &inputs[2].to_vec1()?)?;
        let sums = evaluate(&NormSums(scaled.clone()), &[x, grad])?; // [parts, 2, C]
        let sums = sums.flatten_all()?.to_vec1::<f32>()?;
        let factors = self.factors(&sums, weight)?;
        let dx = evaluate(&NormData(scaled), &[x, grad, &factors])?;
        let (mut dw, mut db) = (vec![0f32; c], vec![0f32; c]);
        for (sums, inverse) in sums.chunks_exact(2 * c).zip(inverse.chunks_exact(c)) {
            for i in 0..c {
                db[i] += sums[i];
                dw[i] += sums[c + i] * inverse[i];
            }
        }
        let row = |values: Vec<f32>| Tensor::from_vec(values, c, x.device());
        Ok(vec![Some(dx), Some(row(dw)?), Some(row(db)?)])
    }
}

/// `[parts, C]` numbers to multiply or add to a picture seen as `[parts, rows, C]`.
fn rows(values: &[f32], parts: usize, like: &Tensor) -> Result<Tensor> {
    Tensor::from_slice(values, (parts, 1, values.len() / parts), like.device())
}

/// For a norm's gradient: of each channel of each part the sum of the gradient before the activation and of its
/// product with x less the mean; inputs x and the gradient after the activation, result `[parts, 2, C]`.
#[derive(Clone, Debug)]
struct NormSums(Scaled);

/// x and the gradient before the activation, as `[parts, rows, C]`.
fn unscaled(scaled: &Scaled, x: &Tensor, grad: &Tensor) -> Result<(Tensor, Tensor)> {
    let c = x.dim(3)?;
    let parts = scaled.mean.len() / c;
    let (x, grad) = (x.reshape((parts, (), c))?, grad.reshape((parts, (), c))?);
    let v = x.broadcast_mul(&rows(&scaled.scale, parts, &x)?)?;
    let v = v.broadcast_add(&rows(&scaled.shift, parts, &x)?)?;
    let y = portable::bias_act(&v, None, scaled.act)?;
    let grad = portable::act_grad(&y, &grad, scaled.act)?;
    Ok((x, grad))
}

impl Operation for NormSums {
    const NAME: &'static str = "norm-sums";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let c = inputs[0].size()?.3;
        let made = kernels::norm_sums(inputs[0].data, inputs[1].data, &self.0, c);
        Ok(Some((made, (self.0.mean.len() / c, 2, c).into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let (x, grad) = unscaled(&self.0, inputs[0], inputs[1])?;
        let centred = x.broadcast_sub(&rows(&self.0.mean, x.dim(0)?, &x)?)?;
        Tensor::stack(&[grad.sum(1)?, (&grad * centred)?.sum(1)?], 1)
    }

    fn backward(&self, _: &Back) -> Result<Grads> {
        bail!("a normalisation has no second derivative here")
    }
}

/// For a norm's gradient: `g * a + x * b + d` with g the gradient before the activation; inputs x, the gradient after
/// it `[N, H, W, C]` and factors `[3, parts, C]`.
#[derive(Clone, Debug)]
struct NormData(Scaled);

impl Operation for NormData {
    const NAME: &'static str = "norm-data";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let (x, grad, factors) = (&inputs[0], &inputs[1], inputs[2].data);
        let made = kernels::norm_data(x.data, grad.data, &self.0, x.size()?.3, factors);
        Ok(Some((made, x.dims.into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let (x, grad) = unscaled(&self.0, inputs[0], inputs[1])?;
        let factor = |i: usize| inputs[2].get(i)?.unsqueeze(1);
        let y = (grad.broadcast_mul(&factor(0)?)? + x.broadcast_mul(&factor(1)?)?)?;
        y.broadcast_add(&factor(2)?)?.reshape(inputs[0].shape())
    }

    fn backward(&self, _: &Back) -> Result<Grads> {
        bail!("a normalisation has no second derivative here")
    }
}
