//! What an evaluation found, and its table for people.

use std::fmt;

use serde::Serialize;

use super::{
    Marks,
    clip::{ClipReport, ClipRow},
    contest::Score,
    look, metrics,
};
use crate::train::data::Photo;

/// Figures of one contestant over some pictures. Where a figure has no bound (the truth's PSNR), it is not finite,
/// which is `null` in JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Who coloured: a model's file without folder and ending, where that tells it apart.
    pub name: String,
    /// Mean CIEDE2000 to the truth, lightness equal; smaller is better.
    pub ciede2000: f64,
    /// PSNR of a and b together in dB, from the mean squared error over all pictures; larger is better.
    pub psnr_ab: f64,
    /// The same of R, G and B.
    pub psnr_rgb: f64,
    /// Mean structural similarity to the truth; 1 is equal.
    pub ssim: f64,
    /// Mean chroma over the truth's; 1 is as colourful as life.
    pub chroma_ratio: f64,
    /// Mean colourfulness (Hasler & Suesstrunk).
    pub colourfulness: f64,
    /// Mean colourfulness with absolute differences, as in the code of DDColor and ColorMNet.
    pub colourfulness_abs: f64,
    /// Mean colourfulness, apart from the truth's.
    pub d_colourfulness: f64,
    /// Frechet distance of SqueezeNet's features to the truth's; not comparable with FID, nor over other pictures.
    pub sfd: Option<f64>,
    /// The same as a part of grey's.
    pub sfd_over_grey: Option<f64>,
}

impl Row {
    /// From the scores of pictures and those of the truth; without SFD.
    pub fn of(name: &str, scores: &[Score], truth: &[Score]) -> Self {
        Self::over(name, &references(scores), &references(truth))
    }

    fn over(name: &str, scores: &[&Score], truth: &[&Score]) -> Self {
        let mean = |scores: &[&Score]| Marks::mean(scores.iter().map(|score| &score.marks));
        let (own, truth) = (mean(scores), mean(truth));
        Self {
            name: name.into(),
            ciede2000: own.ciede2000,
            psnr_ab: metrics::psnr_ab(own.square_ab),
            psnr_rgb: metrics::psnr_rgb(own.square_rgb),
            ssim: scores.iter().map(|s| s.ssim).sum::<f64>() / scores.len() as f64,
            chroma_ratio: own.chroma / truth.chroma,
            colourfulness: own.colourfulness,
            colourfulness_abs: own.colourfulness_abs,
            d_colourfulness: (own.colourfulness - truth.colourfulness).abs(),
            sfd: None,
            sfd_over_grey: None,
        }
    }
}

fn references(scores: &[Score]) -> Vec<&Score> {
    scores.iter().collect()
}

/// Frechet distance between the looks of pictures; `None` where they were not looked at.
pub(super) fn sfd(scores: &[Score], truth: &[Score]) -> Option<f64> {
    let looks = |scores: &[Score]| -> Option<Vec<Vec<f32>>> {
        scores.iter().map(|score| score.look.clone()).collect()
    };
    let (own, truth) = (looks(scores)?, looks(truth)?);
    look::distance(
        own.iter().map(Vec::as_slice),
        truth.iter().map(Vec::as_slice),
    )
}

/// The photographs that come from one source.
#[derive(Clone, Debug, Serialize)]
pub struct SourceReport {
    /// Its name.
    pub source: String,
    /// How many.
    pub photographs: usize,
    /// Every contestant's figures.
    pub rows: Vec<Row>,
}

/// One photograph.
#[derive(Clone, Debug, Serialize)]
pub struct PictureReport {
    /// Its name.
    pub name: String,
    /// Where it comes from.
    pub source: String,
    /// CIEDE2000 of every contestant.
    pub ciede2000: Vec<f64>,
    /// The picture itself.
    #[serde(skip)]
    pub photo: Photo,
}

impl PictureReport {
    pub(super) fn new(photo: &Photo) -> Self {
        Self {
            name: photo.name(),
            source: photo.source().to_owned(),
            ciede2000: Vec::new(),
            photo: photo.clone(),
        }
    }
}

/// What was found. Rows are the models', grey's, the constant colour's and the truth's.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Figures over all photographs.
    pub rows: Vec<Row>,
    /// Mean a and b of the validation photographs, CIE units: the constant colour. Without photographs (then 0) every
    /// film has its own.
    pub mean_ab: (f32, f32),
    /// Figures by source.
    pub sources: Vec<SourceReport>,
    /// Every photograph.
    pub pictures: Vec<PictureReport>,
    /// Every film.
    pub clips: Vec<ClipReport>,
    /// What could not be judged, with the reason.
    pub skipped: Vec<(String, String)>,
    /// What the user should hear of the models.
    pub warnings: Vec<String>,
}

impl Report {
    /// Whether nothing was judged.
    pub fn is_empty(&self) -> bool {
        self.pictures.is_empty() && self.clips.is_empty()
    }

