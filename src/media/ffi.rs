//! Every `unsafe` line of the media code: what ffmpeg-next does not offer safely, one small function each, with the
//! reason why it is sound. The output side's are in `ffi/output.rs`.
#![allow(unsafe_code)]

use crate::error::{Error, Result};
use ffmpeg_next::{
    self as ffmpeg, Dictionary, Rational, ffi as sys,
    format::{
        Pixel,
        context::{Input, StreamIo},
    },
    frame,
};
use std::{
    ffi::{CStr, CString, c_int, c_short, c_ulong},
    ptr, slice,
};

// ---- frames and pictures ----

/// Where one component of a pixel format lies (FFmpeg's `AVComponentDescriptor`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Component {
    /// Plane.
    pub plane: usize,
    /// Bytes (bits, in bitstream formats) from one pixel to the next.
    pub step: usize,
    /// Bytes before the first.
    pub offset: usize,
    /// Low bits to be dropped.
    pub shift: u32,
    /// Bits of a value.
    pub depth: u32,
}

/// A pixel format's components and `AV_PIX_FMT_FLAG_*`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Components {
    /// Y, Cb, Cr or R, G, B, then alpha: as many as `count` says.
    pub list: [Component; 4],
    /// How many there are.
    pub count: usize,
    flags: u64,
}

impl Components {
    /// Of a pixel format; `None` for "none" and for formats newer than this FFmpeg.
    pub fn of(pixel: Pixel) -> Option<Self> {
        let descriptor = pixel.descriptor()?;
        // SAFETY: the pointer is into FFmpeg's constant table of formats.
        let d = unsafe { &*descriptor.as_ptr() };
        let list = d.comp.map(|c| Component {
            plane: c.plane as usize,
            step: c.step as usize,
            offset: c.offset as usize,
            shift: c.shift as u32,
            depth: c.depth as u32,
        });
        Some(Self {
            list,
            count: usize::from(d.nb_components),
            flags: d.flags,
        })
    }

    fn has(&self, flag: c_int) -> bool {
        self.flags & flag as u64 != 0
    }
    /// Values are big-endian.
    pub fn big_endian(&self) -> bool {
        self.has(sys::AV_PIX_FMT_FLAG_BE)
    }
    /// R, G, B rather than Y, Cb, Cr.
    pub fn rgb(&self) -> bool {
        self.has(sys::AV_PIX_FMT_FLAG_RGB)
    }
    /// Pixels are indices into a palette.
    pub fn palette(&self) -> bool {
        self.has(sys::AV_PIX_FMT_FLAG_PAL)
    }
    /// Pixels are smaller than bytes.
    pub fn bits(&self) -> bool {
        self.has(sys::AV_PIX_FMT_FLAG_BITSTREAM)
    }
    /// The last component is alpha.
    pub fn alpha(&self) -> bool {
        self.has(sys::AV_PIX_FMT_FLAG_ALPHA)
    }
    /// At least two components lie in planes of their own.
    pub fn planar(&self) -> bool {
        self.has(sys::AV_PIX_FMT_FLAG_PLANAR)
    }
    /// Values are floats.
    pub fn float(&self) -> bool {
        self.has(sys::AV_PIX_FMT_FLAG_FLOAT)
    }
    /// A sensor's mosaic, or a picture that only a device can read.
    pub fn opaque(&self) -> bool {
        self.has(sys::AV_PIX_FMT_FLAG_BAYER) || self.has(sys::AV_PIX_FMT_FLAG_HWACCEL)
    }
}

/// The first `len` bytes of row `y` of a plane; `None` where the frame has no such row or it is shorter.
pub(super) fn row(frame: &frame::Video, plane: usize, y: usize, len: usize) -> Option<&[u8]> {
    // SAFETY: FFmpeg promises that every row of a plane has |linesize| readable bytes from data + y * linesize (which
    // is negative in bottom-up pictures), for as many rows as the frame is high; the frame is borrowed as long as
    // the slice, and nobody writes to a frame once it is a `Picture`.
    unsafe {
        let f = &*frame.as_ptr();
        let (data, stride) = (*f.data.get(plane)?, *f.linesize.get(plane)? as isize);
        if data.is_null() || y >= f.height as usize || len > stride.unsigned_abs() {
            return None;
        }
        Some(slice::from_raw_parts(data.offset(y as isize * stride), len))
    }
}

