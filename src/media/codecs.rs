//! Codecs: the table behind `--codec`, `--crf` and `--preset`, and which codec is taken where none is asked for.
//!
//! An encoder without a row works too, with what FFmpeg says of it.

use super::container::{Clock, Target};
use super::encoder::Wanted;
use super::ffi::output as ffi;
use crate::error::Result;
use ffmpeg_next as ffmpeg;

/// What `--crf` means to an encoder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Quality {
    /// A private option, its default (near visually lossless), lowest and highest value.
    Rate(&'static str, Option<f64>, f64, f64),
    /// The general quantiser scale (`-q`), with the same.
    Scale(f64, f64, f64),
    /// None, and what to use instead.
    None(&'static str),
}

/// What `--preset` means to an encoder: an option, its default, its values (any, where empty).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Preset {
    pub option: &'static str,
    pub default: Option<&'static str>,
    pub values: &'static [&'static str],
}

/// One encoder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Row {
    /// What `--codec` calls it; several encoders of a codec stand in order of preference.
    pub codec: &'static str,
    /// FFmpeg's name.
    pub encoder: &'static str,
    pub quality: Quality,
    pub preset: Option<Preset>,
    /// Options that it is always given, before the user's.
    pub options: &'static [(&'static str, &'static str)],
    /// The option that holds the library's own `key=value:...` list, what stands in it always, and the key there for
    /// a number of threads.
    pub params: Option<(&'static str, &'static str, &'static str)>,
    /// Codes fields as fields.
    pub fields: bool,
    /// Takes full range only.
    pub full_range: bool,
    /// One rate of frames only.
    pub clock: Clock,
    /// Pixel formats, where FFmpeg lists none and the muxer is choosy.
    pub pixels: &'static [&'static str],
}

const X26: Preset = Preset {
    option: "preset",
    default: Some("medium"),
    values: &[
        "ultrafast",
        "superfast",
        "veryfast",
        "faster",
        "fast",
        "medium",
        "slow",
        "slower",
        "veryslow",
        "placebo",
    ],
};
const SPEED: Preset = Preset {
    option: "cpu-used",
    default: Some("4"),
    values: &["0", "1", "2", "3", "4", "5", "6", "7", "8"],
};
const NO_SCALE: Quality = Quality::None("it is lossless");
const PLAIN: Row = Row {
    codec: "",
    encoder: "",
    quality: NO_SCALE,
    preset: None,
    options: &[],
    params: None,
    fields: false,
    full_range: false,
    clock: Clock::Variable,
    pixels: &[],
};

/// The encoders that are known by more than their name; those of `--codec`'s short names first.
pub(super) const ROWS: &[Row] = &[
    Row {
        codec: "h264",
        encoder: "libx264",
        quality: Quality::Rate("crf", Some(17.0), 0.0, 51.0),
        preset: Some(X26),
        fields: true,
        ..PLAIN
    },
    Row {
        codec: "hevc",
        encoder: "libx265",
        quality: Quality::Rate("crf", Some(19.0), 0.0, 51.0),
        preset: Some(X26),
        params: Some(("x265-params", "log-level=none", "pools")),
        ..PLAIN
    },
    Row {
        codec: "av1",
        encoder: "libsvtav1",
        quality: Quality::Rate("crf", Some(24.0), 1.0, 63.0),
        preset: Some(Preset {
            option: "preset",
            default: Some("8"),
            values: &[
                "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13",
            ],
        }),
        params: Some(("svtav1-params", "", "lp")),
        ..PLAIN
    },
    Row {
        codec: "av1",
        encoder: "libaom-av1",
        quality: Quality::Rate("crf", Some(20.0), 0.0, 63.0),
        preset: Some(Preset {
            default: Some("6"),
            ..SPEED
        }),
        options: &[("row-mt", "1")],
        ..PLAIN
    },
    Row {
        codec: "vp9",
        encoder: "libvpx-vp9",
        quality: Quality::Rate("crf", Some(24.0), 0.0, 63.0),
        preset: Some(SPEED),
        // A rate of 0 makes the factor the only rule.
        options: &[("b", "0"), ("row-mt", "1")],
        ..PLAIN
    },
    Row {
        codec: "prores",
        encoder: "prores_ks",
        quality: Quality::None(
            "its quality is its profile: --preset proxy, lt, standard, hq, 4444 or 4444xq",
        ),
        preset: Some(Preset {
            option: "profile",
            default: None,
            values: &["proxy", "lt", "standard", "hq", "4444", "4444xq"],
        }),
        options: &[("vendor", "apl0")],
        fields: true,
        ..PLAIN
    },
    Row {
        codec: "ffv1",
        encoder: "ffv1",
        // Version 3 with a checksum a slice: damage shows, and stays in its slice.
        options: &[("level", "3"), ("slicecrc", "1"), ("g", "1")],
        fields: true,
        ..PLAIN
    },
    Row {
        encoder: "mpeg2video",
        quality: Quality::Scale(2.0, 1.0, 31.0),
        fields: true,
        clock: Clock::Constant,
        ..PLAIN
    },
    Row {
        encoder: "mpeg4",
        quality: Quality::Scale(2.0, 1.0, 31.0),
        fields: true,
        ..PLAIN
    },
    Row {
        encoder: "libtheora",
        quality: Quality::Scale(9.0, 0.0, 10.0),
        clock: Clock::Constant,
        ..PLAIN
    },
    Row {
        encoder: "mjpeg",
        quality: Quality::Scale(2.0, 1.0, 31.0),
        full_range: true,
        ..PLAIN
    },
    Row {
        encoder: "libwebp",
        quality: Quality::Rate("quality", Some(95.0), 0.0, 100.0),
        ..PLAIN
    },
    Row {
        encoder: "png",
        ..PLAIN
    },
    Row {
        encoder: "tiff",
        options: &[("compression_algo", "deflate")],
        ..PLAIN
    },
    Row {
        encoder: "bmp",
        ..PLAIN
    },
    Row {
        encoder: "rawvideo",
        fields: true,
        ..PLAIN
    },
    Row {
        encoder: "wrapped_avframe",
        fields: true,
        // What YUV4MPEG2 has names for.
        pixels: &[
            "yuv420p",
            "yuv422p",
            "yuv444p",
            "yuv411p",
            "yuv420p9",
            "yuv422p9",
            "yuv444p9",
            "yuv420p10",
            "yuv422p10",
            "yuv444p10",
            "yuv420p12",
            "yuv422p12",
            "yuv444p12",
            "yuv420p14",
            "yuv422p14",
            "yuv444p14",
            "yuv420p16",
            "yuv422p16",
            "yuv444p16",
        ],
        ..PLAIN
    },
];