    /// Takes what every contestant (the truth is the last, grey the one at `grey`) scored on [`Report::pictures`].
    pub(super) fn tell_photographs<'a>(
        &mut self,
        names: impl Iterator<Item = &'a str>,
        scores: &[Vec<Score>],
        grey: usize,
    ) {
        let Some(truth) = scores.last() else { return };
        let names: Vec<&str> = names.collect();
        let distances: Vec<Option<f64>> = scores.iter().map(|own| sfd(own, truth)).collect();
        let contestants = names.iter().zip(scores);
        self.rows = contestants
            .clone()
            .map(|(name, own)| Row::of(name, own, truth))
            .collect();
        for (row, sfd) in self.rows.iter_mut().zip(&distances) {
            row.sfd = *sfd;
            row.sfd_over_grey = sfd.zip(distances[grey]).map(|(own, grey)| own / grey);
        }
        for (i, picture) in self.pictures.iter_mut().enumerate() {
            picture.ciede2000 = scores.iter().map(|own| own[i].marks.ciede2000).collect();
        }
        let mut sources: Vec<&str> = self.pictures.iter().map(|p| p.source.as_str()).collect();
        sources.sort_unstable();
        sources.dedup();
        let of = |source: &str| {
            let numbers = (0..self.pictures.len()).filter(|i| self.pictures[*i].source == source);
            let numbers: Vec<usize> = numbers.collect();
            let these = |scores: &'_ [Score]| -> Vec<Score> {
                numbers.iter().map(|i| scores[*i].clone()).collect()
            };
            let truth = these(truth);
            let row = |(name, own): (&&str, &Vec<Score>)| Row::of(name, &these(own), &truth);
            SourceReport {
                source: source.into(),
                photographs: numbers.len(),
                rows: contestants.clone().map(row).collect(),
            }
        };
        self.sources = sources.into_iter().map(of).collect();
    }
}

/// A figure with so many decimals; `-` where there is none.
pub(super) fn figure(value: impl Into<Option<f64>>, decimals: usize) -> String {
    match value.into().filter(|v: &f64| v.is_finite()) {
        Some(v) => format!("{v:.decimals$}"),
        None => "-".into(),
    }
}

/// Column heads of [`cells`].
pub(super) const COLUMNS: [&str; 10] = [
    "CIEDE2000",
    "PSNR_ab",
    "PSNR_rgb",
    "SSIM",
    "CF",
    "CF_abs",
    "dCF",
    "chroma",
    "SFD",
    "/grey's",
];

/// A row's figures in words.
pub(super) fn cells(row: &Row) -> [String; 10] {
    [
        figure(row.ciede2000, 3),
        figure(row.psnr_ab, 3),
        figure(row.psnr_rgb, 3),
        figure(row.ssim, 4),
        figure(row.colourfulness, 2),
        figure(row.colourfulness_abs, 2),
        figure(row.d_colourfulness, 2),
        figure(row.chroma_ratio, 3),
        figure(row.sfd, 2),
        figure(row.sfd_over_grey, 3),
    ]
}

/// Column heads of [`clip_cells`].
pub(super) const CLIP_COLUMNS: [&str; 10] = [
    "CIEDE2000",
    "PSNR_ab",
    "PSNR_rgb",
    "SSIM",
    "CF",
    "flicker",
    "-truth's",
    "CDC",
    "-truth's",
    "runs",
];

/// A film's row's figures in words.
pub(super) fn clip_cells(clip: &ClipRow) -> [String; 10] {
    [
        figure(clip.row.ciede2000, 3),
        figure(clip.row.psnr_ab, 3),
        figure(clip.row.psnr_rgb, 3),
        figure(clip.row.ssim, 4),
        figure(clip.row.colourfulness, 2),
        figure(clip.flicker, 4),
        figure(clip.flicker_over_truth, 4),
        figure(clip.cdc, 5),
        figure(clip.cdc_over_truth, 5),
        figure(clip.network_runs.map(|runs| runs as f64), 0),
    ]
}

/// A name, short: of a file, without folder and ending.
pub(super) fn short(name: &str) -> &str {
    let path = std::path::Path::new(name);
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    match path.extension() {
        Some(_) => stem.unwrap_or(name),
        None => name,
    }
}

const NAME: usize = 22;

fn line<const N: usize>(
    f: &mut fmt::Formatter,
    name: &str,
    cells: [impl AsRef<str>; N],
) -> fmt::Result {
    write!(f, "{name:<NAME$}")?;
    for cell in cells {
        write!(f, " {:>9}", cell.as_ref())?;
    }
    writeln!(f)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if !self.rows.is_empty() {
            line(
                f,
                &format!("{} test photographs", self.pictures.len()),
                COLUMNS,
            )?;
            for row in &self.rows {
                line(f, &row.name, cells(row))?;
            }
        }
        for (i, clip) in self.clips.iter().enumerate() {
            if i > 0 || !self.rows.is_empty() {
                writeln!(f)?;
            }
            let cuts = if clip.cuts == 1 { "cut" } else { "cuts" };
            writeln!(
                f,
                "{}: {} frames at {} x {}, {} {cuts}",
                clip.name, clip.frames, clip.size.0, clip.size.1, clip.cuts
            )?;
            line(f, "", CLIP_COLUMNS)?;
            for row in &clip.rows {
                line(f, &row.row.name, clip_cells(row))?;
            }
        }
        Ok(())
    }
}
