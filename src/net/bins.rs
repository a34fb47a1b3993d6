//! Colour as classes (Zhang, Isola & Efros 2016, arXiv 1603.08511): the bins that a classification head chooses from,
//! the soft encoding of a colour in them, what their frequency is good for, and how a choice becomes a colour.
//!
//! A bin is the centre of a cell of 10 x 10 CIE units of the (a, b) plane in which some colour of sRGB lies. There are
//! 261 (the paper counts 313, with colours of another white). They are stored with a model, as its statistics
//! `head.bins`, in CIE units, which f16 holds exactly, and so is their frequency, `head.prior`.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::{
    color,
    error::{Error, Result},
};

/// Sides of a cell, CIE units.
pub const STEP: f32 = 10.;

/// Number of bins.
pub const COUNT: usize = 261;

/// Bins that a colour is encoded in.
pub const NEIGHBOURS: usize = 5;

/// Standard deviation of the encoding, CIE units.
pub const SIGMA: f32 = 5.;

/// The least frequency that decoding reckons with, so that a bin that was never seen is unlikely, not infinite.
const RAREST: f32 = 1e-6;

/// How the choice of a bin becomes a colour.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Decoding {
    /// How much of the bins' frequency is taken out of the logits, 0 (nothing) to 1 (all of it): more is livelier.
    pub k: f32,
    /// Temperature: 1 gives the mean colour, towards 0 the likeliest bin.
    pub temperature: f32,
    /// How many times the chroma is multiplied by its certainty: the length of the mean colour over [`SURE`] times the
    /// root mean square chroma, both as the logits have them, 0 (any hue, or none, is as likely) to 1 (sure enough). A
    /// low temperature alone makes a strong colour of a small lead, and blotches where leads change.
    pub calm: u8,
}

/// The length of the mean colour, in root mean square chromas, from which a colour is sure enough to keep its chroma:
/// without it a gain that gives an unsure picture its colours back makes a sure one garish.
pub const SURE: f32 = 0.6;

/// The most that makes sense: after that all but the surest is grey.
const CALMEST: u8 = 4;

impl Default for Decoding {
    /// Lively without being loud; what suits a model is chosen on validation photographs.
    fn default() -> Self {
        Self {
            k: 0.4,
            temperature: 0.38,
            calm: 0,
        }
    }
}

impl Decoding {
    /// Whether these are numbers to decode with.
    ///
    /// # Errors
    /// [`Error::Usage`] where the temperature is not above 0, k is not within 0..1 or calm above 4.
    pub fn check(&self) -> Result<()> {
        let fits = self.temperature > 0. && self.temperature.is_finite();
        if fits && (0. ..=1.).contains(&self.k) && self.calm <= CALMEST {
            return Ok(());
        }
        Err(Error::Usage(format!(
            "decoding with k {}, temperature {} and calm {}: k must be within 0..1, the temperature must be above 0, \
             calm at most {CALMEST}",
            self.k, self.temperature, self.calm
        )))
    }

    /// What is taken off the logits of bins of these frequencies: `k log p`.
    pub fn offset(&self, prior: &[f32]) -> Vec<f32> {
        let of = |p: &f32| self.k * p.max(RAREST).ln();
        prior.iter().map(of).collect()
    }
}

/// The bins, a and b in CIE units, ordered by a, then b.
pub fn in_gamut() -> &'static [[f32; 2]] {
    static BINS: LazyLock<Vec<[f32; 2]>> = LazyLock::new(|| met(&outside()));
    &BINS
}

/// Cells of the plane to each side of 0, more than any colour reaches.
const REACH: i32 = 12;

/// The bins of the cells that these 8-bit colours lie in, and of all between them along b: the colours of sRGB are a
/// solid without holes, and so is its shadow on the plane.
fn met(colours: &[[u8; 3]]) -> Vec<[f32; 2]> {
    let mut spans = vec![(i32::MAX, i32::MIN); 2 * REACH as usize + 1];
    for colour in colours {
        let [_, a, b] = color::lab_from_srgb(colour.map(|v| f32::from(v) / 255.));
        let cell = |v: f32| (v / STEP).round() as i32;
        let span = &mut spans[(cell(a).clamp(-REACH, REACH) + REACH) as usize];
        *span = (span.0.min(cell(b)), span.1.max(cell(b)));
    }
    let columns = (-REACH..).zip(spans);
    let bin = |a: i32, b: i32| [a as f32 * STEP, b as f32 * STEP];
    columns
        .flat_map(|(a, (first, last))| (first..=last).map(move |b| bin(a, b)))
        .collect()
}

