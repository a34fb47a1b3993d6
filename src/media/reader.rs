//! Reader: the demuxer, the decoder and what lies between a file and a frame in its place.
//!
//! What is damaged is counted and passed over, as a player would; what cannot be read at all is an error.

use super::{
    InputOptions, Packet, Part, Picture, SourceInfo, SourceReport, ffi,
    location::Location,
    probe,
    timeline::{FrameClock, Jump, Timeline, from_seconds, seconds},
};
use crate::{
    error::{Error, Result},
    frame::{Decoded, Item},
};
use ffmpeg_next::{
    self as ffmpeg, Dictionary, Rational, Rescale, codec::packet::side_data::Type as SideData,
    media::Type, rescale::TIME_BASE,
};
use std::{collections::VecDeque, ffi::OsStr, time::Instant};

/// Packets of other streams that may wait for the first frame. A file that holds more before it is refused.
const WAITING: usize = 50_000;
/// And their bytes.
const WAITING_BYTES: usize = 256 << 20;
/// Damaged places in a row that the demuxer may step over before the rest counts as lost.
const DAMAGED_IN_A_ROW: u32 = 256;
/// Other streams may lag this far behind the picture where `--duration` ends the film, in AV_TIME_BASE units.
const LAG: i64 = 5_000_000;
const ENCRYPTED: &str = "its video is encrypted; decrypt it first (where you hold the key of an MP4: --input-option \
                         decryption_key=HEX)";

/// The wanted part of the film, in AV_TIME_BASE units of film time.
#[derive(Clone, Copy)]
struct Trim {
    start: Option<i64>,
    length: Option<i64>,
    /// Where the wanted part ends: known from the first wanted frame on.
    end: Option<i64>,
}

impl Trim {
    fn new(options: &InputOptions) -> Result<Self> {
        let check = |name: &str, value: Option<f64>, least: f64| match value {
            Some(v) if !v.is_finite() || v < least || v > 1e9 => Err(Error::Usage(format!(
                "--{name} {v}: must be a number of seconds {}, at most 1e9",
                if least > 0.0 { "above 0" } else { "from 0 on" }
            ))),
            v => Ok(v.map(from_seconds)),
        };
        let start = check("start", options.start, 0.0)?.filter(|&s| s > 0);
        let length = check("duration", options.duration, f64::MIN_POSITIVE)?;
        Ok(Self {
            start,
            length,
            end: length.filter(|_| start.is_none()),
        })
    }

    fn begun(&self, t: i64) -> bool {
        self.start.is_none_or(|start| t >= start)
    }

    fn ended(&self, t: i64) -> bool {
        self.end.is_some_and(|end| t >= end)
    }
}

/// What must be known of a stream for every packet of it.
#[derive(Clone, Copy)]
struct Track {
    tb: Rational,
    medium: Type,
    cover: bool,
}

impl Track {
    fn new(stream: &ffmpeg::Stream<'_>) -> Self {
        Self {
            tb: stream.time_base(),
            medium: stream.parameters().medium(),
            cover: probe::is_cover(stream),
        }
    }

    /// Its clock runs without gaps.
    fn steady(&self) -> bool {
        matches!(self.medium, Type::Audio | Type::Video) && !self.cover
    }
}

/// Everything of a source but what it tells about itself.
pub(super) struct Reader {
    location: Location,
    trim: Trim,
    input: ffmpeg::format::context::Input,
    container: ffi::Container,
    tracks: Vec<Track>,
    main: usize,
    /// Time base of the main video.
    tb: Rational,
    decoder: ffmpeg::decoder::Video,
    timeline: Timeline,
    clock: FrameClock,
    /// Packets read ahead while looking for a place to begin.
    ahead: VecDeque<ffmpeg::Packet>,
    /// What is ready, in film time.
    queue: VecDeque<Item<Decoded>>,
    /// The newest frame, whose duration the next one tells.
    held: Option<Decoded>,
    /// The first yielded frame's film time where `--start` is given, else 0: subtracted from all that is yielded.
    origin: i64,
    /// Shape of the first frame, which all others are given.
    shape: Option<ffmpeg::frame::Video>,
    rescaler: Option<ffi::Rescaler>,
    stage: Stage,
    damaged_in_a_row: u32,
    last_refusal: Option<ffmpeg::Error>,
    at_hand: bool,
    in_pieces: bool,
    /// Only these frames.
    part: Option<Part>,
    /// Nothing of the picture but the first frame.
    packets_only: bool,
    /// No frame waits for the next one, which would tell how long it lasts.
    low_delay: bool,
    /// When the last packet came.
    arrived: Instant,
    report: SourceReport,
    warnings: Vec<String>,
}

