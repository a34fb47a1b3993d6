//! Resize: a part of a picture at another size.

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};
use image::RgbImage;

use crate::error::{Error, Result};

/// Left, top, width and height of a part of a picture.
pub(super) type Part = (u32, u32, u32, u32);

/// A part of a picture at another size: bilinear, and areas are averaged where it shrinks.
pub(super) fn resized(picture: &RgbImage, part: Part, (w, h): (u32, u32)) -> Result<RgbImage> {
    let defect = |e: String| Error::internal("resize", e);
    let (width, height) = picture.dimensions();
    let from = ImageRef::new(width, height, picture.as_raw(), PixelType::U8x3)
        .map_err(|e| defect(e.to_string()))?;
    let mut to = Image::new(w, h, PixelType::U8x3);
    let (left, top, wide, high) = part;
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
        .crop(left.into(), top.into(), wide.into(), high.into());
    Resizer::new()
        .resize(&from, &mut to, &options)
        .map_err(|e| defect(e.to_string()))?;
    RgbImage::from_raw(w, h, to.into_vec())
        .ok_or_else(|| defect("a resized picture has another size".into()))
}

/// A picture whose short side is at most `short_side`.
pub(super) fn shrunk(picture: RgbImage, short_side: u32) -> Result<RgbImage> {
    let (w, h) = picture.dimensions();
    let short = w.min(h);
    if short <= short_side {
        return Ok(picture);
    }
    let scaled = |side: u32| {
        let side = f64::from(side) * f64::from(short_side) / f64::from(short);
        (side.round() as u32).max(1)
    };
    resized(&picture, (0, 0, w, h), (scaled(w), scaled(h)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::imageops;

    #[test]
    fn a_resized_part_is_what_the_slow_way_makes() {
        let wave = |x: u32, y: u32| {
            let v = |a: f32| (127. + 120. * a.sin()) as u8;
            image::Rgb([v(x as f32 / 9.), v(y as f32 / 7.), v((x + y) as f32 / 11.)])
        };
        let picture = RgbImage::from_fn(120, 90, wave);
        for size in [(20, 30), (64, 64), (100, 80)] {
            let fast = resized(&picture, (10, 5, 80, 70), size).unwrap();
            let part = imageops::crop_imm(&picture, 10, 5, 80, 70);
            let slow = imageops::resize(&*part, size.0, size.1, imageops::FilterType::Triangle);
            let pairs = fast.as_raw().iter().zip(slow.as_raw());
            let sum: u32 = pairs.map(|(f, s)| u32::from(f.abs_diff(*s))).sum();
            // Rounded between the two directions, and the part's edges see what lies beside it.
            let mean = f64::from(sum) / fast.as_raw().len() as f64;
            assert!(mean < 1., "{size:?}: {mean}");
        }
    }

    #[test]
    fn large_pictures_are_shrunk_and_small_ones_left_alone() {
        let size = |w, h| shrunk(RgbImage::new(w, h), 100).unwrap().dimensions();
        assert_eq!(size(300, 200), (150, 100));
        assert_eq!(size(200, 301), (100, 151));
        assert_eq!(size(90, 60), (90, 60));
    }
}
