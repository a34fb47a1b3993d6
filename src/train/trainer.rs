//! Generator, discriminator and their optimisers: one step, the state between two, the model that comes of them.

use std::{collections::BTreeMap, fs, path::Path};

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Config,
    data::Batch,
    journal::Losses,
    objective::{Attempt, OBJECTIVES, discriminator_loss},
    optim::{Adam, Gradients},
};
use crate::{
    error::{Error, Result, io_sentence, shown},
    eval::{self, Exam, Figures},
    frame::AbMap,
    net::{
        self, Generator,
        checkpoint::{self, COLOR, Checkpoint, Header},
        ops,
        params::{Params, stream},
        patchgan::PatchGan,
        squeeze,
    },
};

/// Parameters to start from: a model of ours of the same kind, or ImageNet SqueezeNet for the encoder of `squeeze`.
fn initial(path: &Path, arch: &str) -> Result<BTreeMap<String, Tensor>> {
    let name = shown(path);
    let bytes = fs::read(path).map_err(|e| Error::model(&name, io_sentence(&e)))?;
    match Checkpoint::parse(&bytes, &name) {
        Ok(model) if model.header.arch == arch => Ok(model.tensors),
        Ok(model) => Err(Error::model(
            &name,
            format!("it is {}, not {arch}", model.header.arch),
        )),
        Err(_) if arch == "squeeze" => {
            squeeze::from_imagenet(&checkpoint::tensors(&bytes, &name, &Device::Cpu)?)
        }
        Err(e) => Err(e),
    }
}

/// Generator, discriminator and their optimisers.
pub struct Trainer<'a> {
    config: &'a Config,
    device: Device,
    step: u64,
    params: Params,
    generator: Box<dyn Generator>,
    optimiser: Adam,
    critic_params: Params,
    critic: PatchGan,
    critic_optimiser: Adam,
    /// Running mean of the generator's parameters.
    mean: BTreeMap<String, Tensor>,
    /// Names of parameters that were given rather than drawn.
    given: Vec<String>,
}

