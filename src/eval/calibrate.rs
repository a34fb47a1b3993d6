//! Chooses how a model's colours are decoded, on the validation part of the photographs.
//!
//! The network runs once on every photograph, and what it says is kept: for a classification of bins 1.4 MB a
//! photograph at 128 px. It is then decoded with settings of a [`Grid`]: a coarse one first, then the neighbours of the
//! best until none is better.
//!
//! A classification whose bins' frequencies nobody has counted (all equal in its file) would not mind k. They are then
//! taken from the network: how likely it thinks each bin on average over the photographs; they are written with the
//! setting.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use rayon::prelude::*;
use serde::Serialize;
use serde_json::json;

pub use super::setting::{Grid, Point, Setting};
use super::{
    EvalOptions, Exam, Figures, Marks,
    classes::{Classes, PRIOR},
    contest::{Tell, held_out, opened},
    enlarged,
    look::{self, Looker},
    painted,
    pictures::{Pictures, nothing},
    report::figure,
};
use crate::{
    error::{Error, Result},
    frame::{AbMap, Thumb},
    net::{
        self, Colorizer, Decoding, Look, Looks, Network, Said,
        engine::softmax::{self, Palette, padded},
    },
    train::data::{Photo, stratified},
};

/// Photographs that the network sees at once.
const CHUNK: usize = 32;

/// Most photographs, unless another number is asked for: three numbers need no more.
pub const MOST: usize = 500;

/// How much better than grey a setting must be by default, in CIEDE2000.
const LEAD: f64 = 0.3;

/// What a setting must keep.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// Largest CIEDE2000; `None`: 0.3 below grey's.
    pub max_ciede2000: Option<f64>,
    /// Least colourfulness, as a part of the truth's.
    pub min_colourfulness: f64,
    /// Largest colourfulness, as a part of the truth's.
    pub max_colourfulness: f64,
    /// Largest prior correction of a classification. The figures like more, but where a network is in doubt, as it is in
    /// old films more than in photographs, it turns doubt into rare colours: red blotches.
    pub max_k: f32,
    /// Least calm of a classification, for the same reason.
    pub min_calm: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_ciede2000: None,
            min_colourfulness: 0.8,
            max_colourfulness: 1.,
            max_k: 0.2,
            min_calm: 0,
        }
    }
}

impl Limits {
    /// How far a setting and its figures are beyond them, 0 within: in CIEDE2000, and ten times in k, in calm and in parts
    /// of the truth's colourfulness.
    fn excess(&self, setting: &Setting, figures: &Figures, max_ciede2000: f64) -> f64 {
        let ratio = figures.colourfulness / figures.true_colourfulness;
        let (least, most) = (self.min_colourfulness, self.max_colourfulness);
        let colourfulness = (least - ratio).max(0.) + (ratio - most).max(0.);
        let doubt = setting.decoding.map_or(0., |Decoding { k, calm, .. }| {
            (k - self.max_k).max(0.) + f32::from(self.min_calm.saturating_sub(calm))
        });
        let doubt = f64::from(doubt);
        (figures.ciede2000 - max_ciede2000).max(0.) + 10. * (colourfulness + doubt)
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
    /// How far it is beyond them.
    pub excess: f64,
}

impl Trial {
    /// Colourfulness as a part of the truth's.
    pub fn colourfulness_ratio(&self) -> f64 {
        self.figures.colourfulness / self.figures.true_colourfulness
    }

