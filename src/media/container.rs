//! Containers: which file name means which, what each holds, and how each is told to play everywhere.

use super::ffi::output::{Format, Holds, Kind, StreamCopy};
use super::publish;
use crate::error::{Error, Result, shown};
use ffmpeg_next::codec::Id;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// How a container keeps a cover picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cover {
    /// As a stream of one picture.
    Stream,
    /// As an attached file.
    Attachment,
    /// Not at all.
    No,
}

/// How a container counts time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    /// Every frame has its own time.
    Variable,
    /// Frames come at one rate; times are rounded to it.
    Constant,
}

/// One row: a container, by FFmpeg's muxer name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Container {
    /// What `--format` and messages call it.
    pub name: &'static str,
    /// FFmpeg's muxer.
    pub muxer: &'static str,
    /// File name extensions.
    pub extensions: &'static [&'static str],
    /// The text codec that other text subtitles are converted to.
    pub text: Option<&'static str>,
    /// Text codecs that it holds as they are.
    pub texts: &'static [&'static str],
    /// Where covers go.
    pub cover: Cover,
    /// Holds attached files.
    pub attachments: bool,
    /// Everything else that it holds, where the muxer takes what no player reads back.
    pub only: Option<&'static [&'static str]>,
    /// Frame times.
    pub clock: Clock,
    /// Muxer options.
    pub options: &'static [(&'static str, &'static str)],
}

const PLAIN: Container = Container {
    name: "",
    muxer: "",
    extensions: &[],
    text: None,
    texts: &[],
    cover: Cover::No,
    attachments: false,
    only: None,
    clock: Clock::Variable,
    options: &[],
};

/// Every container with something to say beyond what libavformat knows. The first that holds a stream is the one that
/// messages advise.
pub(super) const CONTAINERS: &[Container] = &[
    Container {
        name: "mkv",
        muxer: "matroska",
        extensions: &["mkv", "mk3d"],
        text: Some("subrip"),
        texts: &["subrip", "ass", "ssa", "webvtt", "text"],
        cover: Cover::Attachment,
        attachments: true,
        ..PLAIN
    },
    Container {
        name: "mp4",
        muxer: "mp4",
        extensions: &["mp4", "m4v"],
        text: Some("mov_text"),
        texts: &["mov_text"],
        cover: Cover::Stream,
        options: &[("movflags", "+faststart+write_colr")],
        ..PLAIN
    },
    Container {
        name: "mov",
        muxer: "mov",
        extensions: &["mov", "qt"],
        text: Some("mov_text"),
        texts: &["mov_text"],
        cover: Cover::Stream,
        options: &[("movflags", "+faststart+write_colr")],
        ..PLAIN
    },
    Container {
        name: "webm",
        muxer: "webm",
        extensions: &["webm"],
        text: Some("webvtt"),
        texts: &["webvtt"],
        ..PLAIN
    },
    Container {
        name: "ts",
        muxer: "mpegts",
        extensions: &["ts", "m2ts", "mts", "m2t"],
        only: Some(&[
            "mpeg1video",
            "mpeg2video",
            "mpeg4",
            "h264",
            "hevc",
            "cavs",
            "dirac",
            "vc1",
            "mp1",
            "mp2",
            "mp3",
            "aac",
            "aac_latm",
            "ac3",
            "eac3",
            "dts",
            "truehd",
            "opus",
            "s302m",
            "dvb_subtitle",
            "dvb_teletext",
            "hdmv_pgs_subtitle",
        ]),
        ..PLAIN
    },
    Container {
        name: "avi",
        muxer: "avi",
        extensions: &["avi"],
        clock: Clock::Constant,
        ..PLAIN
    },
    Container {
        name: "nut",
        muxer: "nut",
        extensions: &["nut"],
        ..PLAIN
    },
    Container {
        name: "y4m",
        muxer: "yuv4mpegpipe",
        extensions: &["y4m"],
        clock: Clock::Constant,
        ..PLAIN
    },
    Container {
        name: "v4l2",
        muxer: "v4l2",
        clock: Clock::Constant,
        ..PLAIN
    },
    Container {
        name: "images",
        muxer: "image2",
        extensions: &["png", "jpg", "jpeg", "tif", "tiff", "bmp", "webp"],
        ..PLAIN
    },
];

/// The container of standard output, where no `--format` says: it needs no seeking, holds everything, and every
/// player reads it from a pipe.
const PIPE: &str = "mkv";

