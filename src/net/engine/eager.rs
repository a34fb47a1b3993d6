//! A [`Graph`] step by step on candle's tensors: for training, for CUDA, and where there is no compiled plan.
//!
//! In training the steps are remembered, and [`Pass::backward`] goes through them once, last first. candle's own
//! backward pass would add every gradient to a fresh picture of zeros and keep every picture to the end.

use std::{collections::BTreeMap, sync::Arc};

use candle_core::{Result, Tensor, bail};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::onednn::Packs;
use super::ops::{
    Add, Back, BiasAct, Cat, Conv, ConvData, Decode, Geometry, Grads, Mask, MaxPool, Mean, Norm,
    Operation, Run, Statistics, Up,
};
use crate::net::{
    graph::{self, Graph, NormKind, Op},
    params::Params,
};

/// Gradients, or other values, by parameter name.
pub type Gradients = BTreeMap<String, Tensor>;

/// What batch norms see in training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Norms {
    /// The batch.
    #[default]
    Batch,
    /// Their running statistics, as in use: for the end of a training, when these no longer move.
    Running,
}

/// A network that can run: what it does, with which numbers.
#[derive(Clone, Copy)]
pub struct Eager<'a> {
    /// What is done.
    pub graph: &'a Graph,
    /// With which numbers.
    pub params: &'a Params,
    /// Whether the products of all convolutions but the last are of bf16 numbers.
    pub bf16: bool,
}

/// An operation whose type is forgotten.
trait Remembered: Send + Sync {
    fn backward(&self, back: &Back) -> Result<Grads>;
}

impl<O: Operation> Remembered for O {
    fn backward(&self, back: &Back) -> Result<Grads> {
        Operation::backward(self, back)
    }
}

/// Where an operation's input comes from.
enum Source {
    Picture(usize),
    Parameter(String),
    /// A number that no gradient moves.
    Constant,
}

/// An operation that was done.
struct Step {
    op: Box<dyn Remembered>,
    inputs: Vec<(Source, Tensor)>,
    output: (usize, Tensor),
}

/// A batch statistic that a normalisation saw: mean and biased variance, `[C]`, over so many samples.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The normalisation's name.
    pub name: String,
    /// The mean of each channel.
    pub mean: Tensor,
    /// The variance of each channel.
    pub variance: Tensor,
    /// Samples that they are taken over.
    pub samples: usize,
}

/// What a network made of a batch in training, and how it came to it.
pub struct Pass {
    steps: Vec<Step>,
    output: Tensor,
    /// What its batch norms saw; nothing where they kept to their running statistics.
    pub seen: Vec<Seen>,
}

/// Of what gradients are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The parameters.
    Parameters,
    /// The picture that the network was given.
    Input,
}

