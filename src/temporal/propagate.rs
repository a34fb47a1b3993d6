//! Colour carried along motion: the network's colours are steadied from key frame to key frame, and the frames between
//! two key frames take theirs from both, the nearer one more.

use std::{collections::VecDeque, sync::Arc};

use super::{Pace, Sketch, TemporalFilter, cut, motion::Field, plan::Motion, way::Way};
use crate::{
    error::{Error, Result},
    frame::{AbMap, Inferred, Late, Steady},
};

/// How many frames colour is steadied over at least, by the key frames that lie in them.
const STEADIED: usize = 18;
/// How much of a key frame's colour is its own, where the colour before it can be trusted.
const OWN: f32 = 0.3;

/// Carries colour from key frames to all.
pub struct Propagate {
    interval: usize,
    pace: Pace,
    /// Key frames of this scene, the newest last: as many as colour is steadied over.
    keys: VecDeque<Key>,
    /// The newest key frame's steadied colour.
    colour: Option<AbMap>,
    /// Frames since, that wait for the next one.
    waiting: Vec<Inferred>,
    /// In a live run: what is known while colours come late.
    behind: Behind,
}

/// Motion beyond the last key frame, where the colour that is carried is of an earlier one.
#[derive(Default)]
struct Behind {
    /// Sketch of the key frame whose colour is carried.
    sketch: Option<Arc<Sketch>>,
    /// From the last key frame to it; none where they are one.
    way: Option<Field>,
    /// Key frames whose colour may still come.
    asked: Vec<Asked>,
}

/// A key frame without colour as yet.
struct Asked {
    index: u64,
    sketch: Arc<Sketch>,
    /// From it to the key frame whose colour was carried then.
    way: Way,
    /// From the last key frame to it.
    onward: Field,
}

/// Key frames whose colour may be under way: the network looks at one, and the newest may be asked about next.
const UNDER_WAY: usize = 8;

/// A key frame.
struct Key {
    /// What the network says of it.
    ab: AbMap,
    /// From it to the key frame before.
    way: Way,
}

impl Propagate {
    /// For a key frame every `interval` frames.
    pub fn new(interval: usize, pace: Pace) -> Self {
        Self {
            interval: interval.max(1),
            pace,
            keys: VecDeque::new(),
            colour: None,
            waiting: Vec::new(),
            behind: Behind::default(),
        }
    }

    /// A frame of a live run, which has no colour of its own: that of an earlier key frame, carried.
    fn carried(&mut self, frame: Inferred) -> Result<Steady> {
        if let Some(late) = frame.late {
            self.come(late)?;
        }
        let (Some(colour), Some(motion)) = (&self.colour, frame.motion) else {
            return Err(uncoloured(frame.frame.index));
        };
        let behind = &mut self.behind;
        let way = match (&behind.way, &behind.sketch) {
            (Some(onward), Some(key)) => {
                Way::new(motion.way.field.then(onward), &motion.sketch, key)
            }
            _ => motion.way.clone(),
        };
        let ab = filled(&way.field.carry(colour), &way.trust);
        if frame.key {
            for asked in &mut behind.asked {
                asked.onward = motion.way.field.then(&asked.onward);
            }
            if behind.asked.len() == UNDER_WAY {
                behind.asked.remove(0);
            }
            behind.way = Some(way.field.clone());
            behind.asked.push(Asked {
                index: frame.frame.index,
                onward: Field::still(way.field.size),
                sketch: motion.sketch,
                way,
            });
        }
        Ok(Steady {
            frame: frame.frame,
            ab: Some(ab),
        })
    }

    /// The colour of an earlier key frame has come: it is steadied, and carried from now on.
    fn come(&mut self, late: Late) -> Result<()> {
        let asked = &mut self.behind.asked;
        let Some(at) = asked.iter().position(|asked| asked.index == late.of) else {
            // Of a scene that is over.
            return Ok(());
        };
        // Those before it were never asked about.
        let Some(key) = asked.drain(..=at).next_back() else {
            return Ok(());
        };
        self.behind.sketch = Some(key.sketch);
        self.behind.way = Some(key.onward);
        // The network was busy when the others came: it will say nothing of them.
        self.behind.asked.clear();
        self.colour = Some(self.kept(late.ab, key.way)?);
        Ok(())
    }

