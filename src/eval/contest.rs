//! Several models, grey, one constant colour and the truth, side by side on the same pictures.

use std::path::{Path, PathBuf};

use image::RgbImage;
use rayon::prelude::*;

use super::{
    Exam, Marks,
    clip::{self, ClipReport},
    enlarged,
    look::Looker,
    metrics, painted,
    pictures::{HeldOut, Pictures, is_film, nothing},
    report::{PictureReport, Report, short},
};
use crate::{
    error::Result,
    frame::AbMap,
    net::{self, Colorizer, Look},
    train::{
        Config,
        data::{Photo, stratified},
    },
};

/// Photographs in memory at once.
const CHUNK: usize = 32;

const CONSTANT: &str = "constant mean colour";

const TOO_FEW: &str = "too few photographs: none falls into the test part; --all takes every one, for photographs \
                       that no model has learnt from";

/// What [`run`] is asked to do.
#[derive(Clone, Debug)]
pub struct EvalOptions {
    /// Folders of photographs and films, photographs, films. Of what a model was trained on only the test part is used.
    /// Films that are named are judged as films; of those in folders, frames as photographs.
    pub inputs: Vec<PathBuf>,
    /// Names or files of the models.
    pub models: Vec<String>,
    /// Looks that each of them is judged in.
    pub looks: Vec<Look>,
    /// How else they are used.
    pub network: net::Options,
    /// Weights of SqueezeNet v1.0, for SFD.
    pub features: Option<PathBuf>,
    /// At most so many photographs, every source its share.
    pub count: Option<usize>,
    /// Every photograph, not only the test part.
    pub all: bool,
    /// At most so many frames of a film.
    pub frames: usize,
    /// Temporal filters through which films are coloured, names of rows of [`crate::temporal::FILTERS`].
    pub temporal: Vec<String>,
    /// Frames from one key frame to the next, where a filter leaves it open.
    pub key_interval: usize,
}

/// What is being done: in words, how much of it, of how much (0 where that is not known).
pub type Tell<'a> = dyn FnMut(&str, usize, usize) + 'a;

/// Whoever colours the pictures.
struct Contestant {
    name: String,
    hand: Hand,
}

enum Hand {
    Model(Box<dyn Colorizer>),
    Constant(AbMap),
    Truth,
}

impl Contestant {
    fn colour(&mut self, pictures: &[(RgbImage, Exam)]) -> Result<Vec<AbMap>> {
        match &mut self.hand {
            Hand::Constant(map) => Ok(vec![map.clone(); pictures.len()]),
            Hand::Truth => Ok(pictures
                .iter()
                .map(|(_, exam)| exam.truth.clone())
                .collect()),
            Hand::Model(model) => {
                let thumb = |(photo, exam): &(RgbImage, Exam)| {
                    let (width, height) = photo.dimensions();
                    match model.thumb_size(width as usize, height as usize, 1.) {
                        Some(size) if size != (exam.thumb.width, exam.thumb.height) => {
                            Exam::new(photo, size).thumb
                        }
                        _ => exam.thumb.clone(),
                    }
                };
                let thumbs: Vec<_> = pictures.iter().map(thumb).collect();
                model.predict(&thumbs)
            }
        }
    }
}

/// The contestants: the models, grey, a constant colour where one was set, and the truth.
pub struct Field {
    contestants: Vec<Contestant>,
    warnings: Vec<String>,
}

impl Field {
    /// Every model in every look, and the others.
    ///
    /// # Errors
    /// As for [`net::load`].
    pub fn new(options: &EvalOptions) -> Result<Self> {
        let mut models = Vec::new();
        for (name, label) in options.models.iter().zip(labels(&options.models)) {
            for &look in &options.looks {
                let network = net::Options {
                    look,
                    ..options.network
                };
                let label = match options.looks.len() {
                    1 => label.clone(),
                    _ => format!("{label}, {look}"),
                };
                models.push((label, net::load(name, &network)?));
            }
        }
        Ok(Self::of(models))
    }

    /// These models, by name, and the others.
    pub fn of(models: Vec<(String, Box<dyn Colorizer>)>) -> Self {
        let models = models
            .into_iter()
            .map(|(name, model)| (name, Hand::Model(model)));
        let grey = ("grey".to_owned(), Hand::Constant(AbMap::constant(0., 0.)));
        let all = models.chain([grey, ("truth".to_owned(), Hand::Truth)]);
        Self {
            contestants: all.map(|(name, hand)| Contestant { name, hand }).collect(),
            warnings: Vec::new(),
        }
    }

    /// Has this constant colour, before the truth, instead of any other.
    fn set_constant(&mut self, (a, b): (f32, f32)) {
        let constant = Contestant {
            name: CONSTANT.into(),
            hand: Hand::Constant(AbMap::constant(a, b)),
        };
        let before_truth = self.contestants.len() - 1;
        match &mut self.contestants[before_truth - 1] {
            other if other.name == CONSTANT => *other = constant,
            _ => self.contestants.insert(before_truth, constant),
        }
    }

