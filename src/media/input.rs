//! Source: demux and decode. (stub: replaced by its owner)

use super::*;
use crate::frame::{Decoded, Item, VideoInfo};

/// How to open an input.
#[derive(Clone, Debug, Default)]
pub struct InputOptions {
    /// Demuxer name, where the file does not say (`--format` for standard input).
    pub format: Option<String>,
    /// `--input-option key=value`.
    pub options: Vec<(String, String)>,
    /// Begin at this time, in seconds from the start of the film.
    pub start: Option<f64>,
    /// Stop after this many seconds.
    pub duration: Option<f64>,
    /// Decoder threads; 0: FFmpeg's choice.
    pub threads: usize,
}

/// What is known of an input before its first frame is coloured.
pub struct SourceInfo {
    /// The input as the user wrote it.
    pub name: String,
    /// FFmpeg's name of the container.
    pub format: String,
    /// The main video.
    pub video: VideoInfo,
}

/// A demuxer and the main video's decoder.
pub struct Source {
    info: SourceInfo,
}

impl Source {
    /// Opens `input` and decodes until the first frame is known.
    pub fn open(_input: &std::ffi::OsStr, _options: &InputOptions) -> Result<Self> {
        Err(crate::Error::internal("input", "stub"))
    }
    /// What is known.
    pub fn info(&self) -> &SourceInfo {
        &self.info
    }
    /// The next frame or packet, in order; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Item<Decoded>>> {
        Ok(None)
    }
}
