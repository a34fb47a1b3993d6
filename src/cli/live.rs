//! `autochrome live`: flags -> options, one source until it is enough.

use std::{
    ffi::{OsStr, OsString},
    fs,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use clap::{Args, ValueHint};
use serde_json::{Value, json};

use super::{
    Ui,
    colorize::{FINISHING, key_value, on_signals, time, within},
    encoder::EncoderArgs,
    place::PlaceArgs,
    ui::answer,
};
use crate::{
    color::Grade,
    colorize::{self, Again, Aside, KeepColor, LEVELS, Limit, Mourn, Reel},
    controls::Controls,
    error::{Error, Result, io_sentence, shown},
    live::{Hub, Server},
    media::{
        FileSink, Hear, InputOptions, Origin, OutputOptions, Screen, Sink, Source, Told, Written,
    },
    net::{self, Colorizer},
    stage::Apart,
    temporal::Pace,
};

const EXAMPLES: &str = "\
Examples:
  autochrome live /dev/video0                           a camera; the picture at http://127.0.0.1:8080
  autochrome live /dev/video0 --size 1280x720 --fps 30 -o recording.mkv
  autochrome live rtsp://camera.local/stream --input-option rtsp_transport=tcp
  autochrome live udp://0.0.0.0:5000 -o rtmp://server/live/key --no-preview
  autochrome live lavfi:testsrc2=size=1280x720:rate=30  a camera that is none, to try it
  autochrome live --list                                the cameras of this machine";

/// The longest that a source may have nothing to say.
const PATIENCE: Duration = Duration::from_secs(5);

/// Seconds from one key frame to the next of what is sent to an address.
const JOIN: f64 = 2.;

/// What the preview is called among the outputs.
const PREVIEW: &str = "preview";

/// Flags of `live`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct LiveArgs {
    /// A camera (/dev/video0), a stream (RTSP, RTMP, SRT, HTTP, HLS, UDP), lavfi:GRAPH, or a film at its own pace
    #[arg(required_unless_present = "list", value_name = "SOURCE", value_hint = ValueHint::AnyPath)]
    source: Option<OsString>,
    /// Tell the cameras of this machine
    #[arg(long, exclusive = true)]
    list: bool,
    /// Also write or send it: a file, or an address of RTMP, SRT or UDP; repeatable
    #[arg(short, long, value_name = "FILE|URL", value_hint = ValueHint::AnyPath)]
    output: Vec<OsString>,
    /// Overwrite existing files
    #[arg(short, long)]
    force: bool,
    /// Begin a new file after this time (600 or 10:00) or size (500M, 2G): recording-00001.mkv and so on
    #[arg(long, value_name = "TIME|SIZE", value_parser = limit, requires = "output")]
    rotate: Option<Limit>,
    /// Where the preview is shown; beyond this machine only to whoever knows the token that is told then
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Show no preview
    #[arg(long)]
    no_preview: bool,
    /// End after this long: seconds or [HH:]MM:SS
    #[arg(long, value_name = "TIME", value_parser = time)]
    duration: Option<f64>,
    /// End after so many frames
    #[arg(long, value_name = "N")]
    frames: Option<u64>,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten, next_help_heading = "Output")]
    encoder: EncoderArgs,
    #[command(flatten)]
    network: NetworkArgs,
}

#[derive(Args)]
#[command(next_help_heading = "Input")]
struct InputArgs {
    /// Size that a camera is asked for, such as 1280x720
    #[arg(long, value_name = "WxH")]
    size: Option<String>,
    /// Frames a second that a camera is asked for
    #[arg(long, value_name = "N")]
    fps: Option<String>,
    /// What a camera is to send (mjpeg, yuyv422), or the container of a stream, where FFmpeg cannot guess it
    #[arg(long, value_name = "NAME")]
    input_format: Option<String>,
    /// Option for FFmpeg's demuxer or decoder, as key=value; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    input_option: Vec<(String, String)>,
}

#[derive(Args)]
#[command(next_help_heading = "Network")]
struct NetworkArgs {
    /// A bundled model (fast, or autochrome, which is better and slower) or a .safetensors file
    #[arg(long, value_name = "NAME|FILE", default_value = "fast")]
    model: String,
    /// faithful (least error: calm where the network does not know) or vivid (about as colourful as photographs)
    #[arg(long, value_name = "LOOK", default_value_t)]
    look: net::Look,
    /// Factor on the colours' strength; the preview can change it
    #[arg(long, value_name = "FACTOR", default_value_t = 1., value_parser = within::<0, 4>)]
    saturation: f32,
    /// Warmer light, or cooler below 0
    #[arg(long, value_name = "SHIFT", default_value_t = 0., allow_negative_numbers = true, value_parser = within::<-1, 1>)]
    warmth: f32,
    /// Frames from one run of the network to the next; between them motion carries the colour
    #[arg(long, value_name = "FRAMES", default_value_t = 6, value_parser = clap::value_parser!(u8).range(1..=50))]
    key_interval: u8,
    #[command(flatten)]
    place: PlaceArgs,
    /// Threads: as many encode; half as many run the network, and decode [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl LiveArgs {
    /// The `--threads` flag.
    pub fn threads(&self) -> Option<usize> {
        self.network.threads.map(usize::from)
    }

