//! Figures of one picture.

use serde::Serialize;

use super::{Exam, enlarged, metrics, srgb};
use crate::frame::AbMap;

/// How far the colours of a picture are from the truth, and how colourful they are. Means of them over pictures are
/// figures of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Marks {
    /// Mean CIEDE2000 to the truth.
    pub ciede2000: f64,
    /// Mean squared error of a and b, CIE units.
    pub square_ab: f64,
    /// Mean squared error of R, G and B of 8 bits.
    pub square_rgb: f64,
    /// Mean chroma, CIE units.
    pub chroma: f64,
    /// Colourfulness (Hasler & Suesstrunk).
    pub colourfulness: f64,
    /// Colourfulness with absolute differences.
    pub colourfulness_abs: f64,
}

impl Marks {
    /// Of a colour map, at any size, for a picture.
    pub fn of(exam: &Exam, map: &AbMap) -> Self {
        let Exam { thumb, truth } = exam;
        let count = thumb.l.len() as f64;
        let map = &enlarged(map, thumb.width, thumb.height);
        let mut marks = Self::default();
        for i in 0..thumb.l.len() {
            let [l, a, b] = [thumb.l[i], map.a[i], map.b[i]].map(f64::from);
            let [ta, tb] = [truth.a[i], truth.b[i]].map(f64::from);
            marks.ciede2000 += metrics::ciede2000([l, ta, tb], [l, a, b]);
            marks.square_ab += ((a - ta).powi(2) + (b - tb).powi(2)) / 2.;
            marks.chroma += a.hypot(b);
        }
        let rgb: Vec<_> = srgb(thumb, map).collect();
        for (rgb, truth) in rgb.iter().zip(srgb(thumb, truth)) {
            let square = |i: usize| (rgb[i] - truth[i]).powi(2);
            marks.square_rgb += (square(0) + square(1) + square(2)) / 3.;
        }
        Self {
            colourfulness: metrics::colourfulness(rgb.iter().copied()),
            colourfulness_abs: metrics::colourfulness_abs(rgb.into_iter()),
            ..marks.map(|v| v / count)
        }
    }

    /// The mean over pictures.
    pub fn mean<'a>(marks: impl ExactSizeIterator<Item = &'a Self>) -> Self {
        let count = marks.len() as f64;
        let add = |sum: Self, marks: &Self| sum.with(marks, |a, b| a + b);
        marks.fold(Self::default(), add).map(|v| v / count)
    }

    fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        self.with(self, |v, _| f(v))
    }

    fn with(&self, other: &Self, f: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            ciede2000: f(self.ciede2000, other.ciede2000),
            square_ab: f(self.square_ab, other.square_ab),
            square_rgb: f(self.square_rgb, other.square_rgb),
            chroma: f(self.chroma, other.chroma),
            colourfulness: f(self.colourfulness, other.colourfulness),
            colourfulness_abs: f(self.colourfulness_abs, other.colourfulness_abs),
        }
    }
}
