//! `autochrome colorize`: flags -> options, one film after the other with the model loaded once.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, ValueHint};

use super::{Ui, encoder::EncoderArgs, network::NetworkArgs, summary::Summary, ui::answer};
use crate::{
    colorize,
    controls::Controls,
    error::{Error, Result, discreet},
    media::{self, BesideSink, FileSink, InputOptions, OutputOptions, PreviewSink, Sink, Source},
    net::{self, Colorizer},
};

const EXAMPLES: &str = "\
Examples:
  autochrome colorize film.mp4                          writes film.color.mp4
  autochrome colorize film.mp4 --start 1:00 --duration 10 --preview sheet.png
  autochrome colorize film.mp4 --compare before-after.mp4
  autochrome colorize film.mkv -o film.mov --codec prores
  autochrome colorize reel1.avi reel2.avi -o colored/
  autochrome colorize scan_%05d.png -o film.mkv
  cat film.ts | autochrome colorize - -o film.color.mkv";

/// What the first Ctrl-C brings about.
pub(super) const FINISHING: &str = "finishing the file";

/// Flags of `colorize`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct ColorizeArgs {
    /// Films, stills, numbered sequences (frame%04d.png), URLs, or - for standard input
    #[arg(required = true, value_name = "INPUT", value_hint = ValueHint::FilePath)]
    inputs: Vec<OsString>,
    /// Output file, URL or - for standard output; with several inputs a folder [default: film.mp4 -> film.color.mp4]
    #[arg(short, long, value_name = "OUTPUT", value_hint = ValueHint::AnyPath)]
    output: Option<OsString>,
    /// Overwrite an existing output
    #[arg(short, long)]
    force: bool,
    /// Draw a before/after sheet of a few frames into this PNG
    #[arg(long, value_name = "PNG", value_hint = ValueHint::FilePath)]
    preview: Option<PathBuf>,
    /// Write a second film that shows grey and colour side by side
    #[arg(long, value_name = "FILM", value_hint = ValueHint::FilePath)]
    compare: Option<OsString>,
    /// Print the summary as one JSON object a film on standard output
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    encoding: EncodingArgs,
    #[command(flatten)]
    network: NetworkArgs,
}

#[derive(Args)]
#[command(next_help_heading = "Input")]
struct SourceArgs {
    /// Container of the input, where FFmpeg cannot guess it (standard input, raw video, cameras)
    #[arg(long, value_name = "NAME")]
    input_format: Option<String>,
    /// Option for FFmpeg's demuxer or decoder, as key=value; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    input_option: Vec<(String, String)>,
    /// Begin here: seconds or [HH:]MM:SS
    #[arg(long, value_name = "TIME", value_parser = time)]
    start: Option<f64>,
    /// Colorize only this much: seconds or [HH:]MM:SS
    #[arg(long, value_name = "TIME", value_parser = time)]
    duration: Option<f64>,
}

#[derive(Args)]
#[command(next_help_heading = "Output")]
struct EncodingArgs {
    #[command(flatten)]
    encoder: EncoderArgs,
    /// FFmpeg pixel format of the output, such as yuv420p [default: the source's depth and subsampling]
    #[arg(long, value_name = "NAME")]
    pixel_format: Option<String>,
    /// Go on without streams that the container cannot hold
    #[arg(long)]
    drop_unsupported: bool,
}

pub(super) fn key_value(s: &str) -> std::result::Result<(String, String), String> {
    match s.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err(format!("'{s}' is not KEY=VALUE")),
    }
}

/// A number from `LEAST` to `MOST`.
pub(super) fn within<const LEAST: i8, const MOST: i8>(s: &str) -> std::result::Result<f32, String> {
    let number = s.parse().ok();
    let fits = |v: &f32| (f32::from(LEAST)..=f32::from(MOST)).contains(v);
    number
        .filter(fits)
        .ok_or_else(|| format!("'{s}' is not a number from {LEAST} to {MOST}"))
}

/// Seconds of "90", "1:30" or "0:01:30.5".
pub(super) fn time(s: &str) -> std::result::Result<f64, String> {
    let wrong = || format!("'{s}' is not a time: write seconds (90.5) or [HH:]MM:SS (1:30.5)");
    let parts: Vec<f64> = s
        .split(':')
        .map(str::parse)
        .collect::<std::result::Result<_, _>>()
        .map_err(|_| wrong())?;
    let valid = parts.len() <= 3 && parts.iter().all(|p| p.is_finite() && *p >= 0.0);
    valid
        .then(|| {
            parts
                .iter()
                .fold(0.0, |seconds, part| seconds * 60.0 + part)
        })
        .ok_or_else(wrong)
}

impl ColorizeArgs {
    /// The `--threads` flag.
    pub fn threads(&self) -> Option<usize> {
        self.network.threads.map(usize::from)
    }