/// The 256 colours of a palette picture, as native-endian 0xAARRGGBB.
pub(super) fn palette(frame: &frame::Video) -> Option<&[[u8; 4]]> {
    // SAFETY: a palette format's second plane holds AVPALETTE_SIZE (1024) bytes; borrowed as above.
    unsafe {
        let data = (*frame.as_ptr()).data[1];
        (!data.is_null()).then(|| slice::from_raw_parts(data.cast(), 256))
    }
}

/// Writes the 1024 bytes of a palette.
#[cfg(test)]
pub(super) fn write_palette(frame: &mut frame::Video, colours: &[u8]) {
    // SAFETY: as above, and the frame was made by the test.
    unsafe {
        let data = (*frame.as_mut_ptr()).data[1];
        ptr::copy_nonoverlapping(colours.as_ptr(), data, colours.len().min(1024));
    }
}

/// Sets what decoders set.
#[cfg(test)]
pub(super) fn set_aspect_and_field(frame: &mut frame::Video, aspect: (i32, i32), interlaced: bool) {
    // SAFETY: the frame was made by the test.
    unsafe {
        let f = &mut *frame.as_mut_ptr();
        f.sample_aspect_ratio = sys::AVRational {
            num: aspect.0,
            den: aspect.1,
        };
        f.interlaced_frame = interlaced.into();
    }
}

/// A plane's memory, counted by FFmpeg. It can be written while it has one owner.
pub(super) struct Buffer(*mut sys::AVBufferRef);

// SAFETY: FFmpeg's reference counts are atomic, and writing needs `&mut` and a count of one.
unsafe impl Send for Buffer {}

impl Buffer {
    /// Its bytes; empty where others hold it too.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the pointer is a valid reference; a writable buffer has no other owner, and it was cleared when it
        // was allocated, so every byte is initialised.
        unsafe {
            if sys::av_buffer_is_writable(self.0) == 0 {
                return &mut [];
            }
            slice::from_raw_parts_mut((*self.0).data, (*self.0).size)
        }
    }

    /// Its bytes, to read.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: as above; whoever shares the memory only reads it too.
        unsafe { slice::from_raw_parts((*self.0).data, (*self.0).size) }
    }

    /// Another reference to the same memory.
    pub fn share(&self) -> Result<Self> {
        // SAFETY: the pointer is a valid reference.
        Self::owned(unsafe { sys::av_buffer_ref(self.0) })
    }

    fn owned(buffer: *mut sys::AVBufferRef) -> Result<Self> {
        if buffer.is_null() {
            return Err(no_memory());
        }
        Ok(Self(buffer))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: the reference is ours; FFmpeg frees the memory with the last one.
        unsafe { sys::av_buffer_unref(&mut self.0) }
    }
}

/// Planes of one size, used again once every frame that holds one is gone: a new plane from the system costs its
/// page faults, which is more than painting it.
pub(super) struct Pool(*mut sys::AVBufferPool);

// SAFETY: FFmpeg's pools are made for use from several threads.
unsafe impl Send for Pool {}

impl Pool {
    /// Of planes of `size` bytes.
    pub fn new(size: usize) -> Result<Self> {
        // SAFETY: no more than a call; a null pointer is out of memory.
        let pool = unsafe { sys::av_buffer_pool_init(size, Some(sys::av_buffer_allocz)) };
        if pool.is_null() {
            return Err(no_memory());
        }
        Ok(Self(pool))
    }

    /// One plane. Its bytes are whatever was there.
    pub fn get(&self) -> Result<Buffer> {
        // SAFETY: the pool is valid until dropped.
        Buffer::owned(unsafe { sys::av_buffer_pool_get(self.0) })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: the pool is ours; FFmpeg keeps it until the last plane has come back.
        unsafe { sys::av_buffer_pool_uninit(&mut self.0) }
    }
}