impl Eager<'_> {
    /// The network in use: `x` `[N, H, W, C]` to its result. Nothing mixes the samples of a batch.
    ///
    /// # Errors
    /// Shapes that do not fit, out of memory.
    pub fn evaluate(&self, x: &Tensor) -> Result<Tensor> {
        Forward::new(self, Run::Plain, None).run(x)
    }

    /// The network in use, through which candle can differentiate with respect to `x` and the parameters, also twice
    /// where every step can (see [`super::ops`]).
    ///
    /// # Errors
    /// As for [`Eager::evaluate`].
    pub fn tracked(&self, x: &Tensor) -> Result<Tensor> {
        Forward::new(self, Run::Tracked, None).run(x)
    }

    /// The gradient, with respect to `x`, of each sample's mean result: one that candle can differentiate with respect
    /// to the parameters, where every step can be differentiated twice (see [`super::ops`]). Nothing is dropped.
    ///
    /// # Errors
    /// As for [`Eager::evaluate`]; a step that has no second derivative says so where candle comes to it.
    pub fn slope(&self, x: &Tensor) -> Result<Tensor> {
        let mut learning = Learning {
            packs: Arc::default(),
            norms: Norms::Batch,
            noise: None,
            steps: Vec::new(),
            seen: Vec::new(),
        };
        let output = Forward::new(self, Run::Tracked, Some(&mut learning)).run(x)?;
        let each = output.elem_count() / output.dim(0)?;
        let grad = (output.ones_like()? / each as f64)?;
        let Learning { steps, seen, .. } = learning;
        let pass = Pass {
            steps,
            output,
            seen,
        };
        let mut gradients = pass.go_back(&grad, Wanted::Input, Run::Tracked)?;
        match gradients.remove("") {
            Some(slope) => Ok(slope),
            None => bail!("the network's result does not depend on its picture"),
        }
    }

    /// The network in training: dropout drops, batch norms see the batch.
    ///
    /// # Errors
    /// As for [`Eager::evaluate`].
    pub fn learn(&self, x: &Tensor, noise: &mut ChaCha8Rng) -> Result<Pass> {
        self.learn_sharing(x, noise, &Arc::default(), Norms::Batch)
    }

    /// As [`Eager::learn`], with weights that are packed once for every pass that shares `packs`, forward and
    /// backward: as long as the parameters stay as they are; and with batch norms that see what `norms` says.
    ///
    /// # Errors
    /// As for [`Eager::evaluate`].
    pub fn learn_sharing(
        &self,
        x: &Tensor,
        noise: &mut ChaCha8Rng,
        packs: &Arc<Packs>,
        norms: Norms,
    ) -> Result<Pass> {
        let mut learning = Learning {
            packs: packs.clone(),
            norms,
            noise: Some(noise),
            steps: Vec::new(),
            seen: Vec::new(),
        };
        let output = Forward::new(self, Run::Plain, Some(&mut learning)).run(&x.detach())?;
        let Learning { steps, seen, .. } = learning;
        Ok(Pass {
            steps,
            output,
            seen,
        })
    }
}

struct Learning<'a> {
    packs: Arc<Packs>,
    norms: Norms,
    /// Where dropout draws from; without it nothing is dropped.
    noise: Option<&'a mut ChaCha8Rng>,
    steps: Vec<Step>,
    seen: Vec<Seen>,
}

/// A run through the graph.
struct Forward<'a, 'b> {
    eager: &'a Eager<'a>,
    run: Run,
    learning: Option<&'a mut Learning<'b>>,
    /// Pictures that are still needed.
    pictures: Vec<Option<Tensor>>,
    uses: Vec<usize>,
}

impl<'a, 'b> Forward<'a, 'b> {
    fn new(eager: &'a Eager<'a>, run: Run, learning: Option<&'a mut Learning<'b>>) -> Self {
        let nodes = eager.graph.nodes().len();
        Self {
            eager,
            run,
            learning,
            pictures: vec![None; nodes],
            uses: eager.graph.uses(),
        }
    }

    fn run(mut self, x: &Tensor) -> Result<Tensor> {
        self.pictures[0] = Some(x.clone());
        for i in 1..self.pictures.len() {
            let made = self.node(i)?;
            self.pictures[i] = Some(made);
            for input in &self.eager.graph.nodes()[i].inputs {
                self.uses[input.index()] -= 1;
                if self.uses[input.index()] == 0 {
                    self.pictures[input.index()] = None;
                }
            }
        }
        let output = self.eager.graph.output().index();
        self.pictures
            .swap_remove(output)
            .ok_or_else(|| candle_core::Error::msg("the network has no result"))
    }

