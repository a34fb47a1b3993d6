//! `autochrome train`: flags to settings.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use clap::Args;
use serde_json::{Map, Value};

use super::{Ui, watch::Watch};

use crate::{
    error::{Error, Result, io_sentence, shown},
    net::DeviceChoice,
    train::{self, Config, Job},
};

/// Train a generator on colour photographs.
#[derive(Args, Clone, Debug)]
pub struct TrainArgs {
    /// Folders of photographs (JPEG, PNG, WebP), searched to any depth
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
        let mut watch = Watch::new(*ui, &config);
        let trained = train::run(&config, &job, &stop, &mut |event| watch.hear(event))?;
        watch.done();
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
