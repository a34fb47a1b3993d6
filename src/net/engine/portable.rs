//! What [`super::ops`] does, in candle's own operations: for CUDA, for CPUs and shapes that oneDNN lacks, and the
//! reference that the rest is tested against. Pictures are `[N, H, W, C]`. Slow on the CPU.

use candle_core::{Result, Tensor};

use super::ops::{Geometry, Statistics};
use crate::{
    color::AB_SCALE,
    net::{
        bins::{Decoding, NEIGHBOURS, SIGMA, SURE},
        graph::{Act, Window},
    },
};

/// Pictures as candle's convolutions want them, `[N, C, H, W]`.
fn channels_first(x: &Tensor) -> Result<Tensor> {
    x.permute((0, 3, 1, 2))?.contiguous()
}

fn channels_last(x: &Tensor) -> Result<Tensor> {
    x.permute((0, 2, 3, 1))?.contiguous()
}

/// Zeros around a picture, with `more` at the bottom and right, its height and width in dimensions `first` and the
/// next.
fn padded(x: &Tensor, window: Window, first: usize, more: usize) -> Result<Tensor> {
    let (before, after) = (window.pad.0, window.pad.1 + more);
    let x = x.pad_with_zeros(first, before, after)?;
    x.pad_with_zeros(first + 1, before, after)
}

fn depthwise(weight: &Tensor, geometry: Geometry) -> Result<bool> {
    Ok(geometry.groups > 1 && geometry.groups == weight.dim(0)? && weight.dim(1)? == 1)
}

/// The sample that tap (`ky`, `kx`) of every window sees, of a picture that was [`padded`] with one stride more:
/// `[N, H', W', C]`.
fn tap(
    x: &Tensor,
    (ky, kx): (usize, usize),
    window: Window,
    out: (usize, usize),
) -> Result<Tensor> {
    let s = window.stride;
    let (n, _, _, c) = x.dims4()?;
    let x = x
        .narrow(1, ky, out.0 * s)?
        .narrow(2, kx, out.1 * s)?
        .contiguous()?;
    let x = x.reshape((n, out.0, s, out.1, s * c))?;
    let x = x.narrow(2, 0, 1)?.narrow(4, 0, c)?.contiguous()?;
    x.reshape((n, out.0, out.1, c))
}

/// Every tap of a window.
fn taps(window: Window) -> impl Iterator<Item = (usize, usize)> {
    (0..window.size * window.size).map(move |i| (i / window.size, i % window.size))
}

fn out(x: &Tensor, window: Window) -> Result<(usize, usize)> {
    let (_, h, w, _) = x.dims4()?;
    Ok((window.count(h), window.count(w)))
}

/// As [`super::ops::Conv`], without bias and activation. Depthwise ones, for which candle makes one call a channel,
/// are sums of shifted products.
pub fn conv(x: &Tensor, weight: &Tensor, geometry: Geometry) -> Result<Tensor> {
    let window = geometry.window;
    if !depthwise(weight, geometry)? {
        let x = padded(&channels_first(x)?, window, 2, 0)?;
        return channels_last(&x.conv2d(weight, 0, window.stride, 1, geometry.groups)?);
    }
    let out = out(x, window)?;
    let wide = padded(x, window, 1, window.stride)?;
    let mut sum = None;
    for at @ (ky, kx) in taps(window) {
        let factor = weight.narrow(2, ky, 1)?.narrow(3, kx, 1)?.flatten_all()?;
        let part = tap(&wide, at, window, out)?.broadcast_mul(&factor)?;
        sum = Some(match sum {
            None => part,
            Some(sum) => (sum + part)?,
        });
    }
    sum.ok_or_else(|| candle_core::Error::msg("a window without taps"))
}

/// As [`super::ops::ConvData`].
pub fn conv_data(
    grad: &Tensor,
    weight: &Tensor,
    geometry: Geometry,
    size: (usize, usize),
) -> Result<Tensor> {
    let Geometry { window, groups, .. } = geometry;
    let grad = channels_first(grad)?;
    let (outputs, _, _, _) = weight.dims4()?;
    let each = outputs / groups;
    let part = |i: usize| {
        let grad = grad.narrow(1, i * each, each)?.contiguous()?;
        let weight = weight.narrow(0, i * each, each)?.contiguous()?;
        grad.conv_transpose2d(&weight, 0, 0, window.stride, 1)
    };
    let parts: Vec<Tensor> = (0..groups).map(part).collect::<Result<_>>()?;
    let mut x = Tensor::cat(&parts, 1)?;
    // It covers the padding on the near side, and as much of the far side as windows reach.
    for (dim, side) in [(2, size.0), (3, size.1)] {
        let missing = (window.pad.0 + side).saturating_sub(x.dim(dim)?);
        x = x
            .pad_with_zeros(dim, 0, missing)?
            .narrow(dim, window.pad.0, side)?;
    }
    channels_last(&x)
}

