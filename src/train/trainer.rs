//! Generator, discriminator and their optimisers: one step, the state between two, the model that comes of them.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use candle_core::{Device, Tensor, Var, backprop::GradStore};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Config,
    data::Batch,
    journal::Losses,
    objective::{Adversary, Attempt, Frozen, OBJECTIVES},
    optim::{Adam, decayed},
};
use crate::{
    error::{Error, Result, io_sentence, shown},
    eval::{self, Exam, Figures},
    frame::AbMap,
    net::{
        self, Place, Precision,
        checkpoint::{self, COLOR, Checkpoint, Header},
        engine::{
            Engine, allow_tf32, cpu_has_bf16,
            eager::{Eager, Gradients, Pass, Seen, Wanted},
            onednn::Packs,
            ops::{self, BlockSum, Cat, Slice},
            upload,
        },
        graph::Graph,
        params::{Params, stream},
        patchgan,
    },
};

/// Parameters to start from: a model of ours of the same kind, or the ImageNet network of the generator's encoder.
fn initial(path: &Path, arch: &str) -> Result<BTreeMap<String, Tensor>> {
    let name = shown(path);
    let bytes = fs::read(path).map_err(|e| Error::model(&name, io_sentence(&e)))?;
    match (
        Checkpoint::parse(&bytes, &name),
        net::arch(arch)?.pretrained,
    ) {
        (Ok(model), _) if model.header.arch == arch => Ok(model.tensors),
        (Ok(model), _) => Err(Error::model(
            &name,
            format!("it is {}, not {arch}", model.header.arch),
        )),
        (Err(_), Some(ours)) => ours(&checkpoint::tensors(&bytes, &name, &Device::Cpu)?),
        (Err(e), None) => Err(e),
    }
}

const SLOW_BF16: &str =
    "this CPU does not multiply bf16 numbers itself: --set bf16=false is many times faster here";

/// A network in training.
struct Network {
    graph: Graph,
    params: Params,
    optimiser: Adam,
    bf16: bool,
}

impl Network {
    fn new(graph: Graph, seed: u64, config: &Config, device: &Device) -> Result<Self> {
        let params = Params::seeded(&graph, seed, device)?;
        let optimiser = Adam::new(params.trained().clone(), config.betas)?;
        Ok(Self {
            graph,
            params,
            optimiser,
            bf16: config.bf16,
        })
    }

    fn learn(&self, x: &Tensor, noise: &mut ChaCha8Rng, packs: &Arc<Packs>) -> Result<Pass> {
        let Self {
            graph,
            params,
            bf16,
            ..
        } = self;
        let bf16 = *bf16;
        Ok(Eager {
            graph,
            params,
            bf16,
        }
        .learn_sharing(x, noise, packs)?)
    }
}

/// Generator, discriminator and their optimisers.
pub struct Trainer {
    config: Config,
    device: Device,
    step: u64,
    generator: Network,
    critic: Network,
    /// Running mean of the generator's parameters, and its statistics.
    mean: BTreeMap<String, Tensor>,
    /// Names of parameters that were given rather than drawn.
    given: Vec<String>,
    /// Parts of a batch; more than the settings say once a device's memory has run out.
    shards: usize,
    warnings: Vec<String>,
}

impl Trainer {
    /// A run at its beginning, from `init` where there is one.
    ///
    /// # Errors
    /// [`Error::Usage`] for settings that do not go together, [`Error::Model`] for an `init` that does not fit.
    pub fn new(config: &Config, init: Option<&Path>, device: Device) -> Result<Self> {
        allow_tf32(true);
        let (_, slow) = Engine::choose(&device, Precision::F32);
        let mut warnings = Vec::from_iter(slow);
        if device.is_cpu() && config.bf16 && !cpu_has_bf16() {
            warnings.push(SLOW_BF16.into());
        }
        let graph = (net::arch(&config.arch)?.graph)(&config.network)?;
        let stride = graph.stride();
        if !config.size.is_multiple_of(stride) {
            return Err(Error::Usage(format!(
                "size {} must be a multiple of {stride} for {}",
                config.size, config.arch
            )));
        }
        let (side, _) = graph.sizes((config.size, config.size))[graph.output().index()];
        let least = config.critic.smallest_side();
        if config.weight("gan") > 0. && side < least {
            return Err(Error::Usage(format!(
                "{} makes {side} px of chroma at size {}, a discriminator of {} layers needs {least}: take a larger size or fewer layers",
                config.arch, config.size, config.critic.layers
            )));
        }
        let critic = patchgan::graph(&config.critic);
        let critic = Network::new(critic, config.seed.wrapping_add(1), config, &device)?;
        let generator = Network::new(graph, config.seed, config, &device)?;
        let given = match init {
            None => BTreeMap::new(),
            Some(path) => initial(path, &config.arch)?,
        };
        generator.params.set(&given)?;
        Ok(Self {
            config: config.clone(),
            device,
            step: 0,
            mean: generator.params.values()?,
            generator,
            critic,
            given: given.into_keys().collect(),
            shards: config.shards,
            warnings,
        })
    }

