//! Cross-entropy over classes of colour (Zhang 2016, arXiv 1603.08511, section 2).

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor};

use crate::net::{
    Decoding, bins,
    engine::ops::{self, CrossEntropy, Decode},
};

/// Classes of colour.
pub struct Classes {
    /// Their colours `[Q, 2]`, CIE units.
    pub bins: Tensor,
    /// How much each weighs when rare ones weigh more, `[Q]`; 1 on average over the colours of photographs.
    pub weights: Tensor,
}

impl Classes {
    /// The bins in the gamut, all of the same weight.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(device: &Device) -> Result<Self> {
        let bins = Tensor::from_slice(&bins::in_gamut().concat(), (bins::COUNT, 2), device)?;
        let weights = Tensor::ones(bins::COUNT, DType::F32, device)?;
        Ok(Self { bins, weights })
    }

    /// Lets rare classes weigh more, by how frequent each is in the photographs to learn from.
    ///
    /// # Errors
    /// Out of memory.
    pub fn rebalance(&mut self, frequencies: &[f32]) -> Result<()> {
        /// Share of the uniform distribution in the mix.
        const UNIFORM: f32 = 0.5;
        let smoothed = bins::smoothed(bins::in_gamut(), frequencies);
        let weights = bins::rebalanced(&smoothed, UNIFORM);
        self.weights = Tensor::from_vec(weights, frequencies.len(), self.bins.device())?;
        Ok(())
    }

    /// What turns scores into colours, with every class as frequent as another.
    ///
    /// # Errors
    /// Out of memory.
    pub fn decode(&self, decoding: &Decoding) -> Result<Decode> {
        Decode::new(&self.bins, &self.prior(None)?, decoding)
    }

    /// What a network in use is given beside its parameters: the classes and how frequent each is, by default all
    /// the same.
    ///
    /// # Errors
    /// Out of memory.
    pub fn statistics(&self, prior: Option<&[f32]>) -> Result<BTreeMap<String, Tensor>> {
        Ok(BTreeMap::from([
            ("head.bins".to_owned(), self.bins.clone()),
            ("head.prior".to_owned(), self.prior(prior)?),
        ]))
    }

    fn prior(&self, prior: Option<&[f32]>) -> Result<Tensor> {
        let count = self.bins.dim(0)?;
        match prior {
            Some(prior) => Tensor::from_slice(prior, count, self.bins.device()),
            None => Tensor::full(1. / count as f32, count, self.bins.device()),
        }
    }

    /// Mean over pixels of `-sum_q t_q log softmax(z)_q`, of scores z `[N, h, w, Q]`, where t is the soft class of the
    /// truth `[N, h, w, 2]`.
    pub(super) fn cross_entropy(&self, logits: &Tensor, truth: &Tensor) -> Result<Tensor> {
        let op = CrossEntropy::new(&self.bins, None)?;
        ops::tracked(op, &[logits, truth])?.mean_all()
    }

    /// The same with every pixel weighing as much as its nearest class does.
    pub(super) fn rebalanced_cross_entropy(
        &self,
        logits: &Tensor,
        truth: &Tensor,
    ) -> Result<Tensor> {
        let op = CrossEntropy::new(&self.bins, Some(&self.weights))?;
        ops::tracked(op, &[logits, truth])?.mean_all()
    }
}
