//! Films in colour: every frame is judged as a photograph is, and how steady the colour is over time.
//!
//! A film is decoded frame by frame, at about 320 samples wide; of a frame that is judged only figures are kept, so
//! that memory hardly depends on its length.

use std::{collections::VecDeque, path::Path};

use image::RgbImage;
use rayon::prelude::*;
use serde::Serialize;

use super::{
    Exam,
    contest::{EvalOptions, Field, Score},
    enlarged,
    line::Line,
    metrics::Histograms,
    motion::{Motion, Plane},
    painted,
    report::Row,
    still::{Grid, Stillness},
};
use crate::{
    error::{Error, Result, shown},
    frame::{AbMap, Decoded, Item, VideoInfo, turned},
    media::{InputOptions, Source},
    temporal,
};

/// Long side of the frames that are judged, unless a model's thumbnails are larger.
const LONG_SIDE: usize = 320;
/// Frames that are coloured and judged together.
const CHUNK: usize = 16;
/// Less of a frame than this was on the one before: a cut, over which no colour is carried.
const SAME_SCENE: f64 = 0.4;
/// Mean chroma, CIE units, below which a film has no colour to judge by.
const COLOURLESS: f64 = 2.;
/// Frames kept to be shown.
const SHOWN: usize = 6;

/// Frame by frame: mean `|ab_t - W ab_{t-1}|` over what was there before, W the motion of the picture; over a film,
/// the mean of all that, divided by the mean chroma.
#[derive(Clone, Debug, Default)]
pub struct Flicker {
    change: Mean,
    chroma: Mean,
    series: Vec<Option<f64>>,
}

/// A sum and of how many.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f64,
    count: f64,
}

impl Mean {
    fn add(&mut self, sum: f64, count: usize) {
        self.sum += sum;
        self.count += count as f64;
    }

    fn value(self) -> Option<f64> {
        (self.count > 0.).then_some(self.sum / self.count)
    }
}

impl Flicker {
    /// The next frame's colour, with the one before and the motion between them, unless there is none or a cut.
    pub fn push(&mut self, now: &AbMap, before: Option<(&AbMap, &Motion)>) {
        let chroma = now
            .a
            .iter()
            .zip(&now.b)
            .map(|(a, b)| f64::from(a.hypot(*b)));
        self.chroma.add(chroma.sum(), now.a.len());
        let change = before.and_then(|(before, motion)| {
            let (sum, count) = change(now, before, motion);
            self.change.add(sum, count);
            (count > 0).then(|| sum / count as f64)
        });
        self.series.push(change);
    }

    /// Of the film so far; `None` without chroma, or of one frame.
    pub fn value(&self) -> Option<f64> {
        let chroma = self.chroma.value().filter(|chroma| *chroma > 0.01)?;
        Some(self.change.value()? / chroma)
    }

    /// Mean change of each frame, divided by the film's mean chroma; `None` where it could not be measured.
    pub fn series(&self) -> Vec<Option<f64>> {
        let chroma = self.chroma.value().filter(|chroma| *chroma > 0.01);
        let of = |change: &Option<f64>| Some((*change)? / chroma?);
        self.series.iter().map(of).collect()
    }
}

/// Sum of the distances between the colour now and that before, carried, and over how many samples.
fn change(now: &AbMap, before: &AbMap, motion: &Motion) -> (f64, usize) {
    let carried = |values: &[f32]| {
        let (width, height) = (now.width, now.height);
        let plane = Plane {
            width,
            height,
            values: values.to_vec(),
        };
        motion.carry(&plane).values
    };
    let (a, b) = (carried(&before.a), carried(&before.b));
    let seen = (0..a.len()).filter(|i| motion.seen()[*i]);
    let distances = seen.map(|i| f64::from((now.a[i] - a[i]).hypot(now.b[i] - b[i])));
    distances.fold((0., 0), |(sum, count), d| (sum + d, count + 1))
}

