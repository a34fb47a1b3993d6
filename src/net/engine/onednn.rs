//! oneDNN, loaded at run time: convolutions on the CPU.
//!
//! Its C interface has two dialects, version 2 and version 3; [`Dialect`] holds where they differ. All pictures are
//! dense `[N, H, W, C]`, weights come in PyTorch's layout and are packed into whatever the library likes best.
//!
//! The library runs on the calling thread alone: parallelism is the caller's (frames, or parts of a batch), so that
//! its results do not depend on the number of threads and no second pool of threads spins beside FFmpeg's.
//!
//! With `cudnn.rs` the only place outside `media/ffi` where `unsafe` is allowed: every call crosses into C.
#![allow(unsafe_code)]

use std::{
    cell::RefCell,
    collections::HashMap,
    ffi::{CStr, c_char, c_int, c_uint, c_void},
    fmt,
    mem::size_of_val,
    ptr,
    sync::{Arc, LazyLock, Mutex, OnceLock},
};

use libloading::Library;

use super::buffer::Buffer;
use crate::net::graph::{Act, Window};

/// The environment variable that names the library's file, or is `off`.
pub const VARIABLE: &str = "AUTOCHROME_ONEDNN";

/// Names under which the dynamic linker knows the library, in order of preference.
const NAMES: [&str; 2] = ["libdnnl.so.3", "libdnnl.so.2"];

type Raw = *mut c_void;
type Dims = [i64; 12];
type Status = c_int;

const CPU: c_int = 1;
const IN_ORDER: c_uint = 1;
const TAG_ANY: c_int = 1;
const BF16: c_int = 2;
const F32: c_int = 3;
const SCRATCHPAD_USER: c_int = 1;
const FORWARD_TRAINING: c_int = 64;
const CONVOLUTION_DIRECT: c_int = 1;
const RUNTIME_SEQUENTIAL: c_uint = 1;
const RUNTIME_OPENMP: c_uint = 2;

/// What is asked of a primitive descriptor, beside its arguments.
const IMPLEMENTATION: c_int = 8;

/// An argument of an execution.
#[derive(Clone, Copy)]
enum Arg {
    Src,
    Dst,
    Weights,
    Bias,
    Scratchpad,
    DiffSrc,
    DiffDst,
    DiffWeights,
}

impl Arg {
    /// Its number, and the query and index that give its description.
    fn numbers(self) -> (c_int, c_int, c_int) {
        match self {
            Self::Src => (1, 129, 0),
            Self::Dst => (17, 133, 0),
            Self::Weights => (33, 131, 0),
            Self::Bias => (41, 131, 1),
            Self::Scratchpad => (80, 136, 0),
            Self::DiffSrc => (129, 130, 0),
            Self::DiffDst => (145, 134, 0),
            Self::DiffWeights => (161, 132, 0),
        }
    }
}

#[repr(C)]
struct ExecArg {
    arg: c_int,
    memory: Raw,
}

#[repr(C)]
struct Version {
    major: c_int,
    minor: c_int,
    patch: c_int,
    hash: *const c_char,
    cpu_runtime: c_uint,
}