    /// Colours the source until it is enough.
    ///
    /// # Errors
    /// The source or the model cannot be had; an output cannot be opened; the first that failed on the way.
    pub fn run(self, ui: &Ui) -> Result<()> {
        let Some(source) = &self.source else {
            return list();
        };
        if self.no_preview && self.output.is_empty() {
            let why = "--no-preview without --output: nobody would see anything; name an output";
            return Err(Error::Usage(why.into()));
        }
        if self.rotate.is_some() && !self.output.iter().any(|output| is_film(output)) {
            let why = "--rotate begins new files, and no --output is one";
            return Err(Error::Usage(why.into()));
        }
        let network = &self.network;
        let mut colorizer = net::load(&network.model, &network.place.options(network.look))?;
        let model = match colorizer.device() {
            "" => colorizer.describe(),
            device => format!("{} on {device}", colorizer.describe()),
        };
        ui.say(format_args!("model {model}"));
        colorizer.take_warnings().iter().for_each(|w| ui.warn(w));
        self.watched(source, colorizer.as_mut(), model, ui)
    }

    fn watched(
        &self,
        source: &OsStr,
        colorizer: &mut dyn Colorizer,
        model: String,
        ui: &Ui,
    ) -> Result<()> {
        let controls = on_signals(*ui, FINISHING)?;
        let hub = Hub::new(controls.clone(), model);
        let (input, options) = self.input_options(source, &controls);
        let (told, mut tell) = (hub.clone(), telling("the source".into(), *ui));
        let hear = move |word: Told| {
            told.hear(&word);
            tell(word);
        };
        let mut source = Source::live(&input, &options, Box::new(hear))?;
        source.take_warnings().iter().for_each(|w| ui.warn(w));
        let failures = Arc::new(Mutex::new(Vec::new()));
        let sinks = self.sinks(&source, &hub, &controls, &failures, ui)?;
        let _server = self.server(&hub, ui)?;
        let name = shown(&input);
        let bar = Arc::new(ui.figures(&name));
        let (drawn, hand, most) = (bar.clone(), controls.clone(), self.frames);
        let told = hub.clone();
        let (voice, said, interval) = (*ui, AtomicUsize::new(0), self.network.key_interval);
        let controls = controls.with_progress(move |p| {
            drawn.figures(|| line(&told));
            let level = hand.level();
            if said.swap(level, Ordering::Relaxed) != level {
                voice.say(format_args!("{}", eased(level, interval)));
            }
            if most.is_some_and(|most| p.frames >= most) {
                hand.finish();
            }
        });
        self.time_out(&controls)?;
        let mut colorizer = hub.counted(colorizer);
        let result = colorize::run(source, sinks, &mut colorizer, &self.options(), &controls);
        bar.done();
        let report = result?;
        report.warnings.iter().for_each(|w| ui.warn(w));
        let shown = |written: &&Written| !self.no_preview || written.name != PREVIEW;
        for written in report.written.iter().filter(shown) {
            let notes: String = written.notes.iter().map(|n| format!("; {n}")).collect();
            ui.say(format_args!(
                "{}: {} frames{notes}",
                written.name, written.frames
            ));
        }
        let figures = hub.figures();
        ui.say(format_args!(
            "{} frames in {:.1} s, {} left out, the network ran {} times, the source came back {} times",
            report.source.frames, report.seconds, figures.dropped, figures.network_runs, figures.reconnects
        ));
        let first = failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
            .next();
        first.map_or(Ok(()), Err)
    }

    /// Ends the run when its time is over, whether frames come or not.
    fn time_out(&self, controls: &Controls) -> Result<()> {
        let Some(seconds) = self.duration else {
            return Ok(());
        };
        let (until, controls) = (
            Instant::now() + Duration::from_secs_f64(seconds),
            controls.clone(),
        );
        // It outlives the run by nothing that matters: the program ends then.
        Apart::start("time", move || {
            sleep(until.saturating_duration_since(Instant::now()));
            controls.finish();
        })?;
        Ok(())
    }

