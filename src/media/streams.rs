//! What becomes of every stream, chapter and tag of the source: planned and refused first, then muxed.

use super::adts::Adts;
use super::container::{Route, Target, holder_of};
use super::encoder::Opened;
use super::ffi::output::{self as ffi, Chapter, Dict, Kind, Mux, StreamCopy, Subtitles};
use super::output::{OutputOptions, sentence};
use super::publish::Place;
use super::{Origin, Packet};
use crate::error::{Error, Result, shown};
use ffmpeg_next as ffmpeg;
use ffmpeg_next::{Rational, Rescale};
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::time::Duration;

/// How long the muxer may hold packets back to wait for a stream that is silent, in microseconds. Frames and packets
/// arrive here in order already.
const INTERLEAVE: i64 = 1_000_000;
/// The lead of MPEG-TS data over its clock, in microseconds: what the `ffmpeg` program takes, and players expect.
const TS_DELAY: i32 = 700_000;
/// Tags that describe the source's container, and would be untrue of the output.
const CONTAINER_TAGS: [&str; 4] = [
    "major_brand",
    "minor_version",
    "compatible_brands",
    "encoder",
];
/// Beginnings of tags that Matroska writers keep about a stream's size.
const STATISTICS: [&str; 6] = [
    "BPS",
    "DURATION",
    "NUMBER_OF_FRAMES",
    "NUMBER_OF_BYTES",
    "_STATISTICS",
    "encoder",
];
/// Tags that iTunes-style metadata has names for; mp4 loses others unless it is told to write QuickTime's open kind.
const ITUNES_TAGS: [&str; 24] = [
    "title",
    "artist",
    "album_artist",
    "composer",
    "album",
    "date",
    "encoder",
    "comment",
    "genre",
    "copyright",
    "grouping",
    "lyrics",
    "description",
    "synopsis",
    "show",
    "episode_id",
    "network",
    "keywords",
    "track",
    "disc",
    "episode_sort",
    "season_number",
    "creation_time",
    "timecode",
];

/// One stream of the source.
struct Plan {
    index: usize,
    copy: StreamCopy,
    route: Route,
    converter: Option<Subtitles>,
}

/// Everything that goes to the muxer beside the encoded pictures, and how.
pub(super) struct Streams {
    output: OsString,
    target: Target,
    plans: Vec<Plan>,
    main: usize,
    chapters: Vec<Chapter>,
    metadata: Dict,
    drop_unsupported: bool,
    /// The longest that a connection may take to take something.
    patience: Option<Duration>,
    /// It cannot be made again.
    once: bool,
    /// Times are not moved, though decoding may begin before 0.
    unmoved: bool,
    /// From when on packets are written, in ticks of the main video.
    from: (i64, Rational),
    /// One line a kept stream.
    pub lines: Vec<String>,
    /// What a person should know.
    pub messages: Vec<String>,
}

/// A muxer with its header written.
pub(super) struct Placed {
    pub mux: Mux,
    /// The encoded stream's place in it.
    pub video: usize,
    pub lanes: Vec<Lane>,
}

impl Streams {
    /// Looks at every stream of the source and refuses those that the container cannot hold.
    pub fn plan(
        output: &OsStr,
        target: &Target,
        options: &OutputOptions,
        origin: &Origin,
        from: i64,
    ) -> Result<Self> {
        let (n, d) = origin.video.time_base;
        let from = (from, Rational(n, d));
        let mut this = Self {
            output: output.to_os_string(),
            target: *target,
            plans: Vec::new(),
            main: 0,
            chapters: origin.chapters.clone(),
            metadata: global_metadata(origin.metadata.clone(), &options.provenance),
            drop_unsupported: options.drop_unsupported,
            patience: options.patience,
            once: options.once,
            unmoved: options.segment_of.is_some(),
            from,
            lines: Vec::new(),
            messages: Vec::new(),
        };
        for (index, copy) in origin.streams.iter().enumerate() {
            if index == origin.main {
                this.add_main(copy.clone(), index, origin);
            } else {
                this.add(copy.clone(), index)?;
            }
        }
        Ok(this)
    }