/// Declares a struct of C functions and its loader.
macro_rules! functions {
    ($(#[$doc:meta])* $table:ident { $($name:ident: $symbol:literal ($($arg:ty),*) $(-> $ret:ty)?;)* }) => {
        $(#[$doc])*
        struct $table { $($name: unsafe extern "C" fn($($arg),*) $(-> $ret)?,)* }
        impl $table {
            fn load(library: &Library) -> Result<Self, String> {
                // SAFETY: the signatures are those of the library's header, of the version that was asked for.
                unsafe {
                    Ok(Self { $($name: *library.get($symbol).map_err(|e| reason(&e))?,)* })
                }
            }
        }
    };
}

functions! {
    /// What both versions have.
    Common {
        engine_create: b"dnnl_engine_create" (*mut Raw, c_int, usize) -> Status;
        stream_create: b"dnnl_stream_create" (*mut Raw, Raw, c_uint) -> Status;
        stream_destroy: b"dnnl_stream_destroy" (Raw) -> Status;
        stream_wait: b"dnnl_stream_wait" (Raw) -> Status;
        attr_create: b"dnnl_primitive_attr_create" (*mut Raw) -> Status;
        attr_destroy: b"dnnl_primitive_attr_destroy" (Raw) -> Status;
        attr_scratchpad: b"dnnl_primitive_attr_set_scratchpad_mode" (Raw, c_int) -> Status;
        attr_post_ops: b"dnnl_primitive_attr_set_post_ops" (Raw, Raw) -> Status;
        post_ops_create: b"dnnl_post_ops_create" (*mut Raw) -> Status;
        post_ops_destroy: b"dnnl_post_ops_destroy" (Raw) -> Status;
        desc_query: b"dnnl_primitive_desc_query" (Raw, c_int, c_int, Raw) -> Status;
        desc_query_md: b"dnnl_primitive_desc_query_md" (Raw, c_int, c_int) -> Raw;
        desc_destroy: b"dnnl_primitive_desc_destroy" (Raw) -> Status;
        primitive_create: b"dnnl_primitive_create" (*mut Raw, Raw) -> Status;
        primitive_destroy: b"dnnl_primitive_destroy" (Raw) -> Status;
        primitive_execute: b"dnnl_primitive_execute" (Raw, Raw, c_int, *const ExecArg) -> Status;
        memory_create: b"dnnl_memory_create" (*mut Raw, Raw, Raw, Raw) -> Status;
        memory_set: b"dnnl_memory_set_data_handle" (Raw, Raw) -> Status;
        memory_destroy: b"dnnl_memory_destroy" (Raw) -> Status;
        md_size: b"dnnl_memory_desc_get_size" (Raw) -> usize;
        md_equal: b"dnnl_memory_desc_equal" (Raw, Raw) -> c_int;
        reorder: b"dnnl_reorder_primitive_desc_create" (*mut Raw, Raw, Raw, Raw, Raw, Raw) -> Status;
    }
}

functions! {
    /// Version 2: descriptors are plain memory that the caller owns, and an operation is described before its
    /// primitive.
    V2 {
        md_strides: b"dnnl_memory_desc_init_by_strides" (Raw, c_int, *const i64, c_int, *const i64) -> Status;
        md_tag: b"dnnl_memory_desc_init_by_tag" (Raw, c_int, *const i64, c_int, c_int) -> Status;
        forward: b"dnnl_convolution_forward_desc_init"
            (Raw, c_int, c_int, Raw, Raw, Raw, Raw, *const i64, *const i64, *const i64) -> Status;
        backward_data: b"dnnl_convolution_backward_data_desc_init"
            (Raw, c_int, Raw, Raw, Raw, *const i64, *const i64, *const i64) -> Status;
        backward_weights: b"dnnl_convolution_backward_weights_desc_init"
            (Raw, c_int, Raw, Raw, Raw, Raw, *const i64, *const i64, *const i64) -> Status;
        desc_create: b"dnnl_primitive_desc_create" (*mut Raw, Raw, Raw, Raw, Raw) -> Status;
        eltwise: b"dnnl_post_ops_append_eltwise" (Raw, f32, c_int, f32, f32) -> Status;
        sum: b"dnnl_post_ops_append_sum" (Raw, f32) -> Status;
    }
}

functions! {
    /// Version 3: descriptors are the library's, and a primitive is described at once.
    V3 {
        md_strides: b"dnnl_memory_desc_create_with_strides" (*mut Raw, c_int, *const i64, c_int, *const i64) -> Status;
        md_tag: b"dnnl_memory_desc_create_with_tag" (*mut Raw, c_int, *const i64, c_int, c_int) -> Status;
        md_destroy: b"dnnl_memory_desc_destroy" (Raw) -> Status;
        forward: b"dnnl_convolution_forward_primitive_desc_create"
            (*mut Raw, Raw, c_int, c_int, Raw, Raw, Raw, Raw, *const i64, *const i64, *const i64, *const i64, Raw)
            -> Status;
        backward_data: b"dnnl_convolution_backward_data_primitive_desc_create"
            (*mut Raw, Raw, c_int, Raw, Raw, Raw, *const i64, *const i64, *const i64, *const i64, Raw, Raw) -> Status;
        backward_weights: b"dnnl_convolution_backward_weights_primitive_desc_create"
            (*mut Raw, Raw, c_int, Raw, Raw, Raw, Raw, *const i64, *const i64, *const i64, *const i64, Raw, Raw)
            -> Status;
        eltwise: b"dnnl_post_ops_append_eltwise" (Raw, c_int, f32, f32) -> Status;
        sum: b"dnnl_post_ops_append_sum" (Raw, f32, i32, c_int) -> Status;
    }
}

enum Dialect {
    V2(V2),
    V3(V3),
}

impl Dialect {
    /// The numbers of ReLU and of clipping among the element-wise algorithms.
    fn eltwise_numbers(&self) -> (c_int, c_int) {
        match self {
            Self::V2(_) => (0x1f, 0xff),
            Self::V3(_) => (0x20, 0x2e),
        }
    }
}

/// The loaded library and its one engine.
struct OneDnn {
    common: Common,
    dialect: Dialect,
    engine: Raw,
    /// Sets the number of OpenMP threads that a parallel region of the calling thread gets.
    set_threads: Option<unsafe extern "C" fn(c_int)>,
    version: String,
    primitives: Mutex<HashMap<Key, Result<Arc<Primitive>, String>>>,
    _library: Library,
}

// SAFETY: the engine is immutable, and the library's functions may be called from any thread.
unsafe impl Send for OneDnn {}
// SAFETY: as above.
unsafe impl Sync for OneDnn {}

static LIBRARY: LazyLock<Result<OneDnn, String>> = LazyLock::new(OneDnn::load);

fn library() -> Result<&'static OneDnn, String> {
    LIBRARY.as_ref().map_err(Clone::clone)
}

/// The library's version.
///
/// # Errors
/// Why there is none, in words for the user.
pub fn version() -> Result<&'static str, String> {
    library().map(|library| library.version.as_str())
}

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

