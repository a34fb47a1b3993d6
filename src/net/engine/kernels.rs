//! The plain loops: what surrounds the convolutions, on dense `[N, H, W, C]` values, each with its gradient.
//!
//! They are bound by memory, not by arithmetic, so that the compiler's baseline vectors are as good as wider ones.
//! [`depthwise_weights`] is the exception: oneDNN falls to a generic kernel there, 5 to 50 times slower than this
//! loop.

use super::onednn::Shape;
use crate::net::graph::Act;

/// Sizes of a stack of pictures: samples, height, width, channels.
pub type Size = (usize, usize, usize, usize);

/// A number as a buffer stores it.
pub trait Number: bytemuck::Pod {
    /// Its value.
    fn wide(self) -> f32;
    /// The nearest to a value.
    fn narrow(v: f32) -> Self;
}

impl Number for f32 {
    #[inline]
    fn wide(self) -> f32 {
        self
    }
    #[inline]
    fn narrow(v: f32) -> Self {
        v
    }
}

impl Number for half::bf16 {
    #[inline]
    fn wide(self) -> f32 {
        self.to_f32()
    }
    #[inline]
    fn narrow(v: f32) -> Self {
        Self::from_f32(v)
    }
}

/// `f` of every sample, with the activation's branches outside the loop.
macro_rules! with_act {
    ($act:expr, |$f:ident| $body:expr) => {
        match $act {
            Act::None => {
                let $f = |v: f32| v;
                $body
            }
            Act::Leaky(slope) => {
                let $f = move |v: f32| if v > 0. { v } else { slope * v };
                $body
            }
            Act::Relu6 => {
                let $f = |v: f32| v.clamp(0., 6.);
                $body
            }
            Act::Tanh => {
                let $f = f32::tanh;
                $body
            }
        }
    };
}

/// `act(x * scale + shift)`, with a scale and a shift for each channel of each of `scale.len() / c` parts.
pub fn affine(x: &[f32], c: usize, scale: &[f32], shift: &[f32], act: Act) -> Vec<f32> {
    let mut y = Vec::with_capacity(x.len());
    let part = x.len() / (scale.len() / c);
    let parts = x.chunks_exact(part);
    for ((x, scale), shift) in parts.zip(scale.chunks_exact(c)).zip(shift.chunks_exact(c)) {
        with_act!(act, |f| {
            for x in x.chunks_exact(c) {
                let both = scale.iter().zip(shift);
                y.extend(x.iter().zip(both).map(|(x, (a, b))| f(x * a + b)));
            }
        });
    }
    y
}

/// `act(x + bias)`.
pub fn bias_act(x: &[f32], bias: &[f32], act: Act) -> Vec<f32> {
    let mut y = Vec::with_capacity(x.len());
    with_act!(act, |f| {
        for x in x.chunks_exact(bias.len()) {
            y.extend(x.iter().zip(bias).map(|(x, b)| f(x + b)));
        }
    });
    y
}

/// `act(x + bias)` in place.
pub fn bias_act_in_place<T: Number>(x: &mut [T], bias: &[f32], act: Act) {
    with_act!(act, |f| {
        for x in x.chunks_exact_mut(bias.len()) {
            let both = x.iter_mut().zip(bias);
            both.for_each(|(x, b)| *x = T::narrow(f(x.wide() + b)));
        }
    });
}