fn no_memory() -> Error {
    Error::internal("memory", "FFmpeg could not allocate a plane of a picture")
}

/// Where a plane of a new frame comes from.
pub(super) enum Plane {
    /// The plane of this index of the frame that it is made from, by reference.
    Of(usize),
    /// Our own memory, with its bytes a row.
    New(Buffer, usize),
}

/// A frame of `pixel` with these planes, and the size, timing, side data and aspect ratio of `source`.
pub(super) fn compose(
    source: &frame::Video,
    pixel: Pixel,
    planes: Vec<Plane>,
) -> Result<frame::Video> {
    let mut made = frame::Video::empty();
    made.set_format(pixel);
    made.set_width(source.width());
    made.set_height(source.height());
    for (i, plane) in planes.into_iter().enumerate().take(4) {
        let (buffer, data, stride) = match plane {
            Plane::Of(index) => shared_plane(source, index)?,
            Plane::New(buffer, stride) => {
                // SAFETY: the buffer is valid.
                let data = unsafe { (*buffer.0).data };
                (buffer, data, stride as c_int)
            }
        };
        // SAFETY: the frame is new and ours; it takes over the reference, which it will free, so ours is forgotten.
        unsafe {
            let f = &mut *made.as_mut_ptr();
            (f.buf[i], f.data[i], f.linesize[i]) = (buffer.0, data, stride);
        }
        std::mem::forget(buffer);
    }
    copy_properties(source, &mut made)?;
    Ok(made)
}

/// A reference to the memory of a frame's plane, where it begins, and its bytes a row.
fn shared_plane(source: &frame::Video, index: usize) -> Result<(Buffer, *mut u8, c_int)> {
    // SAFETY: FFmpeg only looks through the frame's buffers (its parameter lost its const in the signature).
    unsafe {
        let f = source.as_ptr();
        let buffer = sys::av_frame_get_plane_buffer(f.cast_mut(), index as c_int);
        if buffer.is_null() {
            let why = "a decoded frame does not count its references";
            return Err(Error::internal("merge", why));
        }
        let buffer = Buffer::owned(sys::av_buffer_ref(buffer))?;
        Ok((buffer, (*f).data[index], (*f).linesize[index]))
    }
}

/// Writes the chroma location tag, for which there is no safe setter.
pub(super) fn set_chroma_location(frame: &mut frame::Video, at: ffmpeg_next::chroma::Location) {
    // SAFETY: the frame is valid and ours.
    unsafe { (*frame.as_mut_ptr()).chroma_location = at.into() }
}

/// One end of a conversion by swscale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ScaleEnd {
    /// Pixel format.
    pub pixel: Pixel,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
    /// Y'CbCr matrix, as FFmpeg's code point.
    pub space: ffmpeg_next::color::Space,
    /// Full range.
    pub full: bool,
}

/// A swscale conversion between two fixed ends.
pub(super) struct Scaler {
    context: *mut sys::SwsContext,
    from: ScaleEnd,
    to: ScaleEnd,
}

// SAFETY: a context has no tie to the thread that made it; `&mut self` keeps its uses apart.
unsafe impl Send for Scaler {}

impl Scaler {
    /// Opens a conversion with exact rounding and full chroma resolution; `None` where swscale cannot do it.
    pub fn new(from: ScaleEnd, to: ScaleEnd) -> Option<Self> {
        let shrinks = to.width < from.width || to.height < from.height;
        let method = if shrinks {
            sys::SWS_AREA
        } else {
            sys::SWS_BICUBIC
        };
        let exact = sys::SWS_ACCURATE_RND
            | sys::SWS_FULL_CHR_H_INT
            | sys::SWS_FULL_CHR_H_INP
            | sys::SWS_BITEXACT;
        // SAFETY: sizes and formats are plain values; a null result is handled; the coefficient tables are FFmpeg's
        // constants.
        unsafe {
            let context = sys::sws_getContext(
                from.width as c_int,
                from.height as c_int,
                from.pixel.into(),
                to.width as c_int,
                to.height as c_int,
                to.pixel.into(),
                method | exact,
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null(),
            );
            if context.is_null() {
                return None;
            }
            let table = |end: ScaleEnd| {
                let space: sys::AVColorSpace = end.space.into();
                sys::sws_getCoefficients(space as c_int)
            };
            // Refused (-1) where neither end is Y'CbCr: then there is nothing to set.
            sys::sws_setColorspaceDetails(
                context,
                table(from),
                from.full.into(),
                table(to),
                to.full.into(),
                0,
                1 << 16,
                1 << 16,
            );
            Some(Self { context, from, to })
        }
    }