impl<'a> Trainer<'a> {
    pub fn new(config: &'a Config, init: Option<&Path>, device: Device) -> Result<Self> {
        let params = Params::seeded(config.seed, &device);
        let generator = (net::arch(&config.arch)?.build)(&params.root(), &config.network)?;
        let critic_params = Params::seeded(config.seed.wrapping_add(1), &device);
        let critic = PatchGan::new(&critic_params.root(), &config.critic)?;
        if !config.size.is_multiple_of(generator.stride()) {
            let stride = generator.stride();
            return Err(Error::Usage(format!(
                "size {} must be a multiple of {stride} for {}",
                config.size, config.arch
            )));
        }
        if config.weight("gan") > 0. {
            let l = Tensor::zeros((1, 1, config.size, config.size), DType::F32, &device)?;
            let side = generator.forward(&l, None)?.dim(2)?;
            let least = config.critic.smallest_side();
            if side < least {
                return Err(Error::Usage(format!(
                    "{} makes {side} px of chroma at size {}, a discriminator of {} layers needs {least}: take a larger size or fewer layers",
                    config.arch, config.size, config.critic.layers
                )));
            }
        }
        let given = match init {
            None => BTreeMap::new(),
            Some(path) => initial(path, &config.arch)?,
        };
        params.set(&given)?;
        let mean = params
            .vars()
            .into_iter()
            .map(|(name, var)| Ok((name, var.as_detached_tensor().copy()?)));
        let mean = mean.collect::<Result<_>>()?;
        Ok(Self {
            config,
            device,
            step: 0,
            optimiser: Adam::new(params.vars(), config.betas)?,
            critic_optimiser: Adam::new(critic_params.vars(), config.betas)?,
            mean,
            params,
            generator,
            critic_params,
            critic,
            given: given.into_keys().collect(),
        })
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Sides of crops and thumbnails must be multiples of this.
    pub fn stride(&self) -> usize {
        self.generator.stride()
    }

    /// The parameters that the model will have: the running mean.
    pub fn mean(&self) -> &BTreeMap<String, Tensor> {
        &self.mean
    }

    /// One step: the discriminator on detached results, then the generator.
    pub fn step(&mut self, batch: &Batch) -> Result<Losses> {
        let share = self.config.batch / self.config.shards;
        let attempts: Vec<Shard> = (0..self.config.shards)
            .into_par_iter()
            .map(|i| self.attempt(batch, i, share))
            .collect::<Result<_>>()?;
        let rate = self.config.rate_at(self.step);
        let mut losses = Losses::new();
        if self.adversarial() {
            let results: Vec<_> = attempts
                .par_iter()
                .map(|shard| self.critic_gradients(shard))
                .collect::<Result<_>>()?;
            let (loss, gradients) = merged(results)?;
            self.critic_optimiser.step(&gradients, |_| rate)?;
            losses.extend(loss);
        }
        let results: Vec<_> = attempts
            .into_par_iter()
            .map(|shard| self.gradients(shard))
            .collect::<Result<_>>()?;
        let (loss, gradients) = merged(results)?;
        losses.extend(loss);
        if let Some((name, _)) = losses.iter().find(|(_, loss)| !loss.is_finite()) {
            return Err(Error::Train(format!(
                "the {name} loss is not finite at step {}; resume from the last saved state with a lower rate",
                self.step
            )));
        }
        let given = |name: &str| {
            if self.given.iter().any(|n| n == name) {
                self.config.given_rate
            } else {
                1.
            }
        };
        self.optimiser.step(&gradients, |name| rate * given(name))?;
        self.step += 1;
        self.average()?;
        Ok(losses)
    }

    fn adversarial(&self) -> bool {
        self.config.weight("gan") > 0. && self.step >= self.config.gan_from
    }

    fn attempt(&self, batch: &Batch, index: usize, share: usize) -> Result<Shard> {
        let part = |t: &Tensor| {
            t.narrow(1, index * share, share)?
                .contiguous()?
                .to_device(&self.device)
        };
        let (l, truth) = (part(&batch.l)?, part(&batch.ab)?);
        let mut noise = stream(self.config.seed, &format!("dropout {} {index}", self.step));
        let ab = self.generator.forward(&l, Some(&mut noise))?;
        // The head may be smaller than the input: compare at its size.
        let factor = l.dim(2)? / ab.dim(2)?;
        let shrink = |t: &Tensor| ops::block_sum(t, factor)? / (factor * factor) as f64;
        Ok(Shard {
            l: shrink(&l)?,
            truth: shrink(&truth)?,
            ab,
        })
    }

    fn critic_gradients(&self, shard: &Shard) -> Result<(Losses, Gradients)> {
        let real = self.critic.forward(&shard.l, &shard.truth)?;
        let fake = self.critic.forward(&shard.l, &shard.ab.detach())?;
        let loss = discriminator_loss(&real, &fake)?;
        Ok((
            vec![("d", loss.to_scalar()?)],
            gradients(&loss, &self.critic_params)?,
        ))
    }

    fn gradients(&self, shard: Shard) -> Result<(Losses, Gradients)> {
        let logits = match self.adversarial() {
            true => Some(self.critic.forward(&shard.l, &shard.ab)?),
            false => None,
        };
        let attempt = Attempt {
            ab: shard.ab,
            truth: shard.truth,
            logits,
        };
        let mut losses = Losses::new();
        let mut total = None;
        for objective in OBJECTIVES {
            let weight = self.config.weight(objective.name);
            if weight == 0. || objective.name == "gan" && attempt.logits.is_none() {
                continue;
            }
            let loss = (objective.loss)(&attempt)?;
            losses.push((objective.name, loss.to_scalar()?));
            let loss = (loss * weight)?;
            total = Some(match total {
                None => loss,
                Some(total) => (total + loss)?,
            });
        }
        match total {
            Some(total) => Ok((losses, gradients(&total, &self.params)?)),
            // Before `gan_from` a run on the adversarial objective alone has nothing to do.
            None => Ok((losses, Gradients::new())),
        }
    }

    /// Moves the running mean towards the parameters; faster in the beginning, when it knows nothing yet.
    fn average(&mut self) -> Result<()> {
        let decay = self
            .config
            .ema
            .min((1. + self.step as f64) / (10. + self.step as f64));
        for (name, var) in self.params.vars() {
            if let Some(mean) = self.mean.get_mut(&name) {
                // Detached: else every mean would remember all earlier ones.
                *mean =
                    (mean.affine(decay, 0.)? + var.as_detached_tensor().affine(1. - decay, 0.)?)?;
            }
        }
        Ok(())
    }

    /// The model as it is now.
    pub fn model(&self, gain: f32) -> Result<net::Network> {
        let params = Params::given(self.mean.clone(), &Device::Cpu);
        let generator =
            (net::arch(&self.config.arch)?.build)(&params.root(), &self.config.network)?;
        let label = self.config.arch.clone();
        Ok(net::Network::new(
            generator,
            Device::Cpu,
            self.config.size,
            gain,
            label,
            "CPU".into(),
        ))
    }

    /// The chroma gain: raised by tenths until the mean chroma is [`ENOUGH`] of the truth's, but only while at least
    /// half of the lead over grey, in CIEDE2000 and in PSNR_ab, is kept. Regression leans to grey; this gives some of
    /// its error back for colour.
    pub fn choose_gain(&self, exams: &[Exam]) -> Result<(f32, Figures)> {
        const ENOUGH: f64 = 0.7;
        let at = |tenths: u8| -> Result<(f32, Figures)> {
            let gain = f32::from(tenths) / 10.;
            Ok((
                gain,
                eval::judge(exams, &eval::colour(&mut self.model(gain)?, exams)?),
            ))
        };
        let grey = eval::judge(exams, &vec![AbMap::constant(0., 0.); exams.len()]);
        let lead = |f: &Figures| (grey.ciede2000 - f.ciede2000, f.psnr_ab - grey.psnr_ab);
        let mut chosen = at(10)?;
        let first = lead(&chosen.1);
        for tenths in 11..=20 {
            let next = at(tenths)?;
            let lead = lead(&next.1);
            if chosen.1.chroma_ratio >= ENOUGH || lead.0 < 0.5 * first.0 || lead.1 < 0.5 * first.1 {
                break;
            }
            chosen = next;
        }
        Ok(chosen)
    }

    pub fn header(&self, gain: f32, photographs: usize, validation: &Figures) -> Header {
        Header {
            arch: self.config.arch.clone(),
            network: self.config.network.clone(),
            color: COLOR.into(),
            size: self.config.size,
            gain,
            trained: json!({
                "by": concat!("autochrome ", env!("CARGO_PKG_VERSION")),
                "settings": self.config,
                "steps": self.step,
                "photographs": photographs,
            }),
            figures: json!({ "validation": validation }),
        }
    }
}

/// State: everything that the next step depends on.
#[derive(Serialize, Deserialize)]
struct State {
    settings: Config,
    step: u64,
    critic_steps: u64,
    given: Vec<String>,
}

const STATE: &str = "autochrome-run";

impl Trainer<'_> {
    /// The state as a file.
    pub fn state(&self) -> Result<Vec<u8>> {
        let mut tensors = BTreeMap::new();
        let mut add = |part: &str, named: BTreeMap<String, Tensor>| {
            tensors.extend(
                named
                    .into_iter()
                    .map(|(name, tensor)| (format!("{part}/{name}"), tensor)),
            );
        };
        let values = |params: &Params| {
            params
                .vars()
                .into_iter()
                .map(|(n, v)| (n, v.as_tensor().clone()))
                .collect()
        };
        let (critic_moments, critic_steps) = self.critic_optimiser.state();
        add("generator", values(&self.params));
        add("generator-adam", self.optimiser.state().0);
        add("mean", self.mean.clone());
        add("critic", values(&self.critic_params));
        add("critic-adam", critic_moments);
        let state = State {
            settings: self.config.clone(),
            step: self.step,
            critic_steps,
            given: self.given.clone(),
        };
        checkpoint::serialize(&tensors, STATE, &state)
    }