/// A normalisation of one picture over `weight.len() / groups` channels each, scale, shift, activation, in place;
/// `room` holds as many numbers as there are channels, twice.
pub fn group_norm_in_place<T: Number>(
    x: &mut [T],
    groups: usize,
    eps: f32,
    (weight, bias): (&[f32], &[f32]),
    act: Act,
    room: &mut [f32],
) {
    let c = weight.len();
    let (each, samples) = (c / groups, (x.len() / groups) as f32);
    let (scale, shift) = room.split_at_mut(c);
    // The mean of each channel's group, then its variance, by way of each channel's sums.
    let gather = |sums: &mut [f32]| {
        for sums in sums.chunks_exact_mut(each) {
            let mean = sums.iter().sum::<f32>() / samples;
            sums.fill(mean);
        }
    };
    shift.fill(0.);
    for x in x.chunks_exact(c) {
        shift
            .iter_mut()
            .zip(x)
            .for_each(|(sum, x)| *sum += x.wide());
    }
    gather(shift);
    scale.fill(0.);
    for x in x.chunks_exact(c) {
        for ((sum, mean), x) in scale.iter_mut().zip(&*shift).zip(x) {
            *sum += (x.wide() - mean) * (x.wide() - mean);
        }
    }
    gather(scale);
    for (i, (scale, shift)) in scale.iter_mut().zip(shift.iter_mut()).enumerate() {
        *scale = weight[i] / (*scale + eps).sqrt();
        *shift = bias[i] - *shift * *scale;
    }
    affine_in_place(x, scale, shift, act);
}

/// `act(x * scale + shift)` of each channel, in place.
pub fn affine_in_place<T: Number>(x: &mut [T], scale: &[f32], shift: &[f32], act: Act) {
    with_act!(act, |f| {
        for x in x.chunks_exact_mut(scale.len()) {
            let factors = x.iter_mut().zip(scale.iter().zip(shift));
            factors.for_each(|(x, (a, b))| *x = T::narrow(f(x.wide() * a + b)));
        }
    });
}

/// `act(x)` in place.
pub fn act_in_place<T: Number>(x: &mut [T], act: Act) {
    with_act!(act, |f| x
        .iter_mut()
        .for_each(|x| *x = T::narrow(f(x.wide()))));
}

/// `grad` times the activation's slope, known from its result `y`.
pub fn act_grad(y: &[f32], grad: &[f32], act: Act) -> Vec<f32> {
    let pairs = y.iter().zip(grad);
    match act {
        Act::None => grad.to_vec(),
        Act::Leaky(slope) => pairs
            .map(|(y, g)| if *y > 0. { *g } else { slope * g })
            .collect(),
        Act::Relu6 => pairs
            .map(|(y, g)| if *y > 0. && *y < 6. { *g } else { 0. })
            .collect(),
        Act::Tanh => pairs.map(|(y, g)| g * (1. - y * y)).collect(),
    }
}

/// Rows that are summed in f32 before they are added up in f64.
const ROWS: usize = 64;

/// Calls `add(sums, row)` for every row of `width` values and gives the sums, each of `count` numbers.
fn summed(rows: usize, count: usize, mut add: impl FnMut(&mut [f32], usize)) -> Vec<f32> {
    let mut total = vec![0f64; count];
    let mut sums = vec![0f32; count];
    for first in (0..rows).step_by(ROWS) {
        sums.fill(0.);
        for row in first..(first + ROWS).min(rows) {
            add(&mut sums, row);
        }
        for (total, sum) in total.iter_mut().zip(&sums) {
            *total += f64::from(*sum);
        }
    }
    total.into_iter().map(|v| v as f32).collect()
}

/// Sum of each of `c` channels.
pub fn channel_sums(x: &[f32], c: usize) -> Vec<f32> {
    summed(x.len() / c, c, |sums, row| {
        for (sum, x) in sums.iter_mut().zip(&x[row * c..(row + 1) * c]) {
            *sum += x;
        }
    })
}

/// Mean and sum of squared deviations of each of `c` channels. Rows are taken some at a time, while they are in the
/// cache, and their means and deviations joined (Chan, Golub & LeVeque 1983).
fn deviations(x: &[f32], c: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut mean, mut square) = (vec![0f64; c], vec![0f64; c]);
    let (mut sums, mut squares) = (vec![0f32; c], vec![0f32; c]);
    let mut rows = 0.;
    for block in x.chunks(ROWS * c) {
        let count = (block.len() / c) as f64;
        sums.fill(0.);
        for x in block.chunks_exact(c) {
            sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
        }
        sums.iter_mut().for_each(|sum| *sum /= count as f32);
        squares.fill(0.);
        for x in block.chunks_exact(c) {
            for ((square, mean), x) in squares.iter_mut().zip(&sums).zip(x) {
                *square += (x - mean) * (x - mean);
            }
        }
        let (share, both) = (count / (rows + count), rows * count / (rows + count));
        let old = mean.iter_mut().zip(&mut square);
        for ((mean, square), (m, s)) in old.zip(sums.iter().zip(&squares)) {
            let apart = f64::from(*m) - *mean;
            *mean += apart * share;
            *square += f64::from(*s) + apart * apart * both;
        }
        rows += count;
    }
    (mean, square)
}

