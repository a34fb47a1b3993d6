//! The operations that networks are made of, each with its gradient, on tensors `[N, H, W, C]`.
//!
//! An [`Operation`] says three things: how the CPU does it, how candle's own operations do it (for CUDA, for shapes
//! and machines that the first way lacks, and as the reference in tests), and its gradient in terms of other
//! operations. [`evaluate`] gives the result alone; [`tracked`] gives one through which candle differentiates, to any
//! order, for as long as every gradient on the way is made of operations that have one: convolutions, which are each
//! other's gradients, leaky ReLU, pooling, enlarging, joining and sums. The CPU's own way is for f32; numbers of another
//! type take candle's, so that a whole network can be checked in f64.

mod act;
mod add;
mod cat;
mod conv;
mod cross_entropy;
mod decode;
mod mean;
mod norm;
mod pool;
mod up;

pub use act::{ActGrad, BiasAct, ChannelSums};
pub use add::{Add, Mask};
pub use cat::{Cat, Slice};
pub use conv::{Conv, ConvData, ConvWeights, Geometry, take_lacking};
pub use cross_entropy::CrossEntropy;
pub use decode::Decode;
pub use mean::Mean;
pub use norm::{Norm, Statistics};
pub use pool::MaxPool;
pub use up::{BlockSum, Up};

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail,
};

use super::kernels;

/// Contiguous values and their sizes.
pub struct Values<'a> {
    /// The numbers.
    pub data: &'a [f32],
    /// The shape.
    pub dims: &'a [usize],
}

impl Values<'_> {
    /// Samples, height, width, channels.
    fn size(&self) -> Result<kernels::Size> {
        match *self.dims {
            [n, h, w, c] => Ok((n, h, w, c)),
            _ => bail!("a picture stack has four sides, not {:?}", self.dims),
        }
    }
}

/// Values on the CPU with their shape.
pub type Made = (Vec<f32>, Shape);

/// Gradients with respect to an operation's inputs; `None` where there is none or none was wanted.
pub type Grads = Vec<Option<Tensor>>;

/// One step of a network, or of a network's gradient. It has one to three inputs.
pub trait Operation: Clone + Send + Sync + 'static {
    /// For candle's messages.
    const NAME: &'static str;

    /// On the CPU. `None` where the CPU's way lacks this shape: [`Operation::portable`] does it then.
    ///
    /// # Errors
    /// Shapes that do not fit.
    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>>;

    /// In candle's own operations, differentiable by candle.
    ///
    /// # Errors
    /// Shapes that do not fit, out of memory.
    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor>;

    /// On CUDA, of which candle records nothing.
    ///
    /// # Errors
    /// As for [`Operation::portable`].
    fn cuda(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        self.portable(inputs)
    }

    /// Its gradients, in terms of other operations.
    ///
    /// # Errors
    /// Out of memory; [`candle_core::Error`] where an operation has no gradient.
    fn backward(&self, back: &Back) -> Result<Grads>;
}

/// What an operation's gradients come from.
#[derive(Clone, Copy)]
pub struct Back<'a> {
    /// What it was given.
    pub inputs: &'a [&'a Tensor],
    /// What it made.
    pub output: &'a Tensor,
    /// The gradient of something with respect to `output`.
    pub grad: &'a Tensor,
    /// With respect to which inputs gradients are wanted.
    pub wanted: &'a [bool],
    /// How the gradients are computed.
    pub run: Run,
}

/// Whether what is computed can be differentiated by candle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// The result alone.
    Plain,
    /// With candle's record of where it came from.
    Tracked,
}

impl Run {
    /// Does `op`.
    pub fn apply<O: Operation>(self, op: O, inputs: &[&Tensor]) -> Result<Tensor> {
        match self {
            Self::Plain => evaluate(&op, inputs),
            Self::Tracked => tracked(op, inputs),
        }
    }
}

