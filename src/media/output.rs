//! FileSink: encode the frames, copy the packets, mux both.
//!
//! [`FileSink::create`] decides and opens everything, so that what cannot be done is said before the first frame:
//! [`container`](super::container) knows the containers, [`encoder`](super::encoder) the encoders,
//! [`streams`](super::streams) what becomes of each stream, [`publish`](super::publish) how a file gets its name.

use super::container::Target;
use super::encoder::{self, Opened, Wanted};
use super::ffi::output::{self as ffi, Mux};
use super::publish::{self, Part, Place, Sequence};
use super::streams::{Lane, Streams};
use super::*;
use crate::error::{Error, shown};
use crate::frame::Merged;
use ffmpeg_next as ffmpeg;
use ffmpeg_next::{Rational, Rescale};
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use std::time::Duration;

/// How to write an output.
#[derive(Clone, Debug, Default)]
pub struct OutputOptions {
    /// Container (`mp4`, `mkv`, `images`, ...) or FFmpeg's muxer name, where the extension does not say. Standard
    /// output (`-`) is Matroska unless this says otherwise.
    pub format: Option<String>,
    /// `h264`, `hevc`, `av1`, `vp9`, `prores`, `ffv1` or any FFmpeg encoder name; default by container and depth.
    pub codec: Option<String>,
    /// Constant rate factor, in the encoder's own units.
    pub crf: Option<f64>,
    /// The encoder's preset.
    pub preset: Option<String>,
    /// `--encoder-option key=value`.
    pub encoder_options: Vec<(String, String)>,
    /// Pixel format to encode instead of the source's own.
    pub pixel_format: Option<String>,
    /// Overwrite an existing output.
    pub force: bool,
    /// Leave out streams that the container cannot hold.
    pub drop_unsupported: bool,
    /// Encoder threads; 0: FFmpeg's choice.
    pub threads: usize,
    /// What the output's metadata says about how its colours were made ("comment").
    pub provenance: String,
    /// When raised, encoding stops at once, even while the encoder is drained at the end.
    pub interrupt: Option<Arc<AtomicBool>>,
    /// The longest that a connection may take to take something; `None`: as long as it likes.
    pub patience: Option<Duration>,
    /// What is written is a segment of a film that will have this name: pictures only, encoded as for that, in a container
    /// that keeps every tick. [`super::splice`] joins them.
    pub segment_of: Option<OsString>,
    /// What is written cannot be made again: however the run ends, it stays, at least as a `.part` that plays.
    pub once: bool,
}

/// What a note says of frames whose times an output cannot tell.
pub const MOVED: &str = "frames were moved to the nearest tick of a constant frame rate";

/// An encoder and a muxer.
///
/// Files grow under the name `NAME.part` and get their own name when they are whole. Numbered pictures are written one
/// by one under their own names; those of an unfinished sequence are removed. Standard output, URLs, devices and
/// muxers that name their own files (playlists) are written to directly.
pub struct FileSink {
    // Dropped in this order: the muxer closes its file before the place removes it.
    mux: Mux,
    place: Place,
    name: String,
    layout: Layout,
    video: Video,
    /// One for each stream of the source that travels by packets.
    lanes: Vec<Lane>,
    lines: Vec<String>,
    messages: Vec<String>,
    notes: Vec<String>,
    /// The film was ended early: what lies behind the last frame is not written.
    cut: bool,
    /// Its pictures come encoded.
    spliced: bool,
    /// Every frame has a time of its own in it.
    splittable: bool,
    single: bool,
    interrupt: Option<Arc<AtomicBool>>,
}

/// The encoded stream.
struct Video {
    encoder: ffmpeg::codec::encoder::Video,
    settings: ffi::Settings,
    name: String,
    captions: bool,
    /// Of the frames that come.
    source_base: Rational,
    /// The time there that is 0 here.
    from: i64,
    /// The muxer's stream, its time base, and the last decoding time there.
    stream: usize,
    base: Rational,
    last: Option<i64>,
    /// Start and length of the frames in the encoder, in its ticks.
    lengths: VecDeque<(i64, i64)>,
    /// The last time given to the encoder.
    last_pts: Option<i64>,
    /// End of the last frame, in the source's ticks.
    end: i64,
    frames: u64,
    /// Frames whose time the output cannot tell.
    moved: u64,
    /// The container plays frame after frame, whatever their times.
    gapless: bool,
}

