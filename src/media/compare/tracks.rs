//! Tracks: whether the streams that travelled beside the pictures are still what they were.

use super::{
    super::{
        Packet, Source, adts,
        ffi::output::{Kind, StreamCopy, Subtitles},
        streams::{MOV_TEXT_GAP, tell},
    },
    Side,
};
use ffmpeg_next as ffmpeg;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;

/// Codecs that containers cut into packets as they like: there only the bytes count.
const CUT_FREELY: [&str; 3] = ["pcm_", "eac3", "hdmv_pgs_subtitle"];
/// Codecs whose packets containers write in two ways (ISO/IEC 14496-15 and Annex B): there, where the container is
/// another, only packets are counted.
const WRITTEN_ANEW: [&str; 2] = ["h264", "hevc"];

/// One stream of both films.
#[derive(Clone, Debug, Serialize)]
pub struct Track {
    /// What the record says of it; where it says nothing, what it is.
    pub line: String,
    /// How it fared.
    pub agreement: Agreement,
    /// Packets in the source; of converted subtitles, the events that can be converted.
    pub source: u64,
    /// Packets in the result.
    pub result: u64,
}

/// How a stream fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Agreement {
    /// The same bytes in the same order.
    Same,
    /// As many packets; the bytes are rightly not the same, or were not looked at.
    Counted,
    /// Other bytes, or not as many packets.
    Differs,
    /// The source has no such stream.
    Unknown,
    /// The result has no such stream.
    Missing,
    /// The result has it, and its record knows nothing of it.
    Surplus,
}

/// How a stream travelled.
#[derive(Clone, Debug, PartialEq)]
enum Way {
    Copied,
    /// Into subtitles of this codec.
    Converted(String),
    /// As an attached file.
    Attached,
}

/// A stream that a record tells of, and where it is.
pub(super) struct Pair {
    line: String,
    way: Way,
    source: Option<(usize, StreamCopy)>,
    result: Option<(usize, StreamCopy)>,
}

/// Finds the streams that the lines of a record speak of: in the source by how they are described, in the result by their
/// order among those of their kind. Streams of the result that are left over are told without a line.
pub(super) fn pair(lines: &[String], source: &Source, result: &Source) -> Vec<Pair> {
    let mut sources = others(source);
    let mut results = others(result);
    let mut pairs: Vec<Pair> = Vec::new();
    for line in lines {
        let Some((told, way)) = parsed(line) else {
            continue;
        };
        let Some(kind) = kind_of(told) else { continue };
        let same = |(_, copy): &(usize, StreamCopy)| tell(copy) == told;
        // Attachments are given names on the way: their kind has to do.
        let found = match kind {
            Kind::Attachment => sources.iter().position(|(_, copy)| copy.kind() == kind),
            _ => sources.iter().position(same),
        };
        let of_kind = |(_, copy): &(usize, StreamCopy)| copy.kind() == kind;
        let there = results.iter().position(of_kind);
        pairs.push(Pair {
            line: line.clone(),
            way,
            source: found.and_then(|at| sources.remove(at)),
            result: there.and_then(|at| results.remove(at)),
        });
    }
    pairs.extend(results.into_iter().filter_map(|left| {
        (left.1.kind() != Kind::Data).then(|| Pair {
            line: tell(&left.1),
            way: Way::Copied,
            source: None,
            result: Some(left),
        })
    }));
    pairs
}

/// All streams but the main video.
fn others(source: &Source) -> VecDeque<(usize, StreamCopy)> {
    let streams = source.input().streams();
    let all = streams.map(|stream| (stream.index(), StreamCopy::of(&stream)));
    all.filter(|(index, _)| *index != source.video_stream())
        .collect()
}

/// What a line is about and how it travelled; `None` for lines of what is no stream that travels.
fn parsed(line: &str) -> Option<(&str, Way)> {
    let (told, way) = line.rsplit_once(": ")?;
    let way = match way {
        "copied" => Way::Copied,
        "attached" => Way::Attached,
        _ => Way::Converted(way.strip_prefix("converted to ")?.to_owned()),
    };
    Some((told, way))
}

fn kind_of(told: &str) -> Option<Kind> {
    let kinds = [
        ("further video ", Kind::Video),
        ("audio ", Kind::Audio),
        ("subtitle ", Kind::Subtitle),
        ("attachment ", Kind::Attachment),
        ("cover ", Kind::Cover),
    ];
    let found = kinds.iter().find(|(start, _)| told.starts_with(start));
    found.map(|(_, kind)| *kind)
}

/// Counters of the source's streams.
pub(super) fn of_source(pairs: &[Pair]) -> Tracks {
    let counted = pairs.iter().filter_map(|pair| {
        let (index, copy) = pair.source.as_ref()?;
        let mut tally = Tally::new(copy);
        if let Way::Converted(codec) = &pair.way {
            let encoder = ffmpeg::encoder::find_by_name(codec);
            tally.converter = encoder.and_then(|codec| Subtitles::new(copy, codec.id()).ok());
        }
        Some((*index, tally))
    });
    Tracks::new(counted)
}

