//! The trainer.
//!
//! [`Config`] holds every setting; [`run`] reads photographs ([`data`]), takes steps ([`Trainer`]), looks at the
//! validation photographs now and then, and writes the model. A run is a function of its settings and photographs
//! alone; its folder holds the log, the pictures ([`journal`]) and the checkpoints ([`store`]) from which it goes on
//! exactly as if it had never stopped.

pub mod config;
mod critic;
pub mod data;
mod frequency;
pub mod journal;
mod learner;
pub mod liveliness;
mod merge;
pub mod objective;
pub mod optim;
pub mod signs;
mod start;
pub mod store;
mod trainer;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use candle_core::DType;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    error::{Error, Result, io_sentence, shown},
    eval::{self, Exam, Figures},
    net::{self, Decoding, DeviceChoice, Precision, checkpoint},
    stage::Stages,
};
pub use config::Config;
use data::{Loader, LoaderOptions, Photo, ScanOptions, Split};
use journal::{Journal, Losses, publish};
use liveliness::Chosen;
pub use merge::merge;
use signs::{Known, Sign, Signs};
use store::Store;
pub use trainer::Trainer;

/// What a run is asked to do, beside its settings.
#[derive(Clone, Debug)]
pub struct Job {
    /// Folders and files: photographs, colour videos, packs.
    pub photos: Vec<PathBuf>,
    /// The model file to write.
    pub output: PathBuf,
    /// Weights to start from: the name of a bundled model, or a file: a model of ours, another network with
    /// [`Config::rename`], or the ImageNet weights of the generator's encoder.
    pub init: Option<String>,
    /// Where to train.
    pub device: DeviceChoice,
    /// Go on from the newest checkpoint in the run's folder, if there is one.
    pub resume: bool,
}

impl Job {
    /// The run's folder: beside the output, `NAME.run`.
    pub fn folder(&self) -> PathBuf {
        self.output.with_extension("run")
    }
}

/// The settings of the run in this folder, if there is one.
///
/// # Errors
/// [`Error::Input`] where they cannot be read.
pub fn earlier_settings(folder: &Path) -> Result<Option<Map<String, Value>>> {
    let Some(saved) = Store::open(folder, store::Keep::default())?.newest()? else {
        return Ok(None);
    };
    Ok(saved.state["trainer"]["settings"].as_object().cloned())
}

/// What a run that goes on from the model `name` takes from it: its kind, its size, what it was trained for, and which
/// photographs it never saw.
///
/// # Errors
/// [`Error::Model`] where there is no such model.
pub fn settings_of(name: &str) -> Result<Map<String, Value>> {
    let header = net::open(name)?.header;
    let mut settings = Map::from_iter([
        ("arch".to_owned(), header.arch.into()),
        ("network".to_owned(), header.network),
        ("size".to_owned(), header.size.into()),
    ]);
    let earlier = &header.trained["settings"];
    for name in ["held_out", "split"] {
        if let Some(value) = earlier.get(name) {
            settings.insert(name.to_owned(), value.clone());
        }
    }
    if let Some(objectives) = earlier["objectives"].as_object() {
        let mut objectives = objectives.clone();
        // A discriminator is not part of a model, and half an hour is too short to raise a new one.
        objectives.remove("gan");
        if !objectives.is_empty() {
            settings.insert("objectives".to_owned(), objectives.into());
        }
    }
    Ok(settings)
}

/// What a finished run has made.
#[derive(Clone, Debug, Serialize)]
pub struct Trained {
    /// Steps done in all.
    pub steps: u64,
    /// Figures on the validation photographs.
    pub validation: Figures,
    /// The step whose model was best on them.
    pub best: Option<u64>,
    /// Photographs that could not be used, with the reason.
    pub skipped: Vec<(String, String)>,
    /// Share of the time in which the steps waited for photographs.
    pub waited: f64,
}

/// A finished step.
#[derive(Clone, Debug)]
pub struct Step {
    /// Steps done.
    pub step: u64,
    /// Steps in all.
    pub of: u64,
    /// The running means of the losses.
    pub losses: Losses,
    /// The generator's learning rate.
    pub rate: f64,
    /// Pace of this step.
    pub pictures_per_second: f64,
    /// Who learns, at which size.
    pub phase: String,
}

