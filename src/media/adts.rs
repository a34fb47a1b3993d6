//! ADTS: AAC as it is broadcast, each packet with a header of its own, made into what QuickTime's family holds: the
//! header once, in front (ISO/IEC 14496-3, 1.A.2 and 1.6.2.1). libavformat does this by itself, but not while it writes
//! in fragments.

use super::ffi::output as ffi;
use ffmpeg_next::Packet;

/// Bytes of a header, without the checksum.
const HEADER: usize = 7;

/// The sound of a packet without its header, with the configuration that the header held; `None` where there is no
/// header, or one that leaves the channels to the sound itself.
fn parted(data: &[u8]) -> Option<([u8; 2], &[u8])> {
    let header: &[u8; HEADER] = data.first_chunk()?;
    let synced = header[0] == 0xff && header[1] & 0xf6 == 0xf0;
    let (profile, rate) = (header[2] >> 6, header[2] >> 2 & 0xf);
    let channels = (header[2] & 1) << 2 | header[3] >> 6;
    let single = header[6] & 3 == 0;
    if !synced || channels == 0 || !single {
        return None;
    }
    // Five bits of the kind, which is the profile and one, four of the rate, four of the channels.
    let kind = profile + 1;
    let config = [kind << 3 | rate >> 1, (rate & 1) << 7 | channels << 3];
    let checksum = if header[1] & 1 == 0 { 2 } else { 0 };
    Some((config, data.get(HEADER + checksum..)?))
}

/// The sound of a packet that may have a header.
pub(super) fn sound(data: &[u8]) -> &[u8] {
    parted(data).map_or(data, |(_, sound)| sound)
}

/// Takes headers off.
#[derive(Default)]
pub(super) struct Adts {
    told: bool,
}

impl Adts {
    /// The packet without its header; the first one tells the muxer what it held.
    pub fn strip(&mut self, packet: Packet) -> Packet {
        let Some((config, sound)) = packet.data().and_then(parted) else {
            return packet;
        };
        let mut bare = Packet::copy(sound);
        bare.set_pts(packet.pts());
        bare.set_dts(packet.dts());
        bare.set_duration(packet.duration());
        bare.set_flags(packet.flags());
        if !self.told {
            self.told = ffi::tell_extradata(&mut bare, &config);
        }
        bare
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The headers are FFmpeg's own, of `ffmpeg -f lavfi -i sine=r=48000 -ac N -c:a aac -f adts`, the configurations those
    /// of the same sound as .m4a.
    #[test]
    fn headers_are_read() {
        for (header, config) in [
            ([0xff, 0xf1, 0x4c, 0x40, 0x1b, 0x7f, 0xfc], [0x11, 0x88]),
            ([0xff, 0xf1, 0x4c, 0x80, 0x24, 0xff, 0xfc], [0x11, 0x90]),
            ([0xff, 0xf1, 0x50, 0x80, 0x2b, 0x3f, 0xfc], [0x12, 0x10]),
        ] {
            let data = [&header[..], b"sound"].concat();
            assert_eq!(parted(&data), Some((config, &b"sound"[..])));
        }
        let with_checksum = [0xff, 0xf0, 0x50, 0x80, 0x02, 0x3f, 0xfc, 1, 2, 7];
        assert_eq!(parted(&with_checksum).unwrap().1, [7]);
        assert_eq!(parted(b"\x21\x10\x05\x20\xa4\x1b\xff\xc0"), None);
        assert_eq!(parted(&[0xff, 0xf1]), None);
    }
}
