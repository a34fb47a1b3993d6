//! Convolutions by cuDNN, and uploads through pinned memory: what candle lacks on a CUDA device.
//!
//! Pictures are `[N, H, W, C]`, weights `[O, k, k, I / groups]`, both contiguous: cuDNN's NHWC. Everything runs on the
//! stream of the device that the tensors are of. Algorithms are chosen by cuDNN's heuristics, never by the clock, and
//! only among those that add in a fixed order: the same numbers in every run, so that training resumes exactly.
#![allow(unsafe_code)]

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    ffi::{c_int, c_void},
    mem, panic, ptr,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, ThreadId},
};

use candle_core::{
    CudaDevice, CudaStorage, Device, Layout, Result, Shape, Storage, Tensor,
    backend::{BackendDevice, BackendStorage},
    bail,
    cuda_backend::{
        CudaDType, CudaStorageSlice, DeviceId,
        cudarc::{
            cudnn::{
                result::{self, CudnnError, CudnnResult},
                sys::{
                    self, cudnnConvolutionBwdDataAlgo_t as DataAlgorithm,
                    cudnnConvolutionBwdFilterAlgo_t as WeightsAlgorithm,
                    cudnnConvolutionFwdAlgo_t as ForwardAlgorithm, cudnnConvolutionMode_t as Mode,
                    cudnnDataType_t as DataType, cudnnDeterminism_t as Determinism,
                    cudnnMathType_t as Math, cudnnStatus_t as Status,
                    cudnnTensorFormat_t as Format,
                },
            },
            driver::{
                self, CudaEvent, CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DeviceRepr,
                PinnedHostSlice, sys::CUevent_flags,
            },
        },
    },
    op::BackpropOp,
};

/// A tensor's storage on the device with its layout, as `CustomOp::cuda_fwd` is given it.
pub type Operand<'a> = (&'a CudaStorage, &'a Layout);

/// A convolution of square kernels, the same padding on all four sides. Hashed: algorithms are remembered by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Convolution {
    /// Pictures, N.
    pub n: usize,
    /// Height of the input, H.
    pub h: usize,
    /// Width of the input, W.
    pub w: usize,
    /// Channels of the input, I.
    pub inputs: usize,
    /// Channels of the output, O.
    pub outputs: usize,
    /// Side of the kernels, k.
    pub size: usize,
    /// Step of the kernels.
    pub stride: usize,
    /// Zeros around the input.
    pub pad: usize,
    /// Groups of channels that do not see each other; `inputs` of them are a depthwise convolution.
    pub groups: usize,
}

impl Convolution {
    /// Height and width of the output, H' and W'.
    pub fn output(&self) -> (usize, usize) {
        let side =
            |side: usize| (side + 2 * self.pad).saturating_sub(self.size) / self.stride.max(1) + 1;
        (side(self.h), side(self.w))
    }

    /// `[N, H, W, I]`.
    fn x(&self) -> [usize; 4] {
        [self.n, self.h, self.w, self.inputs]
    }

    /// `[O, k, k, I / groups]`.
    fn weight(&self) -> [usize; 4] {
        let depth = self.inputs / self.groups.max(1);
        [self.outputs, self.size, self.size, depth]
    }

    /// `[N, H', W', O]`.
    fn y(&self) -> [usize; 4] {
        let (h, w) = self.output();
        [self.n, h, w, self.outputs]
    }

    /// Errors where no such convolution exists, or where it is beyond cuDNN's 32-bit sizes.
    fn check(&self) -> Result<()> {
        let grouped = self.groups > 0
            && self.inputs.is_multiple_of(self.groups)
            && self.outputs.is_multiple_of(self.groups);
        let fits = self.size <= self.h.min(self.w) + 2 * self.pad && self.stride > 0;
        if !grouped || !fits {
            bail!("there is no such convolution: {self:?}")
        }
        let count = |shape: [usize; 4]| shape.iter().product::<usize>();
        let counts = [self.x(), self.weight(), self.y()].map(count);
        if counts.iter().any(|n| !(1..=i32::MAX as usize).contains(n)) {
            bail!("nothing to convolve, or too much for cuDNN: {self:?}")
        }
        Ok(())
    }
}