/// As [`super::ops::ConvWeights`]: the convolution of x with the gradient, samples in the place of channels.
pub fn conv_weights(x: &Tensor, grad: &Tensor, geometry: Geometry) -> Result<Tensor> {
    let Geometry { window, groups, .. } = geometry;
    if groups > 1 && groups == x.dim(3)? && groups == grad.dim(3)? {
        let out = out(x, window)?;
        let wide = padded(x, window, 1, window.stride)?;
        let sums = taps(window).map(|at| (tap(&wide, at, window, out)? * grad)?.sum((0, 1, 2)));
        let sums: Vec<Tensor> = sums.collect::<Result<_>>()?;
        let size = window.size;
        return Tensor::stack(&sums, 1)?.reshape((groups, 1, size, size));
    }
    // [I, N, H, W] and [O, N, H', W'].
    let samples_first = |t: &Tensor| t.permute((3, 0, 1, 2))?.contiguous();
    let x = padded(&samples_first(x)?, window, 2, window.stride)?;
    let grad = samples_first(grad)?;
    let (ins, outs) = (x.dim(0)? / groups, grad.dim(0)? / groups);
    let part = |i: usize| {
        let x = x.narrow(0, i * ins, ins)?.contiguous()?;
        let grad = grad.narrow(0, i * outs, outs)?.contiguous()?;
        let dw = x.conv2d(&grad, 0, 1, window.stride, 1)?; // [I, O, k + .., k + ..]
        let dw = dw.narrow(2, 0, window.size)?.narrow(3, 0, window.size)?;
        dw.transpose(0, 1)?.contiguous()
    };
    let parts: Vec<Tensor> = (0..groups).map(part).collect::<Result<_>>()?;
    Tensor::cat(&parts, 0)
}

/// As [`super::ops::BiasAct`].
pub fn bias_act(x: &Tensor, bias: Option<&Tensor>, act: Act) -> Result<Tensor> {
    let v = match bias {
        Some(bias) => x.broadcast_add(bias)?,
        None => x.clone(),
    };
    match act {
        Act::None => Ok(v),
        // candle's ReLU has no second derivative.
        Act::Leaky(_) if v.track_op() => act_grad(&v.detach(), &v, act),
        Act::Leaky(slope) => {
            let slope = f64::from(slope);
            v.relu()?.affine(1. - slope, 0.)? + v.affine(slope, 0.)?
        }
        Act::Relu6 => v.clamp(0f32, 6f32),
        Act::Tanh => v.tanh(),
    }
}

/// As [`super::ops::ActGrad`].
pub fn act_grad(y: &Tensor, grad: &Tensor, act: Act) -> Result<Tensor> {
    let where_ = |mask: Tensor| mask.to_dtype(y.dtype());
    let slope = match act {
        Act::None => return Ok(grad.clone()),
        Act::Leaky(slope) => {
            where_(y.gt(0f32)?)?.affine(1. - f64::from(slope), f64::from(slope))?
        }
        Act::Relu6 => (where_(y.gt(0f32)?)? * where_(y.lt(6f32)?)?)?,
        Act::Tanh => y.sqr()?.affine(-1., 1.)?,
    };
    slope * grad
}

/// Means and biased variances, `[2, parts, groups]`.
pub fn moments(x: &Tensor, parts: usize, groups: usize) -> Result<Tensor> {
    let c = x.dim(3)?;
    let x = x.reshape((parts, (), groups, c / groups))?;
    let mean = x.mean_keepdim((1, 3))?;
    let variance = x.broadcast_sub(&mean)?.sqr()?.mean_keepdim((1, 3))?;
    Tensor::stack(
        &[
            mean.reshape((parts, groups))?,
            variance.reshape((parts, groups))?,
        ],
        0,
    )
}

/// As [`super::ops::Norm`], without the activation. Statistics that are the input's own are computed anew, so that
/// candle differentiates through them.
pub fn norm(inputs: &[&Tensor], statistics: &Statistics) -> Result<Tensor> {
    let (x, weight, bias) = (inputs[0], inputs[1], inputs[2]);
    let c = x.dim(3)?;
    let (_, parts, groups) = statistics.moments.dims3()?;
    let moments = match statistics.samples {
        Some(_) => moments(x, parts, groups)?,
        None => statistics.moments.clone(),
    };
    let of = |i: usize| moments.get(i)?.reshape((parts, 1, groups, 1));
    let y = x.reshape((parts, (), groups, c / groups))?;
    let deviation = (of(1)? + f64::from(statistics.eps))?.sqrt()?;
    let y = y.broadcast_sub(&of(0)?)?.broadcast_div(&deviation)?;
    y.reshape(x.shape())?
        .broadcast_mul(weight)?
        .broadcast_add(bias)
}

