//! A network as data: the one description that every engine runs.
//!
//! A generator or discriminator is a function that writes a [`Graph`]: pictures in, layers with names, one picture
//! out. [`engine::eager`](super::engine) runs it on candle's tensors, for training and on CUDA;
//! [`engine::plan`](super::engine) compiles it for the CPU; [`Graph::parameters`] and [`Graph::flops`] count it.
//!
//! A picture has `[N, H, W, C]` values; sizes below are of one sample, (height, width).

use serde::Serialize;

use super::{
    bins::Decoding,
    params::{Draw, Init},
};

/// A picture inside a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Value(usize);

impl Value {
    /// Number of the node that makes it.
    pub fn index(self) -> usize {
        self.0
    }
}

/// Geometry of a square sliding window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Window {
    /// Side of the window.
    pub size: usize,
    /// Step between windows.
    pub stride: usize,
    /// Zeros added before (top and left) and after (bottom and right).
    pub pad: (usize, usize),
}

impl Window {
    /// The window with the same padding on every side.
    pub const fn new(size: usize, stride: usize, pad: usize) -> Self {
        Self {
            size,
            stride,
            pad: (pad, pad),
        }
    }

    /// TensorFlow's SAME padding for sides that are multiples of `stride`: as many windows as strides fit, an odd
    /// zero at the bottom and right.
    pub const fn same(size: usize, stride: usize) -> Self {
        let total = size.saturating_sub(stride);
        Self {
            size,
            stride,
            pad: (total / 2, total - total / 2),
        }
    }

    /// Number of windows along a side of `n` samples; 0 where not one fits.
    pub fn count(self, n: usize) -> usize {
        match (n + self.pad.0 + self.pad.1).checked_sub(self.size) {
            Some(room) => room / self.stride + 1,
            None => 0,
        }
    }

    /// Samples along a side covered by `n` windows, without the padding: the size of a transposed convolution; 0 for
    /// no window.
    pub fn span(self, n: usize) -> usize {
        match n.checked_sub(1) {
            Some(steps) => {
                (steps * self.stride + self.size).saturating_sub(self.pad.0 + self.pad.1)
            }
            None => 0,
        }
    }
}

/// What follows a layer, sample by sample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Nothing.
    None,
    /// `max(v, slope * v)`, slope 0 to 1; 0 is ReLU.
    Leaky(f32),
    /// `min(max(v, 0), 6)`.
    Relu6,
    /// Hyperbolic tangent.
    Tanh,
}

/// ReLU.
pub const RELU: Act = Act::Leaky(0.);

impl Act {
    /// The function.
    #[inline]
    pub fn of(self, v: f32) -> f32 {
        match self {
            Self::None => v,
            Self::Leaky(slope) => {
                if v > 0. {
                    v
                } else {
                    slope * v
                }
            }
            Self::Relu6 => v.clamp(0., 6.),
            Self::Tanh => v.tanh(),
        }
    }
}

/// A convolution: weight `NAME.weight` in PyTorch's layout, `[outputs, inputs / groups, size, size]` or, transposed,
/// `[inputs, outputs, size, size]`; bias `NAME.bias`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Conv {
    /// Its parameters' prefix.
    pub name: String,
    /// Channels that it makes.
    pub channels: usize,
    /// Its window.
    pub window: Window,
    /// Groups of channels that do not see each other; as many as channels for a depthwise one.
    pub groups: usize,
    /// Whether the picture grows by the stride instead of shrinking.
    pub transposed: bool,
    /// Whether it has a bias.
    pub bias: bool,
    /// Whether its weights stay as they are drawn, as a filter's.
    pub fixed: bool,
    /// What follows.
    pub act: Act,
    /// How its weights are drawn; He's by default.
    #[serde(skip)]
    pub init: Option<Init>,
}

impl Conv {
    /// A convolution with bias and nothing after it.
    pub fn new(name: impl Into<String>, channels: usize, window: Window) -> Self {
        Self {
            name: name.into(),
            channels,
            window,
            groups: 1,
            transposed: false,
            bias: true,
            fixed: false,
            act: Act::None,
            init: None,
        }
    }

    /// One of stride 1 that keeps the picture's size; `size` is odd.
    pub fn same(name: impl Into<String>, channels: usize, size: usize) -> Self {
        Self::new(name, channels, Window::same(size, 1))
    }

    /// With `act` after it.
    pub fn act(self, act: Act) -> Self {
        Self { act, ..self }
    }

    /// Without a bias.
    pub fn no_bias(self) -> Self {
        Self {
            bias: false,
            ..self
        }
    }

