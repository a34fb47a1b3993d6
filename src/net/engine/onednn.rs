//! oneDNN, loaded at run time: convolutions on the CPU.
//!
//! All pictures are dense `[N, H, W, C]`, weights come in PyTorch's layout and are packed into whatever the library
//! likes best. It runs on the calling thread alone: parallelism is the caller's (frames, or parts of a batch), so that
//! its results do not depend on the number of threads and no second pool of threads spins beside FFmpeg's.
//!
//! With `cudnn.rs` the only place outside `media/ffi` where `unsafe` is allowed: every call crosses into C.
#![allow(unsafe_code)]

mod library;
mod primitive;

use std::{
    cell::RefCell,
    collections::HashMap,
    fmt, ptr,
    sync::{Arc, Mutex, OnceLock},
};

use library::{Arg, Raw, library};
use primitive::{Key, Memory, Primitive, What};

use super::buffer::Buffer;
use crate::net::graph::{Act, Window};

pub use library::{VARIABLE, version};

/// Whether the library has fast convolutions of bf16 numbers for this CPU.
pub fn has_bf16() -> bool {
    let key = Key {
        what: What::Forward {
            bias: false,
            sum: false,
            act: (0, 0),
            bf16: false,
        },
        shape: Shape {
            n: 1,
            h: 16,
            w: 16,
            inputs: 32,
            outputs: 32,
            window: Window::same(3, 1),
            groups: 1,
        },
        bf16: true,
    };
    library().is_ok_and(|library| library.primitive(&key).is_ok())
}

/// A convolution's sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Pictures.
    pub n: usize,
    /// Height of the larger side, the convolution's input.
    pub h: usize,
    /// Its width.
    pub w: usize,
    /// Its channels.
    pub inputs: usize,
    /// Channels of the other side.
    pub outputs: usize,
    /// The window.
    pub window: Window,
    /// Groups of channels.
    pub groups: usize,
}

impl Shape {
    /// Values on the input's side.
    pub fn input_len(&self) -> usize {
        self.n * self.h * self.w * self.inputs
    }

    /// Values on the output's side.
    pub fn output_len(&self) -> usize {
        self.n * self.window.count(self.h) * self.window.count(self.w) * self.outputs
    }

    /// Weights.
    pub fn weight_len(&self) -> usize {
        self.outputs * (self.inputs / self.groups) * self.window.size * self.window.size
    }

    fn check(&self) -> Result<(), String> {
        let grouped = self.groups > 0
            && self.inputs.is_multiple_of(self.groups)
            && self.outputs.is_multiple_of(self.groups);
        if !grouped || self.input_len() == 0 || self.output_len() == 0 || self.weight_len() == 0 {
            return Err(format!("no convolution has this shape: {self:?}"));
        }
        Ok(())
    }
}

/// Memory of one thread for the calls that bring none.
#[derive(Default)]
struct Scratch {
    run: Buffer,
    weights: Buffer,
    a: Buffer,
    b: Buffer,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::default());
}

/// The numbers of an activation that a convolution can do itself.
fn fused(act: Act) -> Option<(u8, u32)> {
    match act {
        Act::None => Some((0, 0)),
        Act::Leaky(slope) => Some((1, slope.to_bits())),
        Act::Relu6 => Some((2, 0)),
        Act::Tanh => None,
    }
}

/// Whether [`forward`] and [`Packed`] can do this activation.
pub fn fuses(act: Act) -> bool {
    fused(act).is_some()
}

fn address<T>(values: &[T]) -> Raw {
    values.as_ptr().cast_mut().cast()
}

/// A vector of `len` values that `fill` writes, every one of them.
fn written(len: usize, fill: impl FnOnce(Raw) -> Result<(), String>) -> Result<Vec<f32>, String> {
    let mut values = Vec::with_capacity(len);
    fill(values.spare_capacity_mut().as_mut_ptr().cast())?;
    // SAFETY: the capacity is there, and a dense destination of `len` values has been written whole.
    unsafe { values.set_len(len) };
    Ok(values)
}