    /// Whether each of them is a model.
    pub fn models(&self) -> impl Iterator<Item = bool> {
        let model = |c: &Contestant| matches!(c.hand, Hand::Model(_));
        self.contestants.iter().map(model)
    }

    /// Their names, in order; the truth is the last.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.contestants.iter().map(|c| c.name.as_str())
    }

    /// The size at which pictures of this size are compared: the largest that a model asks for, so that all see the
    /// same truth. Where no model looks at pixels, it is the size that the trainer would use.
    pub fn view(&self, width: usize, height: usize) -> (usize, usize) {
        let wanted = self.contestants.iter().filter_map(|c| match &c.hand {
            Hand::Model(model) => model.thumb_size(width, height, 1.),
            _ => None,
        });
        let default = || net::thumb_size(Config::default().size, 16, width, height);
        wanted.max_by_key(|(w, h)| w * h).unwrap_or_else(default)
    }

    /// What every contestant makes of the pictures.
    ///
    /// # Errors
    /// As for [`Colorizer::predict`].
    pub fn colour(&mut self, pictures: &[(RgbImage, Exam)]) -> Result<Vec<Vec<AbMap>>> {
        let maps = self.contestants.iter_mut().map(|c| c.colour(pictures));
        let maps = maps.collect::<Result<_>>()?;
        for contestant in &mut self.contestants {
            if let Hand::Model(model) = &mut contestant.hand {
                self.warnings.extend(model.take_warnings());
            }
        }
        Ok(maps)
    }

    /// As [`opened`], at the size at which the contestants are compared.
    pub(super) fn open<'a>(
        &self,
        photos: &'a [Photo],
        skipped: &mut Vec<(String, String)>,
    ) -> Vec<(&'a Photo, (RgbImage, Exam))> {
        opened(photos, |width, height| self.view(width, height), skipped)
    }
}

/// Decodes photographs as exams of the size that `view` gives for theirs; those that cannot be, go to `skipped` with
/// the reason.
pub(super) fn opened<'a>(
    photos: &'a [Photo],
    view: impl Fn(usize, usize) -> (usize, usize),
    skipped: &mut Vec<(String, String)>,
) -> Vec<(&'a Photo, (RgbImage, Exam))> {
    // A colorizer need not be shared between threads: sizes are asked for in turn.
    let decoded: Vec<_> = photos.par_iter().map(Photo::open).collect();
    let mut pictures = Vec::new();
    for (photo, picture) in photos.iter().zip(decoded) {
        match picture {
            Err(why) => skipped.push((photo.name(), why.to_string())),
            Ok(picture) => {
                let (width, height) = picture.dimensions();
                let size = view(width as usize, height as usize);
                pictures.push((photo, picture, size));
            }
        }
    }
    let exam = |(photo, picture, size): (&'a Photo, RgbImage, _)| {
        let exam = Exam::new(&picture, size);
        (photo, (picture, exam))
    };
    pictures.into_par_iter().map(exam).collect()
}

/// The models' names for people: without folder and ending, where that tells them apart.
pub(super) fn labels(models: &[String]) -> Vec<String> {
    let label = |name: &String| {
        let alike = models.iter().filter(|other| short(other) == short(name));
        match alike.count() {
            1 => short(name).to_owned(),
            _ => name.clone(),
        }
    };
    models.iter().map(label).collect()
}

/// What is known of one picture by one contestant.
#[derive(Clone, Debug)]
pub struct Score {
    /// Its figures.
    pub marks: Marks,
    /// Structural similarity to the truth.
    pub ssim: f64,
    /// Its features, where they are asked for.
    pub look: Option<Vec<f32>>,
}

impl Score {
    /// Of a colour map as large as the exam; `picture` and `truth` are both painted.
    pub fn of(exam: &Exam, map: &AbMap, picture: &RgbImage, truth: &RgbImage) -> Self {
        Self {
            marks: Marks::of(exam, map),
            ssim: metrics::ssim(picture, truth),
            look: None,
        }
    }
}

/// Judges the models on the test part of the photographs, split as for their training (by the split and share in their
/// files; the trainer's defaults for a model without), and on the films.
///
/// # Errors
/// A model cannot be had; nothing is left to be judged on, or all of it is unreadable.
pub fn run(options: &EvalOptions, tell: &mut Tell) -> Result<Report> {
    let mut field = Field::new(options)?;
    let looker = match &options.features {
        Some(path) => Some(Looker::open(path, &options.network.device.open()?.0)?),
        None => None,
    };
    let (films, photos): (Vec<_>, Vec<_>) =
        options.inputs.iter().cloned().partition(|p| is_film(p));
    let mut report = Report::default();
    if !photos.is_empty() {
        photographs(
            &mut field,
            looker.as_ref(),
            &photos,
            options,
            &mut report,
            tell,
        )?;
    }
    let mut first_failure = None;
    for film in &films {
        let name = film.file_name().unwrap_or_default().to_string_lossy();
        let judged = clip(
            &mut field,
            film,
            options,
            photos.is_empty(),
            &mut |done, of| tell(&name, done, of),
        );
        match judged {
            Ok(clip) => report.clips.push(clip),
            Err(e) if e.exit_code() == 3 => {
                report
                    .skipped
                    .push((film.display().to_string(), e.to_string()));
                first_failure.get_or_insert(e);
            }
            Err(e) => return Err(e),
        }
    }
    report.warnings = std::mem::take(&mut field.warnings);
    match first_failure {
        Some(e) if report.is_empty() => Err(e),
        _ => Ok(report),
    }
}

