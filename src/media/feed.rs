//! Feed: a source that is seen as it comes. One that goes away is opened again; all that came of it is one stream, on
//! one clock, in one size.

use super::{InputOptions, Packet, reader::Reader};
use crate::{
    error::{Error, Result},
    frame::{Decoded, Item},
};
use ffmpeg_next::{Rational, Rescale, codec, rescale::TIME_BASE};
use std::{
    ffi::{OsStr, OsString},
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

/// The first pause before a source is opened again; every next one is twice as long.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest: whoever comes back is not to wait long.
const LONGEST: Duration = Duration::from_millis(1500);
/// How often a pause looks whether the user wants to end.
const LOOK: Duration = Duration::from_millis(20);

/// What a live source has to tell.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// It is gone, and why; said once, however often it is opened in vain.
    Gone(String),
    /// It is back, after so long.
    Back(Duration),
}

/// Who is told.
pub type Hear = Box<dyn FnMut(Told) + Send>;

/// The stream that outlasts its readers.
pub(super) struct Feed {
    input: OsString,
    options: InputOptions,
    hear: Hear,
    /// What every stream was when it was opened first, and is now: what comes later under its number must be the same.
    tracks: Vec<Track>,
    now: Vec<Track>,
    /// Ticks of the main video, in which frames are given.
    tb: Rational,
    /// When time 0 was.
    begun: Option<Instant>,
    /// Frames given.
    frames: u64,
    /// End of the last frame, and what is added to the times of this reader, in those ticks.
    end: i64,
    offset: i64,
}

/// A stream's kind and ticks.
struct Track {
    codec: codec::Id,
    tb: Rational,
}

impl Feed {
    /// Goes on from `reader`, which has just been opened.
    pub fn new(input: &OsStr, options: InputOptions, reader: &Reader, hear: Hear) -> Self {
        Self {
            input: input.to_owned(),
            options,
            hear,
            tracks: tracks(reader),
            now: tracks(reader),
            tb: reader.time_base(),
            begun: None,
            frames: 0,
            end: 0,
            offset: 0,
        }
    }

    /// The next frame or packet; `None` at the end of a film.
    pub fn next(&mut self, reader: &mut Reader) -> Result<Option<Item<Decoded>>> {
        loop {
            let gone = match reader.next() {
                Ok(Some(Item::Frame(frame))) => {
                    return self.frame(frame, reader).map(|f| Some(Item::Frame(f)));
                }
                Ok(Some(Item::Packet(packet))) => match self.packet(packet) {
                    Some(packet) => return Ok(Some(Item::Packet(packet))),
                    None => continue,
                },
                Ok(None) if reader.is_at_hand() => return Ok(None),
                Ok(None) => "it has ended".to_owned(),
                Err(Error::Stopped) => return Err(Error::Stopped),
                Err(e) => e.to_string(),
            };
            *reader = self.again(reader, gone)?;
        }
    }

    /// Opens the source until it is there again.
    fn again(&mut self, earlier: &mut Reader, why: String) -> Result<Reader> {
        let gone = Instant::now();
        // A camera or a port is only there for one.
        earlier.close()?;
        (self.hear)(Told::Gone(why));
        let mut pause = PAUSE;
        loop {
            self.wait(pause)?;
            pause = (2 * pause).min(LONGEST);
            let opened = Reader::open(&self.input, &self.options).and_then(|mut reader| {
                reader.follow(earlier);
                reader.read_first_frame()?;
                Ok(reader)
            });
            match opened {
                Ok(reader) => {
                    // The clock went on while nothing came.
                    let passed = self
                        .begun
                        .map_or(0, |begun| begun.elapsed().as_micros() as i64);
                    self.offset = passed.rescale(TIME_BASE, self.tb).max(self.end);
                    self.now = tracks(&reader);
                    (self.hear)(Told::Back(gone.elapsed()));
                    return Ok(reader);
                }
                Err(Error::Stopped) => return Err(Error::Stopped),
                // It was said why.
                Err(_) => {}
            }
        }
    }

    /// A pause that ends as soon as the user wants it to.
    fn wait(&self, pause: Duration) -> Result<()> {
        let until = Instant::now() + pause;
        let stop = self.options.interrupt.as_ref();
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            if stop.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
                return Err(Error::Stopped);
            }
            thread::sleep(left.min(LOOK));
        }
        Ok(())
    }

    /// A frame in its place among all; of what comes early, when its time has come.
    fn frame(&mut self, mut frame: Decoded, reader: &Reader) -> Result<Decoded> {
        let from = reader.time_base();
        frame.pts = (frame.pts.rescale(from, self.tb) + self.offset).max(self.end);
        frame.duration = frame.duration.rescale(from, self.tb).max(1);
        frame.index = self.frames;
        self.frames += 1;
        let time = Duration::from_micros(frame.pts.rescale(self.tb, TIME_BASE).max(0) as u64);
        let begun = *self.begun.get_or_insert_with(|| {
            let now = Instant::now();
            now.checked_sub(time).unwrap_or(now)
        });
        // Frames that come late make nothing late: the next one may be as late.
        self.end = frame.pts + 1;
        if reader.comes_early() {
            self.wait((begun + time).saturating_duration_since(Instant::now()))?;
            frame.arrived = Instant::now();
        }
        Ok(frame)
    }

    /// A packet on the clock of all; `None` of a stream that was not there at first, or was of another kind.
    fn packet(&self, mut packet: Packet) -> Option<Packet> {
        let stream = packet.packet.stream();
        let track = self.tracks.get(stream)?;
        if self.now.get(stream)?.codec != track.codec {
            return None;
        }
        packet.packet.rescale_ts(packet.time_base, track.tb);
        packet.time_base = track.tb;
        let offset = self.offset.rescale(self.tb, track.tb);
        let moved = |time: Option<i64>| time.map(|t| t + offset);
        let (pts, dts) = (moved(packet.packet.pts()), moved(packet.packet.dts()));
        packet.packet.set_pts(pts);
        packet.packet.set_dts(dts);
        Some(packet)
    }
}

fn tracks(reader: &Reader) -> Vec<Track> {
    let track = |stream: ffmpeg_next::Stream<'_>| Track {
        codec: stream.parameters().id(),
        tb: stream.time_base(),
    };
    reader.input().streams().map(track).collect()
}