    /// The main video's stream in the source.
    pub fn main(&self) -> &StreamCopy {
        &self.plans[self.main].copy
    }

    /// Says in the stream's metadata who encoded it.
    pub fn name_encoder(&mut self, encoder: &str) {
        let metadata = &mut self.plans[self.main].copy.metadata;
        let version = env!("CARGO_PKG_VERSION");
        metadata.set("encoder", &format!("autochrome {version} {encoder}"));
    }

    fn add_main(&mut self, mut copy: StreamCopy, index: usize, origin: &Origin) {
        if copy.keep_picture_side_data() {
            let why = "Dolby Vision's dynamic settings are left out: they describe the old colours";
            self.messages.push(why.into());
        }
        for (kind, bytes) in ffi::light(&origin.first.0) {
            copy.add_side_data(kind, bytes);
        }
        copy.metadata
            .remove(|key| starts_with_any(key, &STATISTICS));
        self.main = self.plans.len();
        self.plans.push(Plan {
            index,
            copy,
            route: Route::Copy,
            converter: None,
        });
    }

    fn add(&mut self, mut copy: StreamCopy, index: usize) -> Result<()> {
        if self.target.format.picture_only() {
            let told = describe(&copy, index);
            self.messages.push(format!(
                "{told} is left out: {} holds pictures only",
                self.target.name()
            ));
            return Ok(());
        }
        let mut route = self.target.route(&copy);
        let mut converter = None;
        if let Route::Convert(codec) = route {
            match self.converter(&copy, codec) {
                Some(made) => converter = Some(made),
                None => route = Route::Refuse,
            }
        }
        match route {
            Route::Refuse => return self.refuse_or_drop(&copy, index, "cannot hold"),
            Route::Drop => {
                self.tell_dropped_data(&copy, index);
                return Ok(());
            }
            Route::AttachCover => name_cover(&mut copy),
            Route::Attach => name_attachment(&mut copy, index),
            _ => {}
        }
        self.plans.push(Plan {
            index,
            copy,
            route,
            converter,
        });
        Ok(())
    }

    fn converter(&self, copy: &StreamCopy, codec: &str) -> Option<Subtitles> {
        let encoder = ffmpeg::encoder::find_by_name(codec)?;
        Subtitles::new(copy, encoder.id()).ok()
    }

    /// The stream is an error, or left out with a message where that was asked for.
    fn refuse_or_drop(&mut self, copy: &StreamCopy, index: usize, cannot: &str) -> Result<()> {
        let (told, name) = (describe(copy, index), self.target.name());
        if self.drop_unsupported {
            self.messages
                .push(format!("{told} is left out: {name} {cannot} it"));
            return Ok(());
        }
        let advice = match holder_of(copy).filter(|holder| *holder != name) {
            Some(holder) => {
                format!("an output in {holder} does; --drop-unsupported goes on without it")
            }
            None => "--drop-unsupported goes on without it".into(),
        };
        Err(Error::output(
            shown(&self.output),
            format!("{name} {cannot} {told}; {advice}"),
        ))
    }

    /// Time code and chapter tracks are data as well, but are written anew from the metadata.
    fn tell_dropped_data(&mut self, copy: &StreamCopy, index: usize) {
        let rewritten = match &copy.tag() {
            b"tmcd" => true,
            b"text" | b"tx3g" => !self.chapters.is_empty(),
            _ => false,
        };
        if !rewritten {
            let told = describe(copy, index);
            self.messages
                .push(format!("{told} is left out: data streams are not copied"));
        }
    }

    // -- muxing --

