//! What [`super::ops`] does, in candle's own operations: for devices that our custom ones do not know, which is CUDA;
//! and the reference that they are tested against. Slow on the CPU.

use candle_core::{Result, Tensor};

use super::ops::Window;

pub fn conv(x: &Tensor, weight: &Tensor, win: Window) -> Result<Tensor> {
    let x = x.transpose(0, 1)?.contiguous()?;
    let y = x.conv2d(weight, win.pad, win.stride, 1, 1)?;
    y.transpose(0, 1)?.contiguous()
}

pub fn conv_transpose(x: &Tensor, weight: &Tensor, win: Window) -> Result<Tensor> {
    let x = x.transpose(0, 1)?.contiguous()?;
    let y = x.conv_transpose2d(weight, win.pad, 0, win.stride, 1)?;
    y.transpose(0, 1)?.contiguous()
}

// candle's upsample_nearest2d has a wrong gradient where its input is shared.
pub fn repeat(x: &Tensor, factor: usize) -> Result<Tensor> {
    let (c, n, h, w) = x.dims4()?;
    let blocks = x.reshape((c * n, h, 1, w, 1))?;
    let blocks = blocks.broadcast_as((c * n, h, factor, w, factor))?;
    blocks.reshape((c, n, h * factor, w * factor))
}

pub fn block_sum(x: &Tensor, factor: usize) -> Result<Tensor> {
    let (c, n, h, w) = x.dims4()?;
    let (h, w) = (h / factor, w / factor);
    let blocks = x.reshape((c * n, h, factor, w, factor))?;
    blocks.sum((2, 4))?.reshape((c, n, h, w))
}

pub fn max_pool(x: &Tensor) -> Result<Tensor> {
    max_of_three(&max_of_three(x, 2)?, 3)
}

/// Largest of each three samples along `dim`, at stride 2.
fn max_of_three(x: &Tensor, dim: usize) -> Result<Tensor> {
    let n = x.dim(dim)?;
    // Repeating the last sample is as good as clipping the last window.
    let padded = x.pad_with_same(dim, 0, 2)?;
    let every_second = |first: usize| {
        let mut pairs = x.dims().to_vec();
        pairs[dim] = n / 2;
        pairs.insert(dim + 1, 2);
        let pairs = padded.narrow(dim, first, n)?.contiguous()?.reshape(pairs)?;
        pairs.narrow(dim + 1, 0, 1)?.squeeze(dim + 1)
    };
    every_second(0)?
        .maximum(&every_second(1)?)?
        .maximum(&every_second(2)?)
}

pub fn bias_leaky(x: &Tensor, bias: &Tensor, slope: f32) -> Result<Tensor> {
    let mut shape = vec![1; x.rank()];
    shape[0] = bias.elem_count();
    let v = x.broadcast_add(&bias.reshape(shape)?)?;
    let slope = f64::from(slope);
    v.relu()?.affine(1. - slope, 0.)? + v.affine(slope, 0.)?
}
