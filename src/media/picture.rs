//! Pictures and packets by reference, and how the samples of a decoded frame lie.

use super::ffi::{self, Components};
use crate::{
    error::{Error, Result},
    frame::{Matrix, Primaries, Range, Sampling},
};
use ffmpeg::{
    chroma::Location,
    color::{self, Space, TransferCharacteristic as Transfer},
    format::Pixel,
};
use ffmpeg_next::{self as ffmpeg, Rescale};

/// A decoded or merged frame, by reference; never written to once made.
pub struct Picture(pub(super) ffmpeg::frame::Video);

/// A packet of a copied stream, with the source stream's index and time base.
#[derive(Clone)]
pub struct Packet {
    pub(super) packet: ffmpeg::Packet,
    pub(super) time_base: ffmpeg::Rational,
}

impl Packet {
    /// When it is shown or heard, in ticks of this time base; `None` where it does not say.
    pub fn time(&self, (num, den): (i32, i32)) -> Option<i64> {
        let time = self.packet.pts().or(self.packet.dts())?;
        Some(time.rescale(self.time_base, ffmpeg::Rational(num, den)))
    }
}

impl Picture {
    /// The same picture once more; its samples are not copied.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn share(&self) -> Result<Self> {
        let shared = ffi::output::reference(&self.0);
        shared.map(Self).map_err(|e| Error::internal("picture", e))
    }

    /// Width and height in samples, as coded.
    pub fn size(&self) -> (usize, usize) {
        (self.0.width() as usize, self.0.height() as usize)
    }

    /// FFmpeg's name of the pixel format.
    pub fn pixel_format(&self) -> &'static str {
        pixel_name(self.0.format())
    }

    /// How its samples lie.
    pub fn sampling(&self) -> Sampling {
        sampling_of(&self.0)
    }

    /// The whole picture at another size as R'G'B', 8 bits: `3 * width * height` values, row-major, in the orientation
    /// of the coded picture. Areas are averaged where it shrinks.
    ///
    /// # Errors
    /// swscale cannot read the pixel format.
    pub fn to_rgb(&self, width: usize, height: usize) -> Result<Vec<u8>> {
        let from = scale_end(&self.0);
        let to = ffi::ScaleEnd {
            pixel: Pixel::RGB24,
            width: width as u32,
            height: height as u32,
            full: true,
            ..from
        };
        let mut scaler = ffi::Scaler::new(from, to).ok_or_else(|| unreadable(from.pixel))?;
        let rgb = scaler.run(&self.0)?;
        let rows = (0..height).map(|y| ffi::row(&rgb, 0, y, 3 * width).unwrap_or_default());
        Ok(rows.collect::<Vec<_>>().concat())
    }
}

#[cfg(test)]
impl Packet {
    /// An empty packet of a stream of this number.
    pub(crate) fn numbered(number: u32) -> Self {
        let mut packet = ffmpeg::Packet::empty();
        packet.set_stream(number as usize);
        Self {
            packet,
            time_base: ffmpeg::Rational(1, 1),
        }
    }

    /// The number of its stream.
    pub(crate) fn number(&self) -> u32 {
        self.packet.stream() as u32
    }
}

impl Picture {
    /// A picture of nothing, for whoever needs only what a frame carries beside it.
    pub(crate) fn empty() -> Self {
        Self(ffmpeg::frame::Video::empty())
    }
}

/// FFmpeg's name of a pixel format.
pub(super) fn pixel_name(pixel: Pixel) -> &'static str {
    pixel.descriptor().map_or("unknown", |d| d.name())
}

/// What is said of a pixel format that nobody can read.
pub(super) fn unreadable(pixel: Pixel) -> Error {
    let name = pixel_name(pixel);
    let why = format!(
        "pixel format {name} cannot be read; convert the film first, for example with `ffmpeg -i FILM -pix_fmt yuv420p \
         -c:v ffv1 readable.mkv`"
    );
    Error::input("video", why)
}

