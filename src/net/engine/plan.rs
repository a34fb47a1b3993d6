//! A [`Graph`] compiled for one size of picture on the CPU.
//!
//! Compiling folds batch norms into the convolutions before them, leaves bias, activation and sums to oneDNN, packs
//! the weights, and decides which memory each picture has. Three identities save work:
//! - a convolution of joined pictures is the sum of convolutions of each, so nothing is joined;
//! - a 1x1 convolution of an enlarged picture is the enlarged convolution of the small one;
//! - pooling, activations and means work on joined pictures one by one.
//!
//! A [`Worker`] runs it on one thread, one picture at a time, in memory of its own that is made once.

use std::{collections::HashMap, sync::Arc};

use bytemuck::Pod;
use half::bf16;

use super::{
    buffer::Buffer,
    kernels::{self, Number, Size},
    onednn::{self, Call, Extras, Packed, Shape},
    softmax::{self, Palette},
};
use crate::{
    color::AB_SCALE,
    net::{
        bins::Decoding,
        graph::{self, Act, Graph, NormKind, Op, Window},
        params::Params,
    },
};

/// Why a plan cannot be made or run, in words.
pub type Result<T> = std::result::Result<T, String>;

/// A picture in memory.
#[derive(Clone, Copy, Debug)]
struct Picture {
    h: usize,
    w: usize,
    c: usize,
    /// Whether its values are bf16 instead of f32.
    narrow: bool,
}

impl Picture {
    fn len(&self) -> usize {
        self.h * self.w * self.c
    }

    fn bytes(&self) -> usize {
        self.len() * if self.narrow { 2 } else { 4 }
    }

    fn size(&self) -> Size {
        (1, self.h, self.w, self.c)
    }
}

/// What is done in one step, from the first of its sources to its destination.
enum Work {
    /// Between f32 and bf16.
    Convert,
    /// The same.
    Copy,
    /// A convolution: which.
    Conv(usize),
    /// Larger by a factor.
    Up(usize),
    MaxPool,
    Mean,
    /// Logits of bins as colours; between f32 pictures.
    Decode(Palette),
    /// The source added to what stands in the destination, again and again if it is smaller.
    Add,
    /// Its channels into the destination's from this one on.
    Place(usize),
    /// What follows happens to the destination alone.
    BiasAct(Vec<f32>, Act),
    Act(Act),
    Affine(Vec<f32>, Vec<f32>, Act),
    GroupNorm {
        groups: usize,
        eps: f32,
        weight: Vec<f32>,
        bias: Vec<f32>,
        act: Act,
    },
}

struct Step {
    work: Work,
    /// The picture that it reads; for work on the destination alone, that one.
    src: usize,
    dst: usize,
}

/// A compiled network.
pub struct Plan {
    pictures: Vec<Picture>,
    steps: Vec<Step>,
    convs: Vec<Arc<Packed>>,
    /// The memory of each picture.
    slots: Vec<usize>,
    /// Bytes of each memory.
    room: Vec<usize>,
    /// Most channels of any picture.
    channels: usize,
    scratch: usize,
    input: usize,
    output: usize,
}

/// A part of a graph's value: a picture, to be seen enlarged.
#[derive(Clone, Copy, Debug)]
struct Piece {
    picture: usize,
    up: usize,
}

/// A convolution with what was folded into it.
struct Folded<'a> {
    conv: &'a graph::Conv,
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    act: Act,
}

struct Compiler<'a> {
    graph: &'a Graph,
    params: &'a Params,
    narrow: bool,
    plan: Plan,
    /// The pieces of each value, side by side.
    values: Vec<Vec<Piece>>,
    /// Height and width of each value.
    sizes: Vec<(usize, usize)>,
    /// Convolutions whose result waits to be added to something.
    waiting: HashMap<usize, (Folded<'a>, Vec<Piece>)>,
    /// The only user of each value, if there is one alone.
    user: Vec<Option<usize>>,
    /// The last convolution, which stays f32.
    head: usize,
}