    /// What a look tries to have least of. Vivid: within the limits the SFD or, without features, the CIEDE2000;
    /// beyond them how far.
    fn rank(&self, look: Look) -> (f64, f64) {
        match look {
            Look::Faithful => (0., self.figures.ciede2000),
            Look::Vivid => (self.excess, self.sfd.unwrap_or(self.figures.ciede2000)),
        }
    }
}

/// The best of some trials for a look.
fn best<T>(look: Look, trials: impl Iterator<Item = (T, Trial)>) -> Option<(T, Trial)> {
    trials.min_by(|(_, a), (_, b)| {
        let ((beyond, cost), (than, other)) = (a.rank(look), b.rank(look));
        beyond.total_cmp(&than).then(cost.total_cmp(&other))
    })
}

/// What was tried, and what was chosen.
#[derive(Clone, Debug, Serialize)]
pub struct Calibration {
    /// The model.
    pub model: String,
    /// Short side of the thumbnails that the settings were chosen for.
    pub size: usize,
    /// Photographs of the validation part that were looked at.
    pub photographs: usize,
    /// Grey's CIEDE2000.
    pub grey_ciede2000: f64,
    /// The largest CIEDE2000 allowed.
    pub max_ciede2000: f64,
    /// The limits as asked for.
    pub limits: Limits,
    /// Whether the bins' frequencies are the network's own, for want of others in the file.
    pub counted: bool,
    /// Every setting that was tried.
    pub trials: Vec<Trial>,
    /// Number of the faithful one: that with the least CIEDE2000.
    pub faithful: usize,
    /// Number of the vivid one: of those within the limits that with the least SFD or, without features, the least
    /// CIEDE2000.
    pub vivid: Option<usize>,
    /// What cannot be read, with the reason.
    pub skipped: Vec<(String, String)>,
    /// What the user should hear of the model.
    pub warnings: Vec<String>,
    /// The classes as they are to be written.
    #[serde(skip)]
    classes: Option<Arc<Classes>>,
}

/// A photograph, and what the network says of it.
struct Subject {
    exam: Exam,
    said: Said,
}

/// What is known of the photographs under one setting.
struct Tally {
    marks: Marks,
    looks: Vec<Vec<f32>>,
}

impl Tally {
    fn sfd(&self, truth: &Self) -> Option<f64> {
        let (own, truth) = (&self.looks, &truth.looks);
        look::distance(
            own.iter().map(Vec::as_slice),
            truth.iter().map(Vec::as_slice),
        )
    }
}

/// What settings are tried on.
struct Bench {
    subjects: Vec<Subject>,
    classes: Option<Classes>,
    looker: Option<Looker>,
}

impl Bench {
    /// Of colours of every photograph.
    fn tally(&self, colours: impl Fn(&Subject) -> AbMap + Sync) -> Result<Tally> {
        let one = |subject: &Subject| {
            let exam = &subject.exam;
            let map = enlarged(&colours(subject), exam.thumb.width, exam.thumb.height);
            let looker = self.looker.as_ref();
            let look = looker.map(|looker| looker.look(&painted(&exam.thumb, &map)));
            Ok((Marks::of(exam, &map), look.transpose()?))
        };
        let all: Result<Vec<_>> = self.subjects.par_iter().map(one).collect();
        let (marks, looks): (Vec<_>, Vec<_>) = all?.into_iter().unzip();
        Ok(Tally {
            marks: Marks::mean(marks.iter()),
            looks: looks.into_iter().flatten().collect(),
        })
    }