/// The container of segments: it keeps every tick, and holds nearly everything.
pub(super) const SEGMENT: &str = "nut";

/// Frames that one packet of a coder's delay may span; more than any encoder's look-ahead.
const LENGTHS: usize = 4096;

impl FileSink {
    /// Opens `output` for the frames and packets of `source`; every refusal happens here, before the first frame, and
    /// leaves nothing on the disk.
    ///
    /// # Errors
    /// [`Error::Output`]: the output exists, is the input or cannot be written; the container, the codec or an option
    /// is unknown; the encoder refuses the film's size or depth; the container cannot hold a stream.
    pub fn create(output: &OsStr, options: &OutputOptions, source: &Source) -> Result<Self> {
        Self::open(output, options, &Origin::of(source)?, 0)
    }

    /// The same for the frames and packets of a source from a time on, in its ticks, which is 0 in the output.
    ///
    /// # Errors
    /// As for [`FileSink::create`].
    pub fn open(
        output: &OsStr,
        options: &OutputOptions,
        origin: &Origin,
        from: i64,
    ) -> Result<Self> {
        let name = shown(output);
        let (film, alone) = match &options.segment_of {
            None => (output, None),
            Some(film) => (film.as_os_str(), Some(origin.alone()?)),
        };
        let origin = alone.as_ref().unwrap_or(origin);
        // What it is encoded for, and what it is put into.
        let wanted = Target::choose(film, options.format.as_deref())?;
        let target = match alone {
            None => wanted,
            Some(_) => Target::choose(output, Some(SEGMENT))?,
        };
        let mut place = place(output, options, &target, origin)?;
        let single = target.is_images() && matches!(place, Place::File(_));
        if single && origin.video.frames.is_some_and(|n| n > 1) {
            return Err(one_picture(&name));
        }
        let mut streams = Streams::plan(output, &target, options, origin, from)?;
        let mut opened = encoder::open(&Wanted {
            output: film,
            options,
            target: &wanted,
            video: &origin.video,
            first: &origin.first.0,
            stream: streams.main(),
        })?;
        streams.name_encoder(&opened.name);
        if let Place::File(part) = &mut place {
            part.create()?;
        }
        let placed = streams.mux(&place, &opened)?;
        let mut messages = std::mem::take(&mut streams.messages);
        messages.append(&mut opened.messages);
        let mut lines = std::mem::take(&mut streams.lines);
        lines.insert(0, format!("video {}: colorized", opened.line));
        let layout = opened.layout;
        let mux = placed.mux;
        let gapless = target.is_gapless();
        let video = Video::new(opened, (&mux, placed.video), (origin, from), gapless);
        Ok(Self {
            video,
            lanes: placed.lanes,
            mux,
            place,
            name,
            layout,
            lines,
            messages,
            notes: Vec::new(),
            cut: false,
            spliced: false,
            splittable: !target.is_constant() && !target.is_images(),
            single,
            interrupt: options.interrupt.clone(),
        })
    }

    /// What a person should know of this output before the first frame: streams that are left out, sizes and fields
    /// that the encoder takes otherwise. What comes up later is in [`Written::notes`].
    pub fn messages(&self) -> &[String] {
        &self.messages
    }

    /// Bytes written so far; 0 where the muxer opens its files itself.
    pub fn bytes(&self) -> u64 {
        self.mux.bytes()
    }

    fn refuse(&self, why: impl ToString) -> Error {
        Error::output(&self.name, why)
    }