impl Plan {
    /// Compiles `graph` for pictures of `h` x `w`; with `narrow`, pictures and weights but those of the last
    /// convolution are bf16.
    ///
    /// # Errors
    /// No oneDNN, or a shape that it has no fast implementation of.
    pub fn compile(
        graph: &Graph,
        params: &Params,
        size: (usize, usize),
        narrow: bool,
    ) -> Result<Self> {
        onednn::version()?;
        let nodes = graph.nodes();
        let mut user = vec![None; nodes.len()];
        let uses = graph.uses();
        for (i, node) in nodes.iter().enumerate() {
            for input in &node.inputs {
                user[input.index()] = (uses[input.index()] == 1).then_some(i);
            }
        }
        let mut compiler = Compiler {
            graph,
            params,
            narrow,
            plan: Self {
                pictures: Vec::new(),
                steps: Vec::new(),
                convs: Vec::new(),
                slots: Vec::new(),
                room: Vec::new(),
                channels: 0,
                scratch: 0,
                input: 0,
                output: 0,
            },
            values: Vec::new(),
            sizes: graph.sizes(size),
            waiting: HashMap::new(),
            user,
            head: graph.head(),
        };
        compiler.run()?;
        let Compiler { mut plan, .. } = compiler;
        plan.place();
        plan.channels = plan.pictures.iter().map(|p| p.c).max().unwrap_or(0);
        plan.scratch = plan.convs.iter().map(|c| c.scratch()).max().unwrap_or(0);
        Ok(plan)
    }

    /// Which implementations the convolutions have, in their order.
    pub fn implementations(&self) -> Vec<String> {
        self.convs
            .iter()
            .map(|conv| conv.implementation())
            .collect()
    }

    /// Height, width and channels of the result.
    pub fn result(&self) -> (usize, usize, usize) {
        let Picture { h, w, c, .. } = self.pictures[self.output];
        (h, w, c)
    }

    /// Gives every picture memory; one whose last reader makes another in place hands its memory on.
    fn place(&mut self) {
        let mut last = vec![0; self.pictures.len()];
        for (i, step) in self.steps.iter().enumerate() {
            last[step.src] = i;
            last[step.dst] = last[step.dst].max(i);
        }
        last[self.output] = usize::MAX;
        self.slots = vec![usize::MAX; self.pictures.len()];
        let mut free: Vec<usize> = Vec::new();
        let take = |bytes: usize, free: &mut Vec<usize>, room: &mut Vec<usize>| {
            // The smallest that is large enough, else the largest, which grows.
            let fits = |slot: &usize| room[*slot] >= bytes;
            let best = free.iter().copied().filter(fits).min_by_key(|s| room[*s]);
            let best = best.or_else(|| free.iter().copied().max_by_key(|s| room[*s]));
            match best {
                Some(slot) => {
                    free.retain(|s| *s != slot);
                    room[slot] = room[slot].max(bytes);
                    slot
                }
                None => {
                    room.push(bytes);
                    room.len() - 1
                }
            }
        };
        self.slots[self.input] = take(self.pictures[self.input].bytes(), &mut free, &mut self.room);
        for (i, step) in self.steps.iter().enumerate() {
            let (src, dst) = (step.src, step.dst);
            if self.slots[dst] == usize::MAX {
                let hand_on = matches!(step.work, Work::Copy) && last[src] == i;
                self.slots[dst] = match hand_on {
                    true => self.slots[src],
                    false => take(self.pictures[dst].bytes(), &mut free, &mut self.room),
                };
            }
            for picture in [src, dst] {
                let shared = self.slots[src] == self.slots[dst] && picture == src && src != dst;
                if last[picture] == i && !shared && !free.contains(&self.slots[picture]) {
                    free.push(self.slots[picture]);
                }
            }
        }
    }
}

impl<'a> Compiler<'a> {
    fn run(&mut self) -> Result<()> {
        if self.sizes.iter().any(|(h, w)| *h == 0 || *w == 0) {
            let (h, w) = self.sizes[0];
            return Err(format!(
                "a picture of {h} x {w} is too small for this network"
            ));
        }
        for (i, node) in self.graph.nodes().iter().enumerate() {
            let made = self.node(i, node, self.sizes[i])?;
            self.values.push(made);
        }
        let output = self.whole(self.graph.output().index())?;
        let output = self.converted(output, false);
        self.plan.output = output;
        Ok(())
    }

