//! The tensor operations that candle lacks, does slowly, or differentiates wrongly; each with its backward.
//!
//! Inside the networks a picture stack is `[C, N, H, W]`: channels first, then the batch. A convolution of a whole
//! batch is then one matrix product, a 1x1 convolution needs no rearrangement at all, and joining channels is one
//! copy. candle's own convolution is many times slower in training on the CPU. On CUDA everything goes through
//! [`portable`](super::portable).
//!
//! [`unfold`] and [`fold`] are each the other's backward, and so are [`repeat`] and [`block_sum`]: they differentiate
//! to any order. The others stop at the first.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::portable;

/// Geometry of a square sliding window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Side of the window.
    pub size: usize,
    /// Step between windows.
    pub stride: usize,
    /// Zeros added on every side.
    pub pad: usize,
}

impl Window {
    /// Number of windows along a side of `n` samples.
    pub fn count(self, n: usize) -> usize {
        (n + 2 * self.pad - self.size) / self.stride + 1
    }

    /// Samples along a side covered by `n` windows, without the padding: the size of a transposed convolution.
    pub fn span(self, n: usize) -> usize {
        (n - 1) * self.stride + self.size - 2 * self.pad
    }

    /// The windows whose tap `k` falls inside a side of `n` samples, as (first, one past the last). Window `o` reads
    /// sample `o * stride + k - pad`.
    fn inside(self, k: usize, n: usize) -> (usize, usize) {
        let first = self.pad.saturating_sub(k).div_ceil(self.stride);
        let end = (n + self.pad).saturating_sub(k).div_ceil(self.stride);
        let end = end.min(self.count(n));
        (first.min(end), end)
    }

    /// Calls `visit(start in columns, start in picture, length)` for every run of samples that one tap reads from
    /// one row of one channel, `[N, H, W]`. The one index arithmetic behind [`unfold`] and [`fold`].
    fn runs(self, (n, h, w): (usize, usize, usize), mut visit: impl FnMut(usize, usize, usize)) {
        let (oh, ow) = (self.count(h), self.count(w));
        for ky in 0..self.size {
            let (top, bottom) = self.inside(ky, h);
            for kx in 0..self.size {
                let (left, right) = self.inside(kx, w);
                let tap = ky * self.size + kx;
                for sample in 0..n {
                    for oy in top..bottom {
                        let y = oy * self.stride + ky - self.pad;
                        let column = ((tap * n + sample) * oh + oy) * ow + left;
                        let pixel = (sample * h + y) * w + left * self.stride + kx - self.pad;
                        if right > left {
                            visit(column, pixel, right - left);
                        }
                    }
                }
            }
        }
    }
}

/// Convolution without bias: `x` is `[inputs, N, H, W]`, `weight` is `[outputs, inputs, size, size]`.
pub fn conv(x: &Tensor, weight: &Tensor, win: Window) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return portable::conv(x, weight, win);
    }
    let (_, n, h, w) = x.dims4()?;
    let outputs = weight.dim(0)?;
    let columns = match win {
        Window {
            size: 1,
            stride: 1,
            pad: 0,
        } => x.flatten_from(1)?,
        _ => unfold(x, win)?,
    };
    let y = weight.flatten_from(1)?.matmul(&columns)?;
    y.reshape((outputs, n, win.count(h), win.count(w)))
}

/// Transposed convolution without bias: `x` is `[inputs, N, H, W]`, `weight` is `[inputs, outputs, size, size]`; the
/// backward of a convolution with respect to its picture.
pub fn conv_transpose(x: &Tensor, weight: &Tensor, win: Window) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return portable::conv_transpose(x, weight, win);
    }
    let (_, n, h, w) = x.dims4()?;
    let outputs = weight.dim(1)?;
    let columns = weight.flatten_from(1)?.t()?.matmul(&x.flatten_from(1)?)?;
    fold(&columns, win, (outputs, n, win.span(h), win.span(w)))
}

/// Columns of every window: `[C, N, H, W]` to `[C * size * size, N * H' * W']`. On the CPU.
pub fn unfold(x: &Tensor, win: Window) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Unfold(win))
}

/// Sums columns back into the picture they came from, `[C, N, H, W]` = `shape`. Backward of [`unfold`]. On the CPU.
pub fn fold(columns: &Tensor, win: Window, shape: (usize, usize, usize, usize)) -> Result<Tensor> {
    columns.contiguous()?.apply_op1(Fold(win, shape))
}

