//! Rows of logits: softmax, the mean colour that it gives, and cross-entropy, each with its gradient.
//!
//! A row is as long as there are bins, some hundreds, and stays in the nearest cache; nothing as large as all logits is
//! made but the gradient. The exponential is a polynomial that the compiler turns into vectors.

use pulp::{Arch, NullaryFnOnce};

use crate::net::bins::{self, Decoding, NEIGHBOURS, SURE};

/// Numbers worked on side by side.
const LANES: usize = 16;

type Lanes = [f32; LANES];

/// A function that is compiled for several kinds of CPU, of which the best is taken at run time: this is arithmetic,
/// and wide vectors are three times as fast as the ones that every CPU has. All of them do the same sums in the same
/// order, so that the result is the same on every CPU. What it calls has to be `#[inline(always)]`.
macro_rules! wide {
    ($(#[$about:meta])* pub fn $name:ident<'a>($($given:ident: $kind:ty),*) -> $made:ty $body:block) => {
        $(#[$about])*
        pub fn $name<'a>($($given: $kind),*) -> $made {
            struct Job<'a> {
                $($given: $kind),*
            }
            impl<'a> NullaryFnOnce for Job<'a> {
                type Output = $made;

                #[inline(always)]
                fn call(self) -> $made {
                    let Self { $($given),* } = self;
                    $body
                }
            }
            Arch::new().dispatch(Job { $($given),* })
        }
    };
}

/// `e^x` to 1e-7 of its value for x of -87 to 88; beyond, as at these ends (Cephes' expf: x = n ln 2 + r, a polynomial
/// in r, and n into the exponent).
#[inline(always)]
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
    /// Number of bins.
    count: usize,
    /// The bins' a, then zeros to [`padded`].
    a: Vec<f32>,
    /// The bins' b, likewise.
    b: Vec<f32>,
    /// What is taken off the logits, divided by the temperature; likewise.
    offset: Vec<f32>,
    /// The bins' squared chroma, likewise.
    squares: Vec<f32>,
    /// 1 / temperature.
    sharpness: f32,
    /// How many times the chroma is multiplied by its certainty.
    calm: u8,
}

impl Palette {
    /// Of `bins`, a and b one after the other, in the units that the colour is wanted in; `offset` is what `decoding` takes
    /// off the logits.
    pub fn new(bins: &[f32], offset: &[f32], decoding: &Decoding) -> Self {
        let Decoding {
            temperature, calm, ..
        } = *decoding;
        let room = padded(offset.len());
        let plane = |values: &mut dyn Iterator<Item = f32>| {
            let mut plane: Vec<f32> = values.collect();
            plane.resize(room, 0.);
            plane
        };
        Self {
            count: offset.len(),
            a: plane(&mut bins.iter().step_by(2).copied()),
            b: plane(&mut bins.iter().skip(1).step_by(2).copied()),
            offset: plane(&mut offset.iter().map(|v| v / temperature)),
            squares: plane(&mut bins.chunks(2).map(|ab| ab[0] * ab[0] + ab[1] * ab[1])),
            sharpness: 1. / temperature,
            calm,
        }
    }

    /// Number of bins.
    pub fn count(&self) -> usize {
        self.count
    }
}

#[inline(always)]
fn lanes(values: &[f32]) -> std::slice::Iter<'_, Lanes> {
    values.as_chunks::<LANES>().0.iter()
}

#[inline(always)]
fn lanes_mut(values: &mut [f32]) -> std::slice::IterMut<'_, Lanes> {
    values.as_chunks_mut::<LANES>().0.iter_mut()
}

#[inline(always)]
fn total(lanes: Lanes) -> f32 {
    let mut sum = 0.;
    for v in lanes {
        sum += v;
    }
    sum
}