/// What a run reports as it goes.
pub enum Event {
    /// A line for people.
    Note(String),
    /// Something that the user should know although the run goes on.
    Warning(String),
    /// So many photographs have been looked at, of so many, before the first step.
    Scanned {
        /// Looked at.
        done: usize,
        /// In all.
        of: usize,
    },
    /// A step is done.
    Step(Step),
    /// The validation photographs were looked at.
    Checked {
        /// Steps done.
        step: u64,
        /// How good the model is.
        figures: Figures,
    },
}

/// Trains until the last step or until `stop` is set; then a checkpoint is saved, and the model written.
///
/// # Errors
/// [`Error::Usage`] for settings out of range, [`Error::Train`] where there is nothing to learn from, the run has
/// failed, or the checkpoint is of another run; and whatever reading and writing meets.
pub fn run(
    config: &Config,
    job: &Job,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(Event),
) -> Result<Trained> {
    config.validate()?;
    let mut config = config.clone();
    let folder = job.folder();
    let mut store = Store::open(&folder, config.keep)?;
    let saved = store.newest()?;
    for warning in store.take_warnings() {
        tell(Event::Warning(warning));
    }
    if saved.is_some() && !job.resume {
        return Err(Error::Train(format!(
            "{} holds the checkpoints of an earlier run; add --resume to go on with it, or choose another output",
            shown(&folder)
        )));
    }
    let split = scan(&config, job, tell)?;
    let place = job.device.place(Precision::F32)?;
    tell(Event::Note(format!("training on {}", place.words)));
    match &saved {
        Some(saved) => config.resume(&saved.state["trainer"]["settings"]),
        None => plan(&mut config, job, &split, &place.device, tell)?,
    }
    let mut trainer = Trainer::new(&config, job.init.as_deref(), place.device.clone())?;
    if config.weight("cross-entropy-rebalanced") > 0. {
        trainer.rebalance(&frequency::of_classes(&split.train)?)?;
    }
    let mut signs = Signs::new(Known {
        chance: config.critic.loss.game().chance,
        rate: config.rate,
        gan: config.weight("gan"),
    });
    if let Some(saved) = &saved {
        trainer.restore(saved)?;
        signs.restore(saved.read("signs")?);
        if saved.read::<String>("photographs")? != split.digest {
            tell(Event::Warning(
                "the photographs are not those that the run began with: from here on it is another run".into(),
            ));
        }
        tell(Event::Note(format!("going on after step {}", saved.step)));
    }
    advise(&config, job, &trainer, place.device.is_cpu(), tell);
    fs::create_dir_all(&folder).map_err(|e| Error::output(shown(&folder), io_sentence(&e)))?;
    let header = header(&config, job, &split, &place.words);
    let mut journal = Journal::open(&folder, &header, saved.as_ref().map(|s| s.step))?;
    if let Some(saved) = &saved {
        journal.restore(saved.read("means")?);
    }
    let exams = exams(&split, &config, trainer.stride());
    let run = Run {
        config: &config,
        trainer,
        journal,
        store,
        signs,
        exams,
        tell,
        digest: split.digest.clone(),
        waited: 0.,
    };
    run.all(&split, job, stop)
}

/// Photographs with a shorter side teach nothing.
const LEAST_SIDE: u32 = 16;

/// Finds the photographs, and says what there is.
fn scan(config: &Config, job: &Job, tell: &mut dyn FnMut(Event)) -> Result<Split> {
    let options = ScanOptions::new(&job.photos, config.held_out, config.split, LEAST_SIDE);
    let split = Split::scan(&options, &mut |done, of| tell(Event::Scanned { done, of }))?;
    tell(Event::Note(format!(
        "{} photographs to learn from, {} for validation, {} for test; {}",
        split.train.len(),
        split.validation.len(),
        split.test.len(),
        split.left_out
    )));
    for (name, why) in &split.skipped {
        tell(Event::Warning(format!("skipped {name}: {why}")));
    }
    if split.validation.is_empty() {
        tell(Event::Warning(
            "no photograph is held out for validation: what is said of validation is of those that it learns from".into(),
        ));
    }
    Ok(split)
}