    /// Colorizes every input. One that fails is reported and the others are done all the same.
    ///
    /// # Errors
    /// The first failure, after all inputs were tried; or what makes every input impossible.
    pub fn run(self, ui: &Ui) -> Result<()> {
        self.check()?;
        let controls = on_signals(*ui, FINISHING)?;
        let mut colorizer = self.load(ui)?;
        let mut first_failure = None;
        for input in &self.inputs {
            match self.film(input, colorizer.as_mut(), &controls, ui) {
                Ok(()) => {}
                Err(e @ Error::Stopped) => return Err(e),
                Err(e) if self.inputs.len() == 1 => return Err(e),
                Err(e) => {
                    ui.error(&e);
                    first_failure.get_or_insert(e);
                }
            }
            if controls.is_finishing() {
                break;
            }
        }
        match first_failure {
            Some(e) => Err(Error::Several(Box::new(e))),
            None => Ok(()),
        }
    }

    fn check(&self) -> Result<()> {
        if self.json && self.output.as_deref() == Some(OsStr::new("-")) {
            return Err(Error::Usage(
                "--json and -o - both need standard output: write the film to a file".into(),
            ));
        }
        let folder = self.output.as_deref().is_none_or(is_folder);
        if self.inputs.len() > 1 && !folder {
            return Err(Error::Usage(
                "-o names one file, but there are several inputs: name an existing folder, or one ending in /".into(),
            ));
        }
        if self.inputs.len() > 1 && (self.preview.is_some() || self.compare.is_some()) {
            return Err(Error::Usage(
                "--preview and --compare are of one film: give one input at a time".into(),
            ));
        }
        Ok(())
    }

    /// Two films under one name would end as neither.
    fn check_comparison(&self, output: &OsStr) -> Result<()> {
        let place = |name: &OsStr| std::path::absolute(name).ok();
        match &self.compare {
            Some(film) if place(film) == place(output) => Err(Error::output(
                film.to_string_lossy(),
                "the film itself goes there: name another file with --compare",
            )),
            _ => Ok(()),
        }
    }

    fn load(&self, ui: &Ui) -> Result<Box<dyn Colorizer>> {
        let network = &self.network;
        let mut loaded = net::load(&network.model, &network.place.options(network.look))?;
        let place = Some(loaded.device()).filter(|p| !p.is_empty());
        let place = place.map_or(String::new(), |p| format!(" on {p}"));
        ui.say(format_args!("model {}{place}", loaded.describe()));
        loaded.take_warnings().iter().for_each(|w| ui.warn(w));
        Ok(loaded)
    }

    fn film(
        &self,
        input: &OsStr,
        colorizer: &mut dyn Colorizer,
        controls: &Controls,
        ui: &Ui,
    ) -> Result<()> {
        let output = self.output_for(input)?;
        self.check_comparison(&output)?;
        let mut source = Source::open(input, &self.input_options(input, controls))?;
        let sink = FileSink::create(&output, &self.output_options(colorizer, controls), &source)?;
        let mut warnings = source.take_warnings();
        warnings.extend(sink.messages().iter().cloned());
        warnings.iter().for_each(|w| ui.warn(w));
        let video = &source.info().video;
        ui.detail(format_args!("{video:?}"));
        let total = expected_frames(video, self.source.start, self.source.duration);
        let name = Path::new(input)
            .file_name()
            .unwrap_or(input)
            .to_string_lossy()
            .into_owned();

        let mut sinks: Vec<Box<dyn Sink>> = vec![Box::new(sink)];
        if let Some(sheet) = &self.preview {
            let sheet = PreviewSink::create(sheet, video, total, self.force)?;
            sinks.push(Box::new(sheet));
        }
        if let Some(film) = &self.compare {
            let options = self.comparison_options(colorizer, controls);
            let film = BesideSink::create(film, &options, &source)?;
            sinks.push(Box::new(film));
        }
        let bar = Arc::new(ui.progress(&name, total));
        let drawn = bar.clone();
        let controls = controls
            .clone()
            .with_progress(move |p| drawn.at(p.frames, p.seconds));
        let options = self.options(colorizer);
        let result = colorize::run(source, sinks, colorizer, &options, &controls);
        bar.done();
        let report = result?;
        let late: Vec<String> = [report.warnings.clone(), colorizer.take_warnings()].concat();
        late.iter().for_each(|w| ui.warn(w));
        warnings.extend(late);
        let input = discreet(&input.to_string_lossy());
        self.tell(
            &Summary::new(input, colorizer, &options, warnings, report),
            ui,
        )
    }

    fn tell(&self, summary: &Summary, ui: &Ui) -> Result<()> {
        if self.json {
            let line = serde_json::to_string(summary).map_err(|e| Error::internal("summary", e))?;
            answer(line)?;
        } else {
            ui.say(summary.text());
        }
        Ok(())
    }

