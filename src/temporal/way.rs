//! Ways: from a frame to a key frame, and how far that can be trusted.

use super::{
    motion::{CELL, Field, nearest},
    sketch::{Grey, Sketch},
};

/// Difference of lightness, 0..255, that grain and rounding make anyway.
const EVEN: f32 = 3.;
/// Difference beyond the usual at which half of the trust is gone.
const DOUBT: f32 = 6.;

/// From every cell of a frame to where it was, or will be, in a key frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Way {
    /// Where that is.
    pub field: Field,
    /// How sure it is, 0..=1, by cells: whether the lightness there is the same.
    pub trust: Vec<f32>,
}

impl Way {
    /// By `field` from a frame to a key frame, with the sketches of both.
    pub fn new(field: Field, now: &Sketch, key: &Sketch) -> Self {
        let trust = trust(&field, now, key);
        Self { field, trust }
    }

    /// The share of the picture that cannot be trusted.
    pub fn lost(&self) -> f32 {
        let trusted: f32 = self.trust.iter().sum();
        1. - trusted / self.trust.len().max(1) as f32
    }
}

/// How alike the lightness of every cell and of the place that it comes from is. Beyond the border nothing is known.
fn trust(field: &Field, now: &Sketch, key: &Sketch) -> Vec<f32> {
    let (now, key, exposure) = (now.whole(), key.whole(), now.mean - key.mean);
    let apart: Vec<f32> = (0..field.vectors.len())
        .map(|cell| apart(field, cell, now, key, exposure))
        .collect();
    let mut known: Vec<f32> = apart.iter().copied().filter(|d| d.is_finite()).collect();
    if known.is_empty() {
        return vec![0.; apart.len()];
    }
    // What most of the picture differs by is grain, or the light.
    let middle = known.len() / 2;
    let usual = *known.select_nth_unstable_by(middle, f32::total_cmp).1;
    let trusted = |apart: &f32| {
        let beyond = (apart - EVEN.max(1.5 * usual)).max(0.) / DOUBT;
        1. / (1. + beyond * beyond)
    };
    apart.iter().map(trusted).collect()
}

/// Mean difference of the samples of a cell from those where it comes from; infinite where those lie outside.
fn apart(field: &Field, cell: usize, now: &Grey, key: &Grey, exposure: f32) -> f32 {
    let ((x, y), [dx, dy]) = (field.middle(cell), field.vectors[cell]);
    let outside = |at: f32, end: usize| at < -0.5 || at > end as f32 + 0.5;
    if outside(x + dx, key.width) || outside(y + dy, key.height) {
        return f32::INFINITY;
    }
    let half = CELL as i32 / 2;
    let (left, top) = (x as i32 - half, y as i32 - half);
    let (from_left, from_top) = (left + nearest(dx), top + nearest(dy));
    let mut sum = 0.;
    for row in 0..CELL as i32 {
        let here = now.from(left, top + row).first_chunk::<CELL>();
        let there = key.from(from_left, from_top + row).first_chunk::<CELL>();
        if let (Some(here), Some(there)) = (here, there) {
            let pairs = here.iter().zip(there);
            sum += pairs
                .map(|(here, there)| (f32::from(*here) - f32::from(*there) - exposure).abs())
                .sum::<f32>();
        }
    }
    sum / (CELL * CELL) as f32
}
