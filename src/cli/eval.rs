//! `autochrome eval`: how good models are on photographs and films that they were not trained on.

use std::{ffi::OsString, path::PathBuf, sync::Arc};

use clap::Args;
use serde::Serialize;

use super::{Ui, place::PlaceArgs, ui::answer};
use crate::{
    colorize::{self, KeepColor},
    controls::Controls,
    error::{Error, Result, shown},
    eval::{
        self, EvalOptions,
        calibrate::{self, Limits},
        page::page,
    },
    media::{BesideSink, InputOptions, OutputOptions, Source},
    net::{self, Look},
    train::journal::publish,
};

const EXAMPLES: &str = "\
Examples:
  autochrome eval ~/photos                        the bundled model on photographs that it has not seen
  autochrome eval ~/photos --model a.safetensors --model b.safetensors --report compared.html
  autochrome eval ~/photos --features squeezenet.safetensors --count 1000
  autochrome eval holiday.mp4 --frames 100        a film in colour, whose colour the model does not see
  autochrome eval holiday.mp4 --compare side.mp4  and a film of grey beside the model's colours
  autochrome eval ~/other-photos --all --json     photographs that no model has learnt from
  autochrome eval ~/photos --model a.safetensors --calibrate -o b.safetensors";

/// How SFD can be had, for those who go without.
const NO_FEATURES: &str = "SFD is left out: it needs the weights of ImageNet SqueezeNet v1.0, which are not part of \
    autochrome (github.com/forresti/SqueezeNet); convert them to safetensors with names such as conv1.weight and \
    fire2.squeeze.weight, and give the file with --features";

/// Fewest photographs for an SFD that can be quoted.
const ENOUGH: usize = 500;

/// Flags of `eval`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct EvalArgs {
    /// Folders of photographs and films in colour, single photographs, and films; of what a model learnt from, only
    /// the part held out for test is used. A film that is named is judged as a film, of those in folders some frames
    /// as photographs
    #[arg(required = true, value_name = "FOLDER|PHOTO|FILM")]
    inputs: Vec<PathBuf>,
    /// A bundled model or a .safetensors file; give it several times to compare
    #[arg(long = "model", value_name = "NAME|FILE", default_value = net::DEFAULT_MODEL)]
    models: Vec<String>,
    /// faithful or vivid; give it several times to compare
    #[arg(long = "look", value_name = "LOOK", default_value = "vivid")]
    looks: Vec<Look>,
    #[command(flatten)]
    place: PlaceArgs,
    /// Weights of ImageNet SqueezeNet v1.0 (.safetensors), for SFD
    #[arg(long, value_name = "FILE")]
    features: Option<PathBuf>,
    /// At most so many photographs, every source its share [with --calibrate: 500 where not given]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
    /// Every photograph, not only the test part: for those that no model has learnt from
    #[arg(long, conflicts_with = "calibrate")]
    all: bool,
    /// At most so many frames of each film, from its start
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    frames: u32,
    /// How films are coloured over time: off, smooth or motion; give it several times to compare
    #[arg(long = "temporal", value_name = "FILTER", default_value = "motion")]
    temporal: Vec<String>,
    /// With --temporal motion: frames from one key frame to the next
    #[arg(long, value_name = "FRAMES", default_value_t = 6, value_parser = clap::value_parser!(u8).range(1..=50))]
    key_interval: u8,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Write one self-contained page with the figures and the pictures
    #[arg(long, value_name = "FILE.html", conflicts_with = "calibrate")]
    report: Option<PathBuf>,
    /// Write a film of grey beside the first model's colours, of the one film that is judged, whole
    #[arg(long, value_name = "FILM", conflicts_with = "calibrate")]
    compare: Option<OsString>,
    /// Choose how the model's colours are decoded (prior correction k, temperature T and calm of a classification,
    /// and gain), on the validation part: faithful is what has the least CIEDE2000, vivid what has the least SFD
    /// (without --features: the least CIEDE2000) within the limits
    #[arg(long)]
    calibrate: bool,
    /// With --calibrate: write the model with the chosen settings, for the size that --quality says
    #[arg(short, long, value_name = "FILE", requires = "calibrate")]
    output: Option<PathBuf>,
    /// With --calibrate: largest CIEDE2000 of vivid [default: 0.3 below grey's]
    #[arg(long, value_name = "VALUE", requires = "calibrate")]
    max_de00: Option<f64>,
    /// With --calibrate: least colourfulness of vivid, as a part of the truth's
    #[arg(
        long,
        value_name = "RATIO",
        default_value_t = 0.8,
        requires = "calibrate"
    )]
    min_cf: f64,
    /// With --calibrate: largest colourfulness of vivid, as a part of the truth's
    #[arg(
        long,
        value_name = "RATIO",
        default_value_t = 1.0,
        requires = "calibrate"
    )]
    max_cf: f64,
    /// With --calibrate: largest prior correction of vivid; more makes rare colours of doubt, which photographs forgive and
    /// old films show as red blotches
    #[arg(long, value_name = "K", default_value_t = 0.2, requires = "calibrate")]
    max_k: f32,
    /// With --calibrate: least calm of vivid; where the network is in doubt of a colour, more makes it weaker
    #[arg(
        long,
        value_name = "TIMES",
        default_value_t = 0,
        requires = "calibrate"
    )]
    min_calm: u8,
}

