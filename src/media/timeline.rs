//! Time: where every packet and every frame of an input lies on one film's time axis.
//!
//! Film time 0 is the file's start, the same for all streams: one constant is subtracted from every timestamp, so
//! the offset between sound and picture stays exact, and the priming of an audio encoder stays negative. Where a
//! recording's clock jumps, the jump is closed up for all streams alike.

use ffmpeg_next::{self as ffmpeg, Rational, Rescale, rescale::TIME_BASE};

/// A clock that runs ahead by more than this has jumped, in AV_TIME_BASE units, where the format allows for jumps
/// (FFmpeg's own threshold).
const JUMP: i64 = 10_000_000;
/// And where it does not: there a pause may be meant, but not of an hour.
const DAMAGE: i64 = 3_600_000_000;
/// A clock that runs back by more than this has jumped.
const BACK: i64 = 100_000;
/// Jumps this close together are one jump that the streams meet in turn.
const SAME: i64 = 1_000_000;

/// Places packets on the film's time axis.
pub(super) struct Timeline {
    /// Subtracted from every timestamp, in AV_TIME_BASE units.
    start: i64,
    /// A clock that runs ahead by more has jumped.
    ahead: i64,
    /// Added to close up jumps: the offset in use, and the one before it, for packets from before the jump that
    /// arrive after it.
    offsets: [i64; 2],
    /// Per stream: when its last packet began and when the next is due.
    streams: Vec<Option<(i64, i64)>>,
    /// The latest time that any stream has reached.
    latest: i64,
    last_jump: Option<i64>,
}

/// A jump that was closed up: where, and by how much the clock had moved, in seconds.
pub(super) struct Jump {
    pub at: f64,
    pub by: f64,
}

impl Timeline {
    /// For `streams` streams of a file that starts at `start`.
    pub(super) fn new(start: i64, jumps: bool, streams: usize) -> Self {
        Self {
            start,
            ahead: if jumps { JUMP } else { DAMAGE },
            offsets: [0; 2],
            streams: vec![None; streams],
            latest: i64::MIN,
            last_jump: None,
        }
    }

    /// What is subtracted from every timestamp of the file, in AV_TIME_BASE units.
    pub(super) fn start(&self) -> i64 {
        self.start
    }

    /// The latest end of a packet of any stream, in AV_TIME_BASE units of film time.
    pub(super) fn latest(&self) -> i64 {
        self.latest
    }

    /// When the next packet of a stream is due, once it has begun.
    pub(super) fn reached(&self, stream: usize) -> Option<i64> {
        self.streams[stream].map(|(_, due)| due)
    }

    /// Moves a packet's timestamps to film time. `steady`: a stream of sound or picture, whose clock may be judged
    /// by its own continuity; other streams only follow.
    pub(super) fn place(
        &mut self,
        packet: &mut ffmpeg::Packet,
        tb: Rational,
        steady: bool,
    ) -> Option<Jump> {
        // Only decoding times run evenly; presentation times of pictures go to and fro.
        let jump = match packet.dts() {
            Some(t) if steady => self.follow(
                packet.stream(),
                t.rescale(tb, TIME_BASE).saturating_sub(self.start),
            ),
            _ => None,
        };
        let by = self.offsets[0]
            .saturating_sub(self.start)
            .rescale(TIME_BASE, tb);
        packet.set_pts(packet.pts().map(|t| t.saturating_add(by)));
        packet.set_dts(packet.dts().map(|t| t.saturating_add(by)));
        self.note(packet, tb);
        jump
    }

    /// Chooses the offset under which a packet at `t` continues its stream.
    fn follow(&mut self, stream: usize, t: i64) -> Option<Jump> {
        let (last, due) = self.streams[stream]?;
        let [now, before] = self.offsets;
        if self.continues(last, due, t.saturating_add(now)) {
            return None;
        }
        if now != before && self.continues(last, due, t.saturating_add(before)) {
            self.offsets = [before, now];
            return None;
        }
        self.offsets = [due.saturating_sub(t), now];
        let fresh = self
            .last_jump
            .is_none_or(|at| due.saturating_sub(at).saturating_abs() > SAME);
        self.last_jump = Some(due);
        fresh.then(|| Jump {
            at: seconds(due),
            by: seconds(t.saturating_add(now).saturating_sub(due)),
        })
    }

    /// A stream that was silent while others went on has not jumped.
    fn continues(&self, last: i64, due: i64, t: i64) -> bool {
        t.saturating_add(BACK) >= last && t.saturating_sub(due.max(self.latest)) <= self.ahead
    }

    fn note(&mut self, packet: &ffmpeg::Packet, tb: Rational) {
        let length = packet.duration().max(0);
        let due = |t: i64| t.saturating_add(length).rescale(tb, TIME_BASE);
        if let Some(t) = packet.dts() {
            self.streams[packet.stream()] = Some((t.rescale(tb, TIME_BASE), due(t)));
        }
        if let Some(t) = packet.pts().or(packet.dts()) {
            self.latest = self.latest.max(due(t));
        }
    }
}

/// AV_TIME_BASE units as seconds.
pub(super) fn seconds(t: i64) -> f64 {
    t as f64 / TIME_BASE.denominator() as f64
}

/// Seconds as AV_TIME_BASE units.
pub(super) fn from_seconds(s: f64) -> i64 {
    (s * TIME_BASE.denominator() as f64).round() as i64
}

/// Makes the timestamps of decoded frames definite: every frame has one, each later than the one before.
pub(super) struct FrameClock {
    /// Ticks of a frame whose duration nothing tells.
    nominal: i64,
    last: Option<Tick>,
}

