//! The input side's `unsafe` lines: opening, interrupting, decoding, rescaling.

use ffmpeg_next::{
    self as ffmpeg, Dictionary, Rational, ffi as sys,
    format::context::{Input, StreamIo},
};
use std::{
    ffi::{CStr, CString, c_int, c_short, c_ulong},
    ptr,
};

/// The demuxer called `name`, where this FFmpeg has one.
pub(in crate::media) fn input_format(name: &str) -> Option<ffmpeg::format::format::Input> {
    let name = CString::new(name).ok()?;
    // SAFETY: av_find_input_format reads a NUL-terminated string and returns a static table entry or null.
    let format = unsafe { sys::av_find_input_format(name.as_ptr()) };
    // SAFETY: not null, and FFmpeg's tables live as long as the program; nothing writes through the pointer.
    (!format.is_null()).then(|| unsafe { ffmpeg::format::format::Input::wrap(format.cast_mut()) })
}

/// Whether a demuxer reads its input by other means than one file (image sequences, devices, filter graphs).
pub(in crate::media) fn reads_no_file(format: &ffmpeg::format::format::Input) -> bool {
    // SAFETY: `format` wraps an entry of FFmpeg's static tables.
    unsafe { (*format.as_ptr()).flags & sys::AVFMT_NOFILE != 0 }
}

/// Whether a read of `file` would not wait: there is data, its end, or an error. Waits up to `timeout` ms for that.
pub(in crate::media) fn readable(
    file: std::os::fd::BorrowedFd<'_>,
    timeout: i32,
) -> std::io::Result<bool> {
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
pub(in crate::media) fn open_input(
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

/// Closes an input: its device or connection is free then. What is left of it has no streams.
pub(in crate::media) fn close(input: &mut Input) -> Result<(), ffmpeg::Error> {
    // SAFETY: a fresh context without a demuxer is closed as any other; the wrapper owns it. The old one is closed by its
    // own wrapper, together with its callback.
    unsafe {
        let context = sys::avformat_alloc_context();
        if context.is_null() {
            return Err(ffmpeg::Error::Other {
                errno: ffmpeg::error::ENOMEM,
            });
        }
        drop(std::mem::replace(input, Input::wrap(context)));
    }
    Ok(())
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
pub(in crate::media) fn mend_tags(frame: &mut ffmpeg::frame::Video) {
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
pub(in crate::media) struct Container {
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
pub(in crate::media) fn container(input: &Input) -> Container {
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
pub(in crate::media) fn frame_rate(input: &Input, stream: &ffmpeg::Stream<'_>) -> Option<Rational> {
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
pub(in crate::media) fn sample_aspect(
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
pub(in crate::media) struct StreamShape {
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
pub(in crate::media) fn stream_shape(stream: &ffmpeg::Stream<'_>) -> StreamShape {
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
pub(in crate::media) fn open_decoder(
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
pub(in crate::media) fn template(frame: &ffmpeg::frame::Video) -> ffmpeg::frame::Video {
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
pub(in crate::media) struct Rescaler {
    context: ffmpeg::software::scaling::Context,
}

// SAFETY: a scaling context has no tie to the thread that made it; ffmpeg-next leaves out `Send` because it holds a
// raw pointer. It is used through `&mut` only, so by one thread at a time.
unsafe impl Send for Rescaler {}

impl Rescaler {
    /// From pictures like `from` to pictures like `to`, in size, pixel format, range and matrix.
    pub(in crate::media) fn new(
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
    pub(in crate::media) fn takes(&self, frame: &ffmpeg::frame::Video) -> bool {
        let from = self.context.input();
        (from.format, from.width, from.height) == (frame.format(), frame.width(), frame.height())
    }

    /// A converted copy of `frame` with `like`'s colour tags.
    pub(in crate::media) fn convert(
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
