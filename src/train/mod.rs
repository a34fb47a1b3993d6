//! The trainer: settings on top, the loop below.
//!
//! A run is a function of its settings and photographs alone. Its folder holds the log, the sheets and the state from
//! which it goes on exactly as if it had never stopped.

pub mod data;
pub mod journal;
pub mod objective;
pub mod optim;
pub mod signs;
pub mod store;
mod trainer;

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use candle_core::DType;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    error::{Error, Result, io_sentence, shown},
    eval::{self, Exam, Figures},
    net::{self, DeviceChoice, Precision, checkpoint, patchgan::PatchGanConfig},
    stage::Stages,
};
use data::{Loader, LoaderOptions, Split};
use journal::{Journal, Losses, publish};
use objective::OBJECTIVES;
pub use trainer::Trainer;

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
    /// Memory for decoded photographs in MiB: those that find room are read once, the others at every visit. The
    /// result does not depend on it.
    pub cache_mb: usize,
    /// Whether convolutions multiply bf16 numbers; parameters, sums and everything else stay f32. Faster where the
    /// CPU or GPU has them.
    pub bf16: bool,
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
            bf16: false,
            cache_mb: 4096,
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
        if self.cache_mb > usize::MAX >> 20 {
            return usage(format!(
                "cache_mb {} is not within 0..={}",
                self.cache_mb,
                usize::MAX >> 20
            ));
        }
        if self.steps == 0 || self.check_every == 0 {
            return usage("steps and check_every must be at least 1".into());
        }
        Ok(())
    }

    /// The number of parts of a batch that would keep more of `threads` busy than [`Config::shards`] does, if any.
    fn better_shards(&self, threads: usize) -> Option<usize> {
        let whole = (self.shards + 1..=threads).rev();
        whole.into_iter().find(|n| self.batch.is_multiple_of(*n))
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
    /// Where to train.
    pub device: DeviceChoice,
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
    let place = job.device.place(Precision::F32)?;
    let on_cpu = place.device.is_cpu();
    let mut trainer = Trainer::new(config, job.init.as_deref(), place.device)?;
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
    let resumed_at = (trainer.steps() > 0).then_some(trainer.steps());
    let split = Split::scan(&job.photos, config.held_out, config.seed)?;
    tell(Event::Note(format!(
        "{} photographs to learn from, {} for validation, {} for test",
        split.train.len(),
        split.validation.len(),
        split.test.len()
    )));
    tell(Event::Note(format!("training on {}", place.words)));
    for warning in trainer.take_warnings() {
        tell(Event::Warning(warning));
    }
    if on_cpu && let Some(better) = config.better_shards(rayon::current_num_threads()) {
        tell(Event::Note(format!(
            "with {} parts a batch this run keeps {0} threads busy; --set shards={better} would keep {better} (and learn otherwise: it belongs to the run)",
            config.shards
        )));
    }
    for (path, why) in &split.skipped {
        tell(Event::Warning(format!("skipped {}: {why}", shown(path))));
    }
    fs::create_dir_all(&folder).map_err(|e| Error::output(shown(&folder), io_sentence(&e)))?;
    let exams = exams(
        &split.validation,
        config.check_photos,
        trainer.stride(),
        config.size,
    );
    let mut run = Run {
        config,
        trainer,
        journal: Journal::open(&folder, &json!({ "settings": config }), resumed_at)?,
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
    let header = run.trainer.header(gain, split.train.len(), &validation);
    publish(
        &job.output,
        &checkpoint::bytes(&header, run.trainer.mean(), DType::F16)?,
    )?;
    let mut skipped: Vec<_> = split.skipped.into_iter().map(|(path, _)| path).collect();
    skipped.extend(damaged);
    Ok(Trained {
        steps: run.trainer.steps(),
        gain,
        validation,
        skipped,
    })
}

/// A run under way.
struct Run<'a> {
    config: &'a Config,
    trainer: Trainer,
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
        let config = self.config;
        let options = LoaderOptions {
            size: config.size,
            batch: config.batch,
            smallest_crop: config.smallest_crop,
            film_stocks: config.film_stocks,
            seed: config.seed,
            cache: config.cache_mb << 20,
        };
        thread::scope(|scope| {
            let mut stages = Stages::new(scope);
            let (loader, loading) = Loader::start(
                &stages,
                photos,
                &options,
                self.trainer.steps(),
                Self::LOADERS,
            )?;
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
        let config = self.config;
        while self.trainer.steps() < config.steps && !stop.load(Ordering::Relaxed) {
            let (begun, rate) = (Instant::now(), config.rate_at(self.trainer.steps()));
            let losses = self.trainer.step(&loader.next_batch()?)?;
            let pace = config.batch as f64 / begun.elapsed().as_secs_f64();
            for warning in self.trainer.take_warnings() {
                (self.tell)(Event::Warning(warning));
            }
            let step = self.trainer.steps();
            let losses = self.journal.step(step, &losses, rate, pace);
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
        let step = self.trainer.steps();
        let maps = eval::colour(&mut self.trainer.model(gain)?, &self.exams)?;
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
            ],
        );
        self.journal.curves()?;
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
