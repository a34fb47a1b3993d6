//! How good a model is, on photographs that it was not trained on.
//!
//! A photograph is scaled to the thumbnail size that the model asks for; its lightness is coloured; the colour map is
//! scaled up bilinearly and compared there. So the figures judge the network and the size of its map, not the video
//! pipeline.

pub mod metrics;

use std::{fmt, path::PathBuf};

use image::{RgbImage, imageops};
use serde::Serialize;

use crate::{
    color, error,
    error::{Error, Result},
    frame::{AbMap, Thumb},
    net::{self, Colorizer, DeviceChoice, Precision},
    train::{
        Config,
        data::{Photo, Sample, ScanOptions, Split, Stock},
    },
};

/// A photograph at thumbnail size: what the model sees and what it should say.
#[derive(Clone, Debug)]
pub struct Exam {
    /// Lightness.
    pub thumb: Thumb,
    /// True chroma at the same size, CIE units.
    pub truth: AbMap,
}

impl Exam {
    /// Scales a photograph to `width` x `height` and takes its lightness as ideal film would.
    pub fn new(photo: &RgbImage, (width, height): (usize, usize)) -> Self {
        let small = imageops::resize(
            photo,
            width as u32,
            height as u32,
            imageops::FilterType::Triangle,
        );
        let Sample { l, ab, .. } = Sample::new(&small, Stock::Ideal);
        let mut a: Vec<f32> = ab.into_iter().map(color::ab_from_network).collect();
        let b = a.split_off(width * height);
        let l = l.into_iter().map(color::l_from_network).collect();
        Self {
            thumb: Thumb { width, height, l },
            truth: AbMap {
                width,
                height,
                a,
                b,
            },
        }
    }
}

/// Figures of a model, means over photographs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Mean CIEDE2000 to the truth, lightness equal; smaller is better.
    pub ciede2000: f64,
    /// PSNR of a and b together in dB, from the mean squared error over all photographs; larger is better.
    pub psnr_ab: f64,
    /// Mean chroma over the truth's; 1 is as colourful as life.
    pub chroma_ratio: f64,
    /// Mean colourfulness (Hasler & Suesstrunk).
    pub colourfulness: f64,
    /// The truth's.
    pub true_colourfulness: f64,
}

/// Judges colour maps against exams, in the same order.
pub fn judge(exams: &[Exam], maps: &[AbMap]) -> Figures {
    let n = exams.len() as f64;
    let mut mean = Figures::default();
    let (mut squares, mut chroma, mut true_chroma) = (0., 0., 0.);
    for (exam, map) in exams.iter().zip(maps) {
        let (width, height) = (exam.thumb.width, exam.thumb.height);
        let count = (width * height) as f64;
        let map = enlarged(map, width, height);
        for i in 0..exam.thumb.l.len() {
            let [l, a, b] = [exam.thumb.l[i], map.a[i], map.b[i]].map(f64::from);
            let [ta, tb] = [exam.truth.a[i], exam.truth.b[i]].map(f64::from);
            mean.ciede2000 += metrics::ciede2000([l, ta, tb], [l, a, b]) / count / n;
            squares += ((a - ta).powi(2) + (b - tb).powi(2)) / 2. / count / n;
            chroma += a.hypot(b) / count / n;
            true_chroma += ta.hypot(tb) / count / n;
        }
        mean.colourfulness += metrics::colourfulness(srgb(&exam.thumb, &map)) / n;
        mean.true_colourfulness += metrics::colourfulness(srgb(&exam.thumb, &exam.truth)) / n;
    }
    mean.psnr_ab = metrics::psnr_ab(squares);
    mean.chroma_ratio = chroma / true_chroma;
    mean
}

/// 8-bit sRGB colours of lightness and chroma of one size, clipped to the gamut.
pub fn srgb(thumb: &Thumb, ab: &AbMap) -> impl Iterator<Item = [f64; 3]> {
    (0..thumb.l.len()).map(|i| {
        let rgb = color::srgb_from_lab([thumb.l[i], ab.a[i], ab.b[i]]);
        rgb.map(|v| f64::from((v.clamp(0., 1.) * 255.).round()))
    })
}

/// A colour map at another size, bilinear; its samples are cell centres.
pub fn enlarged(map: &AbMap, width: usize, height: usize) -> AbMap {
    // For each target sample: the two source samples around it and the weight of the second.
    let taps = |target: usize, source: usize| -> Vec<(usize, usize, f32)> {
        let at = |i| (i as f32 + 0.5) * source as f32 / target as f32 - 0.5;
        let tap = |x: f32| {
            let x = x.clamp(0., (source - 1) as f32);
            (x as usize, (x as usize + 1).min(source - 1), x.fract())
        };
        (0..target).map(|i| tap(at(i))).collect()
    };
    let (columns, rows) = (taps(width, map.width), taps(height, map.height));
    let plane = |p: &[f32]| {
        let mut out = Vec::with_capacity(width * height);
        for &(top, bottom, v) in &rows {
            for &(left, right, u) in &columns {
                let row =
                    |y: usize| p[y * map.width + left] * (1. - u) + p[y * map.width + right] * u;
                out.push(row(top) * (1. - v) + row(bottom) * v);
            }
        }
        out
    };
    AbMap {
        width,
        height,
        a: plane(&map.a),
        b: plane(&map.b),
    }
}

