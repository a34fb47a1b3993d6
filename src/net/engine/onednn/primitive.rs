//! Compiled convolutions and reorders: how each is described, its arguments, its run.

use std::{
    cell::RefCell,
    ffi::{CStr, c_char, c_int},
    ptr,
    sync::Arc,
};

use super::{Shape, library::*};
use crate::net::{engine::buffer::Buffer, graph::Window};

/// What a primitive computes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum What {
    Forward {
        bias: bool,
        /// Whether the result is added to what stands in the destination, before the activation.
        sum: bool,
        /// Number of the activation, and its slope's bits.
        act: (u8, u32),
        /// Whether the destination is bf16.
        bf16: bool,
    },
    BackwardData,
    BackwardWeights,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) what: What,
    pub(super) shape: Shape,
    /// Whether picture and weights are bf16.
    pub(super) bf16: bool,
}

/// A compiled convolution or reorder. Immutable, so that any thread may run it with memory of its own.
pub(super) struct Primitive {
    pub(super) library: &'static OneDnn,
    pub(super) raw: Raw,
    pub(super) desc: Raw,
    /// Bytes of scratch memory that a run needs.
    pub(super) scratch: usize,
    /// From PyTorch's layout to the one that the library chose for the weights, or back for their gradient.
    pub(super) repack: Option<Box<Primitive>>,
    /// Bytes of the weights in the chosen layout.
    pub(super) packed: usize,
}

// SAFETY: executing a primitive does not change it (its scratch memory is given by the caller).
unsafe impl Send for Primitive {}
// SAFETY: as above.
unsafe impl Sync for Primitive {}

impl Drop for Primitive {
    fn drop(&mut self) {
        // SAFETY: both were made by the library and are destroyed once.
        unsafe {
            (self.library.common.primitive_destroy)(self.raw);
            (self.library.common.desc_destroy)(self.desc);
        }
    }
}

impl Primitive {
    pub(super) fn convolution(library: &'static OneDnn, key: &Key) -> Result<Self, String> {
        let Shape {
            n,
            h,
            w,
            inputs,
            outputs,
            window,
            groups,
        } = key.shape;
        key.shape.check()?;
        let int = |v: usize| v as i64;
        let picture = |c: usize, h: usize, w: usize, kind| {
            let strides = [int(h * w * c), 1, int(w * c), int(c)];
            library.strided(&[int(n), int(c), int(h), int(w)], &strides, kind)
        };
        let narrow = if key.bf16 { BF16 } else { F32 };
        let (src_kind, weight_kind, dst_kind) = match key.what {
            What::Forward { bf16, .. } => (narrow, narrow, if bf16 { BF16 } else { F32 }),
            What::BackwardData => (F32, narrow, narrow),
            What::BackwardWeights => (narrow, F32, narrow),
        };
        let src = picture(inputs, h, w, src_kind)?;
        let dst = picture(outputs, window.count(h), window.count(w), dst_kind)?;
        let size = int(window.size);
        let (each_out, each_in) = (int(outputs / groups), int(inputs / groups));
        let all = [int(groups), each_out, each_in, size, size];
        let dims = if groups == 1 { &all[1..] } else { &all[..] };
        let weights = library.any(dims, weight_kind)?;
        let bias = match key.what {
            What::Forward { bias: true, .. } => {
                Some(library.strided(&[int(outputs)], &[1], F32)?)
            }
            _ => None,
        };
        let attr = Attr::new(library, &key.what)?;
        // A gradient is f32 where a forward convolution has bf16.
        let forward = (picture(inputs, h, w, narrow)?, library.any(dims, narrow)?);
        let conv = Conv {
            src: src.raw,
            weights: weights.raw,
            forward: (forward.0.raw, forward.1.raw),
            bias: bias.as_ref().map_or(ptr::null_mut(), |b| b.raw),
            dst: dst.raw,
            window,
        };
        let desc = conv.describe(library, &key.what, &attr)?;
        let mut made = Self::create(library, desc)?;
        let name = made.name();
        if name.starts_with("ref") {
            return Err(format!(
                "oneDNN {} has only a reference implementation ({name}) of {key:?}",
                library.version
            ));
        }
        let weights = match key.what {
            What::BackwardWeights => Arg::DiffWeights,
            _ => Arg::Weights,
        };
        let chosen = made.description(weights);
        // SAFETY: the description belongs to the primitive's, which is alive.
        made.packed = unsafe { (library.common.md_size)(chosen) };
        let mut strides = [1; 5];
        for i in (0..dims.len() - 1).rev() {
            strides[i] = strides[i + 1] * dims[i + 1];
        }
        let plain = library.strided(dims, &strides[..dims.len()], F32)?;
        // SAFETY: two descriptions that are alive.
        let same = unsafe { (library.common.md_equal)(plain.raw, chosen) } != 0;
        if !same {
            let (from, to) = match key.what {
                What::BackwardWeights => (chosen, plain.raw),
                _ => (plain.raw, chosen),
            };
            made.repack = Some(Box::new(Self::reorder(library, from, to)?));
        }
        Ok(made)
    }