/// The codec where none is asked for.
pub(super) fn default_codec(wanted: &Wanted) -> Result<String> {
    let target = wanted.target;
    if target.is_images() || target.format.picture_only() && !holds(target, "h264") {
        return own_encoder(
            wanted,
            target
                .format
                .video_codec_of(wanted.output.as_encoded_bytes()),
        );
    }
    let depth = wanted.depth();
    let wish = match (target.container.name, depth) {
        ("webm", _) => "vp9",
        ("avi", 9..) => "ffv1",
        (_, ..=8) => "h264",
        (_, ..=12) => "hevc",
        _ => "ffv1",
    };
    if holds(target, wish) {
        return Ok(wish.to_string());
    }
    if depth > 8 && !target.container.name.is_empty() {
        return Err(wanted.refuse(format!(
            "{} has no codec for the film's {depth} bits; try an .mkv output (--codec ffv1 there is lossless), or \
             --codec hevc, which keeps at most 12",
            target.name()
        )));
    }
    own_encoder(wanted, target.format.video_codec())
}

/// The encoder of a muxer's own codec; one of the table, where FFmpeg has several.
fn own_encoder(wanted: &Wanted, id: ffmpeg::codec::Id) -> Result<String> {
    let rows = ROWS
        .iter()
        .filter_map(|row| ffmpeg::encoder::find_by_name(row.encoder));
    let encoder = rows
        .into_iter()
        .find(|encoder| encoder.id() == id)
        .or_else(|| ffmpeg::encoder::find(id));
    let none = || {
        let name = wanted.target.name();
        wanted.refuse(format!(
            "{name} takes no pictures, or FFmpeg has no encoder for it; try --codec"
        ))
    };
    Ok(encoder.ok_or_else(none)?.name().to_string())
}

/// Whether a container surely holds a codec of the table.
fn holds(target: &Target, codec: &str) -> bool {
    ROWS.iter()
        .filter(|row| row.codec == codec)
        .filter_map(|row| ffmpeg::encoder::find_by_name(row.encoder))
        .any(|encoder| target.surely_holds(encoder.id()))
}

/// The encoders of a name, best first: a codec of the table, or FFmpeg's own name. None of them, and why: a sentence.
pub(super) fn candidates(name: &str) -> std::result::Result<Vec<(Row, ffmpeg::Codec)>, String> {
    let named: Vec<_> = ROWS.iter().filter(|row| row.codec == name).collect();
    if !named.is_empty() {
        let built =
            |row: &&Row| ffmpeg::encoder::find_by_name(row.encoder).map(|codec| (**row, codec));
        return Ok(named.iter().filter_map(built).collect());
    }
    let codec = ffmpeg::encoder::find_by_name(name).filter(|codec| codec.is_video());
    let codec = codec.ok_or_else(|| {
        format!(
            "there is no video encoder '{name}'; use one of {}, or a name that `ffmpeg -encoders` lists",
            codec_names()
        )
    })?;
    let row = ROWS.iter().find(|row| row.encoder == name).copied();
    Ok(vec![(row.unwrap_or_else(|| guessed(&codec)), codec)])
}

/// The name of a codec that can be asked for, known before any film is opened.
///
/// # Errors
/// A sentence with the names that can.
pub fn codec_name(name: &str) -> std::result::Result<String, String> {
    candidates(name).map(|_| name.to_owned())
}

fn codec_names() -> String {
    let mut names: Vec<_> = ROWS
        .iter()
        .map(|row| row.codec)
        .filter(|name| !name.is_empty())
        .collect();
    names.dedup();
    names.join(", ")
}

/// A row for an encoder that has none.
fn guessed(codec: &ffmpeg::Codec) -> Row {
    let rate = ["crf", "cq", "qp"]
        .into_iter()
        .find(|option| ffi::encoder_knows(codec, option));
    let preset = ["preset", "speed", "cpu-used"]
        .into_iter()
        .find(|option| ffi::encoder_knows(codec, option));
    Row {
        quality: match rate {
            Some(option) => Quality::Rate(option, None, f64::MIN, f64::MAX),
            None => Quality::Scale(2.0, 0.0, 1000.0),
        },
        preset: preset.map(|option| Preset {
            option,
            default: None,
            values: &[],
        }),
        ..PLAIN
    }
}