/// The result of `op`, of which candle records nothing.
///
/// # Errors
/// As for [`Operation::cpu`] and [`Operation::portable`].
pub fn evaluate<O: Operation>(op: &O, inputs: &[&Tensor]) -> Result<Tensor> {
    let inputs: Vec<Tensor> = inputs
        .iter()
        .map(|t| t.detach().contiguous())
        .collect::<Result<_>>()?;
    let refs: Vec<&Tensor> = inputs.iter().collect();
    if !inputs.iter().all(|t| t.device().is_cpu()) {
        return op.cuda(&refs);
    }
    if !inputs.iter().all(|t| t.dtype() == DType::F32) {
        return op.portable(&refs);
    }
    let by_candle = Candle(op.clone());
    let made = match refs[..] {
        [a] => a.apply_op1_no_bwd(&by_candle),
        [a, b] => a.apply_op2_no_bwd(b, &by_candle),
        [a, b, c] => a.apply_op3_no_bwd(b, c, &by_candle),
        _ => bail!("{}: {} inputs", O::NAME, refs.len()),
    };
    match made {
        Err(e) if lacks(&e) => op.portable(&refs),
        made => made,
    }
}

/// The result of `op`, through which candle can differentiate.
///
/// # Errors
/// As for [`evaluate`].
pub fn tracked<O: Operation>(op: O, inputs: &[&Tensor]) -> Result<Tensor> {
    let inputs: Vec<Tensor> = inputs
        .iter()
        .map(|t| t.contiguous())
        .collect::<Result<_>>()?;
    let refs: Vec<&Tensor> = inputs.iter().collect();
    if !inputs
        .iter()
        .all(|t| t.device().is_cpu() && t.dtype() == DType::F32)
    {
        return op.portable(&refs);
    }
    let by_candle = Candle(op.clone());
    let made = match refs[..] {
        [a] => a.apply_op1(by_candle),
        [a, b] => a.apply_op2(b, by_candle),
        [a, b, c] => a.apply_op3(b, c, by_candle),
        _ => bail!("{}: {} inputs", O::NAME, refs.len()),
    };
    match made {
        Err(e) if lacks(&e) => op.portable(&refs),
        made => made,
    }
}

/// Said, inside this module alone, by an operation whose CPU way lacks a shape.
const LACKS: &str = "the CPU's own way lacks this shape";

fn lacks(e: &candle_core::Error) -> bool {
    e.to_string().contains(LACKS)
}

/// An [`Operation`] as candle knows them.
struct Candle<O>(O);

impl<O: Operation> Candle<O> {
    fn forward(&self, inputs: &[(&CpuStorage, &Layout)]) -> Result<(CpuStorage, Shape)> {
        let values = inputs
            .iter()
            .map(|(storage, layout)| contiguous(storage, layout));
        let values: Vec<Values> = values.collect::<Result<_>>()?;
        match self.0.cpu(&values)? {
            Some((values, shape)) => Ok((CpuStorage::F32(values), shape)),
            None => bail!("{}: {LACKS}", O::NAME),
        }
    }

    fn backward(&self, inputs: &[&Tensor], output: &Tensor, grad: &Tensor) -> Result<Grads> {
        self.0.backward(&Back {
            inputs,
            output,
            grad,
            wanted: &vec![true; inputs.len()],
            run: Run::Tracked,
        })
    }
}

fn contiguous<'a>(storage: &'a CpuStorage, layout: &'a Layout) -> Result<Values<'a>> {
    let Some((from, to)) = layout.contiguous_offsets() else {
        bail!("an operation needs contiguous values, not {layout:?}")
    };
    Ok(Values {
        data: &storage.as_slice::<f32>()?[from..to],
        dims: layout.dims(),
    })
}

impl<O: Operation> CustomOp1 for Candle<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(&self, a: &CpuStorage, la: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward(&[(a, la)])
    }

    fn bwd(&self, a: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(self.backward(&[a], y, grad)?.swap_remove(0))
    }
}

impl<O: Operation> CustomOp2 for Candle<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        la: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward(&[(a, la), (b, lb)])
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut grads = self.backward(&[a, b], y, grad)?.into_iter();
        Ok((grads.next().flatten(), grads.next().flatten()))
    }
}

impl<O: Operation> CustomOp3 for Candle<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        la: &Layout,
        b: &CpuStorage,
        lb: &Layout,
        c: &CpuStorage,
        lc: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward(&[(a, la), (b, lb), (c, lc)])
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let mut grads = self.backward(&[a, b, c], y, grad)?.into_iter();
        let mut next = || grads.next().flatten();
        Ok((next(), next(), next()))
    }
}