/// Colour distribution consistency (Liu et al. 2021; NTIRE 2023): the mean Jensen-Shannon divergence between the
/// histograms of frames 1, 2 and 4 apart, over R, G and B.
#[derive(Clone, Debug, Default)]
pub struct Consistency {
    /// The last frames, the newest first.
    recent: VecDeque<Histograms>,
    steps: [Mean; 3],
}

impl Consistency {
    const STEPS: [usize; 3] = [1, 2, 4];

    /// The next frame.
    pub fn push(&mut self, frame: &RgbImage) {
        let now = Histograms::of(frame);
        for (mean, step) in self.steps.iter_mut().zip(Self::STEPS) {
            if let Some(before) = self.recent.get(step - 1) {
                mean.add(now.divergence(before), 1);
            }
        }
        self.recent.push_front(now);
        self.recent.truncate(4);
    }

    /// Of the film so far; `None` of fewer than five frames.
    pub fn value(&self) -> Option<f64> {
        let [one, two, four] = self.steps.map(Mean::value);
        Some((one? + two? + four?) / 3.)
    }
}

/// Figures of one contestant on a film.
#[derive(Clone, Debug, Serialize)]
pub struct ClipRow {
    /// As for photographs, over the frames.
    #[serde(flatten)]
    pub row: Row,
    /// See [`Flicker`].
    pub flicker: Option<f64>,
    /// The same minus the truth's.
    pub flicker_over_truth: Option<f64>,
    /// See [`Consistency`].
    pub cdc: Option<f64>,
    /// The same minus the truth's.
    pub cdc_over_truth: Option<f64>,
    /// Frames that the network had to see; none for those without one.
    pub network_runs: Option<usize>,
    /// Flicker of each frame.
    pub flicker_of_frames: Vec<Option<f64>>,
    /// Whether the network had to see each frame; empty for those without one.
    pub network_ran: Vec<bool>,
    /// Share of the picture, 0..=1, whose motion from the last key frame cannot be trusted, of each frame; `None` where
    /// the temporal filter does not look at motion.
    pub residual_of_frames: Vec<Option<f64>>,
    /// Mean a and b, CIE units, of [`ClipReport::still_patch`] in each frame.
    pub still_patch: Vec<[f32; 2]>,
}

/// What became of a film.
#[derive(Clone, Debug, Serialize)]
pub struct ClipReport {
    /// Its name.
    pub name: String,
    /// Frames judged.
    pub frames: usize,
    /// Width and height at which they were.
    pub size: (usize, usize),
    /// Scenes that were cut together.
    pub cuts: usize,
    /// Left, top and side of the square in which lightness varies least over the longest scene, in samples of `size`.
    pub still_patch: Option<(usize, usize, usize)>,
    /// Every contestant's figures.
    pub rows: Vec<ClipRow>,
    /// A few frames, with their numbers: what each contestant made of them.
    #[serde(skip)]
    pub strip: Vec<(usize, Vec<RgbImage>)>,
}

/// One contestant's tally over a film.
#[derive(Default)]
struct Tally {
    scores: Vec<Score>,
    flicker: Flicker,
    consistency: Consistency,
    before: Option<AbMap>,
    /// Of each frame, the mean colour of every square of the [`Grid`].
    squares: Vec<Vec<[f32; 2]>>,
}

impl Tally {
    fn frame(&mut self, exam: &Exam, map: &AbMap, motion: Option<&Motion>) {
        let map = enlarged(map, exam.thumb.width, exam.thumb.height);
        let picture = paint(exam, &map);
        let truth = painted(&exam.thumb, &exam.truth);
        self.scores.push(Score::of(exam, &map, &picture, &truth));
        self.consistency.push(&picture);
        let grid = Grid::over((map.width, map.height));
        self.squares.push(grid.colours(&map));
        self.flicker.push(&map, self.before.as_ref().zip(motion));
        self.before = Some(map);
    }
}