struct Unfold(Window);
struct Fold(Window, (usize, usize, usize, usize));

impl CustomOp1 for Unfold {
    fn name(&self) -> &'static str {
        "unfold"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values(storage, layout)?;
        let (c, n, h, w) = layout.shape().dims4()?;
        let Self(win) = *self;
        let wide = n * win.count(h) * win.count(w);
        let mut columns = vec![0f32; c * win.size * win.size * wide];
        columns
            .par_chunks_mut(win.size * win.size * wide)
            .zip(x.par_chunks(n * h * w))
            .for_each(|(columns, x)| {
                win.runs((n, h, w), |to, from, len| {
                    let columns = &mut columns[to..to + len];
                    if win.stride == 1 {
                        columns.copy_from_slice(&x[from..from + len]);
                    } else {
                        for (column, pixel) in
                            columns.iter_mut().zip(x[from..].iter().step_by(win.stride))
                        {
                            *column = *pixel;
                        }
                    }
                });
            });
        stored(columns, (c * win.size * win.size, wide))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(fold(grad, self.0, x.dims4()?)?))
    }
}

impl CustomOp1 for Fold {
    fn name(&self) -> &'static str {
        "fold"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let columns = values(storage, layout)?;
        let Self(win, (c, n, h, w)) = *self;
        let chunk = win.size * win.size * n * win.count(h) * win.count(w);
        if columns.len() != c * chunk {
            bail!(
                "fold: {:?} columns do not make {:?}",
                layout.shape(),
                self.1
            )
        }
        let mut x = vec![0f32; c * n * h * w];
        x.par_chunks_mut(n * h * w)
            .zip(columns.par_chunks(chunk))
            .for_each(|(x, columns)| {
                win.runs((n, h, w), |from, to, len| {
                    let columns = &columns[from..from + len];
                    if win.stride == 1 {
                        for (pixel, column) in x[to..to + len].iter_mut().zip(columns) {
                            *pixel += column;
                        }
                    } else {
                        for (pixel, column) in x[to..].iter_mut().step_by(win.stride).zip(columns) {
                            *pixel += column;
                        }
                    }
                });
            });
        stored(x, self.1)
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(unfold(grad, self.0)?))
    }
}

/// Each sample as a block of `factor` x `factor`: `[.., H, W]` to `[.., factor * H, factor * W]`.
pub fn repeat(x: &Tensor, factor: usize) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return portable::repeat(x, factor);
    }
    x.contiguous()?.apply_op1(Repeat(factor))
}

/// Sum of each block of `factor` x `factor` samples: `[.., H, W]` to `[.., H / factor, W / factor]`. Backward of
/// [`repeat`]. Each side must be a multiple of `factor`.
pub fn block_sum(x: &Tensor, factor: usize) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return portable::block_sum(x, factor);
    }
    x.contiguous()?.apply_op1(BlockSum(factor))
}

struct Repeat(usize);
struct BlockSum(usize);

impl CustomOp1 for Repeat {
    fn name(&self) -> &'static str {
        "repeat"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values(storage, layout)?;
        let (c, n, h, w) = layout.shape().dims4()?;
        let mut big = Vec::with_capacity(x.len() * self.0 * self.0);
        for row in x.chunks_exact(w) {
            let from = big.len();
            for v in row {
                big.extend(std::iter::repeat_n(*v, self.0));
            }
            let to = big.len();
            for _ in 1..self.0 {
                big.extend_from_within(from..to);
            }
        }
        stored(big, (c, n, h * self.0, w * self.0))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(block_sum(grad, self.0)?))
    }
}

impl CustomOp1 for BlockSum {
    fn name(&self) -> &'static str {
        "block-sum"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values(storage, layout)?;
        let (c, n, h, w) = layout.shape().dims4()?;
        let (sh, sw) = (h / self.0, w / self.0);
        if (sh * self.0, sw * self.0) != (h, w) {
            bail!("block_sum: {h} x {w} is not a multiple of {}", self.0)
        }
        let mut small = vec![0f32; c * n * sh * sw];
        for (rows, small) in x.chunks_exact(w * self.0).zip(small.chunks_exact_mut(sw)) {
            for row in rows.chunks_exact(w) {
                for (sum, block) in small.iter_mut().zip(row.chunks_exact(self.0)) {
                    *sum += block.iter().sum::<f32>();
                }
            }
        }
        stored(small, (c, n, sh, sw))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(repeat(grad, self.0)?))
    }
}