/// Counters of the result's streams.
pub(super) fn of_result(pairs: &[Pair]) -> Tracks {
    let found = pairs.iter().filter_map(|pair| pair.result.as_ref());
    Tracks::new(found.map(|(index, copy)| (*index, Tally::new(copy))))
}

/// What became of every pair, once both films were read to their ends.
pub(super) fn judge(pairs: Vec<Pair>, before: Side, after: Side) -> Vec<Track> {
    let repackaged = before.source.info().format != after.source.info().format;
    let of = |tracks: &Tracks, end: &Option<(usize, StreamCopy)>| {
        let tally = end.as_ref().and_then(|(index, _)| tracks.at(*index));
        tally.map_or((0, [0; 32]), Tally::sum)
    };
    let judged = pairs.into_iter().map(|pair| {
        let (source, ours) = of(&before.tracks, &pair.source);
        let (result, theirs) = of(&after.tracks, &pair.result);
        Track {
            agreement: pair.agreement((source, ours), (result, theirs), repackaged),
            line: pair.line,
            source,
            result,
        }
    });
    judged.collect()
}

impl Pair {
    fn agreement(
        &self,
        source: (u64, [u8; 32]),
        result: (u64, [u8; 32]),
        repackaged: bool,
    ) -> Agreement {
        let ((_, copy), _) = match (&self.source, &self.result) {
            (Some(source), Some(result)) => (source, result),
            (Some(_), None) => return Agreement::Missing,
            (None, Some(_)) if parsed(&self.line).is_none() => return Agreement::Surplus,
            (None, _) => return Agreement::Unknown,
        };
        let codec = copy.codec_name();
        let freely = CUT_FREELY.iter().any(|start| codec.starts_with(start));
        let anew = repackaged && WRITTEN_ANEW.contains(&codec.as_str());
        let as_many = source.0 == result.0;
        let unseen = matches!(self.way, Way::Converted(_)) || anew;
        match (source.1 == result.1, as_many) {
            // An attached file has no packets.
            (true, true) if copy.kind() == Kind::Attachment => Agreement::Counted,
            (true, true) => Agreement::Same,
            (true, false) if freely => Agreement::Same,
            (false, true) if unseen => Agreement::Counted,
            _ => Agreement::Differs,
        }
    }
}

/// Counts the packets of streams.
pub(super) struct Tracks(Vec<Option<Tally>>);

impl Tracks {
    fn new(tallies: impl Iterator<Item = (usize, Tally)>) -> Self {
        let mut tracks = Vec::new();
        for (index, tally) in tallies {
            if tracks.len() <= index {
                tracks.resize_with(index + 1, || None);
            }
            tracks[index] = Some(tally);
        }
        Self(tracks)
    }

    fn at(&self, stream: usize) -> Option<&Tally> {
        self.0.get(stream)?.as_ref()
    }

    /// The next packet of whatever stream.
    pub fn push(&mut self, packet: &Packet) {
        let tally = self.0.get_mut(packet.packet.stream());
        if let Some(Some(tally)) = tally {
            tally.push(&packet.packet);
        }
    }
}

/// What went by of one stream.
struct Tally {
    packets: u64,
    bytes: Sha256,
    /// Its packets may have headers that other containers do not hold.
    adts: bool,
    /// Its container writes empty events between its subtitles.
    gaps: bool,
    /// What is counted is what this makes of it.
    converter: Option<Subtitles>,
}

impl Tally {
    fn new(copy: &StreamCopy) -> Self {
        let codec = copy.codec_name();
        Self {
            packets: 0,
            bytes: Sha256::new(),
            adts: codec == "aac",
            gaps: codec == "mov_text",
            converter: None,
        }
    }

    fn push(&mut self, packet: &ffmpeg::Packet) {
        let data = packet.data().unwrap_or_default();
        if self.gaps && (data.is_empty() || data == MOV_TEXT_GAP) {
            return;
        }
        if let Some(converter) = &mut self.converter {
            // An event that cannot be read is left out of the film too.
            let converted = converter.convert(packet);
            self.packets += u64::from(matches!(converted, Ok(Some(_))));
            return;
        }
        self.packets += 1;
        self.bytes
            .update(if self.adts { adts::sound(data) } else { data });
    }

    fn sum(&self) -> (u64, [u8; 32]) {
        (self.packets, self.bytes.clone().finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_tell_what_travelled_and_how() {
        assert_eq!(
            parsed("audio aac eng: copied"),
            Some(("audio aac eng", Way::Copied))
        );
        assert_eq!(
            parsed("subtitle ass: converted to mov_text"),
            Some(("subtitle ass", Way::Converted("mov_text".into())))
        );
        assert_eq!(
            parsed("attachment ttf a: b.ttf: attached"),
            Some(("attachment ttf a: b.ttf", Way::Attached))
        );
        assert_eq!(parsed("video h264 yuv420p crf 17: colorized"), None);
        assert_eq!(parsed("2 chapters: kept"), None);
        assert!(kind_of("audio aac eng") == Some(Kind::Audio) && kind_of("video h264").is_none());
    }
}