    fn node(
        &mut self,
        i: usize,
        node: &'a graph::Node,
        (h, w): (usize, usize),
    ) -> Result<Vec<Piece>> {
        let input = |at: usize| node.inputs[at].index();
        match &node.op {
            Op::Input { channels } => {
                let picture = self.picture(h, w, *channels, false);
                self.plan.input = picture;
                let picture = self.converted(picture, self.narrow);
                Ok(vec![Piece { picture, up: 1 }])
            }
            Op::Conv(conv) => {
                let folded = self.fold(i, conv)?;
                let pieces = self.values[input(0)].clone();
                let last = self.last_folded(i);
                if self.adds_later(last) {
                    self.waiting.insert(last, (folded, pieces));
                    return Ok(Vec::new());
                }
                self.conv(i, folded, pieces, (h, w), None)
            }
            // Folded into the convolution before it.
            Op::Norm { .. } if self.folds(input(0)) == Some(i) => {
                Ok(std::mem::take(&mut self.values[input(0)]))
            }
            Op::Norm { name, kind, act } => {
                let src = self.whole(input(0))?;
                let work = self.norm(name, *kind, *act)?;
                Ok(self.in_place(src, work))
            }
            Op::Act { act } => {
                let pieces = self.values[input(0)].clone();
                let each = |piece: Piece| Piece {
                    picture: self.in_place(piece.picture, Work::Act(*act))[0].picture,
                    up: piece.up,
                };
                Ok(pieces.into_iter().map(each).collect())
            }
            Op::Cat => {
                let mut pieces = self.values[input(0)].clone();
                pieces.extend(&self.values[input(1)]);
                Ok(pieces)
            }
            Op::Add => self.add(i, (input(0), input(1)), (h, w)),
            Op::Up { factor } => {
                let larger = |p: &Piece| Piece {
                    up: p.up * factor,
                    ..*p
                };
                Ok(self.values[input(0)].iter().map(larger).collect())
            }
            Op::MaxPool => self.each(input(0), |c, piece| {
                let src = c.enlarged(piece);
                let Picture {
                    h,
                    w,
                    c: ch,
                    narrow,
                } = c.plan.pictures[src];
                let dst = c.picture(h / 2, w / 2, ch, narrow);
                c.step(Work::MaxPool, src, dst)
            }),
            // The mean of an enlarged picture is that of the small one.
            Op::Mean => self.each(input(0), |c, piece| {
                let Picture { c: ch, narrow, .. } = c.plan.pictures[piece.picture];
                let dst = c.picture(1, 1, ch, narrow);
                c.step(Work::Mean, piece.picture, dst)
            }),
            Op::Decode { name, decoding } => {
                let src = self.whole(input(0))?;
                let src = self.converted(src, false);
                let dst = self.picture(h, w, 2, false);
                let palette = self.palette(name, decoding)?;
                Ok(vec![self.step(Work::Decode(palette), src, dst)])
            }
            Op::Dropout { .. } => Ok(self.values[input(0)].clone()),
        }
    }

    /// The norm that folds into convolution `i`, if one follows it alone.
    fn folds(&self, i: usize) -> Option<usize> {
        let nodes = self.graph.nodes();
        let user = self.user[i]?;
        match (&nodes[i].op, &nodes[user].op) {
            (
                Op::Conv(conv),
                Op::Norm {
                    kind: NormKind::Batch { .. },
                    ..
                },
            ) if conv.act == Act::None && !conv.transposed => Some(user),
            _ => None,
        }
    }

    /// The node whose value convolution `i` makes once folded.
    fn last_folded(&self, i: usize) -> usize {
        self.folds(i).unwrap_or(i)
    }

    /// Whether value `i`, of a convolution with nothing after it, is only ever added to one of the same size that is
    /// there already.
    fn adds_later(&self, i: usize) -> bool {
        let nodes = self.graph.nodes();
        let Some(user) = self.user[i] else {
            return false;
        };
        let act = match &nodes[i].op {
            Op::Norm { act, .. } => *act,
            Op::Conv(conv) if !conv.transposed => conv.act,
            _ => return false,
        };
        let inputs = &nodes[user].inputs;
        let other = inputs.iter().find(|input| input.index() != i);
        matches!(nodes[user].op, Op::Add)
            && act == Act::None
            && inputs[0].index() == i
            && other.is_some_and(|other| {
                let pieces = self.values.get(other.index());
                self.sizes[other.index()] == self.sizes[i]
                    && pieces.is_some_and(|p| p.len() == 1 && p[0].up == 1)
            })
    }