#[derive(Clone, Copy)]
struct Tick {
    pts: i64,
    /// What the decoder says of its duration; 0: nothing.
    own: i64,
    /// How long the frame before it was really shown.
    before: Option<i64>,
    /// The frame before it was shown for as long as the decoder said.
    kept: bool,
}

impl FrameClock {
    /// For frames in `tb`, `rate` a second where known.
    pub(super) fn new(tb: Rational, rate: Option<Rational>) -> Self {
        let nominal = rate.map_or(0, |r| 1.rescale(r.invert(), tb));
        Self {
            nominal: nominal.max(1),
            last: None,
        }
    }

    /// The definite time of the next frame in presentation order, from what its decoder says. The frame before it
    /// lasts until then.
    pub(super) fn place(&mut self, pts: Option<i64>, own: i64) -> i64 {
        let own = own.max(0);
        let tick = match self.last {
            None => Tick {
                pts: pts.unwrap_or(0),
                own,
                before: None,
                kept: true,
            },
            Some(last) => {
                let due = last.pts + if last.own > 0 { last.own } else { self.nominal };
                let pts = pts.unwrap_or(due).max(last.pts + 1);
                let shown = pts - last.pts;
                Tick {
                    pts,
                    own,
                    before: Some(shown),
                    // Timestamps are rounded to ticks, durations too.
                    kept: last.own > 0 && (shown - last.own).abs() <= 1,
                }
            }
        };
        self.last = Some(tick);
        tick.pts
    }

    /// The duration of the last frame, after which none comes: until the track's `end` where its header says that;
    /// else its own, unless the one before it lasted longer or shorter than its own (a demuxer's guess); then as
    /// long as the one before.
    pub(super) fn last_duration(&self, end: Option<i64>) -> i64 {
        let Some(last) = self.last else {
            return self.nominal;
        };
        let own = Some(last.own).filter(|&own| own > 0 && last.kept);
        end.map(|end| end - last.pts)
            .filter(|&d| d > 0)
            .or(own)
            .or(last.before)
            .unwrap_or(self.nominal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Rational = Rational(1, 1000);

    fn packet(stream: usize, dts: i64, duration: i64) -> ffmpeg::Packet {
        let mut packet = ffmpeg::Packet::empty();
        packet.set_stream(stream);
        packet.set_dts(Some(dts));
        packet.set_pts(Some(dts));
        packet.set_duration(duration);
        packet
    }

    /// Film times and the number of jumps of (stream, dts) packets of 40 ms.
    fn placed(jumps: bool, packets: &[(usize, i64)]) -> (Vec<i64>, usize) {
        let mut timeline = Timeline::new(1_400_000, jumps, 2);
        let mut count = 0;
        let times = packets.iter().map(|&(stream, dts)| {
            let mut packet = packet(stream, dts, 40);
            count += usize::from(timeline.place(&mut packet, MS, true).is_some());
            packet.dts().expect("dts")
        });
        (times.collect(), count)
    }

    #[test]
    fn the_start_is_subtracted_from_all_streams() {
        assert_eq!(placed(true, &[(0, 1400), (1, 1377)]), (vec![0, -23], 0));
    }

    #[test]
    fn a_jump_is_closed_up_for_all_streams_and_counted_once() {
        // Stream 1's last packet from before the jump arrives after stream 0 has jumped.
        let packets = [
            (0, 1400),
            (1, 1400),
            (0, 1440),
            (0, 90_000),
            (1, 1440),
            (1, 90_000),
            (0, 90_040),
        ];
        assert_eq!(placed(true, &packets), (vec![0, 0, 40, 80, 40, 80, 120], 1));
    }

    #[test]
    fn a_clock_that_runs_back_jumps_in_any_format() {
        assert_eq!(
            placed(false, &[(0, 9400), (0, 9440), (0, 1400)]),
            (vec![8000, 8040, 8080], 1)
        );
    }

    #[test]
    fn a_pause_is_no_jump_where_the_format_has_none() {
        assert_eq!(
            placed(false, &[(0, 1400), (0, 31_400)]),
            (vec![0, 30_000], 0)
        );
        // One damaged time; then all is as before.
        assert_eq!(
            placed(false, &[(0, 1400), (0, 99_000_000), (0, 1480), (0, 1520)]),
            (vec![0, 40, 80, 120], 1)
        );
    }

    #[test]
    fn a_stream_that_was_silent_has_not_jumped() {
        let mut packets = vec![(0, 1400), (1, 1400)];
        packets.extend((1..400).map(|i| (0, 1400 + 40 * i)));
        packets.push((1, 1400 + 15_000));
        let (times, jumps) = placed(true, &packets);
        assert_eq!((times.last(), jumps), (Some(&15_000), 0));
    }

    #[test]
    fn frames_without_time_continue_and_never_stand_still() {
        let mut clock = FrameClock::new(MS, Some(Rational(25, 1)));
        assert_eq!(clock.place(None, 0), 0);
        assert_eq!(clock.place(None, 20), 40);
        assert_eq!(clock.place(None, 0), 60);
        assert_eq!(clock.place(Some(30), 0), 61);
    }

    #[test]
    fn the_last_frame_lasts_as_its_container_says() {
        let last = |frames: &[(i64, i64)], end| {
            let mut clock = FrameClock::new(MS, Some(Rational(25, 1)));
            for &(pts, own) in frames {
                clock.place(Some(pts), own);
            }
            clock.last_duration(end)
        };
        assert_eq!(last(&[(0, 0)], None), 40);
        assert_eq!(last(&[(0, 100)], None), 100);
        assert_eq!(last(&[(0, 33), (33, 34)], None), 34);
        assert_eq!(last(&[(0, 16), (33, 17)], None), 33);
        assert_eq!(last(&[(0, 16), (33, 17)], Some(100)), 67);
    }
}
