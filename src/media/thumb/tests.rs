use super::*;
use crate::{color::lightness_table, frame::Range, media::drawn::*};
use ffmpeg_next::format::Pixel;

fn thumb(frame: Video, size: (usize, usize), rotation: u16) -> Vec<f32> {
    let info = VideoInfo {
        rotation,
        ..info_of(&frame)
    };
    let mut thumbs = Thumbnailer::new(&info, size);
    let thumb = thumbs.thumb(&Picture(frame)).unwrap();
    assert_eq!((thumb.width, thumb.height), size);
    assert_eq!(thumb.l.len(), size.0 * size.1);
    thumb.l
}

fn near(l: &[f32], truth: &[f32]) -> bool {
    l.len() == truth.len() && l.iter().zip(truth).all(|(l, t)| (l - t).abs() < 0.01)
}

#[test]
fn a_sample_is_the_lightness_of_the_average_code_of_its_area() {
    // Two columns over three: each covers one and a half.
    let frame = frame_of(Pixel::GRAY8, 3, 1, &[30, 90, 210]);
    let table = lightness_table(8, Range::Full);
    let at = |code: f32| {
        let i = code as usize;
        table[i] + (table[i + 1] - table[i]) * code.fract()
    };
    let truth = [at((30.0 + 45.0) / 1.5), at((45.0 + 210.0) / 1.5)];
    assert!(near(&thumb(frame, (2, 1), 0), &truth));
    // Larger than the picture: each sample lies in one pixel.
    let frame = frame_of(Pixel::GRAY8, 2, 1, &[0, 255]);
    assert!(near(
        &thumb(frame, (4, 3), 0),
        &[0., 0., 100., 100.].repeat(3)
    ));
}

#[test]
fn averages_agree_with_a_plain_loop_at_odd_sizes() {
    let (width, height, size) = (641, 361, (37, 23));
    for (pixel, depth) in [
        (Pixel::YUV420P, 8),
        (Pixel::YUV420P10LE, 10),
        (Pixel::YUYV422, 8),
        (Pixel::GRAY16BE, 16),
    ] {
        let luma = Noise(11).codes(width * height, depth);
        let frame = frame_of(pixel, width, height, &luma);
        let table = lightness_table(depth as u8, sampling_of(&frame).range);
        let covered = |i: usize, cells: usize, n: usize, at: usize| {
            let (from, to) = (
                (i * n) as f64 / cells as f64,
                ((i + 1) * n) as f64 / cells as f64,
            );
            (to.min(at as f64 + 1.0) - from.max(at as f64)).max(0.0)
        };
        let mut truth = Vec::new();
        for j in 0..size.1 {
            for i in 0..size.0 {
                let (mut sum, mut area) = (0.0, 0.0);
                for y in 0..height {
                    let rows = covered(j, size.1, height, y);
                    if rows == 0.0 {
                        continue;
                    }
                    for x in 0..width {
                        let part = rows * covered(i, size.0, width, x);
                        sum += part * f64::from(luma[y * width + x]);
                        area += part;
                    }
                }
                let code = sum / area;
                let (below, part) = (code as usize, code.fract() as f32);
                truth.push(table[below] + (table[below + 1] - table[below]) * part);
            }
        }
        assert!(near(&thumb(frame, size, 0), &truth), "{pixel:?}");
    }
}

#[test]
fn thumbnails_are_upright() {
    // Light in the coded picture's top left corner.
    let luma: Vec<u16> = (0..16 * 8)
        .map(|i| if i % 16 < 8 && i / 16 < 4 { 255 } else { 0 })
        .collect();
    let frame = || frame_of(Pixel::GRAY8, 16, 8, &luma);
    assert!(near(&thumb(frame(), (2, 2), 0), &[100., 0., 0., 0.]));
    assert!(
        near(&thumb(frame(), (2, 2), 90), &[0., 100., 0., 0.]),
        "top left goes to the top right"
    );
    assert!(near(&thumb(frame(), (2, 2), 180), &[0., 0., 0., 100.]));
    assert!(near(&thumb(frame(), (2, 2), 270), &[0., 0., 100., 0.]));
    assert_eq!(thumb(frame(), (4, 8), 90).len(), 32);
}

#[test]
fn tall_cells_do_not_overflow() {
    let frame = frame_of(Pixel::GRAY8, 2, 4000, &[255; 8000]);
    assert!(near(&thumb(frame, (1, 1), 0), &[100.0]));
}

#[test]
fn no_thumbnail_is_an_empty_one() {
    assert!(thumb(frame_of(Pixel::GRAY8, 2, 2, &[0; 4]), (0, 0), 0).is_empty());
}