    /// Copies from one description to another.
    pub(super) fn reorder(library: &'static OneDnn, from: Raw, to: Raw) -> Result<Self, String> {
        let attr = Attr::new(library, &What::BackwardData)?;
        let mut desc = ptr::null_mut();
        let engine = library.engine;
        // SAFETY: descriptions, engine and attributes are alive.
        let status =
            unsafe { (library.common.reorder)(&mut desc, from, engine, to, engine, attr.raw) };
        check(status, "a reorder")?;
        Self::create(library, desc)
    }

    pub(super) fn create(library: &'static OneDnn, desc: Raw) -> Result<Self, String> {
        let mut raw = ptr::null_mut();
        // SAFETY: writes the primitive's handle; the description is alive.
        let status = unsafe { (library.common.primitive_create)(&mut raw, desc) };
        if let Err(e) = check(status, "a primitive") {
            // SAFETY: made by the library and given to us.
            unsafe { (library.common.desc_destroy)(desc) };
            return Err(e);
        }
        let mut made = Self {
            library,
            raw,
            desc,
            scratch: 0,
            repack: None,
            packed: 0,
        };
        let scratchpad = made.description(Arg::Scratchpad);
        if !scratchpad.is_null() {
            // SAFETY: the description belongs to the primitive's, which is alive.
            made.scratch = unsafe { (library.common.md_size)(scratchpad) };
        }
        Ok(made)
    }

    /// The description of an argument, which lives as long as the primitive.
    pub(super) fn description(&self, arg: Arg) -> Raw {
        let (_, query, index) = arg.numbers();
        // SAFETY: the primitive's description is alive.
        unsafe { (self.library.common.desc_query_md)(self.desc, query, index) }
    }

    /// The implementation's name, such as `brgconv:avx512_core`.
    pub(super) fn name(&self) -> String {
        let mut name: *const c_char = ptr::null();
        let result = (&raw mut name).cast();
        // SAFETY: the query writes a pointer to a string that lives as long as the description.
        unsafe {
            let status = (self.library.common.desc_query)(self.desc, IMPLEMENTATION, 0, result);
            match status == 0 && !name.is_null() {
                true => CStr::from_ptr(name).to_string_lossy().into_owned(),
                false => String::new(),
            }
        }
    }

    /// A memory object for an argument. Its data must be as large as the primitive's shape says.
    pub(super) fn memory(&self, arg: Arg, data: Raw) -> Result<Memory, String> {
        let library = self.library;
        let mut raw = ptr::null_mut();
        let md = self.description(arg);
        // SAFETY: the description is the primitive's own; the data is large enough for it, which the callers check.
        let status = unsafe { (library.common.memory_create)(&mut raw, md, library.engine, data) };
        check(status, "a memory object").map(|()| Memory { library, raw, arg })
    }

    /// Runs with these arguments.
    pub(super) fn execute(&self, args: &[ExecArg]) -> Result<(), String> {
        let run = |local: &mut Local| {
            // SAFETY: the memory objects match the primitive's descriptions, and their data outlives the call, which
            // has ended when `stream_wait` returns.
            unsafe {
                let status = (self.library.common.primitive_execute)(
                    self.raw,
                    local.stream,
                    args.len() as c_int,
                    args.as_ptr(),
                );
                check(status, "running")?;
                check((self.library.common.stream_wait)(local.stream), "running")
            }
        };
        with_local(self.library, run)?
    }
}

/// The three convolutions' common description.
pub(super) struct Conv {
    src: Raw,
    weights: Raw,
    /// Picture and weights of the forward convolution.
    forward: (Raw, Raw),
    bias: Raw,
    dst: Raw,
    window: Window,
}