    fn server(&self, hub: &Arc<Hub>, ui: &Ui) -> Result<Option<Server>> {
        if self.no_preview {
            return Ok(None);
        }
        let server = Server::start(hub.clone(), self.listen)?;
        ui.say(format_args!("preview at {}", server.url()));
        if !self.listen.ip().is_loopback() {
            ui.warn("the preview can be seen by everybody on the network who knows this address with its token");
        }
        Ok(Some(server))
    }

    fn sinks(
        &self,
        source: &Source,
        hub: &Arc<Hub>,
        controls: &Controls,
        failures: &Arc<Mutex<Vec<Error>>>,
        ui: &Ui,
    ) -> Result<Vec<Box<dyn Sink>>> {
        let mourn = || -> Mourn {
            let (voice, failures) = (*ui, failures.clone());
            Box::new(move |name, why: Error| {
                voice.error(format_args!("{name} has failed, the others go on: {why}"));
                failures
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(why);
            })
        };
        let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
        for output in &self.output {
            let (sink, messages) = self.sink(output, source, controls, ui)?;
            messages.iter().for_each(|m| ui.warn(m));
            let name = shown(output);
            sinks.push(Box::new(Aside::new(&name, sink, mourn())?));
        }
        // It also counts, and makes no pictures where nobody looks.
        let screen = Screen::create(source, Box::new(hub.clone()))?;
        sinks.push(Box::new(Aside::new(PREVIEW, Box::new(screen), mourn())?));
        Ok(sinks)
    }

    /// Opens one of `--output`, with what a person should know of it.
    fn sink(
        &self,
        output: &OsStr,
        source: &Source,
        controls: &Controls,
        ui: &Ui,
    ) -> Result<(Box<dyn Sink>, Vec<String>)> {
        let mut options = self.output_options(output, controls);
        let (origin, name) = (Origin::of(source)?, output.to_string_lossy());
        let given = |key: &str| options.encoder_options.iter().any(|(k, _)| k == key);
        if name.contains("://") && options.codec.as_deref() == Some("h264") && !given("g") {
            // Whoever comes later sees nothing before the next key frame.
            let (num, den) = source.info().video.frame_rate.unwrap_or((25, 1));
            let frames = (JOIN * f64::from(num) / f64::from(den)).clamp(1., 600.);
            options
                .encoder_options
                .push(("g".into(), format!("{frames:.0}")));
        }
        Ok(match self.rotate {
            _ if name.contains("://") => {
                let sink = Again::create(output, options, origin, telling(shown(output), *ui))?;
                let messages = sink.messages().to_vec();
                (Box::new(sink), messages)
            }
            Some(limit) if is_film(output) => {
                let sink = Reel::create(output, options, origin, limit)?;
                let messages = sink.messages().to_vec();
                (Box::new(sink), messages)
            }
            _ => {
                let sink = FileSink::open(output, &options, &origin, 0)?;
                let messages = sink.messages().to_vec();
                (Box::new(sink), messages)
            }
        })
    }

    /// What FFmpeg is to open, and how.
    fn input_options(&self, source: &OsStr, controls: &Controls) -> (OsString, InputOptions) {
        let name = source.to_string_lossy();
        let given = &self.input;
        let mut options = Vec::new();
        let mut add = |key: &str, value: &Option<String>| {
            options.extend(value.iter().map(|value| (key.to_owned(), value.clone())));
        };
        add("video_size", &given.size);
        add("framerate", &given.fps);
        let (input, format) = match name.strip_prefix("lavfi:") {
            Some(graph) => (graph.to_owned(), Some("lavfi".to_owned())),
            None if is_device(&name) => {
                add("input_format", &given.input_format);
                (name.into_owned(), Some("v4l2".to_owned()))
            }
            None => (name.into_owned(), given.input_format.clone()),
        };
        options.extend(given.input_option.iter().cloned());
        let options = InputOptions {
            format,
            options,
            threads: self.threads().map_or(0, |n| n.div_ceil(2)),
            interrupt: Some(controls.finish_flag()),
            patience: Some(PATIENCE),
            ..InputOptions::default()
        };
        (input.into(), options)
    }