/// Colours every exam.
///
/// # Errors
/// As [`Colorizer::predict`].
pub fn colour(model: &mut dyn Colorizer, exams: &[Exam]) -> Result<Vec<AbMap>> {
    let thumbs: Vec<_> = exams.iter().map(|exam| exam.thumb.clone()).collect();
    model.predict(&thumbs)
}

/// What [`run`] is asked to do.
#[derive(Clone, Debug)]
pub struct EvalOptions {
    /// Folders of photographs. Of those that the model was trained on only the test part is used.
    pub photos: Vec<PathBuf>,
    /// Name or file of the model.
    pub model: String,
    /// Where it runs.
    pub device: DeviceChoice,
    /// In which numbers.
    pub precision: Precision,
}

/// Figures of a model beside those of no colour and of one colour.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name or file of the model.
    pub model: String,
    /// Photographs of the test part.
    pub photographs: usize,
    /// The model's figures.
    pub figures: Figures,
    /// Those of grey.
    pub grey: Figures,
    /// Those of the mean a and b of the validation photographs, everywhere.
    pub constant: Figures,
    /// That mean, CIE units.
    pub mean_ab: (f32, f32),
}

/// Judges a model on the test part of `photos`, split as for its training (by the seed and share in its file; the
/// trainer's defaults for a model without).
///
/// # Errors
/// The model or the photographs cannot be had; [`Error::Input`] where the test part is empty.
pub fn run(options: &EvalOptions) -> Result<Report> {
    let settings = net::info(&options.model)?.trained["settings"].clone();
    // One by one: a model keeps its split also where other settings have changed their names since.
    let mut trained = Config::default();
    trained.seed = settings["seed"].as_u64().unwrap_or(trained.seed);
    trained.held_out = settings["held_out"].as_f64().unwrap_or(trained.held_out);
    trained.size = settings["size"]
        .as_u64()
        .map_or(trained.size, |size| size as usize);
    let scan = ScanOptions::new(&options.photos, trained.held_out, trained.seed, 1);
    let split = Split::scan(&scan, &mut |_, _| ())?;
    let mut model = net::load(&options.model, &options.device, options.precision)?;
    // A model that looks at no pixels is judged at the size that the trainer would use.
    let size = |w, h| {
        model
            .thumb_size(w, h)
            .unwrap_or_else(|| net::thumb_size(trained.size, 16, w, h))
    };
    let exams = |photos: &[Photo]| -> Vec<Exam> {
        let open = |photo: &Photo| {
            let photo = photo.open().ok()?;
            let (w, h) = photo.dimensions();
            Some(Exam::new(&photo, size(w as usize, h as usize)))
        };
        photos.iter().filter_map(open).collect()
    };
    let (validation, test) = (exams(&split.validation), exams(&split.test));
    if test.is_empty() {
        return Err(Error::input(
            options
                .photos
                .iter()
                .map(error::shown)
                .collect::<Vec<_>>()
                .join(", "),
            "too few photographs: none falls into the test part",
        ));
    }
    let mean_ab = mean_ab(&validation);
    let everywhere = |(a, b)| judge(&test, &vec![AbMap::constant(a, b); test.len()]);
    Ok(Report {
        model: options.model.clone(),
        photographs: test.len(),
        figures: judge(&test, &colour(model.as_mut(), &test)?),
        grey: everywhere((0., 0.)),
        constant: everywhere(mean_ab),
        mean_ab,
    })
}

/// Mean a and b over the photographs; (0, 0) of none.
fn mean_ab(exams: &[Exam]) -> (f32, f32) {
    let mean = |plane: fn(&Exam) -> &[f32]| {
        let means = exams
            .iter()
            .map(|e| plane(e).iter().sum::<f32>() / plane(e).len() as f32);
        means.sum::<f32>() / exams.len().max(1) as f32
    };
    (mean(|e| &e.truth.a), mean(|e| &e.truth.b))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(
            f,
            "{} test photographs        CIEDE2000  PSNR_ab  chroma/truth's  colourfulness",
            self.photographs
        )?;
        let truth = self.figures.true_colourfulness;
        let rows = [
            (&self.model[..], &self.figures),
            ("grey", &self.grey),
            ("constant mean colour", &self.constant),
        ];
        for (name, g) in rows {
            writeln!(
                f,
                "{name:<28} {:9.3}  {:7.3}  {:14.3}  {:13.1}",
                g.ciede2000, g.psnr_ab, g.chroma_ratio, g.colourfulness
            )?;
        }
        write!(
            f,
            "{:<28} {:9.3}  {:>7}  {:14.3}  {truth:13.1}",
            "truth", 0., "-", 1.
        )
    }
}
