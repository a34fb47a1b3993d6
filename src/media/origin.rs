//! Origin: what an output needs to know of its source, so that it can be opened while the source is being read, and again.

use super::{
    Picture, Source,
    ffi::output::{self as ffi, Chapter, Dict, StreamCopy},
};
use crate::{
    error::{Error, Result},
    frame::VideoInfo,
};
use ffmpeg_next::{Rational, Rescale};

/// A source as an output sees it.
pub struct Origin {
    /// The main video.
    pub(super) video: VideoInfo,
    /// Its first frame: tags, light, captions.
    pub(super) first: Picture,
    /// Every stream, and which is the main video's.
    pub(super) streams: Vec<StreamCopy>,
    pub(super) main: usize,
    /// Chapters on the output's clock.
    pub(super) chapters: Vec<Chapter>,
    pub(super) metadata: Dict,
    /// What was opened.
    pub(super) url: Vec<u8>,
}

impl Origin {
    /// Of a source that was opened and not yet read.
    ///
    /// # Errors
    /// The source was read already.
    pub fn of(source: &Source) -> Result<Self> {
        let gone = || Error::internal("output", "the source has lost its first frame");
        let input = source.input();
        Ok(Self {
            video: source.info().video.clone(),
            first: source.first_frame().ok_or_else(gone)?.share()?,
            streams: input
                .streams()
                .map(|stream| StreamCopy::of(&stream))
                .collect(),
            main: source.video_stream(),
            chapters: chapters(source),
            metadata: ffi::metadata(input),
            url: ffi::url(input),
        })
    }

    /// The main video alone, without anything that stands in the file beside it.
    pub(super) fn alone(&self) -> Result<Self> {
        Ok(Self {
            video: self.video.clone(),
            first: self.first.share()?,
            streams: vec![self.streams[self.main].clone()],
            main: 0,
            chapters: Vec::new(),
            metadata: Dict::new(),
            url: self.url.clone(),
        })
    }

    /// Seconds a tick, as a fraction, of the frames that come.
    pub fn time_base(&self) -> (i32, i32) {
        self.video.time_base
    }
}

/// Chapters on the output's clock; those outside the part that is written are left out.
fn chapters(source: &Source) -> Vec<Chapter> {
    const MICROSECOND: Rational = Rational(1, 1_000_000);
    let end = source.end().unwrap_or(i64::MAX);
    let mut chapters = ffi::chapters(source.input());
    for chapter in &mut chapters {
        let shift = source.shift().rescale(MICROSECOND, chapter.time_base);
        let end = match end {
            i64::MAX => i64::MAX,
            end => end.rescale(MICROSECOND, chapter.time_base),
        };
        chapter.start = (chapter.start - shift).max(0).min(end);
        chapter.end = (chapter.end - shift).min(end);
    }
    chapters.retain(|chapter| chapter.end > chapter.start);
    chapters
}
