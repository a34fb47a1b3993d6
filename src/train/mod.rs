//! The trainer: settings on top, the loop below.
//!
//! A run is a function of its settings and photographs alone. Its folder holds the log, the sheets and the state from
//! which it goes on exactly as if it had never stopped.

pub mod data;
pub mod journal;
pub mod objective;
pub mod optim;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    error::{Error, Result, io_sentence, shown},
    eval::{self, Exam, Figures},
    frame::AbMap,
    net::{
        self, Generator,
        checkpoint::{self, COLOR, Checkpoint, Header},
        ops,
        params::{Params, stream},
        patchgan::{PatchGan, PatchGanConfig},
        squeeze,
    },
    stage::Stages,
};
use data::{Batch, Loader, LoaderOptions, Split};
use journal::{Journal, Losses, publish};
use objective::{Attempt, OBJECTIVES, discriminator_loss};
use optim::{Adam, Gradients};

/// Every setting. The defaults are pix2pix's (Isola et al. 2017) at 128 px.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Kind of generator: a name of [`net::ARCHS`].
    pub arch: String,
    /// Its settings; what is left out has its default.
    pub network: Value,
    /// Side of the square crops, and short side of the thumbnails at run time.
    pub size: usize,
    /// Photographs a step.
    pub batch: usize,
    /// Parts of a batch that are worked on side by side. Their gradients are summed in order, so a run depends on
    /// this number, not on that of the threads.
    pub shards: usize,
    /// Steps in all.
    pub steps: u64,
    /// Seed of every choice: the split, the parameters, the crops, dropout.
    pub seed: u64,
    /// Learning rate of Adam.
    pub rate: f64,
    /// Factor on the rate for parameters that were given by `--init`.
    pub given_rate: f64,
    /// Adam's decay of the first and second moment.
    pub betas: (f64, f64),
    /// Steps over which the rate rises from 0.
    pub warmup: u64,
    /// Share of the steps at the full rate; then it falls to 0, linearly.
    pub constant: f64,
    /// Weights of the objectives, by their names in [`OBJECTIVES`].
    pub objectives: BTreeMap<String, f64>,
    /// First step at which the adversarial objective counts.
    pub gan_from: u64,
    /// Sizes of the discriminator.
    pub critic: PatchGanConfig,
    /// Decay of the running mean of the parameters, which is the model that is kept. 0 keeps the last ones.
    pub ema: f64,
    /// Share of the photographs held out for validation, and again for test.
    pub held_out: f64,
    /// Smallest crop as a share of a photograph's short side.
    pub smallest_crop: f64,
    /// Whether the input is now and then a luma or a blue-heavy mix instead of true lightness, as films have it.
    pub film_stocks: bool,
    /// Steps between two looks at the validation photographs, each with a sheet and a saved state.
    pub check_every: u64,
    /// Photographs in such a look.
    pub check_photos: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            arch: "unet".into(),
            network: json!({}),
            size: 128,
            batch: 4,
            shards: 2,
            steps: 100_000,
            seed: 1,
            rate: 2e-4,
            given_rate: 0.25,
            betas: (0.5, 0.999),
            warmup: 100,
            constant: 0.5,
            objectives: BTreeMap::from([("l1".into(), 100.), ("gan".into(), 1.)]),
            gan_from: 0,
            critic: PatchGanConfig::default(),
            ema: 0.999,
            held_out: 0.03,
            smallest_crop: 0.7,
            film_stocks: true,
            check_every: 1000,
            check_photos: 120,
        }
    }
}

