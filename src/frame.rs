//! What travels through the pipeline, one type an edge; and the small picture types that the network sees.
//!
//! Nothing here knows ffmpeg, tensors, flags or threads. Outside `net` and `train`, lightness L is 0..100 and
//! a, b are CIE 1976 units.

use crate::media::{Packet, Picture};

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