    /// Opens the output and writes the header. A stream at which the header fails is refused by name, or left out.
    pub fn mux(&mut self, place: &Place, opened: &Opened) -> Result<Placed> {
        loop {
            let e = match self.try_mux(place, opened, &|_| true, false) {
                Ok(placed) => {
                    self.describe_all();
                    return Ok(placed);
                }
                Err(e) => e,
            };
            let culprit = match e {
                Failure::Open(_) => None,
                Failure::Header(_) => self.culprit(place, opened),
            };
            let Some(at) = culprit else {
                return Err(self.failure(e));
            };
            let plan = self.plans.remove(at);
            self.main -= usize::from(at < self.main);
            self.refuse_or_drop(&plan.copy, plan.index, "does not take")?;
        }
    }

    fn failure(&self, e: Failure) -> Error {
        let name = self.target.name();
        let why = match e {
            Failure::Open(e) => sentence(e),
            Failure::Header(e) => match sentence(e) {
                why if e == NO_SPACE => why,
                why => format!("the {name} muxer refuses to begin ({why}); try an .mkv output"),
            },
        };
        Error::output(shown(&self.output), why)
    }

    /// The stream that alone, beside the pictures, makes the header fail.
    fn culprit(&self, place: &Place, opened: &Opened) -> Option<usize> {
        if self.target.format.opens_its_files() {
            return None;
        }
        let others = (0..self.plans.len()).filter(|&at| at != self.main);
        others.into_iter().find(|&at| {
            let tried = self.try_mux(place, opened, &|other| other == at, true);
            matches!(tried, Err(Failure::Header(_)))
        })
    }

    /// A muxer with the pictures and the streams that `with` says yes to; in memory only, for a trial.
    fn try_mux(
        &self,
        place: &Place,
        opened: &Opened,
        with: &dyn Fn(usize) -> bool,
        trial: bool,
    ) -> Result<Placed, Failure> {
        let mut mux = Mux::new(self.target.format, &place.url()).map_err(Failure::Open)?;
        if let Some(patience) = self.patience {
            mux.hurry(patience);
        }
        let delay = (self.target.container.name == "ts").then_some(TS_DELAY);
        mux.limits(INTERLEAVE, delay);
        let (video, places) = self
            .add_all(&mut mux, opened, with)
            .map_err(Failure::Header)?;
        mux.set_metadata(self.metadata.clone());
        match (trial, self.target.format.opens_its_files()) {
            (true, _) => mux.open_memory(),
            (false, true) => Ok(()),
            (false, false) => mux.open(),
        }
        .map_err(Failure::Open)?;
        mux.header(self.options(place)).map_err(Failure::Header)?;
        self.place(mux, video, &places, trial)
    }

    /// Adds every stream and chapter; gives the encoded stream's place, and of the other plans their number and place.
    fn add_all(
        &self,
        mux: &mut Mux,
        opened: &Opened,
        with: &dyn Fn(usize) -> bool,
    ) -> std::result::Result<(usize, Vec<(usize, usize)>), ffmpeg::Error> {
        let (mut video, mut places) = (0, Vec::new());
        for (at, plan) in self.plans.iter().enumerate() {
            if at == self.main {
                video = mux.add_encoded(&opened.encoder, &plan.copy, opened.settings.time_base)?;
            } else if with(at) {
                places.push((at, plan.add_to(mux)?));
            }
        }
        for chapter in &self.chapters {
            mux.add_chapter(chapter)?;
        }
        Ok((video, places))
    }

    /// Writes the covers and opens a lane for every stream of packets.
    fn place(
        &self,
        mut mux: Mux,
        video: usize,
        places: &[(usize, usize)],
        trial: bool,
    ) -> Result<Placed, Failure> {
        let mut lanes = Vec::new();
        if trial {
            return Ok(Placed { mux, video, lanes });
        }
        for &(at, stream) in places {
            let plan = &self.plans[at];
            match plan.route {
                Route::Cover => mux
                    .write_picture(stream, &plan.copy)
                    .map_err(Failure::Header)?,
                Route::Copy | Route::Convert(_) => lanes.push(self.lane(plan, &mux, stream)),
                _ => {}
            }
        }
        Ok(Placed { mux, video, lanes })
    }