impl Config {
    /// # Errors
    /// [`Error::Usage`] naming the setting and its allowed range.
    pub fn validate(&self) -> Result<()> {
        let known = |name: &String| OBJECTIVES.iter().any(|o| o.name == name);
        let usage = |why: String| Err(Error::Usage(why));
        if let Some(name) = self.objectives.keys().find(|name| !known(name)) {
            let names: Vec<_> = OBJECTIVES.iter().map(|o| o.name).collect();
            return usage(format!(
                "no objective is called {name}; there are: {}",
                names.join(", ")
            ));
        }
        if self.shards == 0 || self.batch == 0 || !self.batch.is_multiple_of(self.shards) {
            return usage(format!(
                "batch {} must be a multiple of shards {}",
                self.batch, self.shards
            ));
        }
        if !(0.0..0.5).contains(&self.held_out) {
            return usage(format!("held_out {} is not within 0..0.5", self.held_out));
        }
        if !(0.0..1.0).contains(&self.ema) || !(0.0..=1.0).contains(&self.constant) {
            return usage("ema must be within 0..1, constant within 0..=1".into());
        }
        if !(self.smallest_crop > 0. && self.smallest_crop <= 1.) {
            return usage(format!(
                "smallest_crop {} is not above 0 and at most 1",
                self.smallest_crop
            ));
        }
        if self.steps == 0 || self.check_every == 0 {
            return usage("steps and check_every must be at least 1".into());
        }
        Ok(())
    }

    /// Learning rate at a step (from 0), before the factor of given parameters.
    pub fn rate_at(&self, step: u64) -> f64 {
        let rise = ((step + 1) as f64 / self.warmup.max(1) as f64).min(1.);
        let done = step as f64 / self.steps as f64;
        let fall = ((1. - done) / (1. - self.constant).max(1e-9)).min(1.);
        self.rate * rise * fall
    }

    fn weight(&self, name: &str) -> f64 {
        self.objectives.get(name).copied().unwrap_or(0.)
    }
}

/// What a run is asked to do, beside its settings.
#[derive(Clone, Debug)]
pub struct Job {
    /// Folders (or files) of photographs.
    pub photos: Vec<PathBuf>,
    /// The model file to write.
    pub output: PathBuf,
    /// A model to start from, or ImageNet SqueezeNet weights to start the encoder of `squeeze` from.
    pub init: Option<PathBuf>,
    /// Go on from the state in the run's folder, if there is one.
    pub resume: bool,
}

impl Job {
    /// The run's folder: beside the output, `NAME.run`.
    pub fn folder(&self) -> PathBuf {
        self.output.with_extension("run")
    }
}

/// What a finished run has made.
#[derive(Clone, Debug, Serialize)]
pub struct Trained {
    /// Steps done in all.
    pub steps: u64,
    /// The chroma gain that was chosen.
    pub gain: f32,
    /// Figures on the validation photographs.
    pub validation: Figures,
    /// Photographs that could not be used.
    pub skipped: Vec<PathBuf>,
}

/// What a run reports as it goes.
pub enum Event {
    /// A line for people.
    Note(String),
    /// Something that the user should know although the run goes on.
    Warning(String),
    /// A step is done.
    Step {
        /// Steps done, of [`Config::steps`].
        step: u64,
        /// The running means of the losses.
        losses: Losses,
    },
    /// The validation photographs were looked at.
    Checked {
        /// Steps done.
        step: u64,
        /// How good the model is.
        figures: Figures,
    },
}

/// Trains until the last step or until `stop` is set; then the state is saved, and the model written.
///
/// # Errors
/// [`Error::Usage`] for settings out of range, [`Error::Train`] where there is nothing to learn from, the loss is no
/// longer finite, or the state is of another run; and whatever reading and writing meets.
pub fn run(
    config: &Config,
    job: &Job,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(Event),
) -> Result<Trained> {
    config.validate()?;
    let folder = job.folder();
    let state = folder.join("state.safetensors");
    let mut trainer = Trainer::new(config, job.init.as_deref())?;
    match (state.exists(), job.resume) {
        (true, true) => trainer.restore(&state)?,
        (true, false) => {
            return Err(Error::Train(format!(
                "{} holds the state of an earlier run; add --resume to go on with it, or choose another output",
                shown(&folder)
            )));
        }
        (false, _) => {}
    }
    let split = Split::scan(&job.photos, config.held_out, config.seed)?;
    tell(Event::Note(format!(
        "{} photographs to learn from, {} for validation, {} for test",
        split.train.len(),
        split.validation.len(),
        split.test.len()
    )));
    for (path, why) in &split.skipped {
        tell(Event::Warning(format!("skipped {}: {why}", shown(path))));
    }
    fs::create_dir_all(&folder)
        .map_err(|e| Error::output(shown(&folder), io_sentence(&folder, &e)))?;
    let exams = exams(
        &split.validation,
        config.check_photos,
        trainer.generator.stride(),
        config.size,
    );
    let mut run = Run {
        trainer,
        journal: Journal::open(&folder)?,
        exams,
        state,
        tell,
    };
    let damaged = run.learn(&split.train, stop)?;
    for path in &damaged {
        (run.tell)(Event::Warning(format!(
            "skipped {}: it cannot be decoded",
            shown(path)
        )));
    }
    let (gain, validation) = run.trainer.choose_gain(&run.exams)?;
    run.check(gain)?;
    let header = run.trainer.header(gain, &split, &validation);
    publish(
        &job.output,
        &checkpoint::bytes(&header, &run.trainer.mean, DType::F16)?,
    )?;
    let mut skipped: Vec<_> = split.skipped.into_iter().map(|(path, _)| path).collect();
    skipped.extend(damaged);
    Ok(Trained {
        steps: run.trainer.step,
        gain,
        validation,
        skipped,
    })
}

