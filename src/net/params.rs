//! The numbers of a network, by name: initialised from a seed, or read from a file.
//!
//! candle's own variable map is unordered and its CPU generator cannot be seeded; here the order is that of the
//! names, and each parameter draws from its own stream of (seed, name), whatever else the network holds.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{bins, graph::Graph, orthogonal};
use crate::error::{Error, Result};

/// How a fresh parameter is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Every value the same.
    Constant(f32),
    /// Normal with mean and standard deviation.
    Normal(f32, f32),
    /// A weight whose rows, one for each of its first axis, are perpendicular and of length `gain`; of more rows than
    /// columns, whose columns are (Saxe et al. 2014, arXiv 1312.6120). Each of the `groups` on its own.
    Orthogonal {
        /// Length of a row.
        gain: f32,
        /// Groups of rows that do not see each other.
        groups: usize,
    },
    /// The bins in the gamut of sRGB, a and b in CIE units.
    Bins,
    /// The binomial filter of 3 x 3, for each channel.
    Binomial,
}

impl Init {
    /// He's initialisation for a layer of `fan_in` inputs followed by a (leaky) ReLU (2015, arXiv 1502.01852).
    pub fn he(fan_in: usize) -> Self {
        Self::Normal(0., (2. / fan_in as f32).sqrt())
    }

    /// Glorot's initialisation, "Xavier", for a layer of `fan_in` inputs and `fan_out` outputs (2010).
    pub fn xavier(fan_in: usize, fan_out: usize, gain: f32) -> Self {
        Self::Normal(0., gain * (2. / (fan_in + fan_out) as f32).sqrt())
    }
}

/// How the weights of a network's convolutions are drawn, as a setting.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Draw {
    /// From which distribution.
    pub kind: DrawKind,
    /// What it is scaled by; pix2pix has 0.02. Neither a network's own design nor Kaiming's has need of it.
    pub gain: f32,
}

impl Default for Draw {
    fn default() -> Self {
        Self {
            kind: DrawKind::Own,
            gain: 0.02,
        }
    }
}

/// The distributions of [`Draw`]. Fans are PyTorch's: the inputs of a weight are its second axis times the window, its
/// outputs the first; of a depthwise convolution, those of one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DrawKind {
    /// Each network's own design.
    #[default]
    Own,
    /// Normal, of standard deviation `gain`.
    Normal,
    /// [`Init::xavier`].
    Xavier,
    /// [`Init::he`].
    Kaiming,
    /// [`Init::Orthogonal`].
    Orthogonal,
}

impl Draw {
    /// # Errors
    /// [`Error::Usage`] for a gain that is not above 0.
    pub fn validate(&self) -> Result<()> {
        if self.gain > 0. && self.gain.is_finite() {
            return Ok(());
        }
        Err(Error::Usage(format!(
            "weights cannot be drawn with a gain of {}: it must be above 0",
            self.gain
        )))
    }

    /// For a weight of this shape, in so many groups; `None` is the network's own.
    pub fn init(&self, shape: [usize; 4], groups: usize) -> Option<Init> {
        let [rows, inputs, height, width] = shape;
        let taps = height * width;
        let (fan_in, fan_out) = (inputs * taps, rows / groups * taps);
        let gain = self.gain;
        match self.kind {
            DrawKind::Own => None,
            DrawKind::Normal => Some(Init::Normal(0., gain)),
            DrawKind::Xavier => Some(Init::xavier(fan_in, fan_out, gain)),
            DrawKind::Kaiming => Some(Init::he(fan_in)),
            DrawKind::Orthogonal => Some(Init::Orthogonal { gain, groups }),
        }
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
            let values = draw(seed, &parameter.name, &parameter.shape, parameter.init)?;
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

    /// The same parameters but for `values`; those not named in it are shared, not copied.
    ///
    /// # Errors
    /// [`Error::Model`] where a name is unknown.
    pub fn with(&self, values: BTreeMap<String, Tensor>) -> Result<Self> {
        let (mut trained, mut statistics) = (self.trained.clone(), self.statistics.clone());
        for (name, value) in values {
            let var = trained.get_mut(&name).or_else(|| statistics.get_mut(&name));
            let Some(var) = var else {
                return Err(Error::model(name, "this network has no such parameter"));
            };
            *var = Var::from_tensor(&value)?;
        }
        Ok(Self {
            trained,
            statistics,
        })
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

fn draw(seed: u64, name: &str, shape: &[usize], init: Init) -> Result<Vec<f32>> {
    let count = shape.iter().product();
    let mut rng = stream(seed, name);
    Ok(match init {
        Init::Constant(v) => vec![v; count],
        Init::Bins => bins::in_gamut().concat(),
        Init::Binomial => {
            let row = [0.25, 0.5, 0.25];
            let filter = row.map(|y| row.map(|x| y * x)).concat();
            filter.into_iter().cycle().take(count).collect()
        }
        Init::Normal(mean, std) => (0..count).map(|_| mean + std * normal(&mut rng)).collect(),
        Init::Orthogonal { gain, groups } => {
            let rows = shape[0] / groups;
            let columns = count / shape[0];
            let mut all = Vec::with_capacity(count);
            for _ in 0..groups {
                let group = (0..rows * columns).map(|_| normal(&mut rng)).collect();
                all.extend(orthogonal::from_normal(group, rows, columns, gain)?);
            }
            all
        }
    })
}
