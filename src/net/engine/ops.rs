//! The operations that networks are made of, each with its gradient, on tensors `[N, H, W, C]`.
//!
//! An [`Operation`] says three things: how the CPU does it, how candle's own operations do it (for CUDA, for shapes
//! and machines that the first way lacks, and as the reference in tests), and its gradient in terms of other
//! operations. [`evaluate`] gives the result alone; [`tracked`] gives one through which candle differentiates, to any
//! order, for as long as every gradient on the way is made of operations that have one: convolutions, which are each
//! other's gradients, leaky ReLU, pooling, enlarging, joining and sums.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail,
};

use super::{
    kernels::{self, Scaled},
    onednn::{self, Packs},
    portable,
};
use crate::net::graph::{Act, Window};

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

    /// Gradients with respect to the `wanted` inputs, of something whose gradient with respect to `output` is `grad`.
    /// `run` is [`evaluate`] or [`tracked`].
    ///
    /// # Errors
    /// Out of memory; [`candle_core::Error`] where an operation has no gradient.
    fn backward(
        &self,
        inputs: &[&Tensor],
        output: &Tensor,
        grad: &Tensor,
        wanted: &[bool],
        run: Run,
    ) -> Result<Grads>;
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
    if !inputs.iter().all(|t| t.device().is_cpu()) {
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
        let wanted = vec![true; inputs.len()];
        self.0.backward(inputs, output, grad, &wanted, Run::Tracked)
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

/// How a convolution's window moves, and in which numbers its products are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Geometry {
    /// The window.
    pub window: Window,
    /// Groups of channels.
    pub groups: usize,
    /// Whether the products are of bf16 numbers (sums and results stay f32).
    pub bf16: bool,
}

impl Geometry {
    /// oneDNN's sizes of the convolution from `[n, h, w, inputs]` to `outputs` channels.
    fn shape(&self, (n, h, w, inputs): kernels::Size, outputs: usize) -> onednn::Shape {
        let Self { window, groups, .. } = *self;
        onednn::Shape {
            n,
            h,
            w,
            inputs,
            outputs,
            window,
            groups,
        }
    }
}

/// What oneDNN made, or `None` where it is not there or lacks the shape.
fn by_onednn(
    values: std::result::Result<Vec<f32>, String>,
    shape: impl Into<Shape>,
) -> Result<Option<Made>> {
    if let (Err(why), Ok(_)) = (&values, onednn::version()) {
        let mut lacking = LACKING.lock().unwrap_or_else(|e| e.into_inner());
        lacking.insert(why.clone());
    }
    Ok(values.ok().map(|values| (values, shape.into())))
}

/// Why candle's own convolutions did what oneDNN should have done, since [`take_lacking`] was last asked.
static LACKING: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// A sentence for the user where oneDNN is there but lacked convolutions, which candle's own did instead.
pub fn take_lacking() -> Option<String> {
    let mut lacking = LACKING.lock().unwrap_or_else(|e| e.into_inner());
    let all = std::mem::take(&mut *lacking);
    let first = all.first()?;
    Some(format!(
        "{} kinds of convolutions are not in oneDNN for this CPU and run on candle's own, slower; the first: {first}",
        all.len()
    ))
}

/// Convolution, bias, activation: inputs x `[N, H, W, I]`, weight `[O, I / groups, k, k]` and, where there is one,
/// bias `[O]`.
#[derive(Clone, Debug)]
pub struct Conv {
    /// The window.
    pub geometry: Geometry,
    /// What follows.
    pub act: Act,
    /// Where the weights are kept packed; only for weights that stay as and where they are for as long as that lives.
    pub packs: Option<Arc<Packs>>,
}