/// As [`super::ops::Up`]. candle's upsample_nearest2d has a wrong gradient where its input is shared.
pub fn up(x: &Tensor, factor: usize) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    let blocks = x.reshape((n * h, 1, w, 1, c))?;
    let blocks = blocks.broadcast_as((n * h, factor, w, factor, c))?;
    blocks.reshape((n, h * factor, w * factor, c))
}

/// As [`super::ops::BlockSum`].
pub fn block_sum(x: &Tensor, factor: usize) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    let (h, w) = (h / factor, w / factor);
    let blocks = x.reshape((n * h, factor, w, factor, c))?;
    blocks.sum((1, 3))?.reshape((n, h, w, c))
}

const POOL: Window = Window::new(3, 2, 0);

/// The nine samples of every window of the pooling. The last row and column stand in for those beyond, which is as
/// good as clipping the window.
fn pool_taps(x: &Tensor) -> Result<Vec<Tensor>> {
    let (_, h, w, _) = x.dims4()?;
    let x = x.pad_with_same(1, 0, 3)?.pad_with_same(2, 0, 3)?;
    taps(POOL)
        .map(|at| tap(&x, at, POOL, (h / 2, w / 2)))
        .collect()
}

/// As [`super::ops::MaxPool`].
pub fn max_pool(x: &Tensor) -> Result<Tensor> {
    // candle's maximum has no second derivative.
    if x.track_op() {
        return max_gather(&x.detach(), x);
    }
    let mut taps = pool_taps(x)?.into_iter();
    let first = taps
        .next()
        .ok_or_else(|| candle_core::Error::msg("a window without taps"))?;
    taps.try_fold(first, |best, tap| best.maximum(&tap))
}

/// For every tap, 1 where it is the first that has its window's largest sample, else 0.
fn firsts(x: &Tensor) -> Result<Vec<Tensor>> {
    let best = max_pool(x)?;
    let mut free = best.ones_like()?;
    let mut masks = Vec::new();
    for tap in pool_taps(x)? {
        let mask = (tap.eq(&best)?.to_dtype(x.dtype())? * &free)?;
        free = (free - &mask)?;
        masks.push(mask);
    }
    Ok(masks)
}

/// As the gradient of [`super::ops::MaxPool`].
pub fn max_scatter(x: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    let mut dx = Tensor::zeros((n, h + 3, w + 3, c), x.dtype(), x.device())?;
    for ((ky, kx), mask) in taps(POOL).zip(firsts(x)?) {
        // Each window's value at the near corner of a block of 2 x 2, moved to the tap.
        let part = (mask * grad)?.reshape((n, h / 2, 1, w / 2, c))?;
        let part = part.pad_with_zeros(2, 0, 1)?.pad_with_zeros(4, 0, c)?;
        let (high, wide) = (h / 2 * 2, w / 2 * 2);
        let part = part.reshape((n, high, wide, c))?;
        let part = part
            .pad_with_zeros(1, ky, h + 3 - high - ky)?
            .pad_with_zeros(2, kx, w + 3 - wide - kx)?;
        dx = (dx + part)?;
    }
    dx.narrow(1, 0, h)?.narrow(2, 0, w)?.contiguous()
}

/// As the gradient of the gradient of [`super::ops::MaxPool`].
pub fn max_gather(x: &Tensor, h: &Tensor) -> Result<Tensor> {
    let masks = firsts(x)?;
    let (_, height, width, _) = x.dims4()?;
    let h = h.pad_with_same(1, 0, 3)?.pad_with_same(2, 0, 3)?;
    let mut sum = masks[0].zeros_like()?;
    for (at, mask) in taps(POOL).zip(masks) {
        sum = (sum + (tap(&h, at, POOL, (height / 2, width / 2))? * mask)?)?;
    }
    Ok(sum)
}

/// Logits `[N, H, W, Q]` as rows less their largest, of whose place candle needs no gradient: softmax does not move
/// with it.
fn rows(z: &Tensor) -> Result<Tensor> {
    let rows = z.reshape(((), z.dim(3)?))?;
    let most = rows.detach().max_keepdim(1)?;
    rows.broadcast_sub(&most)
}

fn softmax(rows: &Tensor) -> Result<Tensor> {
    let all = rows.exp()?;
    all.broadcast_div(&all.sum_keepdim(1)?)
}

/// Softmax of the sharpened logits, `[pixels, Q]`.
fn annealed(z: &Tensor, offset: &Tensor, temperature: f32) -> Result<Tensor> {
    let z = z.broadcast_sub(&offset.to_dtype(z.dtype())?)?;
    softmax(&rows(&z.affine(1. / f64::from(temperature), 0.)?)?)
}

