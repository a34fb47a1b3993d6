//! Chooses how a model's colours are decoded, on the validation part of the photographs.
//!
//! The network runs once on every photograph; what it says is then decoded with every setting of a grid.

use std::fmt;

use image::RgbImage;
use rayon::prelude::*;
use serde::Serialize;
use serde_json::json;

use super::{
    EvalOptions, Exam, Figures, Marks,
    contest::{Field, Tell, held_out},
    enlarged,
    look::{self, Looker},
    painted,
    pictures::{Pictures, nothing, stratified},
    report::figure,
};
use crate::{
    color::AB_SCALE,
    error::{Error, Result},
    frame::AbMap,
    net::{self, checkpoint},
};

/// Photographs in memory at once.
const CHUNK: usize = 32;

/// How much better than grey a setting must be by default, in CIEDE2000.
const LEAD: f64 = 0.3;

/// How what a network says becomes colour.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Setting {
    /// Factor on the chroma.
    pub gain: f32,
}

impl Setting {
    /// Every one that is tried.
    pub fn grid() -> Vec<Self> {
        (10..=20)
            .map(|tenths| Self {
                gain: tenths as f32 / 10.,
            })
            .collect()
    }

    /// The colours of a network's undecoded map.
    fn decode(self, map: &AbMap) -> AbMap {
        let plane = |values: &[f32]| {
            let gained = values
                .iter()
                .map(|v| (v * self.gain).clamp(-AB_SCALE, AB_SCALE));
            gained.collect()
        };
        AbMap {
            width: map.width,
            height: map.height,
            a: plane(&map.a),
            b: plane(&map.b),
        }
    }
}

/// What a setting must keep.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// Largest CIEDE2000; `None`: 0.3 below grey's.
    pub max_ciede2000: Option<f64>,
    /// Least colourfulness, as a part of the truth's.
    pub min_colourfulness: f64,
    /// Largest colourfulness, as a part of the truth's.
    pub max_colourfulness: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_ciede2000: None,
            min_colourfulness: 0.8,
            max_colourfulness: 1.,
        }
    }
}

/// What came of a setting.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Trial {
    /// The setting.
    #[serde(flatten)]
    pub setting: Setting,
    /// Its figures.
    #[serde(flatten)]
    pub figures: Figures,
    /// Frechet distance to the truth, where features were given.
    pub sfd: Option<f64>,
    /// The same as a part of grey's.
    pub sfd_over_grey: Option<f64>,
    /// Whether it keeps the limits.
    pub within: bool,
}

impl Trial {
    /// Colourfulness as a part of the truth's.
    pub fn colourfulness_ratio(&self) -> f64 {
        self.figures.colourfulness / self.figures.true_colourfulness
    }
}

/// What was tried, and what was chosen.
#[derive(Clone, Debug, Serialize)]
pub struct Calibration {
    /// The model.
    pub model: String,
    /// Photographs of the validation part.
    pub photographs: usize,
    /// Grey's CIEDE2000.
    pub grey_ciede2000: f64,
    /// The largest CIEDE2000 allowed.
    pub max_ciede2000: f64,
    /// The limits as asked for.
    pub limits: Limits,
    /// Every setting.
    pub trials: Vec<Trial>,
    /// Number of the chosen one: of those within the limits that with the least SFD or, without features, the least
    /// CIEDE2000.
    pub chosen: Option<usize>,
    /// What cannot be read, with the reason.
    pub skipped: Vec<(String, String)>,
}

/// What is known of the pictures under one setting.
#[derive(Default)]
struct Tally {
    marks: Vec<Marks>,
    looks: Vec<Vec<f32>>,
}

impl Tally {
    fn add(
        &mut self,
        pictures: &[(RgbImage, Exam)],
        maps: &[AbMap],
        looker: Option<&Looker>,
    ) -> Result<()> {
        let one = |((_, exam), map): (&(RgbImage, Exam), &AbMap)| {
            let map = enlarged(map, exam.thumb.width, exam.thumb.height);
            let look = looker.map(|looker| looker.look(&painted(&exam.thumb, &map)));
            Ok((Marks::of(exam, &map), look.transpose()?))
        };
        let new: Result<Vec<_>> = pictures.par_iter().zip(maps).map(one).collect();
        for (marks, look) in new? {
            self.marks.push(marks);
            self.looks.extend(look);
        }
        Ok(())
    }