/// What the dynamic linker says; its error alone says only that there is one.
fn reason(e: &libloading::Error) -> String {
    std::error::Error::source(e).map_or_else(|| e.to_string(), ToString::to_string)
}

fn check(status: Status, what: &str) -> Result<(), String> {
    let why = match status {
        0 => return Ok(()),
        1 => "out of memory",
        2 => "invalid arguments",
        3 => "not implemented for this CPU, type or shape",
        _ => "failed",
    };
    Err(format!("oneDNN, {what}: {why} (status {status})"))
}

impl OneDnn {
    fn load() -> Result<Self, String> {
        let asked = std::env::var(VARIABLE).ok();
        match asked.as_deref() {
            Some("off") => Err(format!("{VARIABLE} is off")),
            Some(path) => Self::open(path),
            None => {
                let tried: Vec<_> = NAMES.iter().map(|name| Self::open(name)).collect();
                let mut why = Vec::new();
                for attempt in tried {
                    match attempt {
                        Ok(library) => return Ok(library),
                        Err(e) => why.push(e),
                    }
                }
                Err(why.join("; "))
            }
        }
    }

    fn open(name: &str) -> Result<Self, String> {
        // SAFETY: loading runs the library's initialisers, which set up tables of its own and nothing else.
        let library = unsafe { Library::new(name) }.map_err(|e| reason(&e))?;
        let missing = |e: libloading::Error| format!("{name} is not oneDNN: {}", reason(&e));
        // SAFETY: the signature of both versions; the struct that it gives is static and begins with these fields.
        let version = unsafe {
            let of = library.get::<unsafe extern "C" fn() -> *const Version>(b"dnnl_version");
            &*of.map_err(missing)?()
        };
        let text = format!("{}.{}.{}", version.major, version.minor, version.patch);
        let dialect = match version.major {
            2 => Dialect::V2(V2::load(&library)?),
            3 => Dialect::V3(V3::load(&library)?),
            _ => {
                return Err(format!(
                    "{name} is oneDNN {text}; versions 2 and 3 are known"
                ));
            }
        };
        let set_threads = match version.cpu_runtime {
            RUNTIME_SEQUENTIAL => None,
            // SAFETY: OpenMP's own function with its signature; the library brings its OpenMP runtime.
            RUNTIME_OPENMP => Some(unsafe {
                *library
                    .get::<unsafe extern "C" fn(c_int)>(b"omp_set_num_threads")
                    .map_err(missing)?
            }),
            other => {
                return Err(format!(
                    "{name} is oneDNN {text} built for thread runtime {other}; one built for OpenMP or without threads is needed"
                ));
            }
        };
        let common = Common::load(&library)?;
        let mut engine = ptr::null_mut();
        // SAFETY: writes the engine's handle.
        check(
            unsafe { (common.engine_create)(&mut engine, CPU, 0) },
            "its engine",
        )?;
        Ok(Self {
            common,
            dialect,
            engine,
            set_threads,
            version: text,
            primitives: Mutex::default(),
            _library: library,
        })
    }