/// Allows the 10-bit mantissas of TF32 in products of f32 from now on, in the whole process; sums stay f32. At first
/// they are not allowed: results are as close to the CPU's as f32 is. bf16 is not affected.
pub fn allow_tf32(allowed: bool) {
    TF32.store(allowed, Ordering::Relaxed);
}

static TF32: AtomicBool = AtomicBool::new(false);

/// `x` `[N, H, W, I]` and `weight` `[O, k, k, I / groups]` to y `[N, H', W', O]`: all f32 or all bf16, contiguous.
///
/// # Errors
/// Other shapes or types, out of device memory, a cuDNN that cannot be loaded or knows no algorithm.
pub fn forward(x: Operand, weight: Operand, c: Convolution) -> Result<CudaStorage> {
    convolve(Operation::Forward, x, weight, c)
}

/// The gradient of y `[N, H', W', O]` and `weight` `[O, k, k, I / groups]` to that of x `[N, H, W, I]`.
///
/// # Errors
/// As [`forward`].
pub fn backward_data(grad: Operand, weight: Operand, c: Convolution) -> Result<CudaStorage> {
    convolve(Operation::Data, grad, weight, c)
}

/// `x` `[N, H, W, I]` and the gradient of y `[N, H', W', O]` to that of the weight `[O, k, k, I / groups]`.
///
/// # Errors
/// As [`forward`].
pub fn backward_weights(x: Operand, grad: Operand, c: Convolution) -> Result<CudaStorage> {
    convolve(Operation::Weights, x, grad, c)
}

/// What is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Operation {
    /// y of x and weight.
    Forward,
    /// The gradient of x, of y's and weight.
    Data,
    /// The gradient of weight, of x and y's.
    Weights,
}

impl Operation {
    /// Shapes of both inputs and of the result.
    fn shapes(self, c: &Convolution) -> [[usize; 4]; 3] {
        match self {
            Self::Forward => [c.x(), c.weight(), c.y()],
            Self::Data => [c.y(), c.weight(), c.x()],
            Self::Weights => [c.x(), c.y(), c.weight()],
        }
    }
}

fn convolve(operation: Operation, a: Operand, b: Operand, c: Convolution) -> Result<CudaStorage> {
    c.check()?;
    let [in_a, in_b, out] = operation.shapes(&c);
    for ((_, layout), shape) in [(a, in_a), (b, in_b)] {
        if layout.dims() != shape || !layout.is_contiguous() {
            bail!("{operation:?} of {c:?} wants {shape:?}, contiguous, not {layout:?}")
        }
    }
    if let Ok(done) = launch(operation, Format::CUDNN_TENSOR_NHWC, a, b, c)? {
        return Ok(done);
    }
    // Groups above all: cuDNN takes more kinds of them where channels are planes. There and back is three copies.
    let planes = |[n, h, w, c]: [usize; 4]| Layout::contiguous((n, c, h, w));
    let (a, b) = (copied(a, [0, 3, 1, 2])?, copied(b, [0, 3, 1, 2])?);
    let (a, b) = ((&a, &planes(in_a)), (&b, &planes(in_b)));
    match launch(operation, Format::CUDNN_TENSOR_NCHW, a, b, c)? {
        Ok(done) => copied((&done, &planes(out)), [0, 2, 3, 1]),
        Err(why) => bail!("cuDNN has no deterministic algorithm for {operation:?} of {c:?}: {why}"),
    }
}

/// The tensor with its dimensions in another order, contiguous.
fn copied((storage, layout): Operand, order: [usize; 4]) -> Result<CudaStorage> {
    let layout = layout.permute(&order)?;
    // SAFETY: the copy below writes every element before anything reads one.
    let mut copy = unsafe {
        storage
            .device()
            .alloc_uninit(layout.shape(), storage.dtype())
    }?;
    storage.copy_strided_src(&mut copy, 0, &layout)?;
    Ok(copy)
}

