//! A picture to draw lines and words on.

use std::ops::Range;

use image::{Rgb, RgbImage};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

/// Red, green, blue.
pub(super) type Colour = [u8; 3];

/// Height of a line of text in pixels.
pub(super) const TEXT: i32 = 16;

const SIZE: RasterHeight = RasterHeight::Size16;

/// Where a word's given point is.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Left,
    Middle,
    Right,
}

/// How a line looks.
#[derive(Clone, Copy)]
pub(super) struct Pen {
    pub colour: Colour,
    /// In pixels.
    pub width: f32,
    /// 0 is invisible, 1 covers.
    pub opacity: f32,
    pub dashed: bool,
}

/// Width of a word in pixels.
pub(super) fn width_of(text: &str) -> i32 {
    (text.chars().count() * get_raster_width(FontWeight::Regular, SIZE)) as i32
}

/// Draws one line of text; `y` is its top. Characters beyond ASCII become question marks.
pub(super) fn text(
    image: &mut RgbImage,
    (x, y): (i32, i32),
    anchor: Anchor,
    colour: Colour,
    text: &str,
) {
    let left = match anchor {
        Anchor::Left => x,
        Anchor::Middle => x - width_of(text) / 2,
        Anchor::Right => x - width_of(text),
    };
    let advance = get_raster_width(FontWeight::Regular, SIZE) as i32;
    for (i, c) in (0..).zip(text.chars()) {
        let raster = |c| get_raster(c, FontWeight::Regular, SIZE);
        let Some(letter) = raster(c).or_else(|| raster('?')) else {
            continue;
        };
        for (dy, row) in (0..).zip(letter.rows()) {
            for (dx, ink) in (0..).zip(row) {
                let at = (left + i * advance + dx, y + dy);
                blend(image, at, colour, f32::from(*ink) / 255.);
            }
        }
    }
}

/// Fills a rectangle of `size` pixels.
pub(super) fn fill(
    image: &mut RgbImage,
    (x, y): (i32, i32),
    (width, height): (i32, i32),
    colour: Colour,
) {
    for at in (y..y + height).flat_map(|y| (x..x + width).map(move |x| (x, y))) {
        blend(image, at, colour, 1.);
    }
}

/// Draws a line through points, smooth at its edges. Where it meets itself it is no darker.
pub(super) fn line(image: &mut RgbImage, points: &[(f32, f32)], pen: Pen) {
    let (columns, rows) = around(image, points, pen);
    let width = columns.len();
    let mut cover = vec![0f32; width * rows.len()];
    let mut begun = 0.;
    for pair in points.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let (near_columns, near_rows) = around(image, pair, pen);
        for y in near_rows {
            for x in near_columns.clone() {
                let (distance, along) = distance((x as f32, y as f32), from, to);
                let shown = !pen.dashed || (begun + along) % 10. < 6.;
                let ink = (pen.width / 2. + 0.5 - distance).clamp(0., 1.);
                let at = (y - rows.start) as usize * width + (x - columns.start) as usize;
                cover[at] = cover[at].max(if shown { ink } else { 0. });
            }
        }
        begun += (to.0 - from.0).hypot(to.1 - from.1);
    }
    let places = rows.flat_map(|y| columns.clone().map(move |x| (x, y)));
    for (at, ink) in places.zip(cover) {
        blend(image, at, pen.colour, ink * pen.opacity);
    }
}

/// The columns and rows of the picture that a line through points may touch.
fn around(image: &RgbImage, points: &[(f32, f32)], pen: Pen) -> (Range<i32>, Range<i32>) {
    let reach = pen.width / 2. + 1.;
    let range = |of: fn(&(f32, f32)) -> f32, end: u32| {
        let least = points.iter().map(of).fold(f32::INFINITY, f32::min) - reach;
        let most = points.iter().map(of).fold(f32::NEG_INFINITY, f32::max) + reach;
        let end = end as i32;
        let first = (least as i32).clamp(0, end);
        first..(most as i32).saturating_add(1).clamp(first, end)
    };
    (
        range(|p| p.0, image.width()),
        range(|p| p.1, image.height()),
    )
}

/// Draws a filled circle.
pub(super) fn dot(image: &mut RgbImage, at: (f32, f32), radius: f32, colour: Colour) {
    let pen = Pen {
        colour,
        width: 2. * radius,
        opacity: 1.,
        dashed: false,
    };
    line(image, &[at, at], pen);
}

/// How far `p` is from the line between two points, and how far along that line its nearest point lies.
fn distance(p: (f32, f32), from: (f32, f32), to: (f32, f32)) -> (f32, f32) {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let length = dx.hypot(dy);
    let along = match length > 0. {
        true => (((p.0 - from.0) * dx + (p.1 - from.1) * dy) / length).clamp(0., length),
        false => 0.,
    };
    let share = along / length.max(f32::MIN_POSITIVE);
    let near = (from.0 + dx * share, from.1 + dy * share);
    ((p.0 - near.0).hypot(p.1 - near.1), along)
}

fn blend(image: &mut RgbImage, (x, y): (i32, i32), colour: Colour, ink: f32) {
    let at = (u32::try_from(x), u32::try_from(y));
    let (Ok(x), Ok(y)) = at else { return };
    if ink > 0. && x < image.width() && y < image.height() {
        let Rgb(old) = image.get_pixel_mut(x, y);
        for (old, new) in old.iter_mut().zip(colour) {
            *old = (f32::from(*old) + (f32::from(new) - f32::from(*old)) * ink).round() as u8;
        }
    }
}