/// A packet of the main video, without its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Undecoded {
    /// When it is shown, in ticks after the film's start.
    pub pts: Option<i64>,
    /// When it is decoded, likewise.
    pub dts: Option<i64>,
    /// Its size.
    pub bytes: usize,
    /// Decoding can begin here.
    pub key: bool,
    /// The demuxer has marked it as damaged.
    pub damaged: bool,
}

impl Undecoded {
    /// Whether it is the same packet, by all that a frame comes from. Where containers do not tell times of decoding,
    /// demuxers guess them, otherwise behind a seek than on the way through.
    pub fn is_like(&self, other: &Self) -> bool {
        (self.pts, self.bytes, self.key) == (other.pts, other.bytes, other.key)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Demuxing and decoding.
    Reading,
    /// The picture has reached the end of the wanted part; other streams may lag.
    PictureDone,
    /// Nothing more will be queued.
    Done,
}

impl Reader {
    /// Opens `input` and the decoder of its main video.
    pub(super) fn open(input: &OsStr, options: &InputOptions) -> Result<Self> {
        let trim = Trim::new(options)?;
        let location = Location::new(input, options)?;
        let (input, rest) = location.open(options)?;
        let mut container = ffi::container(&input);
        if input.streams().any(|s| s.duration() == i64::from(u32::MAX)) {
            // All ones: a recorder's "not known yet", which FFmpeg takes for a length.
            container.duration = None;
        }
        let tracks: Vec<Track> = input.streams().map(|s| Track::new(&s)).collect();
        let (main, decoder) = open_decoder(&location, &input, options.threads, rest)?;
        let kind = input.format().name().to_owned();
        let at_hand = container.duration.is_some() || kind == "lavfi";
        let in_pieces = ["hls", "dash"].contains(&kind.as_str());
        let tb = tracks[main].tb;
        let rate = input.stream(main).and_then(|s| ffi::frame_rate(&input, &s));
        Ok(Self {
            timeline: Timeline::new(container.start.unwrap_or(0), container.jumps, tracks.len()),
            clock: FrameClock::new(tb, rate),
            location,
            trim,
            input,
            container,
            tracks,
            main,
            tb,
            decoder,
            ahead: VecDeque::new(),
            queue: VecDeque::new(),
            held: None,
            origin: 0,
            shape: None,
            rescaler: None,
            stage: Stage::Reading,
            damaged_in_a_row: 0,
            last_refusal: None,
            at_hand,
            in_pieces,
            part: options.part,
            packets_only: options.packets_only,
            low_delay: options.low_delay,
            arrived: Instant::now(),
            report: SourceReport::default(),
            warnings: Vec::new(),
        })
    }

    /// What is known once the first frame has been read.
    pub(super) fn info(&self) -> Result<SourceInfo> {
        let (Some(stream), Some(first)) = (self.input.stream(self.main), self.first_queued())
        else {
            return Err(Error::internal("input", "opened without a frame"));
        };
        let trimmed = self.trim.start.is_some() || self.trim.end.is_some();
        let counted = u64::try_from(stream.frames())
            .ok()
            .filter(|&n| n > 0 && !trimmed);
        Ok(SourceInfo {
            name: self.location.name.clone(),
            format: self.input.format().name().to_owned(),
            video: probe::video_info(
                &self.input,
                &stream,
                &first.picture.0,
                self.duration(),
                counted,
            ),
        })
    }