/// A run under way.
struct Run<'a> {
    trainer: Trainer<'a>,
    journal: Journal,
    exams: Vec<Exam>,
    state: PathBuf,
    tell: &'a mut dyn FnMut(Event),
}

impl Run<'_> {
    /// Threads that decode photographs: enough for the smallest network here on a few cores.
    const LOADERS: u64 = 2;

    /// All steps; gives the photographs that could not be decoded.
    fn learn(&mut self, photos: &[PathBuf], stop: &AtomicBool) -> Result<Vec<PathBuf>> {
        let config = self.trainer.config;
        let options = LoaderOptions {
            size: config.size,
            batch: config.batch,
            smallest_crop: config.smallest_crop,
            film_stocks: config.film_stocks,
            seed: config.seed,
        };
        thread::scope(|scope| {
            let mut stages = Stages::new(scope);
            let (loader, loading) =
                Loader::start(&stages, photos, &options, self.trainer.step, Self::LOADERS)?;
            let learnt = self.steps(loader, stop);
            for stage in loading {
                stages.join(stage);
            }
            // A loader that panicked is the cause of the loop's failure, not the other way round.
            stages.finish()?;
            learnt
        })
    }

    fn steps(&mut self, mut loader: Loader, stop: &AtomicBool) -> Result<Vec<PathBuf>> {
        let config = self.trainer.config;
        while self.trainer.step < config.steps && !stop.load(Ordering::Relaxed) {
            let losses = self.trainer.step(&loader.next_batch()?)?;
            let step = self.trainer.step;
            let losses = self.journal.step(step, &losses);
            (self.tell)(Event::Step { step, losses });
            if step.is_multiple_of(config.check_every) {
                publish(&self.state, &self.trainer.state()?)?;
                self.check(1.)?;
            }
        }
        publish(&self.state, &self.trainer.state()?)?;
        Ok(loader.skipped())
    }

    /// Figures of the model as it is now, and a sheet of its first results.
    fn check(&mut self, gain: f32) -> Result<()> {
        const SHOWN: usize = 18;
        let step = self.trainer.step;
        let maps = eval::colour(&mut self.trainer.model(gain)?, &self.exams)?;
        let figures = eval::judge(&self.exams, &maps);
        let shown = self.exams.len().min(SHOWN);
        self.journal
            .sheet(step, &self.exams[..shown], &maps[..shown])?;
        self.journal.figures(step, &figures);
        (self.tell)(Event::Checked { step, figures });
        Ok(())
    }
}

/// The first `count` photographs that decode, at the size that the network wants.
fn exams(photos: &[PathBuf], count: usize, stride: usize, size: usize) -> Vec<Exam> {
    let open = |path: &PathBuf| {
        let photo = data::open(path).ok()?;
        let (w, h) = photo.dimensions();
        Some(Exam::new(
            &photo,
            net::thumb_size(size, stride, w as usize, h as usize),
        ))
    };
    photos.iter().filter_map(open).take(count).collect()
}