    /// In `groups` groups.
    pub fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// Transposed.
    pub fn transposed(self) -> Self {
        Self {
            transposed: true,
            ..self
        }
    }

    /// Shape of its weight on a picture of so many channels.
    pub fn shape(&self, inputs: usize) -> [usize; 4] {
        let size = self.window.size;
        match self.transposed {
            true => [inputs, self.channels, size, size],
            false => [self.channels, inputs / self.groups, size, size],
        }
    }

    /// The binomial filter of 3 x 3 on each channel, as fixed weights.
    pub fn binomial(name: impl Into<String>, channels: usize, stride: usize) -> Self {
        let filter = Self::new(name, channels, Window::same(3, stride));
        Self {
            fixed: true,
            ..filter.groups(channels).no_bias().init(Init::Binomial)
        }
    }

    /// With weights drawn so.
    pub fn init(self, init: Init) -> Self {
        Self {
            init: Some(init),
            ..self
        }
    }
}

/// Over what a normalisation takes its mean and variance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// Each channel over the whole batch in training (Ioffe & Szegedy 2015); in use the running statistics
    /// `NAME.running_mean` and `NAME.running_var`, so that no frame depends on another.
    Batch {
        /// Added to the variance.
        eps: f32,
    },
    /// Each group of channels of each sample (Wu & He 2018).
    Group {
        /// Number of groups; divides the channels.
        groups: usize,
        /// Added to the variance.
        eps: f32,
    },
}

/// One step of a network.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// The picture that the network is given.
    Input {
        /// Its channels.
        channels: usize,
    },
    /// Convolution, bias, activation.
    Conv(Conv),
    /// Normalisation, scale `NAME.weight` and shift `NAME.bias`, activation.
    Norm {
        /// Its parameters' prefix.
        name: String,
        /// Over what.
        kind: NormKind,
        /// What follows.
        act: Act,
    },
    /// An activation on its own.
    Act {
        /// Which.
        act: Act,
    },
    /// Two pictures' channels one after the other.
    Cat,
    /// Sum of two pictures; the second may be one sample large.
    Add,
    /// Each sample as a block of `factor` x `factor`.
    Up {
        /// Side of the block.
        factor: usize,
    },
    /// Largest sample of each 3 x 3 window at stride 2, windows clipped at the bottom and right so that even sides
    /// halve exactly (SqueezeNet's pooling, "ceil mode").
    MaxPool,
    /// Mean over the picture, one sample large.
    Mean,
    /// Logits of bins as a colour: the mean of the bins `NAME.bins` `[channels, 2]` by
    /// `softmax((z - k log NAME.prior) / T)`.
    Decode {
        /// Its statistics' prefix.
        name: String,
        /// k and T.
        decoding: Decoding,
    },
    /// In training, each value is dropped with probability `p` and the others scaled to keep the mean.
    Dropout {
        /// The probability.
        p: f32,
    },
}

/// A step and what it works on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Node {
    /// What is done.
    #[serde(flatten)]
    pub op: Op,
    /// To which pictures.
    pub inputs: Vec<Value>,
    /// Channels that come of it.
    #[serde(skip)]
    pub channels: usize,
}

/// A parameter that a graph names.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// How it is drawn.
    pub init: Init,
    /// Whether gradients move it; else it is a statistic.
    pub trained: bool,
}

/// A network. See the module's description.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Graph {
    nodes: Vec<Node>,
    output: Value,
}

impl Graph {
    /// An empty network on a picture of `channels` channels, and that picture.
    pub fn new(channels: usize) -> (Self, Value) {
        let input = Node {
            op: Op::Input { channels },
            inputs: Vec::new(),
            channels,
        };
        let graph = Self {
            nodes: vec![input],
            output: Value(0),
        };
        (graph, Value(0))
    }

    /// Adds a step; its result becomes the network's. The inputs must be pictures of this graph.
    fn push(&mut self, op: Op, inputs: &[Value], channels: usize) -> Value {
        self.output = Value(self.nodes.len());
        self.nodes.push(Node {
            op,
            inputs: inputs.to_vec(),
            channels,
        });
        self.output
    }

    /// Channels of `x`.
    pub fn channels(&self, x: Value) -> usize {
        self.nodes[x.0].channels
    }

    /// A convolution of `x`.
    pub fn conv(&mut self, x: Value, conv: Conv) -> Value {
        let channels = conv.channels;
        self.push(Op::Conv(conv), &[x], channels)
    }

