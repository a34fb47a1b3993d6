//! Spectral normalisation (Miyato et al. 2018, arXiv 1802.05957): a network whose weights are W / sigma, sigma being the
//! largest singular value of W, changes its result no faster than its input. One step of power iteration per training
//! step keeps up with sigma, as W moves slowly.
//!
//! The numbers are those of PyTorch's `spectral_norm`: a weight is a matrix of one row for each of its first axis, the
//! outputs of a convolution; sigma = u W v, and gradients take u and v as constants.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use super::{
    engine::eager::Gradients,
    graph::{Graph, Op},
    params::{Params, normal, stream},
};
use crate::error::{Error, Result};

/// Added to the norm that a vector is divided by.
const EPS: f64 = 1e-12;

/// The singular vectors of one weight that belong to its largest singular value, about.
struct Pair {
    /// One value a row, `[rows, 1]`.
    u: Tensor,
    /// One value a column, `[columns, 1]`.
    v: Tensor,
}

/// The singular vectors of every convolution's weight. See the module's description.
pub struct Spectral {
    pairs: BTreeMap<String, Pair>,
}

impl Spectral {
    /// Vectors of length 1 in directions drawn from `seed` and each weight's name, for the convolutions of `graph`.
    /// [`Spectral::iterate`] makes them those of the weights.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(graph: &Graph, seed: u64, device: &Device) -> Result<Self> {
        let drawn = |name: &str, count: usize| -> Result<Tensor> {
            let mut noise = stream(seed, name);
            let values: Vec<f32> = (0..count).map(|_| normal(&mut noise)).collect();
            unit(&Tensor::from_vec(values, (count, 1), device)?)
        };
        let convs = graph.nodes().iter().filter_map(|node| match &node.op {
            Op::Conv(conv) => Some(format!("{}.weight", conv.name)),
            _ => None,
        });
        let convs: Vec<String> = convs.collect();
        let weights = graph.parameters().into_iter();
        let pairs = weights.filter(|p| convs.contains(&p.name)).map(|p| {
            let columns = p.shape[1..].iter().product();
            let u = drawn(&format!("{}_u", p.name), p.shape[0])?;
            let v = drawn(&format!("{}_v", p.name), columns)?;
            Ok((p.name, Pair { u, v }))
        });
        Ok(Self {
            pairs: pairs.collect::<Result<_>>()?,
        })
    }

    /// One step of power iteration: v = Wᵀu, u = Wv, each of length 1.
    ///
    /// # Errors
    /// Parameters of another network.
    pub fn iterate(&mut self, params: &Params) -> Result<()> {
        for (name, pair) in &mut self.pairs {
            let matrix = matrix(params, name)?;
            pair.v = unit(&matrix.t()?.matmul(&pair.u)?)?;
            pair.u = unit(&matrix.matmul(&pair.v)?)?;
        }
        Ok(())
    }

    /// The parameters with W / sigma for every W; the others are those of `params`, not copies.
    ///
    /// # Errors
    /// Parameters of another network.
    pub fn normalised(&self, params: &Params) -> Result<Params> {
        let divided = self.pairs.iter().map(|(name, pair)| {
            let matrix = matrix(params, name)?;
            let divided = matrix.broadcast_div(&pair.sigma(&matrix)?)?;
            let shape = weight(params, name)?.shape().clone();
            Ok((name.clone(), divided.reshape(shape)?))
        });
        params.with(divided.collect::<Result<_>>()?)
    }

    /// Turns gradients with respect to W / sigma, G, into gradients with respect to W: (G - <G, W / sigma> u vᵀ) /
    /// sigma. `params` are those that [`Spectral::normalised`] was given.
    ///
    /// # Errors
    /// Parameters or gradients of another network.
    pub fn pull_back(&self, params: &Params, gradients: &mut Gradients) -> Result<()> {
        for (name, pair) in &self.pairs {
            let Some(gradient) = gradients.get_mut(name) else {
                continue;
            };
            let matrix = matrix(params, name)?;
            let sigma = pair.sigma(&matrix)?;
            let along = (gradient.flatten_from(1)? * &matrix)?.sum_all()?;
            let along = along.broadcast_div(&sigma)?;
            let outer = pair.u.matmul(&pair.v.t()?)?.broadcast_mul(&along)?;
            let pulled = (gradient.flatten_from(1)? - outer)?.broadcast_div(&sigma)?;
            *gradient = pulled.reshape(gradient.shape())?;
        }
        Ok(())
    }

    /// All vectors by name, `NAME.weight_u` and `NAME.weight_v`.
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let all = self.pairs.iter().flat_map(|(name, pair)| {
            [
                (format!("{name}_u"), pair.u.clone()),
                (format!("{name}_v"), pair.v.clone()),
            ]
        });
        all.collect()
    }

    /// Takes vectors as [`Spectral::state`] gave them; `None`, and nothing changed, where they are not those of this
    /// network.
    pub fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Option<()> {
        let restored = self.pairs.iter().map(|(name, pair)| {
            let of = |what: &str, like: &Tensor| {
                let found = state.get(&format!("{name}_{what}"))?;
                let moved = found.to_device(like.device()).ok()?;
                (found.dims() == like.dims()).then_some(moved)
            };
            let (u, v) = (of("u", &pair.u)?, of("v", &pair.v)?);
            Some((name.clone(), Pair { u, v }))
        });
        self.pairs = restored.collect::<Option<_>>()?;
        Some(())
    }
}

impl Pair {
    /// u W v, `[1, 1]`.
    fn sigma(&self, matrix: &Tensor) -> Result<Tensor> {
        Ok(self.u.t()?.matmul(&matrix.matmul(&self.v)?)?)
    }
}

fn weight<'a>(params: &'a Params, name: &str) -> Result<&'a Tensor> {
    let weight = params.get(name);
    weight.ok_or_else(|| Error::internal(name, "the network to be normalised lacks this"))
}

/// A weight as a matrix, apart from the record of where it came from.
fn matrix(params: &Params, name: &str) -> Result<Tensor> {
    Ok(weight(params, name)?.detach().flatten_from(1)?)
}

/// At length 1.
fn unit(vector: &Tensor) -> Result<Tensor> {
    let length = vector.sqr()?.sum_all()?.sqrt()?;
    Ok(vector.broadcast_div(&(length + EPS)?)?)
}
