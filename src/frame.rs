//! What travels through the pipeline, one type an edge; and the small picture types that the network sees.
//!
//! Nothing here knows ffmpeg, tensors, flags or threads. Outside `net` and `train`, lightness L is 0..100 and
//! a, b are CIE 1976 units.

use crate::media::{Packet, Picture};

/// Which code values a picture uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// 16..235 for luma and 16..240 for chroma, scaled by depth ("tv", "mpeg").
    Limited,
    /// Every code value ("pc", "jpeg").
    Full,
}

/// Luma coefficients of a Y'CbCr matrix: `Y' = kr R' + (1 - kr - kb) G' + kb B'`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Matrix {
    /// Weight of red.
    pub kr: f32,
    /// Weight of blue.
    pub kb: f32,
}

impl Matrix {
    /// ITU-R BT.601: standard definition.
    pub const BT601: Self = Self {
        kr: 0.299,
        kb: 0.114,
    };
    /// ITU-R BT.709: high definition.
    pub const BT709: Self = Self {
        kr: 0.2126,
        kb: 0.0722,
    };
    /// ITU-R BT.2020, non-constant luminance.
    pub const BT2020: Self = Self {
        kr: 0.2627,
        kb: 0.0593,
    };
    /// FCC 73.682.
    pub const FCC: Self = Self { kr: 0.30, kb: 0.11 };
    /// SMPTE 240M.
    pub const SMPTE240M: Self = Self {
        kr: 0.212,
        kb: 0.087,
    };
}

/// How samples lie in a picture, whatever program made it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Bits of a luma sample, 8 to 16.
    pub depth: u8,
    /// log2 of luma columns per chroma column: 0, 1 or 2.
    pub log2_w: u8,
    /// log2 of luma rows per chroma row: 0, 1 or 2.
    pub log2_h: u8,
    /// Where the first chroma sample sits, in luma samples right of and below the first luma sample's centre:
    /// (0, 0.5) for MPEG-2 and H.264 4:2:0 ("left"), (0.5, 0.5) for JPEG and MPEG-1 ("center").
    pub chroma_offset: (f32, f32),
    /// Code values used.
    pub range: Range,
    /// Y'CbCr matrix.
    pub matrix: Matrix,
    /// Rows alternate between two fields: in 4:2:0 chroma row j belongs to field j & 1.
    pub interlaced: bool,
}

/// What is known of the main video before its first frame is coloured.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoInfo {
    /// Width of the coded picture.
    pub width: usize,
    /// Height of the coded picture.
    pub height: usize,
    /// Width and height as shown: square pixels, upright.
    pub display: (usize, usize),
    /// Clockwise turn in degrees that makes the coded picture upright: 0, 90, 180 or 270.
    pub rotation: u16,
    /// FFmpeg's name of the codec.
    pub codec: String,
    /// FFmpeg's name of the pixel format.
    pub pixel_format: String,
    /// How samples lie, with the tags that are used where the source has none.
    pub sampling: Sampling,
    /// Seconds per tick of every `pts`, as (numerator, denominator).
    pub time_base: (i32, i32),
    /// Nominal frames a second as (numerator, denominator), where known.
    pub frame_rate: Option<(i32, i32)>,
    /// Length in seconds, where the container says.
    pub duration: Option<f64>,
    /// Number of frames, estimated from the container; for progress only.
    pub frames: Option<u64>,
}

/// What an edge carries, in order: a frame of the main video, or a packet of a stream that is only copied.
///
/// Packets travel beside the frames, so a copied stream can neither run ahead of the picture without bound nor
/// starve behind it.
pub enum Item<F> {
    /// A frame of the main video, in the form that this edge carries.
    Frame(F),
    /// A packet of any other stream, to be copied.
    Packet(Packet),
}

/// decode -> plan: a decoded frame with its definite timestamp.
pub struct Decoded {
    /// Position in the output, from 0, without holes.
    pub index: u64,
    /// Presentation time in the source video stream's time base. Made definite by `decode`, never questioned again.
    pub pts: i64,
    /// Duration in the same time base; at least 1.
    pub duration: i64,
    /// The whole decoded frame; read-only for everybody.
    pub picture: Picture,
}

/// plan -> infer: whether the network runs on this frame is decided here, from luma alone.
pub struct Planned {
    /// The frame.
    pub frame: Decoded,
    /// Lightness at network size, display aspect, upright; present on key frames.
    pub thumb: Option<Thumb>,
    /// The first frame of a new scene: no state crosses to it.
    pub cut: bool,
}

/// infer -> steady: colour on key frames only.
pub struct Inferred {
    /// The frame.
    pub frame: Decoded,
    /// The first frame of a new scene.
    pub cut: bool,
    /// Colour, on key frames.
    pub ab: Option<AbMap>,
}

/// steady -> merge: colour on every frame.
pub struct Steady {
    /// The frame.
    pub frame: Decoded,
    /// Colour in the orientation of the coded picture.
    pub ab: AbMap,
}

/// merge -> encode: the source's luma with new chroma.
pub struct Merged {
    /// Position in the output, from 0.
    pub index: u64,
    /// Presentation time in the source video stream's time base.
    pub pts: i64,
    /// Duration in the same time base.
    pub duration: i64,
    /// The picture to encode.
    pub picture: Picture,
}

/// Lightness at network size: CIE L, 0..100, row-major, upright (display orientation, display aspect).
#[derive(Clone, Debug, PartialEq)]
pub struct Thumb {
    /// Width in samples.
    pub width: usize,
    /// Height in samples.
    pub height: usize,
    /// `width * height` lightness values, 0..100.
    pub l: Vec<f32>,
}

impl Thumb {
    /// What a network that looks at no pixels gets.
    pub fn empty() -> Self {
        Self { width: 0, height: 0, l: Vec::new() }
    }
}

/// A small map of chroma over the whole picture: CIE a and b, row-major. Its samples are cell centres of a grid
/// that spans the picture exactly, so any size maps onto any picture.
#[derive(Clone, Debug, PartialEq)]
pub struct AbMap {
    /// Width in samples.
    pub width: usize,
    /// Height in samples.
    pub height: usize,
    /// `width * height` values of a (green-red).
    pub a: Vec<f32>,
    /// `width * height` values of b (blue-yellow).
    pub b: Vec<f32>,
}

impl AbMap {
    /// One colour everywhere.
    pub fn constant(a: f32, b: f32) -> Self {
        Self {
            width: 1,
            height: 1,
            a: vec![a],
            b: vec![b],
        }
    }
}