/// Mean and biased variance of each of `groups` groups of channels of each of `parts` parts of `x`: `parts * groups`
/// means, then as many variances.
pub fn moments(x: &[f32], parts: usize, c: usize, groups: usize) -> Vec<f32> {
    let mut means = Vec::with_capacity(2 * parts * groups);
    let mut variances = Vec::with_capacity(parts * groups);
    let each = c / groups;
    for x in x.chunks_exact(x.len() / parts) {
        let rows = (x.len() / c) as f64;
        let (mean, square) = deviations(x, c);
        for (mean, square) in mean.chunks_exact(each).zip(square.chunks_exact(each)) {
            let all = mean.iter().sum::<f64>() / each as f64;
            let between = mean.iter().map(|m| rows * (m - all) * (m - all));
            let variance =
                square.iter().copied().chain(between).sum::<f64>() / (rows * each as f64);
            means.push(all as f32);
            variances.push(variance as f32);
        }
    }
    means.extend(variances);
    means
}

/// What a normalisation did to each channel of each part: `[parts, c]` each.
#[derive(Clone, Debug)]
pub struct Scaled {
    /// The mean that was taken off.
    pub mean: Vec<f32>,
    /// The factor on x.
    pub scale: Vec<f32>,
    /// What was added.
    pub shift: Vec<f32>,
    /// What followed.
    pub act: Act,
}

/// `body` with `$f(grad, x, scale, shift)` as the gradient before the activation of `x * scale + shift`.
macro_rules! with_slope {
    ($act:expr, |$f:ident| $body:expr) => {
        match $act {
            Act::None => {
                let $f = |g: f32, _: f32| g;
                $body
            }
            Act::Leaky(slope) => {
                let $f = move |g: f32, v: f32| if v > 0. { g } else { slope * g };
                $body
            }
            Act::Relu6 => {
                let $f = |g: f32, v: f32| if v > 0. && v < 6. { g } else { 0. };
                $body
            }
            Act::Tanh => {
                let $f = |g: f32, v: f32| g * (1. - v.tanh() * v.tanh());
                $body
            }
        }
    };
}

/// Of each channel of each part: sum of the gradient g before the activation, then sum of `g * (x - mean)`;
/// `[parts, 2, c]`.
pub fn norm_sums(x: &[f32], grad: &[f32], scaled: &Scaled, c: usize) -> Vec<f32> {
    let parts = scaled.mean.len() / c;
    let part = x.len() / parts;
    let mut all = Vec::with_capacity(2 * scaled.mean.len());
    for i in 0..parts {
        let (x, grad) = (&x[i * part..][..part], &grad[i * part..][..part]);
        let (mean, scale, shift) = (
            &scaled.mean[i * c..][..c],
            &scaled.scale[i * c..][..c],
            &scaled.shift[i * c..][..c],
        );
        with_slope!(scaled.act, |slope| {
            all.extend(summed(part / c, 2 * c, |sums, row| {
                let (first, second) = sums.split_at_mut(c);
                // Cut to the same length, so that the compiler sees that no index is beyond.
                let (first, second) = (&mut first[..c], &mut second[..c]);
                let (x, grad) = (&x[row * c..][..c], &grad[row * c..][..c]);
                for j in 0..c {
                    let g = slope(grad[j], x[j] * scale[j] + shift[j]);
                    first[j] += g;
                    second[j] += g * (x[j] - mean[j]);
                }
            }))
        });
    }
    all
}

