//! Sample and batch: pictures as the networks see them.

use candle_core::{Device, Tensor};
use image::RgbImage;

use super::Stock;
use crate::{color, error::Result};

/// A picture as the networks see it: planes in network units, row-major.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Lightness as the network is given it: of a film stock, with the look of old film.
    pub l: Vec<f32>,
    /// The truth: a, then b.
    pub ab: Vec<f32>,
    /// CIE lightness of the picture itself, which makes its colours with [`Sample::ab`].
    pub true_l: Vec<f32>,
}

impl Sample {
    /// Converts a picture; `stock` says what its grey version looks like.
    pub fn new(picture: &RgbImage, stock: Stock) -> Self {
        let count = picture.as_raw().len() / 3;
        let mut sample = Self {
            l: Vec::with_capacity(count),
            ab: vec![0.; 2 * count],
            true_l: Vec::with_capacity(count),
        };
        let (a_plane, b_plane) = sample.ab.split_at_mut(count);
        for ((pixel, to_a), to_b) in picture.pixels().zip(a_plane).zip(b_plane) {
            let [l, a, b] = color::lab_from_srgb8(pixel.0);
            let seen = stock.lightness(pixel.0, l);
            sample.l.push(color::network_from_l(seen));
            sample.true_l.push(color::network_from_l(l));
            *to_a = color::network_from_ab(a);
            *to_b = color::network_from_ab(b);
        }
        sample
    }
}

/// Samples stacked: the loader's product.
pub struct Batch {
    /// `[N, H, W, 1]`, network units: what the network is given.
    pub l: Tensor,
    /// `[N, H, W, 2]`, network units: the truth.
    pub ab: Tensor,
    /// `[N, H, W, 1]`, network units: the pictures' own lightness, for losses that look at their colours.
    pub true_l: Tensor,
}

impl Batch {
    /// Stacks samples of `height` x `width`.
    ///
    /// # Errors
    /// A sample of another size.
    pub fn stack(samples: &[Sample], height: usize, width: usize) -> Result<Self> {
        let n = samples.len();
        let plane = height * width;
        let stacked = |of: fn(&Sample) -> &[f32]| {
            let values: Vec<f32> = samples.iter().flat_map(|s| of(s).iter().copied()).collect();
            Tensor::from_vec(values, (n, height, width, 1), &Device::Cpu)
        };
        let mut ab = Vec::with_capacity(2 * n * plane);
        for sample in samples {
            let (a, b) = sample.ab.split_at(plane.min(sample.ab.len()));
            ab.extend(a.iter().zip(b).flat_map(|(a, b)| [*a, *b]));
        }
        Ok(Self {
            l: stacked(|s| &s.l)?,
            ab: Tensor::from_vec(ab, (n, height, width, 2), &Device::Cpu)?,
            true_l: stacked(|s| &s.true_l)?,
        })
    }
}
