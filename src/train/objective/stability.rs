//! Steadiness from single frames (Eilertsen 2019, arXiv 1903.12261): what the generator makes of a picture that has
//! moved a little, and has another exposure and grain, is to be what it made of the picture, moved alike. No film is
//! needed, and nothing at run time.

use std::f64::consts::PI;

use candle_core::{DType, Device, Result, Tensor};
use rand::Rng;

use crate::net::params::normal;

/// How one sample moves: the result at p shows the picture at `zoom * R(angle) p + shift`, where p is (down, right)
/// from the centre in parts of the height.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// Radians, from down to right.
    pub angle: f64,
    /// Above 1 the picture shrinks.
    pub zoom: f64,
    /// Down and right.
    pub shift: (f64, f64),
}

impl Affine {
    /// Where in a picture of this size, in samples from its first, the result's sample at (y, x) comes from.
    fn source(&self, (h, w): (usize, usize), (y, x): (usize, usize)) -> (f64, f64) {
        let (sin, cos) = self.angle.sin_cos();
        let middle = |side: usize| (side as f64 - 1.) / 2.;
        let (down, right) = (y as f64 - middle(h), x as f64 - middle(w));
        let height = h as f64;
        (
            self.zoom * (cos * down - sin * right) + self.shift.0 * height + middle(h),
            self.zoom * (sin * down + cos * right) + self.shift.1 * height + middle(w),
        )
    }
}

/// A small motion of each sample of a batch, the same at every size of the pictures.
#[derive(Clone, Debug)]
pub struct Motion {
    samples: Vec<Affine>,
}

impl Motion {
    /// These motions, one a sample.
    pub fn new(samples: Vec<Affine>) -> Self {
        Self { samples }
    }

    /// Random ones: shifts to 1/64 of the height, turns to a degree, zooms to 1.5 %; some half a sample each where the
    /// picture is 32 high.
    pub fn draw(count: usize, rng: &mut impl Rng) -> Self {
        const SHIFT: f64 = 1. / 64.;
        const ANGLE: f64 = PI / 180.;
        const ZOOM: f64 = 0.015;
        let mut up_to = |most: f64| most * (2. * rng.random::<f64>() - 1.);
        let mut sample = |_| Affine {
            angle: up_to(ANGLE),
            zoom: 1. + up_to(ZOOM),
            shift: (up_to(SHIFT), up_to(SHIFT)),
        };
        Self::new((0..count).map(&mut sample).collect())
    }

    /// The pictures `[N, H, W, C]` moved, bilinear, their borders going on outside. candle can differentiate it.
    ///
    /// # Errors
    /// Not as many samples as motions.
    pub fn warp(&self, x: &Tensor) -> Result<Tensor> {
        let (n, h, w, c) = x.dims4()?;
        let corners = self.corners((n, h, w))?;
        let rows = x.reshape((n * h * w, c))?;
        let mut sum = None;
        for (at, share) in corners {
            let at = Tensor::new(at, x.device())?;
            let share = Tensor::new(share, x.device())?.to_dtype(x.dtype())?;
            let part = rows
                .index_select(&at, 0)?
                .broadcast_mul(&share.unsqueeze(1)?)?;
            sum = Some(match sum {
                None => part,
                Some(sum) => (sum + part)?,
            });
        }
        let sum = sum.ok_or_else(|| candle_core::Error::msg("a sample has four corners"))?;
        sum.reshape((n, h, w, c))
    }

    /// 1 where a moved picture of this size shows what was inside it, else 0: `[N, H, W, 1]`.
    ///
    /// # Errors
    /// Out of memory.
    pub fn inside(&self, (h, w): (usize, usize), dtype: DType, device: &Device) -> Result<Tensor> {
        let within = |v: f64, side: usize| (0. ..=side as f64 - 1.).contains(&v);
        let inside = self
            .sources((h, w))
            .map(|(_, (y, x))| f32::from(u8::from(within(y, h) && within(x, w))));
        let inside: Vec<f32> = inside.collect();
        Tensor::from_vec(inside, (self.samples.len(), h, w, 1), device)?.to_dtype(dtype)
    }