/// `g * a + x * b + d` with g the gradient before the activation, and a, b and d, `[3, parts, c]`, for each channel of
/// each part.
pub fn norm_data(x: &[f32], grad: &[f32], scaled: &Scaled, c: usize, factors: &[f32]) -> Vec<f32> {
    let parts = scaled.mean.len() / c;
    let part = x.len() / parts;
    let (a, rest) = factors.split_at(parts * c);
    let (b, d) = rest.split_at(parts * c);
    let mut all = Vec::with_capacity(x.len());
    for i in 0..parts {
        let (x, grad) = (&x[i * part..][..part], &grad[i * part..][..part]);
        // Cut to the same length, so that the compiler sees that no index is beyond.
        let (a, b, d) = (&a[i * c..][..c], &b[i * c..][..c], &d[i * c..][..c]);
        let (scale, shift) = (&scaled.scale[i * c..][..c], &scaled.shift[i * c..][..c]);
        with_slope!(scaled.act, |slope| {
            for (x, grad) in x.chunks_exact(c).zip(grad.chunks_exact(c)) {
                let (x, first) = (&x[..c], all.len());
                all.extend_from_slice(grad);
                let y = &mut all[first..][..c];
                for j in 0..c {
                    let g = slope(y[j], x[j] * scale[j] + shift[j]);
                    y[j] = g * a[j] + x[j] * b[j] + d[j];
                }
            }
        });
    }
    all
}

/// Into the channels of `y` from `first` on, pixel by pixel; `y` has `c` channels, `x` has `count`.
pub fn place<T: Number>(x: &[T], count: usize, y: &mut [T], c: usize, first: usize) {
    for (x, y) in x.chunks_exact(count).zip(y.chunks_exact_mut(c)) {
        y[first..first + count].copy_from_slice(x);
    }
}

/// The channels of `a`, then those of `b`, pixel by pixel.
pub fn cat(a: &[f32], ca: usize, b: &[f32], cb: usize) -> Vec<f32> {
    let mut y = Vec::with_capacity(a.len() + b.len());
    for (a, b) in a.chunks_exact(ca).zip(b.chunks_exact(cb)) {
        y.extend_from_slice(a);
        y.extend_from_slice(b);
    }
    y
}

/// Adds `x` to `y`; where `x` is shorter, again and again.
pub fn add<T: Number>(y: &mut [T], x: &[T]) {
    for y in y.chunks_exact_mut(x.len()) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = T::narrow(y.wide() + x.wide());
        }
    }
}

/// `count` channels from `first` on.
pub fn slice(x: &[f32], c: usize, first: usize, count: usize) -> Vec<f32> {
    let mut y = Vec::with_capacity(x.len() / c * count);
    for x in x.chunks_exact(c) {
        y.extend_from_slice(&x[first..first + count]);
    }
    y
}

/// Zeros with `x` as the channels from `first` on: the gradient of [`slice`].
pub fn unslice(x: &[f32], c: usize, first: usize, count: usize) -> Vec<f32> {
    let mut y = vec![0.; x.len() / count * c];
    for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(count)) {
        y[first..first + count].copy_from_slice(x);
    }
    y
}

/// Each sample as a block of `factor` x `factor`.
pub fn up<T: Number>(x: &[T], (_, _, w, c): Size, factor: usize, y: &mut [T]) {
    let row = w * c * factor;
    for (x, rows) in x.chunks_exact(w * c).zip(y.chunks_exact_mut(row * factor)) {
        let (first, others) = rows.split_at_mut(row);
        for (x, block) in x.chunks_exact(c).zip(first.chunks_exact_mut(c * factor)) {
            block.chunks_exact_mut(c).for_each(|y| y.copy_from_slice(x));
        }
        others
            .chunks_exact_mut(row)
            .for_each(|y| y.copy_from_slice(first));
    }
}

/// Sum of each block of `factor` x `factor` samples of a picture of size `(n, h, w, c)`.
pub fn block_sum(x: &[f32], (n, h, w, c): Size, factor: usize) -> Vec<f32> {
    let mut y = vec![0.; n * (h / factor) * (w / factor) * c];
    let rows = y.chunks_exact_mut(w / factor * c);
    for (y, rows) in rows.zip(x.chunks_exact(w * c * factor)) {
        for row in rows.chunks_exact(w * c) {
            for (y, block) in y.chunks_exact_mut(c).zip(row.chunks_exact(c * factor)) {
                for x in block.chunks_exact(c) {
                    y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
                }
            }
        }
    }
    y
}

