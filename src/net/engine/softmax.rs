//! Rows of logits: softmax, the mean colour that it gives, and cross-entropy, each with its gradient.
//!
//! A row is as long as there are bins, some hundreds, and stays in the nearest cache; nothing as large as all logits is
//! made but the gradient. The exponential is a polynomial that the compiler turns into vectors.

use crate::net::bins::{self, NEIGHBOURS};

/// Numbers worked on side by side.
const LANES: usize = 8;

type Lanes = [f32; LANES];

/// `e^x` to 1e-7 of its value for x of -87 to 88; beyond, as at these ends (Cephes' expf: x = n ln 2 + r, a polynomial
/// in r, and n into the exponent).
#[inline]
pub fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.; // 1.5 * 2^23: what is added to it is rounded to a whole number
    // As one instruction each, which `clamp` is not.
    let x = if x > -87. { x } else { -87. };
    let x = if x < 88. { x } else { 88. };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts, the first of few digits, so that n times it is exact.
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 0.166_666_66;
    let p = p * r + 0.5;
    let y = p * r * r + r + 1.;
    let power = (shifted.to_bits() << 23).wrapping_add(127 << 23);
    y * f32::from_bits(power)
}

/// A row's length with room for whole [`LANES`].
pub fn padded(count: usize) -> usize {
    count.next_multiple_of(LANES)
}

/// The colours and offsets of bins, as a mean colour needs them.
#[derive(Clone, Debug)]
pub struct Palette {
    /// The bins' a, then zeros to [`padded`].
    a: Vec<f32>,
    /// The bins' b, likewise.
    b: Vec<f32>,
    /// What is taken off the logits, divided by the temperature.
    offset: Vec<f32>,
    /// 1 / temperature.
    sharpness: f32,
}

impl Palette {
    /// Of `bins`, a and b one after the other, in the units that the colour is wanted in.
    pub fn new(bins: &[f32], offset: &[f32], temperature: f32) -> Self {
        let room = padded(offset.len());
        let plane = |first: usize| {
            let mut plane: Vec<f32> = bins[first..].iter().step_by(2).copied().collect();
            plane.resize(room, 0.);
            plane
        };
        Self {
            a: plane(0),
            b: plane(1),
            offset: offset.iter().map(|v| v / temperature).collect(),
            sharpness: 1. / temperature,
        }
    }

    /// Number of bins.
    pub fn count(&self) -> usize {
        self.offset.len()
    }
}

fn lanes(values: &[f32]) -> impl Iterator<Item = &Lanes> {
    values.as_chunks::<LANES>().0.iter()
}

fn total(lanes: Lanes) -> f32 {
    lanes.iter().sum()
}

/// `e^(v - largest v)` in place, of a row of whole lanes; the largest, and the sum.
fn exponentials(row: &mut [f32]) -> (f32, f32) {
    let mut most = [f32::NEG_INFINITY; LANES];
    for v in lanes(row) {
        for (most, v) in most.iter_mut().zip(v) {
            *most = if *v > *most { *v } else { *most };
        }
    }
    let most = most.into_iter().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|v| *v = exp(*v - most));
    let mut sum = [0.; LANES];
    for v in lanes(row) {
        sum.iter_mut().zip(v).for_each(|(sum, v)| *sum += v);
    }
    (most, total(sum))
}

/// What stands in a row beyond the logits: its exponential is nothing.
const NOTHING: f32 = f32::MIN;

/// The sharpened logits of one pixel, their softmax times its sum, which is given with the mean colour.
fn softmax(z: &[f32], palette: &Palette, row: &mut [f32]) -> (f32, [f32; 2]) {
    let (logits, rest) = row.split_at_mut(z.len());
    for (v, (z, offset)) in logits.iter_mut().zip(z.iter().zip(&palette.offset)) {
        *v = z * palette.sharpness - offset;
    }
    rest.fill(NOTHING);
    let (_, sum) = exponentials(row);
    let (mut a, mut b) = ([0.; LANES], [0.; LANES]);
    for (v, (ca, cb)) in lanes(row).zip(lanes(&palette.a).zip(lanes(&palette.b))) {
        for i in 0..LANES {
            a[i] += v[i] * ca[i];
            b[i] += v[i] * cb[i];
        }
    }
    (sum, [total(a) / sum, total(b) / sum])
}