impl Operation for Conv {
    const NAME: &'static str = "conv";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let [x, weight, bias @ ..] = inputs else {
            bail!("a convolution has a picture and a weight")
        };
        let bias = bias.first().map(|b| b.data);
        let shape = self.geometry.shape(x.size()?, weight.dims[0]);
        let fuses = onednn::fuses(self.act);
        let act = if fuses { self.act } else { Act::None };
        let (bf16, packs) = (self.geometry.bf16, self.packs.as_deref());
        let made = onednn::forward(x.data, weight.data, bias, shape, act, bf16, packs);
        let made = made.map(|mut y| {
            if !fuses {
                kernels::act_in_place(&mut y, self.act);
            }
            y
        });
        let count = |side| self.geometry.window.count(side);
        by_onednn(
            made,
            (shape.n, count(shape.h), count(shape.w), shape.outputs),
        )
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let y = portable::conv(inputs[0], inputs[1], self.geometry)?;
        portable::bias_act(&y, inputs.get(2).copied(), self.act)
    }

    #[cfg(feature = "cudnn")]
    fn cuda(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let y = super::cuda::conv(inputs[0], inputs[1], self.geometry)?;
        portable::bias_act(&y, inputs.get(2).copied(), self.act)
    }

    fn backward(
        &self,
        inputs: &[&Tensor],
        y: &Tensor,
        grad: &Tensor,
        wanted: &[bool],
        run: Run,
    ) -> Result<Grads> {
        let (x, weight, geometry) = (inputs[0], inputs[1], self.geometry);
        let grad = before_act(self.act, y, grad, run)?;
        let (_, h, w, _) = x.dims4()?;
        let mut grads = vec![None; inputs.len()];
        if wanted[0] {
            let data = ConvData {
                geometry,
                size: (h, w),
                packs: self.packs.clone(),
            };
            grads[0] = Some(run.apply(data, &[&grad, weight])?);
        }
        if wanted[1] {
            grads[1] = Some(run.apply(ConvWeights { geometry }, &[x, &grad])?);
        }
        if wanted.get(2) == Some(&true) {
            grads[2] = Some(run.apply(ChannelSums, &[&grad])?);
        }
        Ok(grads)
    }
}

/// The gradient before an activation whose result is `y`.
fn before_act(act: Act, y: &Tensor, grad: &Tensor, run: Run) -> Result<Tensor> {
    match act {
        Act::None => Ok(grad.clone()),
        Act::Tanh => run.apply(ActGrad(act), &[y, grad]),
        // Piecewise linear: the slope does not move with y, and candle wants a gradient of all that it knows.
        Act::Leaky(_) | Act::Relu6 => run.apply(ActGrad(act), &[&y.detach(), grad]),
    }
}

/// Gradient of a convolution with respect to its picture, which is also the transposed convolution: inputs grad
/// `[N, H', W', O]` and weight `[O, I / groups, k, k]`, result `[N, H, W, I]`.
#[derive(Clone, Debug)]
pub struct ConvData {
    /// The convolution's window.
    pub geometry: Geometry,
    /// The picture's height and width.
    pub size: (usize, usize),
    /// As for [`Conv`].
    pub packs: Option<Arc<Packs>>,
}

impl Operation for ConvData {
    const NAME: &'static str = "conv-data";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let (grad, weight) = (&inputs[0], &inputs[1]);
        let (n, oh, ow, outputs) = grad.size()?;
        let inputs = weight.dims[1] * self.geometry.groups;
        let size = (n, self.size.0, self.size.1, inputs);
        let shape = self.geometry.shape(size, outputs);
        let window = self.geometry.window;
        if (window.count(self.size.0), window.count(self.size.1)) != (oh, ow) {
            bail!(
                "a gradient of {oh} x {ow} does not come from {:?}",
                self.size
            )
        }
        let (bf16, packs) = (self.geometry.bf16, self.packs.as_deref());
        let made = onednn::backward_data(grad.data, weight.data, shape, bf16, packs);
        by_onednn(made, size)
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        portable::conv_data(inputs[0], inputs[1], self.geometry, self.size)
    }

    #[cfg(feature = "cudnn")]
    fn cuda(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        super::cuda::conv_data(inputs[0], inputs[1], self.geometry, self.size)
    }

    fn backward(
        &self,
        inputs: &[&Tensor],
        _: &Tensor,
        grad: &Tensor,
        wanted: &[bool],
        run: Run,
    ) -> Result<Grads> {
        let geometry = self.geometry;
        let conv = Conv {
            geometry,
            act: Act::None,
            packs: self.packs.clone(),
        };
        let back = |_| run.apply(conv, &[grad, inputs[1]]);
        let weights = |_| run.apply(ConvWeights { geometry }, &[grad, inputs[0]]);
        Ok(vec![
            wanted[0].then_some(()).map(back).transpose()?,
            wanted[1].then_some(()).map(weights).transpose()?,
        ])
    }
}

/// Gradient of a convolution with respect to its weights: inputs x `[N, H, W, I]` and grad `[N, H', W', O]`, result
/// `[O, I / groups, k, k]`.
#[derive(Clone, Debug)]
pub struct ConvWeights {
    /// The convolution's window.
    pub geometry: Geometry,
}