/// The colours without black in them, 0 in one channel, or without white, 255 in one: the outside of the solid.
fn outside() -> Vec<[u8; 3]> {
    let faces = (0..=u16::MAX).map(|i| ((i >> 8) as u8, i as u8));
    let all = |(u, v)| [0, 255].map(|w| [[w, u, v], [u, w, v], [u, v, w]]);
    faces.flat_map(|face| all(face).concat()).collect()
}

/// Squared distance of two colours.
fn apart([a, b]: [f32; 2], [c, d]: [f32; 2]) -> f32 {
    (a - c) * (a - c) + (b - d) * (b - d)
}

/// A colour as a mixture of its nearest bins: their numbers, nearest first, and their shares, which fall off as a
/// Gaussian and sum to 1. Colours and bins in CIE units; there are at least [`NEIGHBOURS`] bins.
pub fn soft(bins: &[[f32; 2]], ab: [f32; 2]) -> [(usize, f32); NEIGHBOURS] {
    // Where cells lie on all sides, five centres are within 16 units; looking at these alone is much quicker.
    let within = 2.56 * STEP * STEP;
    let close = nearest(bins, ab, within);
    let nearest = match close[NEIGHBOURS - 1].1 < within {
        true => close,
        false => nearest(bins, ab, f32::INFINITY),
    };
    // Relative to the nearest, or a colour far outside would divide 0 by 0.
    let first = nearest[0].1;
    let mut shares = nearest.map(|(number, d)| (number, gauss(d - first)));
    let total: f32 = shares.iter().map(|(_, share)| share).sum();
    shares.iter_mut().for_each(|(_, share)| *share /= total);
    shares
}

/// The nearest bins of those less than this squared distance away, and their squared distances; where there are
/// fewer, the rest are that far away.
fn nearest(bins: &[[f32; 2]], ab: [f32; 2], within: f32) -> [(usize, f32); NEIGHBOURS] {
    let mut nearest = [(0, within); NEIGHBOURS];
    for (number, bin) in bins.iter().enumerate() {
        let distance = apart(*bin, ab);
        if distance < nearest[NEIGHBOURS - 1].1 {
            let at = nearest.partition_point(|(_, other)| *other <= distance);
            nearest[at..].rotate_right(1);
            nearest[at] = (number, distance);
        }
    }
    nearest
}

/// A Gaussian of a squared distance.
fn gauss(distance: f32) -> f32 {
    (-distance / (2. * SIGMA * SIGMA)).exp()
}

/// The frequencies of bins smoothed over the plane by the encoding's Gaussian, so that a rare bin has something of its
/// neighbours; they sum to 1.
pub fn smoothed(bins: &[[f32; 2]], prior: &[f32]) -> Vec<f32> {
    let at = |bin: &[f32; 2]| {
        let terms = bins.iter().zip(prior);
        terms
            .map(|(other, p)| gauss(apart(*bin, *other)) * p)
            .sum::<f32>()
    };
    let all: Vec<f32> = bins.iter().map(at).collect();
    let total: f32 = all.iter().sum();
    all.into_iter().map(|p| p / total).collect()
}

