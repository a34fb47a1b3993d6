//! Task: what a job, a child process, is given to do, and what it tells of it. One JSON object a line, on its standard input
//! and output.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::media::Segment;

/// What a job is given to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Task {
    /// Say what a film is.
    Look(String),
    /// Colour a film; or say how it is taken apart, or that it is not to be coloured.
    Film(Film),
    /// Colour one of its segments.
    Segment(Film, Box<Plan>, usize),
    /// Join its segments.
    Join(Film, Box<Plan>, Vec<PathBuf>, i64),
}

/// A film that is worked on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Film {
    /// The source.
    pub input: String,
    /// What is to be written now, under a name that nobody else writes to.
    pub output: PathBuf,
    /// What the result will be called.
    pub name: String,
    /// Where some pictures before and after go.
    pub sheet: PathBuf,
}

/// How a film is worked on: written once, by the first worker, and kept to by all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Its segments; one: the film in one go.
    pub segments: Vec<Segment>,
    /// What it is worked out by, in every digit that may matter: the program, its engine, numbers and instructions, the
    /// encoder's library.
    pub pin: String,
    /// Threads of the encoder, on which its result may depend.
    pub threads: usize,
    /// Why it is not taken apart, where it is long enough.
    pub whole: Option<String>,
}

/// What a job tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Told {
    /// It has its model.
    Ready {
        /// The model, as it describes itself.
        model: String,
        /// Where it runs, for people.
        device: String,
        /// As in [`Plan::pin`].
        pin: String,
    },
    /// So many frames of so many are done; 0 where that is not known.
    At(u64, u64),
    /// What a film is.
    Looked(Looked),
    /// It is done: a film, a segment or what was joined.
    Done(Piece),
    /// It is to be taken apart so.
    Split(Box<Plan>),
    /// It is not to be coloured, and why.
    Skip(String),
    /// It cannot be done: an exit code, and why.
    Failed(u8, String),
    /// It cannot be done here, and why: somebody else may.
    Refused(String),
}

/// What a film is, without decoding it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Looked {
    /// Its length in seconds, where its container says that.
    pub seconds: f64,
    /// Frames, by its length.
    pub frames: u64,
    /// Width and height as it is coded.
    pub size: (usize, usize),
}

/// A piece of work that is done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Piece {
    /// Frames written.
    pub frames: u64,
    /// Frames that kept their own colours.
    pub kept: u64,
    /// Width and height as it is coded.
    pub size: (usize, usize),
    /// Length in seconds.
    pub seconds: f64,
    /// Where its last frame ends, in ticks of the source's main video.
    pub end: i64,
    /// Bytes written, and their SHA-256 in hexadecimal.
    pub bytes: u64,
    /// Likewise.
    pub sha256: String,
    /// Seconds that it took.
    pub worked: f64,
    /// One line a stream of the result.
    pub streams: Vec<String>,
    /// What was noticed.
    pub warnings: Vec<String>,
    /// The model and where it ran.
    pub model: String,
}