impl Operation for ConvWeights {
    const NAME: &'static str = "conv-weights";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let (x, grad) = (&inputs[0], &inputs[1]);
        let Geometry {
            window,
            groups,
            bf16,
        } = self.geometry;
        let shape = self.geometry.shape(x.size()?, grad.size()?.3);
        let dims = (
            shape.outputs,
            shape.inputs / groups,
            window.size,
            window.size,
        );
        if window.size == 5
            && let Some(dw) = kernels::depthwise_weights(x.data, grad.data, shape)
        {
            return Ok(Some((dw, dims.into())));
        }
        by_onednn(
            onednn::backward_weights(x.data, grad.data, shape, bf16),
            dims,
        )
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        portable::conv_weights(inputs[0], inputs[1], self.geometry)
    }

    #[cfg(feature = "cudnn")]
    fn cuda(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        super::cuda::conv_weights(inputs[0], inputs[1], self.geometry)
    }

    fn backward(
        &self,
        inputs: &[&Tensor],
        _: &Tensor,
        grad: &Tensor,
        wanted: &[bool],
        run: Run,
    ) -> Result<Grads> {
        let (_, h, w, _) = inputs[0].dims4()?;
        let data = ConvData {
            geometry: self.geometry,
            size: (h, w),
            packs: None,
        };
        let conv = Conv {
            geometry: self.geometry,
            act: Act::None,
            packs: None,
        };
        let data = |_| run.apply(data, &[inputs[1], grad]);
        let forward = |_| run.apply(conv, &[inputs[0], grad]);
        Ok(vec![
            wanted[0].then_some(()).map(data).transpose()?,
            wanted[1].then_some(()).map(forward).transpose()?,
        ])
    }
}

/// Bias and activation: inputs x `[.., C]` and, where there is one, bias `[C]`.
#[derive(Clone, Debug)]
pub struct BiasAct(pub Act);