/// A contestant's colours over time: of a model by every filter, of the others as they are.
struct Entry {
    name: String,
    /// Number of the contestant.
    by: usize,
    /// Whether it has a network.
    network: bool,
    line: Line,
    tally: Tally,
}

/// The entries of every contestant.
fn entries(field: &Field, options: &EvalOptions) -> Result<Vec<Entry>> {
    let alone = [temporal::by_name("off")?];
    let rows = options.temporal.iter().map(|name| temporal::by_name(name));
    let rows: Vec<&temporal::Row> = rows.collect::<Result<_>>()?;
    let mut all = Vec::new();
    for (by, (name, network)) in field.names().zip(field.models()).enumerate() {
        for row in if network { &rows[..] } else { &alone } {
            let name = match network && rows.len() > 1 {
                true => format!("{name}, {}", row.name),
                false => name.to_owned(),
            };
            all.push(Entry {
                name,
                by,
                network,
                line: Line::new(row, options.key_interval),
                tally: Tally::default(),
            });
        }
    }
    Ok(all)
}

/// Judges every contestant on the first frames of the film at `path`; `tell` hears of frames done, and of how many where
/// that is known.
///
/// # Errors
/// [`Error::Input`] where it cannot be read or has no colour; as for the models.
pub fn judge(
    field: &mut Field,
    path: &Path,
    options: &EvalOptions,
    tell: &mut dyn FnMut(usize, usize),
) -> Result<ClipReport> {
    let mut film = Film::open(path, options.frames, field)?;
    let mut entries = entries(field, options)?;
    let (mut strip, mut done, mut cuts) = (Strip::new(film.expected), 0, 0);
    let mut waiting = VecDeque::new();
    let mut last: Option<Plane> = None;
    let mut stillness = Stillness::default();
    while let Some(chunk) = film.chunk()? {
        let first = usize::from(last.is_none());
        let motions = motions(&chunk, &mut last);
        let maps = field.colour(&chunk)?;
        // The first frame of all has none before it, but no cut either.
        cuts += motions.iter().filter(|motion| motion.is_none()).count() - first;
        for ((_, exam), motion) in chunk.iter().zip(&motions) {
            stillness.push(&exam.thumb, motion.is_none());
        }
        entries.par_iter_mut().try_for_each(|entry| {
            let frames = chunk.iter().zip(&maps[entry.by]);
            frames
                .into_iter()
                .try_for_each(|((_, exam), map)| entry.line.push(&exam.thumb, map.clone()))
        })?;
        waiting.extend(chunk.into_iter().map(|(_, exam)| exam).zip(motions));
        done += settle(&mut entries, &mut waiting, &mut strip, done);
        tell(done, film.expected);
    }
    entries
        .iter_mut()
        .try_for_each(|entry| entry.line.finish())?;
    done += settle(&mut entries, &mut waiting, &mut strip, done);
    let truth = entries.last().map(|entry| &entry.tally.flicker.chroma);
    in_colour(path, truth.and_then(|chroma| chroma.value()))?;
    let grid = Grid::over(film.size);
    let stillest = stillness.stillest(&grid);
    Ok(ClipReport {
        name: shown(path),
        frames: done,
        size: film.size,
        cuts,
        still_patch: stillest.map(|number| grid.square(number)),
        rows: rows(&entries, stillest),
        strip: strip.frames,
    })
}

