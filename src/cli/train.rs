//! `autochrome train`: flags to settings.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use clap::{Args, ValueHint};
use serde_json::{Map, Value};

use super::{Ui, watch::Watch};

use crate::{
    error::{Error, Result, shown},
    net::DeviceChoice,
    train::{self, Config, Job, config},
};

const EXAMPLES: &str = "\
Examples:
  autochrome train --from default my-footage/ -o mine.safetensors    fine-tune for 30 minutes
  autochrome train --from default my-footage/ -o mine.safetensors --minutes 10
  autochrome train photos/ --recipe fast --init efficientnet-lite0.safetensors -o new.safetensors
  autochrome train photos/ --recipe pix2pix --epochs 50 -o pix2pix.safetensors
  autochrome train photos/ -o new.safetensors --set objectives.gan=0.01 --set critic.loss=hinge
  autochrome train photos/ -o new.safetensors --resume               go on after a stop

The run's folder, new.run beside new.safetensors, holds config.json, metrics.csv, TensorBoard
events, curves.png, pictures of its progress, and the checkpoints it goes on from.";

/// Train a generator on colour photographs and footage.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct TrainArgs {
    /// Folders, photographs (JPEG, PNG, WebP), colour videos, packs
    #[arg(required = true, value_hint = ValueHint::AnyPath)]
    pub photos: Vec<PathBuf>,
    /// Model file to write; everything else of the run goes to a folder NAME.run beside it
    #[arg(short, long, value_hint = ValueHint::FilePath)]
    pub output: PathBuf,
    /// Settings to begin with: a name (default, fast, finetune, nogan, pix2pix) or a JSON file [default: default, or
    /// finetune with --from]
    #[arg(long, value_name = "NAME|FILE")]
    pub recipe: Option<String>,
    /// Fine-tune this model: `default`, another bundled one, or a file
    #[arg(long, value_name = "NAME|FILE", conflicts_with_all = ["init", "arch"])]
    pub from: Option<String>,
    /// Weights to start from: ImageNet weights of the encoder, or another network's (safetensors, .pth) with --set rename
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub init: Option<PathBuf>,
    /// Kind of generator
    #[arg(long)]
    pub arch: Option<String>,
    /// Side of the crops in pixels
    #[arg(long)]
    pub size: Option<usize>,
    /// Photographs a step
    #[arg(long)]
    pub batch: Option<usize>,
    /// Steps in all
    #[arg(long, conflicts_with_all = ["epochs", "minutes"])]
    pub steps: Option<u64>,
    /// Passes over the photographs to train for
    #[arg(long, conflicts_with = "minutes")]
    pub epochs: Option<f64>,
    /// Minutes to train for: becomes a number of steps once, by the speed measured at the beginning
    #[arg(long)]
    pub minutes: Option<f64>,
    /// Seed of every choice but which pictures are held out
    #[arg(long)]
    pub seed: Option<u64>,
    /// Steps between two checkpoints [default: at every look at the validation photographs]
    #[arg(long, value_name = "STEPS")]
    pub checkpoint_every: Option<u64>,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: DeviceChoice,
    /// Threads that compute; what is learnt does not depend on it [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Any other setting, such as rate=1e-4 or objectives.gan=0.02; the value is JSON or a word
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub settings: Vec<String>,
    /// Go on where an earlier run with this output stopped, with its settings
    #[arg(long)]
    pub resume: bool,
}

