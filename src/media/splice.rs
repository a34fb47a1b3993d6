//! Splice: joins a film of its segments, without encoding anything again; the other streams come from the source, once.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    path::{Path, PathBuf},
};

use ffmpeg_next::{self as ffmpeg, Packet, Rational, Rescale};

use super::{FileSink, Sink, Source, Written, ffi::output as ffi, publish};
use crate::{
    error::{Error, Result, shown},
    frame::Item,
};

/// Seconds of the other streams that are read ahead of the pictures: sound lies a little beside its pictures in any file.
const AHEAD: f64 = 1.;

/// Writes `segments`, one after the other, into `film`, with the packets of `source`, which was opened for them
/// (`packets_only`). `end`: where the last frame ends, in ticks of the source's main video. `told` hears how many
/// frames are written, after each.
///
/// # Errors
/// A segment cannot be read, or is not of this film: [`Error::Input`]. [`Error::Output`] where the film cannot be
/// written; then nothing stands under its name.
pub fn splice(
    mut source: Source,
    mut film: FileSink,
    segments: &[PathBuf],
    end: i64,
    told: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Written> {
    let ticks = film.ticks();
    let (num, den) = source.info().video.time_base;
    let end = end.rescale(Rational(num, den), ticks);
    let mut order = Order::new(film.delay());
    let mut frames = 0;
    let mut next = Reel::times(segments, 0, ticks)?;
    for (at, segment) in segments.iter().enumerate() {
        let times = next;
        next = Reel::times(segments, at + 1, ticks)?;
        let after = next.first().copied().unwrap_or(end);
        let mut reel = Reel::open(segment)?;
        reel.check(&film)?;
        while let Some(mut packet) = reel.next(ticks)? {
            order.stamp(&mut packet, &times, after, segment)?;
            let time = packet.dts().unwrap_or(0) as f64 * f64::from(ticks);
            bring(&mut source, &mut film, time + AHEAD)?;
            film.encoded(packet)?;
            frames += 1;
            told(frames)?;
        }
    }
    bring(&mut source, &mut film, f64::INFINITY)?;
    Box::new(film).finish()
}

/// Hands over the packets of the other streams up to a time, in seconds.
fn bring(source: &mut Source, film: &mut FileSink, until: f64) -> Result<()> {
    while source.reached() < until {
        match source.next()? {
            Some(Item::Packet(packet)) => film.packet(&packet)?,
            Some(Item::Frame(_)) => {}
            None => break,
        }
    }
    Ok(())
}

/// Times of decoding for pictures that come in the order of decoding: those of showing, in their order, as much earlier
/// as the encoder holds frames back. An encoder of the whole film gives the same.
struct Order {
    delay: usize,
    /// Times of showing that no picture has been decoded at yet.
    free: BinaryHeap<Reverse<i64>>,
    /// The film's first times, until there are enough to tell by how much decoding comes earlier.
    begun: usize,
    lead: Option<i64>,
}

impl Order {
    fn new(delay: usize) -> Self {
        Self {
            delay,
            free: BinaryHeap::new(),
            begun: 0,
            lead: None,
        }
    }

    /// Gives a packet its time of decoding, and its length: until the next of its segment's `times`, or `after`.
    fn stamp(
        &mut self,
        packet: &mut Packet,
        times: &[i64],
        after: i64,
        segment: &Path,
    ) -> Result<()> {
        let damaged = |why: &str| Error::input(shown(segment), why);
        let pts = packet
            .pts()
            .ok_or_else(|| damaged("a picture has no time"))?;
        let next = times.partition_point(|&t| t <= pts);
        packet.set_duration((times.get(next).copied().unwrap_or(after) - pts).max(1));
        self.free.push(Reverse(pts));
        let dts = match self.begun < self.delay {
            // Before the first picture is shown.
            true => {
                let lead = *self.lead.get_or_insert_with(|| lead(times, self.delay));
                let time = times.get(self.begun).copied().unwrap_or(pts);
                self.begun += 1;
                time - lead
            }
            false => self.free.pop().map_or(pts, |Reverse(t)| t),
        };
        if dts > pts {
            return Err(damaged(
                "its pictures are in another order than their encoder says",
            ));
        }
        packet.set_dts(Some(dts));
        Ok(())
    }
}

/// How much earlier decoding begins than showing.
fn lead(times: &[i64], delay: usize) -> i64 {
    let first = times.first().copied().unwrap_or(0);
    match times.get(delay) {
        Some(later) => later - first,
        // Fewer pictures than the encoder could hold back.
        None => times.last().map_or(0, |last| last - first) + delay as i64,
    }
}

/// A segment that is read.
struct Reel {
    path: PathBuf,
    input: ffmpeg::format::context::Input,
}

impl Reel {
    fn open(path: &Path) -> Result<Self> {
        let url = [b"file:", path.as_os_str().as_encoded_bytes()].concat();
        let opened = ffmpeg::format::input(publish::os_str(&url));
        let refused = |e| Error::input(shown(path), format!("this segment cannot be read: {e}"));
        Ok(Self {
            path: path.to_owned(),
            input: opened.map_err(refused)?,
        })
    }

    /// Times of showing in the segment of that number, rising; none behind the last.
    fn times(segments: &[PathBuf], at: usize, ticks: Rational) -> Result<Vec<i64>> {
        let Some(path) = segments.get(at) else {
            return Ok(Vec::new());
        };
        let mut reel = Self::open(path)?;
        let mut times = Vec::new();
        while let Some(packet) = reel.next(ticks)? {
            times.extend(packet.pts());
        }
        times.sort_unstable();
        Ok(times)
    }

    /// Another version of an encoder, or other settings, show in its headers.
    fn check(&self, film: &FileSink) -> Result<()> {
        let stream = self.input.stream(0);
        if stream.is_some_and(|stream| ffi::headers_of(&stream) == film.headers()) {
            return Ok(());
        }
        Err(Error::input(
            shown(&self.path),
            "this segment was encoded with other settings, or by another version of the encoder, than this program has: it \
             cannot be joined with the others",
        ))
    }

    /// The next picture with its times in `ticks`.
    fn next(&mut self, ticks: Rational) -> Result<Option<Packet>> {
        let mut packet = Packet::empty();
        match packet.read(&mut self.input) {
            Ok(()) => {
                let base = self.input.stream(packet.stream()).map(|s| s.time_base());
                packet.rescale_ts(base.unwrap_or(ticks), ticks);
                Ok(Some(packet))
            }
            Err(ffmpeg::Error::Eof) => Ok(None),
            Err(e) => Err(Error::input(
                shown(&self.path),
                format!("this segment cannot be read on: {e}"),
            )),
        }
    }
}
