//! Source: demux and decode. Frames of the main video in presentation order with definite timestamps, packets of all
//! other streams as the file interleaves them, both in film time (see [`super::timeline`]).
//!
//! This is what the rest of the program sees; [`super::reader`] does the work.

use super::{
    Picture,
    feed::{Feed, Hear},
    probe,
    reader::Reader,
    timeline::seconds,
};
use crate::{
    error::Result,
    frame::{Decoded, Item, VideoInfo},
};
use ffmpeg_next as ffmpeg;
use std::{
    ffi::OsStr,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

/// How to open an input.
#[derive(Clone, Debug, Default)]
pub struct InputOptions {
    /// Demuxer name, where the file does not say (`--input-format`).
    pub format: Option<String>,
    /// `--input-option key=value`.
    pub options: Vec<(String, String)>,
    /// Begin at this time, in seconds from the start of the film.
    pub start: Option<f64>,
    /// Stop after this many seconds.
    pub duration: Option<f64>,
    /// Decoder threads; 0: FFmpeg's choice.
    pub threads: usize,
    /// Ends a blocking read with [`Error::Stopped`] once it is true.
    pub interrupt: Option<Arc<AtomicBool>>,
    /// Longest that the input may take to give its next packet; beyond that it counts as gone.
    pub patience: Option<Duration>,
    /// Only these frames, and no packets of other streams, on the whole film's clock. With it `start` and `duration` are
    /// not looked at.
    pub part: Option<Part>,
    /// Only packets of the other streams are wanted, and the first frame, which tells what the film is: the rest of the
    /// picture is not decoded.
    pub packets_only: bool,
    /// Frames are not held back: neither for the next one, which would tell how long they last, nor by threads of the
    /// decoder or buffers of the demuxer. For cameras and streams.
    pub low_delay: bool,
}

/// Length in seconds, number of frames, width and height of the film `input`, by its container alone: nothing is decoded.
/// What is not known is 0.
///
/// # Errors
/// As for [`Source::open`].
pub fn look(input: &OsStr) -> Result<(f64, u64, (usize, usize))> {
    super::prepare();
    Reader::open(input, &InputOptions::default()).map(|reader| reader.look())
}

/// Some of a film's frames: those that begin in `from..to`, in ticks of the main video after the film's start. They are
/// the same ones, with the same times and pixels, whether the film is decoded from its beginning or entered on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Part {
    /// Time of a random-access point to decode from, at least one such point before `from`: pictures right behind one may
    /// still lean on what was before it. `None`: the film's beginning.
    pub enter: Option<i64>,
    /// The first frame's time.
    pub from: i64,
    /// The first time that is not wanted any more; `None`: to the film's end.
    pub to: Option<i64>,
}

/// What is known of an input before its first frame is coloured.
#[derive(Clone, Debug)]
pub struct SourceInfo {
    /// The input as the user wrote it.
    pub name: String,
    /// FFmpeg's name of the container.
    pub format: String,
    /// The main video.
    pub video: VideoInfo,
}

/// What was met on the way through an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct SourceReport {
    /// Frames yielded.
    pub frames: u64,
    /// Packets that were marked as damaged, or that a demuxer or the decoder refused.
    pub corrupt_packets: u64,
    /// Frames that the decoder could only patch up.
    pub damaged_frames: u64,
    /// Jumps of the clock that were closed up.
    pub discontinuities: u64,
    /// Times that the picture's size or pixel format changed.
    pub size_changes: u64,
    /// Packets of streams that begin in the middle of the file, which no output can hold: left out.
    pub late_packets: u64,
    /// The file ends before the end that its header promises.
    pub truncated: bool,
}

/// A demuxer and the main video's decoder.
pub struct Source {
    info: SourceInfo,
    reader: Reader,
    /// What makes it a live one.
    feed: Option<Feed>,
}