fn expect(what: &str, has: usize, wants: usize) -> Result<(), String> {
    match has == wants {
        true => Ok(()),
        false => Err(format!(
            "a convolution's {what} has {has} values, not {wants}"
        )),
    }
}

/// Weights in the library's layouts, packed once for as long as this lives: for one state of the weights, which must
/// neither change nor move meanwhile.
#[derive(Default)]
pub struct Packs(Mutex<HashMap<(usize, Key), Pack>>);

type Pack = Arc<OnceLock<Result<Buffer, String>>>;

impl fmt::Debug for Packs {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Packs")
    }
}

impl Packs {
    /// Where these weights are packed for this primitive. Two threads that ask at once wait for one packing.
    fn get(&self, key: Key, primitive: &Primitive, weights: &[f32]) -> Result<Pack, String> {
        let mut packs = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let pack = packs
            .entry((weights.as_ptr().addr(), key))
            .or_default()
            .clone();
        drop(packs);
        match pack.get_or_init(|| repacked(primitive, weights)) {
            Ok(_) => Ok(pack),
            Err(e) => Err(e.clone()),
        }
    }
}

/// The weights in the primitive's layout: as they are, from `packs`, or repacked into `room`.
fn packed(
    primitive: &Primitive,
    key: Key,
    weights: &[f32],
    packs: Option<&Packs>,
    room: &mut Buffer,
) -> Result<(Raw, Option<Pack>), String> {
    let Some(repack) = &primitive.repack else {
        return Ok((address(weights), None));
    };
    if let Some(packs) = packs {
        let pack = packs.get(key, primitive, weights)?;
        let at = match pack.get() {
            Some(Ok(buffer)) => address(buffer.values::<u8>(0)),
            _ => return Err("weights were not packed".into()),
        };
        return Ok((at, Some(pack)));
    }
    let to = room.reserve(primitive.packed);
    let to = to.as_mut_ptr().cast();
    repack.copy(address(weights), to)?;
    Ok((to, None))
}

/// The values as they are, or in bf16 in `room`.
fn narrowed(values: &[f32], bf16: bool, room: &mut Buffer) -> Raw {
    if !bf16 {
        return address(values);
    }
    room.reserve(2 * values.len());
    let narrow: &mut [u16] = room.values_mut(values.len());
    for (narrow, wide) in narrow.iter_mut().zip(values) {
        *narrow = half::bf16::from_f32(*wide).to_bits();
    }
    address(narrow)
}

/// Convolution, bias, activation: `x` `[n, h, w, inputs]` to `[n, h', w', outputs]`; `weight` in PyTorch's layout.
/// With `bf16` the products are of bf16 numbers, the sums and the result in f32.
///
/// # Errors
/// Why it cannot be done: no library, a shape that it lacks.
pub fn forward(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    shape: Shape,
    act: Act,
    bf16: bool,
    packs: Option<&Packs>,
) -> Result<Vec<f32>, String> {
    let what = What::Forward {
        bias: bias.is_some(),
        sum: false,
        act: fused(act).ok_or("oneDNN: this activation does not go with a convolution")?,
        bf16: false,
    };
    let key = Key { what, shape, bf16 };
    let primitive = library()?.primitive(&key)?;
    expect("picture", x.len(), shape.input_len())?;
    expect("weight", weight.len(), shape.weight_len())?;
    expect(
        "bias",
        bias.map_or(shape.outputs, <[f32]>::len),
        shape.outputs,
    )?;
    SCRATCH.with_borrow_mut(|room| {
        let x = narrowed(x, bf16, &mut room.a);
        let (weight, _kept) = packed(&primitive, key, weight, packs, &mut room.weights)?;
        written(shape.output_len(), |y| {
            let mut args = vec![(Arg::Src, x), (Arg::Weights, weight), (Arg::Dst, y)];
            args.extend(bias.map(|bias| (Arg::Bias, address(bias))));
            primitive.run(&args, &mut room.run)
        })
    })
}