    /// Whether this converts between these ends.
    pub fn fits(&self, from: ScaleEnd, to: ScaleEnd) -> bool {
        (self.from, self.to) == (from, to)
    }

    /// Converts `source` into a new frame, without its properties.
    pub fn run(&mut self, source: &frame::Video) -> Result<frame::Video> {
        let matches = source.format() == self.from.pixel
            && (source.width(), source.height()) == (self.from.width, self.from.height);
        let mut made = frame::Video::new(self.to.pixel, self.to.width, self.to.height);
        // SAFETY: the source has the size and format that the context was made for, as has the new frame, which was
        // just allocated (its planes are null where that failed).
        unsafe {
            if !matches || (*made.as_ptr()).data[0].is_null() {
                return Err(Error::internal(
                    "picture",
                    "a conversion got another picture",
                ));
            }
            let (from, to) = (&*source.as_ptr(), &mut *made.as_mut_ptr());
            let rows = sys::sws_scale(
                self.context,
                from.data.as_ptr().cast(),
                from.linesize.as_ptr(),
                0,
                from.height,
                to.data.as_ptr(),
                to.linesize.as_ptr(),
            );
            if rows != to.height {
                return Err(Error::internal("picture", "swscale stopped half way"));
            }
        }
        Ok(made)
    }
}

impl Drop for Scaler {
    fn drop(&mut self) {
        // SAFETY: the context is ours.
        unsafe { sys::sws_freeContext(self.context) }
    }
}

/// Whether swscale can convert into a format.
pub(super) fn can_write(pixel: Pixel) -> bool {
    // SAFETY: looks a plain value up in a table.
    unsafe { sys::sws_isSupportedOutput(pixel.into()) > 0 }
}

/// Copies properties (time, side data, aspect ratio) from one frame to another.
pub(super) fn copy_properties(from: &frame::Video, to: &mut frame::Video) -> Result<()> {
    // SAFETY: both frames are valid; data is not touched.
    let code = unsafe { sys::av_frame_copy_props(to.as_mut_ptr(), from.as_ptr()) };
    if code < 0 {
        return Err(Error::internal("picture", ffmpeg_next::Error::from(code)));
    }
    to.set_kind(ffmpeg_next::picture::Type::None);
    Ok(())
}

// ---- input ----

/// The demuxer called `name`, where this FFmpeg has one.
pub(super) fn input_format(name: &str) -> Option<ffmpeg::format::format::Input> {
    let name = CString::new(name).ok()?;
    // SAFETY: av_find_input_format reads a NUL-terminated string and returns a static table entry or null.
    let format = unsafe { sys::av_find_input_format(name.as_ptr()) };
    // SAFETY: not null, and FFmpeg's tables live as long as the program; nothing writes through the pointer.
    (!format.is_null()).then(|| unsafe { ffmpeg::format::format::Input::wrap(format.cast_mut()) })
}

/// Whether a demuxer reads its input by other means than one file (image sequences, devices, filter graphs).
pub(super) fn reads_no_file(format: &ffmpeg::format::format::Input) -> bool {
    // SAFETY: `format` wraps an entry of FFmpeg's static tables.
    unsafe { (*format.as_ptr()).flags & sys::AVFMT_NOFILE != 0 }
}

