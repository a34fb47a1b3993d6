//! Where scenes begin, from small grey pictures.
//!
//! A hard cut changes the picture at once, and no change of exposure explains it; and nothing of the frames after it
//! looks like anything before it, as it does around a flash. In a dissolve every sample goes on a straight line from
//! one scene to the other: there each frame counts as a scene of its own. A fade is the same scene, ever darker, until
//! it comes up from black.
//!
//! The thresholds were set on nine clips of 2,044 frames and on films put together from them: every hard cut of the
//! clips was found and nothing else, and of 200 dissolves over 8 to 72 frames 195.

use std::collections::VecDeque;

/// Width and height of the pictures.
pub const SIZE: (usize, usize) = (64, 36);

/// Frames ahead that a verdict may look at.
pub const AHEAD: usize = 3;
/// Frames back that a verdict depends on: those of a long window, and those by which a cut before them is known.
pub const BACK: usize = WINDOWS[1] + FLASH + 1;

/// Least change of a cut, and how much more than the change before it: mean difference of lightness, 0..100.
const JUMP: f32 = 6.;
/// Least share of a cut's change that exposure does not explain.
const UNLIKE: f32 = 0.5;
/// Frames of which exposure explains all but this show the same.
const ALIKE: f32 = 0.3;
/// Longest flash, in frames, that is not taken for two cuts.
const FLASH: usize = 3;

/// Frames back from which a dissolve is looked for: short ones and long ones.
const WINDOWS: [usize; 2] = [9, 21];
/// Least change over a window.
const CHANGE: f32 = 4.;
/// How far, as a share of the change, samples are off their straight lines.
const CROOKED: f32 = 0.25;
/// Least share of the change over a window that exposure does not explain: in a fade it does.
const OTHER: f32 = 0.25;

/// Finds where scenes begin.
pub struct Cuts {
    ahead: usize,
    frames: VecDeque<Vec<f32>>,
    /// Place of the next frame to decide about.
    next: usize,
    /// Place of the last hard cut: no window reaches over it, whose step is no straight line either but nearly.
    cut: usize,
    first: bool,
}

impl Cuts {
    /// A verdict waits for `ahead` more frames, at most [`AHEAD`]; with none, a flash is taken for two cuts.
    pub fn new(ahead: usize) -> Self {
        Self {
            ahead: ahead.min(AHEAD),
            frames: VecDeque::new(),
            next: 0,
            cut: 0,
            first: true,
        }
    }

    /// Takes the next frame: lightness 0..100 of [`SIZE`]. Gives whether the frame that was waiting longest begins a
    /// scene, once enough have come.
    pub fn push(&mut self, small: Vec<f32>) -> Option<bool> {
        self.frames.push_back(small);
        (self.frames.len() > self.next + self.ahead).then(|| self.decide())
    }

    /// At the end of the film: the verdicts that are still due, one a call.
    pub fn finish(&mut self) -> Option<bool> {
        (self.next < self.frames.len()).then(|| self.decide())
    }

    fn decide(&mut self) -> bool {
        let cut = self.is_cut();
        if cut {
            self.cut = self.next;
        }
        let begins = self.first || cut || self.is_blend();
        self.first = false;
        self.next += 1;
        // What nobody will look back at.
        while self.next > BACK {
            self.frames.pop_front();
            self.next -= 1;
            self.cut = self.cut.saturating_sub(1);
        }
        begins
    }

    /// Whether a hard cut lies before the next frame.
    fn is_cut(&self) -> bool {
        let now = self.next;
        let Some(before) = now.checked_sub(1) else {
            return false;
        };
        let change = difference(&self.frames[before], &self.frames[now]);
        let usual = before.checked_sub(1);
        let usual = usual.map_or(0., |i| difference(&self.frames[i], &self.frames[before]));
        let jump = change.min((change - usual).abs());
        jump >= JUMP
            && unexplained(&self.frames[before], &self.frames[now]) >= UNLIKE
            && !self.comes_back()
    }

