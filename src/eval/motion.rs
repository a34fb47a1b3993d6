//! Where everything on a picture was in the picture before: block matching on lightness, coarse to fine, to a quarter
//! of a sample; and what was hidden there. Slower than `temporal`'s and apart from it, so that a filter is not judged by
//! its own motion.

use rayon::prelude::*;

/// A picture of one channel, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Plane {
    /// Width in samples.
    pub width: usize,
    /// Height in samples.
    pub height: usize,
    /// `width * height` values.
    pub values: Vec<f32>,
}

/// Halvings of the picture on which the search begins.
const LEVELS: usize = 3;
/// Farthest step of the search on the smallest picture, in its samples.
const REACH: i32 = 4;
/// Side of a block that moves as one, on every level.
const BLOCK: usize = 8;
/// Samples around a block that are matched with it.
const MARGIN: usize = 2;
/// Side of the cells that choose among the vectors of the blocks around them.
const CELL: usize = 4;
/// What a sample of distance from the expected vector must gain in mean difference of lightness (of 0..100).
const STIFFNESS: f32 = 0.05;
/// A sample whose lightness differs by more from where it came from was not there.
const DIFFERENT: f32 = 6.;
/// Nor was one that does not come back within this many samples.
const ASTRAY: f32 = 1.5;

/// For every sample, from where in the other picture it comes: relative, in samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    width: usize,
    height: usize,
    vectors: Vec<[f32; 2]>,
}

/// The motion from one picture to the next.
#[derive(Clone, Debug)]
pub struct Motion {
    flow: Flow,
    seen: Vec<bool>,
}

impl Motion {
    /// From the lightness (0..100) of a picture and of the one before it, of one size.
    pub fn between(before: &Plane, now: &Plane) -> Self {
        let (flow, back) = rayon::join(|| flow(before, now), || flow(now, before));
        let seen = seen(before, now, &flow, &back);
        Self { flow, seen }
    }

    /// What of a plane of the picture before stands where now.
    pub fn carry(&self, plane: &Plane) -> Plane {
        self.flow.carry(plane)
    }

    /// Which samples were there before too, neither hidden nor outside.
    pub fn seen(&self) -> &[bool] {
        &self.seen
    }

    /// The part of the picture that was there before; a small one means a cut.
    pub fn seen_share(&self) -> f64 {
        self.seen.iter().filter(|seen| **seen).count() as f64 / self.seen.len().max(1) as f64
    }

    /// From where each sample comes, relative, in samples (right, down).
    pub fn vectors(&self) -> &[[f32; 2]] {
        &self.flow.vectors
    }
}

impl Flow {
    /// The plane as it stands after the motion, bilinear.
    pub fn carry(&self, plane: &Plane) -> Plane {
        let carried = |(i, [dx, dy]): (usize, &[f32; 2])| {
            let (x, y) = (i % self.width, i / self.width);
            plane.at(x as f32 + dx, y as f32 + dy)
        };
        Plane {
            width: self.width,
            height: self.height,
            values: self.vectors.iter().enumerate().map(carried).collect(),
        }
    }
}

impl Plane {
    /// The value between samples, bilinear; beyond the border it is the border's.
    fn at(&self, x: f32, y: f32) -> f32 {
        let x = x.clamp(0., (self.width - 1) as f32);
        let y = y.clamp(0., (self.height - 1) as f32);
        let (left, top) = (x as usize, y as usize);
        let right = (left + 1).min(self.width - 1);
        let (u, v) = (x - left as f32, y - top as f32);
        let row = |y: usize| {
            let row = &self.values[y * self.width..];
            row[left] + (row[right] - row[left]) * u
        };
        let upper = row(top);
        upper + (row((top + 1).min(self.height - 1)) - upper) * v
    }

    /// Every 2 x 2 samples as their mean.
    fn halved(&self) -> Self {
        let (width, height) = (self.width / 2, self.height / 2);
        let mean = |i: usize| {
            let at = 2 * (i / width) * self.width + 2 * (i % width);
            let below = at + self.width;
            let v = &self.values;
            (v[at] + v[at + 1] + v[below] + v[below + 1]) / 4.
        };
        Self {
            width,
            height,
            values: (0..width * height).map(mean).collect(),
        }
    }
}