impl Container {
    fn by(found: impl Fn(&Container) -> bool) -> Option<Self> {
        CONTAINERS.iter().copied().find(|c| found(c))
    }

    /// The row of a name (`mkv`) or of a muxer (`matroska`).
    fn named(name: &str) -> Option<Self> {
        // Some muxers have several names.
        Self::by(|c| c.name == name || name.split(',').any(|name| c.muxer == name))
    }
}

/// A container with the muxer that writes it.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub container: Container,
    pub format: Format,
}

impl Target {
    /// By `--format`, else by what `output` is called.
    pub fn choose(output: &OsStr, format: Option<&str>) -> Result<Self> {
        let pipe = output == "-";
        match format.or(pipe.then_some(PIPE)) {
            Some(name) => Self::named(output, name),
            None => Self::of_name(output),
        }
    }

    fn named(output: &OsStr, name: &str) -> Result<Self> {
        let container = Container::named(name);
        let muxer = container.map_or(name, |c| c.muxer);
        let format = Format::named(muxer).ok_or_else(|| {
            let why = format!("there is no format '{name}'; known are {}, and every muxer that `ffmpeg -muxers` lists", names());
            Error::output(shown(output), why)
        })?;
        Ok(Self::of_format(format))
    }

    fn of_name(output: &OsStr) -> Result<Self> {
        let extension = extension_of(output);
        let spoken = address_muxer(output).is_some();
        if let Some(row) = Container::by(|c| !spoken && c.extensions.contains(&extension.as_str()))
        {
            return Self::named(output, row.muxer);
        }
        let format = match address_muxer(output) {
            Some(muxer) => Format::named(muxer),
            None => Format::of_file(output.as_encoded_bytes())
                .or_else(|| publish::is_url(output).then(|| Format::named("mpegts"))?),
        };
        format.map(Self::of_format).ok_or_else(|| {
            let told = match extension.as_str() {
                "" => "the name has no extension".to_string(),
                e => format!("no container is known by the extension '.{e}'"),
            };
            let why = format!("{told}; use one of {}, or say --format", names());
            Error::output(shown(output), why)
        })
    }

    fn of_format(format: Format) -> Self {
        let container = Container::named(&format.name()).unwrap_or(PLAIN);
        Self { container, format }
    }

    /// What messages call it.
    pub fn name(&self) -> String {
        match self.container.name {
            "" => self.format.name(),
            name => name.into(),
        }
    }

    /// Pictures in files of their own.
    pub fn is_images(&self) -> bool {
        self.container.name == "images"
    }

    /// Frames come at one rate, whatever their times.
    pub fn is_constant(&self) -> bool {
        self.container.clock == Clock::Constant
    }

    /// Plays one frame after the other: no frame has a time.
    pub fn is_gapless(&self) -> bool {
        self.container.name == "y4m"
    }

    /// One of the QuickTime family, which names codecs and colours in atoms.
    pub fn is_quicktime(&self) -> bool {
        ["mp4", "mov"].contains(&self.container.name)
    }

    /// Matroska or its WebM kind.
    pub fn is_matroska(&self) -> bool {
        ["mkv", "webm"].contains(&self.container.name)
    }

    /// Whether it holds a codec; libavformat's answer, corrected where it takes what nobody reads back.
    pub fn holds_codec(&self, codec: Id) -> bool {
        match self.container.only {
            Some(only) => only.contains(&name_of(codec)),
            None => self.format.holds(codec) != Holds::No,
        }
    }

    /// Whether it says for sure that it holds a codec.
    pub fn surely_holds(&self, codec: Id) -> bool {
        self.holds_codec(codec)
            && (self.container.only.is_some() || self.format.holds(codec) == Holds::Yes)
    }

    /// How a stream of the source gets here.
    pub fn route(&self, stream: &StreamCopy) -> Route {
        match stream.kind() {
            Kind::Data => Route::Drop,
            Kind::Attachment if self.container.attachments => Route::Attach,
            Kind::Attachment => Route::Refuse,
            Kind::Cover => match self.container.cover {
                Cover::Attachment => Route::AttachCover,
                Cover::Stream if self.holds_codec(stream.codec()) => Route::Cover,
                _ => Route::Refuse,
            },
            Kind::Subtitle if stream.is_text_subtitle() => self.route_text(stream),
            _ if self.holds_codec(stream.codec()) => Route::Copy,
            _ => Route::Refuse,
        }
    }