    fn mean(&self) -> Marks {
        Marks::mean(self.marks.iter())
    }

    fn sfd(&self, truth: &Self) -> Option<f64> {
        let (own, truth) = (&self.looks, &truth.looks);
        look::distance(
            own.iter().map(Vec::as_slice),
            truth.iter().map(Vec::as_slice),
        )
    }
}

/// Tries every setting of the first model on the validation part of the photographs.
///
/// # Errors
/// [`Error::Usage`] for a model without a network; as for [`super::run`].
pub fn run(options: &EvalOptions, limits: &Limits, tell: &mut Tell) -> Result<Calibration> {
    let Some(model) = options.models.first() else {
        return Err(Error::Usage("--calibrate needs a --model".into()));
    };
    let mut field = undecoded(model, options)?;
    let looker = match &options.features {
        Some(path) => Some(Looker::open(path, &options.device.open()?.0)?),
        None => None,
    };
    tell("reading folders", 0, 0);
    let pictures = Pictures::gather(&options.inputs, &held_out(&options.models)?, false)?;
    let mut skipped = pictures.skipped;
    let photos = match options.count {
        Some(count) => stratified(&pictures.validation, count),
        None => pictures.validation,
    };
    let settings = Setting::grid();
    let mut tallies: Vec<Tally> = settings.iter().map(|_| Tally::default()).collect();
    let (mut grey, mut truth) = (Tally::default(), Tally::default());
    let mut done = 0;
    for chunk in photos.chunks(CHUNK) {
        let opened = field.open(chunk, &mut skipped);
        let pictures: Vec<_> = opened.into_iter().map(|(_, picture)| picture).collect();
        let maps = field.colour(&pictures)?;
        for (setting, tally) in settings.iter().zip(&mut tallies) {
            let decoded: Vec<_> = maps[0].par_iter().map(|map| setting.decode(map)).collect();
            tally.add(&pictures, &decoded, looker.as_ref())?;
        }
        grey.add(&pictures, &maps[1], looker.as_ref())?;
        truth.add(&pictures, &maps[2], looker.as_ref())?;
        done += chunk.len();
        tell("photographs", done, photos.len());
    }
    if truth.marks.is_empty() {
        let why = "too few photographs: none falls into the validation part of this model";
        return Err(nothing(&options.inputs, why));
    }
    let mut calibration = judged(model, &settings, &tallies, (&grey, &truth), limits);
    calibration.skipped = skipped;
    Ok(calibration)
}

/// The model as its network is, without the settings in its file.
fn undecoded(model: &str, options: &EvalOptions) -> Result<Field> {
    if net::info(model)?.digest.is_empty() {
        return Err(Error::Usage(format!(
            "{model} has no network, so there is nothing to calibrate: name a .safetensors file with --model"
        )));
    }
    let mut checkpoint = net::open(model)?;
    checkpoint.header.gain = 1.;
    let colorizer = net::ready(model, checkpoint, &options.device, options.precision)?;
    Ok(Field::of(vec![(model.to_owned(), colorizer)]))
}

