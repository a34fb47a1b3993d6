//! The three convolutions on CUDA by cuDNN: [`super::ops`]' shapes to [`super::cudnn`]'s.
//!
//! cuDNN pads all sides alike, so that what is more at the bottom and right is added before; its weights have their
//! channels last.

use candle_core::{CpuStorage, CudaStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};

use super::{
    cudnn::{self, Convolution},
    ops::Geometry,
};

/// Which of the three.
#[derive(Clone, Copy)]
enum What {
    Forward,
    Data,
    Weights,
}

struct By(What, Convolution);

impl CustomOp2 for By {
    fn name(&self) -> &'static str {
        "cudnn"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        bail!("cuDNN runs on CUDA devices")
    }

    fn cuda_fwd(
        &self,
        a: &CudaStorage,
        la: &Layout,
        b: &CudaStorage,
        lb: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let Self(what, c) = *self;
        let (a, b) = ((a, la), (b, lb));
        let (oh, ow) = c.output();
        let (made, shape) = match what {
            What::Forward => (cudnn::forward(a, b, c)?, (c.n, oh, ow, c.outputs)),
            What::Data => (cudnn::backward_data(a, b, c)?, (c.n, c.h, c.w, c.inputs)),
            What::Weights => (
                cudnn::backward_weights(a, b, c)?,
                (c.outputs, c.size, c.size, c.inputs / c.groups),
            ),
        };
        Ok((made, shape.into()))
    }
}

/// The convolution in cuDNN's words of a picture `[n, h, w, inputs]`, and the zeros to add to it after.
fn described(
    (n, h, w, inputs): (usize, usize, usize, usize),
    outputs: usize,
    geometry: Geometry,
) -> (Convolution, usize) {
    let Geometry { window, groups, .. } = geometry;
    let more = window.pad.1 - window.pad.0;
    let c = Convolution {
        n,
        h: h + more,
        w: w + more,
        inputs,
        outputs,
        size: window.size,
        stride: window.stride,
        pad: window.pad.0,
        groups,
    };
    (c, more)
}

/// In the numbers that are multiplied, contiguous.
fn ready(x: &Tensor, geometry: Geometry) -> Result<Tensor> {
    let kind = if geometry.bf16 {
        DType::BF16
    } else {
        DType::F32
    };
    x.to_dtype(kind)?.contiguous()
}

fn channels_last(weight: &Tensor, geometry: Geometry) -> Result<Tensor> {
    ready(&weight.permute((0, 2, 3, 1))?, geometry)
}

fn padded(x: &Tensor, more: usize) -> Result<Tensor> {
    match more {
        0 => Ok(x.clone()),
        _ => x.pad_with_zeros(1, 0, more)?.pad_with_zeros(2, 0, more),
    }
}

fn run(what: What, c: Convolution, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    a.apply_op2_no_bwd(b, &By(what, c))?.to_dtype(DType::F32)
}

/// As [`super::ops::Conv`], without bias and activation.
pub fn conv(x: &Tensor, weight: &Tensor, geometry: Geometry) -> Result<Tensor> {
    let (c, more) = described(x.dims4()?, weight.dim(0)?, geometry);
    let x = ready(&padded(x, more)?, geometry)?;
    run(What::Forward, c, &x, &channels_last(weight, geometry)?)
}

/// As [`super::ops::ConvData`].
pub fn conv_data(
    grad: &Tensor,
    weight: &Tensor,
    geometry: Geometry,
    (h, w): (usize, usize),
) -> Result<Tensor> {
    let (n, _, _, outputs) = grad.dims4()?;
    let size = (n, h, w, weight.dim(1)? * geometry.groups);
    let (c, _) = described(size, outputs, geometry);
    let weight = channels_last(weight, geometry)?;
    let x = run(What::Data, c, &ready(grad, geometry)?, &weight)?;
    x.narrow(1, 0, h)?.narrow(2, 0, w)?.contiguous()
}

/// As [`super::ops::ConvWeights`].
pub fn conv_weights(x: &Tensor, grad: &Tensor, geometry: Geometry) -> Result<Tensor> {
    let (c, more) = described(x.dims4()?, grad.dim(3)?, geometry);
    let x = ready(&padded(x, more)?, geometry)?;
    let dw = run(What::Weights, c, &x, &ready(grad, geometry)?)?;
    dw.permute((0, 3, 1, 2))?.contiguous()
}