/// Whether a read of `file` would not wait: there is data, its end, or an error. Waits up to `timeout` ms for that.
pub(super) fn readable(file: std::os::fd::BorrowedFd<'_>, timeout: i32) -> std::io::Result<bool> {
    use std::os::fd::AsRawFd;
    /// poll(2)'s struct pollfd.
    #[repr(C)]
    struct PollFd {
        fd: c_int,
        events: c_short,
        revents: c_short,
    }
    const POLLIN: c_short = 1;
    // The standard library links libc, and has no poll of its own.
    unsafe extern "C" {
        fn poll(fds: *mut PollFd, count: c_ulong, timeout: c_int) -> c_int;
    }
    let mut fd = PollFd {
        fd: file.as_raw_fd(),
        events: POLLIN,
        revents: 0,
    };
    // SAFETY: one descriptor, borrowed and so open for the length of the call, in a struct laid out as in C.
    match unsafe { poll(&mut fd, 1, timeout) } {
        -1 => match std::io::Error::last_os_error() {
            e if e.kind() == std::io::ErrorKind::Interrupted => Ok(false),
            e => Err(e),
        },
        ready => Ok(ready > 0),
    }
}

/// Opens and probes `url`, or `stream` in its place. Returns the options that neither the demuxer nor its protocol knew.
///
/// ffmpeg-next has no call with a demuxer, options and an interrupt at once, and its own drop the unused options.
pub(super) fn open_input(
    url: &CStr,
    stream: Option<StreamIo>,
    format: Option<&ffmpeg::format::format::Input>,
    options: Dictionary<'_>,
    stop: impl FnMut() -> bool + Send + 'static,
) -> Result<(Input, Dictionary<'static>), ffmpeg::Error> {
    let format = format.map_or(ptr::null(), |f| unsafe {
        // SAFETY: only reads the pointer out of its wrapper.
        f.as_ptr()
    });
    let interrupt = ffmpeg::util::interrupt::new(Box::new(stop));
    // SAFETY: the context is fresh; avformat_open_input frees it (but not a stream of ours) when it fails, and the
    // wrapper owns it from then on. The boxed callback lives in the guard, which the wrapper drops after the context
    // is closed, and a stream in the wrapper likewise. `options` is handed over and what is left is owned again.
    unsafe {
        let mut context = sys::avformat_alloc_context();
        if context.is_null() {
            return Err(ffmpeg::Error::Other {
                errno: ffmpeg::error::ENOMEM,
            });
        }
        (*context).interrupt_callback = interrupt.interrupt;
        let mut stream = stream;
        if let Some(stream) = &mut stream {
            (*context).pb = stream.as_mut_ptr();
            (*context).flags |= sys::AVFMT_FLAG_CUSTOM_IO;
        }
        let mut rest = options.disown();
        let opened = sys::avformat_open_input(&mut context, url.as_ptr(), format, &mut rest);
        let rest = Dictionary::own(rest);
        if opened < 0 {
            return Err(opened.into());
        }
        let guard = interrupt.guard;
        let mut input = match stream {
            Some(io) => Input::wrap_with_custom_io_and_interrupt(context, io, guard),
            None => Input::wrap_with_interrupt(context, guard),
        };
        match sys::avformat_find_stream_info(context, ptr::null_mut()) {
            e if e < 0 => Err(e.into()),
            _ => {
                mend_stream_tags(&mut input);
                Ok((input, rest))
            }
        }
    }
}

/// Names of FFmpeg's colour tags, by number: a damaged file can hold numbers that name nothing, and those must not be
/// looked at as the enums that bindgen makes of the tags.
mod names {
    use std::ffi::{c_char, c_int};
    unsafe extern "C" {
        pub fn av_color_range_name(range: c_int) -> *const c_char;
        pub fn av_color_primaries_name(primaries: c_int) -> *const c_char;
        pub fn av_color_transfer_name(transfer: c_int) -> *const c_char;
        pub fn av_color_space_name(space: c_int) -> *const c_char;
        pub fn av_chroma_location_name(location: c_int) -> *const c_char;
    }
}

/// Makes a tag that names nothing `unspecified`.
///
/// # Safety
/// `tag` points to a C enum; it is read as a number only.
unsafe fn mend<T>(
    tag: *mut T,
    name: unsafe extern "C" fn(c_int) -> *const std::ffi::c_char,
    unspecified: T,
) {
    // SAFETY: as the caller promises; C enums are as large as an int; the functions take any number.
    unsafe {
        if name(tag.cast::<c_int>().read()).is_null() {
            tag.write(unspecified);
        }
    }
}