impl TrainArgs {
    /// The settings that the recipe, the model to start from and the flags make together; those of the earlier part
    /// of a run that goes on come first.
    ///
    /// # Errors
    /// [`Error::Usage`] for a setting that is unknown or of the wrong type; [`Error::Input`] for an unreadable file.
    pub fn settings(&self) -> Result<Config> {
        let mut settings = match self.earlier()? {
            Some(settings) => settings,
            None => self.fresh()?,
        };
        let flags = [
            ("arch", self.arch.clone().map(Value::from)),
            ("size", self.size.map(Value::from)),
            ("batch", self.batch.map(Value::from)),
            ("steps", self.steps.map(Value::from)),
            ("epochs", self.epochs.map(Value::from)),
            ("minutes", self.minutes.map(Value::from)),
            ("seed", self.seed.map(Value::from)),
            ("checkpoint_every", self.checkpoint_every.map(Value::from)),
        ];
        // How long it runs is said in one way only.
        const LENGTHS: [&str; 3] = ["steps", "epochs", "minutes"];
        let length =
            |(name, value): &(&str, Option<Value>)| LENGTHS.contains(name) && value.is_some();
        if flags.iter().any(length) {
            LENGTHS.iter().for_each(|name| drop(settings.remove(*name)));
        }
        // A recipe's network is of the recipe's kind.
        if flags[0].1.is_some() && flags[0].1.as_ref() != settings.get("arch") {
            settings.remove("network");
        }
        let given = flags
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        settings.extend(given);
        for setting in &self.settings {
            config::set(&mut settings, setting)?;
        }
        config::parsed(settings)
    }

    /// The settings of the run that `--resume` goes on with, if there is one.
    fn earlier(&self) -> Result<Option<Map<String, Value>>> {
        match self.resume {
            true => train::earlier_settings(&self.job().folder()),
            false => Ok(None),
        }
    }

    /// Those of the recipe, and of the model to start from.
    fn fresh(&self) -> Result<Map<String, Value>> {
        let usual = if self.from.is_some() {
            "finetune"
        } else {
            "default"
        };
        let mut settings = config::recipe(self.recipe.as_deref().unwrap_or(usual))?;
        if let Some(name) = &self.from {
            settings.extend(train::settings_of(name)?);
        }
        Ok(settings)
    }

    fn job(&self) -> Job {
        Job {
            photos: self.photos.clone(),
            output: self.output.clone(),
            init: self
                .from
                .clone()
                .or_else(|| Some(self.init.as_ref()?.to_string_lossy().into_owned())),
            device: self.device,
            resume: self.resume,
        }
    }

    /// Trains. Ctrl-C ends the run after the step at hand, with its state saved and the model written; a second one
    /// ends it at once.
    ///
    /// # Errors
    /// As [`train::run`].
    pub fn run(self, ui: &Ui) -> Result<()> {
        let config = self.settings()?;
        let stop = on_interrupt()?;
        let job = self.job();
        let mut watch = Watch::new(*ui);
        let trained = train::run(&config, &job, &stop, &mut |event| watch.hear(event))?;
        watch.done();
        if !trained.skipped.is_empty() {
            ui.warn(format_args!(
                "{} photographs could not be used",
                trained.skipped.len()
            ));
        }
        ui.say(format_args!(
            "{} after {} steps; {:.1} % of the time was waiting for photographs; the run is in {}",
            shown(&job.output),
            trained.steps,
            100. * trained.waited,
            shown(job.folder())
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        train: TrainArgs,
    }

    fn settings(flags: &str) -> Result<Config> {
        let line = format!("train photos -o model.safetensors {flags}");
        Only::parse_from(line.split_whitespace()).train.settings()
    }

    #[test]
    fn another_kind_of_generator_does_not_get_the_settings_of_the_recipes() {
        let config = settings("--recipe pix2pix").unwrap();
        assert_eq!(config.network, serde_json::json!({ "depth": 8 }));
        let config = settings("--recipe pix2pix --arch unet").unwrap();
        assert_eq!(config.network, serde_json::json!({ "depth": 8 }));
        let config = settings("--recipe pix2pix --arch resnet --set network.blocks=3").unwrap();
        assert_eq!(config.network, serde_json::json!({ "blocks": 3 }));
        assert_eq!((config.batch, config.weight("l1")), (1, 100.));
    }
}