    /// Of what becomes of every photograph under a setting.
    fn under(&self, setting: &Setting) -> Result<Tally> {
        let classes = self.classes.as_ref().zip(setting.decoding);
        let palette = classes.map(|(classes, decoding)| classes.palette(&decoding));
        self.tally(|subject| colours(&subject.said, palette.as_ref(), setting.gain))
    }
}

/// The colours that a model of this palette and gain makes of what its network says.
fn colours(said: &Said, palette: Option<&Palette>, gain: f32) -> AbMap {
    let Some(palette) = palette else {
        return net::colour_map(&said.values, said.size, gain);
    };
    let mut ab = vec![0.; said.size.0 * said.size.1 * 2];
    let mut room = vec![0.; padded(palette.count())];
    softmax::decode(&said.values, palette, &mut room, &mut ab);
    net::colour_map(&ab, said.size, gain)
}

/// Tries settings of the first model on the validation part of the photographs.
///
/// # Errors
/// [`Error::Usage`] for a model without a network; as for [`super::run`].
pub fn run(options: &EvalOptions, limits: &Limits, tell: &mut Tell) -> Result<Calibration> {
    let Some(model) = options.models.first() else {
        return Err(Error::Usage("--calibrate needs a --model".into()));
    };
    if net::info(model)?.digest.is_empty() {
        return Err(Error::Usage(format!(
            "{model} has no network, so there is nothing to calibrate: name a .safetensors file with --model"
        )));
    }
    let file = net::open(model)?;
    let size = options.network.quality.size(file.header.size);
    let mut classes = Classes::of(&file)?;
    let mut network = net::undecoded(model, file, &options.network)?;
    let looker = match &options.features {
        Some(path) => Some(Looker::open(path, &options.network.device.open()?.0)?),
        None => None,
    };
    let held_out = held_out(&options.models)?;
    let Pictures {
        validation,
        mut skipped,
        ..
    } = Pictures::gather(&options.inputs, &held_out, false, &mut |done, of| {
        tell("reading folders", done, of);
    })?;
    let photos = stratified(&validation, options.count.unwrap_or(MOST));
    let subjects = subjects(&mut network, &photos, &mut skipped, tell)?;
    if subjects.is_empty() {
        let why = "too few photographs: none falls into the validation part of this model";
        return Err(nothing(&options.inputs, why));
    }
    let counted = classes.as_ref().is_some_and(Classes::uncounted);
    if let (true, Some(classes)) = (counted, &mut classes) {
        classes.count(subjects.par_iter().map(|subject| &subject.said))?;
    }
    let bench = Bench {
        subjects,
        classes,
        looker,
    };
    let found = search(model, bench, limits, tell)?;
    Ok(Calibration {
        size,
        counted,
        skipped,
        warnings: network.take_warnings(),
        ..found
    })
}

/// Every photograph, and what the network says of it: it is run here, and nowhere else.
fn subjects(
    network: &mut Network,
    photos: &[Photo],
    skipped: &mut Vec<(String, String)>,
    tell: &mut Tell,
) -> Result<Vec<Subject>> {
    let mut subjects = Vec::with_capacity(photos.len());
    for chunk in photos.chunks(CHUNK) {
        let size = |width, height| {
            network
                .thumb_size(width, height, 1.)
                .unwrap_or((width, height))
        };
        let exams = opened(chunk, size, skipped);
        let exams: Vec<Exam> = exams.into_iter().map(|(_, (_, exam))| exam).collect();
        let thumbs: Vec<Thumb> = exams.iter().map(|exam| exam.thumb.clone()).collect();
        let said = network.said(&thumbs)?;
        let pairs = exams.into_iter().zip(said);
        subjects.extend(pairs.map(|(exam, said)| Subject { exam, said }));
        tell("photographs", subjects.len(), photos.len());
    }
    Ok(subjects)
}

/// Goes from the best of a coarse grid, for each look, to the best of its neighbours until it is better than all of
/// them.
fn search(model: &str, bench: Bench, limits: &Limits, tell: &mut Tell) -> Result<Calibration> {
    let grid = match bench.classes {
        Some(_) => Grid::CLASSIFICATION,
        None => Grid::REGRESSION,
    };
    let judge = Judge::of(&bench, limits)?;
    let mut tried: BTreeMap<Point, Trial> = BTreeMap::new();
    let mut next = grid.coarse();
    while !next.is_empty() {
        tried.extend(judge.tried(&grid, &next, tried.len(), tell)?);
        let best = |look| best(look, tried.iter().map(|(point, trial)| (*point, *trial)));
        let bests = Look::ALL.into_iter().filter_map(best);
        next = bests.flat_map(|(point, _)| grid.around(point)).collect();
        next.retain(|point| !tried.contains_key(point));
    }
    let trials: Vec<Trial> = tried.into_values().collect();
    let numbered = || trials.iter().copied().enumerate();
    let within = numbered().filter(|(_, t)| t.within);
    Ok(Calibration {
        model: model.into(),
        size: 0,
        photographs: bench.subjects.len(),
        grey_ciede2000: judge.grey.marks.ciede2000,
        max_ciede2000: judge.max_ciede2000,
        limits: *limits,
        counted: false,
        faithful: best(Look::Faithful, numbered()).map_or(0, |(i, _)| i),
        vivid: best(Look::Vivid, within).map(|(i, _)| i),
        trials,
        skipped: Vec::new(),
        warnings: Vec::new(),
        classes: bench.classes.map(Arc::new),
    })
}

/// Judges settings by the truth, grey and the limits.
struct Judge<'a> {
    bench: &'a Bench,
    limits: &'a Limits,
    max_ciede2000: f64,
    grey: Tally,
    grey_sfd: Option<f64>,
    truth: Tally,
}

impl<'a> Judge<'a> {
    fn of(bench: &'a Bench, limits: &'a Limits) -> Result<Self> {
        let grey = bench.tally(|_| AbMap::constant(0., 0.))?;
        let truth = bench.tally(|subject| subject.exam.truth.clone())?;
        let lead = grey.marks.ciede2000 - LEAD;
        Ok(Self {
            bench,
            limits,
            max_ciede2000: limits.max_ciede2000.unwrap_or(lead),
            grey_sfd: grey.sfd(&truth),
            grey,
            truth,
        })
    }