/// Judges on a film: `alone`, without photographs whose mean colour the constant has, that is the film's own, from
/// which a constant cannot profit much.
fn clip(
    field: &mut Field,
    film: &Path,
    options: &EvalOptions,
    alone: bool,
    tell: &mut dyn FnMut(usize, usize),
) -> Result<ClipReport> {
    if alone {
        field.set_constant(clip::mean_ab(field, film, options.frames)?);
    }
    clip::judge(field, film, options, tell)
}

/// Judges on photographs.
fn photographs(
    field: &mut Field,
    looker: Option<&Looker>,
    inputs: &[PathBuf],
    options: &EvalOptions,
    report: &mut Report,
    tell: &mut Tell,
) -> Result<()> {
    let held_out = held_out(&options.models)?;
    let pictures = Pictures::gather(inputs, &held_out, options.all, &mut |done, of| {
        tell("reading folders", done, of);
    })?;
    report.skipped = pictures.skipped;
    let test = match options.count {
        Some(count) => stratified(&pictures.test, count),
        None => pictures.test,
    };
    // Where nothing was held out to choose by, the pictures themselves: a constant cannot profit much.
    let by = if options.all {
        &test
    } else {
        &pictures.validation
    };
    report.mean_ab = mean_ab(field, by, tell);
    field.set_constant(report.mean_ab);
    let scores = scored(field, looker, &test, report, tell)?;
    if report.pictures.is_empty() {
        return Err(nothing(
            inputs,
            match test.is_empty() {
                true => TOO_FEW,
                false => "no photograph in it can be decoded",
            },
        ));
    }
    let grey = field.models().filter(|model| *model).count();
    report.tell_photographs(field.names(), &scores, grey);
    Ok(())
}

/// What every contestant scores on the photographs, in the order in which they go into the report.
fn scored(
    field: &mut Field,
    looker: Option<&Looker>,
    photos: &[Photo],
    report: &mut Report,
    tell: &mut Tell,
) -> Result<Vec<Vec<Score>>> {
    let mut scores: Vec<Vec<Score>> = field.names().map(|_| Vec::new()).collect();
    for chunk in photos.chunks(CHUNK) {
        let opened = field.open(chunk, &mut report.skipped);
        let (opened, pictures): (Vec<_>, Vec<_>) = opened.into_iter().unzip();
        let maps = field.colour(&pictures)?;
        let judged = (maps.par_iter().zip(&mut scores)).map(|(maps, scores)| {
            let pairs = pictures.par_iter().zip(maps);
            let new: Result<Vec<_>> = pairs
                .map(|((_, exam), map)| score(exam, map, looker))
                .collect();
            scores.extend(new?);
            Ok(())
        });
        judged.collect::<Result<()>>()?;
        report
            .pictures
            .extend(opened.into_iter().map(PictureReport::new));
        tell("photographs", report.pictures.len(), photos.len());
    }
    Ok(scores)
}

/// How the photographs of every model were split; that of the trainer's defaults where there is none.
pub(super) fn held_out(models: &[String]) -> Result<Vec<HeldOut>> {
    let mut all = Vec::new();
    for model in models {
        let held_out = HeldOut::of(model)?;
        if !all.contains(&held_out) {
            all.push(held_out);
        }
    }
    Ok(all)
}

pub(super) fn score(exam: &Exam, map: &AbMap, looker: Option<&Looker>) -> Result<Score> {
    let map = enlarged(map, exam.thumb.width, exam.thumb.height);
    let picture = painted(&exam.thumb, &map);
    let truth = painted(&exam.thumb, &exam.truth);
    Ok(Score {
        look: looker.map(|looker| looker.look(&picture)).transpose()?,
        ..Score::of(exam, &map, &picture, &truth)
    })
}

/// Mean a and b over the photographs; (0, 0) of none.
fn mean_ab(field: &Field, photos: &[Photo], tell: &mut Tell) -> (f32, f32) {
    let mut means: Vec<(f32, f32)> = Vec::with_capacity(photos.len());
    for chunk in photos.chunks(CHUNK) {
        let mean = |plane: &[f32]| plane.iter().sum::<f32>() / plane.len() as f32;
        let opened = field.open(chunk, &mut Vec::new());
        means.extend(
            opened
                .iter()
                .map(|(_, (_, exam))| (mean(&exam.truth.a), mean(&exam.truth.b))),
        );
        tell("mean colour", means.len(), photos.len());
    }
    let count = means.len().max(1) as f32;
    let sum = |of: fn(&(f32, f32)) -> f32| means.iter().map(of).sum::<f32>() / count;
    (sum(|m| m.0), sum(|m| m.1))
}
