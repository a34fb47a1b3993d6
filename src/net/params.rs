//! The numbers of a network, by name: initialised from a seed, or read from a file.
//!
//! candle's own variable map is unordered and its CPU generator cannot be seeded; here the order is that of the
//! names, and each parameter draws from its own stream of (seed, name), whatever else the network holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use candle_core::{DType, Device, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

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

/// Where parameters come from.
enum Source {
    /// Drawn from this seed, and trainable.
    Seed(u64),
    /// Given, and fixed. The names that were asked for are remembered.
    Given(BTreeMap<String, Tensor>),
}

/// The parameters of one network. Building a network asks for each by name; see [`Scope::get`].
pub struct Params {
    source: Source,
    device: Device,
    vars: Mutex<BTreeMap<String, Var>>,
    asked: Mutex<BTreeSet<String>>,
}

impl Params {
    /// Trainable parameters, each drawn from (`seed`, its name).
    pub fn seeded(seed: u64, device: &Device) -> Self {
        Self::new(Source::Seed(seed), device)
    }

    /// Fixed parameters with these values, of any float type: a network for use, not for training.
    pub fn given(values: BTreeMap<String, Tensor>, device: &Device) -> Self {
        Self::new(Source::Given(values), device)
    }

    fn new(source: Source, device: &Device) -> Self {
        Self {
            source,
            device: device.clone(),
            vars: Mutex::default(),
            asked: Mutex::default(),
        }
    }

    /// The root scope, from which a network is built.
    pub fn root(&self) -> Scope<'_> {
        Scope {
            params: self,
            prefix: String::new(),
        }
    }

    /// The trainable parameters in the order of their names. Empty when the values were given.
    pub fn vars(&self) -> BTreeMap<String, Var> {
        self.vars.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Sets trainable parameters by name; those not named in `values` keep theirs.
    ///
    /// # Errors
    /// [`Error::Model`] where a name is unknown or a shape differs.
    pub fn set(&self, values: &BTreeMap<String, Tensor>) -> Result<()> {
        let vars = self.vars();
        for (name, value) in values {
            let Some(var) = vars.get(name) else {
                return Err(Error::model(name, "this network has no such parameter"));
            };
            if var.dims() != value.dims() {
                let (has, given) = (var.dims(), value.dims());
                return Err(Error::model(
                    name,
                    format!("the parameter is {has:?}, the file has {given:?}"),
                ));
            }
            var.set(&value.to_dtype(DType::F32)?.to_device(&self.device)?)?;
        }
        Ok(())
    }

    /// Names that were given but that the network never asked for.
    pub fn unused(&self) -> Vec<String> {
        let Source::Given(values) = &self.source else {
            return Vec::new();
        };
        let asked = self.asked.lock().unwrap_or_else(|e| e.into_inner());
        let unused = values.keys().filter(|name| !asked.contains(*name));
        unused.cloned().collect()
    }

    fn get(&self, name: String, shape: &[usize], init: Init) -> Result<Tensor> {
        self.asked
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .insert(name.clone());
        match &self.source {
            Source::Given(values) => {
                let Some(value) = values.get(&name) else {
                    return Err(Error::model(name, "the file lacks this parameter"));
                };
                if value.dims() != shape {
                    let has = value.dims();
                    return Err(Error::model(
                        name,
                        format!("the network wants {shape:?}, the file has {has:?}"),
                    ));
                }
                Ok(value.to_dtype(DType::F32)?.to_device(&self.device)?)
            }
            Source::Seed(seed) => {
                let values = draw(*seed, &name, shape.iter().product(), init);
                let var = Var::from_vec(values, shape, &self.device)?;
                let tensor = var.as_tensor().clone();
                let mut vars = self.vars.lock().unwrap_or_else(|e| e.into_inner());
                if vars.insert(name.clone(), var).is_some() {
                    return Err(Error::internal(name, "two parameters have this name"));
                }
                Ok(tensor)
            }
        }
    }
}

/// A place in the tree of names: `scope.at("fire2").at("squeeze").get("weight", ..)` is `fire2.squeeze.weight`.
pub struct Scope<'a> {
    params: &'a Params,
    prefix: String,
}

impl Scope<'_> {
    /// The scope below this one.
    pub fn at(&self, name: impl std::fmt::Display) -> Self {
        Self {
            params: self.params,
            prefix: format!("{}{name}.", self.prefix),
        }
    }

    /// The parameter `name` here: drawn by `init` if the parameters are seeded, else the given value.
    ///
    /// # Errors
    /// [`Error::Model`] where the given values lack it or have another shape.
    pub fn get(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        self.params
            .get(format!("{}{name}", self.prefix), shape, init)
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