/// Turns epochs or minutes into steps.
fn plan(
    config: &mut Config,
    job: &Job,
    split: &Split,
    device: &candle_core::Device,
    tell: &mut dyn FnMut(Event),
) -> Result<()> {
    if let Some(epochs) = config.epochs.take() {
        config.steps = steps_for_epochs(config, epochs, split.train.len());
    } else if let Some(minutes) = config.minutes.take() {
        tell(Event::Note("measuring the speed".into()));
        let seconds = seconds_a_step(config, job, split, device)?;
        // A tenth of the time for the looks at the validation photographs.
        config.steps = ((minutes * 60. * 0.9 / seconds) as u64).max(1);
        config.check_every = config.check_every.min(config.steps.div_ceil(4));
        config.warmup = config.warmup.min(config.steps / 10);
    } else {
        return Ok(());
    }
    tell(Event::Note(format!("that is {} steps", config.steps)));
    Ok(())
}

/// Steps in which as many photographs are seen as `epochs` passes have, with the batches of every size.
fn steps_for_epochs(config: &Config, epochs: f64, photos: usize) -> u64 {
    let mut begun = 0.;
    let mut a_step = 0.;
    let ends = config.grow.iter().map(|grow| grow.until).chain([1.]);
    for ((_, batch), end) in config.sizes().zip(ends) {
        a_step += batch as f64 * (end - begun);
        begun = end;
    }
    ((epochs * photos as f64 / a_step).ceil() as u64).max(1)
}

/// Seconds that a step takes here on average over the run, by a few steps of every size that are thrown away.
fn seconds_a_step(
    config: &Config,
    job: &Job,
    split: &Split,
    device: &candle_core::Device,
) -> Result<f64> {
    const UNCOUNTED: u64 = 2;
    const COUNTED: u64 = 4;
    let mut mean = 0.;
    let phases = config.phases();
    for (i, phase) in phases.iter().enumerate() {
        let end = phases.get(i + 1).map_or(config.steps, |next| next.from);
        let mut trainer = Trainer::new(config, job.init.as_deref(), device.clone())?;
        // As late in the phase as there are steps: everything that begins on the way has begun.
        let first = phase.from.max(end.saturating_sub(UNCOUNTED + COUNTED + 1));
        trainer.pretend(first);
        let options = loader_options(config);
        let seconds = thread::scope(|scope| {
            let mut stages = Stages::new(scope);
            let (mut loader, loading) =
                Loader::start(&stages, &split.train, &options, first, LOADERS)?;
            let mut seconds = || -> Result<f64> {
                for _ in 0..UNCOUNTED {
                    trainer.step(&loader.next_batch()?)?;
                }
                let start = Instant::now();
                for _ in 0..COUNTED {
                    trainer.step(&loader.next_batch()?)?;
                }
                Ok(start.elapsed().as_secs_f64() / COUNTED as f64)
            };
            let seconds = seconds();
            drop(loader);
            for stage in loading {
                stages.join(stage);
            }
            stages.finish()?;
            seconds
        })?;
        mean += seconds * (end - phase.from) as f64 / config.steps as f64;
    }
    Ok(mean)
}

/// What would make this run better, where something would.
fn advise(
    config: &Config,
    job: &Job,
    trainer: &Trainer,
    on_cpu: bool,
    tell: &mut dyn FnMut(Event),
) {
    let threads = rayon::current_num_threads();
    if on_cpu && let Some(better) = config.better_shards(threads) {
        tell(Event::Note(format!(
            "with {} parts a batch this run keeps {0} threads busy; --set shards={better} would keep {better} (and learn otherwise: it belongs to the run)",
            config.shards
        )));
    }
    let known = net::arch(&config.arch).is_ok_and(|arch| arch.pretrained.is_some());
    if job.init.is_none() && trainer.steps() == 0 && known {
        tell(Event::Note(format!(
            "the encoder of {} starts from nothing; --from MODEL, or --init FILE with its ImageNet weights, learns much faster",
            config.arch
        )));
    }
}