/// Offsets of the samples that each window of the pooling sees, window by window: 3 x 3 at stride 2, clipped at the
/// bottom and right.
fn pool_windows((n, h, w, c): Size, mut visit: impl FnMut(usize, &[usize])) {
    for sample in 0..n {
        for oy in 0..h / 2 {
            for ox in 0..w / 2 {
                let (mut taps, mut count) = ([0; 9], 0);
                for y in 2 * oy..(2 * oy + 3).min(h) {
                    for x in 2 * ox..(2 * ox + 3).min(w) {
                        taps[count] = ((sample * h + y) * w + x) * c;
                        count += 1;
                    }
                }
                visit(((sample * (h / 2) + oy) * (w / 2) + ox) * c, &taps[..count]);
            }
        }
    }
}

/// Largest sample of each window of a picture of size `size`, into `y`.
pub fn max_pool<T: Number>(x: &[T], size: Size, y: &mut [T]) {
    let c = size.3;
    pool_windows(size, |to, taps| {
        let y = &mut y[to..to + c];
        y.copy_from_slice(&x[taps[0]..taps[0] + c]);
        for tap in &taps[1..] {
            for (y, x) in y.iter_mut().zip(&x[*tap..*tap + c]) {
                *y = if x.wide() > y.wide() { *x } else { *y };
            }
        }
    });
}

/// Calls `visit(window's offset, its taps, which of them is the first largest for each channel)` for every window.
fn max_taps(x: &[f32], size: Size, mut visit: impl FnMut(usize, &[usize], &[u32])) {
    let c = size.3;
    let mut best = vec![0f32; c];
    let mut which = vec![0u32; c];
    pool_windows(size, |to, taps| {
        best.copy_from_slice(&x[taps[0]..taps[0] + c]);
        which.fill(0);
        for (number, tap) in taps.iter().enumerate().skip(1) {
            let samples = best.iter_mut().zip(&mut which).zip(&x[*tap..*tap + c]);
            for ((best, which), x) in samples {
                *which = if *x > *best { number as u32 } else { *which };
                *best = if *x > *best { *x } else { *best };
            }
        }
        visit(to, taps, &which);
    });
}

/// Each window's gradient to its largest sample.
pub fn max_scatter(x: &[f32], grad: &[f32], size: Size) -> Vec<f32> {
    let c = size.3;
    let mut dx = vec![0.; x.len()];
    max_taps(x, size, |window, taps, which| {
        let grad = &grad[window..window + c];
        for (channel, (grad, which)) in grad.iter().zip(which).enumerate() {
            dx[taps[*which as usize] + channel] += grad;
        }
    });
    dx
}

/// What `h` has where each window's largest sample is.
pub fn max_gather(x: &[f32], h: &[f32], (n, height, w, c): Size) -> Vec<f32> {
    let mut y = vec![0.; n * (height / 2) * (w / 2) * c];
    max_taps(x, (n, height, w, c), |window, taps, which| {
        let y = y[window..window + c].iter_mut();
        for (channel, (y, which)) in y.zip(which).enumerate() {
            *y = h[taps[*which as usize] + channel];
        }
    });
    y
}

/// Mean of each channel of a picture, into `y`; `sums` holds as many numbers.
pub fn mean_into<T: Number>(x: &[T], sums: &mut [f32], y: &mut [T]) {
    sums.fill(0.);
    for x in x.chunks_exact(sums.len()) {
        sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += x.wide());
    }
    let pixels = (x.len() / sums.len()) as f32;
    y.iter_mut()
        .zip(sums)
        .for_each(|(y, sum)| *y = T::narrow(*sum / pixels));
}

/// Mean of each channel of each picture.
pub fn mean(x: &[f32], (n, h, w, c): Size) -> Vec<f32> {
    let mut means = Vec::with_capacity(n * c);
    for x in x.chunks_exact(h * w * c) {
        means.extend(
            channel_sums(x, c)
                .into_iter()
                .map(|sum| sum / (h * w) as f32),
        );
    }
    means
}