    /// An error of the encoder or the muxer, with the frame where it happened.
    fn failed(&self, what: &str, e: ffmpeg::Error) -> Error {
        let video = &self.video;
        let at = video.end as f64 * f64::from(video.source_base);
        let why = sentence(e);
        let left = self.place.left();
        let left = left.map_or(String::new(), |part| {
            format!("; what came before is in {part}")
        });
        self.refuse(format!(
            "{what} at frame {} ({at:.3} s): {why}{left}",
            video.frames
        ))
    }

    /// Another format or size than was agreed would be read beyond its end.
    fn check(&self, frame: &ffmpeg::frame::Video) -> Result<()> {
        let settings = &self.video.settings;
        let agreed = (self.layout.pixel, settings.width, settings.height);
        let came = (frame.format(), frame.width(), frame.height());
        if agreed == came {
            return Ok(());
        }
        let why = format!("a picture is {came:?} where {agreed:?} was agreed");
        Err(Error::internal("encode", why))
    }

    /// Sends one frame, or the end, to the encoder and writes what it gives.
    fn encode(&mut self, frame: Option<&ffmpeg::Frame>) -> Result<()> {
        let sent = match frame {
            Some(frame) => self.video.encoder.send_frame(frame),
            None => self.video.encoder.send_eof(),
        };
        sent.map_err(|e| self.failed("the encoder failed", e))?;
        loop {
            self.check_interrupt()?;
            let mut packet = ffmpeg::Packet::empty();
            match self.video.encoder.receive_packet(&mut packet) {
                Ok(()) => self.write_video(packet)?,
                Err(ffmpeg::Error::Eof) => return Ok(()),
                Err(e) if e == AGAIN => return Ok(()),
                Err(e) => return Err(self.failed("the encoder failed", e)),
            }
        }
    }

    /// A slow encoder takes seconds to give what it holds at the end of a film: the user's second Ctrl-C is not kept
    /// waiting for that.
    fn check_interrupt(&self) -> Result<()> {
        match &self.interrupt {
            Some(flag) if flag.load(Ordering::Relaxed) => Err(Error::Stopped),
            _ => Ok(()),
        }
    }

    /// Whether this film can be made of segments: not if its frames count by their place in the file, or every picture is a
    /// file, or the container of segments lacks the codec.
    pub fn takes_segments(&self) -> bool {
        let target = Target::choose(OsStr::new(SEGMENT), Some(SEGMENT));
        let holds = |target: Target| target.surely_holds(ffi::codec_of(&self.video.encoder));
        self.splittable && target.is_ok_and(holds)
    }

    /// What of the encoder a film's segments must agree in: the headers that stand in front of all.
    pub(super) fn headers(&self) -> Vec<u8> {
        ffi::headers(&self.video.encoder)
    }

    /// How many frames the encoder may hold back to put them in another order.
    pub(super) fn delay(&self) -> usize {
        ffi::delay(&self.video.encoder)
    }

    /// The ticks of the encoder's times.
    pub(super) fn ticks(&self) -> Rational {
        self.video.settings.time_base
    }

    /// Takes a picture that was encoded elsewhere, as it would be here; its times and its length are in [`Self::ticks`].
    pub(super) fn encoded(&mut self, mut packet: ffmpeg::Packet) -> Result<()> {
        self.spliced = true;
        self.video.frames += 1;
        self.video.place(&mut packet);
        self.write_placed(packet)
    }

    fn write_video(&mut self, mut packet: ffmpeg::Packet) -> Result<()> {
        self.video.stamp(&mut packet);
        self.write_placed(packet)
    }

    /// Writes a packet with its times, and before it what the other streams have of that time.
    fn write_placed(&mut self, packet: ffmpeg::Packet) -> Result<()> {
        let until = (packet.dts().unwrap_or(0), self.video.base);
        self.write_lanes(Some(until))?;
        if let Place::Sequence(sequence) = &mut self.place {
            sequence.count();
        }
        let written = self.mux.write(packet);
        written.map_err(|e| self.failed("writing failed", e))
    }