/// Judges the frames whose colours are ready in every entry, of those that wait, the first of them frame `done` of the
/// film; gives how many they were.
fn settle(
    entries: &mut [Entry],
    waiting: &mut VecDeque<(Exam, Option<Motion>)>,
    strip: &mut Strip,
    done: usize,
) -> usize {
    let ready = entries.iter().map(|entry| entry.line.ready()).min();
    let ready = ready.unwrap_or(0).min(waiting.len());
    let frames: Vec<_> = waiting.drain(..ready).collect();
    let painted = entries.par_iter_mut().map(|entry| {
        let colours = std::iter::from_fn(|| entry.line.take());
        let frames = frames.iter().zip(colours).enumerate();
        let judged = frames.map(|(i, ((exam, motion), map))| {
            entry.tally.frame(exam, &map, motion.as_ref());
            strip.wants(done + i).then(|| paint(exam, &map))
        });
        judged.collect::<Vec<_>>()
    });
    let mut painted: Vec<Vec<_>> = painted.collect();
    for i in 0..ready {
        let pictures = painted.iter_mut().filter_map(|all| all[i].take()).collect();
        strip.offer(done + i, pictures);
    }
    ready
}

/// Mean a and b of the first `frames` frames of the film at `path`, CIE units; (0, 0) of none.
///
/// # Errors
/// [`Error::Input`] where it cannot be read.
pub fn mean_ab(field: &Field, path: &Path, frames: usize) -> Result<(f32, f32)> {
    let mut film = Film::open(path, frames, field)?;
    let (mut a, mut b) = (Mean::default(), Mean::default());
    while let Some(chunk) = film.chunk()? {
        for (_, Exam { truth, .. }) in &chunk {
            let sum = |plane: &[f32]| plane.iter().map(|v| f64::from(*v)).sum();
            a.add(sum(&truth.a), truth.a.len());
            b.add(sum(&truth.b), truth.b.len());
        }
    }
    let value = |mean: Mean| mean.value().unwrap_or(0.) as f32;
    Ok((value(a), value(b)))
}

/// The picture that a colour map makes.
fn paint(exam: &Exam, map: &AbMap) -> RgbImage {
    let map = enlarged(map, exam.thumb.width, exam.thumb.height);
    painted(&exam.thumb, &map)
}

/// Whether a film of this mean chroma can be judged by; it has none without frames.
fn in_colour(path: &Path, chroma: Option<f64>) -> Result<()> {
    let why = match chroma {
        None => "it has no frame that can be judged".into(),
        Some(chroma) if chroma < COLOURLESS => format!(
            "it has no colour to judge by (mean chroma {chroma:.1}, and {COLOURLESS} is the least): give a film in \
             colour, whose colour the models will not see"
        ),
        Some(_) => return Ok(()),
    };
    Err(Error::input(shown(path), why))
}

/// The motion to each frame from the one before; `None` over a cut. `last` is the last lightness seen.
fn motions(chunk: &[(RgbImage, Exam)], last: &mut Option<Plane>) -> Vec<Option<Motion>> {
    let plane = |(_, exam): &(RgbImage, Exam)| Plane {
        width: exam.thumb.width,
        height: exam.thumb.height,
        values: exam.thumb.l.clone(),
    };
    let now: Vec<Plane> = chunk.iter().map(plane).collect();
    let before = last.iter().chain(&now);
    let missing = if last.is_none() {
        vec![None]
    } else {
        Vec::new()
    };
    let pairs: Vec<_> = before.zip(&now[missing.len()..]).collect();
    let found = pairs.into_par_iter().map(|(before, now)| {
        let motion = Motion::between(before, now);
        (motion.seen_share() >= SAME_SCENE).then_some(motion)
    });
    let found: Vec<_> = found.collect();
    *last = now.last().cloned();
    missing.into_iter().chain(found).collect()
}