    fn route_text(&self, stream: &StreamCopy) -> Route {
        let codec = stream.codec_name();
        if self.container.texts.contains(&codec.as_str()) {
            return Route::Copy;
        }
        if let Some(text) = self.container.text {
            return Route::Convert(text);
        }
        // A muxer without a row holds what it says it holds.
        match self.format.holds(stream.codec()) {
            Holds::Yes if self.container.only.is_none() => Route::Copy,
            _ => Route::Refuse,
        }
    }
}

/// How a stream of the source travels to the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Packet by packet.
    Copy,
    /// Subtitles into this codec.
    Convert(&'static str),
    /// A cover as a stream of one picture.
    Cover,
    /// A cover as an attached file.
    AttachCover,
    /// An attached file.
    Attach,
    /// Data, which no container is asked to hold.
    Drop,
    /// The container cannot.
    Refuse,
}

/// The name of the first container that takes `stream`.
pub(super) fn holder_of(stream: &StreamCopy) -> Option<&'static str> {
    CONTAINERS.iter().find_map(|&container| {
        let format = Format::named(container.muxer)?;
        let target = Target { container, format };
        (target.route(stream) != Route::Refuse).then_some(container.name)
    })
}

/// FFmpeg's name of a codec.
pub(super) fn name_of(codec: Id) -> &'static str {
    codec.name()
}

fn names() -> String {
    let names: Vec<_> = CONTAINERS.iter().map(|c| c.name).collect();
    names.join(", ")
}

/// What is spoken at an address, whatever it is called, by its beginning.
const ADDRESSES: &[(&str, &str)] = &[
    ("rtmp", "flv"),
    ("rtsp", "rtsp"),
    ("srt:", "mpegts"),
    ("udp:", "mpegts"),
    ("rtp:", "rtp_mpegts"),
    ("/dev/video", "v4l2"),
];

fn address_muxer(output: &OsStr) -> Option<&'static str> {
    let begins =
        |(start, _): &&(&str, &str)| output.as_encoded_bytes().starts_with(start.as_bytes());
    ADDRESSES.iter().find(begins).map(|(_, muxer)| *muxer)
}

fn extension_of(name: &OsStr) -> String {
    let extension = Path::new(name).extension().unwrap_or_default();
    extension.to_string_lossy().to_lowercase()
}

/// The output's name where none is asked for: `film.mp4` becomes `film.color.mp4` beside it. mp4, mov and webm keep
/// their container, stills become PNG, everything else becomes Matroska, which holds whatever the source held.
pub fn default_output(input: &OsStr) -> PathBuf {
    let path = match input.as_encoded_bytes() {
        // Not a file: its last part names a file here.
        _ if publish::is_url(input) => {
            PathBuf::from(Path::new(input).file_name().unwrap_or_default())
        }
        _ if input == "-" => PathBuf::from("stdin"),
        _ => PathBuf::from(input),
    };
    let extension = match extension_of(path.as_os_str()).as_str() {
        "mp4" | "m4v" => "mp4",
        "mov" | "qt" => "mov",
        "webm" => "webm",
        "png" | "jpg" | "jpeg" | "webp" | "tif" | "tiff" | "bmp" => still_extension(&path),
        _ => "mkv",
    };
    path.with_extension(format!("color.{extension}"))
}

/// A numbered sequence is a film, not a still.
fn still_extension(path: &Path) -> &'static str {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    if name.contains(&b'%') || name.contains(&b'*') {
        "mkv"
    } else {
        "png"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_names() {
        let cases = [
            ("film.mp4", "film.color.mp4"),
            ("a/film.M4V", "a/film.color.mp4"),
            ("film.mov", "film.color.mov"),
            ("film.webm", "film.color.webm"),
            ("film.avi", "film.color.mkv"),
            ("film", "film.color.mkv"),
            ("film.part1.ts", "film.part1.color.mkv"),
            ("photo.jpeg", "photo.color.png"),
            ("-", "stdin.color.mkv"),
            ("https://example.org/a/film.mp4", "film.color.mp4"),
        ];
        for (input, output) in cases {
            assert_eq!(default_output(OsStr::new(input)), PathBuf::from(output));
        }
    }

    #[test]
    fn every_row_names_a_muxer() {
        crate::media::prepare();
        for row in CONTAINERS {
            assert!(Format::named(row.muxer).is_some(), "{}", row.muxer);
        }
    }
}