    fn fold(&self, i: usize, conv: &'a graph::Conv) -> Result<Folded<'a>> {
        let mut weight = self.parameter(&conv.name, "weight")?;
        let mut bias = match conv.bias {
            true => Some(self.parameter(&conv.name, "bias")?),
            false => None,
        };
        let mut act = conv.act;
        if let Some(norm) = self.folds(i)
            && let Op::Norm { name, kind, act: a } = &self.graph.nodes()[norm].op
        {
            let (scale, shift) = self.affine(name, *kind)?;
            let each = weight.len() / conv.channels;
            for (weights, scale) in weight.chunks_exact_mut(each).zip(&scale) {
                weights.iter_mut().for_each(|w| *w *= scale);
            }
            let before = bias.take().unwrap_or_else(|| vec![0.; conv.channels]);
            let terms = before.iter().zip(&scale).zip(&shift);
            bias = Some(terms.map(|((b, scale), shift)| b * scale + shift).collect());
            act = *a;
        }
        Ok(Folded {
            conv,
            weight,
            bias,
            act,
        })
    }

    /// A batch norm's running statistics, scale and shift as one scale and shift.
    fn affine(&self, name: &str, kind: NormKind) -> Result<(Vec<f32>, Vec<f32>)> {
        let of = |what: &str| self.parameter(name, what);
        let eps = match kind {
            NormKind::Batch { eps } | NormKind::Group { eps, .. } => eps,
        };
        let (mean, variance) = (of("running_mean")?, of("running_var")?);
        let (weight, bias) = (of("weight")?, of("bias")?);
        let scale: Vec<f32> = weight
            .iter()
            .zip(&variance)
            .map(|(w, v)| w / (v + eps).sqrt())
            .collect();
        let terms = bias.iter().zip(mean.iter().zip(&scale));
        let shift = terms.map(|(b, (m, s))| b - m * s).collect();
        Ok((scale, shift))
    }

    fn norm(&self, name: &str, kind: NormKind, act: Act) -> Result<Work> {
        match kind {
            NormKind::Batch { .. } => {
                let (scale, shift) = self.affine(name, kind)?;
                Ok(Work::Affine(scale, shift, act))
            }
            NormKind::Group { groups, eps } => Ok(Work::GroupNorm {
                groups,
                eps,
                weight: self.parameter(name, "weight")?,
                bias: self.parameter(name, "bias")?,
                act,
            }),
        }
    }

    /// Bins in network units, and what is taken off their logits.
    fn palette(&self, name: &str, decoding: &Decoding) -> Result<Palette> {
        let mut bins = self.parameter(name, "bins")?;
        bins.iter_mut().for_each(|v| *v /= AB_SCALE);
        let offset = decoding.offset(&self.parameter(name, "prior")?);
        Ok(Palette::new(&bins, &offset, decoding))
    }

    fn parameter(&self, name: &str, what: &str) -> Result<Vec<f32>> {
        let name = format!("{name}.{what}");
        let tensor = self
            .params
            .get(&name)
            .ok_or_else(|| format!("no parameter {name}"))?;
        let values = tensor.flatten_all().and_then(|t| t.to_vec1());
        values.map_err(|e| e.to_string())
    }

    /// A convolution of the pieces of its input. With `onto`, its result is added to that picture, in place.
    fn conv(
        &mut self,
        node: usize,
        folded: Folded,
        pieces: Vec<Piece>,
        (h, w): (usize, usize),
        onto: Option<usize>,
    ) -> Result<Vec<Piece>> {
        let conv = folded.conv;
        let narrow = self.narrow && node != self.head;
        let result_narrow = narrow && !self.feeds_head(self.last_folded(node));
        if conv.transposed {
            let src = self.whole_of(pieces)?;
            return self.transposed(folded, src, (h, w), (narrow, result_narrow));
        }
        let pieces = match conv.groups {
            1 => pieces,
            _ => vec![Piece {
                picture: self.whole_of(pieces)?,
                up: 1,
            }],
        };
        let kinds = (narrow, result_narrow);
        // 1x1: what is small stays small, is convolved first and then enlarged.
        let point = conv.window == Window::same(1, 1) && onto.is_none();
        let up = pieces
            .iter()
            .map(|p| p.up)
            .max()
            .filter(|_| point)
            .unwrap_or(1);
        let (mut small, mut rest) = (Vec::new(), Vec::new());
        let mut channel = 0;
        for piece in pieces {
            let channels = self.plan.pictures[piece.picture].c;
            match up > 1 && piece.up == up {
                true => small.push((piece.picture, channel)),
                false => rest.push((self.enlarged(piece), channel)),
            }
            channel += channels;
        }
        let mut onto = onto;
        if !small.is_empty() {
            let alone = rest.is_empty();
            let picture = self.parts(&folded, small, (h / up, w / up), kinds, None, alone)?;
            let piece = Piece { picture, up };
            if alone {
                return Ok(vec![piece]);
            }
            onto = Some(self.enlarged(piece));
        }
        let picture = self.parts(&folded, rest, (h, w), kinds, onto, true)?;
        Ok(vec![Piece { picture, up: 1 }])
    }

    /// The sum of the convolutions of pictures that stand side by side, each from a channel on; added to `onto` where
    /// there is one. What `finishes` the convolution has bias and activation. `kinds`: whether pictures and weights
    /// are bf16, whether the result is.
    fn parts(
        &mut self,
        folded: &Folded,
        parts: Vec<(usize, usize)>,
        (h, w): (usize, usize),
        (narrow, result_narrow): (bool, bool),
        onto: Option<usize>,
        finishes: bool,
    ) -> Result<usize> {
        let dst = match onto {
            Some(picture) => picture,
            None => self.picture(h, w, folded.conv.channels, result_narrow),
        };
        let count = parts.len();
        for (i, (src, channel)) in parts.into_iter().enumerate() {
            let src = self.converted(src, narrow);
            let sum = i > 0 || onto.is_some();
            let last = finishes && i + 1 == count;
            self.part(folded, (src, channel), dst, (sum, last, narrow))?;
        }
        if finishes && !onednn::fuses(folded.act) {
            self.step(Work::Act(folded.act), dst, dst);
        }
        Ok(dst)
    }

    /// The convolution of one picture with its part of the weights, channels from `channel` on; the `last` part has
    /// bias and activation.
    fn part(
        &mut self,
        folded: &Folded,
        (src, channel): (usize, usize),
        dst: usize,
        (sum, last, narrow): (bool, bool, bool),
    ) -> Result<()> {
        let conv = folded.conv;
        let (from, to) = (self.plan.pictures[src], self.plan.pictures[dst]);
        let shape = Shape {
            n: 1,
            h: from.h,
            w: from.w,
            inputs: from.c,
            outputs: conv.channels,
            window: conv.window,
            groups: conv.groups,
        };
        let taps = conv.window.size * conv.window.size;
        let each = folded.weight.len() / conv.channels;
        let wanted = channel * taps..(channel + from.c / conv.groups) * taps;
        let weight: Vec<f32> = folded
            .weight
            .chunks_exact(each)
            .flat_map(|weights| &weights[wanted.clone()])
            .copied()
            .collect();
        let fuses = last && onednn::fuses(folded.act);
        let extras = Extras {
            sum,
            act: if fuses { folded.act } else { Act::None },
            bf16: narrow,
            result_bf16: to.narrow,
        };
        let bias = folded.bias.clone().filter(|_| last);
        let packed = Packed::new(shape, &weight, bias, extras)?;
        self.push_conv(packed, src, dst);
        Ok(())
    }

    fn push_conv(&mut self, packed: Packed, src: usize, dst: usize) {
        self.plan.convs.push(Arc::new(packed));
        let work = Work::Conv(self.plan.convs.len() - 1);
        self.step(work, src, dst);
    }

    fn transposed(
        &mut self,
        folded: Folded,
        src: usize,
        (h, w): (usize, usize),
        (narrow, result_narrow): (bool, bool),
    ) -> Result<Vec<Piece>> {
        let conv = folded.conv;
        let src = self.converted(src, narrow);
        let shape = Shape {
            n: 1,
            h,
            w,
            inputs: conv.channels,
            outputs: self.plan.pictures[src].c,
            window: conv.window,
            groups: conv.groups,
        };
        let dst = self.picture(h, w, conv.channels, false);
        let packed = Packed::transposed(shape, &folded.weight, narrow)?;
        self.push_conv(packed, src, dst);
        let bias = folded.bias.unwrap_or_else(|| vec![0.; conv.channels]);
        self.step(Work::BiasAct(bias, folded.act), dst, dst);
        let picture = self.converted(dst, result_narrow);
        Ok(vec![Piece { picture, up: 1 }])
    }

    /// Whether the last convolution is all that uses value `i`.
    fn feeds_head(&self, i: usize) -> bool {
        i >= self.head || self.user[i] == Some(self.head)
    }

    fn add(
        &mut self,
        i: usize,
        (a, b): (usize, usize),
        size: (usize, usize),
    ) -> Result<Vec<Piece>> {
        if let Some((folded, pieces)) = self.waiting.remove(&a) {
            let other = self.values[b][0].picture;
            let onto = self.copied(other);
            return self.conv(i, folded, pieces, size, Some(onto));
        }
        let (a, b) = (self.whole(a)?, self.whole(b)?);
        let dst = self.copied(a);
        let b = self.converted(b, self.plan.pictures[dst].narrow);
        Ok(vec![self.step(Work::Add, b, dst)])
    }

    /// The same for every piece of a value.
    fn each(&mut self, value: usize, f: impl Fn(&mut Self, Piece) -> Piece) -> Result<Vec<Piece>> {
        let pieces = self.values[value].clone();
        Ok(pieces.into_iter().map(|piece| f(self, piece)).collect())
    }

    fn picture(&mut self, h: usize, w: usize, c: usize, narrow: bool) -> usize {
        self.plan.pictures.push(Picture { h, w, c, narrow });
        self.plan.pictures.len() - 1
    }

    fn step(&mut self, work: Work, src: usize, dst: usize) -> Piece {
        self.plan.steps.push(Step { work, src, dst });
        Piece {
            picture: dst,
            up: 1,
        }
    }

    /// A copy, which costs nothing where the original is not read again.
    fn copied(&mut self, src: usize) -> usize {
        let Picture { h, w, c, narrow } = self.plan.pictures[src];
        let dst = self.picture(h, w, c, narrow);
        self.step(Work::Copy, src, dst).picture
    }

    fn in_place(&mut self, src: usize, work: Work) -> Vec<Piece> {
        let dst = self.copied(src);
        vec![self.step(work, dst, dst)]
    }

    fn converted(&mut self, src: usize, narrow: bool) -> usize {
        let picture = self.plan.pictures[src];
        if picture.narrow == narrow {
            return src;
        }
        let dst = self.picture(picture.h, picture.w, picture.c, narrow);
        self.step(Work::Convert, src, dst).picture
    }

    fn enlarged(&mut self, piece: Piece) -> usize {
        if piece.up == 1 {
            return piece.picture;
        }
        let Picture { h, w, c, narrow } = self.plan.pictures[piece.picture];
        let dst = self.picture(h * piece.up, w * piece.up, c, narrow);
        self.step(Work::Up(piece.up), piece.picture, dst).picture
    }

    /// Value `i` as one picture.
    fn whole(&mut self, i: usize) -> Result<usize> {
        let pieces = self.values[i].clone();
        self.whole_of(pieces)
    }

    fn whole_of(&mut self, pieces: Vec<Piece>) -> Result<usize> {
        let parts: Vec<usize> = pieces
            .into_iter()
            .map(|piece| self.enlarged(piece))
            .collect();
        let [first, others @ ..] = &parts[..] else {
            return Err("a value without pieces".into());
        };
        if others.is_empty() {
            return Ok(*first);
        }
        let channels = parts.iter().map(|p| self.plan.pictures[*p].c).sum();
        let Picture { h, w, narrow, .. } = self.plan.pictures[*first];
        let dst = self.picture(h, w, channels, narrow);
        let mut channel = 0;
        for part in parts {
            let part = self.converted(part, narrow);
            self.step(Work::Place(channel), part, dst);
            channel += self.plan.pictures[part].c;
        }
        Ok(dst)
    }
}

/// A plan with memory to run it on one thread.
pub struct Worker {
    plan: Arc<Plan>,
    calls: Vec<Call>,
    memory: Vec<Buffer>,
    scratch: Buffer,
    room: Vec<f32>,
}

impl Worker {
    /// Memory for `plan`.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(plan: Arc<Plan>) -> Result<Self> {
        let mut scratch = Buffer::default();
        scratch.reserve(plan.scratch);
        Ok(Self {
            calls: plan
                .convs
                .iter()
                .cloned()
                .map(Call::new)
                .collect::<Result<_>>()?,
            memory: plan.room.iter().map(|bytes| Buffer::new(*bytes)).collect(),
            scratch,
            room: vec![0.; 2 * softmax::padded(plan.channels)],
            plan,
        })
    }