/// Makes colour tags that name nothing unspecified: decoders of old codecs hand them on from the file unchecked.
pub(super) fn mend_tags(frame: &mut ffmpeg::frame::Video) {
    use sys::{AVChromaLocation::*, AVColorPrimaries::*, AVColorRange::*};
    use sys::{AVColorSpace::*, AVColorTransferCharacteristic::*};
    // SAFETY: fields of an allocated frame that nobody else holds, through raw pointers that do not read them.
    unsafe {
        let f = frame.as_mut_ptr();
        mend(
            &raw mut (*f).color_range,
            names::av_color_range_name,
            AVCOL_RANGE_UNSPECIFIED,
        );
        mend(
            &raw mut (*f).color_primaries,
            names::av_color_primaries_name,
            AVCOL_PRI_UNSPECIFIED,
        );
        mend(
            &raw mut (*f).color_trc,
            names::av_color_transfer_name,
            AVCOL_TRC_UNSPECIFIED,
        );
        mend(
            &raw mut (*f).colorspace,
            names::av_color_space_name,
            AVCOL_SPC_UNSPECIFIED,
        );
        mend(
            &raw mut (*f).chroma_location,
            names::av_chroma_location_name,
            AVCHROMA_LOC_UNSPECIFIED,
        );
    }
}

/// The same for what probing wrote into the streams' parameters.
fn mend_stream_tags(input: &mut Input) {
    use sys::{AVChromaLocation::*, AVColorPrimaries::*, AVColorRange::*};
    use sys::{AVColorSpace::*, AVColorTransferCharacteristic::*};
    // SAFETY: the context is open and ours alone; its streams and their parameters are never null.
    unsafe {
        let context = input.as_mut_ptr();
        for i in 0..(*context).nb_streams as usize {
            let p = (**(*context).streams.add(i)).codecpar;
            mend(
                &raw mut (*p).color_range,
                names::av_color_range_name,
                AVCOL_RANGE_UNSPECIFIED,
            );
            mend(
                &raw mut (*p).color_primaries,
                names::av_color_primaries_name,
                AVCOL_PRI_UNSPECIFIED,
            );
            mend(
                &raw mut (*p).color_trc,
                names::av_color_transfer_name,
                AVCOL_TRC_UNSPECIFIED,
            );
            mend(
                &raw mut (*p).color_space,
                names::av_color_space_name,
                AVCOL_SPC_UNSPECIFIED,
            );
            mend(
                &raw mut (*p).chroma_location,
                names::av_chroma_location_name,
                AVCHROMA_LOC_UNSPECIFIED,
            );
        }
    }
}

/// What a demuxer says of itself and of the whole file.
pub(super) struct Container {
    /// Where the film begins, in AV_TIME_BASE units.
    pub start: Option<i64>,
    /// Its length in the same units.
    pub duration: Option<i64>,
    /// The length is written in the file (not guessed from its size).
    pub duration_is_written: bool,
    /// Each track says where it ends, to the tick (QuickTime, MP4).
    pub tracks_have_ends: bool,
    /// Timestamps may jump in the middle (transport and program streams).
    pub jumps: bool,
    /// The format has timestamps and its input can be read again from the middle.
    pub seekable: bool,
}

/// Reads the demuxer's fields that ffmpeg-next does not show.
pub(super) fn container(input: &Input) -> Container {
    // SAFETY: the context is open, its demuxer is set, and `pb` is null or open as long as the context is.
    unsafe {
        let context = &*input.as_ptr();
        let flags = (*context.iformat).flags;
        let random_access =
            context.pb.is_null() || (*context.pb).seekable & sys::AVIO_SEEKABLE_NORMAL != 0;
        Container {
            start: definite(context.start_time),
            duration: definite(context.duration).filter(|&d| d > 0),
            duration_is_written: context.duration_estimation_method
                == sys::AVDurationEstimationMethod::AVFMT_DURATION_FROM_STREAM,
            tracks_have_ends: CStr::from_ptr((*context.iformat).name)
                .to_bytes()
                .starts_with(b"mov,"),
            jumps: flags & sys::AVFMT_TS_DISCONT != 0,
            seekable: random_access && flags & sys::AVFMT_NOTIMESTAMPS == 0,
        }
    }
}

