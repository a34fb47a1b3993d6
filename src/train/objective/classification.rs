//! Cross-entropy over classes of colour (Zhang 2016, arXiv 1603.08511, section 2).

use candle_core::{D, DType, Result, Tensor};

/// Bins that a colour's soft class is spread over, and how widely, CIE units.
const NEAREST: usize = 5;
const SIGMA: f64 = 5.;

/// Classes of colour.
pub struct Classes {
    /// Their colours `[Q, 2]`, CIE units.
    pub bins: Tensor,
    /// How much each weighs when rare ones weigh more, `[Q]`; 1 on average over the colours of photographs.
    pub weights: Tensor,
}

impl Classes {
    /// Mean over pixels of `-sum_q t_q log softmax(z)_q`, of scores z `[N, h, w, Q]`, where t is the soft class of the
    /// truth `[N, h, w, 2]`.
    pub(super) fn cross_entropy(&self, logits: &Tensor, truth: &Tensor) -> Result<Tensor> {
        cross_entropies(logits, &self.encode(truth)?)?.mean_all()
    }

    /// The same with every pixel weighing as much as its nearest class does.
    pub(super) fn rebalanced_cross_entropy(
        &self,
        logits: &Tensor,
        truth: &Tensor,
    ) -> Result<Tensor> {
        let soft = self.encode(truth)?;
        let nearest = soft.classes.narrow(1, 0, 1)?.flatten_all()?;
        let weights = self.weights.index_select(&nearest, 0)?;
        (cross_entropies(logits, &soft)? * weights)?.mean_all()
    }

    /// The soft classes of colours: the [`NEAREST`] bins, nearest first, weighed by a Gaussian of their distance.
    fn encode(&self, truth: &Tensor) -> Result<Soft> {
        const CIE: f64 = crate::color::AB_SCALE as f64;
        let pairs = |t: &Tensor| t.detach().to_dtype(DType::F64)?.reshape(((), 2));
        let bins = pairs(&self.bins)?.to_vec2::<f64>()?;
        let (mut classes, mut shares) = (Vec::new(), Vec::new());
        for colour in (pairs(truth)? * CIE)?.to_vec2::<f64>()? {
            let near = nearest(&colour, &bins);
            // Relative to the nearest, or a colour far from every bin would divide 0 by 0.
            let first = near.first().map_or(0., |(d, _)| *d);
            let gauss = near
                .iter()
                .map(|(d, _)| ((first - d) / (2. * SIGMA * SIGMA)).exp());
            let gauss: Vec<f64> = gauss.collect();
            let sum: f64 = gauss.iter().sum();
            classes.extend(near.iter().map(|(_, class)| *class));
            shares.extend(gauss.iter().map(|g| g / sum));
        }
        let (device, shape) = (truth.device(), ((), NEAREST.min(bins.len())));
        Ok(Soft {
            classes: Tensor::new(classes, device)?.reshape(shape)?,
            shares: Tensor::new(shares, device)?
                .reshape(shape)?
                .to_dtype(truth.dtype())?,
        })
    }
}

/// Soft classes of P pixels, `[P, NEAREST]` each: which, and how much of each.
struct Soft {
    classes: Tensor,
    shares: Tensor,
}

/// Squared distances and numbers of the bins nearest to a colour, nearest first.
fn nearest(colour: &[f64], bins: &[Vec<f64>]) -> Vec<(f64, u32)> {
    let distance = |bin: &Vec<f64>| (colour[0] - bin[0]).powi(2) + (colour[1] - bin[1]).powi(2);
    let mut all: Vec<_> = bins.iter().map(distance).zip(0..).collect();
    let order = |a: &(f64, u32), b: &(f64, u32)| a.0.total_cmp(&b.0);
    if all.len() > NEAREST {
        all.select_nth_unstable_by(NEAREST, order);
        all.truncate(NEAREST);
    }
    all.sort_by(order);
    all
}

/// Cross-entropy of each pixel, `[P]`: as the shares sum to 1, `log sum_q e^(z_q) - sum_q t_q z_q`.
fn cross_entropies(logits: &Tensor, soft: &Soft) -> Result<Tensor> {
    let z = logits.flatten_to(2)?;
    let most = z.detach().max_keepdim(D::Minus1)?;
    let sums = z.broadcast_sub(&most)?.exp()?.sum(D::Minus1)?;
    let wanted = (z.gather(&soft.classes, 1)? * &soft.shares)?.sum(1)?;
    (sums.log()? + most.flatten_all()?)? - wanted
}