/// Largest sample of each 3 x 3 window at stride 2, windows clipped at the bottom and right so that even sides
/// halve exactly (SqueezeNet's pooling, "ceil mode"): `[C, N, H, W]` to `[C, N, H / 2, W / 2]`.
///
/// candle's own max_pool2d has a wrong gradient.
pub fn max_pool(x: &Tensor) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return portable::max_pool(x);
    }
    x.contiguous()?.apply_op1(MaxPool)
}

struct MaxPool;
struct MaxPoolGrad;

/// Calls `visit(plane, window, first index of its largest sample)` for every window of [`max_pool`].
fn max_windows(x: &[f32], h: usize, w: usize, mut visit: impl FnMut(usize, usize)) {
    for (plane, x) in x.chunks_exact(h * w).enumerate() {
        for oy in 0..h / 2 {
            for ox in 0..w / 2 {
                let mut best = 2 * oy * w + 2 * ox;
                for y in 2 * oy..(2 * oy + 3).min(h) {
                    for i in y * w + 2 * ox..y * w + (2 * ox + 3).min(w) {
                        if x[i] > x[best] {
                            best = i;
                        }
                    }
                }
                visit((plane * (h / 2) + oy) * (w / 2) + ox, plane * h * w + best);
            }
        }
    }
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max-pool"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values(storage, layout)?;
        let (c, n, h, w) = layout.shape().dims4()?;
        let mut y = vec![0f32; c * n * (h / 2) * (w / 2)];
        max_windows(x, h, w, |window, best| y[window] = x[best]);
        stored(y, (c, n, h / 2, w / 2))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(x.apply_op2_no_bwd(&grad.contiguous()?, &MaxPoolGrad)?))
    }
}

impl CustomOp2 for MaxPoolGrad {
    fn name(&self) -> &'static str {
        "max-pool-grad"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, grad) = (values(x, x_layout)?, values(grad, grad_layout)?);
        let (_, _, h, w) = x_layout.shape().dims4()?;
        let mut dx = vec![0f32; x.len()];
        max_windows(x, h, w, |window, best| dx[best] += grad[window]);
        stored(dx, x_layout.shape())
    }
}

/// `max(v, slope * v)` with `v = x + bias`: `x` is `[C, ..]`, `bias` is `[C]`, `slope` 0 (ReLU) to 1 (bias alone).
///
/// One pass and one buffer each way, where candle's own operations take six.
pub fn bias_leaky(x: &Tensor, bias: &Tensor, slope: f32) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return portable::bias_leaky(x, bias, slope);
    }
    x.contiguous()?
        .apply_op2(&bias.contiguous()?, BiasLeaky(slope))
}

/// `max(x, slope * x)`, for `slope` 0 (ReLU) to 1.
pub fn leaky(x: &Tensor, slope: f32) -> Result<Tensor> {
    let none = Tensor::zeros(1, x.dtype(), x.device())?;
    bias_leaky(x, &none, slope)
}

struct BiasLeaky(f32);
struct LeakyGrad(f32);

impl CustomOp2 for BiasLeaky {
    fn name(&self) -> &'static str {
        "bias-leaky"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, bias) = (values(x, x_layout)?, values(bias, bias_layout)?);
        let mut y = Vec::with_capacity(x.len());
        for (x, b) in x.chunks_exact(x.len() / bias.len()).zip(bias) {
            y.extend(x.iter().map(|x| {
                let v = x + b;
                if v > 0. { v } else { self.0 * v }
            }));
        }
        stored(y, x_layout.shape())
    }

    fn bwd(
        &self,
        _: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dx = y.apply_op2_no_bwd(&grad.contiguous()?, &LeakyGrad(self.0))?;
        let db = dx.reshape((bias.elem_count(), ()))?.sum(1)?;
        Ok((Some(dx), Some(db)))
    }
}

impl CustomOp2 for LeakyGrad {
    fn name(&self) -> &'static str {
        "leaky-grad"
    }

    fn cpu_fwd(
        &self,
        y: &CpuStorage,
        y_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (y, grad) = (values(y, y_layout)?, values(grad, grad_layout)?);
        let dx = y.iter().zip(grad);
        let dx = dx.map(|(y, g)| if *y > 0. { *g } else { self.0 * g });
        stored(dx.collect(), y_layout.shape())
    }
}

/// The contiguous f32 values behind a custom operation's argument.
fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((from, to)) = layout.contiguous_offsets() else {
        bail!("a custom operation needs contiguous values, not {layout:?}")
    };
    Ok(&storage.as_slice::<f32>()?[from..to])
}