/// From where in `before` everything in `now` comes.
pub fn flow(before: &Plane, now: &Plane) -> Flow {
    let mut pyramid = vec![(before.clone(), now.clone())];
    while pyramid.len() < LEVELS {
        let (before, now) = &pyramid[pyramid.len() - 1];
        if before.width.min(before.height) < 4 * BLOCK {
            break;
        }
        pyramid.push((before.halved(), now.halved()));
    }
    let mut blocks: Option<Blocks> = None;
    for (level, (before, now)) in pyramid.iter().enumerate().rev() {
        let steps: &[f32] = if level == 0 { &[1., 0.5, 0.25] } else { &[1.] };
        let match_ = Matcher { before, now };
        blocks = Some(Blocks::matched(&match_, blocks.as_ref(), steps));
    }
    let matcher = Matcher { before, now };
    match blocks {
        Some(blocks) => blocks.spread(&matcher),
        None => Flow {
            width: now.width,
            height: now.height,
            vectors: vec![[0.; 2]; now.values.len()],
        },
    }
}

/// Two pictures to be matched.
struct Matcher<'a> {
    before: &'a Plane,
    now: &'a Plane,
}

impl Matcher<'_> {
    /// Mean difference of the square of `side` at (x, y), with a margin, from what lies `vector` away.
    fn cost(&self, (x, y): (usize, usize), side: usize, [dx, dy]: [f32; 2]) -> f32 {
        let Plane { width, height, .. } = *self.now;
        let columns = x.saturating_sub(MARGIN)..(x + side + MARGIN).min(width);
        let rows = y.saturating_sub(MARGIN)..(y + side + MARGIN).min(height);
        let count = columns.len() * rows.len();
        let whole = dx.fract() == 0. && dy.fract() == 0.;
        let mut sum = 0.;
        for y in rows {
            let now = &self.now.values[y * width..][..width];
            if whole {
                let from = (y as i32 + dy as i32).clamp(0, height as i32 - 1) as usize;
                let before = &self.before.values[from * width..][..width];
                for x in columns.clone() {
                    let from = (x as i32 + dx as i32).clamp(0, width as i32 - 1) as usize;
                    sum += (now[x] - before[from]).abs();
                }
            } else {
                for x in columns.clone() {
                    sum += (now[x] - self.before.at(x as f32 + dx, y as f32 + dy)).abs();
                }
            }
        }
        sum / count.max(1) as f32
    }
}

/// A vector for every block of a picture.
struct Blocks {
    columns: usize,
    vectors: Vec<[f32; 2]>,
}

impl Blocks {
    /// The best vectors, expected near those of the picture of half the size, or near none, with `steps` around them.
    fn matched(matcher: &Matcher, coarser: Option<&Self>, steps: &[f32]) -> Self {
        let (columns, rows) = (
            matcher.now.width.div_ceil(BLOCK),
            matcher.now.height.div_ceil(BLOCK),
        );
        let best = |i: usize| {
            let (column, row) = (i % columns, i / columns);
            let place = (column * BLOCK, row * BLOCK);
            match coarser {
                None => searched(matcher, place),
                Some(coarser) => {
                    let expected = coarser.around(column, row).map(|v| v.map(|d| 2. * d));
                    refined(matcher, place, &expected, steps)
                }
            }
        };
        Self {
            columns,
            vectors: (0..columns * rows).into_par_iter().map(best).collect(),
        }
    }

    /// The vector of the block that covers this block of a picture twice as large, and those of its neighbours.
    fn around(&self, column: usize, row: usize) -> [[f32; 2]; 5] {
        let side = |i: usize| if i.is_multiple_of(2) { -1 } else { 1 };
        let (c, r) = ((column / 2) as i32, (row / 2) as i32);
        let (u, v) = (side(column), side(row));
        [(0, 0), (u, 0), (0, v), (-u, 0), (0, -v)].map(|(du, dv)| self.get(c + du, r + dv))
    }