    /// Of every sample of every result, in order: which picture it comes from, and where in it.
    fn sources(&self, (h, w): (usize, usize)) -> impl Iterator<Item = (usize, (f64, f64))> {
        let pixels = move || (0..h).flat_map(move |y| (0..w).map(move |x| (y, x)));
        let motions = self.samples.iter().enumerate();
        motions.flat_map(move |(i, affine)| pixels().map(move |at| (i, affine.source((h, w), at))))
    }

    /// The four samples that each sample of the result lies between: their rows, and their shares of it.
    fn corners(&self, (n, h, w): (usize, usize, usize)) -> Result<[(Vec<u32>, Vec<f64>); 4]> {
        if n != self.samples.len() {
            candle_core::bail!("{} motions for {n} pictures", self.samples.len())
        }
        let mut corners = <[(Vec<u32>, Vec<f64>); 4]>::default();
        for (i, (y, x)) in self.sources((h, w)) {
            let ([top, bottom], down) = between(y, h);
            let ([left, right], along) = between(x, w);
            let row = |y: usize, x: usize| ((i * h + y) * w + x) as u32;
            let four = [
                (row(top, left), (1. - down) * (1. - along)),
                (row(top, right), (1. - down) * along),
                (row(bottom, left), down * (1. - along)),
                (row(bottom, right), down * along),
            ];
            for ((rows, shares), (row, share)) in corners.iter_mut().zip(four) {
                rows.push(row);
                shares.push(share);
            }
        }
        Ok(corners)
    }
}

/// The two samples of a side that `v` lies between, and how far from the first.
fn between(v: f64, side: usize) -> ([usize; 2], f64) {
    let v = v.clamp(0., side as f64 - 1.);
    let first = v as usize;
    ([first, (first + 1).min(side - 1)], v - first as f64)
}

/// Lightness `[N, H, W, 1]`, network units, of the same scene on another frame of film: each sample's contrast and
/// exposure changed by up to 5 %, with up to 3 % of grain.
///
/// # Errors
/// Out of memory.
pub fn refilmed(l: &Tensor, rng: &mut impl Rng) -> Result<Tensor> {
    const EXPOSURE: f64 = 0.05;
    const GRAIN: f64 = 0.03;
    let (n, h, w, _) = l.dims4()?;
    let (mut gains, mut noise) = (Vec::new(), Vec::new());
    for _ in 0..n {
        let mut up_to = |most: f64| most * (2. * rng.random::<f64>() - 1.);
        let (gain, offset) = (1. + up_to(EXPOSURE), up_to(EXPOSURE));
        let strength = GRAIN * rng.random::<f64>();
        gains.push(gain);
        noise.extend((0..h * w).map(|_| offset + strength * f64::from(normal(rng))));
    }
    let like = |v: Vec<f64>, shape| Tensor::from_vec(v, shape, l.device())?.to_dtype(l.dtype());
    let gains = like(gains, (n, 1, 1, 1))?;
    let noise = like(noise, (n, h, w, 1))?;
    (l.detach().broadcast_mul(&gains)? + noise)?.clamp(-1., 1.)
}

/// Mean of `|again - W ab|` over what is inside, where `again` is what the generator made of the moved lightness. The
/// absolute difference, as it is that of which people see flicker.
pub(super) fn distance(ab: &Tensor, again: &Tensor, motion: &Motion) -> Result<Tensor> {
    let (_, h, w, c) = ab.dims4()?;
    let inside = motion.inside((h, w), ab.dtype(), ab.device())?;
    let apart = (again - motion.warp(ab)?)?.abs()?;
    let sum = apart.broadcast_mul(&inside)?.sum_all()?;
    sum / ((inside.sum_all()? * c as f64)? + 1e-6)?
}
