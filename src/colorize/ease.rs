//! Ease: a live run asks less of a machine that cannot keep up, and more again once it can.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// What is asked of the machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// How many times as rarely as it was told to the network looks.
    pub slower: f64,
    /// Size of what it looks at, in parts of what it was trained on.
    pub size: f64,
}

/// From all that was asked for to the least that is worth having. Looking rarely costs less than looking at little:
/// motion carries a good colour well, and does not make a poor one better.
pub const LEVELS: [Level; 5] = [
    Level::new(1., 1.),
    Level::new(2., 1.),
    Level::new(2., 0.75),
    Level::new(4., 0.75),
    Level::new(8., 0.5),
];

impl Level {
    const fn new(slower: f64, size: f64) -> Self {
        Self { slower, size }
    }
}

/// Time over which frames that are left out are counted; after a silence as long as [`SILENCE`] much comes at once, and for
/// so long nothing is counted.
const WINDOW: Duration = Duration::from_secs(2);
const SILENCE: Duration = Duration::from_secs(1);
/// The share of them that is too much.
const TOO_MANY: f64 = 0.05;
/// How long nothing may be left out before more is asked for, at first and at most: every time that this fails it is
/// twice as long.
const CALM: Duration = Duration::from_secs(10);
const CALMEST: Duration = Duration::from_secs(160);

/// Chooses the level from what is left out.
pub struct Ease {
    level: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
    /// When the last frame came, and until when nothing is counted.
    last: Option<Instant>,
    settled: Option<Instant>,
    /// When this window began, and what was dropped by then.
    window: Option<(Instant, u64)>,
    frames: u64,
    /// Since when nothing was left out.
    quiet: Option<Instant>,
    /// How long that must last, and whether the last change was upwards.
    calm: Duration,
    tried: bool,
}

impl Ease {
    /// `dropped` counts the frames that are left out; the level is told in `level`, an index of [`LEVELS`].
    pub fn new(dropped: Arc<AtomicU64>, level: Arc<AtomicUsize>) -> Self {
        Self {
            level,
            dropped,
            last: None,
            settled: None,
            window: None,
            frames: 0,
            quiet: None,
            calm: CALM,
            tried: false,
        }
    }

    /// A frame has come through at `now`. The level to go on with, where that is another one.
    pub fn frame(&mut self, now: Instant) -> Option<usize> {
        let silent = |last: Instant| now.duration_since(last) >= SILENCE;
        if self.last.replace(now).is_none_or(silent) {
            (self.settled, self.window, self.frames) = (Some(now + WINDOW), None, 0);
        }
        if self.settled.is_some_and(|settled| now < settled) {
            return None;
        }
        let dropped = self.dropped.load(Ordering::Relaxed);
        let (begun, before) = *self.window.get_or_insert((now, dropped));
        self.frames += 1;
        if now.duration_since(begun) < WINDOW {
            return None;
        }
        let lost = dropped - before;
        let share = lost as f64 / (lost + self.frames) as f64;
        (self.window, self.frames) = (Some((now, dropped)), 0);
        let level = self.level.load(Ordering::Relaxed);
        let next = self.judged(level, share, lost > 0, now)?;
        self.level.store(next, Ordering::Relaxed);
        Some(next)
    }

    fn judged(&mut self, level: usize, share: f64, lost: bool, now: Instant) -> Option<usize> {
        let quiet = *self.quiet.get_or_insert(now);
        if share > TOO_MANY && level + 1 < LEVELS.len() {
            if self.tried {
                // More was too much: the next try can wait.
                self.calm = (2 * self.calm).min(CALMEST);
            }
            (self.quiet, self.tried) = (None, false);
            return Some(level + 1);
        }
        if lost {
            self.quiet = None;
            return None;
        }
        if now.duration_since(quiet) < self.calm {
            return None;
        }
        if level == 0 {
            // It has held: what went before is forgotten.
            self.calm = CALM;
            return None;
        }
        (self.quiet, self.tried) = (None, true);
        Some(level - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine that manages some levels: which ones it goes through in so many seconds, from the last frame on.
    fn run(ease: &mut Ease, manages: impl Fn(usize) -> bool, seconds: usize) -> Vec<usize> {
        let (start, mut levels) = (ease.last.unwrap_or_else(Instant::now), Vec::new());
        let mut level = ease.level.load(Ordering::Relaxed);
        for frame in 0..30 * seconds {
            let now = start + Duration::from_secs_f64(frame as f64 / 30.);
            if !manages(level) && frame % 3 == 0 {
                ease.dropped.fetch_add(1, Ordering::Relaxed);
            }
            if let Some(next) = ease.frame(now) {
                levels.push(next);
                level = next;
            }
        }
        levels
    }

    fn fresh() -> Ease {
        Ease::new(Arc::default(), Arc::default())
    }

    #[test]
    fn who_keeps_up_is_left_alone() {
        assert!(run(&mut fresh(), |_| true, 600).is_empty());
        // A frame in a hundred is no reason.
        let mut ease = fresh();
        let start = Instant::now();
        for frame in 0..3000u64 {
            ease.dropped.store(frame / 100, Ordering::Relaxed);
            let now = start + Duration::from_secs_f64(frame as f64 / 30.);
            assert_eq!(ease.frame(now), None);
        }
    }

    #[test]
    fn who_cannot_keep_up_is_asked_for_less_and_then_for_more() {
        let mut ease = fresh();
        assert_eq!(run(&mut ease, |level| level >= 3, 10), [1, 2, 3]);
        assert_eq!(run(&mut ease, |_| true, 60), [2, 1, 0]);
        assert_eq!(run(&mut ease, |_| false, 60), [1, 2, 3, 4]);
    }

    /// What a source has gathered when it comes back says nothing of the machine.
    #[test]
    fn bursts_after_a_silence_do_not_count() {
        let mut ease = fresh();
        let mut now = Instant::now();
        for _ in 0..10 {
            now += Duration::from_secs(5);
            ease.dropped.fetch_add(30, Ordering::Relaxed);
            for _ in 0..150 {
                assert_eq!(ease.frame(now), None);
                now += Duration::from_millis(33);
            }
        }
    }

    /// It does not swing to and fro: the pauses between tries grow.
    #[test]
    fn tries_in_vain_become_rare() {
        let levels = run(&mut fresh(), |level| level >= 1, 600);
        assert!((4..16).contains(&levels.len()), "{levels:?}");
        assert!(levels.iter().all(|level| *level <= 1), "{levels:?}");
    }
}