    /// Takes a key frame's colour in, and gives it steadied; `way` leads to the key frame before.
    fn kept(&mut self, ab: AbMap, way: Way) -> Result<AbMap> {
        self.keys.push_back(Key { ab, way });
        while self.keys.len() > self.steadied() + 1 {
            self.keys.pop_front();
        }
        self.steady()
            .ok_or_else(|| Error::internal("steady", "a key frame is lost"))
    }

    /// Key frames whose colour a key frame's is steadied with.
    fn steadied(&self) -> usize {
        STEADIED.div_ceil(self.interval)
    }

    /// A key frame's colour: from the oldest key frame that counts, along the motion, mixed with each one's own.
    fn steady(&self) -> Option<AbMap> {
        let first = self.keys.front()?;
        let still = Field::still(first.way.field.size);
        Some(
            self.keys
                .iter()
                .skip(1)
                .fold(still.carry(&first.ab), |colour, key| {
                    let (own, carried) = (still.carry(&key.ab), key.way.field.carry(&colour));
                    let shares = key.way.trust.iter().map(|trust| trust * (1. - OWN));
                    mixed(&own, &carried, shares)
                }),
        )
    }

    /// The colours of the frames that wait, between the last key frame and, where there is one, the next with its
    /// motion.
    fn between(&mut self, next: Option<(&AbMap, &Motion)>) -> Result<Vec<Steady>> {
        let waiting = std::mem::take(&mut self.waiting);
        let Some(last) = &self.colour else {
            return match waiting.first() {
                None => Ok(Vec::new()),
                Some(frame) => Err(uncoloured(frame.frame.index)),
            };
        };
        let ahead = next.and_then(|(colour, motion)| Some((colour, ways_to(motion, &waiting)?)));
        let count = waiting.len() + 1;
        let mut steady = Vec::with_capacity(waiting.len());
        for (i, Inferred { frame, motion, .. }) in waiting.into_iter().enumerate() {
            let Some(motion) = motion else {
                return Err(Error::internal(
                    "steady",
                    format!("frame {} came without motion", frame.index),
                ));
            };
            let carried = motion.way.field.carry(last);
            let ab = match &ahead {
                None => filled(&carried, &motion.way.trust),
                Some((colour, ways)) => {
                    let share = (i + 1) as f32 / count as f32;
                    let coming = ways[i].field.carry(colour);
                    let weights = motion.way.trust.iter().zip(&ways[i].trust);
                    let weights: Vec<_> = weights
                        .map(|(a, b)| ((1. - share) * a, share * b))
                        .collect();
                    let shares = weights.iter().map(|(a, b)| b / (a + b).max(1e-6));
                    let sure: Vec<f32> = weights.iter().map(|(a, b)| a + b).collect();
                    filled(&mixed(&carried, &coming, shares), &sure)
                }
            };
            steady.push(Steady {
                frame,
                ab: Some(ab),
            });
        }
        Ok(steady)
    }
}

/// From each of these frames to the key frame after them, whose motion is given; `None` where the motion was not looked
/// at both ways.
fn ways_to(key: &Motion, frames: &[Inferred]) -> Option<Vec<Way>> {
    let mut ways = Vec::with_capacity(frames.len());
    let mut onward: Option<Field> = None;
    let mut step = key.from_before.as_ref()?;
    for motion in frames
        .iter()
        .rev()
        .filter_map(|frame| frame.motion.as_ref())
    {
        let field = match &onward {
            None => step.clone(),
            Some(onward) => step.then(onward),
        };
        ways.push(Way::new(field.clone(), &motion.sketch, &key.sketch));
        (onward, step) = (Some(field), motion.from_before.as_ref()?);
    }
    ways.reverse();
    Some(ways)
}

/// Most that a mean of two colours is strengthened by to have the mean of their chroma.
const STRENGTHENED: f32 = 1.25;

