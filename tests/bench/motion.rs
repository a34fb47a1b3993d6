//! `cargo bench --bench motion -- FILM...`: what it costs to carry colour along motion, and what it gives.
//!
//! Cost: the time on a processor of planning (scenes, motion, trust) and of the filter, a frame, one thread. Gain, of
//! films in colour: their true colour on every eighth frame is carried to the others, and compared with the truth
//! beside the colour of the key frame held still, as PSNR of a and b over 255. Prints figures and asserts nothing.

use std::{ffi::OsString, fs, time::Instant};

use autochrome::{
    color::lab_from_srgb8,
    eval::line::Line,
    frame::{AbMap, Item, Thumb},
    media::{InputOptions, Source, Thumbnailer},
    temporal::{self, Sketch, motion::Field},
};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/village.mp4");
/// Most frames of a film.
const FRAMES: usize = 240;
/// Frames from key frame to key frame: by default, and for the gain.
const INTERVALS: (usize, usize) = (6, 8);
/// Mean chroma of a film in colour, CIE units.
const COLOURED: f64 = 2.;
const ROUNDS: usize = 5;

fn main() {
    let arguments = std::env::args_os().skip(1).filter(|a| a != "--bench");
    let mut films: Vec<OsString> = arguments.collect();
    if films.is_empty() {
        films.push(SAMPLE.into());
    }
    let mut gains = Vec::new();
    for film in &films {
        let frames = read(film);
        let mut costs: Vec<f64> = (0..ROUNDS).map(|_| cost(&frames)).collect();
        costs.sort_by(f64::total_cmp);
        print!(
            "{}: {} frames, {:.2} ms a frame",
            film.to_string_lossy(),
            frames.len(),
            costs[ROUNDS / 2]
        );
        if let Some((held, carried)) = gain(&frames) {
            print!(
                ", held still {held:.2} dB, carried {carried:.2} dB, {:+.2}",
                carried - held
            );
            gains.push(carried - held);
        }
        println!();
    }
    if !gains.is_empty() {
        let mean = gains.iter().sum::<f64>() / gains.len() as f64;
        println!("mean gain {mean:+.2} dB");
    }
}

/// Sketches of a film's frames, and their true colour, a sample a cell.
fn read(film: &OsString) -> Vec<(Thumb, AbMap)> {
    let mut source = Source::open(film, &InputOptions::default()).expect("a film");
    let video = source.info().video.clone();
    let (width, height) = Sketch::size_for(video.display.0, video.display.1);
    let cells = Field::cells(width, height);
    let mut sketcher = Thumbnailer::new(&video, (width, height));
    let mut frames = Vec::new();
    while let Some(item) = source.next().expect("a readable film") {
        let Item::Frame(frame) = item else { continue };
        let rgb = frame.picture.to_rgb(cells.0, cells.1).expect("pixels");
        let lab = rgb.as_chunks().0.iter().map(|rgb| lab_from_srgb8(*rgb));
        let (a, b) = lab.map(|[_, a, b]| (a, b)).unzip();
        let truth = AbMap {
            width: cells.0,
            height: cells.1,
            a,
            b,
        };
        frames.push((sketcher.thumb(&frame.picture).expect("luma"), truth));
        if frames.len() == FRAMES {
            break;
        }
    }
    frames
}

/// Every frame's colour, from those of key frames.
fn carried(frames: &[(Thumb, AbMap)], interval: usize) -> Vec<AbMap> {
    let motion = temporal::by_name("motion").expect("a filter");
    let mut line = Line::new(motion, interval);
    for (thumb, colour) in frames {
        line.push(thumb, colour.clone()).expect("colour");
    }
    line.finish().expect("colour");
    std::iter::from_fn(|| line.take()).collect()
}

/// Milliseconds of a processor a frame.
fn cost(frames: &[(Thumb, AbMap)]) -> f64 {
    let (since, before) = (Instant::now(), on_processor());
    let colours = carried(frames, INTERVALS.0);
    let spent = match (before, on_processor()) {
        (Some(before), Some(after)) => after - before,
        _ => since.elapsed().as_secs_f64(),
    };
    1e3 * spent / colours.len() as f64
}

/// Seconds that this thread has run, where the system says.
fn on_processor() -> Option<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds: f64 = text.split_whitespace().next()?.parse().ok()?;
    Some(nanoseconds / 1e9)
}

/// Mean PSNR of the frames between key frames: with the key frame's colour held still, and carried.
fn gain(frames: &[(Thumb, AbMap)]) -> Option<(f64, f64)> {
    let truth: Vec<&AbMap> = frames.iter().map(|(_, truth)| truth).collect();
    let chroma = |map: &&AbMap| {
        let all = map
            .a
            .iter()
            .zip(&map.b)
            .map(|(a, b)| f64::from(a.hypot(*b)));
        all.sum::<f64>() / map.a.len() as f64
    };
    if truth.iter().map(chroma).sum::<f64>() / (truth.len() as f64) < COLOURED {
        return None;
    }
    let carried = carried(frames, INTERVALS.1);
    let between = (0..frames.len()).filter(|i| !i.is_multiple_of(INTERVALS.1));
    let pairs = between.map(|i| {
        let key = truth[i - i % INTERVALS.1];
        (psnr(key, truth[i]), psnr(&carried[i], truth[i]))
    });
    let (held, carried): (Vec<f64>, Vec<f64>) = pairs.unzip();
    let mean = |all: Vec<f64>| all.iter().sum::<f64>() / all.len() as f64;
    Some((mean(held), mean(carried)))
}

fn psnr(map: &AbMap, truth: &AbMap) -> f64 {
    let square = |(a, b): (&f32, &f32)| f64::from((a - b) * (a - b));
    let planes = [(&map.a, &truth.a), (&map.b, &truth.b)];
    let sum: f64 = planes
        .iter()
        .map(|(map, truth)| map.iter().zip(*truth).map(square).sum::<f64>())
        .sum();
    let mean = sum / (2 * truth.a.len()) as f64;
    10. * (255. * 255. / mean.max(1e-3)).log10()
}