impl EvalArgs {
    /// Prints the figures of the models, of grey and of a constant mean colour, or calibrates.
    ///
    /// # Errors
    /// As [`eval::run`] and [`calibrate::run`]; the report or the model cannot be written.
    pub fn run(self, ui: &Ui) -> Result<()> {
        let options = EvalOptions {
            inputs: self.inputs.clone(),
            models: self.models.clone(),
            looks: self.looks.clone(),
            network: self.place.options(Look::default()),
            features: self.features.clone(),
            count: self.count.map(|count| count as usize),
            all: self.all,
            frames: self.frames as usize,
            temporal: self.temporal.clone(),
            key_interval: self.key_interval.into(),
        };
        if self.features.is_none() && !self.json {
            ui.say(NO_FEATURES);
        }
        match self.calibrate {
            true => self.calibrate(&options, ui),
            false => self.compare(&options, ui),
        }
    }

    fn compare(&self, options: &EvalOptions, ui: &Ui) -> Result<()> {
        if self.compare.is_some() && self.inputs.len() > 1 {
            return Err(Error::Usage(
                "--compare is of one film: give no more".into(),
            ));
        }
        let mut counter = ui.counter();
        let report = eval::run(options, &mut |what, done, of| counter.at(what, done, of))?;
        let page = match &self.report {
            None => None,
            Some(path) => {
                let page = page(&report, options, &mut |what, done, of| {
                    counter.at(what, done, of)
                });
                Some((path, page?))
            }
        };
        counter.done();
        say_skipped(ui, &report.skipped);
        report.warnings.iter().for_each(|warning| ui.warn(warning));
        if self.features.is_some() && (1..ENOUGH).contains(&report.pictures.len()) {
            ui.warn(format!(
                "SFD of fewer than {ENOUGH} photographs says little"
            ));
        }
        if let Some((path, page)) = page {
            publish(path, page.as_bytes())?;
            ui.say(format!("report: {}", shown(path)));
        }
        if let Some(film) = &self.compare {
            self.film(film, ui)?;
            ui.say(format!("comparison: {}", film.to_string_lossy()));
        }
        self.print(&report)
    }

    /// Before and after of the only input.
    fn film(&self, output: &OsString, ui: &Ui) -> Result<()> {
        let ([input, ..], [model, ..], [look, ..], [temporal, ..]) = (
            &self.inputs[..],
            &self.models[..],
            &self.looks[..],
            &self.temporal[..],
        ) else {
            return Err(Error::internal("eval", "nothing to compare"));
        };
        let mut colorizer = net::load(model, &self.place.options(*look))?;
        let source = Source::open(input.as_os_str(), &InputOptions::default())?;
        let encoding = OutputOptions {
            // As a report is.
            force: true,
            drop_unsupported: true,
            provenance: format!(
                "Colours on the right are machine-made, by autochrome {}; model {}",
                env!("CARGO_PKG_VERSION"),
                colorizer.describe()
            ),
            ..OutputOptions::default()
        };
        let sink = BesideSink::create(output, &encoding, &source)?;
        let options = colorize::Options {
            batch: colorizer.default_batch(),
            temporal: temporal.clone(),
            key_interval: self.key_interval.into(),
            keep_color: KeepColor::Never,
            ..colorize::Options::default()
        };
        let bar = Arc::new(ui.progress(&shown(input), source.info().video.frames));
        let drawn = bar.clone();
        let controls = Controls::default().with_progress(move |p| drawn.at(p.frames, p.seconds));
        let (sinks, colorizer) = (vec![Box::new(sink) as _], colorizer.as_mut());
        let done = colorize::run(source, sinks, colorizer, &options, &controls);
        bar.done();
        done.map(|_| ())
    }

    fn calibrate(&self, options: &EvalOptions, ui: &Ui) -> Result<()> {
        if self.models.len() > 1 {
            return Err(Error::Usage(
                "--calibrate takes one --model at a time".into(),
            ));
        }
        let limits = Limits {
            max_ciede2000: self.max_de00,
            min_colourfulness: self.min_cf,
            max_colourfulness: self.max_cf,
            max_k: self.max_k,
            min_calm: self.min_calm,
        };
        let mut counter = ui.counter();
        let found = calibrate::run(options, &limits, &mut |what, done, of| {
            counter.at(what, done, of)
        })?;
        counter.done();
        say_skipped(ui, &found.skipped);
        found.warnings.iter().for_each(|warning| ui.warn(warning));
        self.print(&found)?;
        found.vivid()?;
        if let Some(path) = &self.output {
            publish(path, &found.tuned()?)?;
            ui.say(format!("model: {}", shown(path)));
        }
        Ok(())
    }

    fn print(&self, found: &(impl Serialize + std::fmt::Display)) -> Result<()> {
        match self.json {
            true => answer(serde_json::to_string(found).map_err(|e| Error::internal("eval", e))?),
            false => answer(found),
        }
    }
}

/// What could not be read: how much, and the first few by name.
fn say_skipped(ui: &Ui, skipped: &[(String, String)]) {
    const NAMED: usize = 10;
    if skipped.is_empty() {
        return;
    }
    let files = if skipped.len() == 1 { "file" } else { "files" };
    ui.warn(format!("{} {files} could not be judged", skipped.len()));
    for (name, why) in skipped.iter().take(NAMED) {
        // An error of an input names it already.
        let named = why.starts_with(name.as_str());
        match named {
            true => ui.warn(why),
            false => ui.warn(format!("{name}: {why}")),
        }
    }
}
