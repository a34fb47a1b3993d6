//! Times: whether every frame of a result is shown when its source shows it, up to one shift that all share.

use super::Moment;
use serde::Serialize;

/// How the frames' times differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Times {
    /// They agree within half a tick of the result, up to one shift.
    pub kept: bool,
    /// Seconds that the first frame comes later than in the source.
    pub shift: f64,
    /// The most that a frame lies off the middle of all shifts, in ticks of the result.
    pub deviation: f64,
    /// The frame whose shift differs most from the first one's, and by how many seconds.
    pub worst: Option<(Moment, f64)>,
}

/// Follows the times of two films. All is counted in whole parts of a second that both time bases divide, so nothing is
/// rounded.
pub(super) struct TimeMeter {
    /// Parts in a tick of the source, in one of the result, and in a second.
    ticks: [i128; 2],
    second: i128,
    first: Option<i128>,
    least: i128,
    most: i128,
    worst: Option<(Moment, i128)>,
}

impl TimeMeter {
    /// For times in these time bases.
    pub fn new(source: (i32, i32), result: (i32, i32)) -> Self {
        let [(a, b), (c, d)] =
            [source, result].map(|(num, den)| (i128::from(num), i128::from(den)));
        Self {
            ticks: [a * d, c * b],
            second: b * d,
            first: None,
            least: i128::MAX,
            most: i128::MIN,
            worst: None,
        }
    }

    /// A frame's time in both.
    pub fn push(&mut self, at: Moment, before: i64, after: i64) {
        let shift = i128::from(after) * self.ticks[1] - i128::from(before) * self.ticks[0];
        self.least = self.least.min(shift);
        self.most = self.most.max(shift);
        let off = shift - *self.first.get_or_insert(shift);
        if off.abs() > self.worst.map_or(0, |(_, most)| most.abs()) {
            self.worst = Some((at, off));
        }
    }

    /// What came of it.
    pub fn finish(self) -> Times {
        let Some(first) = self.first else {
            return Times::default();
        };
        let seconds = |parts: i128| parts as f64 / self.second as f64;
        let spread = self.most - self.least;
        Times {
            // Half a tick to either side of the common shift.
            kept: spread <= self.ticks[1],
            shift: seconds(first),
            deviation: spread as f64 / 2. / self.ticks[1] as f64,
            worst: self.worst.map(|(at, off)| (at, seconds(off))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 25 frames a second in 1/12800 s, as a container of milliseconds might have them.
    fn times(of: impl Fn(i64) -> i64) -> Times {
        let mut meter = TimeMeter::new((1, 12_800), (1, 1000));
        for frame in 0..50 {
            let at = Moment {
                frame: frame as u64,
                seconds: frame as f64 * 0.041,
            };
            meter.push(at, frame * 525, of(frame));
        }
        meter.finish()
    }

    fn rounded(frame: i64) -> i64 {
        (frame as f64 * 525. / 12.8).round() as i64
    }

    #[test]
    fn half_a_tick_and_one_shift_are_allowed() {
        assert!(times(rounded).kept);
        let moved = times(|frame| rounded(frame) + 77);
        assert!(moved.kept && moved.deviation <= 0.5);
        assert_eq!(moved.shift, 0.077);
    }

    #[test]
    fn one_frame_that_comes_late_is_named() {
        let moved = times(|frame| rounded(frame) + if frame == 30 { 2 } else { 0 });
        let (at, off) = moved.worst.unwrap();
        assert!(!moved.kept && at.frame == 30);
        assert!((off - 0.002).abs() <= 0.0005, "{off}");
    }
}