    /// Height, width and channels of the result.
    pub fn result(&self) -> (usize, usize, usize) {
        self.plan.result()
    }

    /// One picture of dense `[h, w, c]` values to the network's result, `[h', w', c']`.
    ///
    /// # Errors
    /// A defect.
    pub fn run(&mut self, input: &[f32]) -> Result<&[f32]> {
        let plan = self.plan.clone();
        let first = plan.pictures[plan.input];
        if input.len() != first.len() {
            return Err(format!(
                "{} values are no picture of {first:?}",
                input.len()
            ));
        }
        self.memory[plan.slots[plan.input]]
            .values_mut(input.len())
            .copy_from_slice(input);
        for step in &plan.steps {
            self.step(&plan, step)?;
        }
        let output = plan.pictures[plan.output];
        Ok(self.memory[plan.slots[plan.output]].values(output.len()))
    }

    fn step(&mut self, plan: &Plan, step: &Step) -> Result<()> {
        let (from, to) = (plan.pictures[step.src], plan.pictures[step.dst]);
        let (src, dst) = (plan.slots[step.src], plan.slots[step.dst]);
        // Taken out for the while, so that the source can be borrowed beside it.
        let mut out = std::mem::take(&mut self.memory[dst]);
        let source = &self.memory[src];
        let done = match &step.work {
            Work::Conv(i) => {
                let bytes = out.values_mut::<u8>(to.bytes());
                let scratch = self.scratch.reserve(plan.scratch);
                self.calls[*i].run(source.values(from.bytes()), bytes, scratch)
            }
            Work::Convert => {
                convert(source, from, &mut out);
                Ok(())
            }
            Work::Copy if src == dst => Ok(()),
            Work::Decode(palette) => {
                let logits = source.values(from.len());
                softmax::decode(logits, palette, &mut self.room, out.values_mut(to.len()));
                Ok(())
            }
            work => {
                match to.narrow {
                    false => plain::<f32>(work, (source, from), (&mut out, to), &mut self.room),
                    true => plain::<bf16>(work, (source, from), (&mut out, to), &mut self.room),
                }
                Ok(())
            }
        };
        self.memory[dst] = out;
        done
    }
}

