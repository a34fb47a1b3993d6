//! Job: the child process that does one piece of work after the other. What ends it, ends no more than that piece.

use std::{
    cell::RefCell,
    ffi::OsStr,
    fs::File,
    io::{self, BufRead, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use sha2::{Digest as _, Sha256};

use super::{
    record::hex,
    settings::Settings,
    task::{Film, Looked, Piece, Plan, Task, Told},
};
use crate::{
    color::Palette,
    colorize::{self, KeepColor, Report},
    controls::Controls,
    error::{Error, Result, io_sentence, shown},
    frame::{Merged, VideoInfo},
    media::{
        self, FileSink, InputOptions, OutputOptions, PreviewSink, Scan, SegmentSink, Sink, Source,
        Written,
    },
    net::{self, Colorizer, Machine},
    stage::{self, Apart, Mailbox},
};

/// How often progress is told.
const TELL: Duration = Duration::from_millis(300);
/// Frames that are looked at to see whether a film is in colour already, spread over it.
const LOOKS: usize = 9;
/// Share of those that must be in colour; films have dark and white frames too.
const IN_COLOR: f64 = 0.85;
/// Lightness and darkness beyond which a frame says nothing about colour: mean of its samples, 0..=255.
const TELLING: std::ops::Range<f64> = 20.0..235.0;
/// Longest side of a picture on the sheet, and pairs of them.
const SHEET: (usize, usize) = (320, 3);

/// Does what comes on standard input, line by line, first the settings, then tasks, and tells of it on standard output,
/// until standard input ends: then whoever would want the result is gone.
///
/// # Errors
/// The settings are none; whatever else goes wrong is told.
pub fn work() -> Result<()> {
    let tasks = lines()?;
    let settings = tasks.wait().ok_or(Error::Disconnected)?;
    let settings = serde_json::from_str(&settings).map_err(|e| Error::internal("job", e))?;
    let mut job = match Job::new(settings) {
        Ok(job) => job,
        // Whoever hears of it knows which model it is.
        Err(Error::Model { why, .. }) => return tell(&Told::Failed(5, why)),
        Err(e) => return tell(&Told::Failed(e.exit_code(), e.to_string())),
    };
    tell(&job.ready())?;
    while let Some(line) = tasks.wait() {
        let task = serde_json::from_str(&line).map_err(|e| Error::internal("job", e))?;
        let told = job.done(task);
        tell(&told.unwrap_or_else(|e| Told::Failed(e.exit_code(), e.to_string())))?;
    }
    Ok(())
}

/// The lines of standard input. Its end ends the process, whatever it is doing.
fn lines() -> Result<Mailbox<String>> {
    let (post, lines) = stage::mailbox();
    Apart::start("orders", move || {
        for line in io::stdin().lock().lines().map_while(io::Result::ok) {
            post.post(line);
        }
        std::process::exit(0);
    })?;
    Ok(lines)
}

fn tell(told: &Told) -> Result<()> {
    let mut line = serde_json::to_vec(told).map_err(|e| Error::internal("job", e))?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    let written = out.write_all(&line).and_then(|()| out.flush());
    written.map_err(|_| Error::Disconnected)
}

/// Tells how far it has come, not too often.
struct Pulse {
    told: RefCell<Instant>,
    of: u64,
}

impl Pulse {
    fn new(of: u64) -> Self {
        Self {
            told: RefCell::new(Instant::now()),
            of,
        }
    }

    fn at(&self, done: u64) -> Result<()> {
        if self.told.borrow().elapsed() < TELL {
            return Ok(());
        }
        *self.told.borrow_mut() = Instant::now();
        tell(&Told::At(done, self.of))
    }
}

/// Tells that it is alive, while there are no frames to count.
fn pulsing() -> impl FnMut() -> Result<()> {
    let pulse = Pulse::new(0);
    move || pulse.at(0)
}

struct Job {
    settings: Settings,
    colorizer: Box<dyn Colorizer>,
    model: String,
    pin: String,
}

impl Job {
    fn new(settings: Settings) -> Result<Self> {
        let colorizer = net::load(&settings.model, &settings.network)?;
        let model = colorizer.describe();
        let machine = Machine::this()?;
        let pin = format!(
            "autochrome {}; {model}; {}; {}; {}",
            env!("CARGO_PKG_VERSION"),
            colorizer.device(),
            machine.instructions.join(" "),
            media::version()
        );
        Ok(Self {
            settings,
            colorizer,
            model,
            pin,
        })
    }

    fn ready(&self) -> Told {
        Told::Ready {
            model: self.model.clone(),
            device: self.colorizer.device().to_owned(),
            pin: self.pin.clone(),
        }
    }

    fn done(&mut self, task: Task) -> Result<Told> {
        match task {
            Task::Look(input) => look(&input).map(Told::Looked),
            Task::Film(film) => self.film(&film),
            Task::Segment(film, plan, number) => self.segment(&film, &plan, number),
            Task::Join(film, plan, segments, end) => self.join(&film, &plan, &segments, end),
        }
    }

    fn input(&self) -> InputOptions {
        InputOptions {
            threads: self.settings.threads.div_ceil(2),
            ..InputOptions::default()
        }
    }

    fn output(&self, threads: usize) -> OutputOptions {
        self.settings.output(&self.model, threads)
    }

    fn colorize(&self) -> colorize::Options {
        let batch = self.settings.batch;
        colorize::Options {
            batch: batch.unwrap_or_else(|| self.colorizer.default_batch()),
            ..self.settings.colorize.clone()
        }
    }

    /// A film that nobody has begun.
    fn film(&mut self, film: &Film) -> Result<Told> {
        let source = Source::open(OsStr::new(&film.input), &self.input())?;
        if let Some(why) = self.in_color(&source)? {
            return Ok(Told::Skip(why));
        }
        let seconds = source.info().video.duration;
        let is_long = seconds.is_none_or(|seconds| seconds >= 1.5 * self.settings.segment);
        let mut why = None;
        if is_long && self.output_for(film, &source)?.takes_segments() {
            let plan = self.plan(film)?;
            if plan.segments.len() > 1 {
                return Ok(Told::Split(Box::new(plan)));
            }
            why = plan.whole;
        }
        self.whole(film, source, why)
    }

    /// What would be written of the film, to see whether it can be.
    fn output_for(&self, film: &Film, source: &Source) -> Result<FileSink> {
        FileSink::create(
            film.output.as_os_str(),
            &self.output(self.settings.encoder_threads()),
            source,
        )
    }

    fn plan(&self, film: &Film) -> Result<Plan> {
        let pulse = Pulse::new(0);
        let mut scan = Scan::of(OsStr::new(&film.input), &self.input(), &mut |_| pulse.at(0))?;
        let segments = scan.segments(self.settings.segment, self.colorize().reach()?)?;
        Ok(Plan {
            segments,
            pin: self.pin.clone(),
            threads: self.settings.encoder_threads(),
            whole: scan.refusal().map(Into::into),
        })
    }

    /// In one go, and why, where the film is long.
    fn whole(&mut self, film: &Film, source: Source, why: Option<String>) -> Result<Told> {
        let since = Instant::now();
        let sink = self.output_for(film, &source)?;
        let sheet = sheet(film, &source)?;
        let video = source.info().video.clone();
        let mut warnings = sink.messages().to_vec();
        warnings.extend(why.map(|why| format!("coloured in one go, for {why}")));
        let sinks = vec![Box::new(sink) as Box<dyn Sink>, sheet];
        let (report, end) = self.run(source, sinks, video.frames.unwrap_or(0))?;
        let mut piece = self.piece(&report, &video, end)?;
        piece.warnings.splice(..0, warnings);
        (piece.bytes, piece.sha256) = digest(&film.output, pulsing())?;
        piece.worked = since.elapsed().as_secs_f64();
        Ok(Told::Done(piece))
    }

    fn segment(&mut self, film: &Film, plan: &Plan, number: usize) -> Result<Told> {
        if let Some(why) = self.lacks(plan) {
            return Ok(Told::Refused(why));
        }
        let since = Instant::now();
        let segment = &plan.segments[number];
        let whole = Source::open(OsStr::new(&film.input), &self.input())?;
        let options = OutputOptions {
            segment_of: Some(film.name.clone().into()),
            ..self.output(plan.threads)
        };
        let sink = FileSink::create(film.output.as_os_str(), &options, &whole)?;
        let video = whole.info().video.clone();
        let mut sinks: Vec<Box<dyn Sink>> =
            vec![Box::new(SegmentSink::new(Box::new(sink), segment))];
        if number == plan.segments.len() / 2 {
            sinks.push(Box::new(SegmentSink::new(sheet(film, &whole)?, segment)));
        }
        let source = Source::part(&whole, &self.input(), segment.part)?;
        drop(whole);
        let (report, end) = self.run(source, sinks, segment.frames)?;
        let mut piece = self.piece(&report, &video, end)?;
        piece.end = segment.to.unwrap_or(end);
        piece.worked = since.elapsed().as_secs_f64();
        Ok(Told::Done(piece))
    }

    /// What a plan was made by that this job has not.
    fn lacks(&self, plan: &Plan) -> Option<String> {
        (plan.pin != self.pin).then(|| {
            format!(
                "it was begun by another engine, whose colours may differ in the last digit: {}; here is {}",
                plan.pin, self.pin
            )
        })
    }

    fn join(&mut self, film: &Film, plan: &Plan, segments: &[PathBuf], end: i64) -> Result<Told> {
        if let Some(why) = self.lacks(plan) {
            return Ok(Told::Refused(why));
        }
        let since = Instant::now();
        let options = InputOptions {
            packets_only: true,
            ..self.input()
        };
        let source = Source::open(OsStr::new(&film.input), &options)?;
        let video = source.info().video.clone();
        let sink = FileSink::create(film.output.as_os_str(), &self.output(plan.threads), &source)?;
        let warnings = sink.messages().to_vec();
        let pulse = Pulse::new(plan.segments.iter().map(|s| s.frames).sum());
        let written = media::splice(source, sink, segments, end, &mut |frames| pulse.at(frames))?;
        let (bytes, sha256) = digest(&film.output, pulsing())?;
        Ok(Told::Done(Piece {
            frames: written.frames,
            size: (video.width, video.height),
            seconds: seconds(&video, end),
            end,
            bytes,
            sha256,
            worked: since.elapsed().as_secs_f64(),
            streams: written.streams,
            warnings: [warnings, written.notes].concat(),
            model: self.model.clone(),
            kept: 0,
        }))
    }

    /// Colours `source` into the sinks; the report, and where the last frame ends, in ticks.
    fn run(
        &mut self,
        source: Source,
        sinks: Vec<Box<dyn Sink>>,
        frames: u64,
    ) -> Result<(Report, i64)> {
        let options = self.colorize();
        let clock = Clock::default();
        let sinks = sinks.into_iter().chain([clock.sink()]).collect();
        let told = Mutex::new(Pulse::new(frames));
        let controls = Controls::default().with_progress(move |p| {
            // Nobody to tell: the process ends with its standard input.
            let _ = told.lock().map(|pulse| pulse.at(p.frames));
        });
        let report = colorize::run(source, sinks, self.colorizer.as_mut(), &options, &controls)?;
        Ok((report, clock.end()))
    }

    fn piece(&mut self, report: &Report, video: &VideoInfo, end: i64) -> Result<Piece> {
        let written: &Written = report
            .written
            .first()
            .ok_or_else(|| Error::internal("job", "nothing was written"))?;
        let mut warnings = report.warnings.clone();
        warnings.extend(self.colorizer.take_warnings());
        warnings.extend(written.notes.iter().cloned());
        Ok(Piece {
            frames: written.frames,
            kept: report.kept,
            size: (video.width, video.height),
            seconds: seconds(video, end),
            end,
            bytes: written.bytes.unwrap_or(0),
            streams: written.streams.clone(),
            warnings,
            model: self.model.clone(),
            ..Piece::default()
        })
    }

    /// Why a film is in colour already, if it is all through and is to be left so.
    fn in_color(&self, source: &Source) -> Result<Option<String>> {
        let choice = self.settings.colorize.keep_color;
        let Some(seconds) = source
            .info()
            .video
            .duration
            .filter(|_| choice != KeepColor::Never)
        else {
            return Ok(None);
        };
        let (mut telling, mut in_color) = (0, 0);
        for look in 0..LOOKS {
            let start = seconds * (look as f64 + 0.5) / LOOKS as f64;
            let Some(palette) = palette(&source.info().name, start, self.input())? else {
                continue;
            };
            telling += 1;
            in_color += usize::from(choice.keeps_one(palette));
        }
        let enough = telling >= 3 && in_color as f64 >= IN_COLOR * telling as f64;
        Ok(enough.then(|| {
            format!("it is in colour already ({in_color} of {telling} frames that were looked at); --keep-color never colours it anew")
        }))
    }
}

/// The colours of the frame at a time, if it is one that tells something.
fn palette(name: &str, start: f64, options: InputOptions) -> Result<Option<Palette>> {
    let options = InputOptions {
        start: Some(start),
        ..options
    };
    let Ok(source) = Source::open(OsStr::new(name), &options) else {
        // Damaged there, or shorter than it says: the other frames tell.
        return Ok(None);
    };
    let Some(picture) = source.first_frame() else {
        return Ok(None);
    };
    let rgb = picture.to_rgb(64, 36)?;
    let mean = rgb.iter().map(|&v| f64::from(v)).sum::<f64>() / rgb.len().max(1) as f64;
    Ok(TELLING
        .contains(&mean)
        .then(|| Palette::of(rgb.as_chunks().0)))
}

/// A time of a film's main video in seconds.
fn seconds(video: &VideoInfo, time: i64) -> f64 {
    time as f64 * f64::from(video.time_base.0) / f64::from(video.time_base.1)
}

/// What a film is, without decoding it.
fn look(input: &str) -> Result<Looked> {
    media::look(OsStr::new(input)).map(|(seconds, frames, size)| Looked {
        seconds,
        frames,
        size,
    })
}

fn sheet(film: &Film, source: &Source) -> Result<Box<dyn Sink>> {
    let video = &source.info().video;
    let sheet = PreviewSink::create(&film.sheet, video, video.frames, true)?;
    Ok(Box::new(sheet.of(SHEET.1, SHEET.0)))
}

/// Size and SHA-256 of a file; `told` is called now and then.
pub(super) fn digest(path: &Path, mut told: impl FnMut() -> Result<()>) -> Result<(u64, String)> {
    let refused = |e: io::Error| Error::output(shown(path), io_sentence(&e));
    let mut file = File::open(path).map_err(refused)?;
    let mut sum = Sha256::new();
    let mut block = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        match file.read(&mut block).map_err(refused)? {
            0 => return Ok((bytes, hex(&sum.finalize()))),
            n => {
                sum.update(&block[..n]);
                bytes += n as u64;
                told()?;
            }
        }
    }
}

/// A sink that only keeps where the last frame ends.
#[derive(Clone, Default)]
struct Clock(Arc<AtomicI64>);

impl Clock {
    fn sink(&self) -> Box<dyn Sink> {
        Box::new(self.clone())
    }

    fn end(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Sink for Clock {
    fn frame(&mut self, frame: &Merged) -> Result<()> {
        self.0.store(frame.pts + frame.duration, Ordering::Relaxed);
        Ok(())
    }

    fn packet(&mut self, _packet: &media::Packet) -> Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Written> {
        Ok(Written::default())
    }
}