    /// What the user should hear of since the last call.
    pub fn take_warnings(&mut self) -> Vec<String> {
        let mut warnings = std::mem::take(&mut self.warnings);
        warnings.extend(ops::take_lacking());
        warnings
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Sides of crops and thumbnails must be multiples of this.
    pub fn stride(&self) -> usize {
        self.generator.graph.stride()
    }

    /// The parameters that the model will have: the running mean.
    pub fn mean(&self) -> &BTreeMap<String, Tensor> {
        &self.mean
    }

    /// One step: the discriminator on detached results, then the generator. Where the device's memory does not hold a
    /// part of the batch, the parts are halved from then on, with a warning; the step goes on as if it had begun so.
    ///
    /// # Errors
    /// [`Error::Train`] where a loss is no longer finite; out of memory with parts of one photograph.
    pub fn step(&mut self, batch: &Batch) -> Result<Losses> {
        loop {
            let share = self.config.batch / self.shards;
            match self.whole_step(batch, share) {
                Err(e) if share.is_multiple_of(2) && is_out_of_memory(&e) => {
                    self.shards *= 2;
                    self.warnings.push(format!(
                        "out of device memory with {share} photographs at once: going on with {}",
                        share / 2
                    ));
                }
                done => return done,
            }
        }
    }

    /// `f` of every part of a batch: side by side on the CPU, one after the other elsewhere, where one at a time keeps
    /// the device busy and less memory taken.
    fn parts<A: Send, B: Send>(
        &self,
        parts: Vec<A>,
        f: impl Fn(usize, A) -> Result<B> + Sync,
    ) -> Result<Vec<B>> {
        match self.device.is_cpu() {
            true => {
                let parts = parts.into_par_iter().enumerate();
                parts.map(|(i, part)| f(i, part)).collect()
            }
            false => {
                let parts = parts.into_iter().enumerate();
                parts.map(|(i, part)| f(i, part)).collect()
            }
        }
    }

    fn whole_step(&mut self, batch: &Batch, share: usize) -> Result<Losses> {
        // Packed weights live until the weights move.
        let packs = Arc::default();
        let all = vec![(); self.shards];
        let attempts = self.parts(all, |i, ()| self.attempt(batch, i, share, &packs))?;
        let rate = self.config.rate_at(self.step);
        let mut losses = Losses::new();
        if self.adversarial() {
            let packs = Arc::default();
            let all = attempts.iter().collect();
            let results = self.parts(all, |i, shard| self.critic_gradients(shard, i, &packs))?;
            let (loss, gradients) = merged(results)?;
            self.critic.optimiser.step(&gradients, |_| rate)?;
            losses.extend(loss);
        }
        let critic_packs = Arc::default();
        let seen: Vec<_> = attempts.iter().map(|s| s.pass.seen.clone()).collect();
        let gradients = |i, shard| self.gradients(shard, i, &critic_packs);
        let results = self.parts(attempts, gradients)?;
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
        let optimiser = &mut self.generator.optimiser;
        optimiser.step(&gradients, |name| rate * given(name))?;
        self.see(&seen)?;
        self.step += 1;
        self.average()?;
        Ok(losses)
    }

    fn adversarial(&self) -> bool {
        self.config.weight("gan") > 0. && self.step >= self.config.gan_from
    }

    /// A source of random numbers for one purpose in one shard of this step.
    fn noise(&self, purpose: &str, index: usize) -> ChaCha8Rng {
        stream(
            self.config.seed,
            &format!("{purpose} {} {index}", self.step),
        )
    }

    fn attempt(
        &self,
        batch: &Batch,
        index: usize,
        share: usize,
        packs: &Arc<Packs>,
    ) -> Result<Shard> {
        let part = |t: &Tensor| -> Result<Tensor> {
            let part = t.narrow(0, index * share, share)?.contiguous()?;
            if self.device.is_cpu() {
                return Ok(part);
            }
            let values = part.flatten_all()?.to_vec1::<f32>()?;
            Ok(upload(&values, part.shape(), &self.device)?)
        };
        let (l, truth) = (part(&batch.l)?, part(&batch.ab)?);
        let pass = self
            .generator
            .learn(&l, &mut self.noise("dropout", index), packs)?;
        // The head may be smaller than the input: compare at its size.
        let factor = l.dim(1)? / pass.output().dim(1)?;
        let shrink = |t: &Tensor| match factor {
            1 => Ok(t.clone()),
            _ => ops::evaluate(&BlockSum(factor), &[t])? / (factor * factor) as f64,
        };
        Ok(Shard {
            l: shrink(&l)?,
            truth: shrink(&truth)?,
            pass,
        })
    }

    /// The discriminator's pass over L and chroma.
    fn judged(
        &self,
        (l, ab): (&Tensor, &Tensor),
        purpose: &str,
        index: usize,
        packs: &Arc<Packs>,
    ) -> Result<Pass> {
        let pair = ops::evaluate(&Cat, &[l, ab])?;
        self.critic
            .learn(&pair, &mut self.noise(purpose, index), packs)
    }

    fn critic_gradients(
        &self,
        shard: &Shard,
        index: usize,
        packs: &Arc<Packs>,
    ) -> Result<(Losses, Gradients)> {
        let real = self.judged((&shard.l, &shard.truth), "real", index, packs)?;
        let fake = self.judged((&shard.l, shard.pass.output()), "fake", index, packs)?;
        let (on_real, on_fake) = (leaf(real.output())?, leaf(fake.output())?);
        let game = Adversary::default().game();
        let loss = (game.discriminator)(&on_real, &on_fake)?;
        let slopes = loss.backward()?;
        let of_real = real.backward(&slope(&slopes, &on_real)?, Wanted::Parameters)?;
        let mut gradients = fake.backward(&slope(&slopes, &on_fake)?, Wanted::Parameters)?;
        for (name, gradient) in of_real {
            add(&mut gradients, name, gradient)?;
        }
        Ok((vec![("d", loss.to_scalar()?)], gradients))
    }

    fn gradients(
        &self,
        shard: Shard,
        index: usize,
        packs: &Arc<Packs>,
    ) -> Result<(Losses, Gradients)> {
        let ab = leaf(shard.pass.output())?;
        let judged = match self.adversarial() {
            true => Some(self.judged((&shard.l, &ab), "judge", index, packs)?),
            false => None,
        };
        let logits = match &judged {
            Some(pass) => Some(leaf(pass.output())?),
            None => None,
        };
        let attempt = Attempt {
            l: &shard.l,
            ab: &ab,
            truth: &shard.truth,
            logits: None,
            judged: logits.as_ref().map(Var::as_tensor),
            adversary: Adversary::default(),
            moved: None,
            frozen: &Frozen::default(),
        };
        let (losses, total) = self.objective(&attempt)?;
        let Some(total) = total else {
            // Before `gan_from` a run on the adversarial objective alone has nothing to do.
            return Ok((losses, Gradients::new()));
        };
        let slopes = total.backward()?;
        let mut grad = slope(&slopes, &ab)?;
        if let (Some(judged), Some(logits)) = (judged, logits) {
            let slope = slope(&slopes, &logits)?;
            for pair in judged.backward(&slope, Wanted::Input)?.into_values() {
                grad = (grad + ops::evaluate(&Slice { first: 1, count: 2 }, &[&pair])?)?;
            }
        }
        Ok((losses, shard.pass.backward(&grad, Wanted::Parameters)?))
    }

    /// Each objective's value, and their weighted sum where there is one.
    fn objective(&self, attempt: &Attempt) -> Result<(Losses, Option<Tensor>)> {
        let mut losses = Losses::new();
        let mut total = None;
        for objective in OBJECTIVES {
            let weight = self.config.weight(objective.name);
            if weight == 0. || objective.name == "gan" && attempt.judged.is_none() {
                continue;
            }
            let loss = (objective.loss)(attempt)?;
            losses.push((objective.name, loss.to_scalar()?));
            let loss = (loss * weight)?;
            total = Some(match total {
                None => loss,
                Some(total) => (total + loss)?,
            });
        }
        Ok((losses, total))
    }

    /// Moves the running statistics of batch norms towards what the shards saw, a tenth each step as in PyTorch; the
    /// variance of a sample is a little less than that of what it is drawn from.
    fn see(&mut self, shards: &[Vec<Seen>]) -> Result<()> {
        const MOMENTUM: f64 = 0.1;
        let statistics = self.generator.params.statistics();
        let share = MOMENTUM / shards.len() as f64;
        let mut moved: BTreeMap<String, Tensor> = BTreeMap::new();
        for seen in shards.iter().flatten() {
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
        self.generator.params.set(&moved)
    }

    /// Moves the running mean towards the parameters; faster in the beginning, when it knows nothing yet.
    fn average(&mut self) -> Result<()> {
        let decay = self
            .config
            .ema
            .min((1. + self.step as f64) / (10. + self.step as f64));
        let vars = self.generator.params.trained();
        let means: Vec<_> = self.mean.iter_mut().collect();
        means.into_par_iter().try_for_each(|(name, mean)| {
            if let Some(var) = vars.get(name) {
                *mean = decayed(mean, &var.as_detached_tensor(), decay)?;
            }
            Ok::<_, Error>(())
        })?;
        for (name, var) in self.generator.params.statistics() {
            self.mean
                .insert(name.clone(), var.as_detached_tensor().copy()?);
        }
        Ok(())
    }

    /// The model as it is now.
    pub fn model(&self, gain: f32) -> Result<net::Network> {
        let graph = self.generator.graph.clone();
        let model = net::Model {
            params: Params::given(&graph, &self.mean, &Device::Cpu)?,
            graph,
            size: self.config.size,
            gain,
            label: self.config.arch.clone(),
        };
        Ok(net::Network::new(model, Place::cpu()))
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

    /// What the model says of itself.
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

impl Trainer {
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
        let (critic_moments, critic_steps) = self.critic.optimiser.state();
        add("generator", self.generator.params.values()?);
        add("generator-adam", self.generator.optimiser.state().0);
        add("mean", self.mean.clone());
        add("critic", self.critic.params.values()?);
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
        if schedule(&state.settings) != schedule(&self.config) {
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
        self.generator.params.set(&part("generator"))?;
        self.critic.params.set(&part("critic"))?;
        self.mean = part("mean");
        self.generator
            .optimiser
            .restore(&part("generator-adam"), state.step)
            .and_then(|()| {
                self.critic
                    .optimiser
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
    pass: Pass,
}

fn is_out_of_memory(e: &Error) -> bool {
    e.to_string().to_lowercase().contains("out of memory")
}

/// A tensor that candle differentiates with respect to.
fn leaf(x: &Tensor) -> Result<Var> {
    Ok(Var::from_tensor(&x.detach())?)
}

/// The gradient with respect to a leaf.
fn slope(slopes: &GradStore, leaf: &Var) -> Result<Tensor> {
    Ok(match slopes.get(leaf) {
        Some(slope) => slope.detach(),
        None => leaf.zeros_like()?,
    })
}

fn add(gradients: &mut Gradients, name: String, gradient: Tensor) -> Result<()> {
    let sum = match gradients.remove(&name) {
        None => gradient,
        Some(sum) => (sum + gradient)?,
    };
    gradients.insert(name, sum);
    Ok(())
}

/// Mean of the shards' losses and gradients, summed in their order.
fn merged(shards: Vec<(Losses, Gradients)>) -> Result<(Losses, Gradients)> {
    let share = 1. / shards.len() as f64;
    let mut losses = Losses::new();
    let mut all: BTreeMap<String, Vec<Tensor>> = BTreeMap::new();
    for (loss, gradients) in shards {
        for (i, (name, value)) in loss.into_iter().enumerate() {
            match losses.get_mut(i) {
                None => losses.push((name, value * share as f32)),
                Some(sum) => sum.1 += value * share as f32,
            }
        }
        for (name, gradient) in gradients {
            all.entry(name).or_default().push(gradient);
        }
    }
    let mean = |(name, gradients): (String, Vec<Tensor>)| {
        let (first, others) = gradients
            .split_first()
            .ok_or_else(|| Error::internal(&name, "no shard has its gradient"))?;
        let sum = others.iter().try_fold(first.clone(), |sum, g| sum + g)?;
        Ok((name, (sum * share)?))
    };
    let means: Result<Gradients> = all.into_par_iter().map(mean).collect();
    Ok((losses, means?))
}