impl Source {
    /// Opens `input` and decodes until the first frame is known.
    ///
    /// # Errors
    /// [`Error::Input`] where the input cannot be read or holds no video that can be decoded, [`Error::Usage`] for
    /// options that FFmpeg does not know or that make no sense, [`Error::Stopped`] where it was interrupted.
    pub fn open(input: &OsStr, options: &InputOptions) -> Result<Self> {
        super::prepare();
        let mut reader = Reader::open(input, options)?;
        reader.seek(options)?;
        reader.read_first_frame()?;
        let info = reader.info()?;
        Ok(Self {
            info,
            reader,
            feed: None,
        })
    }

    /// Opens a part of the film that `whole` was opened from. What is known of it, its size and its format are the whole
    /// film's.
    ///
    /// # Errors
    /// As for [`Source::open`]; there is no frame in the part.
    pub fn part(whole: &Source, options: &InputOptions, part: Part) -> Result<Self> {
        let options = InputOptions {
            part: Some(part),
            start: None,
            duration: None,
            ..options.clone()
        };
        let mut reader = Reader::open(OsStr::new(&whole.info.name), &options)?;
        reader.seek(&options)?;
        reader.follow(&whole.reader);
        reader.read_first_frame()?;
        Ok(Self {
            info: whole.info.clone(),
            reader,
            feed: None,
        })
    }

    /// Opens a camera or a stream that is to be seen as it comes, for as long as it is wanted: where it goes away or has
    /// nothing to say for `options.patience` it is opened again, after growing pauses, and goes on with the size, the
    /// format and the clock of before. `hear` is told of it. A film is read at its own pace, once.
    ///
    /// # Errors
    /// As for [`Source::open`]; what never was there is not waited for.
    pub fn live(input: &OsStr, options: &InputOptions, hear: Hear) -> Result<Self> {
        let options = InputOptions {
            low_delay: true,
            ..options.clone()
        };
        let mut source = Self::open(input, &options)?;
        source.feed = Some(Feed::new(input, options, &source.reader, hear));
        Ok(source)
    }

    /// What is known.
    pub fn info(&self) -> &SourceInfo {
        &self.info
    }

    /// The next frame or packet, in order; `None` at the end.
    ///
    /// # Errors
    /// The input cannot be read on (network, disk), is encrypted from here on, or was interrupted.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator of results would hide how it ends"
    )]
    pub fn next(&mut self) -> Result<Option<Item<Decoded>>> {
        match &mut self.feed {
            None => self.reader.next(),
            Some(feed) => feed.next(&mut self.reader),
        }
    }

    /// What was met so far; complete once [`Source::next`] has returned `None`.
    pub fn report(&self) -> SourceReport {
        self.reader.report()
    }

    /// Sentences for the user that have come up since the last call. Each kind comes once; further cases are only
    /// counted in the report.
    pub fn take_warnings(&mut self) -> Vec<String> {
        self.reader.take_warnings()
    }

    /// How far all that was read of any stream has come, in seconds of film.
    pub fn reached(&self) -> f64 {
        seconds(self.reader.latest())
    }

    /// One line a stream: "0 video h264 1280x720 yuv420p bt709 tv 25 fps".
    pub fn streams(&self) -> Vec<String> {
        probe::stream_lines(self.reader.input())
    }

    /// The opened demuxer: streams, chapters, metadata, for the output side.
    pub(super) fn input(&self) -> &ffmpeg::format::context::Input {
        self.reader.input()
    }

    /// Index of the main video's stream.
    pub(super) fn video_stream(&self) -> usize {
        self.reader.main()
    }

    /// The first frame, while [`Source::next`] has not been called.
    pub fn first_frame(&self) -> Option<&Picture> {
        self.reader.first_queued().map(|frame| &frame.picture)
    }

    /// What was subtracted from every timestamp of the file, in AV_TIME_BASE units: the file's start and, where
    /// `--start` was given, the first frame's distance from it. Chapters move by the same.
    pub(super) fn shift(&self) -> i64 {
        self.reader.start() + self.reader.origin()
    }

    /// Where `--duration` ends the output, in AV_TIME_BASE units after its start.
    pub(super) fn end(&self) -> Option<i64> {
        self.reader.end().map(|end| end - self.reader.origin())
    }
}

#[cfg(test)]
mod tests;