    /// Tries the settings at these places; `before` are done.
    fn tried(
        &self,
        grid: &Grid,
        points: &BTreeSet<Point>,
        before: usize,
        tell: &mut Tell,
    ) -> Result<Vec<(Point, Trial)>> {
        let mut tallies = Vec::with_capacity(points.len());
        for point in points {
            let setting = grid.at(*point);
            tallies.push((*point, setting, self.bench.under(&setting)?));
            tell("settings", before + tallies.len(), before + points.len());
        }
        let trials = tallies.par_iter();
        let trials = trials.map(|(point, setting, tally)| (*point, self.trial(setting, tally)));
        Ok(trials.collect())
    }

    fn trial(&self, setting: &Setting, tally: &Tally) -> Trial {
        let figures = Figures::of(&tally.marks, &self.truth.marks);
        let sfd = tally.sfd(&self.truth);
        let excess = self.limits.excess(setting, &figures, self.max_ciede2000);
        Trial {
            setting: *setting,
            figures,
            sfd,
            sfd_over_grey: sfd.zip(self.grey_sfd).map(|(own, grey)| own / grey),
            within: excess <= 0.,
            excess,
        }
    }
}

impl Calibration {
    /// The setting with the least error.
    pub fn faithful(&self) -> &Trial {
        &self.trials[self.faithful]
    }

    /// The vivid setting.
    ///
    /// # Errors
    /// [`Error::Usage`] where none keeps the limits, with the nearest and what to change.
    pub fn vivid(&self) -> Result<&Trial> {
        if let Some(vivid) = self.vivid {
            return Ok(&self.trials[vivid]);
        }
        let Limits {
            min_colourfulness: least,
            max_colourfulness: most,
            ..
        } = self.limits;
        let nearest = best(Look::Vivid, self.trials.iter().map(|trial| ((), *trial)));
        let nearest = nearest.map_or(String::new(), |(_, t)| {
            format!(
                "; the nearest, {}, has CIEDE2000 {:.3} and {:.2} of the truth's colourfulness",
                t.setting,
                t.figures.ciede2000,
                t.colourfulness_ratio()
            )
        });
        Err(Error::Usage(format!(
            "no setting of {} keeps CIEDE2000 at most {:.3} and colourfulness {least} to {most} of the truth's{nearest}: \
             loosen --max-de00, --min-cf, --max-cf, --max-k or --min-calm",
            self.axes(),
            self.max_ciede2000
        )))
    }

    /// The numbers that a setting has.
    fn axes(&self) -> &'static str {
        match self.classes {
            Some(_) => "k, T, calm and gain",
            None => "gain",
        }
    }

    /// The bytes of the model's file with the chosen settings, the size that they were chosen for, and the bins'
    /// frequencies where they were not counted before; all other tensors bit for bit.
    ///
    /// # Errors
    /// As for [`Calibration::vivid`] and [`net::open`].
    pub fn tuned(&self) -> Result<Vec<u8>> {
        let (faithful, vivid) = (self.faithful(), self.vivid()?);
        let mut file = net::open(&self.model)?;
        file.header.size = self.size;
        file.header.looks = Looks {
            faithful: faithful.setting.stored(),
            vivid: vivid.setting.stored(),
        };
        file.header.figures = json!({ "validation": { "faithful": faithful, "vivid": vivid } });
        if let (true, Some(classes)) = (self.counted, &self.classes) {
            file.tensors.insert(PRIOR.into(), classes.prior()?);
        }
        file.bytes()
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
        if self.counted {
            writeln!(
                f,
                "its file has all bins equally frequent: their frequencies are taken from what it says, and written \
                 with -o"
            )?;
        }
        writeln!(
            f,
            "    k     T  calm  gain  CIEDE2000   PSNR_ab       CF  /truth's       SFD   /grey's"
        )?;
        for (i, t) in self.trials.iter().enumerate() {
            let word = match t.within {
                _ if self.vivid == Some(i) => "  vivid",
                _ if self.faithful == i => "  faithful",
                true => "  within the limits",
                false => "",
            };
            let decoding = t.setting.decoding;
            let number = |of: fn(Decoding) -> f32| figure(decoding.map(of).map(f64::from), 2);
            writeln!(
                f,
                "{:>5} {:>5} {:>5} {:5.2}  {:9.3}  {:8.3}  {:7.2}  {:8.3}  {:>8}  {:>8}{word}",
                number(|d| d.k),
                number(|d| d.temperature),
                decoding.map_or("-".into(), |d| d.calm.to_string()),
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