/// Gradient of a convolution with respect to its picture: `grad` `[n, h', w', outputs]` to `[n, h, w, inputs]`.
///
/// # Errors
/// As for [`forward`].
pub fn backward_data(
    grad: &[f32],
    weight: &[f32],
    shape: Shape,
    bf16: bool,
    packs: Option<&Packs>,
) -> Result<Vec<f32>, String> {
    let what = What::BackwardData;
    let key = Key { what, shape, bf16 };
    let primitive = library()?.primitive(&key)?;
    expect("gradient", grad.len(), shape.output_len())?;
    expect("weight", weight.len(), shape.weight_len())?;
    SCRATCH.with_borrow_mut(|room| {
        let grad = narrowed(grad, bf16, &mut room.a);
        let (weight, _kept) = packed(&primitive, key, weight, packs, &mut room.weights)?;
        written(shape.input_len(), |x| {
            let args = [
                (Arg::DiffDst, grad),
                (Arg::Weights, weight),
                (Arg::DiffSrc, x),
            ];
            primitive.run(&args, &mut room.run)
        })
    })
}

/// Gradient of a convolution with respect to its weights, in PyTorch's layout.
///
/// # Errors
/// As for [`forward`].
pub fn backward_weights(
    x: &[f32],
    grad: &[f32],
    shape: Shape,
    bf16: bool,
) -> Result<Vec<f32>, String> {
    let what = What::BackwardWeights;
    let primitive = library()?.primitive(&Key { what, shape, bf16 })?;
    expect("picture", x.len(), shape.input_len())?;
    expect("gradient", grad.len(), shape.output_len())?;
    SCRATCH.with_borrow_mut(|room| {
        let x = narrowed(x, bf16, &mut room.a);
        let grad = narrowed(grad, bf16, &mut room.b);
        written(shape.weight_len(), |weight| {
            let chosen = match &primitive.repack {
                Some(_) => room.weights.reserve(primitive.packed).as_mut_ptr().cast(),
                None => weight,
            };
            let args = [
                (Arg::Src, x),
                (Arg::DiffDst, grad),
                (Arg::DiffWeights, chosen),
            ];
            primitive.run(&args, &mut room.run)?;
            match &primitive.repack {
                Some(back) => back.copy(chosen, weight),
                None => Ok(()),
            }
        })
    })
}

/// A convolution for use again and again: compiled, its weights packed. Shared between workers.
pub struct Packed {
    primitive: Arc<Primitive>,
    /// Source and destination of a run, and their numbers of values.
    src: (Arg, usize),
    dst: (Arg, usize),
    weights: Buffer,
    bias: Option<Vec<f32>>,
}

/// The weights in the primitive's layout.
fn repacked(primitive: &Primitive, weight: &[f32]) -> Result<Buffer, String> {
    let mut weights = Buffer::default();
    match &primitive.repack {
        Some(repack) => {
            let room = weights.reserve(primitive.packed).as_mut_ptr().cast();
            repack.copy(address(weight), room)?;
        }
        None => {
            weights.reserve(size_of_val(weight));
            weights.values_mut(weight.len()).copy_from_slice(weight);
        }
    }
    Ok(weights)
}

/// What a [`Packed`] convolution does beside convolving.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Extras {
    /// Whether the result is added to what stands in the destination.
    pub sum: bool,
    /// What follows.
    pub act: Act,
    /// Whether picture and weights are bf16.
    pub bf16: bool,
    /// Whether the result is bf16.
    pub result_bf16: bool,
}

