//! What is known of an input before its first frame is coloured: the main video, and one line a stream.

use super::{ffi, picture};
use crate::frame::VideoInfo;
use ffmpeg_next::{
    self as ffmpeg, Rational, codec::packet::side_data::Type as SideData,
    format::stream::Disposition, media::Type,
};

/// The stream to colour: of those that are no cover art and can be decoded, the default one, then the largest.
pub(super) fn main_video(input: &ffmpeg::format::context::Input) -> Option<usize> {
    let score = |stream: &ffmpeg::Stream<'_>| {
        let shape = ffi::stream_shape(stream);
        let decodable = ffmpeg::decoder::find(stream.parameters().id()).is_some();
        let default = stream.disposition().contains(Disposition::DEFAULT);
        let area = i64::from(shape.width) * i64::from(shape.height);
        (decodable, default, area, std::cmp::Reverse(stream.index()))
    };
    input
        .streams()
        .filter(|s| s.parameters().medium() == Type::Video && !is_cover(s))
        .max_by_key(score)
        .map(|s| s.index())
}

/// A picture that is attached to the film, not part of it.
pub(super) fn is_cover(stream: &ffmpeg::Stream<'_>) -> bool {
    stream.disposition().contains(Disposition::ATTACHED_PIC)
}

/// Describes the main video by its stream and its first frame.
pub(super) fn video_info(
    input: &ffmpeg::format::context::Input,
    stream: &ffmpeg::Stream<'_>,
    frame: &ffmpeg::frame::Video,
    duration: Option<f64>,
    frames: Option<u64>,
) -> VideoInfo {
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let rotation = rotation(stream, frame);
    let rate = ffi::frame_rate(input, stream);
    let aspect = ffi::sample_aspect(input, stream, frame);
    VideoInfo {
        width,
        height,
        display: display(width, height, aspect, rotation),
        rotation,
        codec: stream.parameters().id().name().to_owned(),
        pixel_format: pixel_name(frame.format()).to_owned(),
        sampling: picture::sampling_of(frame),
        time_base: pair(stream.time_base()),
        frame_rate: rate.map(pair),
        duration,
        frames: frames.or_else(|| {
            let (duration, rate) = duration.zip(rate)?;
            Some((duration * f64::from(rate)).round().max(1.0) as u64)
        }),
    }
}

fn pair(r: Rational) -> (i32, i32) {
    (r.numerator(), r.denominator())
}

/// Size and pixel format of a frame, for messages.
pub(super) fn shape(frame: &ffmpeg::frame::Video) -> String {
    format!(
        "{}x{} {}",
        frame.width(),
        frame.height(),
        pixel_name(frame.format())
    )
}

/// FFmpeg's name of a pixel format.
fn pixel_name(pixel: ffmpeg::format::Pixel) -> &'static str {
    pixel.descriptor().map_or("unknown", |d| d.name())
}

/// The size with square pixels, upright. Only the width is stretched, as players do.
fn display(width: usize, height: usize, aspect: Option<Rational>, rotation: u16) -> (usize, usize) {
    let stretch = aspect.map_or(1.0, f64::from);
    let wide = ((width as f64 * stretch).round() as usize).max(1);
    match rotation {
        90 | 270 => (height, wide),
        _ => (wide, height),
    }
}

/// Clockwise turn that makes the picture upright, to the nearest quarter.
fn rotation(stream: &ffmpeg::Stream<'_>, frame: &ffmpeg::frame::Video) -> u16 {
    let of_stream = stream
        .side_data()
        .find(|d| d.kind() == SideData::DisplayMatrix)
        .map(|d| quarter_turn(d.data()));
    let of_frame = || {
        frame
            .side_data(ffmpeg::frame::side_data::Type::DisplayMatrix)
            .map(|d| quarter_turn(d.data()))
    };
    of_stream.or_else(of_frame).unwrap_or(0)
}

