//! `autochrome train`: flags to settings.

use std::{
    io::IsTerminal,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Args;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use serde_json::{Map, Value};

use super::Ui;

use crate::{
    error::{Error, Result, io_sentence, shown},
    net::DeviceChoice,
    train::{self, Config, Event, Job},
};

/// Train a generator on colour photographs.
#[derive(Args, Clone, Debug)]
pub struct TrainArgs {
    /// Folders of photographs (JPEG, PNG, WebP) and colour films, searched to any depth; files; packs
    #[arg(required = true)]
    pub photos: Vec<PathBuf>,
    /// Model file to write; log, sheets and state go to a folder NAME.run beside it
    #[arg(short, long)]
    pub output: PathBuf,
    /// Kind of generator [default: unet]
    #[arg(long)]
    pub arch: Option<String>,
    /// A model of the same kind to start from, or ImageNet weights for the encoder: SqueezeNet v1.0 for `squeeze`,
    /// EfficientNet-Lite0 for `lite`
    #[arg(long, value_name = "FILE")]
    pub init: Option<PathBuf>,
    /// Side of the crops in pixels [default: 128]
    #[arg(long)]
    pub size: Option<usize>,
    /// Photographs a step [default: 4]
    #[arg(long)]
    pub batch: Option<usize>,
    /// Steps in all [default: 100000]
    #[arg(long)]
    pub steps: Option<u64>,
    /// Seed of every choice [default: 1]
    #[arg(long)]
    pub seed: Option<u64>,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: DeviceChoice,
    /// Threads that compute; what is learnt does not depend on it [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Settings from a JSON file; flags win over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Any other setting, such as rate=1e-4 or objectives='{"huber":1}'
    #[arg(long = "set", value_name = "NAME=JSON")]
    pub settings: Vec<String>,
    /// Go on where an earlier run with this output stopped
    #[arg(long)]
    pub resume: bool,
}

impl TrainArgs {
    /// The settings that file and flags make together.
    ///
    /// # Errors
    /// [`Error::Usage`] for a setting that is unknown or of the wrong type; [`Error::Input`] for an unreadable file.
    pub fn settings(&self) -> Result<Config> {
        let mut settings = match &self.config {
            None => Map::new(),
            Some(path) => {
                let text =
                    std::fs::read(path).map_err(|e| Error::input(shown(path), io_sentence(&e)))?;
                serde_json::from_slice(&text).map_err(|e| Error::input(shown(path), e))?
            }
        };
        let flags = [
            ("arch", self.arch.clone().map(Value::from)),
            ("size", self.size.map(Value::from)),
            ("batch", self.batch.map(Value::from)),
            ("steps", self.steps.map(Value::from)),
            ("seed", self.seed.map(Value::from)),
        ];
        settings.extend(
            flags
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?))),
        );
        for setting in &self.settings {
            let (name, value) = setting
                .split_once('=')
                .ok_or_else(|| Error::Usage(format!("--set {setting}: write NAME=VALUE")))?;
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
            settings.insert(name.to_owned(), value);
        }
        serde_json::from_value(Value::Object(settings))
            .map_err(|e| Error::Usage(format!("training settings: {e}")))
    }

    /// Trains. Ctrl-C ends the run after the step at hand, with its state saved and the model written; a second one
    /// ends it at once.
    ///
    /// # Errors
    /// As [`train::run`].
    pub fn run(self, ui: &Ui) -> Result<()> {
        let config = self.settings()?;
        let stop = on_interrupt()?;
        let job = Job {
            photos: self.photos,
            output: self.output,
            init: self.init,
            device: self.device,
            resume: self.resume,
        };
        let mut progress = Progress::new(*ui, config.steps);
        let trained = train::run(&config, &job, &stop, &mut |event| progress.hear(event))?;
        progress.done();
        if !trained.skipped.is_empty() {
            ui.warn(format_args!(
                "{} photographs could not be used",
                trained.skipped.len()
            ));
        }
        ui.say(format_args!(
            "{} after {} steps, chroma gain {}",
            shown(&job.output),
            trained.steps,
            trained.gain
        ));
        Ok(())
    }
}

/// A flag that the first Ctrl-C sets; the second ends the process.
fn on_interrupt() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let handler = move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(Error::Stopped.exit_code().into());
        }
    };
    ctrlc::set_handler(handler).map_err(|e| Error::internal("signals", e))?;
    Ok(stop)
}

/// What a person sees of a run: a bar on a terminal, else a line every ten seconds.
struct Progress {
    ui: Ui,
    bar: Option<ProgressBar>,
    steps: u64,
    /// The step that was done first here, and when.
    first: Option<(u64, Instant)>,
    spoken: Instant,
}

impl Progress {
    const EVERY: Duration = Duration::from_secs(10);

    fn new(ui: Ui, steps: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style =
                ProgressStyle::with_template("{wide_bar} {pos}/{len}  {msg}  ETA {eta_precise}");
            ProgressBar::new(steps)
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self {
            ui,
            bar,
            steps,
            first: None,
            spoken: Instant::now(),
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Note(line) => self.print(|ui| ui.say(&line)),
            Event::Warning(line) => self.print(|ui| ui.warn(&line)),
            Event::Step { step, losses } => self.step(step, &losses),
            Event::Checked { step, figures: f } => self.print(|ui| {
                ui.say(format_args!(
                    "step {step}: on validation photographs CIEDE2000 {:.3}, PSNR_ab {:.3} dB, chroma {:.3} of the truth's",
                    f.ciede2000, f.psnr_ab, f.chroma_ratio
                ));
            }),
        }
    }

    fn step(&mut self, step: u64, losses: &[(&str, f32)]) {
        let losses: Vec<_> = losses
            .iter()
            .map(|(name, loss)| format!("{name} {loss:.4}"))
            .collect();
        let losses = losses.join(" ");
        let (first, since) = *self.first.get_or_insert_with(|| (step, Instant::now()));
        if let Some(bar) = &self.bar {
            bar.set_position(step);
            bar.set_message(losses);
        } else if self.spoken.elapsed() >= Self::EVERY || step == self.steps {
            self.spoken = Instant::now();
            let pace = since.elapsed().as_secs_f64() / (step - first).max(1) as f64;
            let left = HumanDuration(Duration::from_secs_f64(pace * (self.steps - step) as f64));
            let steps = self.steps;
            self.ui.say(format_args!(
                "step {step}/{steps}: {losses}, {:.0} ms a step, {left} left",
                pace * 1e3
            ));
        }
    }

    fn print(&self, say: impl FnOnce(&Ui)) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(&self.ui)),
            None => say(&self.ui),
        }
    }

    fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