fn stored(values: Vec<f32>, shape: impl Into<Shape>) -> Result<(CpuStorage, Shape)> {
    Ok((CpuStorage::F32(values), shape.into()))
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::net::params::{normal, stream};

    fn random(shape: &[usize], purpose: &str) -> Var {
        let mut rng = stream(7, purpose);
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| normal(&mut rng))
            .collect();
        Var::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// Result and gradients of `sum(f(vars) * c)` with fixed random c.
    fn probe(vars: &[&Var], f: impl Fn() -> Result<Tensor>) -> Vec<Tensor> {
        let y = f().unwrap();
        let c = random(y.dims(), "cotangent").as_detached_tensor();
        let grads = (&y * c).unwrap().sum_all().unwrap().backward().unwrap();
        let grads = vars
            .iter()
            .map(|v| grads.get(v).expect("a gradient").clone());
        std::iter::once(y.detach()).chain(grads).collect()
    }

    fn agree(
        what: &str,
        vars: &[&Var],
        ours: impl Fn() -> Result<Tensor>,
        reference: impl Fn() -> Result<Tensor>,
    ) {
        let pairs = probe(vars, ours).into_iter().zip(probe(vars, reference));
        for (i, (ours, reference)) in pairs.enumerate() {
            assert_eq!(ours.dims(), reference.dims(), "{what} {i}");
            let worst = (ours - reference)
                .unwrap()
                .abs()
                .unwrap()
                .max_all()
                .unwrap();
            let worst = worst.to_scalar::<f32>().unwrap();
            assert!(
                worst < 2e-4,
                "{what}: part {i} (0: result, else gradient) differs by {worst}"
            );
        }
    }

    const WINDOWS: [Window; 5] = [
        Window {
            size: 1,
            stride: 1,
            pad: 0,
        },
        Window {
            size: 3,
            stride: 1,
            pad: 1,
        },
        Window {
            size: 4,
            stride: 2,
            pad: 1,
        },
        Window {
            size: 4,
            stride: 1,
            pad: 1,
        },
        Window {
            size: 7,
            stride: 2,
            pad: 3,
        },
    ];

    #[test]
    fn convolutions_and_their_gradients_are_candles() {
        for win in WINDOWS {
            let x = random(&[3, 2, 8, 12], "x");
            let w = random(&[5, 3, win.size, win.size], "w");
            agree(
                &format!("{win:?}"),
                &[&x, &w],
                || conv(&x, &w, win),
                || portable::conv(&x, &w, win),
            );
        }
    }

    #[test]
    fn transposed_convolutions_and_their_gradients_are_candles() {
        for win in WINDOWS {
            let x = random(&[5, 2, 4, 6], "x");
            let w = random(&[5, 3, win.size, win.size], "w");
            let reference = || portable::conv_transpose(&x, &w, win);
            agree(
                &format!("{win:?}"),
                &[&x, &w],
                || conv_transpose(&x, &w, win),
                reference,
            );
        }
    }

    #[test]
    fn the_others_and_their_gradients_are_those_of_plain_operations() {
        let x = random(&[3, 2, 8, 12], "x");
        let b = random(&[3], "b");
        agree(
            "repeat",
            &[&x],
            || repeat(&x, 2),
            || portable::repeat(&x, 2),
        );
        agree(
            "block_sum",
            &[&x],
            || block_sum(&x, 4),
            || portable::block_sum(&x, 4),
        );
        agree(
            "max_pool",
            &[&x],
            || max_pool(&x),
            || portable::max_pool(&x),
        );
        for slope in [0., 0.2, 1.] {
            agree(
                "bias_leaky",
                &[&x, &b],
                || bias_leaky(&x, &b, slope),
                || portable::bias_leaky(&x, &b, slope),
            );
        }
    }

    #[test]
    fn max_pool_passes_each_gradient_to_one_sample() {
        let x = Var::from_vec(
            (0..16).map(|v| v as f32).collect(),
            (1, 1, 4, 4),
            &Device::Cpu,
        )
        .unwrap();
        let y = max_pool(&x).unwrap();
        assert_eq!(
            y.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            [10., 11., 14., 15.]
        );
        let grads = y.sum_all().unwrap().backward().unwrap();
        assert_eq!(
            grads
                .get(&x)
                .unwrap()
                .sum_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap(),
            4.
        );
        assert_eq!(y.dtype(), DType::F32);
    }
}