/// A frame as one end of a swscale conversion, with the tags that are used where it has none.
pub(super) fn scale_end(frame: &ffmpeg::frame::Video) -> ffi::ScaleEnd {
    let sampling = sampling_of(frame);
    ffi::ScaleEnd {
        pixel: frame.format(),
        width: frame.width(),
        height: frame.height(),
        space: Tags::of(&sampling).space,
        full: sampling.range == Range::Full,
    }
}

/// How the samples of a decoded frame lie, with the tags that are used where it has none: matrix 601 below 720 lines,
/// else 709, and BT.709 primaries; limited range, but full for grey and RGB formats; chroma left, but centre for the
/// "J" formats. For formats that hold no Y', it says how the Y' lies that they are converted to.
///
/// Constant-luminance BT.2020 counts as non-constant: the same weights. Matrices whose chroma is no colour difference
/// (YCgCo, ICtCp, RGB in a Y'CbCr format) are replaced by the default: luma stays what it is, and the chroma that is
/// written is tagged as what it is.
pub(super) fn sampling_of(frame: &ffmpeg::frame::Video) -> Sampling {
    let pixel = frame.format();
    let (log2_w, log2_h) = pixel
        .descriptor()
        .map_or((0, 0), |d| (d.log2_chroma_w(), d.log2_chroma_h()));
    let full = is_jpeg(pixel) || !has_chroma(pixel);
    let range = match frame.color_range() {
        color::Range::JPEG => Range::Full,
        color::Range::MPEG if has_luma(pixel) => Range::Limited,
        _ if full => Range::Full,
        _ => Range::Limited,
    };
    Sampling {
        depth: depth_of(pixel),
        log2_w,
        log2_h,
        chroma_offset: offset_of(frame, log2_w, log2_h),
        range,
        matrix: matrix_of(frame.color_space(), frame.height()),
        primaries: primaries_of(frame.color_primaries()),
        interlaced: frame.is_interlaced(),
    }
}

/// Bits of Y': those of the first component, but at least 8; 16 for floats and for what is not read component by
/// component.
fn depth_of(pixel: Pixel) -> u8 {
    let Some(c) = Components::of(pixel) else {
        return 8;
    };
    if c.float() {
        return 16;
    }
    let components = &c.list[..c.count];
    let deepest = components.iter().map(|c| c.depth).max().unwrap_or(8);
    (deepest.clamp(8, 16)) as u8
}

/// Whether the format has a luma component of its own.
pub(super) fn has_luma(pixel: Pixel) -> bool {
    Components::of(pixel)
        .is_some_and(|c| !(c.rgb() || c.palette() || c.bits() || c.opaque() || is_xyz(pixel)))
}

/// Whether the format has Y'CbCr chroma.
pub(super) fn has_chroma(pixel: Pixel) -> bool {
    has_luma(pixel) && Components::of(pixel).is_some_and(|c| c.count >= 3)
}

/// CIE XYZ, which FFmpeg's descriptors do not tell from Y'CbCr.
pub(super) fn is_xyz(pixel: Pixel) -> bool {
    matches!(pixel, Pixel::XYZ12LE | Pixel::XYZ12BE)
}

/// The deprecated formats that mean "the same, full range".
pub(super) fn is_jpeg(pixel: Pixel) -> bool {
    use Pixel::*;
    matches!(pixel, YUVJ411P | YUVJ420P | YUVJ422P | YUVJ440P | YUVJ444P)
}

/// Where the first chroma sample sits. FFmpeg's locations are of the halves of a 4:2:0 cell; in wider cells they are
/// the ends and the middle too.
fn offset_of(frame: &ffmpeg::frame::Video, log2_w: u8, log2_h: u8) -> (f32, f32) {
    let (x, y) = match frame.chroma_location() {
        Location::Center => (0.5, 0.5),
        Location::TopLeft => (0.0, 0.0),
        Location::Top => (0.5, 0.0),
        Location::BottomLeft => (0.0, 1.0),
        Location::Bottom => (0.5, 1.0),
        Location::Unspecified if is_jpeg(frame.format()) => (0.5, 0.5),
        Location::Left | Location::Unspecified => (0.0, 0.5),
    };
    let reach = |log2: u8| ((1u8 << log2) - 1) as f32;
    (x * reach(log2_w), y * reach(log2_h))
}