/// One operation on tensors of this format; the inner error where cuDNN has no algorithm for it.
fn launch(
    operation: Operation,
    format: Format,
    (a, a_layout): Operand,
    (b, b_layout): Operand,
    convolution: Convolution,
) -> Result<CudnnResult<CudaStorage>> {
    let key = |data_type| Key {
        operation,
        format,
        convolution,
        data_type,
        tf32: TF32.load(Ordering::Relaxed),
    };
    let (from_a, from_b) = (a_layout.start_offset(), b_layout.start_offset());
    match (&a.slice, &b.slice) {
        (CudaStorageSlice::F32(x), CudaStorageSlice::F32(y)) => {
            let key = key(DataType::CUDNN_DATA_FLOAT);
            launch_typed(key, a.device(), (x, from_a), (y, from_b))
        }
        (CudaStorageSlice::BF16(x), CudaStorageSlice::BF16(y)) => {
            let key = key(DataType::CUDNN_DATA_BFLOAT16);
            launch_typed(key, a.device(), (x, from_a), (y, from_b))
        }
        _ => bail!(
            "convolutions are of f32 or of bf16, not of {:?} and {:?}",
            a.dtype(),
            b.dtype()
        ),
    }
}

/// The same for a Rust type, which is that of the key; each tensor with the place of its first element.
fn launch_typed<T: CudaDType + DeviceRepr>(
    key: Key,
    device: &CudaDevice,
    (a, from_a): (&CudaSlice<T>, usize),
    (b, from_b): (&CudaSlice<T>, usize),
) -> Result<CudnnResult<CudaStorage>> {
    let count = |shape: [usize; 4]| shape.iter().product::<usize>();
    let [in_a, in_b, out] = key.operation.shapes(&key.convolution).map(count);
    let (Some(a), Some(b)) = (
        a.try_slice(from_a..from_a + in_a),
        b.try_slice(from_b..from_b + in_b),
    ) else {
        bail!("a tensor is shorter than its layout says, for {key:?}")
    };
    let engine = Engine::of(device)?;
    let stream = device.cuda_stream();
    // SAFETY: cuDNN writes every element without reading it, or the slice is dropped.
    let mut result = unsafe { device.alloc::<T>(out) }?;
    let done = {
        let (a, _read_a) = a.device_ptr(&stream);
        let (b, _read_b) = b.device_ptr(&stream);
        let (out, _written) = result.device_ptr_mut(&stream);
        // SAFETY: three tensors of the key's type and shapes on the engine's device, borrowed until the work is
        // queued; whatever is done with them later, freeing too, is queued behind it.
        unsafe { locked(&engine).run(key, [a as _, b as _], out as _) }?
    };
    Ok(done.map(|()| CudaStorage::wrap_cuda_slice(result, device.clone())))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// What an algorithm is chosen for, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    operation: Operation,
    format: Format,
    convolution: Convolution,
    data_type: DataType,
    tf32: bool,
}

impl Key {
    /// The arithmetic that is allowed. Left to itself, cuDNN takes TF32 for f32; only FMA is f32 all through.
    fn math(&self) -> Math {
        match (self.data_type, self.tf32) {
            (DataType::CUDNN_DATA_FLOAT, false) => Math::CUDNN_FMA_MATH,
            (DataType::CUDNN_DATA_FLOAT, true) => Math::CUDNN_DEFAULT_MATH,
            _ => Math::CUDNN_TENSOR_OP_MATH,
        }
    }

    /// The error, named. Some of cuDNN's are out of memory in other words.
    fn failed(&self, why: CudnnError) -> candle_core::Error {
        let memory = match why.to_string().contains("ALLOC") {
            true => ", out of memory",
            false => "",
        };
        candle_core::Error::msg(format!("cuDNN: {why}{memory}, for {self:?}"))
    }
}

/// cuDNN on one device, and what was chosen there so far.
struct Engine {
    bench: Bench,
    /// An error: there is no algorithm.
    plans: HashMap<Key, CudnnResult<Plan>>,
}

/// What work is queued with.
struct Bench {
    handle: sys::cudnnHandle_t,
    stream: Arc<CudaStream>,
    /// What algorithms work in, one after the other.
    workspace: Option<CudaSlice<u8>>,
}

// SAFETY: cuDNN's handles and descriptors may go from thread to thread while one at a time uses them; every engine is
// behind a lock of its own.
unsafe impl Send for Engine {}

type Engines = HashMap<(DeviceId, Option<ThreadId>), Arc<Mutex<Engine>>>;

/// Kept to the end of the process.
static ENGINES: LazyLock<Mutex<Engines>> = LazyLock::new(Mutex::default);

