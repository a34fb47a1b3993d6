//! Frames drawn in code, for tests: luma is known before any format is packed.

use super::picture::{pixel_name, sampling_of};
use crate::frame::VideoInfo;
use ffmpeg_next::{format::Pixel, frame::Video};

/// Even noise, the same every time (splitmix64).
pub struct Noise(pub u64);

impl Noise {
    pub fn next(&mut self) -> u16 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) as u16
    }

    pub fn codes(&mut self, count: usize, depth: u32) -> Vec<u16> {
        (0..count).map(|_| self.next() >> (16 - depth)).collect()
    }
}

/// A frame whose every byte is noise (so chroma, alpha and padding are not what anyone expects).
pub fn noise_frame(pixel: Pixel, width: usize, height: usize) -> Video {
    let mut frame = Video::new(pixel, width as u32, height as u32);
    let mut noise = Noise(1);
    for plane in 0..frame.planes() {
        frame.data_mut(plane).fill_with(|| noise.next() as u8);
    }
    frame
}

/// Writes component bytes at a pixel: `step` bytes a pixel, `offset` before it.
pub fn draw(
    frame: &mut Video,
    plane: usize,
    (x, y): (usize, usize),
    (step, offset): (usize, usize),
    bytes: &[u8],
) {
    let at = y * frame.stride(plane) + x * step + offset;
    frame.data_mut(plane)[at..at + bytes.len()].copy_from_slice(bytes);
}

/// A frame of noise with this luma, row-major, packed by hand from FFmpeg's description of the format (pixfmt.h).
pub fn frame_of(pixel: Pixel, width: usize, height: usize, luma: &[u16]) -> Video {
    let mut frame = noise_frame(pixel, width, height);
    let wide = frame.stride(0) >= 2 * width && sampling_of(&frame).depth > 8;
    for (i, &v) in luma.iter().enumerate() {
        let at = (i % width, i / width);
        let (low, le, be) = ([v as u8], v.to_le_bytes(), v.to_be_bytes());
        let mut whole = |step, offset, bytes: &[u8]| draw(&mut frame, 0, at, (step, offset), bytes);
        match pixel {
            Pixel::YUYV422 | Pixel::YVYU422 | Pixel::YA8 => whole(2, 0, &low),
            Pixel::UYVY422 => whole(2, 1, &low),
            Pixel::UYYVYY411 => {
                let place = [1, 2, 4, 5][at.0 % 4];
                draw(&mut frame, 0, (at.0 / 4, at.1), (6, place), &low);
            }
            Pixel::P010LE | Pixel::P210LE => whole(2, 0, &(v << 6).to_le_bytes()),
            Pixel::Y210LE => whole(4, 0, &(v << 6).to_le_bytes()),
            Pixel::AYUV64LE => whole(8, 2, &le),
            Pixel::YA16BE => whole(4, 0, &be),
            Pixel::GRAY16BE | Pixel::GRAY10BE | Pixel::YUV420P10BE => whole(2, 0, &be),
            Pixel::GRAYF32LE => whole(4, 0, &(f32::from(v) / 65535.0).to_le_bytes()),
            _ if wide => whole(2, 0, &le),
            _ => whole(1, 0, &low),
        }
    }
    frame
}

/// The luma of a planar frame, row-major.
pub fn luma_of(frame: &Video) -> Vec<u16> {
    plane_of(frame, 0, frame.width() as usize, frame.height() as usize)
}

/// A plane of a planar frame.
pub fn plane_of(frame: &Video, plane: usize, width: usize, height: usize) -> Vec<u16> {
    let (data, stride) = (frame.data(plane), frame.stride(plane));
    let bytes = if sampling_of(frame).depth == 8 { 1 } else { 2 };
    let code = |y: usize, x: usize| match bytes {
        1 => u16::from(data[y * stride + x]),
        _ => u16::from_ne_bytes([data[y * stride + 2 * x], data[y * stride + 2 * x + 1]]),
    };
    (0..height)
        .flat_map(|y| (0..width).map(move |x| (y, x)))
        .map(|(y, x)| code(y, x))
        .collect()
}

/// What a source would say of a film of such frames.
pub fn info_of(frame: &Video) -> VideoInfo {
    let size = (frame.width() as usize, frame.height() as usize);
    VideoInfo {
        width: size.0,
        height: size.1,
        display: size,
        rotation: 0,
        codec: "drawn".into(),
        pixel_format: pixel_name(frame.format()).into(),
        sampling: sampling_of(frame),
        time_base: (1, 25),
        frame_rate: Some((25, 1)),
        duration: None,
        frames: None,
    }
}