/// Figures of every entry; `stillest` is the number of the stillest square.
fn rows(entries: &[Entry], stillest: Option<usize>) -> Vec<ClipRow> {
    let Some(Entry { tally: truth, .. }) = entries.last() else {
        return Vec::new();
    };
    let over = |own: Option<f64>, truth: Option<f64>| Some(own? - truth?);
    let row = |Entry {
                   name,
                   network,
                   line,
                   tally,
                   ..
               }: &Entry| {
        let (flicker, cdc) = (tally.flicker.value(), tally.consistency.value());
        let network_ran = if *network { line.network_ran() } else { &[] };
        let patch = |squares: &Vec<[f32; 2]>| stillest.map(|number| squares[number]);
        ClipRow {
            row: Row::of(name, &tally.scores, &truth.scores),
            flicker,
            flicker_over_truth: over(flicker, truth.flicker.value()),
            cdc,
            cdc_over_truth: over(cdc, truth.consistency.value()),
            network_runs: network.then(|| network_ran.iter().filter(|ran| **ran).count()),
            flicker_of_frames: tally.flicker.series(),
            network_ran: network_ran.to_vec(),
            residual_of_frames: line.residual().to_vec(),
            still_patch: tally.squares.iter().filter_map(patch).collect(),
        }
    };
    entries.iter().map(row).collect()
}

/// A film that is being read.
struct Film {
    source: Source,
    video: VideoInfo,
    size: (usize, usize),
    left: usize,
    /// How many frames there will be, as far as the file says; 0 where it does not.
    expected: usize,
}

impl Film {
    fn open(path: &Path, frames: usize, field: &Field) -> Result<Self> {
        let source = Source::open(path.as_os_str(), &InputOptions::default())?;
        let video = source.info().video.clone();
        let (width, height) = field.view(video.display.0, video.display.1);
        let (shown_width, shown_height) = video.display;
        let least = width.max(height);
        let long = shown_width
            .max(shown_height)
            .clamp(least, least.max(LONG_SIDE));
        let side = |side: usize| {
            (side * long)
                .div_ceil(shown_width.max(shown_height))
                .max(16)
        };
        let expected = video.frames.map_or(0, |known| frames.min(known as usize));
        Ok(Self {
            size: (side(shown_width), side(shown_height)),
            source,
            video,
            left: frames,
            expected,
        })
    }

    /// The next frames; `None` at the end.
    fn chunk(&mut self) -> Result<Option<Vec<(RgbImage, Exam)>>> {
        let mut pictures = Vec::with_capacity(CHUNK);
        while self.left > 0 && pictures.len() < CHUNK {
            match self.source.next()? {
                None => self.left = 0,
                Some(Item::Packet(_)) => {}
                Some(Item::Frame(frame)) => {
                    pictures.push(self.upright(&frame)?);
                    self.left -= 1;
                }
            }
        }
        let size = self.size;
        let chunk: Vec<_> = pictures
            .into_par_iter()
            .map(|picture| {
                let exam = Exam::new(&picture, size);
                (picture, exam)
            })
            .collect();
        Ok((!chunk.is_empty()).then_some(chunk))
    }

    fn upright(&self, frame: &Decoded) -> Result<RgbImage> {
        let (width, height) = self.size;
        let coded = match self.video.rotation % 180 {
            90 => (height, width),
            _ => (width, height),
        };
        let rgb = frame.picture.to_rgb(coded.0, coded.1)?;
        let (pixels, _) = rgb.as_chunks::<3>();
        let (_, upright) = turned(pixels, coded, self.video.rotation);
        let picture = RgbImage::from_raw(width as u32, height as u32, upright.concat());
        picture.ok_or_else(|| Error::internal("eval", "a frame of another size"))
    }
}

/// A few frames, evenly over a film whose length may not be known.
struct Strip {
    every: usize,
    frames: Vec<(usize, Vec<RgbImage>)>,
}

impl Strip {
    fn new(expected: usize) -> Self {
        Self {
            every: expected.div_ceil(SHOWN).max(1),
            frames: Vec::new(),
        }
    }

    fn wants(&self, number: usize) -> bool {
        number.is_multiple_of(self.every)
    }

    fn offer(&mut self, number: usize, pictures: Vec<RgbImage>) {
        if self.wants(number) && !pictures.is_empty() {
            self.frames.push((number, pictures));
        }
        if self.frames.len() >= 2 * SHOWN {
            self.every *= 2;
            let every = self.every;
            self.frames
                .retain(|(number, _)| number.is_multiple_of(every));
        }
    }
}