/// The mean colour of each pixel's softmax: logits `[pixels, Q]` to `[pixels, 2]`. `room` holds [`padded`] numbers.
pub fn decode(z: &[f32], palette: &Palette, room: &mut [f32], ab: &mut [f32]) {
    let row = &mut room[..padded(palette.count())];
    for (z, ab) in z.chunks_exact(palette.count()).zip(ab.chunks_exact_mut(2)) {
        ab.copy_from_slice(&softmax(z, palette, row).1);
    }
}

/// Gradient of [`decode`] with respect to the logits: with the softmax s, `s_q / T * <grad, bin_q - mean>`.
pub fn decode_grad(z: &[f32], grad: &[f32], palette: &Palette) -> Vec<f32> {
    let count = palette.count();
    let mut row = vec![0.; padded(count)];
    let mut dz = Vec::with_capacity(z.len());
    for (z, grad) in z.chunks_exact(count).zip(grad.chunks_exact(2)) {
        let (sum, mean) = softmax(z, palette, &mut row);
        let factor = palette.sharpness / sum;
        let (ga, gb) = (grad[0] * factor, grad[1] * factor);
        let mid = ga * mean[0] + gb * mean[1];
        let colours = palette.a.iter().zip(&palette.b).take(count);
        dz.extend(
            row.iter()
                .zip(colours)
                .map(|(s, (a, b))| s * (ga * a + gb * b - mid)),
        );
    }
    dz
}

/// What a cross-entropy compares with.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The bins, in the truth's units times `scale`.
    pub bins: &'a [[f32; 2]],
    /// From the truth's units to the bins'.
    pub scale: f32,
    /// A weight for each bin: a pixel has that of the bin nearest to its truth.
    pub weights: Option<&'a [f32]>,
}

impl Target<'_> {
    /// The nearest bins with their shares, and the pixel's weight.
    fn of(&self, truth: &[f32]) -> ([(usize, f32); NEIGHBOURS], f32) {
        let shares = bins::soft(self.bins, [truth[0] * self.scale, truth[1] * self.scale]);
        let weight = self.weights.map_or(1., |weights| weights[shares[0].0]);
        (shares, weight)
    }
}

/// The exponentials of a row of logits less the largest, the largest, and their sum.
fn shifted(z: &[f32], row: &mut [f32]) -> (f32, f32) {
    row[..z.len()].copy_from_slice(z);
    row[z.len()..].fill(NOTHING);
    exponentials(row)
}

/// Cross-entropy of each pixel: logits `[pixels, Q]` and truths `[pixels, 2]` to `[pixels]`.
pub fn cross_entropy(z: &[f32], truth: &[f32], target: Target) -> Vec<f32> {
    let count = target.bins.len();
    let mut row = vec![0.; padded(count)];
    let pixels = z.chunks_exact(count).zip(truth.chunks_exact(2));
    let loss = pixels.map(|(z, truth)| {
        let (shares, weight) = target.of(truth);
        let (most, sum) = shifted(z, &mut row);
        // Relative to the largest logit, so that large ones do not cancel.
        let wanted: f32 = shares.iter().map(|(q, share)| share * (z[*q] - most)).sum();
        weight * (sum.ln() - wanted)
    });
    loss.collect()
}

/// Gradient of [`cross_entropy`] with respect to the logits: the softmax less the shares, times the weight.
pub fn cross_entropy_grad(z: &[f32], truth: &[f32], grad: &[f32], target: Target) -> Vec<f32> {
    let count = target.bins.len();
    let mut row = vec![0.; padded(count)];
    let mut dz: Vec<f32> = Vec::with_capacity(z.len());
    let pixels = z.chunks_exact(count).zip(truth.chunks_exact(2));
    for ((z, truth), grad) in pixels.zip(grad) {
        let (shares, weight) = target.of(truth);
        let (_, sum) = shifted(z, &mut row);
        let (grad, first) = (grad * weight, dz.len());
        dz.extend(row[..count].iter().map(|v| v * (grad / sum)));
        for (q, share) in shares {
            dz[first + q] -= grad * share;
        }
    }
    dz
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_one_to_a_millionth() {
        for i in -87_000..88_000 {
            let x = i as f32 / 1000.;
            let wanted = f64::from(x).exp();
            let apart = (f64::from(exp(x)) - wanted).abs() / wanted;
            assert!(apart < 2e-7, "e^{x}: {apart}");
        }
        assert_eq!(exp(0.), 1.);
        assert_eq!(exp(f32::MIN), exp(-87.));
        assert_eq!(exp(f32::INFINITY), exp(88.));
    }
}