    fn lane(&self, plan: &Plan, mux: &Mux, stream: usize) -> Lane {
        let base = mux.time_base(stream);
        let codec = plan.copy.codec_name();
        let late = self.target.is_matroska() && codec == "opus" && !ffi::matroska_adds_delay();
        let (padding, sample) = plan.copy.padding();
        Lane {
            source: plan.index,
            line: describe(&plan.copy, plan.index),
            stream,
            converter: plan.fresh_converter(),
            base,
            queue: VecDeque::new(),
            last: None,
            strict: !self.target.format.takes_equal_times(),
            delay: if late {
                padding.rescale(sample, base)
            } else {
                0
            },
            adts: (self.target.is_quicktime() && codec == "aac").then(Adts::default),
            gaps: plan.route == Route::Copy && codec == "mov_text",
            from: self.from.0.rescale(self.from.1, base),
            broken: 0,
        }
    }

    /// The muxer's options for this output.
    fn options(&self, place: &Place) -> Dict {
        let mut dict: Dict = self.target.container.options.iter().copied().collect();
        let file = matches!(place, Place::File(_));
        if self.target.is_quicktime() {
            dict.set("movflags", &self.movflags(file && !self.once));
        }
        if self.once && file {
            dict.set("flush_packets", "1");
            // At most a second is lost with the power, in microseconds here and in milliseconds there.
            match self.target.is_matroska() {
                true => dict.set("cluster_time_limit", "1000"),
                false if self.target.is_quicktime() => dict.set("frag_duration", "1000000"),
                false => {}
            }
        }
        if self.unmoved {
            dict.set("avoid_negative_ts", "disabled");
        }
        if self.target.is_matroska() {
            // As the source has it, not as the muxer would guess.
            dict.set("default_mode", "passthrough");
        }
        if self.target.container.name == "ts"
            && place.url().to_ascii_lowercase().ends_with(b".m2ts.part")
        {
            // The muxer would know by the extension, which is hidden behind `.part`.
            dict.set("mpegts_m2ts_mode", "1");
        }
        if self.target.is_images() {
            let many = matches!(place, Place::Sequence(_));
            dict.set(if many { "atomic_writing" } else { "update" }, "1");
        }
        dict
    }

    fn movflags(&self, seekable: bool) -> String {
        let mut flags = String::from("+write_colr");
        // What cannot be sought in, or may end at any moment, has its index beside the pictures instead of in front.
        flags += if seekable {
            "+faststart"
        } else {
            "+frag_keyframe+delay_moov+default_base_moof"
        };
        let cover = self.plans.iter().any(|plan| plan.route == Route::Cover);
        let foreign = |key: &String| !ITUNES_TAGS.contains(&key.to_lowercase().as_str());
        // The open kind has no place for a cover.
        if !cover && self.metadata.keys().iter().any(foreign) {
            flags += "+use_metadata_tags";
        }
        flags
    }

    fn describe_all(&mut self) {
        for (at, plan) in self.plans.iter().enumerate() {
            if at != self.main {
                self.lines.push(plan.line());
            }
        }
        if !self.chapters.is_empty() {
            self.lines
                .push(format!("{} chapters: kept", self.chapters.len()));
        }
    }
}

/// A text of no length.
pub(super) const MOV_TEXT_GAP: [u8; 2] = [0, 0];
const NO_SPACE: ffmpeg::Error = ffmpeg::Error::Other {
    errno: ffmpeg::error::ENOSPC,
};

/// Why a muxer did not start.
enum Failure {
    /// The file or connection.
    Open(ffmpeg::Error),
    /// The streams.
    Header(ffmpeg::Error),
}