/// `share` of the second colour, and the rest of the first, cell by cell. Where their hues differ a little, the mean is
/// as strong as they are; where they differ much, it is calmer.
fn mixed(first: &AbMap, second: &AbMap, shares: impl Iterator<Item = f32>) -> AbMap {
    let mix = |(cell, share): (usize, f32)| {
        let between = |first: f32, second: f32| first + (second - first) * share;
        let ((a, b), (c, d)) = (
            (first.a[cell], first.b[cell]),
            (second.a[cell], second.b[cell]),
        );
        let mean = (between(a, c), between(b, d));
        let stronger = between(a.hypot(b), c.hypot(d)) / mean.0.hypot(mean.1).max(1e-3);
        let factor = stronger.clamp(1., STRENGTHENED);
        (mean.0 * factor, mean.1 * factor)
    };
    let (a, b) = shares.enumerate().map(mix).unzip();
    AbMap {
        width: first.width,
        height: first.height,
        a,
        b,
    }
}

/// Colour of cells that are not sure from those around them that are: every cell goes by as much as it is unsure to the
/// mean of the sure ones in ever wider squares (pull-push, Gortler et al. 1996).
fn filled(colour: &AbMap, sure: &[f32]) -> AbMap {
    let cells = colour.a.iter().zip(&colour.b).zip(sure);
    let cells = cells
        .map(|((a, b), sure)| [a * sure, b * sure, *sure])
        .collect();
    let all = pulled(cells, (colour.width, colour.height));
    AbMap {
        width: colour.width,
        height: colour.height,
        a: all.iter().map(|ab| ab[0]).collect(),
        b: all.iter().map(|ab| ab[1]).collect(),
    }
}

/// The colours of cells of (a, b, 1), each times its weight, of at most 1.
fn pulled(cells: Vec<[f32; 3]>, (width, height): (usize, usize)) -> Vec<[f32; 2]> {
    let own = |[a, b, weight]: [f32; 3]| [a, b].map(|v| v / weight.max(1e-6));
    if width == 1 && height == 1 {
        return cells.into_iter().map(own).collect();
    }
    let (w, h) = (width.div_ceil(2), height.div_ceil(2));
    let mut sums = vec![[0f32; 3]; w * h];
    for (i, cell) in cells.iter().enumerate() {
        let sum = &mut sums[i / width / 2 * w + i % width / 2];
        sum.iter_mut().zip(cell).for_each(|(sum, v)| *sum += v);
    }
    // A square counts fully as soon as one of its cells does.
    for sum in &mut sums {
        let excess = sum[2].max(1.);
        sum.iter_mut().for_each(|v| *v /= excess);
    }
    let wide = pulled(sums, (w, h));
    let cell = |(i, cell): (usize, [f32; 3])| {
        let around = wide[i / width / 2 * w + i % width / 2];
        let rest = 1. - cell[2].min(1.);
        [cell[0] + around[0] * rest, cell[1] + around[1] * rest]
    };
    cells.into_iter().enumerate().map(cell).collect()
}

fn uncoloured(frame: u64) -> Error {
    Error::internal("steady", format!("frame {frame} came before any colour"))
}

impl TemporalFilter for Propagate {
    fn reach(&self) -> (usize, usize) {
        (
            (self.steadied() + 1) * self.interval + cut::BACK,
            match self.pace {
                Pace::Film => self.interval + cut::AHEAD,
                Pace::Live => 0,
            },
        )
    }

    fn push(&mut self, mut frame: Inferred) -> Result<Vec<Steady>> {
        let mut done = Vec::new();
        if frame.cut {
            done = self.between(None)?;
            self.keys.clear();
            self.colour = None;
        }
        let Some(ab) = frame.ab.take() else {
            match self.pace {
                Pace::Film => self.waiting.push(frame),
                Pace::Live => done.push(self.carried(frame)?),
            }
            return Ok(done);
        };
        let Some(motion) = frame.motion else {
            return Err(Error::internal(
                "steady",
                format!("frame {} came without motion", frame.frame.index),
            ));
        };
        let colour = self.kept(ab, motion.way.clone())?;
        done.extend(self.between(Some((&colour, &motion)))?);
        self.behind = Behind {
            sketch: Some(motion.sketch),
            ..Behind::default()
        };
        self.colour = Some(colour.clone());
        done.push(Steady {
            frame: frame.frame,
            ab: Some(colour),
        });
        Ok(done)
    }

    fn flush(&mut self) -> Result<Vec<Steady>> {
        self.between(None)
    }
}
