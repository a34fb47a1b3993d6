//! The numbers of a network, by name: initialised from a seed, or read from a file.
//!
//! candle's own variable map is unordered and its CPU generator cannot be seeded; here the order is that of the
//! names, and each parameter draws from its own stream of (seed, name), whatever else the network holds.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use super::graph::Graph;
use crate::error::{Error, Result};

/// How a fresh parameter is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Every value the same.
    Constant(f32),
    /// Normal with mean and standard deviation.
    Normal(f32, f32),
}

impl Init {
    /// He's initialisation for a layer of `fan_in` inputs followed by a (leaky) ReLU.
    pub fn he(fan_in: usize) -> Self {
        Self::Normal(0., (2. / fan_in as f32).sqrt())
    }
}

/// The parameters of one network: those that gradients move, and statistics, which are only set.
pub struct Params {
    trained: BTreeMap<String, Var>,
    statistics: BTreeMap<String, Var>,
}

impl Params {
    /// Fresh parameters for `graph`, each drawn from (`seed`, its name).
    ///
    /// # Errors
    /// A defect: two parameters of one name; out of memory.
    pub fn seeded(graph: &Graph, seed: u64, device: &Device) -> Result<Self> {
        let mut params = Self {
            trained: BTreeMap::new(),
            statistics: BTreeMap::new(),
        };
        for parameter in graph.parameters() {
            let count = parameter.shape.iter().product();
            let values = draw(seed, &parameter.name, count, parameter.init);
            let var = Var::from_vec(values, parameter.shape, device)?;
            let kind = match parameter.trained {
                true => &mut params.trained,
                false => &mut params.statistics,
            };
            if kind.insert(parameter.name.clone(), var).is_some() {
                return Err(Error::internal(
                    parameter.name,
                    "two parameters have this name",
                ));
            }
        }
        Ok(params)
    }

    /// Parameters for `graph` with these values, of any float type: all of them, and no others.
    ///
    /// # Errors
    /// [`Error::Model`] where one is missing, of another shape, or unknown.
    pub fn given(
        graph: &Graph,
        values: &BTreeMap<String, Tensor>,
        device: &Device,
    ) -> Result<Self> {
        let mut params = Self {
            trained: BTreeMap::new(),
            statistics: BTreeMap::new(),
        };
        for parameter in graph.parameters() {
            let name = parameter.name;
            let Some(value) = values.get(&name) else {
                return Err(Error::model(name, "the file lacks this parameter"));
            };
            if value.dims() != parameter.shape {
                let (wants, has) = (parameter.shape, value.dims());
                return Err(Error::model(
                    name,
                    format!("the network wants {wants:?}, the file has {has:?}"),
                ));
            }
            let var = Var::from_tensor(&value.to_dtype(DType::F32)?.to_device(device)?)?;
            match parameter.trained {
                true => params.trained.insert(name, var),
                false => params.statistics.insert(name, var),
            };
        }
        match values.keys().find(|name| params.get(name).is_none()) {
            Some(name) => Err(Error::model(name, "the network has no such parameter")),
            None => Ok(params),
        }
    }

    /// The parameter of this name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        let var = self.trained.get(name).or_else(|| self.statistics.get(name));
        var.map(Var::as_tensor)
    }

    /// The parameters that gradients move, in the order of their names.
    pub fn trained(&self) -> &BTreeMap<String, Var> {
        &self.trained
    }

    /// The statistics, in the order of their names.
    pub fn statistics(&self) -> &BTreeMap<String, Var> {
        &self.statistics
    }

    /// Every value by name, apart from the network: a copy.
    ///
    /// # Errors
    /// Out of memory.
    pub fn values(&self) -> Result<BTreeMap<String, Tensor>> {
        let all = self.trained.iter().chain(&self.statistics);
        // `copy` of a variable keeps its record of where it came from.
        all.map(|(name, var)| Ok((name.clone(), var.as_detached_tensor().copy()?.detach())))
            .collect()
    }

    /// The same numbers as `dtype`. f64 is for checks: it runs on candle's own operations, slowly.
    ///
    /// # Errors
    /// Out of memory.
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        let cast = |vars: &BTreeMap<String, Var>| {
            let cast = |(name, var): (&String, &Var)| {
                let value = var.as_detached_tensor().to_dtype(dtype)?;
                Ok((name.clone(), Var::from_tensor(&value)?))
            };
            vars.iter().map(cast).collect::<Result<_>>()
        };
        Ok(Self {
            trained: cast(&self.trained)?,
            statistics: cast(&self.statistics)?,
        })
    }

    /// Sets parameters by name; those not named in `values` keep theirs.
    ///
    /// # Errors
    /// [`Error::Model`] where a name is unknown or a shape differs.
    pub fn set(&self, values: &BTreeMap<String, Tensor>) -> Result<()> {
        for (name, value) in values {
            let var = self.trained.get(name).or_else(|| self.statistics.get(name));
            let Some(var) = var else {
                return Err(Error::model(name, "this network has no such parameter"));
            };
            if var.dims() != value.dims() {
                let (has, given) = (var.dims(), value.dims());
                return Err(Error::model(
                    name,
                    format!("the parameter is {has:?}, the file has {given:?}"),
                ));
            }
            var.set(&value.to_dtype(DType::F32)?.to_device(var.device())?)?;
        }
        Ok(())
    }
}

/// A generator of random numbers that depends on `seed` and `purpose` alone.
pub fn stream(seed: u64, purpose: &str) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(purpose.as_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}

/// A draw from the standard normal distribution (Box and Muller).
pub fn normal(rng: &mut impl Rng) -> f32 {
    let u: f64 = 1. - rng.random::<f64>();
    let angle = std::f64::consts::TAU * rng.random::<f64>();
    ((-2. * u.ln()).sqrt() * angle.cos()) as f32
}

fn draw(seed: u64, name: &str, count: usize, init: Init) -> Vec<f32> {
    match init {
        Init::Constant(v) => vec![v; count],
        Init::Normal(mean, std) => {
            let mut rng = stream(seed, name);
            (0..count).map(|_| mean + std * normal(&mut rng)).collect()
        }
    }
}