impl Conv {
    /// The primitive's description. A backward one takes the forward one as a hint.
    pub(super) fn describe(
        &self,
        library: &OneDnn,
        what: &What,
        attr: &Attr,
    ) -> Result<Raw, String> {
        let (stride, before) = (self.window.stride as i64, self.window.pad.0 as i64);
        let (strides, before) = ([stride; 12], [before; 12]);
        let after = [self.window.pad.1 as i64; 12];
        let (s, b, a) = (strides.as_ptr(), before.as_ptr(), after.as_ptr());
        let dilation = Dims::default();
        let d = dilation.as_ptr();
        let direct = CONVOLUTION_DIRECT;
        let engine = library.engine;
        let mut made = ptr::null_mut();
        if let What::Forward { .. } = what {
            // SAFETY: descriptions, attributes and arrays are alive; version 2 writes its operation's description
            // (5,976 bytes in 2.6) into memory that is larger.
            let status = unsafe {
                match &library.dialect {
                    Dialect::V2(f) => {
                        let mut op = Box::new([0u64; 2048]);
                        let op = op.as_mut_ptr().cast();
                        let (x, w, bias, y) = (self.src, self.weights, self.bias, self.dst);
                        let status =
                            (f.forward)(op, FORWARD_TRAINING, direct, x, w, bias, y, s, b, a);
                        check(status, "a convolution")?;
                        (f.desc_create)(&mut made, op, attr.raw, engine, ptr::null_mut())
                    }
                    Dialect::V3(f) => (f.forward)(
                        &mut made,
                        engine,
                        FORWARD_TRAINING,
                        direct,
                        self.src,
                        self.weights,
                        self.bias,
                        self.dst,
                        s,
                        d,
                        b,
                        a,
                        attr.raw,
                    ),
                }
            };
            return check(status, "a convolution").map(|()| made);
        }
        let plain = What::Forward {
            bias: false,
            sum: false,
            act: (0, 0),
            bf16: false,
        };
        let (src, weights) = self.forward;
        let forward = Self {
            src,
            weights,
            ..*self
        };
        let hint = forward.describe(library, &plain, &Attr::new(library, &plain)?)?;
        let none = ptr::null_mut();
        // SAFETY: as above; the hint is destroyed after its last use.
        let status = unsafe {
            let status = match (&library.dialect, what) {
                (Dialect::V2(f), _) => {
                    let mut op = Box::new([0u64; 2048]);
                    let op = op.as_mut_ptr().cast();
                    let (x, w, y) = (self.src, self.weights, self.dst);
                    let status = match what {
                        What::BackwardData => (f.backward_data)(op, direct, x, w, y, s, b, a),
                        _ => (f.backward_weights)(op, direct, x, w, none, y, s, b, a),
                    };
                    match status {
                        0 => (f.desc_create)(&mut made, op, attr.raw, engine, hint),
                        _ => status,
                    }
                }
                (Dialect::V3(f), What::BackwardData) => (f.backward_data)(
                    &mut made,
                    engine,
                    direct,
                    self.src,
                    self.weights,
                    self.dst,
                    s,
                    d,
                    b,
                    a,
                    hint,
                    attr.raw,
                ),
                (Dialect::V3(f), _) => (f.backward_weights)(
                    &mut made,
                    engine,
                    direct,
                    self.src,
                    self.weights,
                    none,
                    self.dst,
                    s,
                    d,
                    b,
                    a,
                    hint,
                    attr.raw,
                ),
            };
            (library.common.desc_destroy)(hint);
            status
        };
        check(status, "a convolution's gradient").map(|()| made)
    }
}

/// Attributes: scratch memory is the caller's; what follows a forward convolution.
pub(super) struct Attr<'a> {
    library: &'a OneDnn,
    raw: Raw,
}

impl<'a> Attr<'a> {
    pub(super) fn new(library: &'a OneDnn, what: &What) -> Result<Self, String> {
        let mut raw = ptr::null_mut();
        let f = &library.common;
        // SAFETY: writes the handle.
        check(unsafe { (f.attr_create)(&mut raw) }, "attributes")?;
        let attr = Self { library, raw };
        // SAFETY: the handle is alive.
        check(
            unsafe { (f.attr_scratchpad)(raw, SCRATCHPAD_USER) },
            "attributes",
        )?;
        if let What::Forward { sum, act, bf16, .. } = what {
            let mut ops = ptr::null_mut();
            // SAFETY: the handles are alive; the operations are copied into the attributes.
            unsafe {
                check((f.post_ops_create)(&mut ops), "post-operations")?;
                let set = library
                    .append(ops, *sum, *act, *bf16)
                    .and_then(|()| check((f.attr_post_ops)(raw, ops), "post-operations"));
                (f.post_ops_destroy)(ops);
                set?;
            }
        }
        Ok(attr)
    }
}

impl Drop for Attr<'_> {
    fn drop(&mut self) {
        // SAFETY: made by the library and destroyed once.
        unsafe { (self.library.common.attr_destroy)(self.raw) };
    }
}