    /// A dense description with these sizes and strides.
    fn strided(&self, dims: &[i64], strides: &[i64], kind: c_int) -> Result<Desc<'_>, String> {
        let (mut d, mut s) = (Dims::default(), Dims::default());
        d[..dims.len()].copy_from_slice(dims);
        s[..strides.len()].copy_from_slice(strides);
        let n = dims.len() as c_int;
        let mut desc = Desc::new(self);
        // SAFETY: the arrays hold the library's fixed number of dimensions; the description is written into memory
        // that is larger than it (version 2) or is the library's own (version 3).
        let status = unsafe {
            match &self.dialect {
                Dialect::V2(f) => (f.md_strides)(desc.raw, n, d.as_ptr(), kind, s.as_ptr()),
                Dialect::V3(f) => (f.md_strides)(&mut desc.raw, n, d.as_ptr(), kind, s.as_ptr()),
            }
        };
        check(status, "a memory description").map(|()| desc)
    }

    /// A description whose layout the library chooses.
    fn any(&self, dims: &[i64], kind: c_int) -> Result<Desc<'_>, String> {
        let mut d = Dims::default();
        d[..dims.len()].copy_from_slice(dims);
        let n = dims.len() as c_int;
        let mut desc = Desc::new(self);
        // SAFETY: as for `strided`.
        let status = unsafe {
            match &self.dialect {
                Dialect::V2(f) => (f.md_tag)(desc.raw, n, d.as_ptr(), kind, TAG_ANY),
                Dialect::V3(f) => (f.md_tag)(&mut desc.raw, n, d.as_ptr(), kind, TAG_ANY),
            }
        };
        check(status, "a memory description").map(|()| desc)
    }

    /// The primitive for this key, made once.
    fn primitive(&'static self, key: &Key) -> Result<Arc<Primitive>, String> {
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

/// A memory description, owned.
struct Desc<'a> {
    library: &'a OneDnn,
    raw: Raw,
    /// Version 2's memory for it (696 bytes in 2.6).
    _own: Option<Box<[u64; 512]>>,
}

impl<'a> Desc<'a> {
    fn new(library: &'a OneDnn) -> Self {
        let mut own = match library.dialect {
            Dialect::V2(_) => Some(Box::new([0u64; 512])),
            Dialect::V3(_) => None,
        };
        let raw = own
            .as_mut()
            .map_or(ptr::null_mut(), |own| own.as_mut_ptr().cast());
        Self {
            library,
            raw,
            _own: own,
        }
    }
}

impl Drop for Desc<'_> {
    fn drop(&mut self) {
        if let Dialect::V3(f) = &self.library.dialect {
            // SAFETY: made by the library and destroyed once; null is allowed.
            unsafe { (f.md_destroy)(self.raw) };
        }
    }
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

/// What a primitive computes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum What {
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
struct Key {
    what: What,
    shape: Shape,
    /// Whether picture and weights are bf16.
    bf16: bool,
}