impl Engine {
    /// The engine of a device, and the device ready for this thread.
    fn of(device: &CudaDevice) -> Result<Arc<Mutex<Self>>> {
        /// What `Device::new_cuda` gives: one name for as many streams as there are threads, so that the threads must
        /// not share a workspace.
        const CU_STREAM_PER_THREAD: usize = 2;
        let stream = device.cuda_stream();
        stream.context().bind_to_thread()?;
        let per_thread = stream.cu_stream() as usize == CU_STREAM_PER_THREAD;
        let thread = per_thread.then(|| thread::current().id());
        match locked(&ENGINES).entry((device.id(), thread)) {
            Entry::Occupied(engine) => Ok(Arc::clone(engine.get())),
            Entry::Vacant(place) => {
                let engine = Arc::new(Mutex::new(Self::new(stream)?));
                Ok(Arc::clone(place.insert(engine)))
            }
        }
    }

    fn new(stream: Arc<CudaStream>) -> Result<Self> {
        // Where the library is looked for at run time, cudarc panics if it is not there.
        let Ok(handle) = panic::catch_unwind(result::create_handle) else {
            bail!("the cuDNN library cannot be loaded")
        };
        let handle = handle?;
        // SAFETY: both are valid, and the engine keeps the stream.
        unsafe { result::set_stream(handle, stream.cu_stream().cast()) }?;
        Ok(Self {
            bench: Bench {
                handle,
                stream,
                workspace: None,
            },
            plans: HashMap::new(),
        })
    }

    /// Queues the operation; the inner error where cuDNN has no algorithm for it.
    ///
    /// # Safety
    /// `inputs` and `output` are device memory of the key's type and shapes. Until the work on the stream is done
    /// nothing else writes or frees them, or reads the output.
    unsafe fn run(
        &mut self,
        key: Key,
        inputs: [*const c_void; 2],
        output: *mut c_void,
    ) -> Result<CudnnResult<()>> {
        let Self { bench, plans } = self;
        match plans.get(&key) {
            Some(Err(why)) => return Ok(Err(*why)),
            Some(Ok(Plan(tensors, choice))) => {
                // SAFETY: promised by the caller; the plan was made for this key.
                let queued = unsafe { bench.queue(tensors, choice, inputs, output) }?;
                return queued.map(Ok).map_err(|why| key.failed(why));
            }
            None => {}
        }
        let tensors = Descriptors::new(&key).map_err(|why| key.failed(why))?;
        let choices = tensors.choices(bench.handle, &key);
        let mut refusal = CudnnError(Status::CUDNN_STATUS_NOT_SUPPORTED);
        // The first that works. It would be the first in every other run too.
        for choice in choices.map_err(|why| key.failed(why))? {
            // SAFETY: the descriptor is ours and valid.
            let set =
                unsafe { result::set_convolution_math_type(tensors.convolution.0, choice.math) };
            set.map_err(|why| key.failed(why))?;
            // SAFETY: promised by the caller; the descriptors were made for this key.
            match unsafe { bench.queue(&tensors, &choice, inputs, output) }? {
                Ok(()) => {
                    plans.insert(key, Ok(Plan(tensors, choice)));
                    return Ok(Ok(()));
                }
                Err(why) if is_refusal(why) => refusal = why,
                Err(why) => return Err(key.failed(why)),
            }
        }
        plans.insert(key, Err(refusal));
        Ok(Err(refusal))
    }
}

/// Whether cuDNN merely cannot do it this way, whichever of its words it has for that: not a library that is missing
/// in part, nor a lack of memory, nor a device that has failed.
fn is_refusal(why: CudnnError) -> bool {
    let why = why.to_string();
    let words = ["NOT_SUPPORTED", "BAD_PARAM", "INTERNAL_ERROR"];
    words.iter().any(|word| why.contains(word)) && !why.contains("ALLOC")
}

