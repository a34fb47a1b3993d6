//! The light of the display on which a film was graded (HDR10), from side data to an encoder's settings.

use super::ffi::output::StreamCopy;
use ffmpeg_next::codec::packet::side_data::Type as SideData;

/// x265's settings for the light of the display on which the film was graded, from the stream's side data.
pub(super) fn x265_params(stream: &StreamCopy) -> Vec<String> {
    let mastering = stream.side_data(SideData::MasteringDisplayMetadata);
    let light = stream.side_data(SideData::ContentLightLevel);
    let mut params = Vec::new();
    params.extend(mastering.and_then(mastering_param));
    params.extend(light.and_then(|bytes| {
        let (max, average) = (u32_at(bytes, 0)?, u32_at(bytes, 4)?);
        Some(format!("max-cll={max},{average}"))
    }));
    params
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(four))
}

/// `AVMasteringDisplayMetadata` as libavutil lays it out: rationals of primaries (R, G, B), white point, least and
/// most luminance, then two flags.
fn mastering_param(bytes: &[u8]) -> Option<String> {
    let rational = |i: usize, unit: f64| {
        let (n, d) = (
            u32_at(bytes, i * 8)? as i32,
            u32_at(bytes, i * 8 + 4)? as i32,
        );
        (d != 0).then(|| (f64::from(n) / f64::from(d) * unit).round() as i64)
    };
    let complete = u32_at(bytes, 80)? != 0 && u32_at(bytes, 84)? != 0;
    let xy = |i: usize| Some((rational(i, 50_000.0)?, rational(i + 1, 50_000.0)?));
    let ((rx, ry), (gx, gy), (bx, by), (wx, wy)) = (xy(0)?, xy(2)?, xy(4)?, xy(6)?);
    let (least, most) = (rational(8, 10_000.0)?, rational(9, 10_000.0)?);
    complete.then(|| {
        format!("master-display=G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})L({most},{least})")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The BT.2020 primaries, D65 and 1000 cd/m2 down to 0.005, in x265's units of 1/50000 and 1/10000.
    #[test]
    fn mastering_display_in_x265_words() {
        let primaries = [(34000, 16000), (13250, 34500), (7500, 3000), (15635, 16450)];
        let mut numbers: Vec<i32> = primaries
            .iter()
            .flat_map(|&(x, y)| [x, 50_000, y, 50_000])
            .collect();
        numbers.extend([50, 10_000, 10_000_000, 10_000, 1, 1]);
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_ne_bytes()).collect();
        let told = mastering_param(&bytes).unwrap();
        let expected = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)";
        assert_eq!(told, format!("master-display={expected}"));
        assert_eq!(mastering_param(&bytes[..80]), None);
    }
}
