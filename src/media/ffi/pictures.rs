//! The `unsafe` lines of frames and pictures: planes by reference, pixel formats, scaling.

use crate::error::{Error, Result};
use ffmpeg_next::{ffi as sys, format::Pixel, frame};
use std::{ffi::c_int, ptr, slice};

/// Where one component of a pixel format lies (FFmpeg's `AVComponentDescriptor`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::media) struct Component {
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
pub(in crate::media) struct Components {
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
pub(in crate::media) fn row(
    frame: &frame::Video,
    plane: usize,
    y: usize,
    len: usize,
) -> Option<&[u8]> {
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
pub(in crate::media) fn palette(frame: &frame::Video) -> Option<&[[u8; 4]]> {
    // SAFETY: a palette format's second plane holds AVPALETTE_SIZE (1024) bytes; borrowed as above.
    unsafe {
        let data = (*frame.as_ptr()).data[1];
        (!data.is_null()).then(|| slice::from_raw_parts(data.cast(), 256))
    }
}

/// Writes the 1024 bytes of a palette.
#[cfg(test)]
pub(in crate::media) fn write_palette(frame: &mut frame::Video, colours: &[u8]) {
    // SAFETY: as above, and the frame was made by the test.
    unsafe {
        let data = (*frame.as_mut_ptr()).data[1];
        ptr::copy_nonoverlapping(colours.as_ptr(), data, colours.len().min(1024));
    }
}

/// Sets what decoders set.
#[cfg(test)]
pub(in crate::media) fn set_aspect_and_field(
    frame: &mut frame::Video,
    aspect: (i32, i32),
    interlaced: bool,
) {
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
pub(in crate::media) struct Buffer(*mut sys::AVBufferRef);

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
pub(in crate::media) struct Pool(*mut sys::AVBufferPool);

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
pub(in crate::media) enum Plane {
    /// The plane of this index of the frame that it is made from, by reference.
    Of(usize),
    /// Our own memory, with its bytes a row.
    New(Buffer, usize),
}

/// A frame of `pixel` with these planes, and the size, timing, side data and aspect ratio of `source`.
pub(in crate::media) fn compose(
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
pub(in crate::media) fn set_chroma_location(
    frame: &mut frame::Video,
    at: ffmpeg_next::chroma::Location,
) {
    // SAFETY: the frame is valid and ours.
    unsafe { (*frame.as_mut_ptr()).chroma_location = at.into() }
}

/// One end of a conversion by swscale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::media) struct ScaleEnd {
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
pub(in crate::media) struct Scaler {
    context: *mut sys::SwsContext,
    from: ScaleEnd,
    to: ScaleEnd,
}

// SAFETY: a context has no tie to the thread that made it; `&mut self` keeps its uses apart.
unsafe impl Send for Scaler {}

impl Scaler {
    /// The conversion in `slot`, opened anew where it is between other ends; `None` where swscale cannot do it.
    pub fn between(slot: &mut Option<Self>, from: ScaleEnd, to: ScaleEnd) -> Option<&mut Self> {
        if !slot.as_ref().is_some_and(|scaler| scaler.fits(from, to)) {
            *slot = Some(Self::new(from, to)?);
        }
        slot.as_mut()
    }

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
pub(in crate::media) fn can_write(pixel: Pixel) -> bool {
    // SAFETY: looks a plain value up in a table.
    unsafe { sys::sws_isSupportedOutput(pixel.into()) > 0 }
}

/// Copies properties (time, side data, aspect ratio) from one frame to another.
pub(in crate::media) fn copy_properties(from: &frame::Video, to: &mut frame::Video) -> Result<()> {
    // SAFETY: both frames are valid; data is not touched.
    let code = unsafe { sys::av_frame_copy_props(to.as_mut_ptr(), from.as_ptr()) };
    if code < 0 {
        return Err(Error::internal("picture", ffmpeg_next::Error::from(code)));
    }
    to.set_kind(ffmpeg_next::picture::Type::None);
    Ok(())
}