impl Bench {
    /// Queues an operation. The inner error is cuDNN's, and then nothing is queued.
    ///
    /// # Safety
    /// As [`Engine::run`], for tensors as described.
    unsafe fn queue(
        &mut self,
        tensors: &Descriptors,
        choice: &Choice,
        [a, b]: [*const c_void; 2],
        output: *mut c_void,
    ) -> Result<CudnnResult<()>> {
        if self.workspace.as_ref().map_or(0, CudaSlice::len) < choice.workspace {
            // The old one first, or there must be memory for both. The stream frees it when its last user is done.
            self.workspace = None;
            // SAFETY: only cuDNN reads it, what it has written there itself.
            self.workspace = Some(unsafe { self.stream.alloc(choice.workspace) }?);
        }
        let (workspace, _used) = self
            .workspace
            .as_mut()
            .map(|memory| memory.device_ptr_mut(&self.stream))
            .unzip();
        let workspace = workspace.map_or(ptr::null_mut(), |at| at as *mut c_void);
        let Descriptors {
            x,
            weight,
            y,
            convolution,
        } = tensors;
        let (handle, size) = (self.handle, choice.workspace);
        let (one, none) = (ptr::from_ref(&1f32).cast(), ptr::from_ref(&0f32).cast());
        // SAFETY: handle and descriptors are alive, the workspace is as large as cuDNN has asked for and used by this
        // stream only, the factors are f32 as cuDNN wants them for f32 and bf16; the rest is promised by the caller.
        let queued = unsafe {
            match choice.algorithm {
                Algorithm::Forward(algorithm) => result::convolution_forward(
                    handle,
                    one,
                    x.0,
                    a,
                    weight.0,
                    b,
                    convolution.0,
                    algorithm,
                    workspace,
                    size,
                    none,
                    y.0,
                    output,
                ),
                Algorithm::Data(algorithm) => result::convolution_backward_data(
                    handle,
                    one,
                    weight.0,
                    b,
                    y.0,
                    a,
                    convolution.0,
                    algorithm,
                    workspace,
                    size,
                    none,
                    x.0,
                    output,
                ),
                Algorithm::Weights(algorithm) => result::convolution_backward_filter(
                    handle,
                    one,
                    x.0,
                    a,
                    y.0,
                    b,
                    convolution.0,
                    algorithm,
                    workspace,
                    size,
                    none,
                    weight.0,
                    output,
                ),
            }
        };
        Ok(queued)
    }
}

/// What was chosen for a key. The math type is set in the descriptors.
struct Plan(Descriptors, Choice);

struct Choice {
    algorithm: Algorithm,
    math: Math,
    /// Bytes.
    workspace: usize,
}

#[derive(Clone, Copy)]
enum Algorithm {
    Forward(ForwardAlgorithm),
    Data(DataAlgorithm),
    Weights(WeightsAlgorithm),
}

macro_rules! descriptor {
    ($name:ident, $raw:ident, $create:ident, $destroy:ident) => {
        struct $name(sys::$raw);

        impl $name {
            fn new() -> CudnnResult<Self> {
                result::$create().map(Self)
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: made above, and nobody has it any more.
                let _ = unsafe { result::$destroy(self.0) };
            }
        }
    };
}

descriptor!(
    TensorDescriptor,
    cudnnTensorDescriptor_t,
    create_tensor_descriptor,
    destroy_tensor_descriptor
);
descriptor!(
    FilterDescriptor,
    cudnnFilterDescriptor_t,
    create_filter_descriptor,
    destroy_filter_descriptor
);
descriptor!(
    ConvolutionDescriptor,
    cudnnConvolutionDescriptor_t,
    create_convolution_descriptor,
    destroy_convolution_descriptor
);

/// What cuDNN is told of a convolution; gradients are described as what they are gradients of.
struct Descriptors {
    x: TensorDescriptor,
    weight: FilterDescriptor,
    y: TensorDescriptor,
    convolution: ConvolutionDescriptor,
}

impl Descriptors {
    /// Workspaces up to this size are taken for speed; larger ones only where nothing else works.
    const MODEST: usize = 1 << 30;

