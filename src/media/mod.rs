//! Everything that knows ffmpeg: sources, sinks, pictures and packets. `ffi` holds every `unsafe` line.
//!
//! - [`Source`] demuxes and decodes: frames of the main video in presentation order, packets of all other streams as
//!   they come; `feed` makes one stream of a source that comes and goes.
//! - [`Sink`] is what the end of the pipeline talks to: [`output`] encodes and muxes into any container, [`null`]
//!   counts, [`preview`] draws a before/after sheet, [`beside`] writes a film of before and after,
//!   [`screen`] makes JPEG pictures for whoever looks on.
//! - [`compare()`] reads a source and its result side by side and says in what they differ.
//! - [`Picture`] is a decoded or merged frame, by reference; `luma` reads every pixel format, [`Merger`] gives it new
//!   chroma, [`Layout`] is what an encoder takes.

mod adts;
mod beside;
mod codecs;
mod compare;
mod container;
mod encoder;
mod feed;
mod ffi;
mod input;
mod layout;
mod light;
mod location;
mod luma;
mod merge;
mod null;
mod origin;
mod output;
mod picture;
mod preview;
mod probe;
mod publish;
mod reader;
mod scan;
mod screen;
mod segment;
mod splice;
mod stdin;
mod streams;
mod thumb;
mod timeline;

#[cfg(test)]
mod drawn;

pub use beside::BesideSink;
pub use codecs::codec_name;
pub use compare::{
    Agreement, Comparison, Films, Luma, Moment, Reading, Times, Track, compare, read_through,
};
pub use container::default_output;
pub use feed::{Hear, Told};
pub use input::{InputOptions, Part, Source, SourceInfo, SourceReport, look};
pub use layout::Layout;
pub use merge::Merger;
pub use null::NullSink;
pub use origin::Origin;
pub use output::{FileSink, MOVED, OutputOptions};
pub use picture::{Packet, Picture};
pub use preview::PreviewSink;
pub use scan::{Scan, Segment};
pub use screen::{Screen, Shown, Viewer};
pub use segment::SegmentSink;
pub use splice::splice;
pub use thumb::Thumbnailer;

use crate::{error::Result, frame::Merged};

/// Prepares FFmpeg and sets how much its libraries say on standard error: 0 nothing but what ends the process, 1
/// warnings, 2 information, more: everything. The library itself prints nothing.
///
/// Without this call FFmpeg keeps its own level.
pub fn init(verbosity: u8) {
    use ffmpeg_next::log::{Level, set_level};
    prepare();
    set_level(match verbosity {
        0 => Level::Fatal,
        1 => Level::Warning,
        2 => Level::Info,
        _ => Level::Debug,
    });
}

/// FFmpeg's version, of the library that encodes.
pub fn version() -> String {
    let version = ffmpeg_next::codec::version();
    format!(
        "libavcodec {}.{}.{}",
        version >> 16,
        version >> 8 & 255,
        version & 255
    )
}

/// Registers FFmpeg's devices and error texts, once.
fn prepare() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    // It cannot fail: ffmpeg-next's init always returns Ok.
    ONCE.call_once(|| ffmpeg_next::init().unwrap_or_default());
}

/// The end of the pipeline. Dropping a sink that was not finished removes what it wrote.
pub trait Sink: Send {
    /// The pictures that this sink wants; `None` if any will do.
    fn layout(&self) -> Option<Layout> {
        None
    }

    /// Encodes one frame. Frames come in presentation order.
    ///
    /// # Errors
    /// The encoder or the disk refuses; the message names the output, the frame and its time.
    fn frame(&mut self, frame: &Merged) -> Result<()>;

    /// Writes one packet of a copied stream; ignores streams that it does not keep.
    ///
    /// # Errors
    /// The muxer or the disk refuses.
    fn packet(&mut self, packet: &Packet) -> Result<()>;

    /// The film ends here, before its end: copied packets behind the last frame are not written by `finish`.
    fn cut(&mut self) {}

    /// Drains the encoder, writes the trailer, syncs and renames `name.part` to `name`.
    ///
    /// # Errors
    /// As above; then nothing stands under the final name.
    fn finish(self: Box<Self>) -> Result<Written>;
}

/// What a finished sink has written.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Written {
    /// Name of the output; `-` for standard output.
    pub name: String,
    /// Frames encoded.
    pub frames: u64,
    /// Bytes written, where the output is a file.
    pub bytes: Option<u64>,
    /// One line a kept stream: what it is and how it travelled ("audio aac eng: copied").
    pub streams: Vec<String>,
    /// What came up on the way: captions that the encoder cannot keep, times that the container cannot tell.
    pub notes: Vec<String>,
}
