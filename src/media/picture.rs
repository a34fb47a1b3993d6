//! Pictures by reference, and what every pixel format's luma looks like. (stub: replaced by its owner)

use super::*;
use crate::frame::{AbMap, Sampling, Thumb, VideoInfo};
use ffmpeg_next as ffmpeg;

/// A decoded or merged frame, by reference; never written to once made.
pub struct Picture(pub(super) ffmpeg::frame::Video);

/// A packet of a copied stream, with the source stream's index and time base.
pub struct Packet {
    pub(super) packet: ffmpeg::Packet,
    pub(super) time_base: ffmpeg::Rational,
}

/// What the encoder takes: a pixel format and how its samples lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layout {
    pub(super) pixel: ffmpeg::format::Pixel,
    /// Depth, subsampling, range and matrix of the output.
    pub sampling: Sampling,
}

/// merge: (source luma, ab map) -> picture in the sink's layout.
pub struct Merger {}

impl Merger {
    /// For pictures of `info`, to be encoded as `layout`.
    pub fn new(_info: &VideoInfo, _layout: &Layout) -> Result<Self> {
        Ok(Self {})
    }
    /// The same picture with the chroma of `ab`.
    pub fn merge(&mut self, _picture: &Picture, _ab: &AbMap) -> Result<Picture> {
        Err(crate::Error::internal("merge", "stub"))
    }
}

/// plan: luma -> upright lightness thumbnail.
pub struct Thumbnailer {}

impl Thumbnailer {
    /// Thumbnails of `size` (upright) from pictures of `info`.
    pub fn new(_info: &VideoInfo, _size: (usize, usize)) -> Self {
        Self {}
    }
    /// Area-averaged lightness.
    pub fn thumb(&mut self, _picture: &Picture) -> Result<Thumb> {
        Err(crate::Error::internal("plan", "stub"))
    }
}

/// How the samples of a decoded frame lie, with the tags that are used where it has none: matrix 601 below 720 lines,
/// else 709; limited range, but full for grey formats; chroma left, but centre for JPEG-like.
pub(super) fn sampling_of(_frame: &ffmpeg::frame::Video) -> Sampling {
    unreachable!("stub")
}