    /// A convolution of `x`, then `act`; with a `norm` between them, `NAME.bn`, which takes the bias's place.
    pub fn layer(&mut self, x: Value, conv: Conv, norm: Option<NormKind>, act: Act) -> Value {
        match norm {
            None => self.conv(x, conv.act(act)),
            Some(kind) => {
                let name = format!("{}.bn", conv.name);
                let x = self.conv(x, conv.no_bias());
                self.norm(x, name, kind, act)
            }
        }
    }

    /// A normalisation of `x`, then `act`.
    pub fn norm(&mut self, x: Value, name: impl Into<String>, kind: NormKind, act: Act) -> Value {
        let name = name.into();
        self.push(Op::Norm { name, kind, act }, &[x], self.channels(x))
    }

    /// `act` of `x`.
    pub fn act(&mut self, x: Value, act: Act) -> Value {
        self.push(Op::Act { act }, &[x], self.channels(x))
    }

    /// The channels of `a`, then those of `b`.
    pub fn cat(&mut self, a: Value, b: Value) -> Value {
        self.push(Op::Cat, &[a, b], self.channels(a) + self.channels(b))
    }

    /// `a + b`; `b` may be one sample large.
    pub fn add(&mut self, a: Value, b: Value) -> Value {
        self.push(Op::Add, &[a, b], self.channels(a))
    }

    /// `x` enlarged, each sample a block.
    pub fn up(&mut self, x: Value, factor: usize) -> Value {
        self.push(Op::Up { factor }, &[x], self.channels(x))
    }

    /// SqueezeNet's pooling of `x`.
    pub fn max_pool(&mut self, x: Value) -> Value {
        self.push(Op::MaxPool, &[x], self.channels(x))
    }

    /// The mean of `x` over the picture.
    pub fn mean(&mut self, x: Value) -> Value {
        self.push(Op::Mean, &[x], self.channels(x))
    }

    /// Dropout of `x`.
    pub fn dropout(&mut self, x: Value, p: f32) -> Value {
        self.push(Op::Dropout { p }, &[x], self.channels(x))
    }

    /// The same network with its convolutions' weights drawn so.
    pub fn drawn(mut self, draw: &Draw) -> Self {
        for i in 0..self.nodes.len() {
            let inputs = self.nodes[i].inputs.first();
            let inputs = inputs.map_or(0, |input| self.channels(*input));
            if let Op::Conv(conv) = &mut self.nodes[i].op
                && !conv.fixed
            {
                conv.init = draw.init(conv.shape(inputs), conv.groups).or(conv.init);
            }
        }
        self
    }

    /// The colour, two channels in network units, that logits `x` of bins mean.
    pub fn decode(&mut self, x: Value, name: impl Into<String>, decoding: Decoding) -> Value {
        let name = name.into();
        self.push(Op::Decode { name, decoding }, &[x], 2)
    }

    /// The steps in an order in which they can be done.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// What comes out: the picture that the last step made.
    pub fn output(&self) -> Value {
        self.output
    }

    /// The step that is the last convolution; 0 where there is none.
    pub fn head(&self) -> usize {
        let is_conv = |node: &Node| matches!(node.op, Op::Conv(_));
        self.nodes.iter().rposition(is_conv).unwrap_or(0)
    }