    fn output_for(&self, input: &OsStr) -> Result<OsString> {
        let own = media::default_output(input);
        match &self.output {
            None => Ok(own.into_os_string()),
            Some(output) if is_folder(output) => {
                std::fs::create_dir_all(output).map_err(|e| {
                    Error::output(
                        output.to_string_lossy(),
                        format!("cannot make this folder: {e}"),
                    )
                })?;
                let name = own.file_name().unwrap_or(own.as_os_str());
                Ok(Path::new(output).join(name).into_os_string())
            }
            Some(output) => Ok(output.clone()),
        }
    }

    fn input_options(&self, input: &OsStr, controls: &Controls) -> InputOptions {
        let piped = input == "-" && self.output.as_deref().is_none_or(|o| o != "-");
        InputOptions {
            format: self.source.input_format.clone().or_else(|| {
                piped
                    .then(|| self.encoding.encoder.format.clone())
                    .flatten()
            }),
            options: self.source.input_option.clone(),
            start: self.source.start,
            duration: self.source.duration,
            // Decoding takes at most half of what encoding takes; the encoder and the network need all of them.
            threads: self.threads().map_or(0, |n| n.div_ceil(2)),
            interrupt: Some(controls.abort_flag()),
            ..InputOptions::default()
        }
    }

    fn output_options(&self, colorizer: &dyn Colorizer, controls: &Controls) -> OutputOptions {
        OutputOptions {
            format: self.encoding.encoder.format.clone(),
            codec: self.encoding.encoder.codec.clone(),
            crf: self.encoding.encoder.crf,
            preset: self.encoding.encoder.preset.clone(),
            encoder_options: self.encoding.encoder.encoder_option.clone(),
            pixel_format: self.encoding.pixel_format.clone(),
            force: self.force,
            drop_unsupported: self.encoding.drop_unsupported,
            threads: self.threads().unwrap_or(0),
            provenance: self.options(colorizer).provenance(&colorizer.describe()),
            interrupt: Some(controls.abort_flag()),
            ..OutputOptions::default()
        }
    }

    /// A comparison is encoded as its container's default says.
    fn comparison_options(&self, colorizer: &dyn Colorizer, controls: &Controls) -> OutputOptions {
        let OutputOptions {
            provenance,
            threads,
            ..
        } = self.output_options(colorizer, controls);
        OutputOptions {
            provenance,
            threads,
            force: self.force,
            // What it leaves out is in the film itself.
            drop_unsupported: true,
            interrupt: Some(controls.abort_flag()),
            ..OutputOptions::default()
        }
    }

    fn options(&self, colorizer: &dyn Colorizer) -> colorize::Options {
        let network = &self.network;
        let batch = network
            .batch
            .map_or_else(|| colorizer.default_batch(), usize::from);
        network.options(batch)
    }
}

fn is_folder(path: &OsStr) -> bool {
    path.to_string_lossy().ends_with('/') || Path::new(path).is_dir()
}

fn expected_frames(
    video: &crate::frame::VideoInfo,
    start: Option<f64>,
    duration: Option<f64>,
) -> Option<u64> {
    if start.is_none() && duration.is_none() {
        return video.frames;
    }
    let (num, den) = video.frame_rate?;
    let rest = video.duration.map(|d| (d - start.unwrap_or(0.0)).max(0.0));
    let seconds = match (duration, rest) {
        (Some(asked), Some(rest)) => asked.min(rest),
        (asked, rest) => asked.or(rest)?,
    };
    Some((seconds * f64::from(num) / f64::from(den)).round() as u64)
}

/// Ctrl-C or SIGTERM once: `first` says what is done then. Twice: stop at once.
pub(super) fn on_signals(ui: Ui, first: &'static str) -> Result<Controls> {
    let controls = Controls::default();
    let hand = controls.clone();
    ctrlc::set_handler(move || {
        if hand.is_finishing() {
            hand.abort();
        } else {
            hand.finish();
            ui.warn(format_args!("{first}; once more to stop at once"));
        }
    })
    .map_err(|e| Error::internal("signals", e))?;
    Ok(controls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_clock_times() {
        for (text, seconds) in [
            ("90", 90.0),
            ("1:30", 90.0),
            ("0:01:30.5", 90.5),
            ("0", 0.0),
        ] {
            assert_eq!(time(text), Ok(seconds));
        }
        for text in ["", "a", "1:2:3:4", "-5", "1:-2", "inf", "NaN"] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn options_are_key_and_value() {
        assert_eq!(
            key_value("rtsp_transport=tcp"),
            Ok(("rtsp_transport".into(), "tcp".into()))
        );
        assert_eq!(
            key_value("x264-params=a=1"),
            Ok(("x264-params".into(), "a=1".into()))
        );
        assert!(key_value("tcp").is_err() && key_value("=tcp").is_err());
    }
}