    fn node(&mut self, i: usize) -> Result<Tensor> {
        let graph = self.eager.graph;
        let node = &graph.nodes()[i];
        let inputs = node.inputs.iter().map(|input| {
            let index = input.index();
            match &self.pictures[index] {
                Some(picture) => Ok((Source::Picture(index), picture.clone())),
                None => bail!("picture {index} is no longer there"),
            }
        });
        let mut inputs: Vec<(Source, Tensor)> = inputs.collect::<Result<_>>()?;
        match &node.op {
            Op::Input { .. } => bail!("a network has one input"),
            Op::Conv(conv) => self.conv(i, conv, inputs),
            Op::Norm { name, kind, act } => {
                let x = inputs[0].1.clone();
                let statistics = self.statistics(name, *kind, &x)?;
                inputs.push(self.parameter(format!("{name}.weight"))?);
                inputs.push(self.parameter(format!("{name}.bias"))?);
                let act = *act;
                self.apply(i, Norm { statistics, act }, inputs)
            }
            Op::Act { act } => self.apply(i, BiasAct(*act), inputs),
            Op::Cat => self.apply(i, Cat, inputs),
            Op::Add => self.apply(i, Add, inputs),
            Op::Up { factor } => self.apply(i, Up(*factor), inputs),
            Op::MaxPool => self.apply(i, MaxPool, inputs),
            Op::Mean => self.apply(i, Mean, inputs),
            Op::Decode { name, decoding } => {
                let of = |what: &str| self.parameter(format!("{name}.{what}"));
                let decode = Decode::new(&of("bins")?.1, &of("prior")?.1, decoding)?;
                self.apply(i, decode, inputs)
            }
            Op::Dropout { p } => {
                match self.learning.as_mut().and_then(|l| l.noise.as_deref_mut()) {
                    None => Ok(inputs.swap_remove(0).1),
                    Some(noise) => {
                        let mask = mask(&inputs[0].1, *p, noise)?;
                        self.apply(i, Mask(mask), inputs)
                    }
                }
            }
        }
    }

    fn conv(
        &mut self,
        i: usize,
        conv: &graph::Conv,
        mut inputs: Vec<(Source, Tensor)>,
    ) -> Result<Tensor> {
        let geometry = Geometry {
            window: conv.window,
            groups: conv.groups,
            bf16: self.eager.bf16 && i != self.eager.graph.head(),
        };
        inputs.push(self.parameter(format!("{}.weight", conv.name))?);
        let bias = match conv.bias {
            true => Some(self.parameter(format!("{}.bias", conv.name))?),
            false => None,
        };
        let act = conv.act;
        let packs = self
            .learning
            .as_ref()
            .map(|learning| learning.packs.clone());
        if !conv.transposed {
            inputs.extend(bias);
            let conv = Conv {
                geometry,
                act,
                packs,
            };
            return self.apply(i, conv, inputs);
        }
        let (_, h, w, _) = inputs[0].1.dims4()?;
        let size = (conv.window.span(h), conv.window.span(w));
        let data = ConvData {
            geometry,
            size,
            packs,
        };
        let y = self.apply(i, data, inputs)?;
        if bias.is_none() && act == graph::Act::None {
            return Ok(y);
        }
        let mut inputs = vec![(Source::Picture(i), y)];
        inputs.extend(bias);
        self.apply(i, BiasAct(act), inputs)
    }

    /// Does an operation, and remembers it in training.
    fn apply<O: Operation>(
        &mut self,
        i: usize,
        op: O,
        inputs: Vec<(Source, Tensor)>,
    ) -> Result<Tensor> {
        let tensors: Vec<&Tensor> = inputs.iter().map(|(_, t)| t).collect();
        let made = self.run.apply(op.clone(), &tensors)?;
        if let Some(learning) = &mut self.learning {
            learning.steps.push(Step {
                op: Box::new(op),
                inputs,
                output: (i, made.clone()),
            });
        }
        Ok(made)
    }

    fn parameter(&self, name: String) -> Result<(Source, Tensor)> {
        match self.eager.params.get(&name) {
            Some(tensor) if self.eager.params.trained().contains_key(&name) => {
                Ok((Source::Parameter(name), tensor.clone()))
            }
            Some(tensor) => Ok((Source::Constant, tensor.clone())),
            None => bail!("the network has no parameter {name}"),
        }
    }