    /// How many steps use each picture; the network's result counts as used once.
    pub fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.nodes.len()];
        for input in self.nodes.iter().flat_map(|node| &node.inputs) {
            uses[input.0] += 1;
        }
        uses[self.output.0] += 1;
        uses
    }

    /// Size of every picture when the input is `h` x `w`.
    pub fn sizes(&self, (h, w): (usize, usize)) -> Vec<(usize, usize)> {
        let mut sizes: Vec<(usize, usize)> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let of = |i: usize| sizes[node.inputs[i].0];
            let size = match &node.op {
                Op::Input { .. } => (h, w),
                Op::Conv(c) if c.transposed => (c.window.span(of(0).0), c.window.span(of(0).1)),
                Op::Conv(c) => (c.window.count(of(0).0), c.window.count(of(0).1)),
                Op::Up { factor } => (of(0).0 * factor, of(0).1 * factor),
                Op::MaxPool => (of(0).0 / 2, of(0).1 / 2),
                Op::Mean => (1, 1),
                Op::Norm { .. }
                | Op::Act { .. }
                | Op::Cat
                | Op::Add
                | Op::Decode { .. }
                | Op::Dropout { .. } => of(0),
            };
            sizes.push(size);
        }
        sizes
    }

    /// Each side of the input must be a multiple of this: the smallest picture inside is one sample for so many.
    pub fn stride(&self) -> usize {
        let mut scales: Vec<usize> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let of = |i: usize| scales[node.inputs[i].0];
            scales.push(match &node.op {
                Op::Input { .. } | Op::Mean => 1,
                Op::Conv(c) if c.transposed => of(0) / c.window.stride,
                Op::Conv(c) => of(0) * c.window.stride,
                Op::Up { factor } => of(0) / factor,
                Op::MaxPool => of(0) * 2,
                _ => of(0),
            });
        }
        scales.into_iter().max().unwrap_or(1)
    }

    /// Every parameter, in the order of the steps.
    pub fn parameters(&self) -> Vec<Parameter> {
        let mut all = Vec::new();
        for node in &self.nodes {
            let mut add = |name: &str, what: &str, shape: &[usize], init, trained| {
                all.push(Parameter {
                    name: format!("{name}.{what}"),
                    shape: shape.to_vec(),
                    init,
                    trained,
                })
            };
            match &node.op {
                Op::Conv(c) => {
                    let inputs = self.channels(node.inputs[0]);
                    let size = c.window.size;
                    let shape = c.shape(inputs);
                    let he = Init::he(inputs / c.groups * size * size);
                    add(&c.name, "weight", &shape, c.init.unwrap_or(he), !c.fixed);
                    if c.bias {
                        add(&c.name, "bias", &[c.channels], Init::Constant(0.), true);
                    }
                }
                Op::Norm { name, kind, .. } => {
                    let shape = [node.channels];
                    // As in pix2pix.
                    add(name, "weight", &shape, Init::Normal(1., 0.02), true);
                    add(name, "bias", &shape, Init::Constant(0.), true);
                    if let NormKind::Batch { .. } = kind {
                        add(name, "running_mean", &shape, Init::Constant(0.), false);
                        add(name, "running_var", &shape, Init::Constant(1.), false);
                    }
                }
                Op::Decode { name, .. } => {
                    let count = self.channels(node.inputs[0]);
                    add(name, "bins", &[count, 2], Init::Bins, false);
                    let even = Init::Constant(1. / count as f32);
                    add(name, "prior", &[count], even, false);
                }
                _ => {}
            }
        }
        all
    }

    /// Floating-point operations of the convolutions for one input of `h` x `w`; a multiplication and an addition
    /// are two.
    pub fn flops(&self, size: (usize, usize)) -> u64 {
        let sizes = self.sizes(size);
        let of = |node: &Node, own: (usize, usize)| match &node.op {
            Op::Conv(c) => {
                let inputs = self.channels(node.inputs[0]);
                let windows = if c.transposed {
                    sizes[node.inputs[0].0]
                } else {
                    own
                };
                let taps = c.window.size * c.window.size * inputs / c.groups * c.channels;
                2 * (windows.0 * windows.1 * taps) as u64
            }
            _ => 0,
        };
        self.nodes
            .iter()
            .zip(&sizes)
            .map(|(node, own)| of(node, *own))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_padding_is_tensorflows() {
        assert_eq!(Window::same(3, 2).pad, (0, 1));
        assert_eq!(Window::same(5, 2).pad, (1, 2));
        assert_eq!(Window::same(5, 1).pad, (2, 2));
        assert_eq!(Window::same(3, 2).count(64), 32);
    }

    #[test]
    fn where_no_window_fits_there_is_nothing() {
        let window = Window::new(4, 2, 1);
        assert_eq!((window.count(1), window.count(2)), (0, 1));
        assert_eq!((window.span(0), window.span(1)), (0, 2));
    }

    #[test]
    fn a_graph_knows_its_sizes_parameters_and_operations() {
        let (mut g, x) = Graph::new(1);
        let x = g.conv(x, Conv::new("a", 8, Window::new(4, 2, 1)).act(RELU));
        let y = g.norm(x, "n", NormKind::Batch { eps: 1e-3 }, Act::None);
        let y = g.conv(y, Conv::new("b", 4, Window::new(4, 2, 1)).transposed());
        let z = g.up(x, 2);
        g.cat(y, z);
        assert_eq!(
            g.sizes((16, 32)),
            [(16, 32), (8, 16), (8, 16), (16, 32), (16, 32), (16, 32)]
        );
        assert_eq!((g.stride(), g.channels(g.output())), (2, 12));
        let names: Vec<_> = g.parameters().into_iter().map(|p| p.name).collect();
        assert_eq!(
            names.join(" "),
            "a.weight a.bias n.weight n.bias n.running_mean n.running_var b.weight b.bias"
        );
        assert_eq!(
            g.flops((16, 32)),
            2 * 8 * 16 * (16 * 8) + 2 * 8 * 16 * (16 * 8 * 4)
        );
        assert_eq!(g.uses(), [1, 2, 1, 1, 1, 1]);
    }
}