fn definite(time: i64) -> Option<i64> {
    (time != sys::AV_NOPTS_VALUE).then_some(time)
}

/// FFmpeg's best guess of a stream's frame rate: container, codec and what probing saw.
pub(super) fn frame_rate(input: &Input, stream: &ffmpeg::Stream<'_>) -> Option<Rational> {
    // SAFETY: both pointers are of the same open context, which is only read; a null frame is allowed.
    let rate = unsafe {
        sys::av_guess_frame_rate(
            input.as_ptr().cast_mut(),
            stream.as_ptr().cast_mut(),
            ptr::null_mut(),
        )
    };
    (rate.num > 0 && rate.den > 0).then(|| rate.into())
}

/// Sample aspect ratio of a frame, by its codec or its container.
pub(super) fn sample_aspect(
    input: &Input,
    stream: &ffmpeg::Stream<'_>,
    frame: &ffmpeg::frame::Video,
) -> Option<Rational> {
    // SAFETY: as above; the frame is only read.
    let ratio = unsafe {
        sys::av_guess_sample_aspect_ratio(
            input.as_ptr().cast_mut(),
            stream.as_ptr().cast_mut(),
            frame.as_ptr().cast_mut(),
        )
    };
    (ratio.num > 0 && ratio.den > 0).then(|| ratio.into())
}