    fn statistics(&mut self, name: &str, kind: NormKind, x: &Tensor) -> Result<Statistics> {
        match (kind, &mut self.learning) {
            (NormKind::Group { groups, eps }, _) => Statistics::of(x, Some(groups), eps),
            (NormKind::Batch { eps }, Some(learning)) if learning.norms == Norms::Batch => {
                let statistics = Statistics::of(x, None, eps)?;
                learning.seen.push(Seen {
                    name: name.to_owned(),
                    mean: statistics.moments.get(0)?.get(0)?,
                    variance: statistics.moments.get(1)?.get(0)?,
                    samples: statistics.samples.unwrap_or(1),
                });
                Ok(statistics)
            }
            (NormKind::Batch { eps }, _) => {
                let of = |what: &str| self.parameter(format!("{name}.{what}"));
                Statistics::fixed(&of("running_mean")?.1, &of("running_var")?.1, eps)
            }
        }
    }
}

/// For every value 0 with probability `p`, else what keeps the mean.
fn mask(x: &Tensor, p: f32, noise: &mut ChaCha8Rng) -> Result<Tensor> {
    let keep = |_| {
        if noise.random::<f32>() < p {
            0.
        } else {
            1. / (1. - p)
        }
    };
    let mask: Vec<f32> = (0..x.elem_count()).map(keep).collect();
    Tensor::from_vec(mask, x.shape(), x.device())
}

impl Pass {
    /// What the network made.
    pub fn output(&self) -> &Tensor {
        &self.output
    }

    /// Gradients of something whose gradient with respect to the network's result is `grad`: of its parameters by
    /// name, or of its input, the only entry, under the empty name.
    ///
    /// # Errors
    /// Out of memory.
    pub fn backward(self, grad: &Tensor, wanted: Wanted) -> Result<Gradients> {
        self.go_back(&grad.detach(), wanted, Run::Plain)
    }

    fn go_back(self, grad: &Tensor, wanted: Wanted, run: Run) -> Result<Gradients> {
        let mut gradients = Gradients::new();
        let last = self.steps.last().map_or(0, |step| step.output.0);
        let mut pictures: Vec<Option<Tensor>> = vec![None; last + 1];
        let moving = self.moving(last, wanted);
        pictures[last] = Some(grad.clone());
        for step in self.steps.into_iter().rev() {
            let (index, output) = step.output;
            let Some(grad) = pictures[index].take() else {
                continue;
            };
            let wants: Vec<bool> = step
                .inputs
                .iter()
                .map(|(source, _)| match source {
                    Source::Picture(i) => moving[*i],
                    Source::Parameter(_) => wanted == Wanted::Parameters,
                    Source::Constant => false,
                })
                .collect();
            if !wants.contains(&true) {
                continue;
            }
            let inputs: Vec<&Tensor> = step.inputs.iter().map(|(_, t)| t).collect();
            let grads = step.op.backward(&Back {
                inputs: &inputs,
                output: &output,
                grad: &grad,
                wanted: &wants,
                run,
            })?;
            for (((source, _), grad), wanted) in step.inputs.into_iter().zip(grads).zip(wants) {
                let Some(grad) = grad.filter(|_| wanted) else {
                    continue;
                };
                match source {
                    Source::Picture(i) => pictures[i] = Some(sum(pictures[i].take(), grad)?),
                    Source::Parameter(name) => {
                        let grad = sum(gradients.remove(&name), grad)?;
                        gradients.insert(name, grad);
                    }
                    Source::Constant => {}
                }
            }
        }
        if let Some(grad) = pictures[0].take() {
            gradients.insert(String::new(), grad);
        }
        Ok(gradients)
    }

    /// Which pictures depend on what gradients are wanted of.
    fn moving(&self, last: usize, wanted: Wanted) -> Vec<bool> {
        let mut moving = vec![false; last + 1];
        moving[0] = wanted == Wanted::Input;
        for step in &self.steps {
            moving[step.output.0] |= step.inputs.iter().any(|(source, _)| match source {
                Source::Picture(i) => moving[*i],
                Source::Parameter(_) => wanted == Wanted::Parameters,
                Source::Constant => false,
            });
        }
        moving
    }
}

fn sum(so_far: Option<Tensor>, grad: Tensor) -> Result<Tensor> {
    match so_far {
        None => Ok(grad),
        Some(so_far) => so_far + grad,
    }
}