    /// Writes the copied packets up to a time, or all: so they lie beside the frames that they belong to, although the
    /// encoder looks ahead.
    fn write_lanes(&mut self, until: Option<(i64, Rational)>) -> Result<()> {
        for i in 0..self.lanes.len() {
            while let Some(packet) = self.lanes[i].next(until) {
                let line = self.lanes[i].line.clone();
                let written = self.mux.write(packet);
                written.map_err(|e| {
                    self.failed(
                        &format!("writing a packet of the stream '{line}' failed"),
                        e,
                    )
                })?;
            }
        }
        Ok(())
    }

    /// What was noticed on the way.
    fn take_notes(&mut self) -> Vec<String> {
        let mut notes = std::mem::take(&mut self.notes);
        if self.video.moved > 0 {
            notes.push(format!(
                "{} {MOVED}, which is all that this output can hold; an .mkv or .mp4 output keeps their times",
                self.video.moved
            ));
        }
        notes.extend(self.lanes.iter().filter_map(Lane::note));
        notes
    }
}

const AGAIN: ffmpeg::Error = ffmpeg::Error::Other {
    errno: ffmpeg::error::EAGAIN,
};

impl Video {
    /// For the frames of `origin` from a time on.
    fn new(
        opened: Opened,
        (mux, stream): (&Mux, usize),
        (origin, from): (&Origin, i64),
        gapless: bool,
    ) -> Self {
        let (n, d) = origin.video.time_base;
        Self {
            encoder: opened.encoder,
            settings: opened.settings,
            name: opened.name,
            captions: opened.captions,
            source_base: Rational(n, d),
            from,
            stream,
            base: mux.time_base(stream),
            last: None,
            lengths: VecDeque::new(),
            last_pts: None,
            end: 0,
            frames: 0,
            moved: 0,
            gapless,
        }
    }

    /// The frame as the encoder wants it, with a time in the encoder's ticks.
    fn prepare(&mut self, merged: &Merged) -> Result<ffmpeg::frame::Video, ffmpeg::Error> {
        let start = merged.pts - self.from;
        let pts = self.tick(start);
        let length = merged
            .duration
            .rescale(self.source_base, self.settings.time_base)
            .max(1);
        self.end = self.end.max(start + merged.duration);
        self.frames += 1;
        self.lengths.push_back((pts, length));
        if self.lengths.len() > LENGTHS {
            self.lengths.pop_front();
        }
        let mut frame = ffi::reference(&merged.picture.0)?;
        frame.set_pts(Some(pts));
        ffi::dress(&mut frame);
        Ok(frame)
    }

    /// A time in the encoder's ticks, always after the one before.
    fn tick(&mut self, pts: i64) -> i64 {
        let (from, to) = (self.source_base, self.settings.time_base);
        let nearest = pts.rescale(from, to);
        let tick = self.last_pts.map_or(nearest, |last| nearest.max(last + 1));
        let exact = nearest.rescale(to, from) == pts;
        // A millisecond of Matroska's own rounding is no news.
        let off = (tick.rescale(to, MILLISECOND) - pts.rescale(from, MILLISECOND)).abs();
        let gap = self.gapless && self.last_pts.is_some_and(|last| tick > last + 1);
        self.moved += u64::from(gap || tick != nearest || !exact && off > 1);
        self.last_pts = Some(tick);
        tick
    }

    /// Gives an encoded packet its stream, its length and its times there.
    fn stamp(&mut self, packet: &mut ffmpeg::Packet) {
        let pts = packet.pts().or(packet.dts());
        let found = self
            .lengths
            .iter()
            .position(|(start, _)| Some(*start) == pts);
        // The encoder says 0, and then mp4 would not show the last frame.
        let length = found
            .and_then(|i| self.lengths.remove(i))
            .map_or(1, |(_, length)| length);
        packet.set_duration(length);
        packet.set_pts(pts);
        packet.set_dts(packet.dts().or(pts));
        self.place(packet);
    }

    /// Gives a packet its stream, and the muxer's ticks.
    fn place(&mut self, packet: &mut ffmpeg::Packet) {
        packet.rescale_ts(self.settings.time_base, self.base);
        packet.set_stream(self.stream);
        packet.set_position(-1);
        super::streams::rising(packet, &mut self.last, false);
    }
}