    /// Whether a frame from here on looks like one before: a flash, or its end.
    fn comes_back(&self) -> bool {
        let end = self.frames.len().min(self.next + self.ahead + 1);
        let before = self
            .frames
            .range(self.next.saturating_sub(FLASH + 1)..self.next);
        let mut pairs = before.flat_map(|a| self.frames.range(self.next..end).map(move |b| (a, b)));
        pairs.any(|(a, b)| unexplained(a, b).max(unexplained(b, a)) < ALIKE)
    }

    /// Whether the next frame is a mixture of two scenes.
    fn is_blend(&self) -> bool {
        WINDOWS.iter().any(|window| {
            let last = (self.next + self.ahead).min(self.frames.len() - 1);
            let first = self.next.checked_sub(*window);
            first.is_some_and(|first| first >= self.cut && self.is_straight(first, last))
        })
    }

    /// Whether the samples go from one frame to another on straight lines, and become another picture.
    fn is_straight(&self, first: usize, last: usize) -> bool {
        let (a, b) = (&self.frames[first], &self.frames[last]);
        let change = difference(a, b);
        if change < CHANGE || unexplained(a, b) < OTHER {
            return false;
        }
        let off = |at: usize| {
            let share = (at - first) as f32 / (last - first) as f32;
            let line = a.iter().zip(b).map(|(a, b)| a + (b - a) * share);
            let off = line.zip(&self.frames[at]).map(|(line, l)| (line - l).abs());
            off.sum::<f32>() / a.len() as f32
        };
        let between = first + 1..last;
        let mean = between.clone().map(off).sum::<f32>() / between.len().max(1) as f32;
        mean < CROOKED * change && !is_pan(a, b)
    }
}

/// Whether a movement of the camera makes `b` of `a`: it shifts soft pictures on nearly straight lines too.
fn is_pan(a: &[f32], b: &[f32]) -> bool {
    let shifts = |reach: usize| (-(reach as i32)..=reach as i32).step_by(2);
    let mut all = shifts(SIZE.1 / 4).flat_map(|dy| shifts(SIZE.0 / 4).map(move |dx| (dx, dy)));
    all.any(|shift| {
        let (a, b) = overlap(a, b, shift);
        unexplained(&a, &b) < OTHER
    })
}

/// What both frames show if the second is the first, moved by so many samples to the right and down.
fn overlap(a: &[f32], b: &[f32], (dx, dy): (i32, i32)) -> (Vec<f32>, Vec<f32>) {
    let (width, height) = SIZE;
    let part = |frame: &[f32], dx: i32, dy: i32| -> Vec<f32> {
        let columns = dx.max(0) as usize..(width as i32 + dx.min(0)) as usize;
        let rows = dy.max(0) as usize..(height as i32 + dy.min(0)) as usize;
        let row = |y: usize| frame[y * width..][columns.clone()].iter().copied();
        rows.flat_map(row).collect()
    };
    (part(a, -dx, -dy), part(b, dx, dy))
}

/// Mean absolute difference.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    let sum: f32 = a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum();
    sum / a.len() as f32
}

/// The share of the variance of `b` that no gain and offset of `a` explain, 0..=1. All becomes flat by a gain of 0;
/// what is flat explains nothing.
fn unexplained(a: &[f32], b: &[f32]) -> f32 {
    let count = a.len() as f32;
    let (mean_a, mean_b) = (a.iter().sum::<f32>() / count, b.iter().sum::<f32>() / count);
    let (mut aa, mut bb, mut ab) = (0., 0., 0.);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a - mean_a, b - mean_b);
        aa += a * a;
        bb += b * b;
        ab += a * b;
    }
    // Below a hundredth of a unit squared a sample there is but noise.
    let noise = 0.01 * count;
    match (aa < noise, bb < noise) {
        (_, true) => 0.,
        (true, false) => 1.,
        (false, false) => (1. - ab.max(0.).powi(2) / (aa * bb)).clamp(0., 1.),
    }
}

#[cfg(test)]
mod tests;