    fn new(key: &Key) -> CudnnResult<Self> {
        let tensors = Self {
            x: TensorDescriptor::new()?,
            weight: FilterDescriptor::new()?,
            y: TensorDescriptor::new()?,
            convolution: ConvolutionDescriptor::new()?,
        };
        let (c, data_type, format) = (&key.convolution, key.data_type, key.format);
        // Whatever the format, cuDNN is told channels before height and width.
        let dims = |[n, h, w, c]: [usize; 4]| [n, c, h, w].map(|side| side as c_int);
        let [pad, stride, groups] = [c.pad, c.stride, c.groups].map(|v| v as c_int);
        // SAFETY: the descriptors are alive. A weight's C is that of one group.
        unsafe {
            result::set_tensor4d_descriptor(tensors.x.0, format, data_type, dims(c.x()))?;
            result::set_filter4d_descriptor(tensors.weight.0, data_type, format, dims(c.weight()))?;
            result::set_tensor4d_descriptor(tensors.y.0, format, data_type, dims(c.y()))?;
            result::set_convolution2d_descriptor(
                tensors.convolution.0,
                pad,
                pad,
                stride,
                stride,
                1,
                1,
                Mode::CUDNN_CROSS_CORRELATION,
                // Sums are f32, of bf16 too.
                DataType::CUDNN_DATA_FLOAT,
            )?;
            result::set_convolution_group_count(tensors.convolution.0, groups)?;
            result::set_convolution_math_type(tensors.convolution.0, key.math())?;
        }
        Ok(tensors)
    }

    /// Deterministic ways to do it, the one to try first first. The math type that is set changes.
    fn choices(&self, handle: sys::cudnnHandle_t, key: &Key) -> CudnnResult<Vec<Choice>> {
        let mut choices = Vec::new();
        let documented = documented(key.operation).map(|algorithm| (algorithm, key.math()));
        for (algorithm, math) in self
            .listed(handle, key.operation)
            .into_iter()
            .chain(documented)
        {
            let math = match (key.math(), math) {
                // Nothing that the heuristics say may loosen this.
                (Math::CUDNN_FMA_MATH, _) => Math::CUDNN_FMA_MATH,
                (_, Math::CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION) => continue,
                (_, math) => math,
            };
            match self.workspace(handle, algorithm, math) {
                Ok(workspace) => choices.push(Choice {
                    algorithm,
                    math,
                    workspace,
                }),
                Err(why) if is_refusal(why) => {}
                Err(why) => return Err(why),
            }
        }
        // Stable: otherwise cuDNN's order, the fastest first.
        choices.sort_by_key(|choice| choice.workspace > Self::MODEST);
        Ok(choices)
    }

    /// The deterministic algorithms that cuDNN's heuristics name, in their order.
    fn listed(&self, handle: sys::cudnnHandle_t, operation: Operation) -> Vec<(Algorithm, Math)> {
        macro_rules! listed {
            ($get:ident, $first:ident, $second:ident, $third:ident, $algorithm:path) => {{
                const MOST: usize = 24;
                // SAFETY: numbers, and enums that have a zero.
                let mut found = [unsafe { mem::zeroed() }; MOST];
                let mut count: c_int = 0;
                // SAFETY: handle and descriptors are alive; there is room for as many as are asked for.
                let got = unsafe {
                    result::$get(
                        handle,
                        self.$first.0,
                        self.$second.0,
                        self.convolution.0,
                        self.$third.0,
                        MOST as c_int,
                        &mut count,
                        found.as_mut_ptr(),
                    )
                };
                // Without advice there are still those that are documented.
                let count = got.map_or(0, |()| count as usize);
                let deterministic = found.iter().take(count).filter(|one| {
                    one.status == Status::CUDNN_STATUS_SUCCESS
                        && one.determinism == Determinism::CUDNN_DETERMINISTIC
                });
                deterministic
                    .map(|one| ($algorithm(one.algo), one.mathType))
                    .collect()
            }};
        }
        match operation {
            Operation::Forward => listed!(
                get_convolution_forward_algorithm,
                x,
                weight,
                y,
                Algorithm::Forward
            ),
            Operation::Data => listed!(
                get_convolution_backward_data_algorithm,
                weight,
                y,
                x,
                Algorithm::Data
            ),
            Operation::Weights => listed!(
                get_convolution_backward_filter_algorithm,
                x,
                y,
                weight,
                Algorithm::Weights
            ),
        }
    }

    /// Bytes that the algorithm wants to work in; an error where it cannot do it. Sets the math type.
    fn workspace(
        &self,
        handle: sys::cudnnHandle_t,
        algorithm: Algorithm,
        math: Math,
    ) -> CudnnResult<usize> {
        let (x, weight, y, c) = (self.x.0, self.weight.0, self.y.0, self.convolution.0);
        // SAFETY: handle and descriptors are alive.
        unsafe {
            result::set_convolution_math_type(c, math)?;
            match algorithm {
                Algorithm::Forward(algorithm) => result::get_convolution_forward_workspace_size(
                    handle, x, weight, c, y, algorithm,
                ),
                Algorithm::Data(algorithm) => result::get_convolution_backward_data_workspace_size(
                    handle, weight, y, c, x, algorithm,
                ),
                Algorithm::Weights(algorithm) => {
                    result::get_convolution_backward_filter_workspace_size(
                        handle, x, y, c, weight, algorithm,
                    )
                }
            }
        }
    }
}