    /// Goes on from a saved state.
    pub fn restore(&mut self, path: &Path) -> Result<()> {
        let name = shown(path);
        let bytes = fs::read(path).map_err(|e| Error::input(&name, io_sentence(&e)))?;
        let state: State = checkpoint::metadata(&bytes, STATE, &name)?;
        let schedule = |c: &Config| Config {
            steps: 0,
            check_every: 0,
            cache_mb: 0,
            ..c.clone()
        };
        if schedule(&state.settings) != schedule(self.config) {
            return Err(Error::Train(format!(
                "{name} is the state of a run with other settings; give the same ones (only steps, check_every and cache_mb may change), or choose another output"
            )));
        }
        let tensors = checkpoint::tensors(&bytes, &name, &self.device)?;
        let part = |part: &str| -> BTreeMap<String, Tensor> {
            let of = |(n, t): (&String, &Tensor)| {
                Some((
                    n.strip_prefix(part)?.strip_prefix('/')?.to_owned(),
                    t.clone(),
                ))
            };
            tensors.iter().filter_map(of).collect()
        };
        self.params.set(&part("generator"))?;
        self.critic_params.set(&part("critic"))?;
        self.mean = part("mean");
        self.optimiser
            .restore(&part("generator-adam"), state.step)
            .and_then(|()| {
                self.critic_optimiser
                    .restore(&part("critic-adam"), state.critic_steps)
            })
            .ok_or_else(|| Error::model(&name, "the state is not complete"))?;
        (self.step, self.given) = (state.step, state.given);
        Ok(())
    }
}

/// A part of a batch: what the generator made of it, and the truth, at the size of the generator's head.
struct Shard {
    l: Tensor,
    truth: Tensor,
    ab: Tensor,
}

/// Gradients of `loss` by name, without the graph that they came from.
fn gradients(loss: &Tensor, params: &Params) -> Result<Gradients> {
    let store = loss.backward()?;
    let of = |(name, var): (String, candle_core::Var)| Some((name, store.get(&var)?.detach()));
    Ok(params.vars().into_iter().filter_map(of).collect())
}

/// Mean of the shards' losses and gradients, summed in their order.
fn merged(shards: Vec<(Losses, Gradients)>) -> Result<(Losses, Gradients)> {
    let share = 1. / shards.len() as f64;
    let (mut losses, mut sums) = (Losses::new(), Gradients::new());
    for (loss, gradients) in shards {
        for (i, (name, value)) in loss.into_iter().enumerate() {
            match losses.get_mut(i) {
                None => losses.push((name, value * share as f32)),
                Some(sum) => sum.1 += value * share as f32,
            }
        }
        for (name, gradient) in gradients {
            let gradient = (gradient * share)?;
            let sum = match sums.remove(&name) {
                None => gradient,
                Some(sum) => (sum + gradient)?,
            };
            sums.insert(name, sum);
        }
    }
    Ok((losses, sums))
}
