//! A network in training: its parameters, their optimiser, and sums of the gradients of a batch's parts.

use std::{collections::BTreeMap, sync::Arc};

use candle_core::{Device, Tensor, Var, backprop::GradStore};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{Config, journal::Losses, optim::Adam};
use crate::{
    error::{Error, Result},
    net::{
        engine::{
            eager::{Eager, Gradients, Norms, Pass, Seen},
            onednn::Packs,
        },
        graph::Graph,
        params::Params,
    },
};

/// A network, its numbers, and what moves them.
pub struct Learner {
    /// The network.
    pub graph: Graph,
    /// Its numbers.
    pub params: Params,
    /// What moves them.
    pub optimiser: Adam,
    bf16: bool,
}

impl Learner {
    /// Fresh parameters and an optimiser that has not stepped.
    pub fn new(
        graph: Graph,
        seed: u64,
        betas: (f64, f64),
        config: &Config,
        device: &Device,
    ) -> Result<Self> {
        let graph = graph.drawn(&config.draw);
        let params = Params::seeded(&graph, seed, device)?;
        let optimiser = Adam::new(params.trained().clone(), betas)?;
        Ok(Self {
            graph,
            params,
            optimiser,
            bf16: config.bf16,
        })
    }

    /// The network with `params` in place of its own.
    pub fn eager<'a>(&'a self, params: &'a Params) -> Eager<'a> {
        Eager {
            graph: &self.graph,
            params,
            bf16: self.bf16,
        }
    }

    /// What the network makes of a batch in training.
    pub fn learn(
        &self,
        x: &Tensor,
        norms: Norms,
        noise: &mut ChaCha8Rng,
        packs: &Arc<Packs>,
    ) -> Result<Pass> {
        let eager = self.eager(&self.params);
        Ok(eager.learn_sharing(x, noise, packs, norms)?)
    }

    /// Moves the running statistics of batch norms towards what a batch's parts saw, a tenth each step as in PyTorch;
    /// the variance of a sample is a little less than that of what it is drawn from.
    pub fn see(&self, parts: &[Vec<Seen>]) -> Result<()> {
        const MOMENTUM: f64 = 0.1;
        if parts.iter().all(Vec::is_empty) {
            return Ok(());
        }
        let statistics = self.params.statistics();
        let share = MOMENTUM / parts.len() as f64;
        let mut moved: BTreeMap<String, Tensor> = BTreeMap::new();
        for seen in parts.iter().flatten() {
            let unbias = seen.samples as f64 / (seen.samples as f64 - 1.).max(1.);
            let values = [
                ("running_mean", seen.mean.affine(share, 0.)?),
                ("running_var", seen.variance.affine(share * unbias, 0.)?),
            ];
            for (what, value) in values {
                let name = format!("{}.{what}", seen.name);
                let so_far = match (moved.remove(&name), statistics.get(&name)) {
                    (Some(so_far), _) => so_far,
                    (None, Some(var)) => var.as_detached_tensor().affine(1. - MOMENTUM, 0.)?,
                    (None, None) => return Err(Error::internal(name, "an unknown statistic")),
                };
                moved.insert(name, (so_far + value)?);
            }
        }
        self.params.set(&moved)
    }
}

/// What one part of a batch has to say: losses by name, and gradients.
pub type Learnt = (Losses, Gradients);

/// Losses and gradients of a batch's parts, summed in their order.
#[derive(Default)]
pub struct Sum {
    losses: Losses,
    gradients: Gradients,
    parts: usize,
}

impl Sum {
    /// Adds the parts that were worked on side by side.
    pub fn add(&mut self, parts: Vec<Learnt>) -> Result<()> {
        let mut all: BTreeMap<String, Vec<Tensor>> = BTreeMap::new();
        for (name, sum) in std::mem::take(&mut self.gradients) {
            all.insert(name, vec![sum]);
        }
        for (losses, gradients) in parts {
            self.parts += 1;
            for (i, (name, value)) in losses.into_iter().enumerate() {
                match self.losses.get_mut(i) {
                    None => self.losses.push((name, value)),
                    Some(sum) => sum.1 += value,
                }
            }
            for (name, gradient) in gradients {
                all.entry(name).or_default().push(gradient);
            }
        }
        let sum = |(name, gradients): (String, Vec<Tensor>)| {
            let (first, others) = gradients
                .split_first()
                .ok_or_else(|| Error::internal(&name, "no part has its gradient"))?;
            let sum = others.iter().try_fold(first.clone(), |sum, g| sum + g)?;
            Ok((name, sum))
        };
        self.gradients = all.into_par_iter().map(sum).collect::<Result<_>>()?;
        Ok(())
    }

    /// Their means.
    pub fn mean(self) -> Result<Learnt> {
        let share = 1. / self.parts.max(1) as f64;
        let scaled = |(name, gradient): (String, Tensor)| Ok((name, (gradient * share)?));
        let gradients: Result<_> = self.gradients.into_par_iter().map(scaled).collect();
        let losses = self.losses.into_iter();
        let losses = losses
            .map(|(name, loss)| (name, loss * share as f32))
            .collect();
        Ok((losses, gradients?))
    }
}

/// A tensor that candle differentiates with respect to.
pub fn leaf(x: &Tensor) -> Result<Var> {
    Ok(Var::from_tensor(&x.detach())?)
}

/// The gradient with respect to a leaf.
pub fn slope(slopes: &GradStore, leaf: &Var) -> Result<Tensor> {
    Ok(match slopes.get(leaf) {
        Some(slope) => slope.detach(),
        None => leaf.zeros_like()?,
    })
}

/// Adds gradients to gradients, by name.
pub fn add(gradients: &mut Gradients, others: Gradients) -> Result<()> {
    for (name, gradient) in others {
        let sum = match gradients.remove(&name) {
            None => gradient,
            Some(sum) => (sum + gradient)?,
        };
        gradients.insert(name, sum);
    }
    Ok(())
}
