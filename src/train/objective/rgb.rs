//! From lightness and ab to the colours that people see, differentiably.

use candle_core::{Result, Tensor, Var};

use crate::{
    color::{self, AB_SCALE, DELTA, L_SCALE, WHITE, XYZ_TO_RGB},
    net::engine::ops::{Back, Grads, Made, Operation, Up, Values, tracked},
};

/// Network units of ab to what they add to the roots of X and of Z.
const TO_ROOTS: [f32; 2] = [AB_SCALE / 500., -AB_SCALE / 200.];
/// Where sRGB's curve begins, after a straight line.
const CURVE: f32 = 0.003_130_8;

/// Encoded sRGB 0..1 `[N, H, W, 3]` of `l` `[N, H, W, 1]` and `ab` `[N, h, w, 2]` in network units, where H and W are a
/// whole multiple of h and w, as in [`color::srgb_from_lab`]. Colours out of gamut are clipped: there nothing moves
/// with ab, elsewhere every slope is finite.
pub(super) fn srgb(l: &Tensor, ab: &Tensor) -> Result<Tensor> {
    let ab = match l.dim(1)? / ab.dim(1)? {
        1 => ab.clone(),
        factor => tracked(Up(factor), &[ab])?,
    };
    tracked(Srgb, &[&l.detach(), &ab])
}

/// The conversion at one size: inputs l and ab, of which l has no gradient.
#[derive(Clone, Debug)]
struct Srgb;

impl Operation for Srgb {
    const NAME: &'static str = "srgb";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let pixels = inputs[0].data.iter().zip(inputs[1].data.chunks_exact(2));
        let rgb = pixels.flat_map(|(l, ab)| {
            let lab = [(l + 1.) * L_SCALE, ab[0] * AB_SCALE, ab[1] * AB_SCALE];
            color::linear_from_lab(lab).map(|v| color::srgb_from_linear(v.clamp(0., 1.)))
        });
        Ok(Some((rgb.collect(), with_channels(inputs[0].dims, 3))))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let (l, ab) = (inputs[0], inputs[1]);
        let scale = f64::from(L_SCALE);
        let [to_x, to_z] = TO_ROOTS.map(f64::from);
        let y = l.affine(scale / 116., (scale + 16.) / 116.)?;
        let x = (&y + ab.narrow(3, 0, 1)? * to_x)?;
        let z = (&y + ab.narrow(3, 1, 1)? * to_z)?;
        let xyz = linear_from_roots(&Tensor::cat(&[&x, &y, &z], 3)?)?;
        let linear = xyz.flatten_to(2)?.matmul(&to_rgb(l)?)?;
        encoded(&clipped(&linear)?)?.reshape(xyz.shape())
    }

    fn backward(&self, back: &Back) -> Result<Grads> {
        let Back {
            inputs, grad, run, ..
        } = *back;
        let grad = run.apply(SrgbGrad, &[inputs[0], inputs[1], grad])?;
        Ok(vec![None, Some(grad)])
    }
}

/// Its gradient with respect to ab: inputs l, ab and the gradient with respect to sRGB.
#[derive(Clone, Debug)]
struct SrgbGrad;

impl Operation for SrgbGrad {
    const NAME: &'static str = "srgb-grad";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let (l, ab, grad) = (inputs[0].data, inputs[1].data, inputs[2].data);
        let pixels = l.iter().zip(ab.chunks_exact(2)).zip(grad.chunks_exact(3));
        let grads = pixels.flat_map(|((l, ab), grad)| slope(*l, ab, grad));
        Ok(Some((grads.collect(), with_channels(inputs[0].dims, 2))))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let ab = Var::from_tensor(&inputs[1].detach())?;
        let rgb = Srgb.portable(&[inputs[0], &ab])?;
        let mut grads = (rgb * inputs[2])?.sum_all()?.backward()?;
        grads.remove(&ab).map_or_else(|| ab.zeros_like(), Ok)
    }

    fn backward(&self, _: &Back) -> Result<Grads> {
        candle_core::bail!("sRGB has no second derivative here")
    }
}

fn with_channels(dims: &[usize], channels: usize) -> candle_core::Shape {
    let sides = dims.split_last().map_or(dims, |(_, sides)| sides);
    [sides, &[channels]].concat().into()
}

/// Gradient with respect to one pixel's ab from that with respect to its sRGB.
fn slope(l: f32, ab: &[f32], grad: &[f32]) -> [f32; 2] {
    let lab = [(l + 1.) * L_SCALE, ab[0] * AB_SCALE, ab[1] * AB_SCALE];
    let linear = color::linear_from_lab(lab);
    let y = (lab[0] + 16.) / 116.;
    [0, 1].map(|i| {
        let xyz = 2 * i; // a moves X alone, b moves Z alone
        let root = y + TO_ROOTS[i] * ab[i];
        let cube = 3. * root.max(DELTA).powi(2) * WHITE[xyz];
        let along = (0..3).map(|c| grad[c] * slope_of_encoded(linear[c]) * XYZ_TO_RGB[c][xyz]);
        along.sum::<f32>() * cube * TO_ROOTS[i]
    })
}

/// Slope of sRGB's curve; none out of gamut.
fn slope_of_encoded(v: f32) -> f32 {
    match v {
        v if !(0. ..=1.).contains(&v) => 0.,
        v if v <= CURVE => 12.92,
        v => 1.055 / 2.4 * v.powf(1. / 2.4 - 1.),
    }
}

/// CIE's inverse of the cube root with its straight line near 0.
fn linear_from_roots(f: &Tensor) -> Result<Tensor> {
    let dark = f64::from(DELTA);
    let slope = 3. * dark * dark;
    let line = f.affine(slope, -slope * 4. / 29.)?;
    f.gt(dark)?.where_cond(&(f.sqr()? * f)?, &line)
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
    let dark = f64::from(CURVE);
    let line = (v * 12.92)?;
    let bright = ((v - dark)?.relu()? + dark)?;
    let curve = bright.powf(1. / 2.4)?.affine(1.055, -0.055)?;
    v.gt(dark)?.where_cond(&curve, &line)
}