impl Packed {
    /// Compiles it for this shape and packs the weights (f32, PyTorch's layout).
    ///
    /// # Errors
    /// As for [`forward`].
    pub fn new(
        shape: Shape,
        weight: &[f32],
        bias: Option<Vec<f32>>,
        extras: Extras,
    ) -> Result<Self, String> {
        let what = What::Forward {
            bias: bias.is_some(),
            sum: extras.sum,
            act: fused(extras.act)
                .ok_or("oneDNN: this activation does not go with a convolution")?,
            bf16: extras.result_bf16,
        };
        let bf16 = extras.bf16;
        let primitive = library()?.primitive(&Key { what, shape, bf16 })?;
        expect("weight", weight.len(), shape.weight_len())?;
        expect(
            "bias",
            bias.as_ref().map_or(shape.outputs, Vec::len),
            shape.outputs,
        )?;
        let weights = repacked(&primitive, weight)?;
        let bytes = |narrow| if narrow { 2 } else { 4 };
        Ok(Self {
            primitive,
            src: (Arg::Src, shape.input_len() * bytes(bf16)),
            dst: (Arg::Dst, shape.output_len() * bytes(extras.result_bf16)),
            weights,
            bias,
        })
    }

    /// A transposed convolution: from the output's side of `shape` to the input's. The result is f32.
    ///
    /// # Errors
    /// As for [`forward`].
    pub fn transposed(shape: Shape, weight: &[f32], bf16: bool) -> Result<Self, String> {
        let what = What::BackwardData;
        let primitive = library()?.primitive(&Key { what, shape, bf16 })?;
        expect("weight", weight.len(), shape.weight_len())?;
        let bytes = if bf16 { 2 } else { 4 };
        Ok(Self {
            weights: repacked(&primitive, weight)?,
            primitive,
            src: (Arg::DiffDst, shape.output_len() * bytes),
            dst: (Arg::DiffSrc, shape.input_len() * 4),
            bias: None,
        })
    }

    /// The implementation that the library chose.
    pub fn implementation(&self) -> String {
        self.primitive.name()
    }

    /// Bytes of scratch memory that a run needs.
    pub fn scratch(&self) -> usize {
        self.primitive.scratch
    }
}

/// One worker's use of a [`Packed`] convolution: memory objects made once.
pub struct Call {
    packed: Arc<Packed>,
    src: Memory,
    dst: Memory,
    scratch: Memory,
    weights: Memory,
    bias: Option<Memory>,
}

impl Call {
    /// A worker's own.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(packed: Arc<Packed>) -> Result<Self, String> {
        let primitive = &packed.primitive;
        let weights = address(packed.weights.values::<u8>(0));
        let bias = packed.bias.as_deref().map(address);
        let none = ptr::null_mut();
        Ok(Self {
            src: primitive.memory(packed.src.0, none)?,
            dst: primitive.memory(packed.dst.0, none)?,
            scratch: primitive.memory(Arg::Scratchpad, none)?,
            weights: primitive.memory(Arg::Weights, weights)?,
            bias: bias.map(|b| primitive.memory(Arg::Bias, b)).transpose()?,
            packed,
        })
    }

    /// From the bytes of `src` to those of `dst`; `scratch` as large as [`Packed::scratch`] says.
    ///
    /// # Errors
    /// A defect.
    pub fn run(&mut self, src: &[u8], dst: &mut [u8], scratch: &mut [u8]) -> Result<(), String> {
        expect("picture", src.len(), self.packed.src.1)?;
        expect("result", dst.len(), self.packed.dst.1)?;
        if scratch.len() < self.packed.scratch() {
            return Err("a convolution's scratch memory is too small".into());
        }
        self.src.point(address(src))?;
        self.dst.point(dst.as_mut_ptr().cast())?;
        self.scratch.point(scratch.as_mut_ptr().cast())?;
        let args = [&self.src, &self.dst, &self.scratch, &self.weights].map(Memory::arg);
        match &self.bias {
            None => self.packed.primitive.execute(&args),
            Some(bias) => {
                let [a, b, c, d] = args;
                self.packed.primitive.execute(&[a, b, c, d, bias.arg()])
            }
        }
    }
}