/// A compiled convolution or reorder. Immutable, so that any thread may run it with memory of its own.
struct Primitive {
    library: &'static OneDnn,
    raw: Raw,
    desc: Raw,
    /// Bytes of scratch memory that a run needs.
    scratch: usize,
    /// From PyTorch's layout to the one that the library chose for the weights, or back for their gradient.
    repack: Option<Box<Primitive>>,
    /// Bytes of the weights in the chosen layout.
    packed: usize,
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
    fn convolution(library: &'static OneDnn, key: &Key) -> Result<Self, String> {
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
    fn reorder(library: &'static OneDnn, from: Raw, to: Raw) -> Result<Self, String> {
        let attr = Attr::new(library, &What::BackwardData)?;
        let mut desc = ptr::null_mut();
        let engine = library.engine;
        // SAFETY: descriptions, engine and attributes are alive.
        let status =
            unsafe { (library.common.reorder)(&mut desc, from, engine, to, engine, attr.raw) };
        check(status, "a reorder")?;
        Self::create(library, desc)
    }

    fn create(library: &'static OneDnn, desc: Raw) -> Result<Self, String> {
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
    fn description(&self, arg: Arg) -> Raw {
        let (_, query, index) = arg.numbers();
        // SAFETY: the primitive's description is alive.
        unsafe { (self.library.common.desc_query_md)(self.desc, query, index) }
    }

    /// The implementation's name, such as `brgconv:avx512_core`.
    fn name(&self) -> String {
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
    fn memory(&self, arg: Arg, data: Raw) -> Result<Memory, String> {
        let library = self.library;
        let mut raw = ptr::null_mut();
        let md = self.description(arg);
        // SAFETY: the description is the primitive's own; the data is large enough for it, which the callers check.
        let status = unsafe { (library.common.memory_create)(&mut raw, md, library.engine, data) };
        check(status, "a memory object").map(|()| Memory { library, raw, arg })
    }

    /// Runs with these arguments.
    fn execute(&self, args: &[ExecArg]) -> Result<(), String> {
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
struct Conv {
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
    fn describe(&self, library: &OneDnn, what: &What, attr: &Attr) -> Result<Raw, String> {
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
struct Attr<'a> {
    library: &'a OneDnn,
    raw: Raw,
}

impl<'a> Attr<'a> {
    fn new(library: &'a OneDnn, what: &What) -> Result<Self, String> {
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
    fn append(&self, ops: Raw, sum: bool, act: (u8, u32), bf16: bool) -> Result<(), String> {
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
struct Memory {
    library: &'static OneDnn,
    raw: Raw,
    arg: Arg,
}

// SAFETY: a memory object is used by one thread at a time, through `&mut` of its owner.
unsafe impl Send for Memory {}

impl Memory {
    fn point(&self, data: Raw) -> Result<(), String> {
        // SAFETY: the handle is alive; the data is large enough, which the callers check.
        check(
            unsafe { (self.library.common.memory_set)(self.raw, data) },
            "a memory object",
        )
    }

    fn arg(&self) -> ExecArg {
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
struct Local {
    library: &'static OneDnn,
    stream: Raw,
}

impl Drop for Local {
    fn drop(&mut self) {
        // SAFETY: made by the library and destroyed once.
        unsafe { (self.library.common.stream_destroy)(self.stream) };
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
    static LOCAL: RefCell<Option<Local>> = const { RefCell::new(None) };
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::default());
}

/// Makes parallel regions of this thread one thread wide.
fn one_thread(library: &OneDnn) {
    if let Some(set) = library.set_threads {
        // SAFETY: sets a variable of the calling thread.
        unsafe { set(1) };
    }
}

fn with_local<T>(library: &'static OneDnn, f: impl FnOnce(&mut Local) -> T) -> Result<T, String> {
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

impl Primitive {
    /// Runs a reorder. Both sides must be as large as its descriptions say.
    fn copy(&self, from: Raw, to: Raw) -> Result<(), String> {
        let (from, to) = (self.memory(Arg::Src, from)?, self.memory(Arg::Dst, to)?);
        self.execute(&[from.arg(), to.arg()])
    }

    /// Runs with these arguments and scratch memory of this thread.
    fn run(&self, args: &[(Arg, Raw)], scratch: &mut Buffer) -> Result<(), String> {
        let scratch = scratch.reserve(self.scratch).as_mut_ptr().cast();
        let args = args.iter().copied().chain([(Arg::Scratchpad, scratch)]);
        let memories = args.map(|(arg, data)| self.memory(arg, data));
        let memories: Vec<Memory> = memories.collect::<Result<_, _>>()?;
        let args: Vec<ExecArg> = memories.iter().map(Memory::arg).collect();
        self.execute(&args)
    }
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
