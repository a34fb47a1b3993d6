//! From where in another frame everything in this one comes: block matching on sketches, from small to large.
//!
//! Windows of 16 x 16 samples, 8 apart, are searched in the quarter-size sketch and refined on the way up; small cells
//! then choose among the vectors of the blocks around them, so that the borders of motion are those of things. A
//! difference of exposure between the frames is taken off first.

use super::sketch::{Grey, Sketch};
use crate::frame::AbMap;

/// Distance of blocks, on every level.
const BLOCK: usize = 8;
/// Side of the window that is matched for a block, around its middle.
const WINDOW: usize = 16;
/// Farthest vector that is tried on the smallest level, in its samples.
const REACH: i32 = 5;
/// Side of a cell of a [`Field`], in samples of the sketch.
pub const CELL: usize = 4;
/// What a sample of distance from the expected vector must gain, in sums over a window.
const STIFFNESS: u32 = 24;
/// A sum over a window that needs no better match, in parts of a sample neither: two steps of lightness a sample, as
/// grain makes them. Without it, what stands still trembles.
const ALIKE: u32 = 2 * (WINDOW * WINDOW) as u32;

/// For every cell of a sketch, from where in another it comes: relative, in samples of the sketch.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Width and height of the sketch.
    pub size: (usize, usize),
    /// Cells in a row.
    pub columns: usize,
    /// Rows of cells.
    pub rows: usize,
    /// Right and down, row by row.
    pub vectors: Vec<[f32; 2]>,
}

impl Field {
    /// Number of cells, across and down, of a sketch of this size.
    pub fn cells(width: usize, height: usize) -> (usize, usize) {
        (width.div_ceil(CELL), height.div_ceil(CELL))
    }

    /// Nothing moves in sketches of this size.
    pub fn still(size: (usize, usize)) -> Self {
        let (columns, rows) = Self::cells(size.0, size.1);
        Self {
            size,
            columns,
            rows,
            vectors: vec![[0.; 2]; columns * rows],
        }
    }

    /// From `now` to `other`, two sketches of one size.
    pub fn between(now: &Sketch, other: &Sketch) -> Self {
        let (now, other) = (&now.levelled(other), &other.levelled(now));
        let mut blocks: Option<Blocks> = None;
        for (level, (now, other)) in now.levels.iter().zip(&other.levels).enumerate().rev() {
            let matcher = Matcher { now, other };
            blocks = Some(Blocks::matched(&matcher, blocks.as_ref(), level == 0));
        }
        let matcher = Matcher {
            now: now.whole(),
            other: other.whole(),
        };
        let size = (now.whole().width, now.whole().height);
        blocks.map_or_else(|| Self::still(size), |blocks| blocks.spread(&matcher, size))
    }

    /// From `other` back to `now`, where this is the field from `now` to `other`: sought near the opposite of it, which costs
    /// half of a search from nothing.
    pub fn back(&self, now: &Sketch, other: &Sketch) -> Self {
        let (now, other) = (&now.levelled(other), &other.levelled(now));
        let matcher = Matcher {
            now: other.whole(),
            other: now.whole(),
        };
        let half = 2 * BLOCK;
        let (columns, rows) = (self.size.0.div_ceil(half), self.size.1.div_ceil(half));
        let opposite = |i: usize| {
            let middle = |at: usize| (at * half + BLOCK) as f32;
            let vector = self.at(middle(i % columns), middle(i / columns));
            vector.map(|v| (-v / 2.).round())
        };
        // As if the picture of half the size had been searched.
        let coarse = Blocks {
            columns,
            rows,
            vectors: (0..columns * rows).map(opposite).collect(),
        };
        Blocks::matched(&matcher, Some(&coarse), true).spread(&matcher, self.size)
    }

    /// The vector at a place in samples of the sketch, between cells bilinear.
    pub fn at(&self, x: f32, y: f32) -> [f32; 2] {
        let place = |v: f32, count: usize| {
            let v = (v / CELL as f32 - 0.5).clamp(0., (count - 1) as f32);
            let first = v as usize;
            (first, (first + 1).min(count - 1), v - first as f32)
        };
        let (left, right, u) = place(x, self.columns);
        let (top, bottom, v) = place(y, self.rows);
        let get = |column: usize, row: usize| self.vectors[row * self.columns + column];
        let mix =
            |a: [f32; 2], b: [f32; 2], t: f32| [a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t];
        mix(
            mix(get(left, top), get(right, top), u),
            mix(get(left, bottom), get(right, bottom), u),
            v,
        )
    }