/// The largest number of a row of whole lanes.
#[inline(always)]
fn largest(row: &[f32]) -> f32 {
    let mut most = [f32::NEG_INFINITY; LANES];
    for v in lanes(row) {
        for i in 0..LANES {
            most[i] = if v[i] > most[i] { v[i] } else { most[i] };
        }
    }
    let mut all = f32::NEG_INFINITY;
    for v in most {
        all = if v > all { v } else { all };
    }
    all
}

/// `e^(v - most)` in place, of a row of whole lanes; their sum.
#[inline(always)]
fn exponentials(row: &mut [f32], most: f32) -> f32 {
    let mut sum = [0.; LANES];
    for v in lanes_mut(row) {
        for i in 0..LANES {
            v[i] = exp(v[i] - most);
            sum[i] += v[i];
        }
    }
    total(sum)
}

/// Sum of the products of two rows of whole lanes.
#[inline(always)]
fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut sum = [0.; LANES];
    for (x, y) in lanes(x).zip(lanes(y)) {
        for i in 0..LANES {
            sum[i] += x[i] * y[i];
        }
    }
    total(sum)
}

/// What stands in a row beyond the logits: its exponential is nothing.
const NOTHING: f32 = f32::MIN;

/// A pixel's logits as a row of whole lanes.
#[inline(always)]
fn fill(row: &mut [f32], z: &[f32]) {
    let (logits, rest) = row.split_at_mut(z.len());
    logits.copy_from_slice(z);
    rest.fill(NOTHING);
}

/// The sharpened logits of one pixel, their softmax times its sum, which is given with the mean colour.
#[inline(always)]
fn softmax(z: &[f32], palette: &Palette, row: &mut [f32]) -> (f32, [f32; 2]) {
    fill(row, z);
    for (v, offset) in row.iter_mut().zip(&palette.offset) {
        *v = *v * palette.sharpness - offset;
    }
    let most = largest(row);
    let sum = exponentials(row, most);
    let (a, b) = (dot(row, &palette.a), dot(row, &palette.b));
    (sum, [a / sum, b / sum])
}

/// How sure the logits of one pixel are of a colour, 0..=1: the length of their mean colour over [`SURE`] times the root
/// mean square chroma.
#[inline(always)]
fn certainty(z: &[f32], palette: &Palette, row: &mut [f32]) -> f32 {
    fill(row, z);
    let most = largest(row);
    let sum = exponentials(row, most);
    let (a, b, squares) = (
        dot(row, &palette.a),
        dot(row, &palette.b),
        dot(row, &palette.squares),
    );
    let certainty = ((a * a + b * b) / (sum * squares)).sqrt() / SURE;
    // No number where no bin with a colour is likely at all.
    if certainty < 1. { certainty } else { 1. }
}

wide! {
    /// The colour of each pixel's softmax, its mean, calmed: logits `[pixels, Q]` to `[pixels, 2]`. `room` holds
    /// [`padded`] numbers.
    pub fn decode<'a>(z: &'a [f32], palette: &'a Palette, room: &'a mut [f32], ab: &'a mut [f32]) -> () {
        let row = &mut room[..padded(palette.count)];
        for (z, ab) in z.chunks_exact(palette.count).zip(ab.chunks_exact_mut(2)) {
            let [mut a, mut b] = softmax(z, palette, row).1;
            if palette.calm > 0 {
                let certainty = certainty(z, palette, row);
                for _ in 0..palette.calm {
                    (a, b) = (a * certainty, b * certainty);
                }
            }
            ab.copy_from_slice(&[a, b]);
        }
    }
}

wide! {
    /// Gradient of [`decode`] without calm with respect to the logits: with the softmax s, `s_q / T * <grad, bin_q - mean>`.
    pub fn decode_grad<'a>(z: &'a [f32], grad: &'a [f32], palette: &'a Palette) -> Vec<f32> {
        let mut row = vec![0.; padded(palette.count)];
        let mut dz = Vec::with_capacity(z.len());
        for (z, grad) in z.chunks_exact(palette.count).zip(grad.chunks_exact(2)) {
            let (sum, mean) = softmax(z, palette, &mut row);
            let factor = palette.sharpness / sum;
            let (ga, gb) = (grad[0] * factor, grad[1] * factor);
            let mid = ga * mean[0] + gb * mean[1];
            for (v, (a, b)) in row.iter_mut().zip(palette.a.iter().zip(&palette.b)) {
                *v *= ga * a + gb * b - mid;
            }
            dz.extend_from_slice(&row[..palette.count]);
        }
        dz
    }
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