impl Operation for BiasAct {
    const NAME: &'static str = "bias-act";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let x = &inputs[0];
        let made = match inputs.get(1) {
            Some(bias) => kernels::bias_act(x.data, bias.data, self.0),
            None => {
                let mut y = x.data.to_vec();
                kernels::act_in_place(&mut y, self.0);
                y
            }
        };
        Ok(Some((made, x.dims.into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        portable::bias_act(inputs[0], inputs.get(1).copied(), self.0)
    }

    fn backward(
        &self,
        inputs: &[&Tensor],
        y: &Tensor,
        grad: &Tensor,
        wanted: &[bool],
        run: Run,
    ) -> Result<Grads> {
        let grad = before_act(self.0, y, grad, run)?;
        let mut grads = vec![None; inputs.len()];
        if wanted.get(1) == Some(&true) {
            grads[1] = Some(run.apply(ChannelSums, &[&grad])?);
        }
        grads[0] = Some(grad);
        Ok(grads)
    }
}

/// Gradient before an activation: inputs its result y and the gradient after it.
#[derive(Clone, Debug)]
pub struct ActGrad(pub Act);

impl Operation for ActGrad {
    const NAME: &'static str = "act-grad";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let (y, grad) = (&inputs[0], &inputs[1]);
        let made = kernels::act_grad(y.data, grad.data, self.0);
        Ok(Some((made, y.dims.into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        portable::act_grad(inputs[0], inputs[1], self.0)
    }

    fn backward(
        &self,
        inputs: &[&Tensor],
        _: &Tensor,
        grad: &Tensor,
        wanted: &[bool],
        run: Run,
    ) -> Result<Grads> {
        if self.0 == Act::Tanh && wanted[0] {
            bail!("tanh has no second derivative here")
        }
        let g = match wanted[1] {
            true => Some(before_act(self.0, inputs[0], grad, run)?),
            false => None,
        };
        Ok(vec![None, g])
    }
}

/// Sum of each channel: `[.., C]` to `[C]`.
#[derive(Clone, Debug)]
pub struct ChannelSums;

impl Operation for ChannelSums {
    const NAME: &'static str = "channel-sums";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let c = *inputs[0].dims.last().unwrap_or(&1);
        Ok(Some((kernels::channel_sums(inputs[0].data, c), c.into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        inputs[0].flatten_to(inputs[0].rank() - 2)?.sum(0)
    }

    fn backward(
        &self,
        inputs: &[&Tensor],
        _: &Tensor,
        grad: &Tensor,
        _: &[bool],
        _: Run,
    ) -> Result<Grads> {
        Ok(vec![Some(
            grad.broadcast_as(inputs[0].shape())?.contiguous()?,
        )])
    }
}

/// Mean and variance for a [`Norm`].
#[derive(Clone, Debug)]
pub struct Statistics {
    /// `[2, parts, groups]`: the means, then the biased variances.
    pub moments: Tensor,
    /// Added to the variance.
    pub eps: f32,
    /// Samples that each is taken over; `None` where they are not the input's own but fixed.
    pub samples: Option<usize>,
}

impl Statistics {
    /// Statistics of `x` `[N, H, W, C]`: of each channel over the batch, or, with `groups`, of each group of channels
    /// of each sample.
    ///
    /// # Errors
    /// Out of memory.
    pub fn of(x: &Tensor, groups: Option<usize>, eps: f32) -> Result<Self> {
        let (n, _, _, c) = x.dims4()?;
        let (parts, groups) = groups.map_or((1, c), |groups| (n, groups));
        Ok(Self {
            moments: evaluate(&Moments { parts, groups }, &[x])?,
            eps,
            samples: Some(x.elem_count() / (parts * groups)),
        })
    }

    /// Fixed statistics of each channel.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn fixed(mean: &Tensor, variance: &Tensor, eps: f32) -> Result<Self> {
        let moments = Tensor::stack(&[mean.detach(), variance.detach()], 0)?.unsqueeze(1)?;
        Ok(Self {
            moments,
            eps,
            samples: None,
        })
    }

    /// For each channel of each part: the mean, and 1 / sqrt(variance + eps); `parts * c` each.
    fn of_channels(&self, c: usize) -> Result<(Vec<f32>, Vec<f32>)> {
        let (_, parts, groups) = self.moments.dims3()?;
        let all = self.moments.flatten_all()?.to_vec1::<f32>()?;
        let (means, variances) = all.split_at(parts * groups);
        let spread = |values: &[f32], f: &dyn Fn(f32) -> f32| {
            let repeated = values
                .iter()
                .flat_map(|v| std::iter::repeat_n(f(*v), c / groups));
            repeated.collect::<Vec<f32>>()
        };
        let inverse = |v: f32| 1. / (v + self.eps).sqrt();
        Ok((spread(means, &|v| v), spread(variances, &inverse)))
    }
}

/// Means and biased variances: `[N, H, W, C]` to `[2, parts, groups]`. Their gradient is part of [`Norm`]'s.
#[derive(Clone, Debug)]
struct Moments {
    parts: usize,
    groups: usize,
}

impl Operation for Moments {
    const NAME: &'static str = "moments";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let c = inputs[0].size()?.3;
        let made = kernels::moments(inputs[0].data, self.parts, c, self.groups);
        Ok(Some((made, (2, self.parts, self.groups).into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        portable::moments(inputs[0], self.parts, self.groups)
    }

    fn backward(&self, _: &[&Tensor], _: &Tensor, _: &Tensor, _: &[bool], _: Run) -> Result<Grads> {
        bail!("moments are differentiated by their norm")
    }
}

/// Normalisation by the statistics of its own input or by fixed ones, scale, shift, activation: inputs x
/// `[N, H, W, C]`, weight `[C]`, bias `[C]`. Where the statistics are the input's, its gradient counts that they move
/// with it (Ioffe & Szegedy 2015).
#[derive(Clone, Debug)]
pub struct Norm {
    /// Which mean and variance.
    pub statistics: Statistics,
    /// What follows.
    pub act: Act,
}

impl Norm {
    /// Statistics, weight and bias as one factor and one shift.
    fn scaled(&self, weight: &[f32], bias: &[f32]) -> Result<Scaled> {
        let (mean, inverse) = self.statistics.of_channels(weight.len())?;
        let weights = weight.iter().cycle();
        let scale: Vec<f32> = inverse.iter().zip(weights).map(|(i, w)| i * w).collect();
        let terms = bias.iter().cycle().zip(mean.iter().zip(&scale));
        let shift = terms.map(|(b, (m, s))| b - m * s).collect();
        Ok(Scaled {
            mean,
            scale,
            shift,
            act: self.act,
        })
    }

    /// The factors a, b, d `[3, parts, C]` of the input's gradient `grad * a + x * b + d`: with
    /// x^ = (x - mean) * inverse and g = grad * weight it is `inverse * (g - mean(g) - x^ * mean(g * x^))`, the means
    /// over what the statistics are of. `sums` are those of [`NormSums`].
    fn factors(&self, sums: &[f32], weight: &Tensor) -> Result<Tensor> {
        let (_, parts, groups) = self.statistics.moments.dims3()?;
        let c = weight.elem_count();
        let (mean, inverse) = self.statistics.of_channels(c)?;
        let weights = weight.to_vec1::<f32>()?;
        let each = c / groups;
        let (mut a, mut b, mut d) = (Vec::new(), Vec::new(), Vec::new());
        for (part, sums) in sums.chunks_exact(2 * c).enumerate() {
            for group in 0..groups {
                let channels = group * each..(group + 1) * each;
                let at = part * c + channels.start;
                let (mean, inverse) = (mean[at], inverse[at]);
                let total = |sums: &[f32]| -> f32 {
                    let products = channels.clone().map(|i| weights[i] * sums[i]);
                    products.sum()
                };
                let (g, slope) = match self.statistics.samples {
                    None => (0., 0.),
                    Some(samples) => {
                        let (g, gx) = (total(sums), total(&sums[c..]));
                        (g / samples as f32, inverse * inverse * gx / samples as f32)
                    }
                };
                a.extend(channels.clone().map(|i| inverse * weights[i]));
                b.extend(channels.clone().map(|_| -inverse * slope));
                d.extend(channels.map(|_| inverse * (slope * mean - g)));
            }
        }
        a.extend(b);
        a.extend(d);
        Tensor::from_vec(a, (3, parts, c), weight.device())
    }
}

impl Operation for Norm {
    const NAME: &'static str = "norm";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let (x, weight, bias) = (&inputs[0], &inputs[1], &inputs[2]);
        let scaled = self.scaled(weight.data, bias.data)?;
        let made = kernels::affine(x.data, x.size()?.3, &scaled.scale, &scaled.shift, self.act);
        Ok(Some((made, x.dims.into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let y = portable::norm(inputs, &self.statistics)?;
        portable::bias_act(&y, None, self.act)
    }

    fn backward(
        &self,
        inputs: &[&Tensor],
        _: &Tensor,
        grad: &Tensor,
        _: &[bool],
        _: Run,
    ) -> Result<Grads> {
        if grad.track_op() {
            bail!(
                "a normalisation has no second derivative here: take none in the critic of WGAN-GP"
            )
        }
        let (x, weight) = (inputs[0], inputs[1]);
        let c = x.dim(3)?;
        let (_, inverse) = self.statistics.of_channels(c)?;
        let scaled = self.scaled(&weight.to_vec1()?, &inputs[2].to_vec1()?)?;
        let sums = evaluate(&NormSums(scaled.clone()), &[x, grad])?; // [parts, 2, C]
        let sums = sums.flatten_all()?.to_vec1::<f32>()?;
        let factors = self.factors(&sums, weight)?;
        let dx = evaluate(&NormData(scaled), &[x, grad, &factors])?;
        let (mut dw, mut db) = (vec![0f32; c], vec![0f32; c]);
        for (sums, inverse) in sums.chunks_exact(2 * c).zip(inverse.chunks_exact(c)) {
            for i in 0..c {
                db[i] += sums[i];
                dw[i] += sums[c + i] * inverse[i];
            }
        }
        let row = |values: Vec<f32>| Tensor::from_vec(values, c, x.device());
        Ok(vec![Some(dx), Some(row(dw)?), Some(row(db)?)])
    }
}

/// `[parts, C]` numbers to multiply or add to a picture seen as `[parts, rows, C]`.
fn rows(values: &[f32], parts: usize, like: &Tensor) -> Result<Tensor> {
    Tensor::from_slice(values, (parts, 1, values.len() / parts), like.device())
}

/// For a norm's gradient: of each channel of each part the sum of the gradient before the activation and of its
/// product with x less the mean; inputs x and the gradient after the activation, result `[parts, 2, C]`.
#[derive(Clone, Debug)]
struct NormSums(Scaled);

/// x and the gradient before the activation, as `[parts, rows, C]`.
fn unscaled(scaled: &Scaled, x: &Tensor, grad: &Tensor) -> Result<(Tensor, Tensor)> {
    let c = x.dim(3)?;
    let parts = scaled.mean.len() / c;
    let (x, grad) = (x.reshape((parts, (), c))?, grad.reshape((parts, (), c))?);
    let v = x.broadcast_mul(&rows(&scaled.scale, parts, &x)?)?;
    let v = v.broadcast_add(&rows(&scaled.shift, parts, &x)?)?;
    let y = portable::bias_act(&v, None, scaled.act)?;
    let grad = portable::act_grad(&y, &grad, scaled.act)?;
    Ok((x, grad))
}

impl Operation for NormSums {
    const NAME: &'static str = "norm-sums";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let c = inputs[0].size()?.3;
        let made = kernels::norm_sums(inputs[0].data, inputs[1].data, &self.0, c);
        Ok(Some((made, (self.0.mean.len() / c, 2, c).into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let (x, grad) = unscaled(&self.0, inputs[0], inputs[1])?;
        let centred = x.broadcast_sub(&rows(&self.0.mean, x.dim(0)?, &x)?)?;
        Tensor::stack(&[grad.sum(1)?, (&grad * centred)?.sum(1)?], 1)
    }

    fn backward(&self, _: &[&Tensor], _: &Tensor, _: &Tensor, _: &[bool], _: Run) -> Result<Grads> {
        bail!("a normalisation has no second derivative here")
    }
}

/// For a norm's gradient: `g * a + x * b + d` with g the gradient before the activation; inputs x, the gradient after
/// it `[N, H, W, C]` and factors `[3, parts, C]`.
#[derive(Clone, Debug)]
struct NormData(Scaled);

impl Operation for NormData {
    const NAME: &'static str = "norm-data";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let (x, grad, factors) = (&inputs[0], &inputs[1], inputs[2].data);
        let made = kernels::norm_data(x.data, grad.data, &self.0, x.size()?.3, factors);
        Ok(Some((made, x.dims.into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let (x, grad) = unscaled(&self.0, inputs[0], inputs[1])?;
        let factor = |i: usize| inputs[2].get(i)?.unsqueeze(1);
        let y = (grad.broadcast_mul(&factor(0)?)? + x.broadcast_mul(&factor(1)?)?)?;
        y.broadcast_add(&factor(2)?)?.reshape(inputs[0].shape())
    }

    fn backward(&self, _: &[&Tensor], _: &Tensor, _: &Tensor, _: &[bool], _: Run) -> Result<Grads> {
        bail!("a normalisation has no second derivative here")
    }
}

/// Channels of a, then of b: inputs `[N, H, W, A]` and `[N, H, W, B]`.
#[derive(Clone, Debug)]
pub struct Cat;

impl Operation for Cat {
    const NAME: &'static str = "cat";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let (a, b) = (&inputs[0], &inputs[1]);
        let ((n, h, w, ca), (_, _, _, cb)) = (a.size()?, b.size()?);
        if a.data.len() * cb != b.data.len() * ca {
            bail!("pictures of {:?} and {:?} cannot be joined", a.dims, b.dims)
        }
        let y = kernels::cat(a.data, ca, b.data, cb);
        Ok(Some((y, (n, h, w, ca + cb).into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        Tensor::cat(inputs, 3)
    }

    fn backward(
        &self,
        inputs: &[&Tensor],
        _: &Tensor,
        grad: &Tensor,
        wanted: &[bool],
        run: Run,
    ) -> Result<Grads> {
        let (a, b) = (inputs[0].dim(3)?, inputs[1].dim(3)?);
        let part = |wanted: bool, first, count| match wanted {
            true => run.apply(Slice { first, count }, &[grad]).map(Some),
            false => Ok(None),
        };
        Ok(vec![part(wanted[0], 0, a)?, part(wanted[1], a, b)?])
    }
}

/// `count` channels from `first` on.
#[derive(Clone, Debug)]
pub struct Slice {
    /// The first.
    pub first: usize,
    /// How many.
    pub count: usize,
}

impl Operation for Slice {
    const NAME: &'static str = "slice";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let (n, h, w, c) = inputs[0].size()?;
        let made = kernels::slice(inputs[0].data, c, self.first, self.count);
        Ok(Some((made, (n, h, w, self.count).into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        inputs[0].narrow(3, self.first, self.count)?.contiguous()
    }

    fn backward(
        &self,
        inputs: &[&Tensor],
        _: &Tensor,
        grad: &Tensor,
        _: &[bool],
        run: Run,
    ) -> Result<Grads> {
        let Self { first, count } = *self;
        let channels = inputs[0].dim(3)?;
        let back = Unslice {
            first,
            count,
            channels,
        };
        Ok(vec![Some(run.apply(back, &[grad])?)])
    }
}

/// Zeros with the input as the channels from `first` on: the gradient of [`Slice`].
#[derive(Clone, Debug)]
struct Unslice {
    first: usize,
    count: usize,
    channels: usize,
}

impl Operation for Unslice {
    const NAME: &'static str = "unslice";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let (n, h, w, count) = inputs[0].size()?;
        let made = kernels::unslice(inputs[0].data, self.channels, self.first, count);
        Ok(Some((made, (n, h, w, self.channels).into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let after = self.channels - self.first - self.count;
        inputs[0].pad_with_zeros(3, self.first, after)
    }

    fn backward(
        &self,
        _: &[&Tensor],
        _: &Tensor,
        grad: &Tensor,
        _: &[bool],
        run: Run,
    ) -> Result<Grads> {
        let Self { first, count, .. } = *self;
        Ok(vec![Some(run.apply(Slice { first, count }, &[grad])?)])
    }
}

/// Each sample as a block of so many by so many: `[N, H, W, C]` to `[N, factor * H, factor * W, C]`.
#[derive(Clone, Debug)]
pub struct Up(pub usize);

impl Operation for Up {
    const NAME: &'static str = "up";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let size @ (n, h, w, c) = inputs[0].size()?;
        let mut y = vec![0.; inputs[0].data.len() * self.0 * self.0];
        kernels::up(inputs[0].data, size, self.0, &mut y);
        Ok(Some((y, (n, h * self.0, w * self.0, c).into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        portable::up(inputs[0], self.0)
    }

    fn backward(
        &self,
        _: &[&Tensor],
        _: &Tensor,
        grad: &Tensor,
        _: &[bool],
        run: Run,
    ) -> Result<Grads> {
        Ok(vec![Some(run.apply(BlockSum(self.0), &[grad])?)])
    }
}

/// Sum of each block: `[N, H, W, C]` to `[N, H / factor, W / factor, C]`. Each side must be a multiple.
#[derive(Clone, Debug)]
pub struct BlockSum(pub usize);

impl Operation for BlockSum {
    const NAME: &'static str = "block-sum";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let size @ (n, h, w, c) = inputs[0].size()?;
        if h % self.0 != 0 || w % self.0 != 0 {
            bail!("{h} x {w} samples are not blocks of {0} x {0}", self.0)
        }
        let made = kernels::block_sum(inputs[0].data, size, self.0);
        Ok(Some((made, (n, h / self.0, w / self.0, c).into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        portable::block_sum(inputs[0], self.0)
    }

    fn backward(
        &self,
        _: &[&Tensor],
        _: &Tensor,
        grad: &Tensor,
        _: &[bool],
        run: Run,
    ) -> Result<Grads> {
        Ok(vec![Some(run.apply(Up(self.0), &[grad])?)])
    }
}

/// SqueezeNet's pooling, see [`crate::net::graph::Op::MaxPool`]: `[N, H, W, C]` to `[N, H / 2, W / 2, C]`.
#[derive(Clone, Debug)]
pub struct MaxPool;

impl Operation for MaxPool {
    const NAME: &'static str = "max-pool";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let size @ (n, h, w, c) = inputs[0].size()?;
        let mut y = vec![0.; n * (h / 2) * (w / 2) * c];
        kernels::max_pool(inputs[0].data, size, &mut y);
        Ok(Some((y, (n, h / 2, w / 2, c).into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        portable::max_pool(inputs[0])
    }

    fn backward(
        &self,
        inputs: &[&Tensor],
        _: &Tensor,
        grad: &Tensor,
        _: &[bool],
        run: Run,
    ) -> Result<Grads> {
        // Which sample is the largest does not move with x.
        Ok(vec![Some(
            run.apply(MaxScatter, &[&inputs[0].detach(), grad])?,
        )])
    }
}

/// Each window's value to where its largest sample of x is: inputs x `[N, H, W, C]` and values
/// `[N, H / 2, W / 2, C]`, result as x.
#[derive(Clone, Debug)]
struct MaxScatter;

impl Operation for MaxScatter {
    const NAME: &'static str = "max-scatter";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let (x, grad) = (&inputs[0], &inputs[1]);
        let made = kernels::max_scatter(x.data, grad.data, x.size()?);
        Ok(Some((made, x.dims.into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        portable::max_scatter(inputs[0], inputs[1])
    }

    fn backward(
        &self,
        inputs: &[&Tensor],
        _: &Tensor,
        grad: &Tensor,
        _: &[bool],
        run: Run,
    ) -> Result<Grads> {
        Ok(vec![None, Some(run.apply(MaxGather, &[inputs[0], grad])?)])
    }
}

/// What h has where each window's largest sample of x is: inputs x and h `[N, H, W, C]`.
#[derive(Clone, Debug)]
struct MaxGather;

impl Operation for MaxGather {
    const NAME: &'static str = "max-gather";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let size @ (n, h, w, c) = inputs[0].size()?;
        let made = kernels::max_gather(inputs[0].data, inputs[1].data, size);
        Ok(Some((made, (n, h / 2, w / 2, c).into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        portable::max_gather(inputs[0], inputs[1])
    }

    fn backward(
        &self,
        inputs: &[&Tensor],
        _: &Tensor,
        grad: &Tensor,
        _: &[bool],
        run: Run,
    ) -> Result<Grads> {
        Ok(vec![None, Some(run.apply(MaxScatter, &[inputs[0], grad])?)])
    }
}

/// Mean over the picture: `[N, H, W, C]` to `[N, 1, 1, C]`.
#[derive(Clone, Debug)]
pub struct Mean;

impl Operation for Mean {
    const NAME: &'static str = "mean";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let size @ (n, _, _, c) = inputs[0].size()?;
        let made = kernels::mean(inputs[0].data, size);
        Ok(Some((made, (n, 1, 1, c).into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        inputs[0].mean_keepdim((1, 2))
    }

    fn backward(
        &self,
        inputs: &[&Tensor],
        _: &Tensor,
        grad: &Tensor,
        _: &[bool],
        run: Run,
    ) -> Result<Grads> {
        let (_, h, w, _) = inputs[0].dims4()?;
        let factor = 1. / (h * w) as f32;
        let spread = Spread {
            size: (h, w),
            factor,
        };
        Ok(vec![Some(run.apply(spread, &[grad])?)])
    }
}

/// One sample for a whole picture, times a factor: `[N, 1, 1, C]` to `[N, H, W, C]`.
#[derive(Clone, Debug)]
struct Spread {
    size: (usize, usize),
    factor: f32,
}

impl Operation for Spread {
    const NAME: &'static str = "spread";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let (n, _, _, c) = inputs[0].size()?;
        let (h, w) = self.size;
        let made = kernels::spread(inputs[0].data, c, h * w, self.factor);
        Ok(Some((made, (n, h, w, c).into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let (n, _, _, c) = inputs[0].dims4()?;
        let (h, w) = self.size;
        let all = inputs[0].affine(f64::from(self.factor), 0.)?;
        all.broadcast_as((n, h, w, c))?.contiguous()
    }

    fn backward(
        &self,
        _: &[&Tensor],
        _: &Tensor,
        grad: &Tensor,
        _: &[bool],
        run: Run,
    ) -> Result<Grads> {
        let sums = f64::from(self.factor) * (self.size.0 * self.size.1) as f64;
        Ok(vec![Some(run.apply(Mean, &[grad])?.affine(sums, 0.)?)])
    }
}

/// Sum: inputs a `[N, H, W, C]`, and b as a or `[N, 1, 1, C]`.
#[derive(Clone, Debug)]
pub struct Add;

impl Operation for Add {
    const NAME: &'static str = "add";

    fn cpu(&self, inputs: &[Values]) -> Result<Option<Made>> {
        let (a, b) = (&inputs[0], &inputs[1]);
        let ((n, h, w, c), (_, bh, bw, _)) = (a.size()?, b.size()?);
        let mut y = a.data.to_vec();
        if n * bh * bw * c != b.data.len() || (bh, bw) != (1, 1) && (bh, bw) != (h, w) {
            bail!("pictures of {:?} and {:?} cannot be added", a.dims, b.dims)
        }
        let pictures = y.chunks_exact_mut(h * w * c);
        for (y, b) in pictures.zip(b.data.chunks_exact(bh * bw * c)) {
            kernels::add(y, b);
        }
        Ok(Some((y, a.dims.into())))
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        inputs[0].broadcast_add(inputs[1])
    }

    fn backward(
        &self,
        inputs: &[&Tensor],
        _: &Tensor,
        grad: &Tensor,
        wanted: &[bool],
        run: Run,
    ) -> Result<Grads> {
        let b = match inputs[0].dims() == inputs[1].dims() {
            _ if !wanted[1] => None,
            true => Some(grad.clone()),
            false => {
                let (_, h, w, _) = inputs[0].dims4()?;
                Some(run.apply(Mean, &[grad])?.affine((h * w) as f64, 0.)?)
            }
        };
        Ok(vec![Some(grad.clone()), b])
    }
}

/// Values times a mask of their shape, as dropout has it: one input.
#[derive(Clone, Debug)]
pub struct Mask(pub Tensor);

impl Operation for Mask {
    const NAME: &'static str = "mask";

    fn cpu(&self, _: &[Values]) -> Result<Option<Made>> {
        Ok(None)
    }

    fn portable(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        inputs[0] * &self.0
    }

    fn backward(
        &self,
        _: &[&Tensor],
        _: &Tensor,
        grad: &Tensor,
        _: &[bool],
        run: Run,
    ) -> Result<Grads> {
        Ok(vec![Some(run.apply(self.clone(), &[grad])?)])
    }
}