    /// The colours of the other frame as they lie in this one, a cell a sample.
    pub fn carry(&self, ab: &AbMap) -> AbMap {
        let carried = |(cell, [dx, dy]): (usize, &[f32; 2])| {
            let (x, y) = self.middle(cell);
            ab.at((x + dx) / self.size.0 as f32, (y + dy) / self.size.1 as f32)
        };
        let (a, b) = self
            .vectors
            .iter()
            .enumerate()
            .map(carried)
            .map(<(f32, f32)>::from)
            .unzip();
        AbMap {
            width: self.columns,
            height: self.rows,
            a,
            b,
        }
    }

    /// The middle of a cell.
    pub fn middle(&self, cell: usize) -> (f32, f32) {
        let half = CELL as f32 / 2.;
        (
            (cell % self.columns * CELL) as f32 + half,
            (cell / self.columns * CELL) as f32 + half,
        )
    }

    /// The way from here by this field, and from there on by `next`.
    pub fn then(&self, next: &Self) -> Self {
        let whole = |(cell, [dx, dy]): (usize, &[f32; 2])| {
            let (x, y) = self.middle(cell);
            let [fx, fy] = next.at(x + dx, y + dy);
            [dx + fx, dy + fy]
        };
        Self {
            vectors: self.vectors.iter().enumerate().map(whole).collect(),
            ..*self
        }
    }
}

/// Two pictures to be matched.
struct Matcher<'a> {
    now: &'a Grey,
    other: &'a Grey,
}

impl Matcher<'_> {
    /// Sum of the differences of a square of `SIDE` samples around (x, y) from what lies (dx, dy) away.
    fn cost<const SIDE: usize>(&self, (x, y): Step, (dx, dy): Step) -> u32 {
        let half = SIDE as i32 / 2;
        let (x, y) = (x - half, y - half);
        let (now, other) = (self.now.from(x, y), self.other.from(x + dx, y + dy));
        let (stride, further) = (self.now.stride(), self.other.stride());
        let row = |row: usize| {
            let now = now.get(row * stride..)?.first_chunk()?;
            let other = other.get(row * further..)?.first_chunk()?;
            Some(apart::<SIDE>(now, other))
        };
        (0..SIDE).filter_map(row).sum()
    }
}

/// Sum of the differences of a row.
fn apart<const SIDE: usize>(now: &[u8; SIDE], other: &[u8; SIDE]) -> u32 {
    let pairs = now.iter().zip(other);
    pairs
        .map(|(now, other)| u32::from(now.abs_diff(*other)))
        .sum()
}

/// A vector for every block of a picture, in its samples.
struct Blocks {
    columns: usize,
    rows: usize,
    vectors: Vec<[f32; 2]>,
}

/// A vector in whole samples.
type Step = (i32, i32);

impl Blocks {
    /// The best vectors: searched, or near those of the picture of half the size. The last level's are refined to parts
    /// of a sample.
    fn matched(matcher: &Matcher, coarser: Option<&Self>, last: bool) -> Self {
        let (columns, rows) = (
            matcher.now.width.div_ceil(BLOCK),
            matcher.now.height.div_ceil(BLOCK),
        );
        let best = |i: usize| {
            let middle = |at: usize| (at * BLOCK + BLOCK / 2) as i32;
            let place = (middle(i % columns), middle(i / columns));
            let mut costs = Costs::new(|step| matcher.cost::<WINDOW>(place, step));
            let step = match coarser {
                None => searched(costs.cost),
                Some(coarser) => costs.refined(&coarser.around(i % columns, i / columns)),
            };
            match last {
                true => costs.parted(step),
                false => [step.0 as f32, step.1 as f32],
            }
        };
        Self {
            columns,
            rows,
            vectors: (0..columns * rows).map(best).collect(),
        }
    }

    /// Twice the vectors of the block that covers this one of a picture twice as large, and of its neighbours.
    fn around(&self, column: usize, row: usize) -> [Step; 5] {
        let side = |i: usize| if i.is_multiple_of(2) { -1 } else { 1 };
        let (c, r) = ((column / 2) as i32, (row / 2) as i32);
        let (u, v) = (side(column), side(row));
        [(0, 0), (u, 0), (0, v), (-u, 0), (0, -v)].map(|(du, dv)| {
            let [dx, dy] = self.get(c + du, r + dv);
            (2 * dx as i32, 2 * dy as i32)
        })
    }

    fn get(&self, column: i32, row: i32) -> [f32; 2] {
        let within = |at: i32, count: usize| at.clamp(0, count as i32 - 1) as usize;
        self.vectors[within(row, self.rows) * self.columns + within(column, self.columns)]
    }