impl Plan {
    fn add_to(&self, mux: &mut Mux) -> std::result::Result<usize, ffmpeg::Error> {
        match (self.route, &self.converter) {
            (Route::Convert(_), Some(converter)) => mux.add_converted(&self.copy, converter),
            (Route::AttachCover, _) => {
                mux.add_attachment(&self.copy, self.copy.picture().unwrap_or_default())
            }
            _ => mux.add_copy(&self.copy),
        }
    }

    fn fresh_converter(&self) -> Option<Subtitles> {
        match (self.route, &self.converter) {
            (Route::Convert(_), Some(converter)) => {
                Subtitles::new(&self.copy, converter.codec()).ok()
            }
            _ => None,
        }
    }

    fn line(&self) -> String {
        let told = tell(&self.copy);
        match self.route {
            Route::Convert(codec) => format!("{told}: converted to {codec}"),
            Route::Attach | Route::AttachCover => format!("{told}: attached"),
            _ => format!("{told}: copied"),
        }
    }
}

/// A copied or converted stream on its way: its packets wait here until the pictures of their time are written.
pub(super) struct Lane {
    /// Index of the stream in the source.
    pub source: usize,
    /// What it is, for messages.
    pub line: String,
    stream: usize,
    converter: Option<Subtitles>,
    base: Rational,
    queue: VecDeque<ffmpeg::Packet>,
    last: Option<i64>,
    strict: bool,
    /// Added to every time, in ticks of `base`: what the muxer fails to add.
    delay: i64,
    /// Takes off the headers of broadcast sound, which QuickTime's family does not hold.
    adts: Option<Adts>,
    /// The stream has empty events between its subtitles, which the muxer writes anew.
    gaps: bool,
    /// Subtracted from every time, in ticks of `base`; what comes before is not written.
    from: i64,
    /// Subtitles that could not be read.
    broken: u64,
}

impl Lane {
    /// Takes a packet of the source.
    pub fn push(&mut self, packet: &Packet) {
        let converted = match &mut self.converter {
            None => Some(packet.packet.clone()),
            Some(converter) => converter.convert(&packet.packet).unwrap_or_else(|_| {
                self.broken += 1;
                None
            }),
        };
        let gap = |packet: &ffmpeg::Packet| packet.data().is_none_or(|data| data == MOV_TEXT_GAP);
        let Some(mut out) = converted.filter(|packet| !(self.gaps && gap(packet))) else {
            return;
        };
        if let Some(adts) = &mut self.adts {
            out = adts.strip(out);
        }
        out.set_stream(self.stream);
        out.set_position(-1);
        out.rescale_ts(packet.time_base, self.base);
        if self.from > 0 && out.pts().or(out.dts()) < Some(self.from) {
            return;
        }
        let moved = self.delay - self.from;
        out.set_pts(out.pts().map(|pts| pts + moved));
        out.set_dts(out.dts().map(|dts| dts + moved));
        rising(&mut out, &mut self.last, !self.strict);
        self.queue.push_back(out);
    }

    /// The next packet that is due at a time, or at all.
    pub fn next(&mut self, until: Option<(i64, Rational)>) -> Option<ffmpeg::Packet> {
        let due = match (self.queue.front(), until) {
            (Some(packet), Some(until)) => {
                let dts = packet.dts().unwrap_or(i64::MIN);
                compare((dts, self.base), until) != Ordering::Greater
            }
            (front, _) => front.is_some(),
        };
        if due { self.queue.pop_front() } else { None }
    }

    /// Drops what begins at or after `end`.
    pub fn cut(&mut self, end: (i64, Rational)) {
        let base = self.base;
        self.queue.retain(|packet| {
            let pts = packet.pts().or(packet.dts()).unwrap_or(i64::MIN);
            compare((pts, base), end) == Ordering::Less
        });
    }

    /// What went wrong on it.
    pub fn note(&self) -> Option<String> {
        (self.broken > 0).then(|| {
            format!(
                "{}: {} events could not be read and are left out",
                self.line, self.broken
            )
        })
    }
}