/// What a stream's parameters say of its shape, without opening a decoder.
pub(super) struct StreamShape {
    /// Columns of a picture; 0 for other media.
    pub width: i32,
    /// Rows of a picture.
    pub height: i32,
    /// FFmpeg's name of the pixel format.
    pub pixel_format: Option<&'static str>,
    /// FFmpeg's names of matrix and range, where written.
    pub colors: [Option<&'static str>; 2],
    /// Samples of sound a second.
    pub sample_rate: i32,
    /// Channels of sound.
    pub channels: i32,
}

/// Reads a stream's parameters.
pub(super) fn stream_shape(stream: &ffmpeg::Stream<'_>) -> StreamShape {
    // SAFETY: a stream's parameters live as long as its open context; the names are static strings or null.
    unsafe {
        let parameters = &*(*stream.as_ptr()).codecpar;
        let pixel = (parameters.codec_type == sys::AVMediaType::AVMEDIA_TYPE_VIDEO).then(|| {
            sys::av_pix_fmt_desc_get(std::mem::transmute::<i32, sys::AVPixelFormat>(
                parameters.format,
            ))
        });
        StreamShape {
            width: parameters.width,
            height: parameters.height,
            pixel_format: pixel
                .filter(|p| !p.is_null())
                .and_then(|p| CStr::from_ptr((*p).name).to_str().ok()),
            colors: [
                ffmpeg::color::Space::from(parameters.color_space).name(),
                ffmpeg::color::Range::from(parameters.color_range).name(),
            ],
            sample_rate: parameters.sample_rate,
            channels: parameters.ch_layout.nb_channels,
        }
    }
}

/// Opens a decoder with `threads` threads (0: FFmpeg's choice). Returns the options that it did not know.
///
/// ffmpeg-next can only choose one of frame and slice threading, and drops the unused options.
pub(super) fn open_decoder(
    mut context: ffmpeg::codec::decoder::Decoder,
    codec: ffmpeg::Codec,
    threads: usize,
    options: Dictionary<'_>,
) -> Result<(ffmpeg::decoder::Video, Dictionary<'static>), ffmpeg::Error> {
    // SAFETY: the context is ours and not open yet; `options` is handed over and what is left is owned again.
    unsafe {
        (*context.as_mut_ptr()).thread_count = i32::try_from(threads).unwrap_or(0);
        let mut rest = options.disown();
        let opened = sys::avcodec_open2(context.as_mut_ptr(), codec.as_ptr(), &mut rest);
        let rest = Dictionary::own(rest);
        match opened {
            e if e < 0 => Err(e.into()),
            _ => Ok((
                ffmpeg::decoder::Video(ffmpeg::decoder::Opened(context)),
                rest,
            )),
        }
    }
}

/// The shape and the tags of `frame` without its pixels.
pub(super) fn template(frame: &ffmpeg::frame::Video) -> ffmpeg::frame::Video {
    let mut like = ffmpeg::frame::Video::empty();
    like.set_format(frame.format());
    like.set_width(frame.width());
    like.set_height(frame.height());
    like.set_color_space(frame.color_space());
    like.set_color_range(frame.color_range());
    // SAFETY: a plain field of a frame that nobody else holds.
    unsafe { (*like.as_mut_ptr()).sample_aspect_ratio = (*frame.as_ptr()).sample_aspect_ratio };
    like
}

/// Scales and converts pictures to one fixed size and pixel format.
pub(super) struct Rescaler {
    context: ffmpeg::software::scaling::Context,
}

// SAFETY: a scaling context has no tie to the thread that made it; ffmpeg-next leaves out `Send` because it holds a
// raw pointer. It is used through `&mut` only, so by one thread at a time.
unsafe impl Send for Rescaler {}

impl Rescaler {
    /// From pictures like `from` to pictures like `to`, in size, pixel format, range and matrix.
    pub(super) fn new(
        from: &ffmpeg::frame::Video,
        to: &ffmpeg::frame::Video,
    ) -> Result<Self, ffmpeg::Error> {
        use ffmpeg::software::scaling::{Context, Flags};
        let mut context = Context::get(
            from.format(),
            from.width(),
            from.height(),
            to.format(),
            to.width(),
            to.height(),
            Flags::BICUBIC | Flags::ACCURATE_RND | Flags::FULL_CHR_H_INT,
        )?;
        // SAFETY: the context is fresh; the coefficient tables are static. A refusal (formats without a matrix)
        // leaves the defaults, which are right for those.
        unsafe {
            let table = |f: &ffmpeg::frame::Video| {
                sys::sws_getCoefficients((*f.as_ptr()).colorspace as i32)
            };
            let full = |f: &ffmpeg::frame::Video| {
                i32::from((*f.as_ptr()).color_range == sys::AVColorRange::AVCOL_RANGE_JPEG)
            };
            sys::sws_setColorspaceDetails(
                context.as_mut_ptr(),
                table(from),
                full(from),
                table(to),
                full(to),
                0,
                1 << 16,
                1 << 16,
            );
        }
        Ok(Self { context })
    }

    /// Whether this is the converter for pictures like `frame`.
    pub(super) fn takes(&self, frame: &ffmpeg::frame::Video) -> bool {
        let from = self.context.input();
        (from.format, from.width, from.height) == (frame.format(), frame.width(), frame.height())
    }

    /// A converted copy of `frame` with `like`'s colour tags.
    pub(super) fn convert(
        &mut self,
        frame: &ffmpeg::frame::Video,
        like: &ffmpeg::frame::Video,
    ) -> Result<ffmpeg::frame::Video, ffmpeg::Error> {
        let mut to = ffmpeg::frame::Video::empty();
        self.context.run(frame, &mut to)?;
        // SAFETY: both are allocated frames; copy_props copies timestamps, side data and tags, no pixels.
        let copied = unsafe { sys::av_frame_copy_props(to.as_mut_ptr(), frame.as_ptr()) };
        if copied < 0 {
            return Err(copied.into());
        }
        to.set_color_space(like.color_space());
        to.set_color_range(like.color_range());
        // SAFETY: plain field of a frame that nobody else holds: the new pixels have the first picture's aspect.
        unsafe { (*to.as_mut_ptr()).sample_aspect_ratio = (*like.as_ptr()).sample_aspect_ratio };
        Ok(to)
    }
}

// ---- output ----

/// Muxers, encoders and subtitle converters.
pub(super) mod output;