/// The algorithms that cuDNN documents as deterministic and the most general, should its heuristics name none.
fn documented(operation: Operation) -> impl Iterator<Item = Algorithm> {
    let algorithms: &[_] = match operation {
        Operation::Forward => &[
            Algorithm::Forward(ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM),
            Algorithm::Forward(ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM),
        ],
        Operation::Data => &[Algorithm::Data(
            DataAlgorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1,
        )],
        Operation::Weights => &[Algorithm::Weights(
            WeightsAlgorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1,
        )],
    };
    algorithms.iter().copied()
}

/// `values`, row by row, as a tensor of f32. On a CUDA device the copy is queued, not waited for: `values` may be
/// changed at once, and the tensor be used at once, as any other.
///
/// # Errors
/// Not as many values as `shape` has; out of memory.
pub fn upload(values: &[f32], shape: impl Into<Shape>, device: &Device) -> Result<Tensor> {
    let shape = shape.into();
    let Device::Cuda(cuda) = device else {
        return Tensor::from_slice(values, shape, device);
    };
    if values.is_empty() || shape.elem_count() != values.len() {
        // Nothing to copy, or candle's own error.
        return Tensor::from_slice(values, shape, device);
    }
    let stream = cuda.cuda_stream();
    let mut staging = Staging::take(cuda, values.len())?;
    staging.memory.as_mut_slice()?[..values.len()].copy_from_slice(values);
    // SAFETY: the copy below writes every element, queued before anything that reads one.
    let mut copy = unsafe { cuda.alloc::<f32>(values.len()) }?;
    {
        let (to, _written) = copy.device_ptr_mut(&stream);
        let from = &staging.memory.as_slice()?[..values.len()];
        // SAFETY: as many f32 on both sides. The pinned memory is neither written nor freed before `copied` is past.
        let queued = unsafe { driver::result::memcpy_htod_async(to, from, stream.cu_stream()) };
        queued?;
        // cudarc's own mark of the last use is made only for devices with several streams.
        if let Err(why) = staging.copied.record(&stream) {
            stream.synchronize()?;
            return Err(why.into());
        }
    }
    locked(&STAGING)
        .entry(cuda.id())
        .or_default()
        .push_back(staging);
    let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(copy, cuda.clone()));
    Ok(Tensor::from_storage(
        storage,
        shape,
        BackpropOp::none(),
        false,
    ))
}

/// Pinned memory, the only kind that the device fetches from on its own.
struct Staging {
    memory: PinnedHostSlice<f32>,
    /// Past when the last copy from it is done.
    copied: CudaEvent,
}

/// Those not in use, the longest unused first. Kept to the end of the process.
static STAGING: LazyLock<Mutex<HashMap<DeviceId, VecDeque<Staging>>>> =
    LazyLock::new(Mutex::default);

impl Staging {
    /// Kept for each device: as many uploads can be under way before one waits for the device.
    const SPARE: usize = 4;

    /// Room for `count` values that the device does not read from any more.
    fn take(device: &CudaDevice, count: usize) -> Result<Self> {
        let oldest = {
            let mut spare = locked(&STAGING);
            let spare = spare.entry(device.id()).or_default();
            (spare.len() >= Self::SPARE)
                .then(|| spare.pop_front())
                .flatten()
        };
        if let Some(oldest) = oldest {
            oldest.copied.synchronize()?;
            if oldest.memory.len() >= count {
                return Ok(oldest);
            }
        }
        let stream = device.cuda_stream();
        let context = stream.context();
        // SAFETY: any bits are an f32, and they are written before the device reads them.
        let memory = unsafe { context.alloc_pinned(count) }?;
        let copied = context.new_event(Some(CUevent_flags::CU_EVENT_BLOCKING_SYNC))?;
        Ok(Self { memory, copied })
    }
}