fn compare(a: (i64, Rational), b: (i64, Rational)) -> Ordering {
    let ticks = |(time, base): (i64, Rational)| i128::from(time) * i128::from(base.numerator());
    let (left, right) = (
        ticks(a) * i128::from(b.1.denominator()),
        ticks(b) * i128::from(a.1.denominator()),
    );
    left.cmp(&right)
}

/// Makes a stream's decoding times definite and rising, as every muxer demands, and never later than the time of
/// showing. Sound files leave this untouched; damaged ones would otherwise end the film.
pub(super) fn rising(packet: &mut ffmpeg::Packet, last: &mut Option<i64>, equal: bool) {
    let least = last.map(|last| if equal { last } else { last + 1 });
    let told = packet.dts().or(packet.pts()).or(least).unwrap_or(0);
    let dts = least.map_or(told, |least| told.max(least));
    packet.set_dts(Some(dts));
    packet.set_pts(Some(packet.pts().map_or(dts, |pts| pts.max(dts))));
    *last = Some(dts);
}

/// The source's tags without those of its container, and where the colours come from.
fn global_metadata(mut metadata: Dict, provenance: &str) -> Dict {
    metadata.remove(|key| {
        CONTAINER_TAGS
            .iter()
            .any(|tag| key.eq_ignore_ascii_case(tag))
    });
    if !provenance.is_empty() {
        let comment = match metadata.get("comment") {
            Some(old) if !old.is_empty() && old != provenance => format!("{old}\n{provenance}"),
            _ => provenance.to_string(),
        };
        metadata.set("comment", &comment);
    }
    metadata
}

fn starts_with_any(key: &str, beginnings: &[&str]) -> bool {
    let key = key.to_lowercase();
    beginnings
        .iter()
        .any(|beginning| key.starts_with(&beginning.to_lowercase()))
}

/// "audio aac eng".
pub(super) fn tell(copy: &StreamCopy) -> String {
    let kind = match copy.kind() {
        Kind::Video => "further video",
        Kind::Audio => "audio",
        Kind::Subtitle => "subtitle",
        Kind::Attachment => "attachment",
        Kind::Cover => "cover",
        Kind::Data => "data",
    };
    let language = copy.metadata.get("language").filter(|l| l != "und");
    let name = copy
        .metadata
        .get("filename")
        .filter(|_| copy.kind() == Kind::Attachment);
    [Some(kind.to_string()), Some(codec_of(copy)), language, name]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" ")
}

/// FFmpeg's name of the codec; where it knows none, the container's.
fn codec_of(copy: &StreamCopy) -> String {
    let tag = copy.tag();
    match copy.codec_name() {
        name if name == "none" && tag.iter().all(u8::is_ascii_graphic) => {
            String::from_utf8_lossy(&tag).into_owned()
        }
        name => name,
    }
}

/// "stream 2 (audio aac eng)".
fn describe(copy: &StreamCopy, index: usize) -> String {
    format!("stream {index} ({})", tell(copy))
}

/// Matroska tells a cover by the name and type of its attachment.
fn name_cover(copy: &mut StreamCopy) {
    let (extension, mime) = match copy.codec_name().as_str() {
        "png" => ("png", "image/png"),
        "gif" => ("gif", "image/gif"),
        "webp" => ("webp", "image/webp"),
        "bmp" => ("bmp", "image/bmp"),
        "tiff" => ("tiff", "image/tiff"),
        _ => ("jpg", "image/jpeg"),
    };
    if copy.metadata.get("filename").is_none() {
        copy.metadata.set("filename", &format!("cover.{extension}"));
    }
    copy.metadata.set("mimetype", mime);
}

/// Matroska demands a name and a type of every attachment.
fn name_attachment(copy: &mut StreamCopy, index: usize) {
    if copy.metadata.get("filename").is_none() {
        copy.metadata.set("filename", &format!("attachment{index}"));
    }
    if copy.metadata.get("mimetype").is_none() {
        copy.metadata.set("mimetype", "application/octet-stream");
    }
}
