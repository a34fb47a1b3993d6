//! How good a model is, on photographs and films in colour whose colour it does not see.
//!
//! A photograph is scaled to the thumbnail size that the model asks for; its lightness is coloured; the colour map is
//! scaled up bilinearly and compared there. So the figures judge the network and the size of its map, not the video
//! pipeline. [`contest`] sets several models, grey, one colour and the truth side by side; [`clip`] judges what only
//! films have, colour over time; [`calibrate`] chooses how a model's colours are decoded.

pub mod calibrate;
mod chart;
mod classes;
pub mod clip;
pub mod contest;
pub mod frechet;
pub mod line;
pub mod look;
mod marks;
pub mod metrics;
pub mod motion;
pub mod page;
pub mod pictures;
pub mod report;
mod setting;
mod still;

pub use contest::{EvalOptions, run};
pub use marks::Marks;
pub use report::Report;

use image::{RgbImage, imageops};
use rayon::prelude::*;
use serde::Serialize;

use crate::{
    color,
    error::Result,
    frame::{AbMap, Thumb},
    net::Colorizer,
    train::data::{Sample, Stock},
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

impl Figures {
    /// From mean marks, and the truth's own.
    pub fn of(own: &Marks, truth: &Marks) -> Self {
        Self {
            ciede2000: own.ciede2000,
            psnr_ab: metrics::psnr_ab(own.square_ab),
            chroma_ratio: own.chroma / truth.chroma,
            colourfulness: own.colourfulness,
            true_colourfulness: truth.colourfulness,
        }
    }
}

/// Judges colour maps against exams, in the same order.
pub fn judge(exams: &[Exam], maps: &[AbMap]) -> Figures {
    let pairs = exams.par_iter().zip(maps);
    let both = |(exam, map): (&Exam, &AbMap)| (Marks::of(exam, map), Marks::of(exam, &exam.truth));
    let (own, truth): (Vec<_>, Vec<_>) = pairs.map(both).unzip();
    Figures::of(&Marks::mean(own.iter()), &Marks::mean(truth.iter()))
}

/// 8-bit sRGB colours of lightness and chroma of one size, clipped to the gamut.
pub fn srgb(thumb: &Thumb, ab: &AbMap) -> impl Iterator<Item = [f64; 3]> {
    (0..thumb.l.len()).map(|i| {
        let rgb = color::srgb_from_lab([thumb.l[i], ab.a[i], ab.b[i]]);
        rgb.map(|v| f64::from((v.clamp(0., 1.) * 255.).round()))
    })
}

/// The same as a picture.
pub fn painted(thumb: &Thumb, ab: &AbMap) -> RgbImage {
    let mut picture = RgbImage::new(thumb.width as u32, thumb.height as u32);
    for (pixel, rgb) in picture.pixels_mut().zip(srgb(thumb, ab)) {
        pixel.0 = rgb.map(|v| v as u8);
    }
    picture
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