/// Parameters to start from: a model of ours of the same kind, or ImageNet SqueezeNet for the encoder of `squeeze`.
fn initial(path: &Path, arch: &str) -> Result<BTreeMap<String, Tensor>> {
    let name = shown(path);
    let bytes = fs::read(path).map_err(|e| Error::model(&name, io_sentence(path, &e)))?;
    match Checkpoint::parse(&bytes, &name) {
        Ok(model) if model.header.arch == arch => Ok(model.tensors),
        Ok(model) => Err(Error::model(
            &name,
            format!("it is {}, not {arch}", model.header.arch),
        )),
        Err(_) if arch == "squeeze" => squeeze::from_imagenet(&checkpoint::tensors(&bytes, &name)?),
        Err(e) => Err(e),
    }
}

/// Generator, discriminator and their optimisers.
struct Trainer<'a> {
    config: &'a Config,
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
    fn new(config: &'a Config, init: Option<&Path>) -> Result<Self> {
        let params = Params::seeded(config.seed, &Device::Cpu);
        let generator = (net::arch(&config.arch)?.build)(&params.root(), &config.network)?;
        let critic_params = Params::seeded(config.seed.wrapping_add(1), &Device::Cpu);
        let critic = PatchGan::new(&critic_params.root(), &config.critic)?;
        if !config.size.is_multiple_of(generator.stride()) {
            let stride = generator.stride();
            return Err(Error::Usage(format!(
                "size {} must be a multiple of {stride} for {}",
                config.size, config.arch
            )));
        }
        let given = match init {
            None => BTreeMap::new(),
            Some(path) => initial(path, &config.arch)?,
        };
        params.set(&given)?;
        let mean = params
            .vars()
            .into_iter()
            .map(|(name, var)| Ok((name, var.as_tensor().copy()?)));
        let mean = mean.collect::<Result<_>>()?;
        Ok(Self {
            config,
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

    /// One step: the discriminator on detached results, then the generator.
    fn step(&mut self, batch: &Batch) -> Result<Losses> {
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
        let part = |t: &Tensor| t.narrow(1, index * share, share)?.contiguous();
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
        let mut total = Tensor::zeros((), DType::F32, &Device::Cpu)?;
        for objective in OBJECTIVES {
            let weight = self.config.weight(objective.name);
            if weight == 0. || objective.name == "gan" && attempt.logits.is_none() {
                continue;
            }
            let loss = (objective.loss)(&attempt)?;
            losses.push((objective.name, loss.to_scalar()?));
            total = (total + (loss * weight)?)?;
        }
        Ok((losses, gradients(&total, &self.params)?))
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
    fn model(&self, gain: f32) -> Result<net::Network> {
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
        ))
    }

    /// The chroma gain: raised by tenths until the mean chroma is [`ENOUGH`] of the truth's, but only while at least
    /// half of the lead over grey, in CIEDE2000 and in PSNR_ab, is kept. Regression leans to grey; this gives some of
    /// its error back for colour.
    fn choose_gain(&self, exams: &[Exam]) -> Result<(f32, Figures)> {
        const ENOUGH: f64 = 0.6;
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

    fn header(&self, gain: f32, split: &Split, validation: &Figures) -> Header {
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
                "photographs": split.train.len(),
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
    fn state(&self) -> Result<Vec<u8>> {
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
    fn restore(&mut self, path: &Path) -> Result<()> {
        let name = shown(path);
        let bytes = fs::read(path).map_err(|e| Error::input(&name, io_sentence(path, &e)))?;
        let state: State = checkpoint::metadata(&bytes, STATE, &name)?;
        let schedule = |c: &Config| Config {
            steps: 0,
            check_every: 0,
            ..c.clone()
        };
        if schedule(&state.settings) != schedule(self.config) {
            return Err(Error::Train(format!(
                "{name} is the state of a run with other settings; give the same ones (only steps and check_every may change), or choose another output"
            )));
        }
        let tensors = checkpoint::tensors(&bytes, &name)?;
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

/// Gradients of `loss` by name.
fn gradients(loss: &Tensor, params: &Params) -> Result<Gradients> {
    let store = loss.backward()?;
    let of = |(name, var): (String, candle_core::Var)| Some((name, store.get(&var)?.clone()));
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