    /// Length in seconds, number of frames, width and height, as far as the container knows.
    pub(super) fn look(&self) -> (f64, u64, (usize, usize)) {
        let seconds = self.duration().unwrap_or(0.);
        let Some(stream) = self.input.stream(self.main) else {
            return (seconds, 0, (0, 0));
        };
        let shape = ffi::stream_shape(&stream);
        let rate = ffi::frame_rate(&self.input, &stream).map_or(0., f64::from);
        let counted = u64::try_from(stream.frames()).ok().filter(|&n| n > 0);
        let frames = counted.unwrap_or((seconds * rate).round() as u64);
        (
            seconds,
            frames,
            (shape.width.max(0) as usize, shape.height.max(0) as usize),
        )
    }

    /// The first frame, while it has not been taken.
    pub(super) fn first_queued(&self) -> Option<&Decoded> {
        self.queue.iter().find_map(|item| match item {
            Item::Frame(frame) => Some(frame),
            Item::Packet(_) => None,
        })
    }

    pub(super) fn input(&self) -> &ffmpeg::format::context::Input {
        &self.input
    }

    /// Lets go of the source, so that it can be opened again; nothing more can be read here.
    pub(super) fn close(&mut self) -> Result<()> {
        self.stage = Stage::Done;
        let closed = ffi::close(&mut self.input);
        closed.map_err(|e| Error::internal("input", e))
    }

    /// Gives frames the size and format that an earlier reader's had.
    pub(super) fn follow(&mut self, earlier: &Self) {
        self.shape = earlier.shape.as_ref().map(ffi::template);
    }

    /// The latest time that any stream has reached, in AV_TIME_BASE units of film time.
    pub(super) fn latest(&self) -> i64 {
        self.timeline.latest()
    }

    /// Ticks of the main video.
    pub(super) fn time_base(&self) -> Rational {
        self.tb
    }

    /// Whether it is a film, or drawn as fast as it is asked for: not what gives a frame when there is one.
    pub(super) fn is_at_hand(&self) -> bool {
        self.at_hand
    }

    /// Whether frames come faster than they are to be seen: all at once, or many seconds of them at a time.
    pub(super) fn comes_early(&self) -> bool {
        self.at_hand || self.in_pieces
    }

    pub(super) fn main(&self) -> usize {
        self.main
    }

    pub(super) fn report(&self) -> SourceReport {
        self.report
    }

    pub(super) fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Where the file begins, in AV_TIME_BASE units.
    pub(super) fn start(&self) -> i64 {
        self.timeline.start()
    }

    /// Film time that is subtracted from all that is yielded, in AV_TIME_BASE units.
    pub(super) fn origin(&self) -> i64 {
        self.origin.rescale(self.tb, TIME_BASE)
    }

    /// Film time where the wanted part ends, in AV_TIME_BASE units.
    pub(super) fn end(&self) -> Option<i64> {
        self.trim.end
    }

    /// Seconds of the wanted part.
    fn duration(&self) -> Option<f64> {
        let start = self.trim.start.unwrap_or(0);
        let whole = self.container.duration.map(|d| (d - start).max(0));
        match (whole, self.trim.length) {
            (Some(whole), Some(length)) => Some(whole.min(length)),
            (whole, length) => whole.or(length),
        }
        .map(seconds)
    }

    /// Goes to a key frame of the main video at or before `--start`, where the input allows; else it is decoded from
    /// its beginning.
    pub(super) fn seek(&mut self, options: &InputOptions) -> Result<()> {
        if let Some(part) = self.part {
            return self.enter(part, options);
        }
        let Some(start) = self.trim.start.filter(|_| self.container.seekable) else {
            return Ok(());
        };
        let whole = self.container.duration.unwrap_or(i64::MAX);
        if self.container.duration_is_written && start >= whole {
            return Err(self.beyond(whole));
        }
        // Transport streams are entered between key frames: step back until one is met in time.
        for back in [0, 2, 10, 60, 600].map(|s| s * 1_000_000) {
            if start <= back {
                break;
            }
            let target = start - back + self.timeline.start();
            // The range's end is FFmpeg's greatest allowed time, itself included.
            if self.input.seek(target, ..target).is_err() {
                break;
            }
            if self.found_key_frame(start)? {
                return Ok(());
            }
        }
        let name = self.location.name.clone();
        *self = Self::open(OsStr::new(&name), options)?;
        Ok(())
    }