    fn output_options(&self, output: &OsStr, controls: &Controls) -> OutputOptions {
        let encoding = &self.encoder;
        // A device takes pictures as they are.
        let coded = !is_device(&output.to_string_lossy());
        let own = coded && encoding.codec.is_none() && encoding.preset.is_none();
        let mut encoder_options = encoding.encoder_option.clone();
        if own && !encoder_options.iter().any(|(key, _)| key == "tune") {
            encoder_options.push(("tune".into(), "zerolatency".into()));
        }
        OutputOptions {
            format: encoding.format.clone(),
            codec: encoding
                .codec
                .clone()
                .or_else(|| own.then(|| "h264".into())),
            crf: encoding.crf,
            preset: encoding
                .preset
                .clone()
                .or_else(|| own.then(|| "veryfast".into())),
            encoder_options,
            force: self.force,
            drop_unsupported: true,
            threads: self.threads().unwrap_or(0),
            provenance: format!(
                "Colours are machine-made, live, by autochrome {}; model {}",
                env!("CARGO_PKG_VERSION"),
                self.network.model
            ),
            interrupt: Some(controls.abort_flag()),
            patience: output.to_string_lossy().contains("://").then_some(PATIENCE),
            once: true,
            ..OutputOptions::default()
        }
    }

    fn options(&self) -> colorize::Options {
        colorize::Options {
            batch: 1,
            key_interval: self.network.key_interval.into(),
            pace: Pace::Live,
            keep_color: KeepColor::Never,
            grade: Grade {
                saturation: self.network.saturation,
                warmth: self.network.warmth,
            },
            ..colorize::Options::default()
        }
    }
}

/// Says of a source or an output that it is gone, and that it is back.
fn telling(name: String, ui: Ui) -> Hear {
    Box::new(move |word| match word {
        Told::Gone(why) => ui.warn(format_args!("{name} is gone ({why}); waiting for it")),
        Told::Back(after) => ui.say(format_args!(
            "{name} is back after {:.1} s",
            after.as_secs_f64()
        )),
    })
}

/// A run's figures in a line, and whole.
fn line(hub: &Hub) -> (String, Value) {
    let now = hub.figures();
    let level = match now.level {
        0 => String::new(),
        level => format!(", step {level} of {}", LEVELS.len() - 1),
    };
    let line = format!(
        "{:.1} fps, delay {:.0} / {:.0} ms, {} of {} left out, network {}{level}, {} looking on",
        now.fps,
        now.latency_p50_ms,
        now.latency_p95_ms,
        now.dropped,
        now.frames + now.dropped,
        now.network_runs,
        now.viewers
    );
    (line, json!(now))
}

/// What is asked of the machine now.
fn eased(level: usize, interval: u8) -> String {
    let Some(now) = LEVELS.get(level).filter(|_| level > 0) else {
        return "the machine keeps up again: colours as good as they were asked for".into();
    };
    let every = f64::from(interval) * now.slower;
    let size = match now.size {
        size if size < 1. => format!(", at {:.0} % of its size", 100. * size),
        _ => String::new(),
    };
    format!(
        "the machine does not keep up: the network looks at a frame of {every:.0}{size} (step {level} of {})",
        LEVELS.len() - 1
    )
}

/// A camera, or a virtual one.
fn is_device(name: &str) -> bool {
    name.starts_with("/dev/video")
}

/// Whether an output is a file that a recording can go on in.
fn is_film(output: &OsStr) -> bool {
    let name = output.to_string_lossy();
    !(name == "-" || name.contains("://") || is_device(&name))
}

/// When a file of a recording is full: "500M", "2G", or a time.
fn limit(s: &str) -> std::result::Result<Limit, String> {
    let size = [("K", 10), ("M", 20), ("G", 30)];
    let size = size.iter().find_map(|(unit, bits)| {
        let count: u64 = s.to_uppercase().strip_suffix(unit)?.parse().ok()?;
        count.checked_mul(1 << bits)
    });
    let limit = match size {
        Some(bytes) => Limit::Bytes(bytes),
        None => Limit::Seconds(time(s).map_err(|_| {
            format!("'{s}' is neither a time (600 or 10:00) nor a size (500M or 2G)")
        })?),
    };
    match limit {
        Limit::Bytes(0) => Err("a file of no size holds nothing".into()),
        Limit::Seconds(seconds) if seconds < 1. => Err("a file is at least a second long".into()),
        limit => Ok(limit),
    }
}

/// The cameras that the kernel knows, each with its name.
fn list() -> Result<()> {
    const FOLDER: &str = "/sys/class/video4linux";
    let found = match fs::read_dir(FOLDER) {
        Ok(found) => found,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return answer("no camera: this machine knows no video devices");
        }
        Err(e) => return Err(Error::input(FOLDER, io_sentence(&e))),
    };
    let mut cameras: Vec<String> = found
        .flatten()
        .map(|device| {
            let name = fs::read_to_string(device.path().join("name")).unwrap_or_default();
            format!("/dev/{}  {}", device.file_name().display(), name.trim())
        })
        .collect();
    cameras.sort();
    match cameras.is_empty() {
        true => answer("no camera: this machine knows no video devices"),
        false => answer(cameras.join("\n")),
    }
}
