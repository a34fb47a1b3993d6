//! The library: found, its functions by name, its memory descriptions.
//!
//! Its C interface has two dialects, version 2 and version 3; [`Dialect`] holds where they differ.

use std::{
    collections::HashMap,
    ffi::{c_char, c_int, c_uint, c_void},
    ptr,
    sync::{Arc, LazyLock, Mutex},
};

use libloading::Library;

use super::primitive::{Key, Primitive};

/// The environment variable that names the library's file, or is `off`.
pub const VARIABLE: &str = "AUTOCHROME_ONEDNN";

/// Names under which the dynamic linker knows the library, in order of preference.
pub(super) const NAMES: [&str; 2] = ["libdnnl.so.3", "libdnnl.so.2"];

pub(super) type Raw = *mut c_void;
pub(super) type Dims = [i64; 12];
pub(super) type Status = c_int;

pub(super) const CPU: c_int = 1;
pub(super) const IN_ORDER: c_uint = 1;
pub(super) const TAG_ANY: c_int = 1;
pub(super) const BF16: c_int = 2;
pub(super) const F32: c_int = 3;
pub(super) const SCRATCHPAD_USER: c_int = 1;
pub(super) const FORWARD_TRAINING: c_int = 64;
pub(super) const CONVOLUTION_DIRECT: c_int = 1;
pub(super) const RUNTIME_SEQUENTIAL: c_uint = 1;
pub(super) const RUNTIME_OPENMP: c_uint = 2;

/// What is asked of a primitive descriptor, beside its arguments.
pub(super) const IMPLEMENTATION: c_int = 8;

/// An argument of an execution.
#[derive(Clone, Copy)]
pub(super) enum Arg {
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
    pub(super) fn numbers(self) -> (c_int, c_int, c_int) {
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
pub(super) struct ExecArg {
    pub(super) arg: c_int,
    pub(super) memory: Raw,
}

#[repr(C)]
pub(super) struct Version {
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
        pub(super) struct $table { $(pub(super) $name: unsafe extern "C" fn($($arg),*) $(-> $ret)?,)* }
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

pub(super) enum Dialect {
    V2(V2),
    V3(V3),
}

impl Dialect {
    /// The numbers of ReLU and of clipping among the element-wise algorithms.
    pub(super) fn eltwise_numbers(&self) -> (c_int, c_int) {
        match self {
            Self::V2(_) => (0x1f, 0xff),
            Self::V3(_) => (0x20, 0x2e),
        }
    }
}

/// The loaded library and its one engine.
pub(super) struct OneDnn {
    pub(super) common: Common,
    pub(super) dialect: Dialect,
    pub(super) engine: Raw,
    /// Sets the number of OpenMP threads that a parallel region of the calling thread gets.
    pub(super) set_threads: Option<unsafe extern "C" fn(c_int)>,
    pub(super) version: String,
    pub(super) primitives: Mutex<HashMap<Key, Result<Arc<Primitive>, String>>>,
    pub(super) _library: Library,
}

// SAFETY: the engine is immutable, and the library's functions may be called from any thread.
unsafe impl Send for OneDnn {}
// SAFETY: as above.
unsafe impl Sync for OneDnn {}

pub(super) static LIBRARY: LazyLock<Result<OneDnn, String>> = LazyLock::new(OneDnn::load);

pub(super) fn library() -> Result<&'static OneDnn, String> {
    LIBRARY.as_ref().map_err(Clone::clone)
}

/// The library's version.
///
/// # Errors
/// Why there is none, in words for the user.
pub fn version() -> Result<&'static str, String> {
    library().map(|library| library.version.as_str())
}

/// What the dynamic linker says; its error alone says only that there is one.
pub(super) fn reason(e: &libloading::Error) -> String {
    std::error::Error::source(e).map_or_else(|| e.to_string(), ToString::to_string)
}

pub(super) fn check(status: Status, what: &str) -> Result<(), String> {
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
    pub(super) fn load() -> Result<Self, String> {
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

    pub(super) fn open(name: &str) -> Result<Self, String> {
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
    pub(super) fn strided(
        &self,
        dims: &[i64],
        strides: &[i64],
        kind: c_int,
    ) -> Result<Desc<'_>, String> {
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
    pub(super) fn any(&self, dims: &[i64], kind: c_int) -> Result<Desc<'_>, String> {
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
}

/// A memory description, owned.
pub(super) struct Desc<'a> {
    pub(super) library: &'a OneDnn,
    pub(super) raw: Raw,
    /// Version 2's memory for it (696 bytes in 2.6).
    pub(super) _own: Option<Box<[u64; 512]>>,
}

impl<'a> Desc<'a> {
    pub(super) fn new(library: &'a OneDnn) -> Self {
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
