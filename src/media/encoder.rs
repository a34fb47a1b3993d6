//! Encoders: told what the film is, opened, and the pictures that they want.

use super::codecs::{Quality, Row, candidates, default_codec};
use super::container::{Clock, Target, name_of};
use super::ffi::output::{self as ffi, Dict, Settings, StreamCopy, Tags};
use super::layout::{Layout, has_alpha, natural_pixel, nearest};
use super::light;
use super::output::OutputOptions;
use super::picture::is_jpeg;
use crate::error::{Error, Result, shown};
use crate::frame::VideoInfo;
use ffmpeg_next as ffmpeg;
use ffmpeg_next::Rational;
use ffmpeg_next::format::Pixel;
use std::ffi::OsStr;

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
    for (row, codec) in candidates(&name).map_err(|why| wanted.refuse(why))? {
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
    pub fn refuse(&self, why: impl ToString) -> Error {
        Error::output(shown(self.output), why)
    }

    pub fn depth(&self) -> u8 {
        self.video.sampling.depth
    }

    /// Frames a second: the source's, or 25 where it does not say anything believable.
    fn frame_rate(&self) -> Rational {
        match self.video.frame_rate {
            Some((n, d)) if n > 0 && d > 0 && n / d <= 1000 => Rational(n, d),
            _ => Rational(25, 1),
        }
    }
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
        this.check_picture_file()?;
        if !wanted.target.holds_codec(codec.id()) {
            return Err(wanted.refuse(format!(
                "{} cannot hold {}; try an .mkv output, or another --codec",
                wanted.target.name(),
                name_of(codec.id())
            )));
        }
        Ok(this)
    }

    /// A picture file's extension says its codec; image2 would write any other into it.
    fn check_picture_file(&self) -> Result<()> {
        let target = self.wanted.target;
        let output = self.wanted.output;
        if !target.is_images()
            || target.format.video_codec_of(output.as_encoded_bytes()) == self.codec.id()
        {
            return Ok(());
        }
        let name = name_of(self.codec.id());
        Err(self.wanted.refuse(format!(
            "a picture file of this name does not hold {name}; leave out --codec"
        )))
    }

    /// Opens the encoder: as the source is; else, where its size is odd, without subsampling; else at a constant rate
    /// of frames, which is all that some encoders know.
    fn open(mut self) -> Result<Opened> {
        let layout = self.layout()?;
        let base = self.time_base(self.constant_clock());
        let refused = match self.try_open(&layout, base)? {
            Ok(opened) => return Ok(opened),
            Err(e) => e,
        };
        if let Some(whole) = self.unsubsampled(&layout)
            && let Ok(mut opened) = self.try_open(&whole, base)?
        {
            opened.messages.push(self.odd_message(&layout, &whole));
            return Ok(opened);
        }
        match self.try_open(&layout, self.time_base(true))? {
            Ok(opened) => Ok(opened),
            Err(_) if self.odd(&layout) => Err(self.odd_error(&layout)),
            Err(_) => Err(refused),
        }
    }

    /// One try. The outer error is final; the inner one may be cured by another fit.
    fn try_open(&mut self, layout: &Layout, time_base: Rational) -> Result<Result<Opened>> {
        let (options, quality) = self.options()?;
        let settings = self.settings(layout, time_base)?;
        let asked = &self.wanted.options.encoder_options;
        match ffi::open_encoder(self.codec, &settings, options) {
            Ok((encoder, left)) => {
                if let Some((key, _)) = asked.iter().find(|(key, _)| left.contains(key)) {
                    return Err(self.wanted.refuse(format!(
                        "the encoder {} has no option '{key}'; `ffmpeg -h encoder={}` lists them",
                        self.name, self.name
                    )));
                }
                Ok(Ok(self.opened(layout, settings, encoder, &quality)?))
            }
            Err(e) => Ok(Err(self.open_error(layout, e))),
        }
    }

    fn opened(
        &mut self,
        layout: &Layout,
        settings: Settings,
        encoder: ffmpeg::codec::encoder::Video,
        quality: &str,
    ) -> Result<Opened> {
        let mut messages = std::mem::take(&mut self.messages);
        messages.extend(self.fields_message(&settings));
        messages.extend(self.alpha_message(layout));
        let pixel = layout.name();
        Ok(Opened {
            layout: *layout,
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
        let listed = listed.into_iter().flatten();
        listed
            .filter(|&pixel| !self.row.full_range || is_jpeg(pixel))
            .collect()
    }

    /// The layout of the best pixel format for the source, or of the one asked for.
    fn layout(&self) -> Result<Layout> {
        let sampling = &self.wanted.video.sampling;
        let taken = self.pixels();
        let pixel = match &self.wanted.options.pixel_format {
            Some(name) => self.asked_pixel(name, &taken)?,
            None => self
                .best_pixel(&taken)
                .ok_or_else(|| self.depth_error(&taken))?,
        };
        Layout::for_pixel(pixel, sampling).ok_or_else(|| {
            let name = name_of_pixel(pixel);
            self.wanted.refuse(format!(
                "pictures cannot be made in {name}; try another --pixel-format"
            ))
        })
    }

    fn best_pixel(&self, taken: &[Pixel]) -> Option<Pixel> {
        let sampling = &self.wanted.video.sampling;
        let natural = natural_pixel(self.wanted.first.format(), sampling);
        if taken.is_empty() {
            return Some(natural);
        }
        // Encoders of graphics cards take only formats whose chroma is interleaved.
        let any = |pixel: &&Pixel| {
            let depth = ffi::depth(**pixel).unwrap_or(0);
            depth >= sampling.depth && Layout::for_pixel(**pixel, sampling).is_some()
        };
        nearest(taken, natural).or_else(|| taken.iter().find(any).copied())
    }

    fn asked_pixel(&self, name: &str, taken: &[Pixel]) -> Result<Pixel> {
        let pixel = native(name).ok_or_else(|| {
            self.wanted.refuse(format!(
                "there is no pixel format '{name}'; `ffmpeg -pix_fmts` lists them"
            ))
        })?;
        if !taken.is_empty() && !taken.contains(&pixel) {
            let names: Vec<_> = taken.iter().map(|&pixel| name_of_pixel(pixel)).collect();
            return Err(self.wanted.refuse(format!(
                "{} does not take {name}; it takes {}",
                self.name,
                names.join(", ")
            )));
        }
        Ok(pixel)
    }

    /// The same depth in 4:4:4, where the encoder has it and the size is odd.
    fn unsubsampled(&self, layout: &Layout) -> Option<Layout> {
        let depth = layout.sampling.depth;
        let whole = match depth {
            8 => native("yuv444p"),
            _ => native(&format!("yuv444p{depth}")),
        }?;
        let free = self.wanted.options.pixel_format.is_none();
        let can = free && self.odd(layout) && self.pixels().contains(&whole);
        can.then(|| Layout::for_pixel(whole, &self.wanted.video.sampling))
            .flatten()
    }

    /// Whether chroma samples do not tile the picture (or its fields).
    fn odd(&self, layout: &Layout) -> bool {
        let fields = u8::from(self.fields().is_some() && self.row.fields);
        let (w, h) = (
            1usize << layout.sampling.log2_w,
            1usize << (layout.sampling.log2_h + fields),
        );
        let video = self.wanted.video;
        !video.width.is_multiple_of(w) || !video.height.is_multiple_of(h)
    }

    /// The tags to write: as they stand in the frames that come, which are the source's own, and what was used where it
    /// has none.
    fn tags(&self, layout: &Layout) -> Result<Tags> {
        let reference = ffi::reference(self.wanted.first);
        let mut frame = reference.map_err(|e| Error::internal("encode", e))?;
        let tags = layout.tags();
        tags.write(&mut frame);
        Ok(Tags {
            range: tags.range,
            space: frame.color_space(),
            primaries: tags.primaries,
            transfer: frame.color_transfer_characteristic(),
            location: tags.location,
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

    fn settings(&self, layout: &Layout, time_base: Rational) -> Result<Settings> {
        let video = self.wanted.video;
        let target = self.wanted.target;
        let (scale, _) = self.scale();
        Ok(Settings {
            width: video.width as u32,
            height: video.height as u32,
            pixel: layout.pixel,
            time_base,
            frame_rate: self.wanted.frame_rate(),
            sample_aspect: self.wanted.first.aspect_ratio(),
            tags: self.tags(layout)?,
            fields: self.fields(),
            code_fields: self.row.fields,
            global_header: target.format.global_header(),
            threads: self.wanted.options.threads,
            // AVI counts frames in coding order only: a reordered stream would come late by the delay.
            no_reordering: target.container.name == "avi",
            scale,
            tag: (target.is_quicktime() && self.codec.id() == ffmpeg::codec::Id::HEVC)
                .then_some(*b"hvc1"),
            depth: ffi::depth(layout.pixel).unwrap_or(8),
        })
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
            list.extend(light::x265_params(self.wanted.stream));
        }
        list.extend(dict.get(option));
        list.retain(|part| !part.is_empty());
        (!list.is_empty()).then(|| (option, list.join(":")))
    }

    // -- sentences --

    fn open_error(&self, layout: &Layout, e: ffmpeg::Error) -> Error {
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
            layout.name()
        ))
    }

    fn odd_message(&self, layout: &Layout, whole: &Layout) -> String {
        let video = self.wanted.video;
        format!(
            "{} takes no {}x{} in {}: encoded in {}, so that nothing is cropped",
            self.name,
            video.width,
            video.height,
            layout.name(),
            whole.name()
        )
    }

    fn odd_error(&self, layout: &Layout) -> Error {
        let video = self.wanted.video;
        self.wanted.refuse(format!(
            "the encoder {} refuses the film's odd size {}x{} in {}; try --codec vp9 or ffv1, which take any size",
            self.name,
            video.width,
            video.height,
            layout.name()
        ))
    }

    fn depth_error(&self, taken: &[Pixel]) -> Error {
        let depth = self.wanted.depth();
        let mut depths: Vec<u8> = taken
            .iter()
            .filter_map(|&pixel| ffi::depth(pixel))
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

    fn alpha_message(&self, layout: &Layout) -> Option<String> {
        (has_alpha(self.wanted.first.format()) && !has_alpha(layout.pixel)).then(|| {
            let name = &self.name;
            format!("the film's transparency is left out: {name} in {} cannot keep it; --codec ffv1 does", layout.name())
        })
    }

    fn fields_message(&self, settings: &Settings) -> Option<String> {
        (settings.fields.is_some() && !settings.code_fields && !self.wanted.target.is_images()).then(|| {
            format!(
                "{} codes the two fields of a frame together; the film stays marked as interlaced, but --codec h264, \
                 prores or ffv1 would keep the fields apart",
                self.name
            )
        })
    }
}

fn name_of_pixel(pixel: Pixel) -> &'static str {
    pixel.descriptor().map_or("none", |d| d.name())
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
