//! The stages and the one function that wires them: read this first.
//!
//! ```text
//! decode -> plan -> infer -> steady -> merge -> encode
//! ```
//!
//! A stage is a function from a receiver to a sender. Packets of copied streams travel with the frames and every
//! stage forwards them at once; a frame takes its time, so packets may overtake frames, never one another.

mod again;
mod aside;
mod ease;
mod infer;
mod keep;
mod note;
mod reel;
mod relay;
mod scout;

use std::{thread, time::Instant};

use crate::{
    color::Grade,
    controls::{Controls, Progress},
    error::{Error, Result},
    frame::{Decoded, Inferred, Item, Merged, Planned, Steady, VideoInfo},
    media::{Merger, Sink, Source, SourceReport, Thumbnailer, Written},
    net::Colorizer,
    stage::{Meter, Receiver, Sender, Stages, edge, slot},
    temporal::{self, Pace, TemporalFilter},
};
pub use again::Again;
pub use aside::{Aside, Mourn};
use ease::Ease;
pub use ease::{LEVELS, Level};
use infer::infer;
pub use keep::KeepColor;
use keep::Keeper;
pub use reel::{Limit, Reel};
use relay::relay;
use scout::{Lookout, Scout};

/// How a run colours.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Options {
    /// Frames that go through the network together; at least 1. Default 1: on a CPU more buys nothing.
    pub batch: usize,
    /// Name of a row of [`temporal::FILTERS`]. Default "motion".
    pub temporal: String,
    /// Frames from one key frame to the next, where that filter leaves it open. Default 6.
    pub key_interval: usize,
    /// How far colour may look ahead. Default [`Pace::Film`].
    pub pace: Pace,
    /// What is done to every colour that the network gave.
    pub grade: Grade,
    /// Which scenes keep the colours that they came with.
    pub keep_color: KeepColor,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            batch: 1,
            temporal: "motion".into(),
            key_interval: 6,
            pace: Pace::Film,
            grade: Grade::default(),
            keep_color: KeepColor::default(),
        }
    }
}

/// What a finished run did.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Report {
    /// What the source saw: frames, damage, discontinuities.
    pub source: SourceReport,
    /// Frames that a live run left out, for newer ones had come before it could look at them.
    pub dropped: u64,
    /// Frames that kept the colours that they came with.
    pub kept: u64,
    /// Sentences about the source for the user; each kind once.
    pub warnings: Vec<String>,
    /// What each sink wrote.
    pub written: Vec<Written>,
    /// Wall time in seconds, from the first packet to the renamed file.
    pub seconds: f64,
    /// Busy, starved and blocked time of each stage.
    pub stages: Vec<Meter>,
}

/// Frames that may be in flight, on all edges and in all stages together, and how they are shared out. One number
/// bounds the memory of a run, whatever the length of the film.
struct Budget {
    /// Capacity of an ordinary edge. One waiting frame is enough to keep a stage from starving: 1 to 128 measure the
    /// same.
    edge: usize,
    /// Capacity of the edge into the network: one batch runs while one waits.
    batch: usize,
}

impl Budget {
    fn new(batch: usize) -> Self {
        Self {
            edge: 1,
            batch: batch.max(1),
        }
    }
}

/// Colours `source` with `colorizer` into every sink, and publishes the sinks' outputs if all went well.
///
/// The wiring of the whole program: film, preview and comparison all call it. On return every sink is either
/// finished or, after an error, dropped, which removes what it wrote.
///
/// # Errors
/// The first failure of any stage, never an echo of it; [`Error::Stopped`] after [`Controls::abort`].
pub fn run(
    mut source: Source,
    sinks: Vec<Box<dyn Sink>>,
    colorizer: &mut dyn Colorizer,
    options: &Options,
    controls: &Controls,
) -> Result<Report> {
    let since = Instant::now();
    let info = source.info().video.clone();
    let layout = sinks
        .iter()
        .find_map(|s| s.layout())
        .ok_or_else(|| Error::Usage("no output".into()))?;
    let merger = Merger::new(&info, &layout)?;
    let live = options.pace == Pace::Live;
    let levels = if live { &LEVELS[..] } else { &LEVELS[..1] };
    let size = |level: &Level| colorizer.thumb_size(info.display.0, info.display.1, level.size);
    let thumb = |level| Some(Thumbnailer::new(&info, size(level)?));
    let thumbs = levels.iter().filter_map(thumb).collect();
    let ease = live.then(|| Ease::new(controls.drops(), controls.levels()));
    let row = temporal::by_name(&options.temporal)?;
    let interval = options.key_interval.max(1);
    let ahead = row
        .planner(interval, options.pace)
        .map(|planner| Lookout::new(&info, planner));
    let carries = ahead.is_some();
    let keeper = Keeper::new(options.keep_color, !carries);
    let scout = Scout::new(ahead, keeper, thumbs, ease);
    let filter = (row.make)(interval, options.pace);
    let budget = Budget::new(options.batch);

    let (to_plan, decoded) = match options.pace {
        Pace::Film => edge(budget.edge),
        Pace::Live => slot(controls.drops()),
    };
    let (to_infer, planned) = edge(budget.batch);
    let (to_steady, inferred) = edge(budget.edge);
    let (to_merge, steady) = edge(budget.edge);
    let (to_encode, merged) = edge(budget.edge);

    let (sinks, kept, mut stages) = thread::scope(|scope| {
        let mut stages = Stages::new(scope);
        let a = stages.spawn("decode", || decode(&mut source, to_plan, controls))?;
        let b = stages.spawn("plan", || plan(decoded, to_infer, scout))?;
        let c = stages.spawn("infer", || match carries && live {
            true => relay(planned, to_steady, colorizer, info.rotation),
            false => infer(planned, to_steady, colorizer, budget.batch, info.rotation),
        })?;
        let d = stages.spawn("steady", || steady_stage(inferred, to_merge, filter))?;
        let e = stages.spawn("merge", || {
            merge(steady, to_encode, merger, options.grade, controls)
        })?;
        let f = stages.spawn("encode", || encode(merged, sinks, &info, controls))?;
        stages.join(a);
        stages.join(b);
        stages.join(c);
        stages.join(d);
        let kept = stages.join(e);
        let sinks = stages.join(f);
        let meters = stages.finish()?;
        // They are there: missing sinks are a failure that `finish` has told.
        Ok::<_, Error>((sinks.unwrap_or_default(), kept.unwrap_or_default(), meters))
    })?;
    let (written, draining) = publish(sinks, controls)?;
    if let Some(encode) = stages.last_mut() {
        encode.busy += draining;
    }
    let (warnings, source) = (source.take_warnings(), source.report());
    Ok(Report {
        source,
        dropped: controls.dropped(),
        kept,
        warnings,
        written,
        seconds: since.elapsed().as_secs_f64(),
        stages,
    })
}

