//! Record: what became of one item, one small file each.

use serde::{Deserialize, Serialize};

/// What a source file is known by: two that agree in all of it are taken for the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// Size.
    pub bytes: u64,
    /// When it was last written to, in nanoseconds since 1970.
    pub modified: i64,
    /// SHA-256, in hexadecimal, of a few of its blocks: the first, the middle and the last 16 KiB.
    pub blocks: String,
}

/// What became of one source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The source's path below the archive's root, with `/`.
    pub source: String,
    /// The archive's root, absolute, as the worker that did it saw it.
    pub root: String,
    /// What the source was.
    pub digest: Digest,
    /// SHA-256 of everything that decides how it is coloured and encoded.
    pub settings: String,
    /// What became of it.
    pub outcome: Outcome,
    /// When it was written, in seconds since 1970.
    pub finished: u64,
    /// Who wrote it: host and process.
    pub worker: String,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Outcome {
    /// It was coloured.
    Done(Done),
    /// It is not to be coloured.
    Skipped {
        /// Why, for people.
        why: String,
    },
    /// It could not be coloured.
    Failed {
        /// Why, for people.
        why: String,
        /// How often it was tried.
        attempts: u32,
    },
}

/// A film in colour.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// The result's path below the output folder, with `/`.
    pub output: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
    /// Frames.
    pub frames: u64,
    /// Frames that kept the colours that they came with.
    pub kept: u64,
    /// Width and height of the coded picture.
    pub size: (usize, usize),
    /// Length of the film in seconds.
    pub seconds: f64,
    /// Seconds that all of the work on it took, of whatever machines.
    pub worked: f64,
    /// Pieces in which it was coloured; 1: in one go.
    pub segments: usize,
    /// The model and where it ran, as they describe themselves.
    pub model: String,
    /// Whether the encoder gives every picture back bit for bit.
    pub lossless: bool,
    /// One line a kept stream: "video h264 yuv420p crf 17: colorized", "audio aac eng: copied".
    pub streams: Vec<String>,
    /// What was noticed on the way.
    pub warnings: Vec<String>,
}