fn judged(
    model: &str,
    settings: &[Setting],
    tallies: &[Tally],
    (grey, truth): (&Tally, &Tally),
    limits: &Limits,
) -> Calibration {
    let grey_sfd = grey.sfd(truth);
    let grey_ciede2000 = grey.mean().ciede2000;
    let max_ciede2000 = limits.max_ciede2000.unwrap_or(grey_ciede2000 - LEAD);
    let true_marks = truth.mean();
    let trial = |(setting, tally): (&Setting, &Tally)| {
        let figures = Figures::of(&tally.mean(), &true_marks);
        let sfd = tally.sfd(truth);
        let mut trial = Trial {
            setting: *setting,
            figures,
            sfd,
            sfd_over_grey: sfd.zip(grey_sfd).map(|(own, grey)| own / grey),
            within: figures.ciede2000 <= max_ciede2000,
        };
        let range = limits.min_colourfulness..=limits.max_colourfulness;
        trial.within &= range.contains(&trial.colourfulness_ratio());
        trial
    };
    let trials: Vec<Trial> = settings.par_iter().zip(tallies).map(trial).collect();
    let cost = |i: &usize| trials[*i].sfd.unwrap_or(trials[*i].figures.ciede2000);
    let within = (0..trials.len()).filter(|i| trials[*i].within);
    let chosen = within.min_by(|a, b| cost(a).total_cmp(&cost(b)));
    Calibration {
        model: model.into(),
        photographs: truth.marks.len(),
        grey_ciede2000,
        max_ciede2000,
        limits: *limits,
        trials,
        chosen,
        skipped: Vec::new(),
    }
}

impl Calibration {
    /// The chosen setting.
    ///
    /// # Errors
    /// [`Error::Usage`] where none keeps the limits, with the nearest and what to change.
    pub fn choice(&self) -> Result<&Trial> {
        if let Some(chosen) = self.chosen {
            return Ok(&self.trials[chosen]);
        }
        let Limits {
            min_colourfulness: least,
            max_colourfulness: most,
            ..
        } = self.limits;
        let beyond = |t: &Trial| {
            let ratio = t.colourfulness_ratio();
            let error = (t.figures.ciede2000 - self.max_ciede2000).max(0.);
            error + 10. * ((least - ratio).max(0.) + (ratio - most).max(0.))
        };
        let trials = self.trials.iter();
        let nearest = trials.min_by(|a, b| beyond(a).total_cmp(&beyond(b)));
        let nearest = nearest.map_or(String::new(), |t| {
            format!(
                "; the nearest, gain {}, has CIEDE2000 {:.3} and {:.2} of the truth's colourfulness",
                t.setting.gain,
                t.figures.ciede2000,
                t.colourfulness_ratio()
            )
        });
        Err(Error::Usage(format!(
            "no setting keeps CIEDE2000 at most {:.3} and colourfulness {least} to {most} of the truth's{nearest}: \
             loosen --max-de00, --min-cf or --max-cf",
            self.max_ciede2000
        )))
    }

    /// The bytes of the model's file with the chosen setting.
    ///
    /// # Errors
    /// As for [`Calibration::choice`] and [`net::open`].
    pub fn tuned(&self) -> Result<Vec<u8>> {
        let trial = self.choice()?;
        let mut file = net::open(&self.model)?;
        file.header.gain = trial.setting.gain;
        file.header.figures = json!({ "validation": trial });
        let dtype = file.tensors.values().next().map(|t| t.dtype());
        let dtype = dtype.ok_or_else(|| Error::model(&self.model, "it has no parameters"))?;
        checkpoint::bytes(&file.header, &file.tensors, dtype)
    }
}

impl fmt::Display for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(
            f,
            "{} on {} validation photographs; CIEDE2000 at most {:.3} (grey {:.3}), CF {} to {} of the truth's",
            self.model,
            self.photographs,
            self.max_ciede2000,
            self.grey_ciede2000,
            self.limits.min_colourfulness,
            self.limits.max_colourfulness
        )?;
        writeln!(
            f,
            " gain  CIEDE2000   PSNR_ab       CF  /truth's       SFD   /grey's"
        )?;
        for (i, t) in self.trials.iter().enumerate() {
            let word = match (self.chosen == Some(i), t.within) {
                (true, _) => "  chosen",
                (false, true) => "  within the limits",
                (false, false) => "",
            };
            writeln!(
                f,
                "{:5.2}  {:9.3}  {:8.3}  {:7.2}  {:8.3}  {:>8}  {:>8}{word}",
                t.setting.gain,
                t.figures.ciede2000,
                t.figures.psnr_ab,
                t.figures.colourfulness,
                t.colourfulness_ratio(),
                figure(t.sfd, 2),
                figure(t.sfd_over_grey, 3)
            )?;
        }
        Ok(())
    }
}
