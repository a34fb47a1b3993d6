//! Compare: a source and its result side by side, frame by frame and packet by packet, and in what they differ. It
//! measures; whoever calls it knows how much difference is allowed.

mod luma;
mod times;
mod tracks;

pub use luma::Luma;
pub use times::Times;
pub use tracks::{Agreement, Track};

use self::{luma::LumaMeter, times::TimeMeter, tracks::Tracks};
use super::{InputOptions, Source, SourceReport};
use crate::{
    error::Result,
    frame::{Decoded, Item},
};
use serde::Serialize;
use std::{
    ffi::OsStr,
    sync::{Arc, atomic::AtomicBool},
};

/// Two films that ought to be one but for the colours.
pub struct Films<'a> {
    /// The film as it was.
    pub source: &'a OsStr,
    /// The film in colour.
    pub result: &'a OsStr,
    /// One line a kept stream, as in [`super::Written::streams`].
    pub streams: &'a [String],
}

/// A frame, and when it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Moment {
    /// Its number, from 0.
    pub frame: u64,
    /// When the source shows it, in seconds of film.
    pub seconds: f64,
}

/// What decoding a film to its end gave.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Reading {
    /// Width and height of the coded picture.
    pub size: (usize, usize),
    /// Frames, and damage that was met.
    #[serde(flatten)]
    pub report: SourceReport,
}

impl Reading {
    fn of(source: &Source) -> Self {
        let video = &source.info().video;
        Self {
            size: (video.width, video.height),
            report: source.report(),
        }
    }

    /// Packets and frames that were damaged.
    pub fn damage(&self) -> u64 {
        self.report.corrupt_packets + self.report.damaged_frames
    }
}

/// In what a result differs from its source.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The source.
    pub source: Reading,
    /// The result.
    pub result: Reading,
    /// The frames' times.
    pub times: Times,
    /// The frames' luma; `None` where they are of different sizes.
    pub luma: Option<Luma>,
    /// The other streams, those that the lines tell of first.
    pub tracks: Vec<Track>,
}

/// Decodes a film to its end; `hear` is told of the frames that are done and the time of the last in seconds.
///
/// # Errors
/// As for [`Source::open`] and [`Source::next`]; [`crate::Error::Stopped`] once `interrupt` is true.
pub fn read_through(
    film: &OsStr,
    interrupt: &Arc<AtomicBool>,
    hear: &mut dyn FnMut(u64, f64),
) -> Result<Reading> {
    let mut source = open(film, interrupt)?;
    while let Some(item) = source.next()? {
        if let Item::Frame(frame) = item {
            hear(frame.index + 1, seconds(&source, frame.pts));
        }
    }
    Ok(Reading::of(&source))
}

/// Decodes both films to their ends, in lockstep: memory holds one frame of each. `hear` is told as in [`read_through`].
///
/// # Errors
/// As for [`read_through`], of either film; a pixel format that nobody can read.
pub fn compare(
    films: &Films,
    interrupt: &Arc<AtomicBool>,
    hear: &mut dyn FnMut(u64, f64),
) -> Result<Comparison> {
    let source = open(films.source, interrupt)?;
    let result = open(films.result, interrupt)?;
    let pairs = tracks::pair(films.streams, &source, &result);
    let mut before = Side::new(source, tracks::of_source(&pairs));
    let mut after = Side::new(result, tracks::of_result(&pairs));
    let mut times = TimeMeter::new(before.time_base(), after.time_base());
    let mut luma = (before.size() == after.size()).then(LumaMeter::default);
    loop {
        match (before.next()?, after.next()?) {
            (None, None) => break,
            (Some(a), Some(b)) => {
                let at = Moment {
                    frame: a.index,
                    seconds: seconds(&before.source, a.pts),
                };
                times.push(at, a.pts, b.pts);
                if let Some(luma) = &mut luma {
                    luma.push(at, &a.picture, &b.picture)?;
                }
                hear(at.frame + 1, at.seconds);
            }
            // One of them is longer: its frames are counted, and there is nothing to compare them with.
            _ => {}
        }
    }
    Ok(Comparison {
        source: Reading::of(&before.source),
        result: Reading::of(&after.source),
        times: times.finish(),
        luma: luma.map(LumaMeter::finish),
        tracks: tracks::judge(pairs, before, after),
    })
}

fn open(film: &OsStr, interrupt: &Arc<AtomicBool>) -> Result<Source> {
    let options = InputOptions {
        interrupt: Some(interrupt.clone()),
        ..InputOptions::default()
    };
    Source::open(film, &options)
}

fn seconds(source: &Source, pts: i64) -> f64 {
    let (num, den) = source.info().video.time_base;
    pts as f64 * f64::from(num) / f64::from(den)
}

/// One of the two films on its way.
struct Side {
    source: Source,
    tracks: Tracks,
}

impl Side {
    fn new(source: Source, tracks: Tracks) -> Self {
        Self { source, tracks }
    }

    fn time_base(&self) -> (i32, i32) {
        self.source.info().video.time_base
    }

    fn size(&self) -> (usize, usize) {
        let video = &self.source.info().video;
        (video.width, video.height)
    }

    /// The next frame; the packets before it are counted.
    fn next(&mut self) -> Result<Option<Decoded>> {
        while let Some(item) = self.source.next()? {
            match item {
                Item::Frame(frame) => return Ok(Some(frame)),
                Item::Packet(packet) => self.tracks.push(&packet),
            }
        }
        Ok(None)
    }
}