/// Reads and decodes until the end of the film or the user's wish; but a film without a single frame would not play.
fn decode(source: &mut Source, out: Sender<Decoded>, controls: &Controls) -> Result<()> {
    let mut empty = true;
    while empty || !controls.is_finishing() {
        controls.check()?;
        let item = match source.next() {
            // A live source is not waited for.
            Err(Error::Stopped) if controls.is_finishing() => break,
            item => item?,
        };
        let Some(item) = item else { break };
        empty &= !matches!(item, Item::Frame(_));
        out.send(item)?;
    }
    controls.check()
}

/// Decides which frames the network sees, from luma alone, but for those that are in colour already.
fn plan(frames: Receiver<Decoded>, out: Sender<Planned>, mut scout: Scout) -> Result<()> {
    for item in frames.iter() {
        match item {
            Item::Packet(packet) => out.send(Item::Packet(packet))?,
            Item::Frame(frame) => {
                if let Some(planned) = scout.push(frame)? {
                    out.send(Item::Frame(planned))?;
                }
            }
        }
    }
    while let Some(planned) = scout.finish()? {
        out.send(Item::Frame(planned))?;
    }
    Ok(())
}

/// Turns colour on key frames into steady colour on every frame; those that keep their colours pass by the filter, which
/// has ended its scene before them.
fn steady_stage(
    frames: Receiver<Inferred>,
    out: Sender<Steady>,
    mut filter: Box<dyn TemporalFilter>,
) -> Result<()> {
    for item in frames.iter() {
        match item {
            Item::Packet(packet) => out.send(Item::Packet(packet))?,
            Item::Frame(Inferred {
                frame, own: true, ..
            }) => {
                send_all(&out, filter.flush()?)?;
                out.send(Item::Frame(Steady { frame, ab: None }))?;
            }
            Item::Frame(frame) => send_all(&out, filter.push(frame)?)?,
        }
    }
    send_all(&out, filter.flush()?)
}

fn send_all(out: &Sender<Steady>, frames: Vec<Steady>) -> Result<()> {
    frames
        .into_iter()
        .try_for_each(|frame| out.send(Item::Frame(frame)))
}

/// Computes Cb and Cr at chroma size and joins them to the source's luma. Gives the number of frames that kept their own.
fn merge(
    frames: Receiver<Steady>,
    out: Sender<Merged>,
    mut merger: Merger,
    grade: Grade,
    controls: &Controls,
) -> Result<u64> {
    let mut kept = 0;
    for item in frames.iter() {
        out.send(match item {
            Item::Packet(packet) => Item::Packet(packet),
            Item::Frame(Steady { frame, ab }) => {
                let picture = match ab {
                    None => {
                        kept += 1;
                        merger.keep(&frame.picture)?
                    }
                    Some(mut ab) => {
                        let saturation = grade.saturation * controls.saturation();
                        Grade {
                            saturation,
                            ..grade
                        }
                        .apply(&mut ab);
                        merger.merge(&frame.picture, &ab)?
                    }
                };
                Item::Frame(Merged {
                    index: frame.index,
                    pts: frame.pts,
                    duration: frame.duration,
                    arrived: frame.arrived,
                    picture,
                })
            }
        })?;
    }
    Ok(kept)
}

/// Hands frames and packets to every sink. The sinks come back unfinished: only a run without failure publishes.
fn encode(
    items: Receiver<Merged>,
    mut sinks: Vec<Box<dyn Sink>>,
    info: &VideoInfo,
    controls: &Controls,
) -> Result<Vec<Box<dyn Sink>>> {
    let tick = f64::from(info.time_base.0) / f64::from(info.time_base.1);
    for item in items.iter() {
        controls.check()?;
        for sink in &mut sinks {
            match &item {
                Item::Packet(packet) => sink.packet(packet)?,
                Item::Frame(frame) => sink.frame(frame)?,
            }
        }
        if let Item::Frame(frame) = &item {
            controls.report(Progress {
                frames: frame.index + 1,
                seconds: frame.pts as f64 * tick,
            });
        }
    }
    Ok(sinks)
}

/// Finishes every sink; what they wrote and the seconds it took to drain them.
fn publish(mut sinks: Vec<Box<dyn Sink>>, controls: &Controls) -> Result<(Vec<Written>, f64)> {
    controls.check()?;
    let since = Instant::now();
    if controls.is_finishing() {
        sinks.iter_mut().for_each(|sink| sink.cut());
    }
    let written = sinks
        .into_iter()
        .map(|sink| sink.finish())
        .collect::<Result<_>>()?;
    Ok((written, since.elapsed().as_secs_f64()))
}