/// What the run's folder says of it.
fn header(config: &Config, job: &Job, split: &Split, device: &str) -> Value {
    json!({
        "autochrome": env!("CARGO_PKG_VERSION"),
        "settings": config,
        "photographs": {
            "inputs": job.photos,
            "train": split.train.len(),
            "validation": split.validation.len(),
            "test": split.test.len(),
            "digest": split.digest,
        },
        "init": job.init,
        "device": device,
        "threads": rayon::current_num_threads(),
    })
}

/// Threads that decode photographs: enough for the smallest network here on a few cores.
const LOADERS: u64 = 2;

fn loader_options(config: &Config) -> LoaderOptions {
    LoaderOptions {
        phases: config.phases(),
        augment: config.augment.clone(),
        seed: config.seed,
        cache: config.cache_mb << 20,
    }
}

/// How classes become colours in the looks on the way: with the least error.
const LOOKED_AT: Decoding = Decoding {
    k: 0.,
    temperature: 0.38,
    calm: 0,
};

/// A run under way.
struct Run<'a> {
    config: &'a Config,
    trainer: Trainer,
    journal: Journal,
    store: Store,
    signs: Signs,
    exams: Vec<Exam>,
    tell: &'a mut dyn FnMut(Event),
    /// Which photographs these are.
    digest: String,
    /// Share of the time in which steps waited for photographs.
    waited: f64,
}

