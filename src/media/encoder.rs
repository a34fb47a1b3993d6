//! Encoders: which one, what it is told, and the pictures that it wants.
//!
//! [`ROWS`] is the table behind `--codec`, `--crf` and `--preset`; an encoder without a row works too, with what
//! FFmpeg says of it.

use super::container::{Clock, Target, name_of};
use super::ffi::output::{self as ffi, Dict, Settings, Shape, StreamCopy, Tags};
use super::output::OutputOptions;
use super::layout::Layout;
use crate::error::{Error, Result, shown};
use crate::frame::{Matrix, Range, Sampling, VideoInfo};
use ffmpeg_next as ffmpeg;
use ffmpeg_next::codec::packet::side_data::Type as SideData;
use ffmpeg_next::format::Pixel;
use ffmpeg_next::{Rational, chroma::Location, color};
use std::ffi::OsStr;

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
    option: &'static str,
    default: Option<&'static str>,
    values: &'static [&'static str],
}

/// One encoder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Row {
    /// What `--codec` calls it; several encoders of a codec stand in order of preference.
    pub codec: &'static str,
    /// FFmpeg's name.
    pub encoder: &'static str,
    quality: Quality,
    preset: Option<Preset>,
    /// Options that it is always given, before the user's.
    options: &'static [(&'static str, &'static str)],
    /// The option that holds the library's own `key=value:...` list, what stands in it always, and the key there for
    /// a number of threads.
    params: Option<(&'static str, &'static str, &'static str)>,
    /// Codes fields as fields.
    fields: bool,
    /// Takes full range only.
    full_range: bool,
    /// One rate of frames only.
    clock: Clock,
    /// Pixel formats, where FFmpeg lists none and the muxer is choosy.
    pixels: &'static [&'static str],
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

/// What an encoder is to be opened for.
pub(super) struct Wanted<'a> {
    pub output: &'a OsStr,
    pub options: &'a OutputOptions,
    pub target: &'a Target,
    pub video: &'a VideoInfo,
    /// The source's first frame: its tags, its captions.
    pub first: &'a ffmpeg::frame::Video,
    /// The source's video stream.
    pub stream: &'a StreamCopy,
}

/// An encoder at work.
pub(super) struct Opened {
    pub encoder: ffmpeg::codec::encoder::Video,
    /// Of every frame that it is sent.
    pub settings: Settings,
    /// The pictures that the sink asks for.
    pub layout: Layout,
    /// From those to the encoder's, where they differ.
    pub converter: Option<ffi::Converter>,
    /// FFmpeg's name of the encoder.
    pub name: String,
    /// Keeps closed captions.
    pub captions: bool,
    /// How the stream is described: "h264 yuv420p crf 17".
    pub line: String,
    pub messages: Vec<String>,
}

/// Opens the encoder that `wanted` asks for, or the best one for its container and source.
pub(super) fn open(wanted: &Wanted) -> Result<Opened> {
    let name = match &wanted.options.codec {
        Some(name) => name.clone(),
        None => default_codec(wanted)?,
    };
    let mut first_error = None;
    for (row, codec) in candidates(wanted, &name)? {
        match Attempt::new(wanted, row, codec).and_then(Attempt::open) {
            Ok(mut opened) => {
                if let Some(e) = first_error {
                    opened.messages.push(format!(
                        "{} is used instead of another encoder, because {e}",
                        opened.name
                    ));
                }
                return Ok(opened);
            }
            Err(e) => first_error = first_error.or(Some(e)),
        }
    }
    let unknown = || wanted.refuse(format!("FFmpeg was built without an encoder for {name}"));
    Err(first_error.unwrap_or_else(unknown))
}