/// As [`super::ops::Decode`], with bins in network units.
pub fn decode(z: &Tensor, bins: &Tensor, offset: &Tensor, decoding: &Decoding) -> Result<Tensor> {
    let (n, h, w, _) = z.dims4()?;
    let bins = bins.to_dtype(z.dtype())?;
    let mut ab = annealed(z, offset, decoding.temperature)?.matmul(&bins)?;
    if decoding.calm > 0 {
        let certainty = certainty(z, &bins)?;
        for _ in 0..decoding.calm {
            ab = ab.broadcast_mul(&certainty)?;
        }
    }
    ab.reshape((n, h, w, 2))
}

/// How sure a colour is, 0..=1: the length of the mean colour over [`SURE`] times the root mean square chroma, `[pixels, 1]`.
fn certainty(z: &Tensor, bins: &Tensor) -> Result<Tensor> {
    let shares = softmax(&rows(z)?)?;
    let length = shares.matmul(bins)?.sqr()?.sum_keepdim(1)?;
    let squares = shares.matmul(&bins.sqr()?.sum_keepdim(1)?)?;
    (length / squares)?
        .sqrt()?
        .affine(1. / f64::from(SURE), 0.)?
        .minimum(1f64)
}

/// As the gradient of [`super::ops::Decode`].
pub fn decode_grad(
    z: &Tensor,
    grad: &Tensor,
    bins: &Tensor,
    offset: &Tensor,
    temperature: f32,
) -> Result<Tensor> {
    let shares = annealed(z, offset, temperature)?;
    let slope = grad.reshape(((), 2))?.matmul(&bins.t()?.contiguous()?)?; // [pixels, Q]
    let mean = (&shares * &slope)?.sum_keepdim(1)?;
    let dz = (shares * slope.broadcast_sub(&mean)?)?;
    dz.affine(1. / f64::from(temperature), 0.)?
        .reshape(z.shape())
}

/// The nearest bins of each true colour, `[pixels, 5]` numbers and shares, and the weight of the nearest, `[pixels, 1]`
/// of the logits' type.
fn soft(
    truth: &Tensor,
    bins: &Tensor,
    weights: Option<&Tensor>,
) -> Result<(Tensor, Tensor, Option<Tensor>)> {
    let ab = truth
        .detach()
        .reshape(((), 2))?
        .affine(f64::from(AB_SCALE), 0.)?;
    let bins = bins.to_dtype(truth.dtype())?.t()?.contiguous()?;
    let apart = |i: usize| {
        ab.narrow(1, i, 1)?
            .broadcast_sub(&bins.narrow(0, i, 1)?)?
            .sqr()
    };
    let apart = (apart(0)? + apart(1)?)?; // [pixels, Q]
    let order = apart.arg_sort_last_dim(true)?;
    let nearest = order.narrow(1, 0, NEIGHBOURS)?.contiguous()?;
    let sigma = f64::from(SIGMA);
    let fall = apart
        .gather(&nearest, 1)?
        .affine(-1. / (2. * sigma * sigma), 0.)?;
    let shares = softmax(&fall.broadcast_sub(&fall.max_keepdim(1)?)?)?;
    let weight = |weights: &Tensor| {
        let first = nearest.narrow(1, 0, 1)?.flatten_all()?;
        let weights = weights.to_dtype(truth.dtype())?;
        weights.index_select(&first, 0)?.unsqueeze(1)
    };
    let weight = weights.map(weight).transpose()?;
    Ok((nearest, shares, weight))
}

/// As [`super::ops::CrossEntropy`], in the logits' type.
pub fn cross_entropy(
    z: &Tensor,
    truth: &Tensor,
    bins: &Tensor,
    weights: Option<&Tensor>,
) -> Result<Tensor> {
    let (n, h, w, _) = z.dims4()?;
    let (nearest, shares, weight) = soft(truth, bins, weights)?;
    let rows = rows(z)?;
    let wanted = (rows.gather(&nearest, 1)? * shares)?.sum_keepdim(1)?;
    let loss = (rows.exp()?.sum_keepdim(1)?.log()? - wanted)?;
    let loss = match weight {
        Some(weight) => (loss * weight)?,
        None => loss,
    };
    loss.reshape((n, h, w, 1))
}

/// As the gradient of [`super::ops::CrossEntropy`].
pub fn cross_entropy_grad(
    z: &Tensor,
    truth: &Tensor,
    grad: &Tensor,
    bins: &Tensor,
    weights: Option<&Tensor>,
) -> Result<Tensor> {
    let (nearest, shares, weight) = soft(truth, bins, weights)?;
    let softmax = softmax(&rows(z)?)?;
    let slope = softmax.scatter_add(&nearest, &shares.neg()?, 1)?;
    let grad = grad.reshape(((), 1))?;
    let grad = match weight {
        Some(weight) => (grad * weight)?,
        None => grad,
    };
    slope.broadcast_mul(&grad)?.reshape(z.shape())
}