impl OneDnn {
    /// Appends what follows a convolution: a sum with the destination, an activation.
    pub(super) fn append(
        &self,
        ops: Raw,
        sum: bool,
        act: (u8, u32),
        bf16: bool,
    ) -> Result<(), String> {
        let (relu, clip) = self.dialect.eltwise_numbers();
        let slope = f32::from_bits(act.1);
        let eltwise = match act.0 {
            1 => Some((relu, slope, 0.)),
            2 => Some((clip, 0., 6.)),
            _ => None,
        };
        let kind = if bf16 { BF16 } else { F32 };
        // SAFETY: the post-operations are alive; the signatures are the dialect's.
        unsafe {
            if sum {
                let status = match &self.dialect {
                    Dialect::V2(f) => (f.sum)(ops, 1.),
                    Dialect::V3(f) => (f.sum)(ops, 1., 0, kind),
                };
                check(status, "a sum")?;
            }
            if let Some((number, alpha, beta)) = eltwise {
                let status = match &self.dialect {
                    Dialect::V2(f) => (f.eltwise)(ops, 1., number, alpha, beta),
                    Dialect::V3(f) => (f.eltwise)(ops, number, alpha, beta),
                };
                check(status, "an activation")?;
            }
        }
        Ok(())
    }
}

/// A memory object: a description with a pointer.
pub(super) struct Memory {
    pub(super) library: &'static OneDnn,
    pub(super) raw: Raw,
    pub(super) arg: Arg,
}

// SAFETY: a memory object is used by one thread at a time, through `&mut` of its owner.
unsafe impl Send for Memory {}

impl Memory {
    pub(super) fn point(&self, data: Raw) -> Result<(), String> {
        // SAFETY: the handle is alive; the data is large enough, which the callers check.
        check(
            unsafe { (self.library.common.memory_set)(self.raw, data) },
            "a memory object",
        )
    }

    pub(super) fn arg(&self) -> ExecArg {
        ExecArg {
            arg: self.arg.numbers().0,
            memory: self.raw,
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: made by the library and destroyed once.
        unsafe { (self.library.common.memory_destroy)(self.raw) };
    }
}

/// What each thread has for itself: a stream and memory that is used again and again.
pub(super) struct Local {
    library: &'static OneDnn,
    stream: Raw,
}

impl Drop for Local {
    fn drop(&mut self) {
        // SAFETY: made by the library and destroyed once.
        unsafe { (self.library.common.stream_destroy)(self.stream) };
    }
}

thread_local! {
    static LOCAL: RefCell<Option<Local>> = const { RefCell::new(None) };
}

/// Makes parallel regions of this thread one thread wide.
pub(super) fn one_thread(library: &OneDnn) {
    if let Some(set) = library.set_threads {
        // SAFETY: sets a variable of the calling thread.
        unsafe { set(1) };
    }
}

pub(super) fn with_local<T>(
    library: &'static OneDnn,
    f: impl FnOnce(&mut Local) -> T,
) -> Result<T, String> {
    LOCAL.with_borrow_mut(|local| {
        if local.is_none() {
            one_thread(library);
            let mut stream = ptr::null_mut();
            // SAFETY: writes the stream's handle; the engine is alive.
            let status =
                unsafe { (library.common.stream_create)(&mut stream, library.engine, IN_ORDER) };
            check(status, "a stream")?;
            *local = Some(Local { library, stream });
        }
        match local {
            Some(local) => Ok(f(local)),
            None => Err("oneDNN: no stream".into()),
        }
    })
}

impl OneDnn {
    /// The primitive for this key, made once.
    pub(super) fn primitive(&'static self, key: &Key) -> Result<Arc<Primitive>, String> {
        let mut primitives = self.primitives.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(made) = primitives.get(key) {
            return made.clone();
        }
        one_thread(self);
        let made = Primitive::convolution(self, key).map(Arc::new);
        primitives.insert(key.clone(), made.clone());
        made
    }
}

impl Primitive {
    /// Runs a reorder. Both sides must be as large as its descriptions say.
    pub(super) fn copy(&self, from: Raw, to: Raw) -> Result<(), String> {
        let (from, to) = (self.memory(Arg::Src, from)?, self.memory(Arg::Dst, to)?);
        self.execute(&[from.arg(), to.arg()])
    }

    /// Runs with these arguments and scratch memory of this thread.
    pub(super) fn run(&self, args: &[(Arg, Raw)], scratch: &mut Buffer) -> Result<(), String> {
        let scratch = scratch.reserve(self.scratch).as_mut_ptr().cast();
        let args = args.iter().copied().chain([(Arg::Scratchpad, scratch)]);
        let memories = args.map(|(arg, data)| self.memory(arg, data));
        let memories: Vec<Memory> = memories.collect::<Result<_, _>>()?;
        let args: Vec<ExecArg> = memories.iter().map(Memory::arg).collect();
        self.execute(&args)
    }
}