fn convert(source: &Buffer, from: Picture, out: &mut Buffer) {
    fn all<A: Number, B: Number>(a: &[A], b: &mut [B]) {
        a.iter().zip(b).for_each(|(a, b)| *b = B::narrow(a.wide()));
    }
    let len = from.len();
    match from.narrow {
        false => all::<f32, bf16>(source.values(len), out.values_mut(len)),
        true => all::<bf16, f32>(source.values(len), out.values_mut(len)),
    }
}

/// The work that is done by plain loops.
fn plain<T: Number + Pod>(
    work: &Work,
    (source, from): (&Buffer, Picture),
    (out, to): (&mut Buffer, Picture),
    room: &mut [f32],
) {
    let y: &mut [T] = out.values_mut(to.len());
    // Work on the destination alone has no source: its memory has been taken out.
    match work {
        Work::BiasAct(bias, act) => return kernels::bias_act_in_place(y, bias, *act),
        Work::Act(act) => return kernels::act_in_place(y, *act),
        Work::Affine(scale, shift, act) => return kernels::affine_in_place(y, scale, shift, *act),
        Work::GroupNorm {
            groups,
            eps,
            weight,
            bias,
            act,
        } => {
            let room = &mut room[..2 * to.c];
            return kernels::group_norm_in_place(y, *groups, *eps, (weight, bias), *act, room);
        }
        _ => {}
    }
    let x: &[T] = source.values(from.len());
    match work {
        Work::Copy => y.copy_from_slice(x),
        Work::Up(factor) => kernels::up(x, from.size(), *factor, y),
        Work::MaxPool => kernels::max_pool(x, from.size(), y),
        Work::Mean => kernels::mean_into(x, &mut room[..from.c], y),
        Work::Add => kernels::add(y, x),
        Work::Place(channel) => kernels::place(x, from.c, y, to.c, *channel),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::net::{
        engine::eager::Eager,
        graph::{Conv, RELU, Value},
        params::{normal, stream},
    };

    const NORM: NormKind = NormKind::Batch { eps: 1e-3 };

    /// The plan of a graph on a picture of 8 x 12 makes what step-by-step execution makes.
    fn agrees(name: &str, build: impl Fn(&mut Graph, Value)) {
        if onednn::version().is_err() {
            return;
        }
        let (mut graph, x) = Graph::new(3);
        build(&mut graph, x);
        let params = Params::seeded(&graph, 1, &Device::Cpu).unwrap();
        let mut noise = stream(2, name);
        let input: Vec<f32> = (0..8 * 12 * 3).map(|_| normal(&mut noise)).collect();
        let x = Tensor::from_slice(&input, (1, 8, 12, 3), &Device::Cpu).unwrap();
        let eager = Eager {
            graph: &graph,
            params: &params,
            bf16: false,
        };
        let wanted = eager.evaluate(&x).unwrap().flatten_all().unwrap();
        let wanted = wanted.to_vec1::<f32>().unwrap();
        let plan = Arc::new(Plan::compile(&graph, &params, (8, 12), false).unwrap());
        let mut worker = Worker::new(plan).unwrap();
        for _ in 0..2 {
            let made = worker.run(&input).unwrap();
            assert_eq!(made.len(), wanted.len(), "{name}");
            for (made, wanted) in made.iter().zip(&wanted) {
                assert!((made - wanted).abs() < 1e-4, "{name}: {made}, not {wanted}");
            }
        }
    }

    fn point(name: &str, channels: usize) -> Conv {
        Conv::same(name, channels, 1)
    }

    #[test]
    fn joined_pictures_are_convolved_one_by_one() {
        agrees("small and large", |g, x| {
            let small = g.max_pool(x);
            let small = g.up(small, 2);
            let both = g.cat(small, x);
            g.conv(both, point("a", 5).act(Act::Leaky(0.2)));
        });
        agrees("small alone, then tanh", |g, x| {
            let small = g.max_pool(x);
            let small = g.up(small, 2);
            g.conv(small, point("a", 5).act(Act::Tanh));
        });
        agrees("3 x 3 of an enlarged and a plain one", |g, x| {
            let small = g.max_pool(x);
            let small = g.up(small, 2);
            let both = g.cat(x, small);
            let y = g.conv(both, Conv::same("a", 4, 3).act(RELU));
            let pooled = g.max_pool(both);
            let mean = g.mean(pooled);
            let mean = g.conv(mean, point("b", 4));
            g.add(y, mean);
        });
    }

    #[test]
    fn what_needs_one_picture_gets_one() {
        agrees("depthwise and group norm of joined ones", |g, x| {
            let y = g.conv(x, point("a", 5));
            let both = g.cat(x, y);
            let y = g.conv(both, Conv::same("b", 8, 3).groups(8));
            let both = g.cat(y, both);
            let kind = NormKind::Group {
                groups: 4,
                eps: 1e-5,
            };
            g.norm(both, "n", kind, Act::Leaky(0.2));
        });
        agrees("joined ones come out", |g, x| {
            let small = g.max_pool(x);
            let small = g.up(small, 2);
            g.cat(small, x);
        });
    }

    #[test]
    fn sums_do_not_disturb_what_is_still_read() {
        agrees("residual, and the original later", |g, x| {
            let x = g.conv(x, point("in", 6).act(RELU));
            let y = g.layer(x, Conv::same("a", 6, 3), Some(NORM), Act::Relu6);
            let y = g.layer(y, point("b", 6), Some(NORM), Act::None);
            let sum = g.add(y, x);
            let again = g.layer(sum, point("c", 6), Some(NORM), Act::None);
            let sum = g.add(again, sum);
            let both = g.cat(sum, x);
            g.conv(both, point("out", 2).act(Act::Tanh));
        });
        agrees("activations of one picture, two ways", |g, x| {
            let a = g.act(x, RELU);
            let b = g.act(x, Act::Leaky(0.5));
            let both = g.cat(a, b);
            let y = g.norm(both, "n", NORM, Act::Relu6);
            let y = g.conv(y, Conv::new("a", 4, Window::new(4, 2, 1)));
            let y = g.act(y, RELU);
            g.conv(
                y,
                Conv::new("b", 3, Window::new(4, 2, 1))
                    .transposed()
                    .act(RELU),
            );
        });
    }
}