/// The weight of each bin in the rebalanced cross-entropy: inverse to its frequency, of which `uniform` (0..1) is
/// replaced by the same for all; 1 in the mean over the frequencies.
pub fn rebalanced(prior: &[f32], uniform: f32) -> Vec<f32> {
    let each = uniform / prior.len() as f32;
    let weights = prior.iter().map(|p| 1. / ((1. - uniform) * p + each));
    let weights: Vec<f32> = weights.collect();
    let mean: f32 = weights.iter().zip(prior).map(|(w, p)| w * p).sum();
    weights.into_iter().map(|w| w / mean).collect()
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;

    #[test]
    fn the_bins_are_those_that_all_of_srgb_rounds_to() {
        let bins = in_gamut();
        assert_eq!(bins.len(), COUNT);
        assert!(bins.windows(2).all(|pair| pair[0] < pair[1]));
        let planes = (0..=255u8).into_par_iter().map(|r| {
            let mut cells = [[false; 32]; 32];
            for (g, b) in (0..=u16::MAX).map(|i| ((i >> 8) as u8, i as u8)) {
                let [_, a, b] = color::lab_from_srgb([r, g, b].map(|v| f32::from(v) / 255.));
                let cell = |v: f32| ((v / STEP).round() + 16.) as usize;
                cells[cell(a)][cell(b)] = true;
            }
            cells
        });
        let both = |mut left: [[bool; 32]; 32], right: [[bool; 32]; 32]| {
            let cells = left.as_flattened_mut().iter_mut();
            cells.zip(right.as_flattened()).for_each(|(l, r)| *l |= r);
            left
        };
        let cells = planes.reduce(|| [[false; 32]; 32], both);
        let set = (0..32).flat_map(|a| (0..32).map(move |b| (a, b)));
        let set = set.filter(|(a, b)| cells[*a][*b]);
        let centre = |i: usize| (i as f32 - 16.) * STEP;
        let all: Vec<[f32; 2]> = set.map(|(a, b)| [centre(a), centre(b)]).collect();
        assert_eq!(all, bins);
    }

    #[test]
    fn a_colour_is_a_mixture_of_the_bins_around_it() {
        let bins = in_gamut();
        for ab in [
            [3., -4.],
            [0., 0.],
            [61.2, 33.3],
            [-79., 75.],
            [500., -500.],
        ] {
            let shares = soft(bins, ab);
            assert!((shares.iter().map(|(_, s)| s).sum::<f32>() - 1.).abs() < 1e-6);
            assert!(shares.windows(2).all(|pair| pair[0].1 >= pair[1].1));
            let farthest = apart(bins[shares[NEIGHBOURS - 1].0], ab);
            let nearer = bins.iter().filter(|bin| apart(**bin, ab) < farthest);
            assert!(nearer.count() < NEIGHBOURS, "{ab:?}");
        }
        // In the middle of a cell, the four around it at 10 units: exp(-100 / 50) each.
        let shares = soft(bins, [10., 20.]);
        let one = (-2f32).exp();
        assert!((shares[0].1 - 1. / (1. + 4. * one)).abs() < 1e-6);
        assert_eq!(bins[shares[0].0], [10., 20.]);
        assert!((shares[4].1 - one / (1. + 4. * one)).abs() < 1e-6);
    }

    #[test]
    fn rare_bins_weigh_more_and_the_mean_weight_is_one() {
        let bins = in_gamut();
        let mut prior = vec![0.; COUNT];
        prior[100] = 0.75;
        prior[200] = 0.25;
        let smooth = smoothed(bins, &prior);
        assert!((smooth.iter().sum::<f32>() - 1.).abs() < 1e-5);
        assert!(smooth[100] < prior[100] && smooth[101] > 0.);
        let weights = rebalanced(&smooth, 0.5);
        let mean: f32 = weights.iter().zip(&smooth).map(|(w, p)| w * p).sum();
        assert!((mean - 1.).abs() < 1e-5);
        // ((1 - l) p + l / Q)^-1, up to one factor.
        let by_hand = |i: usize| 1. / (0.5 * smooth[i] + 0.5 / COUNT as f32);
        let ratio = (weights[0] / weights[100]) / (by_hand(0) / by_hand(100));
        assert!((ratio - 1.).abs() < 1e-5 && weights[0] > weights[100]);
        assert!(
            rebalanced(&smooth, 1.)
                .iter()
                .all(|w| (w - 1.).abs() < 1e-4)
        );
    }

    #[test]
    fn a_bin_that_was_never_seen_is_unlikely_but_not_infinitely_so() {
        let offset = Decoding {
            k: 0.5,
            temperature: 1.,
            calm: 0,
        }
        .offset(&[0., 1.]);
        assert!(offset[0] < -6. && offset[0].is_finite());
        assert_eq!(offset[1], 0.);
        for (k, temperature, calm) in [
            (0.4, 0., 0),
            (0.4, -1., 0),
            (0.4, f32::NAN, 0),
            (2., 1., 0),
            (f32::NAN, 1., 0),
            (0.4, 1., 5),
        ] {
            let decoding = Decoding {
                k,
                temperature,
                calm,
            };
            assert!(decoding.check().is_err());
        }
        assert!(Decoding::default().check().is_ok());
    }
}