impl Wanted<'_> {
    fn refuse(&self, why: impl ToString) -> Error {
        Error::output(shown(self.output), why)
    }

    fn depth(&self) -> u8 {
        self.video.sampling.depth
    }

    /// Subsampling to encode: the source's; 4:2:0 for grey and RGB, which have none of their own.
    fn subsampling(&self) -> (u8, u8) {
        match ffi::shape(self.first.format()) {
            Some(shape) if shape.components >= 3 && !shape.rgb => (shape.log2_w, shape.log2_h),
            _ => (1, 1),
        }
    }

    /// Frames a second: the source's, or 25 where it does not say anything believable.
    fn frame_rate(&self) -> Rational {
        match self.video.frame_rate {
            Some((n, d)) if n > 0 && d > 0 && n / d <= 1000 => Rational(n, d),
            _ => Rational(25, 1),
        }
    }
}

/// The codec where none is asked for.
fn default_codec(wanted: &Wanted) -> Result<String> {
    let target = wanted.target;
    if target.is_images() || target.format.picture_only() && !holds(target, "h264") {
        let id = target
            .format
            .video_codec_of(wanted.output.as_encoded_bytes());
        let encoder = ffmpeg::encoder::find(id);
        let none = || {
            wanted.refuse(format!(
                "FFmpeg has no encoder for {} in {}",
                name_of(id),
                target.name()
            ))
        };
        return Ok(encoder.ok_or_else(none)?.name().to_string());
    }
    let depth = wanted.depth();
    let wish: &[&str] = match (target.container.name, depth) {
        ("webm", _) => &["vp9"],
        ("avi", 9..) => &["ffv1"],
        (_, ..=8) => &["h264"],
        (_, ..=12) => &["hevc"],
        _ => &["ffv1"],
    };
    if let Some(codec) = wish.iter().find(|codec| holds(target, codec)) {
        return Ok(codec.to_string());
    }
    if depth > 8 && target.container.name != "" {
        return Err(wanted.refuse(format!(
            "{} has no codec for the film's {depth} bits; try an .mkv output (--codec ffv1 there is lossless), or \
             --codec hevc, which keeps at most 12",
            target.name()
        )));
    }
    let id = target.format.video_codec();
    let encoder = ffmpeg::encoder::find(id);
    let none = || {
        wanted.refuse(format!(
            "{} takes no pictures, or FFmpeg has no encoder for it; try --codec",
            target.name()
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

/// The encoders of a name, best first: a codec of the table, or FFmpeg's own name.
fn candidates(wanted: &Wanted, name: &str) -> Result<Vec<(Row, ffmpeg::Codec)>> {
    let named: Vec<_> = ROWS.iter().filter(|row| row.codec == name).collect();
    if !named.is_empty() {
        let built =
            |row: &&Row| ffmpeg::encoder::find_by_name(row.encoder).map(|codec| (**row, codec));
        return Ok(named.iter().filter_map(built).collect());
    }
    let codec = ffmpeg::encoder::find_by_name(name).filter(|codec| codec.is_video());
    let codec = codec.ok_or_else(|| {
        wanted.refuse(format!(
            "there is no video encoder '{name}'; use one of {}, or a name that `ffmpeg -encoders` lists",
            codec_names()
        ))
    })?;
    let row = ROWS.iter().find(|row| row.encoder == name).copied();
    Ok(vec![(row.unwrap_or_else(|| guessed(&codec)), codec)])
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

/// A pixel format to encode, and the layout from which it is made.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Fit {
    encode: Pixel,
    /// What the sink asks for; differs from `encode` where a conversion follows.
    wanted: Pixel,
}

/// Everything about one encoder before it is opened.
struct Attempt<'a> {
    wanted: &'a Wanted<'a>,
    row: Row,
    codec: ffmpeg::Codec,
    name: String,
    messages: Vec<String>,
}

impl<'a> Attempt<'a> {
    fn new(wanted: &'a Wanted<'a>, row: Row, codec: ffmpeg::Codec) -> Result<Self> {
        let name = codec.name().to_string();
        let this = Self {
            wanted,
            row,
            codec,
            name,
            messages: Vec::new(),
        };
        if !wanted.target.holds_codec(codec.id()) {
            return Err(wanted.refuse(format!(
                "{} cannot hold {}; try an .mkv output, or another --codec",
                wanted.target.name(),
                name_of(codec.id())
            )));
        }
        Ok(this)
    }

    /// Opens the encoder: as the source is; else, where its size is odd, without subsampling; else at a constant rate
    /// of frames, which is all that some encoders know.
    fn open(mut self) -> Result<Opened> {
        let fit = self.fit()?;
        let base = self.time_base(self.constant_clock());
        let mut refused = match self.try_open(fit, base)? {
            Ok(opened) => return Ok(opened),
            Err(e) => e,
        };
        if let Some(whole) = self.unsubsampled(fit) {
            match self.try_open(whole, base)? {
                Ok(mut opened) => {
                    opened.messages.push(self.odd_message(fit, whole));
                    return Ok(opened);
                }
                Err(_) => refused = self.odd_error(fit),
            }
        } else if self.odd(fit) {
            refused = self.odd_error(fit);
        } else if let Ok(opened) = self.try_open(fit, self.time_base(true))? {
            return Ok(opened);
        }
        Err(refused)
    }

    /// One try. The outer error is final; the inner one may be cured by another fit.
    fn try_open(&mut self, fit: Fit, time_base: Rational) -> Result<Result<Opened>> {
        let (options, quality) = self.options()?;
        let settings = self.settings(fit, time_base);
        let asked = &self.wanted.options.encoder_options;
        match ffi::open_encoder(self.codec, &settings, options) {
            Ok((encoder, left)) => {
                if let Some((key, _)) = asked.iter().find(|(key, _)| left.contains(key)) {
                    return Err(self.wanted.refuse(format!(
                        "the encoder {} has no option '{key}'; `ffmpeg -h encoder={}` lists them",
                        self.name, self.name
                    )));
                }
                Ok(Ok(self.opened(fit, settings, encoder, &quality)?))
            }
            Err(e) => Ok(Err(self.open_error(fit, e))),
        }
    }

    fn opened(
        &mut self,
        fit: Fit,
        settings: Settings,
        encoder: ffmpeg::codec::encoder::Video,
        quality: &str,
    ) -> Result<Opened> {
        let layout = self.layout(fit.wanted);
        let mut messages = std::mem::take(&mut self.messages);
        messages.extend(self.fields_message(&settings));
        let pixel = fit.encode.descriptor().map_or("?", |d| d.name());
        Ok(Opened {
            converter: self.converter(fit, &layout)?,
            layout,
            name: self.name.clone(),
            captions: ffi::encoder_knows(&self.codec, "a53cc"),
            line: format!("{} {pixel}{quality}", name_of(self.codec.id())),
            messages,
            settings,
            encoder,
        })
    }

    // -- pixel formats --

    /// The encoder's pixel formats; empty where it takes any.
    fn pixels(&self) -> Vec<Pixel> {
        if !self.row.pixels.is_empty() {
            return self
                .row
                .pixels
                .iter()
                .filter_map(|name| native(name))
                .collect();
        }
        let listed = self.codec.video().ok().and_then(|v| v.formats());
        listed.map(Iterator::collect).unwrap_or_default()
    }

    /// The best pixel format for the source, or the one asked for.
    fn fit(&self) -> Result<Fit> {
        let depth = self.wanted.depth();
        let (w, h) = self.wanted.subsampling();
        let taken = self.pixels();
        if let Some(name) = &self.wanted.options.pixel_format {
            return self.asked_pixel(name, &taken);
        }
        if taken.is_empty() {
            let pixel = nearest_natural(depth, w, h);
            return pixel.map(same).ok_or_else(|| self.depth_error(&taken));
        }
        let best = taken
            .iter()
            .filter_map(|&pixel| {
                Some((
                    cost(self.row, &ffi::shape(pixel)?, pixel, depth, (w, h))?,
                    pixel,
                ))
            })
            .min_by_key(|(cost, _)| *cost);
        let Some((_, encode)) = best else {
            return Err(self.depth_error(&taken));
        };
        self.fit_for(encode)
    }

    /// How pictures come to the format `encode`.
    fn fit_for(&self, encode: Pixel) -> Result<Fit> {
        let depth = self.wanted.depth();
        let none = || self.depth_error(&[encode]);
        let shape = ffi::shape(encode).ok_or_else(none)?;
        if shape.planar && shape.depth >= depth && !is_j(encode) {
            return Ok(same(encode));
        }
        let (w, h) = if shape.rgb {
            (0, 0)
        } else {
            (shape.log2_w, shape.log2_h)
        };
        let wanted = nearest_natural(depth, w, h).ok_or_else(none)?;
        Ok(Fit { encode, wanted })
    }

    fn asked_pixel(&self, name: &str, taken: &[Pixel]) -> Result<Fit> {
        let pixel = native(name).ok_or_else(|| {
            self.wanted.refuse(format!(
                "there is no pixel format '{name}'; `ffmpeg -pix_fmts` lists them"
            ))
        })?;
        if !taken.is_empty() && !taken.contains(&pixel) {
            let names = names_of(taken);
            return Err(self.wanted.refuse(format!(
                "{} does not take {name}; it takes {names}",
                self.name
            )));
        }
        self.fit_for(pixel)
    }

    /// The same depth in 4:4:4, where the encoder has it and the size is odd.
    fn unsubsampled(&self, fit: Fit) -> Option<Fit> {
        let depth = ffi::shape(fit.encode)?.depth;
        let whole = natural(depth, 0, 0)?;
        let taken = self.pixels();
        let free = self.wanted.options.pixel_format.is_none();
        (free && self.odd(fit) && taken.contains(&whole)).then(|| same(whole))
    }

    /// Whether chroma samples do not tile the picture (or its fields).
    fn odd(&self, fit: Fit) -> bool {
        let Some(shape) = ffi::shape(fit.encode) else {
            return false;
        };
        let fields = usize::from(self.fields().is_some() && self.row.fields);
        let (w, h) = (
            1usize << shape.log2_w,
            1usize << (usize::from(shape.log2_h) + fields),
        );
        self.wanted.video.width % w != 0 || self.wanted.video.height % h != 0
    }

    fn layout(&self, pixel: Pixel) -> Layout {
        let source = self.wanted.video.sampling;
        let shape = ffi::shape(pixel);
        let (depth, log2_w, log2_h) = shape.map_or((8, 1, 1), |s| (s.depth, s.log2_w, s.log2_h));
        let kept = self.wanted.subsampling() == (log2_w, log2_h);
        let chroma_offset = match (log2_w, log2_h) {
            (1, 1) if kept => source.chroma_offset,
            (1, 1) => (0.0, 0.5),
            _ => (0.0, 0.0),
        };
        let sampling = Sampling {
            depth,
            log2_w,
            log2_h,
            chroma_offset,
            ..source
        };
        Layout { pixel, sampling }
    }

    fn converter(&self, fit: Fit, layout: &Layout) -> Result<Option<ffi::Converter>> {
        let full = self.row.full_range || ffi::shape(fit.encode).is_some_and(|s| s.rgb);
        let full_already = layout.sampling.range == Range::Full;
        // yuvj420p is yuv420p that says full range: the same bytes.
        let relabelled = is_j(fit.encode) && full_already && layout.sampling.depth == 8;
        if fit.encode == fit.wanted || relabelled {
            return Ok(None);
        }
        let size = (
            self.wanted.video.width as u32,
            self.wanted.video.height as u32,
        );
        let tags = tags(self.wanted.first, &layout.sampling, size.1);
        let full = full || full_already;
        let converter = ffi::Converter::new(size, fit.wanted, &tags, fit.encode, full);
        converter.map(Some).map_err(|e| {
            let pixel = names_of(&[fit.encode]);
            self.wanted.refuse(format!(
                "pictures cannot be converted to {pixel} ({e}); try another --pixel-format"
            ))
        })
    }

    // -- settings --

    fn constant_clock(&self) -> bool {
        self.wanted.target.container.clock == Clock::Constant || self.row.clock == Clock::Constant
    }

    /// The source's own ticks, so that every time is kept exactly; or one tick a frame.
    fn time_base(&self, constant: bool) -> Rational {
        if constant {
            self.wanted.frame_rate().invert()
        } else {
            let (n, d) = self.wanted.video.time_base;
            Rational(n, d)
        }
    }

    /// Top field first or not, of an interlaced source.
    fn fields(&self) -> Option<bool> {
        let interlaced = self.wanted.video.sampling.interlaced;
        interlaced.then(|| self.wanted.first.is_top_first())
    }

    fn settings(&self, fit: Fit, time_base: Rational) -> Settings {
        let video = self.wanted.video;
        let target = self.wanted.target;
        let layout = self.layout(fit.wanted);
        let mut tags = tags(self.wanted.first, &layout.sampling, video.height as u32);
        if ffi::shape(fit.encode).is_some_and(|s| s.rgb) {
            (tags.space, tags.range) = (color::Space::RGB, color::Range::JPEG);
        } else if self.row.full_range {
            tags.range = color::Range::JPEG;
        }
        let (scale, _) = self.scale();
        Settings {
            width: video.width as u32,
            height: video.height as u32,
            pixel: fit.encode,
            time_base,
            frame_rate: self.wanted.frame_rate(),
            sample_aspect: self.wanted.first.aspect_ratio(),
            tags,
            fields: self.fields(),
            code_fields: self.row.fields,
            global_header: target.format.global_header(),
            threads: self.wanted.options.threads,
            // AVI counts frames in coding order only: a reordered stream would come late by the delay.
            no_reordering: target.container.name == "avi",
            scale,
            tag: (target.is_quicktime() && self.codec.id() == ffmpeg::codec::Id::HEVC)
                .then_some(*b"hvc1"),
            depth: ffi::shape(fit.encode).map_or(8, |s| s.depth),
        }
    }

    // -- options --

    /// The quantiser scale where that is the encoder's quality, and how the line tells it.
    fn scale(&self) -> (Option<f64>, String) {
        match self.row.quality {
            Quality::Scale(default, ..) => {
                let scale = self.wanted.options.crf.unwrap_or(default);
                (Some(scale), format!(" q {scale}"))
            }
            _ => (None, String::new()),
        }
    }

    /// The encoder's options: ours, then the user's; and how the line tells the quality.
    fn options(&self) -> Result<(Dict, String)> {
        let asked = self.wanted.options;
        let mut dict: Dict = self.row.options.iter().copied().collect();
        let (_, mut told) = self.scale();
        if let Some((option, value)) = self.quality()? {
            dict.set(option, &value.to_string());
            told = format!(" {option} {value}");
        }
        if let Some((option, value)) = self.preset()? {
            dict.set(option, value);
            told += &format!(" {option} {value}");
        }
        for (key, value) in &asked.encoder_options {
            dict.set(key, value);
        }
        if let Some(params) = self.params(&dict) {
            dict.set(params.0, &params.1);
        }
        Ok((dict, told))
    }

    fn quality(&self) -> Result<Option<(&'static str, f64)>> {
        let asked = self.wanted.options.crf;
        let check = |low: f64, high: f64| match asked {
            Some(crf) if !(low..=high).contains(&crf) => Err(self.wanted.refuse(format!(
                "--crf {crf} is out of range: {} takes {low} (best) to {high}",
                self.name
            ))),
            _ => Ok(()),
        };
        match self.row.quality {
            Quality::Rate(option, default, low, high) => {
                check(low, high)?;
                Ok(asked.or(default).map(|crf| (option, crf)))
            }
            Quality::Scale(_, low, high) => check(low, high).map(|()| None),
            Quality::None(why) if asked.is_some() => Err(self
                .wanted
                .refuse(format!("{} takes no --crf: {why}", self.name))),
            Quality::None(_) => Ok(None),
        }
    }

    fn preset(&self) -> Result<Option<(&'static str, &str)>> {
        let asked = self.wanted.options.preset.as_deref();
        match (self.row.preset, asked) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(self.wanted.refuse(format!("{} has no presets", self.name))),
            (Some(preset), None) => Ok(preset.default.map(|value| (preset.option, value))),
            (Some(preset), Some(value)) => {
                if preset.values.is_empty() || preset.values.contains(&value) {
                    return Ok(Some((preset.option, value)));
                }
                let values = preset.values.join(", ");
                Err(self.wanted.refuse(format!(
                    "{} has no preset '{value}'; it has {values}",
                    self.name
                )))
            }
        }
    }

    /// The library's own list of settings: quiet, threads, HDR; then what the user wrote there.
    fn params(&self, dict: &Dict) -> Option<(&'static str, String)> {
        let (option, always, threads) = self.row.params?;
        let mut list = vec![always.to_string()];
        if self.wanted.options.threads > 0 {
            list.push(format!("{threads}={}", self.wanted.options.threads));
        }
        if self.row.codec == "hevc" {
            list.extend(light_params(self.wanted.stream));
        }
        list.extend(dict.get(option));
        list.retain(|part| !part.is_empty());
        (!list.is_empty()).then(|| (option, list.join(":")))
    }

    // -- sentences --

    fn open_error(&self, fit: Fit, e: ffmpeg::Error) -> Error {
        let video = self.wanted.video;
        let options = &self.wanted.options.encoder_options;
        let hint = match (options.is_empty(), self.wanted.options.threads) {
            (false, _) => "; check the values of --encoder-option",
            _ => "; try another --codec",
        };
        self.wanted.refuse(format!(
            "the encoder {} refuses {}x{} {} ({e}){hint}",
            self.name,
            video.width,
            video.height,
            names_of(&[fit.encode])
        ))
    }

    fn odd_message(&self, fit: Fit, whole: Fit) -> String {
        let video = self.wanted.video;
        format!(
            "{} takes no {}x{} in {}: encoded in {}, so that nothing is cropped",
            self.name,
            video.width,
            video.height,
            names_of(&[fit.encode]),
            names_of(&[whole.encode])
        )
    }

    fn odd_error(&self, fit: Fit) -> Error {
        let video = self.wanted.video;
        self.wanted.refuse(format!(
            "the encoder {} refuses the film's odd size {}x{} in {}; try --codec vp9 or ffv1, which take any size",
            self.name,
            video.width,
            video.height,
            names_of(&[fit.encode])
        ))
    }

    fn depth_error(&self, taken: &[Pixel]) -> Error {
        let depth = self.wanted.depth();
        let mut depths: Vec<u8> = taken
            .iter()
            .filter_map(|&pixel| ffi::shape(pixel))
            .filter(|shape| shape.components >= 3)
            .map(|shape| shape.depth)
            .collect();
        depths.sort_unstable();
        depths.dedup();
        let depths: Vec<_> = depths.iter().map(u8::to_string).collect();
        let other = if depth <= 12 {
            "--codec hevc (or ffv1)"
        } else {
            "--codec ffv1 in an .mkv"
        };
        self.wanted.refuse(format!(
            "{} takes {} bits, the film has {depth}: try {other}, or --pixel-format for fewer bits",
            self.name,
            depths.join(" and ")
        ))
    }

    fn fields_message(&self, settings: &Settings) -> Option<String> {
        (settings.fields.is_some() && !settings.code_fields).then(|| {
            format!(
                "{} codes the two fields of a frame together; the film stays marked as interlaced, but --codec h264, \
                 prores or ffv1 would keep the fields apart",
                self.name
            )
        })
    }
}

fn same(pixel: Pixel) -> Fit {
    Fit {
        encode: pixel,
        wanted: pixel,
    }
}

/// The deprecated formats that say full range by their name.
fn is_j(pixel: Pixel) -> bool {
    pixel
        .descriptor()
        .is_some_and(|d| d.name().starts_with("yuvj"))
}

fn names_of(pixels: &[Pixel]) -> String {
    let names: Vec<_> = pixels
        .iter()
        .filter_map(|p| p.descriptor())
        .map(|d| d.name())
        .collect();
    names.join(", ")
}

/// A pixel format in this machine's byte order.
fn native(name: &str) -> Option<Pixel> {
    let order = if cfg!(target_endian = "little") {
        "le"
    } else {
        "be"
    };
    ffi::pixel_named(name).or_else(|| ffi::pixel_named(&format!("{name}{order}")))
}

/// The planar Y'CbCr format of a depth and subsampling, where FFmpeg has one.
fn natural(depth: u8, log2_w: u8, log2_h: u8) -> Option<Pixel> {
    let kind = match (log2_w, log2_h) {
        (0, 0) => "444",
        (1, 0) => "422",
        (1, 1) => "420",
        (0, 1) => "440",
        (2, 0) => "411",
        (2, 2) => "410",
        _ => return None,
    };
    match depth {
        8 => native(&format!("yuv{kind}p")),
        _ => native(&format!("yuv{kind}p{depth}")),
    }
}

/// The nearest planar format with at least this depth.
fn nearest_natural(depth: u8, log2_w: u8, log2_h: u8) -> Option<Pixel> {
    let kinds = [(0, 0), (1, 0), (1, 1), (0, 1), (2, 0), (2, 2)];
    let far = |&(w, h): &(u8, u8)| distance((w, h), (log2_w, log2_h));
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(far);
    (depth..=16).find_map(|depth| kinds.iter().find_map(|&(w, h)| natural(depth, w, h)))
}

/// How far one subsampling is from another; of two as far, the one that more players know comes first.
fn distance(a: (u8, u8), b: (u8, u8)) -> (u8, u8) {
    let rarity = match a {
        (1, 1) => 0,
        (1, 0) => 1,
        (0, 0) => 2,
        _ => 3,
    };
    (a.0.abs_diff(b.0) + a.1.abs_diff(b.1), rarity)
}

/// How badly a pixel format of the encoder's suits the source; `None` for one that would lose luma or colour.
fn cost(
    row: Row,
    shape: &Shape,
    pixel: Pixel,
    depth: u8,
    (w, h): (u8, u8),
) -> Option<(u8, u8, u8, u8)> {
    let unfit = shape.hardware || shape.alpha || shape.components < 3 || shape.depth < depth;
    if unfit || pixel == Pixel::PAL8 || is_j(pixel) != row.full_range {
        return None;
    }
    let kind = match (shape.rgb, shape.planar) {
        (false, true) => 0,
        (false, false) => 1,
        (true, _) => 2,
    };
    let (far, rarity) = distance((shape.log2_w, shape.log2_h), (w, h));
    Some((kind, shape.depth - depth, far, rarity))
}

/// The tags to write: the source's own, and what was used where it has none.
fn tags(first: &ffmpeg::frame::Video, sampling: &Sampling, height: u32) -> Tags {
    let space = match first.color_space() {
        color::Space::Unspecified | color::Space::RGB | color::Space::Reserved => {
            space_of(sampling.matrix, height)
        }
        space => space,
    };
    Tags {
        range: match sampling.range {
            Range::Limited => color::Range::MPEG,
            Range::Full => color::Range::JPEG,
        },
        space,
        primaries: primaries(first.color_primaries(), space),
        transfer: transfer(first.color_transfer_characteristic(), space),
        location: location(sampling),
    }
}

/// Rows of 625-line television: its BT.601 has tags of its own.
const PAL: [u32; 2] = [576, 288];

fn space_of(matrix: Matrix, height: u32) -> color::Space {
    match matrix {
        Matrix::BT601 if PAL.contains(&height) => color::Space::BT470BG,
        Matrix::BT601 => color::Space::SMPTE170M,
        Matrix::BT2020 => color::Space::BT2020NCL,
        Matrix::FCC => color::Space::FCC,
        Matrix::SMPTE240M => color::Space::SMPTE240M,
        _ => color::Space::BT709,
    }
}

fn primaries(told: color::Primaries, space: color::Space) -> color::Primaries {
    use color::Primaries as P;
    match (told, space) {
        (P::Unspecified | P::Reserved | P::Reserved0, color::Space::BT470BG) => P::BT470BG,
        (P::Unspecified | P::Reserved | P::Reserved0, color::Space::SMPTE170M) => P::SMPTE170M,
        (P::Unspecified | P::Reserved | P::Reserved0, color::Space::SMPTE240M) => P::SMPTE240M,
        (P::Unspecified | P::Reserved | P::Reserved0, color::Space::FCC) => P::BT470M,
        (P::Unspecified | P::Reserved | P::Reserved0, color::Space::BT2020NCL) => P::BT2020,
        (P::Unspecified | P::Reserved | P::Reserved0, _) => P::BT709,
        (told, _) => told,
    }
}

fn transfer(
    told: color::TransferCharacteristic,
    space: color::Space,
) -> color::TransferCharacteristic {
    use color::TransferCharacteristic as T;
    match (told, space) {
        (
            T::Unspecified | T::Reserved | T::Reserved0,
            color::Space::BT470BG | color::Space::SMPTE170M,
        ) => T::SMPTE170M,
        (T::Unspecified | T::Reserved | T::Reserved0, color::Space::SMPTE240M) => T::SMPTE240M,
        (T::Unspecified | T::Reserved | T::Reserved0, color::Space::BT2020NCL) => T::BT2020_10,
        (T::Unspecified | T::Reserved | T::Reserved0, _) => T::BT709,
        (told, _) => told,
    }
}

fn location(sampling: &Sampling) -> Location {
    if (sampling.log2_w, sampling.log2_h) != (1, 1) {
        return Location::Unspecified;
    }
    match sampling.chroma_offset {
        (x, y) if x == 0.0 && y == 0.0 => Location::TopLeft,
        (x, y) if x == 0.5 && y == 0.0 => Location::Top,
        (x, y) if x == 0.5 && y == 0.5 => Location::Center,
        (x, y) if x == 0.0 && y == 1.0 => Location::BottomLeft,
        (x, y) if x == 0.5 && y == 1.0 => Location::Bottom,
        _ => Location::Left,
    }
}

/// x265's settings for the light of the display on which the film was graded, from the stream's side data.
fn light_params(stream: &StreamCopy) -> Vec<String> {
    let mastering = stream.side_data(SideData::MasteringDisplayMetadata);
    let light = stream.side_data(SideData::ContentLightLevel);
    let mut params = Vec::new();
    params.extend(mastering.and_then(mastering_param));
    params.extend(light.and_then(|bytes| {
        let (max, average) = (u32_at(bytes, 0)?, u32_at(bytes, 4)?);
        Some(format!("max-cll={max},{average}"))
    }));
    params
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(four))
}

/// `AVMasteringDisplayMetadata` as libavutil lays it out: rationals of primaries (R, G, B), white point, least and
/// most luminance, then two flags.
fn mastering_param(bytes: &[u8]) -> Option<String> {
    let rational = |i: usize, unit: f64| {
        let (n, d) = (
            u32_at(bytes, i * 8)? as i32,
            u32_at(bytes, i * 8 + 4)? as i32,
        );
        (d != 0).then(|| (f64::from(n) / f64::from(d) * unit).round() as i64)
    };
    let complete = u32_at(bytes, 80)? != 0 && u32_at(bytes, 84)? != 0;
    let xy = |i: usize| Some((rational(i, 50_000.0)?, rational(i + 1, 50_000.0)?));
    let ((rx, ry), (gx, gy), (bx, by), (wx, wy)) = (xy(0)?, xy(2)?, xy(4)?, xy(6)?);
    let (least, most) = (rational(8, 10_000.0)?, rational(9, 10_000.0)?);
    complete.then(|| {
        format!("master-display=G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})L({most},{least})")
    })
}
