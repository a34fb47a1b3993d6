//! Hub: the newest picture of a live run, its figures, and the user's hand on it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use hyper::body::Bytes;
use serde::Serialize;
use tokio::sync::watch;

use crate::{
    controls::Controls,
    error::Result,
    frame::{AbMap, Thumb},
    media::{Shown, Told, Viewer},
    net::Colorizer,
};

/// Frames that delay and frame rate are told of.
const WINDOW: usize = 300;
/// And how old they may be.
const RECENT: Duration = Duration::from_secs(10);

/// Where a live run and those who look on meet.
pub struct Hub {
    newest: watch::Sender<Option<Newest>>,
    paused: AtomicBool,
    runs: Arc<AtomicU64>,
    log: Mutex<Log>,
    controls: Controls,
    model: String,
    begun: Instant,
}

/// The newest picture.
#[derive(Clone)]
pub struct Newest {
    /// As JPEG.
    pub jpeg: Bytes,
    /// When the packet came that it was in.
    pub arrived: SystemTime,
}

/// What has happened.
#[derive(Default)]
struct Log {
    frames: u64,
    pictures: u64,
    /// When each of the last frames was shown, and how long after it had come.
    recent: VecDeque<(Instant, Duration)>,
    gone: bool,
    reconnects: u64,
}

/// A live run in numbers.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Frames a second, over the last ten seconds.
    pub fps: f64,
    /// Milliseconds from a frame's packet to its picture: half of the frames take no longer, and 19 of 20.
    pub latency_p50_ms: f64,
    /// See `latency_p50_ms`.
    pub latency_p95_ms: f64,
    /// Frames shown.
    pub frames: u64,
    /// Pictures made of them: one for all who look, none where nobody does.
    pub pictures: u64,
    /// Frames left out, for newer ones had come.
    pub dropped: u64,
    /// How often the network ran.
    pub network_runs: u64,
    /// How far the run has gone down in what it asks of the machine: 0 is all, 4 the least.
    pub level: usize,
    /// Who looks on.
    pub viewers: usize,
    /// Whether the source is there.
    pub connected: bool,
    /// How often it came back.
    pub reconnects: u64,
    /// Factor on the colours' strength.
    pub saturation: f32,
    /// Whether the preview stands still.
    pub paused: bool,
    /// The model and where it runs.
    pub model: String,
    /// Seconds since the run began.
    pub seconds: f64,
}

impl Hub {
    /// Of a run with these controls; `model` says what colours it, and where.
    pub fn new(controls: Controls, model: String) -> Arc<Self> {
        Arc::new(Self {
            newest: watch::Sender::new(None),
            paused: AtomicBool::new(false),
            runs: Arc::default(),
            log: Mutex::default(),
            controls,
            model,
            begun: Instant::now(),
        })
    }

    /// The newest picture, and word of every newer one. Whoever is slow misses some.
    pub fn pictures(&self) -> watch::Receiver<Option<Newest>> {
        let mut pictures = self.newest.subscribe();
        pictures.mark_unchanged();
        pictures
    }

    /// Takes note of what the source tells.
    pub fn hear(&self, told: &Told) {
        let mut log = self.log();
        log.gone = matches!(told, Told::Gone(_));
        log.reconnects += u64::from(!log.gone);
    }

    /// Makes the preview stand still, or go on. The run itself and its other outputs are not touched.
    pub fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    /// Sets the factor on the colours' strength.
    pub fn saturate(&self, factor: f32) {
        self.controls.saturate(factor);
    }

    /// How the run is.
    pub fn figures(&self) -> Figures {
        let log = self.log();
        let fresh = log.recent.iter().filter(|(at, _)| at.elapsed() < RECENT);
        let mut delays: Vec<f64> = fresh.clone().map(|(_, d)| 1e3 * d.as_secs_f64()).collect();
        let first = fresh.map(|(at, _)| at.elapsed().as_secs_f64()).next();
        delays.sort_by(f64::total_cmp);
        let share = |share: f64| {
            let at = (share * delays.len() as f64) as usize;
            delays.get(at).copied().unwrap_or(0.)
        };
        Figures {
            fps: first.map_or(0., |first| delays.len() as f64 / first.max(0.1)),
            latency_p50_ms: share(0.5),
            latency_p95_ms: share(0.95),
            frames: log.frames,
            pictures: log.pictures,
            dropped: self.controls.dropped(),
            network_runs: self.runs.load(Ordering::Relaxed),
            level: self.controls.level(),
            viewers: self.newest.receiver_count(),
            connected: !log.gone,
            reconnects: log.reconnects,
            saturation: self.controls.saturation(),
            paused: self.paused.load(Ordering::Relaxed),
            model: self.model.clone(),
            seconds: self.begun.elapsed().as_secs_f64(),
        }
    }