fn matrix_of(space: Space, lines: u32) -> Matrix {
    match space {
        Space::BT709 => Matrix::BT709,
        Space::BT470BG | Space::SMPTE170M => Matrix::BT601,
        Space::BT2020NCL | Space::BT2020CL => Matrix::BT2020,
        Space::FCC => Matrix::FCC,
        Space::SMPTE240M => Matrix::SMPTE240M,
        _ if lines < 720 => Matrix::BT601,
        _ => Matrix::BT709,
    }
}

fn primaries_of(tag: color::Primaries) -> Primaries {
    use color::Primaries as P;
    match tag {
        P::SMPTE170M | P::SMPTE240M => Primaries::SMPTE170M,
        P::BT470BG => Primaries::BT470BG,
        P::BT2020 => Primaries::BT2020,
        _ => Primaries::BT709,
    }
}

/// FFmpeg's tags of a sampling: what is written into frames, and what the encoder must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tags {
    /// Matrix.
    pub space: Space,
    /// Code values used.
    pub range: color::Range,
    /// Primaries.
    pub primaries: color::Primaries,
    /// Transfer curve, where the source does not say: BT.709, as every player takes untagged video.
    pub transfer: Transfer,
    /// Where chroma sits; unspecified in 4:4:4.
    pub location: Location,
}

impl Tags {
    /// Of a sampling.
    pub fn of(sampling: &Sampling) -> Self {
        use color::Primaries as P;
        let m = sampling.matrix;
        let space = [
            (Matrix::BT601, Space::SMPTE170M),
            (Matrix::BT2020, Space::BT2020NCL),
            (Matrix::FCC, Space::FCC),
            (Matrix::SMPTE240M, Space::SMPTE240M),
        ];
        let primaries = [
            (Primaries::SMPTE170M, P::SMPTE170M),
            (Primaries::BT470BG, P::BT470BG),
            (Primaries::BT2020, P::BT2020),
        ];
        let named = primaries.iter().find(|(p, _)| *p == sampling.primaries);
        Self {
            space: (space.iter().find(|(k, _)| *k == m)).map_or(Space::BT709, |&(_, tag)| tag),
            range: match sampling.range {
                Range::Full => color::Range::JPEG,
                Range::Limited => color::Range::MPEG,
            },
            primaries: named.map_or(P::BT709, |&(_, tag)| tag),
            transfer: Transfer::BT709,
            location: location_of(sampling),
        }
    }

    /// Writes them into a frame. BT.470 BG stays where SMPTE 170M is meant: they are one matrix.
    pub fn write(&self, frame: &mut ffmpeg::frame::Video) {
        if (frame.color_space(), self.space) != (Space::BT470BG, Space::SMPTE170M) {
            frame.set_color_space(self.space);
        }
        frame.set_color_range(self.range);
        frame.set_color_primaries(self.primaries);
        if frame.color_transfer_characteristic() == Transfer::Unspecified {
            frame.set_color_transfer_characteristic(self.transfer);
        }
        ffi::set_chroma_location(frame, self.location);
    }
}

fn location_of(sampling: &Sampling) -> Location {
    let Sampling { log2_w, log2_h, .. } = *sampling;
    let (x, y) = sampling.chroma_offset;
    if log2_w == 0 && log2_h == 0 {
        return Location::Unspecified;
    }
    let last = ((1u8 << log2_h) - 1) as f32;
    match (x > 0.0, log2_h > 0 && y == 0.0, log2_h > 0 && y == last) {
        (false, true, _) => Location::TopLeft,
        (false, _, true) => Location::BottomLeft,
        (false, ..) => Location::Left,
        (true, true, _) => Location::Top,
        (true, _, true) => Location::Bottom,
        (true, ..) => Location::Center,
    }
}

#[cfg(test)]
mod tests;
