//! The classes of colour that a network chooses from, and how frequent each is.

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use crate::{
    color::AB_SCALE,
    error::Result,
    net::{
        Decoding, Said,
        checkpoint::Checkpoint,
        engine::softmax::{Palette, exp},
    },
};

/// The name of the frequencies among the tensors of a model.
pub const PRIOR: &str = "head.prior";

/// Bins and their frequencies, as they stand in a model's file.
#[derive(Debug)]
pub struct Classes {
    /// a and b of each, network units.
    bins: Vec<f32>,
    /// Frequencies; numbers that the file can hold.
    prior: Vec<f32>,
    /// Of which type they are in the file.
    dtype: DType,
}

impl Classes {
    /// Those of a model, if it has any.
    ///
    /// # Errors
    /// Out of memory.
    pub fn of(file: &Checkpoint) -> Result<Option<Self>> {
        let (Some(bins), Some(prior)) = (file.tensors.get("head.bins"), file.tensors.get(PRIOR))
        else {
            return Ok(None);
        };
        let values = |tensor: &Tensor| tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1();
        let mut units: Vec<f32> = values(bins)?;
        units.iter_mut().for_each(|v| *v /= AB_SCALE);
        Ok(Some(Self {
            bins: units,
            prior: values(prior)?,
            dtype: prior.dtype(),
        }))
    }

    /// Whether all are said to be as frequent as another, which is no more than that nobody has counted.
    pub fn uncounted(&self) -> bool {
        self.prior.windows(2).all(|pair| pair[0] == pair[1])
    }

    /// Takes for their frequencies how likely a network thinks each on average over all pixels of pictures.
    ///
    /// # Errors
    /// Out of memory.
    pub fn count<'a>(&mut self, said: impl IntoParallelIterator<Item = &'a Said>) -> Result<()> {
        let count = self.prior.len();
        let means = said.into_par_iter().map(|said| mean(&said.values, count));
        let sums = means.map(|mean| (mean, 1.)).reduce(
            || (vec![0.; count], 0.),
            |(mut sum, n), (mean, m)| {
                sum.iter_mut().zip(mean).for_each(|(sum, p)| *sum += p);
                (sum, n + m)
            },
        );
        let prior = sums.0.iter().map(|sum| (sum / sums.1) as f32).collect();
        self.prior = Tensor::from_vec(prior, count, &Device::Cpu)?
            .to_dtype(self.dtype)?
            .to_dtype(DType::F32)?
            .to_vec1()?;
        Ok(())
    }

    /// The frequencies as a model's file holds them.
    ///
    /// # Errors
    /// Out of memory.
    pub fn prior(&self) -> Result<Tensor> {
        let prior = Tensor::from_slice(&self.prior, self.prior.len(), &Device::Cpu)?;
        Ok(prior.to_dtype(self.dtype)?)
    }

    /// What makes colours of logits.
    pub fn palette(&self, decoding: &Decoding) -> Palette {
        let offset = decoding.offset(&self.prior);
        Palette::new(&self.bins, &offset, decoding)
    }
}

/// The mean softmax of rows of logits.
fn mean(logits: &[f32], count: usize) -> Vec<f64> {
    let mut mean = vec![0.; count];
    let mut row = vec![0.; count];
    let rows = (logits.len() / count) as f64;
    for z in logits.chunks_exact(count) {
        let most = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        row.iter_mut().zip(z).for_each(|(v, z)| *v = exp(z - most));
        let sum = f64::from(row.iter().sum::<f32>()) * rows;
        let shares = row.iter().map(|v| f64::from(*v) / sum);
        mean.iter_mut().zip(shares).for_each(|(mean, s)| *mean += s);
    }
    mean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_counted_by_how_likely_they_are_thought() {
        let mut classes = Classes {
            bins: vec![0.; 6],
            prior: vec![1. / 3.; 3],
            dtype: DType::F32,
        };
        assert!(classes.uncounted());
        // Softmaxes of (1, 2, 1) / 4 and (8, 1, 1) / 10 in one picture, (1, 1, 2) / 4 in the other.
        let said = |shares: &[f32], height| Said {
            values: shares.iter().map(|v| v.ln() + 3.).collect(),
            size: (height, 1),
        };
        let all = [said(&[1., 2., 1., 8., 1., 1.], 2), said(&[1., 1., 2.], 1)];
        classes.count(&all).unwrap();
        let first = [0.25 + 0.8, 0.5 + 0.1, 0.25 + 0.1].map(|v| v / 2.);
        for (i, second) in [0.25, 0.25, 0.5].into_iter().enumerate() {
            let wanted = (first[i] + second) / 2.;
            assert!((classes.prior[i] - wanted).abs() < 1e-6, "{classes:?}");
        }
        assert!(!classes.uncounted());
    }
}
