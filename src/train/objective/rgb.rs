//! From lightness and ab to the colours that people see, differentiably.

use candle_core::{Result, Tensor};

use crate::{
    color::{AB_SCALE, DELTA, L_SCALE, WHITE, XYZ_TO_RGB},
    net::engine::ops::{Up, tracked},
};

/// Encoded sRGB 0..1 `[N, H, W, 3]` of `l` `[N, H, W, 1]` and `ab` `[N, h, w, 2]` in network units, where H and W are a
/// whole multiple of h and w, as in [`crate::color::srgb_from_lab`]. Colours out of gamut are clipped: there nothing
/// moves with ab, elsewhere every slope is finite.
pub(super) fn srgb(l: &Tensor, ab: &Tensor) -> Result<Tensor> {
    let ab = match l.dim(1)? / ab.dim(1)? {
        1 => ab.clone(),
        factor => tracked(Up(factor), &[ab])?,
    };
    let (scale, units) = (f64::from(L_SCALE), f64::from(AB_SCALE));
    let y = l.affine(scale / 116., (scale + 16.) / 116.)?;
    let x = (&y + ab.narrow(3, 0, 1)? * (units / 500.))?;
    let z = (&y - ab.narrow(3, 1, 1)? * (units / 200.))?;
    let xyz = linear_from_roots(&Tensor::cat(&[&x, &y, &z], 3)?)?;
    let linear = xyz
        .flatten_to(2)?
        .matmul(&to_rgb(l)?)?
        .reshape(xyz.shape())?;
    encoded(&clipped(&linear)?)
}

/// CIE's inverse of the cube root with its straight line near 0.
fn linear_from_roots(f: &Tensor) -> Result<Tensor> {
    const DARK: f64 = DELTA as f64;
    let slope = 3. * DARK * DARK;
    let line = f.affine(slope, -slope * 4. / 29.)?;
    f.gt(DARK)?.where_cond(&(f.sqr()? * f)?, &line)
}

/// XYZ in parts of white's to linear sRGB, to be multiplied from the right; of the type and device of `like`.
fn to_rgb(like: &Tensor) -> Result<Tensor> {
    let at = |i: usize| f64::from(XYZ_TO_RGB[i % 3][i / 3]) * f64::from(WHITE[i / 3]);
    let matrix: Vec<f64> = (0..9).map(at).collect();
    Tensor::from_vec(matrix, (3, 3), like.device())?.to_dtype(like.dtype())
}

/// Clipped to 0..1.
fn clipped(v: &Tensor) -> Result<Tensor> {
    v.relu()?.affine(-1., 1.)?.relu()?.affine(-1., 1.)
}

/// sRGB's curve, of 0..1. The power never sees a number near 0, where its slope has no bound.
fn encoded(v: &Tensor) -> Result<Tensor> {
    const DARK: f64 = 0.003_130_8;
    let line = (v * 12.92)?;
    let bright = ((v - DARK)?.relu()? + DARK)?;
    let curve = bright.powf(1. / 2.4)?.affine(1.055, -0.055)?;
    v.gt(DARK)?.where_cond(&curve, &line)
}