    /// Every cell takes the vector of the blocks around it that suits it best.
    fn spread(&self, matcher: &Matcher, size: (usize, usize)) -> Field {
        let (columns, rows) = Field::cells(size.0, size.1);
        let best = |i: usize| {
            let (x, y) = (i % columns * CELL, i / columns * CELL);
            let (c, r) = ((x / BLOCK) as i32, (y / BLOCK) as i32);
            let place = ((x + CELL / 2) as i32, (y + CELL / 2) as i32);
            // The neighbours on the cell's own side of the block.
            let side = |at: usize| if at % BLOCK < BLOCK / 2 { -1 } else { 1 };
            let (u, v) = (side(x), side(y));
            let candidates =
                [(0, 0), (u, 0), (0, v), (u, v)].map(|(du, dv)| self.get(c + du, r + dv));
            let step = |[dx, dy]: [f32; 2]| (nearest(dx), nearest(dy));
            let own = step(candidates[0]);
            if candidates.iter().all(|other| step(*other) == own) {
                return candidates[0];
            }
            let mut costs = Costs::new(|step| matcher.cost::<{ 2 * CELL }>(place, step));
            let mut best = (costs.of(own), candidates[0]);
            for candidate in &candidates[1..] {
                // Of equals the block's own.
                let other = costs.of(step(*candidate)) + STIFFNESS / 4;
                if other < best.0 {
                    best = (other, *candidate);
                }
            }
            best.1
        };
        Field {
            size,
            columns,
            rows,
            vectors: (0..columns * rows).map(best).collect(),
        }
    }
}

/// The best of every whole vector within reach; of equals the shortest.
fn searched(cost: impl Fn(Step) -> u32) -> Step {
    let all = (-REACH..=REACH).flat_map(|dy| (-REACH..=REACH).map(move |dx| (dx, dy)));
    let stiff = |step: &Step| {
        let length = far(*step, (0, 0));
        (cost(*step) + STIFFNESS * length, length)
    };
    all.min_by_key(stiff).unwrap_or_default()
}

/// Most vectors that are ever tried of a block: five expected, none, eight around the best and four beyond.
const MOST: usize = 18;

/// Costs of the vectors of one block, each worked out once.
struct Costs<F> {
    cost: F,
    known: [(Step, u32); MOST],
    count: usize,
}

impl<F: Fn(Step) -> u32> Costs<F> {
    fn new(cost: F) -> Self {
        Self {
            cost,
            known: [((0, 0), 0); MOST],
            count: 0,
        }
    }

    fn of(&mut self, step: Step) -> u32 {
        let known = &self.known[..self.count];
        if let Some((_, cost)) = known.iter().find(|(other, _)| *other == step) {
            return *cost;
        }
        let cost = (self.cost)(step);
        if let Some(place) = self.known.get_mut(self.count) {
            *place = (step, cost);
            self.count += 1;
        }
        cost
    }

    /// The best of the expected vectors and none, then of those around it.
    fn refined(&mut self, expected: &[Step; 5]) -> Step {
        let mut best = (expected[0], u32::MAX);
        let mut take = |step: Step| {
            let cost = self.of(step) + STIFFNESS * far(step, expected[0]).min(2);
            if cost < best.1 {
                best = (step, cost);
            }
            best
        };
        expected.iter().for_each(|step| _ = take(*step));
        let ((x, y), cost) = take((0, 0));
        if cost < ALIKE {
            return (x, y);
        }
        for (dx, dy) in [
            (-1, 0),
            (1, 0),
            (0, -1),
            (0, 1),
            (-1, -1),
            (1, -1),
            (-1, 1),
            (1, 1),
        ] {
            take((x + dx, y + dy));
        }
        best.0
    }

    /// A vector in parts of a sample: the tip of the wedges through its cost and its neighbours', as sums of absolute
    /// differences rise evenly to both sides.
    fn parted(&mut self, (x, y): Step) -> [f32; 2] {
        let here = self.of((x, y)) as f32;
        if here < ALIKE as f32 {
            return [x as f32, y as f32];
        }
        let mut part = |before: Step, after: Step| {
            let (before, after) = (self.of(before) as f32, self.of(after) as f32);
            let rise = before.max(after) - here;
            match rise > 0. {
                true => (0.5 * (before - after) / rise).clamp(-0.5, 0.5),
                false => 0.,
            }
        };
        [
            x as f32 + part((x - 1, y), (x + 1, y)),
            y as f32 + part((x, y - 1), (x, y + 1)),
        ]
    }
}

/// The nearest whole number, without the call that `round` is on processors of before SSE4.1.
pub fn nearest(v: f32) -> i32 {
    (v + 0.5f32.copysign(v)) as i32
}

/// The distance of two vectors along the axes.
fn far(a: Step, b: Step) -> u32 {
    a.0.abs_diff(b.0) + a.1.abs_diff(b.1)
}

#[cfg(test)]
mod tests;