const MILLISECOND: Rational = Rational(1, 1000);

impl Sink for FileSink {
    fn layout(&self) -> Option<Layout> {
        Some(self.layout)
    }

    fn frame(&mut self, frame: &Merged) -> Result<()> {
        if self.single && self.video.frames > 0 {
            return Err(one_picture(&self.name));
        }
        if !self.video.captions && ffi::has_captions(&frame.picture.0) {
            // The other encoders' answer to captions is the same for every frame: say it once.
            self.video.captions = true;
            self.notes.push(format!(
                "the film has closed captions in its pictures, which {} cannot keep; --codec h264 does",
                self.video.name
            ));
        }
        self.check(&frame.picture.0)?;
        let prepared = self.video.prepare(frame);
        let prepared = prepared
            .map_err(|e| self.failed("the picture cannot be prepared for the encoder", e))?;
        self.encode(Some(&prepared))
    }

    fn packet(&mut self, packet: &Packet) -> Result<()> {
        let Some(lane) = self
            .lanes
            .iter_mut()
            .find(|lane| lane.source == packet.packet.stream())
        else {
            return Ok(());
        };
        lane.push(packet);
        Ok(())
    }

    fn cut(&mut self) {
        self.cut = true;
    }

    fn finish(mut self: Box<Self>) -> Result<Written> {
        if !self.spliced {
            self.encode(None)?;
        }
        if self.cut {
            let end = (self.video.end, self.video.source_base);
            self.lanes.iter_mut().for_each(|lane| lane.cut(end));
        }
        self.write_lanes(None)?;
        let trailer = self.mux.trailer();
        trailer.map_err(|e| self.failed("the end of the file could not be written", e))?;
        let closed = self.mux.close();
        closed.map_err(|e| self.failed("closing the output failed", e))?;
        let bytes = self.place.publish()?;
        Ok(Written {
            notes: self.take_notes(),
            name: self.name,
            frames: self.video.frames,
            bytes,
            streams: self.lines,
        })
    }
}

fn one_picture(name: &str) -> Error {
    let why = "this name holds one picture, and the film has more; number them: out%04d.png";
    Error::output(name, why)
}

/// What an error of libavformat's means to a person.
pub(super) fn sentence(e: ffmpeg::Error) -> String {
    match e {
        ffmpeg::Error::Other {
            errno: ffmpeg::error::ENOSPC,
        } => "the disk is full; free some space or choose another place".into(),
        ffmpeg::Error::Other {
            errno: ffmpeg::error::EPIPE,
        } => "whoever reads it has gone away".into(),
        e => e.to_string(),
    }
}

/// Where the output goes; checks without touching the disk.
fn place(
    output: &OsStr,
    options: &OutputOptions,
    target: &Target,
    origin: &Origin,
) -> Result<Place> {
    if output == "-" {
        return Ok(Place::Direct(b"pipe:1".to_vec()));
    }
    if publish::is_url(output) {
        return Ok(Place::Direct(output.as_encoded_bytes().to_vec()));
    }
    let path = publish::path_of(output);
    let input = publish::path_of(publish::os_str(&origin.url));
    if publish::is_special(path) {
        return Ok(Place::Direct(publish::url_of(path)));
    }
    if target.is_images() {
        if let Some(sequence) = Sequence::parse(path) {
            if sequence.touches(input) {
                return Err(input_is_output(output));
            }
            sequence.check(options.force)?;
            return Ok(Place::Sequence(sequence));
        }
    } else if target.format.opens_its_files() {
        return Ok(Place::Direct(output.as_encoded_bytes().to_vec()));
    }
    if publish::same_file(path, input) {
        return Err(input_is_output(output));
    }
    let part = Part::plan(path, options.force, options.once)?;
    if part.touches(input) {
        return Err(input_is_output(output));
    }
    Ok(Place::File(part))
}

fn input_is_output(output: &OsStr) -> Error {
    let why = "this is the input itself; name another file";
    Error::output(shown(Path::new(output)), why)
}