/// FFmpeg's display matrix is nine 32-bit numbers, row-major; (a, b; c, d) in its upper left maps stored to shown
/// pixels: shown x = a x + c y, shown y = b x + d y, with y pointing down, so that atan2(b, a) is clockwise.
/// (av_display_rotation_get is its negative: counter-clockwise.)
fn quarter_turn(matrix: &[u8]) -> u16 {
    let at = |i: usize| -> Option<f64> {
        let bytes = matrix.get(4 * i..4 * i + 4)?.try_into().ok()?;
        Some(f64::from(i32::from_ne_bytes(bytes)))
    };
    let (Some(a), Some(b), Some(c), Some(d)) = (at(0), at(1), at(3), at(4)) else {
        return 0;
    };
    let (x, y) = (a.hypot(c), b.hypot(d));
    if x == 0.0 || y == 0.0 {
        return 0;
    }
    let degrees = (b / y).atan2(a / x).to_degrees();
    ((degrees / 90.0).round() as i32).rem_euclid(4) as u16 * 90
}

/// One line a stream: "0 video h264 1280x720 yuv420p bt709 tv 25 fps".
pub(super) fn stream_lines(input: &ffmpeg::format::context::Input) -> Vec<String> {
    input.streams().map(|s| stream_line(input, &s)).collect()
}

fn stream_line(input: &ffmpeg::format::context::Input, stream: &ffmpeg::Stream<'_>) -> String {
    let parameters = stream.parameters();
    let shape = ffi::stream_shape(stream);
    let mut words = vec![stream.index().to_string()];
    words.push(
        match parameters.medium() {
            Type::Video if is_cover(stream) => "cover",
            Type::Video => "video",
            Type::Audio => "audio",
            Type::Subtitle => "subtitle",
            Type::Attachment => "attachment",
            Type::Data => "data",
            Type::Unknown => "unknown",
        }
        .into(),
    );
    words.push(parameters.id().name().into());
    match parameters.medium() {
        Type::Video => {
            words.push(format!("{}x{}", shape.width, shape.height));
            words.extend(shape.pixel_format.map(Into::into));
            words.extend(shape.colors.into_iter().flatten().map(Into::into));
            if let Some(rate) = ffi::frame_rate(input, stream).filter(|_| !is_cover(stream)) {
                words.push(format!("{} fps", rounded(f64::from(rate))));
            }
        }
        Type::Audio => {
            words.push(format!("{} Hz", shape.sample_rate));
            words.push(channels(shape.channels));
        }
        _ => {}
    }
    let metadata = stream.metadata();
    let tags = ["language", "title", "filename"];
    words.extend(
        tags.iter()
            .filter_map(|t| metadata.get(t))
            .filter(|&v| v != "und")
            .map(Into::into),
    );
    let marks = [
        (Disposition::DEFAULT, "default"),
        (Disposition::FORCED, "forced"),
        (Disposition::HEARING_IMPAIRED, "for the hard of hearing"),
        (Disposition::COMMENT, "commentary"),
    ];
    let disposition = stream.disposition();
    words.extend(
        marks
            .iter()
            .filter(|(flag, _)| disposition.contains(*flag))
            .map(|(_, word)| (*word).into()),
    );
    words.join(" ")
}

fn rounded(rate: f64) -> String {
    let text = format!("{rate:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn channels(count: i32) -> String {
    match count {
        1 => "mono".into(),
        2 => "stereo".into(),
        n => format!("{n} channels"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(a: i32, b: i32, c: i32, d: i32) -> Vec<u8> {
        [a, b, 0, c, d, 0, 0, 0, 1 << 30]
            .iter()
            .flat_map(|v| v.to_ne_bytes())
            .collect()
    }

    #[test]
    fn turns_are_clockwise() {
        let one = 1 << 16;
        // As av_display_rotation_set writes -90, 180 and 90 degrees, which `ffmpeg` undoes with transpose=clock,
        // two flips and transpose=cclock.
        assert_eq!(quarter_turn(&matrix(one, 0, 0, one)), 0);
        assert_eq!(quarter_turn(&matrix(0, one, -one, 0)), 90);
        assert_eq!(quarter_turn(&matrix(-one, 0, 0, -one)), 180);
        assert_eq!(quarter_turn(&matrix(0, -one, one, 0)), 270);
        assert_eq!(quarter_turn(&matrix(0, 0, 0, 0)), 0);
        assert_eq!(quarter_turn(&[1, 2]), 0);
    }

    #[test]
    fn display_size_is_square_pixels_upright() {
        let pal = Some(Rational(16, 11));
        assert_eq!(display(720, 576, pal, 0), (1047, 576));
        assert_eq!(display(720, 576, pal, 90), (576, 1047));
        assert_eq!(display(720, 576, None, 180), (720, 576));
    }
}