    fn get(&self, column: i32, row: i32) -> [f32; 2] {
        let rows = self.vectors.len() / self.columns;
        let column = column.clamp(0, self.columns as i32 - 1) as usize;
        let row = row.clamp(0, rows as i32 - 1) as usize;
        self.vectors[row * self.columns + column]
    }

    /// Small cells choose among the blocks around them, so that borders of motion follow those of things.
    fn spread(&self, matcher: &Matcher) -> Flow {
        let Plane { width, height, .. } = *matcher.now;
        let columns = width.div_ceil(CELL);
        let cells = columns * height.div_ceil(CELL);
        let best = |i: usize| {
            let (x, y) = (i % columns * CELL, i / columns * CELL);
            let (c, r) = ((x / BLOCK) as i32, (y / BLOCK) as i32);
            let around = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)];
            let candidates = around.map(|(du, dv)| self.get(c + du, r + dv));
            least(candidates[0], &candidates, |v| {
                matcher.cost((x, y), CELL, v)
            })
            .1
        };
        let vectors: Vec<[f32; 2]> = (0..cells).into_par_iter().map(best).collect();
        let of = |i: usize| vectors[i / width / CELL * columns + i % width / CELL];
        Flow {
            width,
            height,
            vectors: (0..width * height).map(of).collect(),
        }
    }
}

/// Every whole vector within reach.
fn searched(matcher: &Matcher, place: (usize, usize)) -> [f32; 2] {
    let range = || (-REACH..=REACH).map(|d| d as f32);
    let all: Vec<[f32; 2]> = range()
        .flat_map(|dy| range().map(move |dx| [dx, dy]))
        .collect();
    least([0.; 2], &all, |v| matcher.cost(place, BLOCK, v)).1
}

/// The best of the expected vectors, then of those around it at ever smaller steps.
fn refined(
    matcher: &Matcher,
    place: (usize, usize),
    expected: &[[f32; 2]],
    steps: &[f32],
) -> [f32; 2] {
    let cost = |v| matcher.cost(place, BLOCK, v);
    // Standing still is always worth a try.
    let (mut lowest, mut best) = least(expected[0], &[expected, &[[0.; 2]]].concat(), cost);
    for &step in steps {
        let offsets = [-step, 0., step];
        let around = offsets.map(|dy| offsets.map(|dx| [best[0] + dx, best[1] + dy]));
        let around = around.concat();
        let (cost, vector) = least(expected[0], &around, cost);
        if cost < lowest {
            (lowest, best) = (cost, vector);
        }
    }
    best
}

/// The lowest cost and its vector; far from `expected` counts as worse.
fn least(
    expected: [f32; 2],
    candidates: &[[f32; 2]],
    cost: impl Fn([f32; 2]) -> f32,
) -> (f32, [f32; 2]) {
    let stiff = |v: [f32; 2]| {
        let distance = (v[0] - expected[0]).hypot(v[1] - expected[1]);
        (cost(v) + STIFFNESS * distance, v)
    };
    let first = (f32::INFINITY, expected);
    let better = |best: (f32, [f32; 2]), next: (f32, [f32; 2])| {
        if next.0 < best.0 { next } else { best }
    };
    candidates.iter().map(|v| stiff(*v)).fold(first, better)
}

/// Which samples of `now` were in `before`: inside of it, of the same lightness, and led back by the opposite flow.
fn seen(before: &Plane, now: &Plane, flow: &Flow, back: &Flow) -> Vec<bool> {
    let Plane { width, height, .. } = *now;
    let inside = |v: f32, end: usize| v > -0.5 && v < end as f32 - 0.5;
    let of = |(i, [dx, dy]): (usize, &[f32; 2])| {
        let (x, y) = ((i % width) as f32 + dx, (i / width) as f32 + dy);
        if !inside(x, width) || !inside(y, height) {
            return false;
        }
        let there = y.round() as usize * width + x.round() as usize;
        let [bx, by] = back.vectors[there];
        let alike = (now.values[i] - before.at(x, y)).abs() < DIFFERENT;
        alike && (dx + bx).hypot(dy + by) < ASTRAY
    };
    flow.vectors.iter().enumerate().map(of).collect()
}