wide! {
    /// Cross-entropy of each pixel: logits `[pixels, Q]` and truths `[pixels, 2]` to `[pixels]`.
    pub fn cross_entropy<'a>(z: &'a [f32], truth: &'a [f32], target: Target<'a>) -> Vec<f32> {
        let count = target.bins.len();
        let mut row = vec![0.; padded(count)];
        let mut loss = Vec::with_capacity(truth.len() / 2);
        for (z, truth) in z.chunks_exact(count).zip(truth.chunks_exact(2)) {
            let (shares, weight) = target.of(truth);
            fill(&mut row, z);
            let most = largest(&row);
            let sum = exponentials(&mut row, most);
            // Relative to the largest logit, so that large ones do not cancel.
            let wanted: f32 = shares.iter().map(|(q, share)| share * (z[*q] - most)).sum();
            loss.push(weight * (sum.ln() - wanted));
        }
        loss
    }
}

wide! {
    /// Gradient of [`cross_entropy`] with respect to the logits: the softmax less the shares, times the weight.
    pub fn cross_entropy_grad<'a>(z: &'a [f32], truth: &'a [f32], grad: &'a [f32], target: Target<'a>) -> Vec<f32> {
        let count = target.bins.len();
        let mut row = vec![0.; padded(count)];
        let mut dz: Vec<f32> = Vec::with_capacity(z.len());
        let pixels = z.chunks_exact(count).zip(truth.chunks_exact(2));
        for ((z, truth), grad) in pixels.zip(grad) {
            let (shares, weight) = target.of(truth);
            fill(&mut row, z);
            let most = largest(&row);
            let sum = exponentials(&mut row, most);
            let grad = grad * weight;
            let factor = grad / sum;
            for v in &mut row {
                *v *= factor;
            }
            for (q, share) in shares {
                row[q] -= grad * share;
            }
            dz.extend_from_slice(&row[..count]);
        }
        dz
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubt_makes_colours_weaker() {
        let decoded = |bins: &[f32], logits: &[f32], calm: u8| {
            let decoding = Decoding {
                k: 0.,
                temperature: 0.5,
                calm,
            };
            let palette = Palette::new(bins, &vec![0.; logits.len()], &decoding);
            let (mut room, mut ab) = (vec![0.; padded(logits.len())], [0.; 2]);
            decode(logits, &palette, &mut room, &mut ab);
            ab
        };
        let near = |ab: [f32; 2], a: f32, b: f32| (ab[0] - a).hypot(ab[1] - b) < 1e-4;
        // A colour or its opposite, 65 to 35: a mean of 3 where every colour has a chroma of 10, half of what is sure.
        // At half the temperature 65 to 35 becomes 4,225 to 1,225.
        let opposite = [10., 0., -10., 0.];
        for (calm, share) in [(0, 1.), (1, 0.5), (2, 0.25)] {
            let ab = decoded(&opposite, &[0.65f32.ln(), 0.35f32.ln()], calm);
            assert!(near(ab, 10. * 3000. / 5450. * share, 0.));
        }
        // Colours at right angles, or grey and a colour, are of one kind: sure enough.
        assert!(near(decoded(&[10., 0., 0., 10.], &[1., 1.], 4), 5., 5.));
        assert!(near(decoded(&[10., 0., 0., 0.], &[0., 0.], 4), 5., 0.));
        // One colour only, and none at all.
        assert!(near(decoded(&opposite, &[80., 0.], 4), 10., 0.));
        assert!(near(decoded(&[0., 0.], &[3.], 1), 0., 0.));
    }

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