/// Each picture's `c` values for each of its `pixels`, times `factor`.
pub fn spread(x: &[f32], c: usize, pixels: usize, factor: f32) -> Vec<f32> {
    let mut y = Vec::with_capacity(x.len() * pixels);
    for x in x.chunks_exact(c) {
        let first = y.len();
        y.extend(x.iter().map(|x| x * factor));
        for _ in 1..pixels {
            y.extend_from_within(first..first + c);
        }
    }
    y
}

/// Channels that [`depthwise_weights`] works on at once.
const LANES: usize = 16;

type Lanes = [f32; LANES];

/// Gradient of a depthwise convolution with respect to its weights `[c, 1, k, k]`, for k 3 or 5 and `c` a multiple of
/// 16; `None` for others.
pub fn depthwise_weights(x: &[f32], grad: &[f32], shape: Shape) -> Option<Vec<f32>> {
    if shape.groups != shape.inputs
        || shape.groups != shape.outputs
        || !shape.inputs.is_multiple_of(LANES)
    {
        return None;
    }
    match shape.window.size {
        3 => Some(depthwise_taps::<3>(x, grad, shape)),
        5 => Some(depthwise_taps::<5>(x, grad, shape)),
        _ => None,
    }
}

/// The sums of all taps of 16 channels stay in registers or close by while a row passes.
fn depthwise_taps<const K: usize>(x: &[f32], grad: &[f32], shape: Shape) -> Vec<f32> {
    let Shape { n, h, w, .. } = shape;
    let (c, stride, pad) = (shape.inputs, shape.window.stride, shape.window.pad.0);
    let (oh, ow) = (shape.window.count(h), shape.window.count(w));
    // Windows from `first` to before `end` lie wholly inside a row.
    let first = pad.div_ceil(stride).min(ow);
    let end = (w + pad + 1)
        .saturating_sub(K)
        .div_ceil(stride)
        .clamp(first, ow);
    let mut dw = vec![0.; c * K * K];
    for (block, dw) in dw.chunks_exact_mut(LANES * K * K).enumerate() {
        let lanes = |row: &[f32], pixel: usize| -> Lanes {
            let at = pixel * c + block * LANES;
            std::array::from_fn(|i| row[at..at + LANES][i])
        };
        let mut total = [[[0f64; LANES]; K]; K];
        for sample in 0..n {
            let mut sums = [[[0f32; LANES]; K]; K];
            for oy in 0..oh {
                let g = &grad[(sample * oh + oy) * ow * c..][..ow * c];
                for (ky, sums) in sums.iter_mut().enumerate() {
                    let y = (oy * stride + ky).wrapping_sub(pad);
                    if y >= h {
                        continue;
                    }
                    let x = &x[(sample * h + y) * w * c..][..w * c];
                    for ox in (0..first).chain(end..ow) {
                        let g = lanes(g, ox);
                        for (kx, sum) in sums.iter_mut().enumerate() {
                            let column = (ox * stride + kx).wrapping_sub(pad);
                            if column < w {
                                multiply_add(sum, &lanes(x, column), &g);
                            }
                        }
                    }
                    let mut inside = *sums;
                    for ox in first..end {
                        let g = lanes(g, ox);
                        for (kx, sum) in inside.iter_mut().enumerate() {
                            multiply_add(sum, &lanes(x, ox * stride + kx - pad), &g);
                        }
                    }
                    *sums = inside;
                }
            }
            let (total, sums) = (total.as_flattened_mut(), sums.as_flattened());
            for (total, sum) in total.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
                *total += f64::from(*sum);
            }
        }
        for (tap, total) in total.as_flattened().iter().enumerate() {
            for (lane, total) in total.iter().enumerate() {
                dw[lane * K * K + tap] = *total as f32;
            }
        }
    }
    dw
}

#[inline]
fn multiply_add(sum: &mut Lanes, a: &Lanes, b: &Lanes) {
    for (sum, (a, b)) in sum.iter_mut().zip(a.iter().zip(b)) {
        *sum += a * b;
    }
}