impl Run<'_> {
    /// From here to the written model.
    fn all(mut self, split: &Split, job: &Job, stop: &AtomicBool) -> Result<Trained> {
        let damaged = self.learn(&split.train, stop)?;
        for (name, why) in &damaged {
            (self.tell)(Event::Warning(format!("skipped {name}: {why}")));
        }
        let (chosen, prior) = self.finish()?;
        let header = self.trainer.header(&chosen, split);
        let tensors = self.trainer.tensors(prior.as_deref())?;
        publish(
            &job.output,
            &checkpoint::bytes(&header, &tensors, DType::F16)?,
        )?;
        let mut skipped = split.skipped.clone();
        skipped.extend(damaged);
        let trained = Trained {
            steps: self.trainer.steps(),
            validation: chosen.figures,
            best: self.store.best(),
            skipped,
            waited: self.waited,
        };
        let summary = serde_json::to_value(&trained).map_err(|e| Error::internal("summary", e))?;
        self.journal.finish(&summary)?;
        Ok(trained)
    }

    /// All steps; gives the photographs that could not be decoded.
    fn learn(&mut self, photos: &[Photo], stop: &AtomicBool) -> Result<Vec<(String, String)>> {
        let options = loader_options(self.config);
        let first = self.trainer.steps();
        thread::scope(|scope| {
            let mut stages = Stages::new(scope);
            let (loader, loading) = Loader::start(&stages, photos, &options, first, LOADERS)?;
            let learnt = self.steps(loader, stop);
            for stage in loading {
                stages.join(stage);
            }
            // A loader that panicked is the cause of the loop's failure, not the other way round.
            stages.finish()?;
            learnt
        })
    }

    fn steps(&mut self, mut loader: Loader, stop: &AtomicBool) -> Result<Vec<(String, String)>> {
        let config = self.config;
        let every = match config.checkpoint_every {
            0 => config.check_every,
            every => every,
        };
        let begun = Instant::now();
        let mut saved = None;
        while self.trainer.steps() < config.steps && !stop.load(Ordering::Relaxed) {
            self.step(&mut loader)?;
            let step = self.trainer.steps();
            let figures = match step.is_multiple_of(config.check_every) || step == config.steps {
                true => Some(self.check()?),
                false => None,
            };
            if step.is_multiple_of(every) || figures.is_some() {
                self.save(figures.as_ref())?;
                saved = Some(step);
            }
        }
        if saved != Some(self.trainer.steps()) {
            self.save(None)?;
        }
        self.waited = loader.waited().as_secs_f64() / begun.elapsed().as_secs_f64().max(1e-9);
        Ok(loader.skipped())
    }

    fn step(&mut self, loader: &mut Loader) -> Result<()> {
        let start = Instant::now();
        let step = self.trainer.steps();
        let batch = loader.next_batch()?;
        let (count, size, _, _) = batch.l.dims4()?;
        let done = self.trainer.step(&batch)?;
        for warning in self.trainer.take_warnings() {
            (self.tell)(Event::Warning(warning));
        }
        let rate = self.config.rate_at(step);
        let speed = count as f64 / start.elapsed().as_secs_f64();
        let losses = self.journal.step(step + 1, &done.losses, rate, speed);
        if let Some(warning) = self.journal.take_warning() {
            (self.tell)(Event::Warning(warning));
        }
        let turn = self.config.turn(step);
        (self.tell)(Event::Step(Step {
            step: step + 1,
            of: self.config.steps,
            losses,
            rate,
            pictures_per_second: speed,
            phase: format!("{turn}, {size} px"),
        }));
        if !turn.generator() {
            return Ok(());
        }
        for sign in self
            .signs
            .step(step + 1, &done.losses, done.chroma, done.spread)
        {
            match sign {
                Sign::Warn(words) => (self.tell)(Event::Warning(words)),
                Sign::Stop(words) => return Err(Error::Train(words)),
            }
        }
        Ok(())
    }

    fn save(&mut self, figures: Option<&Figures>) -> Result<()> {
        let (parts, trainer) = self.trainer.state()?;
        let (signs, means) = (self.signs.state(), self.journal.means());
        let state = json!({ "trainer": trainer, "signs": signs, "means": means, "photographs": self.digest });
        let metric = figures.map(|figures| figures.ciede2000);
        self.store
            .save(self.trainer.steps(), &parts, &state, metric)?;
        for warning in self.store.take_warnings() {
            (self.tell)(Event::Warning(warning));
        }
        Ok(())
    }

    /// Figures of the model as it is now, and pictures of its first results. Classes are decoded with the least error,
    /// always in the same way, so that one look can be compared with another.
    fn check(&mut self) -> Result<Figures> {
        const SHOWN: usize = 18;
        let step = self.trainer.steps();
        let mut model = self.trainer.model(&LOOKED_AT, 1., None)?;
        let maps = eval::colour(&mut model, &self.exams)?;
        let figures = eval::judge(&self.exams, &maps);
        let shown = self.exams.len().min(SHOWN);
        self.journal
            .sheet(step, &self.exams[..shown], &maps[..shown])?;
        self.journal.figures(
            step,
            &[
                ("ciede2000", figures.ciede2000),
                ("psnr_ab", figures.psnr_ab),
                ("chroma_ratio", figures.chroma_ratio),
                ("colourfulness", figures.colourfulness),
            ],
        );
        self.journal.curves()?;
        (self.tell)(Event::Checked { step, figures });
        Ok(figures)
    }

    /// Chooses how lively the model's colours are to be; also gives how frequent it thinks each class.
    fn finish(&mut self) -> Result<(Chosen, Option<Vec<f32>>)> {
        let prior = self.trainer.prior(&self.exams)?;
        let chosen = liveliness::choose(&self.trainer, prior.as_deref(), &self.exams)?;
        let vivid = chosen.looks.vivid;
        let how = match &prior {
            Some(_) => format!("prior correction {:.2}", vivid.decoding.k),
            None => format!("gain {:.1}", vivid.gain),
        };
        (self.tell)(Event::Note(format!(
            "made livelier by {how}: CIEDE2000 {:.3}, chroma {:.3} of the truth's",
            chosen.figures.ciede2000, chosen.figures.chroma_ratio
        )));
        Ok((chosen, prior))
    }
}

/// A fixed choice of the photographs held out for validation, at the size that the network wants; of those that it
/// learns from where nothing is held out.
fn exams(split: &Split, config: &Config, stride: usize) -> Vec<Exam> {
    let open = |photo: &Photo| {
        let picture = photo.open().ok()?;
        let (w, h) = picture.dimensions();
        let size = net::thumb_size(config.size, stride, w as usize, h as usize);
        Some(Exam::new(&picture, size))
    };
    let photos = match split.validation.is_empty() {
        true => &split.train,
        false => &split.validation,
    };
    let chosen = data::stratified(photos, config.check_photos);
    chosen.iter().filter_map(open).collect()
}