    /// The same for Prometheus (text exposition format 0.0.4).
    pub fn metrics(&self) -> String {
        let figures = self.figures();
        let rows = [
            (
                "frames_total",
                "counter",
                "Frames shown.",
                figures.frames as f64,
            ),
            (
                "pictures_total",
                "counter",
                "Pictures made of them, one for all viewers.",
                figures.pictures as f64,
            ),
            (
                "dropped_frames_total",
                "counter",
                "Frames left out.",
                figures.dropped as f64,
            ),
            (
                "network_runs_total",
                "counter",
                "Runs of the network.",
                figures.network_runs as f64,
            ),
            (
                "level",
                "gauge",
                "How far the run has gone down in what it asks of the machine; 0 is all.",
                figures.level as f64,
            ),
            (
                "reconnects_total",
                "counter",
                "Times that the source came back.",
                figures.reconnects as f64,
            ),
            (
                "connected",
                "gauge",
                "1 while the source is there.",
                f64::from(u8::from(figures.connected)),
            ),
            (
                "viewers",
                "gauge",
                "Viewers of the preview.",
                figures.viewers as f64,
            ),
            (
                "frames_per_second",
                "gauge",
                "Over the last ten seconds.",
                figures.fps,
            ),
            (
                "latency_p50_seconds",
                "gauge",
                "From packet to picture, median.",
                figures.latency_p50_ms / 1e3,
            ),
            (
                "latency_p95_seconds",
                "gauge",
                "From packet to picture, 95 of 100.",
                figures.latency_p95_ms / 1e3,
            ),
        ];
        let row = |(name, kind, help, value): (&str, &str, &str, f64)| {
            let name = format!("autochrome_{name}");
            format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n")
        };
        rows.map(row).concat()
    }

    /// A colorizer whose runs are counted here.
    pub fn counted<'a>(&self, colorizer: &'a mut dyn Colorizer) -> Counted<'a> {
        Counted {
            colorizer,
            runs: self.runs.clone(),
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        // What a panicking thread leaves is still a list of numbers.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Viewer for Arc<Hub> {
    fn looks(&self) -> bool {
        self.newest.receiver_count() > 0 && !self.paused.load(Ordering::Relaxed)
    }

    fn show(&mut self, frame: Shown) {
        if let Some(jpeg) = frame.jpeg {
            let now = SystemTime::now();
            self.newest.send_replace(Some(Newest {
                jpeg: jpeg.into(),
                arrived: now.checked_sub(frame.arrived.elapsed()).unwrap_or(now),
            }));
            self.log().pictures += 1;
        }
        let mut log = self.log();
        log.frames += 1;
        log.recent
            .push_back((Instant::now(), frame.arrived.elapsed()));
        if log.recent.len() > WINDOW {
            log.recent.pop_front();
        }
    }
}

/// A colorizer whose runs are counted.
pub struct Counted<'a> {
    colorizer: &'a mut dyn Colorizer,
    runs: Arc<AtomicU64>,
}

impl Colorizer for Counted<'_> {
    fn describe(&self) -> String {
        self.colorizer.describe()
    }

    fn device(&self) -> &str {
        self.colorizer.device()
    }

    fn thumb_size(&self, width: usize, height: usize, scale: f64) -> Option<(usize, usize)> {
        self.colorizer.thumb_size(width, height, scale)
    }

    fn predict(&mut self, thumbs: &[Thumb]) -> Result<Vec<AbMap>> {
        self.runs.fetch_add(thumbs.len() as u64, Ordering::Relaxed);
        self.colorizer.predict(thumbs)
    }

    fn default_batch(&self) -> usize {
        self.colorizer.default_batch()
    }

    fn take_warnings(&mut self) -> Vec<String> {
        self.colorizer.take_warnings()
    }
}
