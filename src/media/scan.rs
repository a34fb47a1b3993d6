//! Scan: where a film can be taken apart, by its packets alone.
//!
//! Which seeks are exact is not known by a container's name: it is tried. A point counts only if what is read after going
//! there is, packet for packet, what was read there on the way through.

use std::{collections::HashMap, ffi::OsStr};

use super::{
    InputOptions, Part,
    reader::{Reader, Undecoded},
};
use crate::error::Result;

/// Packets that are compared behind a point that was gone to.
const COMPARED: usize = 32;

/// A film's packets, without their bytes.
pub struct Scan {
    reader: Reader,
    packets: Vec<Undecoded>,
    /// Times of all frames, rising.
    times: Vec<i64>,
    /// Times of the random-access points with their place among the packets, rising.
    entries: Vec<(i64, usize)>,
    /// Whether each was gone to, as far as that was tried.
    tried: HashMap<i64, bool>,
    refusal: Option<&'static str>,
}

/// A piece of a film that is coloured and encoded on its own.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Segment {
    /// Frames to decode and to colour: some more than are kept on both sides, so that colour over time is what it is in the
    /// whole film.
    pub part: Part,
    /// Time of the first frame that is kept, in ticks of the main video after the film's start.
    pub from: i64,
    /// Time of the first frame behind; `None`: there is none.
    pub to: Option<i64>,
    /// Frames that are kept.
    pub frames: u64,
}

impl Scan {
    /// Reads all packets of `input`; `told` hears how many, after each.
    ///
    /// # Errors
    /// [`Error::Input`] where it cannot be read or holds no video, [`Error::Stopped`] where it was interrupted.
    pub fn of(
        input: &OsStr,
        options: &InputOptions,
        told: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Self> {
        super::prepare();
        let mut reader = Reader::open(input, options)?;
        let mut packets = Vec::new();
        while let Some(packet) = reader.next_undecoded()? {
            packets.push(packet);
            told(packets.len() as u64)?;
        }
        let mut times: Vec<i64> = packets.iter().filter_map(|p| p.pts).collect();
        times.sort_unstable();
        let keys = packets.iter().enumerate().filter(|(_, p)| p.key);
        let mut entries: Vec<_> = keys.filter_map(|(at, p)| Some((p.pts?, at))).collect();
        entries.sort_unstable();
        let refusal = refusal(&reader, &packets, &times, &entries);
        Ok(Self {
            reader,
            packets,
            times,
            entries,
            tried: HashMap::new(),
            refusal,
        })
    }

    /// Why the film can only be decoded in one go, where that is so.
    pub fn refusal(&self) -> Option<&'static str> {
        self.refusal
    }

    /// Segments of about `seconds` each, between random-access points, whose colour reaches `(back, ahead)` frames beyond
    /// them; one, where the film cannot be taken apart or is not long enough.
    ///
    /// # Errors
    /// [`Error::Stopped`] where it was interrupted.
    pub fn segments(&mut self, seconds: f64, reach: (usize, usize)) -> Result<Vec<Segment>> {
        let mut cuts = Vec::new();
        if self.refusal.is_none() {
            cuts = self.cuts(seconds, reach)?;
        }
        let count = self.times.len();
        let bounds = || [0].into_iter().chain(cuts.iter().map(|(at, _)| *at));
        let ends = cuts.iter().map(|(at, _)| *at).chain([count]);
        let enters = [None]
            .into_iter()
            .chain(cuts.iter().map(|(_, enter)| *enter));
        let time = |at: usize| self.times.get(at).copied();
        let segment = |((begin, end), enter): ((usize, usize), Option<i64>)| Segment {
            part: Part {
                enter,
                from: time(begin.saturating_sub(reach.0)).unwrap_or(0),
                to: time(end + reach.1),
            },
            from: time(begin).unwrap_or(0),
            to: time(end),
            frames: (end - begin) as u64,
        };
        Ok(bounds().zip(ends).zip(enters).map(segment).collect())
    }

    /// Where segments begin but the first: their first frames, by number, and where decoding has to begin for each.
    fn cuts(&mut self, seconds: f64, reach: (usize, usize)) -> Result<Vec<(usize, Option<i64>)>> {
        let tb = f64::from(self.reader.time_base());
        let length = (seconds / tb) as i64;
        let end = self.times.last().copied().unwrap_or(0);
        let mut cuts = Vec::new();
        let mut begun = self.times.first().copied().unwrap_or(0);
        for entry in self.entries.clone() {
            // What is left at the end is not worth a segment below half of one.
            if entry.0 - begun < length || end - entry.0 < length / 2 {
                continue;
            }
            let Ok(at) = self.times.binary_search(&entry.0) else {
                continue;
            };
            let Some(enter) = self.entry_for(at.saturating_sub(reach.0))? else {
                continue;
            };
            begun = entry.0;
            cuts.push((at, enter));
        }
        Ok(cuts)
    }

    /// Where to begin decoding for the sake of a frame: `Some(None)` is the film's beginning; `None` if no such point can
    /// be gone to.
    fn entry_for(&mut self, frame: usize) -> Result<Option<Option<i64>>> {
        let time = self.times[frame];
        let behind = self.entries.partition_point(|(pts, _)| *pts <= time);
        // One further back than the last: pictures right behind it may lean on what was before it.
        let Some(at) = behind.checked_sub(2) else {
            return Ok(Some(None));
        };
        let (pts, place) = self.entries[at];
        if let Some(&exact) = self.tried.get(&pts) {
            return Ok(exact.then_some(Some(pts)));
        }
        let exact = self.is_exact(pts, place)?;
        self.tried.insert(pts, exact);
        Ok(exact.then_some(Some(pts)))
    }

    fn is_exact(&mut self, pts: i64, place: usize) -> Result<bool> {
        if !self.reader.finds(pts)? {
            return Ok(false);
        }
        let rest = &self.packets[place..];
        for expected in rest.iter().take(COMPARED) {
            let same = |packet: Undecoded| packet.is_like(expected);
            if !self.reader.next_undecoded()?.is_some_and(same) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Why a film with these packets can only be decoded in one go.
fn refusal(
    reader: &Reader,
    packets: &[Undecoded],
    times: &[i64],
    entries: &[(i64, usize)],
) -> Option<&'static str> {
    let jumped = || {
        let dts = packets.iter().filter_map(|p| p.dts);
        reader.container().jumps && !dts.is_sorted()
    };
    if !reader.container().seekable {
        Some("it cannot be entered on the way")
    } else if times.len() != packets.len() {
        Some("some of its frames have no times")
    } else if times.windows(2).any(|t| t[0] == t[1]) || times.first().is_some_and(|&t| t < 0) {
        Some("the times of its frames are not distinct")
    } else if jumped() || has_gap(reader, times) {
        Some("its clock jumps")
    } else if packets.iter().any(|p| p.damaged) {
        Some("it is damaged")
    } else if entries.len() < 3 {
        Some("it can be entered at its beginning only")
    } else {
        None
    }
}

/// Whether a clock that may jump has a pause that would be closed up as a jump.
fn has_gap(reader: &Reader, times: &[i64]) -> bool {
    /// Seconds; less than what is taken for a jump anywhere.
    const PAUSE: f64 = 5.;
    let most = (PAUSE / f64::from(reader.time_base())) as i64;
    reader.container().jumps && times.windows(2).any(|t| t[1] - t[0] > most)
}

#[cfg(test)]
mod tests;