    /// Goes to where a part is entered; where that cannot be found it is decoded from the film's beginning, which gives
    /// the same frames, later.
    fn enter(&mut self, part: Part, options: &InputOptions) -> Result<()> {
        if part
            .enter
            .is_none_or(|enter| self.finds(enter).unwrap_or(false))
        {
            return Ok(());
        }
        if self.location.interrupted() {
            return Err(Error::Stopped);
        }
        let name = self.location.name.clone();
        *self = Self::open(OsStr::new(&name), options)?;
        Ok(())
    }

    /// Goes to the random-access point of the main video at this time of the film, in its ticks; whether it is there. Its
    /// packet is the next one that is read.
    pub(super) fn finds(&mut self, enter: i64) -> Result<bool> {
        if !self.container.seekable {
            return Ok(false);
        }
        let time = enter.rescale(self.tb, TIME_BASE) + self.timeline.start();
        for back in [0, 2, 10, 60].map(|s| s * 1_000_000) {
            // Ticks are rounded to microseconds.
            let target = time - back + 1;
            if self.input.seek(target, ..target).is_err() {
                break;
            }
            if self.found_entry(enter)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn found_entry(&mut self, enter: i64) -> Result<bool> {
        self.ahead.clear();
        while let Some(packet) = self.demux()? {
            if packet.stream() != self.main || !packet.is_key() {
                continue;
            }
            let Some(pts) = self.film_time(packet.pts()) else {
                return Ok(false);
            };
            if pts >= enter {
                self.ahead.push_back(packet);
                return Ok(pts == enter);
            }
        }
        Ok(false)
    }

    /// A time of the main video as the file has it, on the film's clock, where that has no jumps.
    fn film_time(&self, time: Option<i64>) -> Option<i64> {
        let start = self.timeline.start().rescale(TIME_BASE, self.tb);
        time.map(|t| t - start)
    }

    /// The next packet of the main video and its times on the film's clock, without decoding it; `None` at the end.
    pub(super) fn next_undecoded(&mut self) -> Result<Option<Undecoded>> {
        loop {
            let packet = match self.ahead.pop_front() {
                None => self.demux()?,
                packet => packet,
            };
            match packet {
                None => return Ok(None),
                Some(packet) if packet.stream() == self.main => {
                    return Ok(Some(Undecoded {
                        pts: self.film_time(packet.pts()),
                        dts: self.film_time(packet.dts()),
                        bytes: packet.size(),
                        key: packet.is_key(),
                        damaged: packet.is_corrupt(),
                    }));
                }
                Some(_) => {}
            }
        }
    }

    /// Whether the file's clock may jump, and whether it can be entered on the way.
    pub(super) fn container(&self) -> &ffi::Container {
        &self.container
    }

    /// Reads up to the next key frame of the main video; whether it lies at or before `start`.
    fn found_key_frame(&mut self, start: i64) -> Result<bool> {
        self.ahead.clear();
        while self.ahead.len() < WAITING {
            let Some(packet) = self.demux()? else {
                return Ok(false);
            };
            let key = packet.stream() == self.main && packet.is_key();
            let time = packet.pts().or(packet.dts());
            // What comes before the key frame cannot be decoded without its own.
            if packet.stream() != self.main || key {
                self.ahead.push_back(packet);
            }
            if key {
                let film = |t: i64| t.rescale(self.tb, TIME_BASE) - self.timeline.start();
                return Ok(time.is_some_and(|t| film(t) <= start));
            }
        }
        Ok(false)
    }

    /// Decodes until the first wanted frame is queued.
    pub(super) fn read_first_frame(&mut self) -> Result<()> {
        let mut bytes = 0;
        let mut seen = 0;
        while !matches!(self.queue.back(), Some(Item::Frame(_))) && self.stage != Stage::Done {
            self.step()?;
            for item in self.queue.iter().skip(seen) {
                if let Item::Packet(packet) = item {
                    bytes += packet.packet.size();
                }
            }
            seen = self.queue.len();
            if seen > WAITING || bytes > WAITING_BYTES {
                return Err(self.location.error(format!(
                    "no picture among the first {seen} packets of sound and other streams; is the video damaged?"
                )));
            }
        }
        match self.first_queued() {
            None => Err(self.no_frame()),
            Some(_) => Ok(()),
        }
    }

    /// Why there is no first frame.
    fn no_frame(&self) -> Error {
        let trimmed = self.trim.start.is_some() || self.trim.length.is_some();
        match self.last_refusal {
            Some(e) => self.location.error(format!(
                "none of its pictures can be decoded ({e}): it is damaged, encrypted, or of a kind that FFmpeg here \
                 does not know"
            )),
            None if trimmed => self.beyond(self.timeline.latest().max(0)),
            None => self.location.error(
                "its video stream holds no picture; was its copy or download interrupted?",
            ),
        }
    }

    fn beyond(&self, length: i64) -> Error {
        self.location.error(format!(
            "there is no picture in the part that --start and --duration ask for: the film is {:.3} s long",
            seconds(length)
        ))
    }

    /// The next frame or packet; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Item<Decoded>>> {
        loop {
            match self.queue.pop_front() {
                Some(Item::Frame(mut frame)) => {
                    frame.pts -= self.origin;
                    frame.index = self.report.frames;
                    self.report.frames += 1;
                    return Ok(Some(Item::Frame(frame)));
                }
                Some(Item::Packet(packet)) => {
                    if let Some(packet) = self.trimmed(packet) {
                        return Ok(Some(Item::Packet(packet)));
                    }
                }
                None if self.stage == Stage::Done => return Ok(None),
                None => self.step()?,
            }
        }
    }

    /// A packet as it is yielded: moved to the output's start; `None` outside the wanted part.
    fn trimmed(&self, mut item: Packet) -> Option<Packet> {
        let packet = &mut item.packet;
        let track = self.tracks[packet.stream()];
        if track.cover {
            packet.set_pts(Some(0));
            packet.set_dts(Some(0));
            return Some(item);
        }
        let origin = self.origin.rescale(self.tb, track.tb);
        if let Some(t) = packet.pts().or(packet.dts()) {
            if self.trim.ended(t.rescale(track.tb, TIME_BASE)) {
                return None;
            }
            let early = origin - t;
            if self.trim.start.is_some() && early > 0 {
                if track.medium != Type::Subtitle || packet.duration() <= early {
                    return None;
                }
                // A subtitle that stands over the start is shown from the start on.
                packet.set_pts(Some(origin));
                packet.set_dts(Some(origin));
                packet.set_duration(packet.duration() - early);
            }
        }
        packet.set_pts(packet.pts().map(|t| t - origin));
        packet.set_dts(packet.dts().map(|t| t - origin));
        Some(item)
    }

    /// Reads one packet and queues what comes of it.
    fn step(&mut self) -> Result<()> {
        let next = match self.ahead.pop_front() {
            None => self.demux()?,
            packet => packet,
        };
        let Some(mut packet) = next else {
            return self.finish();
        };
        let Some(&track) = self.tracks.get(packet.stream()) else {
            self.report.late_packets += 1;
            self.warn(self.report.late_packets, || {
                "a stream that begins in the middle of the file is left out".into()
            });
            return Ok(());
        };
        if let Some(jump) = self.timeline.place(&mut packet, track.tb, track.steady()) {
            self.jumped(&jump);
        }
        if packet.is_corrupt() {
            self.corrupt();
        }
        if packet.stream() != self.main {
            if self.part.is_none() && !self.over_before_start(&packet, track) {
                self.queue.push_back(Item::Packet(Packet {
                    packet,
                    time_base: track.tb,
                }));
            }
        } else if self.stage == Stage::Reading && self.wants_frames() {
            self.decode(&packet)?;
        }
        if self.stage == Stage::PictureDone && self.others_done() {
            self.stage = Stage::Done;
        }
        Ok(())
    }

    fn wants_frames(&self) -> bool {
        !self.packets_only || self.shape.is_none()
    }

    /// Where an input cannot seek, an hour of sound before `--start` must not wait in memory for its first frame.
    fn over_before_start(&self, packet: &ffmpeg::Packet, track: Track) -> bool {
        let Some(t) = packet.pts().or(packet.dts()).filter(|_| !track.cover) else {
            return false;
        };
        let end = t.saturating_add(packet.duration());
        !self.trim.begun(end.rescale(track.tb, TIME_BASE))
    }

    /// Whether no stream can still hold packets of the wanted part.
    fn others_done(&self) -> bool {
        let late = |t: i64, lag| {
            self.trim
                .end
                .is_some_and(|end| t >= end.saturating_add(lag))
        };
        let sounds = self.tracks.iter().enumerate();
        late(self.timeline.latest(), LAG)
            || sounds
                .filter(|(_, t)| t.medium == Type::Audio)
                .all(|(i, _)| self.timeline.reached(i).is_some_and(|t| late(t, 0)))
    }

    /// The next packet as the demuxer gives it; `None` at the end.
    fn demux(&mut self) -> Result<Option<ffmpeg::Packet>> {
        loop {
            if self.location.interrupted() {
                return Err(Error::Stopped);
            }
            let mut packet = ffmpeg::Packet::empty();
            match packet.read(&mut self.input) {
                Ok(()) => {
                    self.damaged_in_a_row = 0;
                    self.arrived = Instant::now();
                    self.location.heard();
                    return Ok(Some(packet));
                }
                Err(ffmpeg::Error::Eof) => return Ok(None),
                Err(_) if self.location.interrupted() => return Err(Error::Stopped),
                // Also behind a packet that a demuxer made of what it had when the waiting ended.
                Err(ffmpeg::Error::Exit) => return Err(self.location.silence()),
                Err(_) if self.location.silent() => return Err(self.location.silence()),
                // Demuxers step over a damaged place; one that cannot would say the same for ever.
                Err(ffmpeg::Error::InvalidData) if self.damaged_in_a_row < DAMAGED_IN_A_ROW => {
                    self.damaged_in_a_row += 1;
                }
                Err(ffmpeg::Error::InvalidData) => return Ok(None),
                // A capture device has nothing yet.
                Err(ffmpeg::Error::Other { errno }) if errno == ffmpeg::error::EAGAIN => {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                Err(e) => {
                    return Err(self.location.error(format!(
                        "reading failed at {:.3} s: {e}; check the disk or the connection, then try again",
                        seconds(self.timeline.latest().max(0))
                    )));
                }
            }
        }
    }

    fn decode(&mut self, packet: &ffmpeg::Packet) -> Result<()> {
        if packet
            .side_data()
            .any(|d| d.kind() == SideData::EncryptionInfo)
        {
            return Err(self.location.error(ENCRYPTED));
        }
        match self.decoder.send_packet(packet) {
            Ok(()) => {}
            Err(ffmpeg::Error::Eof) => return Ok(()),
            Err(e) => {
                self.last_refusal = Some(e);
                if !packet.is_corrupt() {
                    self.corrupt();
                }
            }
        }
        self.drain()
    }

    /// Takes all frames that the decoder has ready.
    fn drain(&mut self) -> Result<()> {
        let mut refused = 0;
        while self.stage == Stage::Reading {
            let mut frame = ffmpeg::frame::Video::empty();
            match self.decoder.receive_frame(&mut frame) {
                Ok(()) => {
                    ffi::mend_tags(&mut frame);
                    self.accept(frame)?;
                }
                Err(ffmpeg::Error::Eof) => break,
                Err(ffmpeg::Error::Other { errno }) if errno == ffmpeg::error::EAGAIN => break,
                Err(e) => {
                    self.last_refusal = Some(e);
                    self.corrupt();
                    refused += 1;
                    if refused > DAMAGED_IN_A_ROW {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Gives a decoded frame its time and its place in the queue.
    fn accept(&mut self, mut frame: ffmpeg::frame::Video) -> Result<()> {
        let pts = self.clock.place(frame.timestamp(), frame.packet().duration);
        self.release_held(pts);
        let time = pts.rescale(self.tb, TIME_BASE);
        if self.trim.ended(time) {
            self.stage = Stage::PictureDone;
        }
        if !self.trim.begun(time) || self.trim.ended(time) || !self.is_in_part(pts) {
            return Ok(());
        }
        if frame.is_corrupt() || frame.has_decode_errors() {
            self.report.damaged_frames += 1;
            self.warn_damaged();
        }
        if self.shape.is_none() && self.trim.start.is_some() {
            self.origin = pts;
            self.trim.end = self.trim.length.map(|length| time + length);
        }
        frame = self.reshape(frame, time)?;
        frame.set_pts(Some(pts));
        self.held = Some(Decoded {
            index: 0,
            pts,
            duration: 1,
            arrived: self.arrived,
            picture: Picture(frame),
        });
        if self.low_delay || self.packets_only {
            self.release_held(pts + self.clock.last_duration(None));
        }
        Ok(())
    }

    /// Whether a frame of this time is in the part that is wanted, behind which nothing more is read.
    fn is_in_part(&mut self, pts: i64) -> bool {
        let Some(part) = self.part else {
            return true;
        };
        if part.to.is_some_and(|to| pts >= to) {
            self.stage = Stage::Done;
        }
        self.stage == Stage::Reading && pts >= part.from
    }

    /// Queues the held frame, which lasts until `next`.
    fn release_held(&mut self, next: i64) {
        let Some(mut frame) = self.held.take() else {
            return;
        };
        let end = self.trim.end.map(|end| end.rescale(TIME_BASE, self.tb));
        let until = end.map_or(next, |end| next.min(end));
        frame.duration = (until - frame.pts).max(1);
        self.queue.push_back(Item::Frame(frame));
    }

    /// A frame in the size and pixel format of the first one.
    fn reshape(&mut self, frame: ffmpeg::frame::Video, time: i64) -> Result<ffmpeg::frame::Video> {
        let Some(like) = &self.shape else {
            self.shape = Some(ffi::template(&frame));
            return Ok(frame);
        };
        if (like.format(), like.width(), like.height())
            == (frame.format(), frame.width(), frame.height())
        {
            self.report.size_changes += u64::from(self.rescaler.take().is_some());
            return Ok(frame);
        }
        let failed = |e| {
            let why = format!(
                "the picture changes its size at {:.3} s and cannot be scaled: {e}",
                seconds(time)
            );
            self.location.error(why)
        };
        let fresh = !self.rescaler.as_ref().is_some_and(|r| r.takes(&frame));
        let mut rescaler = match self.rescaler.take() {
            Some(rescaler) if !fresh => rescaler,
            _ => ffi::Rescaler::new(&frame, like).map_err(failed)?,
        };
        let scaled = rescaler.convert(&frame, like).map_err(failed)?;
        self.rescaler = Some(rescaler);
        if fresh {
            self.report.size_changes += 1;
            let text = format!(
                "from {:.3} s on the picture is {}; it is scaled to the first frame's {}",
                seconds(time),
                probe::shape(&frame),
                probe::shape(like)
            );
            self.warn(self.report.size_changes, || text);
        }
        Ok(scaled)
    }

    /// The end of the file: what the decoder still holds, and the last frame's duration.
    fn finish(&mut self) -> Result<()> {
        if self.stage == Stage::Reading && self.wants_frames() && self.decoder.send_eof().is_ok() {
            self.drain()?;
        }
        if let Some(pts) = self.held.as_ref().map(|frame| frame.pts) {
            self.release_held(pts + self.clock.last_duration(self.track_end()));
        }
        self.stage = Stage::Done;
        self.check_length();
        Ok(())
    }

    /// Where the main video ends by its header, in film time; only QuickTime's and its heirs' says that of a track.
    fn track_end(&self) -> Option<i64> {
        let stream = self.input.stream(self.main)?;
        let usable = self.container.tracks_have_ends
            && self.report.discontinuities == 0
            && self.report.corrupt_packets == 0
            && self.damaged_in_a_row == 0
            && stream.duration() > 0
            && stream.duration() != i64::from(u32::MAX);
        let start = self.timeline.start().rescale(TIME_BASE, self.tb);
        usable.then(|| stream.start_time().saturating_add(stream.duration()) - start)
    }

    /// Says so where the file ends long before its header does.
    fn check_length(&mut self) {
        let promised = match self.container.duration {
            Some(d) if self.container.duration_is_written && self.trim.end.is_none() => d,
            _ => return,
        };
        let reached = self.timeline.latest().max(0);
        if promised - reached > (promised / 50).max(1_000_000) {
            self.report.truncated = true;
            self.warnings.push(format!(
                "the file ends at {:.3} s, though its header promises {:.3} s: it is cut short; everything up to \
                 there is used",
                seconds(reached),
                seconds(promised)
            ));
        }
    }

    fn jumped(&mut self, jump: &Jump) {
        self.report.discontinuities += 1;
        self.warn(self.report.discontinuities, || {
            format!(
                "the clock jumps by {:.3} s at {:.3} s; the jump is closed up for all streams alike",
                jump.by, jump.at
            )
        });
    }

    fn corrupt(&mut self) {
        if self.part.is_some() && self.held.is_none() && self.report.frames == 0 {
            // Pictures behind the point of entry may lean on others before it: none of them is wanted.
            return;
        }
        self.report.corrupt_packets += 1;
        self.warn_damaged();
    }

    fn warn_damaged(&mut self) {
        let at = seconds(self.timeline.latest().max(0));
        self.warn(self.report.corrupt_packets + self.report.damaged_frames, || {
            format!("damaged data near {at:.3} s; what can be saved of it is used, and the rest goes on")
        });
    }

    /// Keeps the first warning of a kind; the report counts the others.
    fn warn(&mut self, nth: u64, text: impl FnOnce() -> String) {
        if nth == 1 {
            self.warnings.push(text());
        }
    }
}

/// Chooses the main video and opens its decoder.
fn open_decoder(
    location: &Location,
    input: &ffmpeg::format::context::Input,
    threads: usize,
    options: Dictionary<'_>,
) -> Result<(usize, ffmpeg::decoder::Video)> {
    let Some(stream) = probe::main_video(input).and_then(|i| input.stream(i)) else {
        return Err(location.error(no_video(input)));
    };
    // Matroska's demuxer hands encrypted frames on as they are and only leaves the key's name.
    if stream.metadata().get("enc_key_id").is_some() {
        return Err(location.error(ENCRYPTED));
    }
    let id = stream.parameters().id();
    let refused = |e| location.error(format!("its {} video cannot be decoded: {e}", id.name()));
    let codec = ffmpeg::decoder::find(id).ok_or_else(|| {
        location.error(format!(
            "FFmpeg here has no decoder for its {} video; `ffmpeg -decoders` lists those it has",
            id.name()
        ))
    })?;
    let context = ffmpeg::codec::Context::from_parameters(stream.parameters()).map_err(refused)?;
    let mut decoder = context.decoder();
    decoder.set_packet_time_base(stream.time_base());
    let (decoder, unknown) =
        ffi::open_decoder(decoder, codec, threads, options).map_err(refused)?;
    match unknown.iter().next() {
        Some((key, _)) => Err(Error::Usage(format!(
            "--input-option {key}: neither the {} reader nor the {} decoder has an option of that name; see `ffmpeg \
             -h demuxer={0}`",
            input.format().name(),
            id.name()
        ))),
        None => Ok((stream.index(), decoder)),
    }
}

/// Why nothing in the file can be coloured.
fn no_video(input: &ffmpeg::format::context::Input) -> &'static str {
    let has = |medium| input.streams().any(|s| s.parameters().medium() == medium);
    if has(Type::Video) {
        "its only picture is cover art: there is no video to colorize; extract the picture first to colorize it"
    } else if has(Type::Audio) {
        "it holds only sound: there is no video to colorize"
    } else {
        "it holds no video stream; check it with ffprobe"
    }
}
