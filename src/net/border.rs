//! Border: what lies around the picture within the frame: letterbox and pillarbox bars, the mask of a scanned film.
//!
//! It is no part of what was filmed. A network that sees it takes a bright one for sky, and every one for a part of the
//! scene; so it is shown the picture mirrored there instead, and the border itself stays without colour.

use std::ops::Range;

use crate::frame::{AbMap, Thumb};

/// Most that the lightness of a border differs from its tone: what compression makes of a drawn one.
const EVEN: f32 = 1.6;
/// Least that the first line of the picture differs from that, on some sample; less is one flat thing that goes on, such
/// as a sky.
const STEP: f32 = 8.;
/// Least share of each side that is the picture's.
const LEAST: f32 = 0.2;

/// The part of a thumbnail that is picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Border {
    /// Size of the thumbnail.
    size: (usize, usize),
    /// Columns of the picture.
    columns: Range<usize>,
    /// Rows of the picture.
    rows: Range<usize>,
}

impl Border {
    /// Looks for bars of one flat tone on two opposite sides, left and right first, then above and below what is left. A
    /// bar on one side alone may be anything: a wall, a sky.
    pub fn of(thumb: &Thumb) -> Self {
        let (width, height) = (thumb.width, thumb.height);
        let sample = |x: usize, y: usize| thumb.l[y * width + x];
        let columns = between_bars(width, height, sample);
        let first = columns.start;
        let rows = between_bars(height, columns.len(), |y, x| sample(first + x, y));
        Self {
            size: (width, height),
            columns,
            rows,
        }
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        (self.columns.len(), self.rows.len()) == self.size
    }

    /// Lightness of the thumbnail with the picture mirrored into the border.
    pub fn mirrored(&self, thumb: &Thumb) -> Vec<f32> {
        let (columns, rows) = (
            inner(&self.columns, self.size.0),
            inner(&self.rows, self.size.1),
        );
        let row = |y: usize| {
            let row = &thumb.l[reflected(y, &rows) * thumb.width..][..thumb.width];
            let columns = &columns;
            (0..thumb.width).map(move |x| row[reflected(x, columns)])
        };
        (0..thumb.height).flat_map(row).collect()
    }

    /// Takes the colour off the cells whose middle lies in the border.
    pub fn bleach(&self, ab: &mut AbMap) {
        let outside = |cell: usize, cells: usize, samples: usize, picture: &Range<usize>| {
            let middle = (2 * cell + 1) * samples / (2 * cells.max(1));
            !picture.contains(&middle)
        };
        for cell in 0..ab.a.len() {
            let (x, y) = (cell % ab.width, cell / ab.width);
            if outside(x, ab.width, self.size.0, &self.columns)
                || outside(y, ab.height, self.size.1, &self.rows)
            {
                (ab.a[cell], ab.b[cell]) = (0., 0.);
            }
        }
    }
}

/// The lines of `lines`, of `length` samples each, between two bars of one tone; all where there are none.
fn between_bars(lines: usize, length: usize, sample: impl Fn(usize, usize) -> f32) -> Range<usize> {
    let all = 0..lines;
    if lines == 0 || length == 0 {
        return all;
    }
    let tone = (0..length).map(|i| sample(0, i)).sum::<f32>() / length as f32;
    let apart = |line: usize| {
        let apart = (0..length).map(|i| (sample(line, i) - tone).abs());
        apart.fold(0., f32::max)
    };
    let even = |line: &usize| apart(*line) <= EVEN;
    let (before, after) = (
        all.clone().take_while(even).count(),
        all.clone().rev().take_while(even).count(),
    );
    let picture = before..lines.saturating_sub(after);
    let found = before > 0 && after > 0 && picture.len() as f32 >= LEAST * lines as f32;
    // A line that is both border and picture may lie between.
    let begins = |line: usize, next: usize| apart(line).max(apart(next)) >= STEP;
    match found
        && begins(picture.start, picture.start + 1)
        && begins(picture.end - 1, picture.end - 2)
    {
        true => picture,
        false => all,
    }
}

/// The lines that are picture only: the first and the last beside a border are partly it.
fn inner(picture: &Range<usize>, lines: usize) -> Range<usize> {
    let border = |there: bool| usize::from(there && picture.len() > 2);
    picture.start + border(picture.start > 0)..picture.end - border(picture.end < lines)
}

/// The line that a line is the mirror image of.
fn reflected(line: usize, picture: &Range<usize>) -> usize {
    let (count, line) = (
        picture.len() as isize,
        line as isize - picture.start as isize,
    );
    let place = line.rem_euclid(2 * count);
    picture.start + place.min(2 * count - 1 - place) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of waves, within a border of this tone.
    fn framed(size: (usize, usize), columns: Range<usize>, rows: Range<usize>, tone: f32) -> Thumb {
        let sample = |i: usize| {
            let (x, y) = (i % size.0, i / size.0);
            match columns.contains(&x) && rows.contains(&y) {
                true => 50. + 30. * (x as f32 * 0.7).sin() + 15. * (y as f32 * 0.9).cos(),
                false => tone,
            }
        };
        Thumb {
            width: size.0,
            height: size.1,
            l: (0..size.0 * size.1).map(sample).collect(),
        }
    }

    #[test]
    fn bars_of_any_tone_are_found_on_two_sides_or_four() {
        for tone in [0., 7., 40., 100.] {
            for (columns, rows) in [
                (8..56, 0..32),
                (0..64, 4..29),
                (22..42, 0..32),
                (6..60, 3..30),
            ] {
                let border = Border::of(&framed((64, 32), columns.clone(), rows.clone(), tone));
                assert_eq!((&border.columns, &border.rows), (&columns, &rows), "{tone}");
                assert!(!border.is_empty());
            }
        }
    }

    #[test]
    fn what_is_no_border_is_left() {
        // Nothing around it; a sky above only; a night; nothing but one tone; a slow gradient.
        let plain = framed((64, 32), 0..64, 0..32, 0.);
        let sky = framed((64, 32), 0..64, 10..32, 80.);
        let sliver = framed((64, 32), 30..34, 0..32, 0.);
        let night = framed((64, 32), 0..0, 0..0, 2.);
        let mut slow = plain.clone();
        slow.l = (0..64 * 32).map(|i| (i / 64) as f32).collect();
        for thumb in [plain, sky, sliver, night, slow] {
            let border = Border::of(&thumb);
            assert!(border.is_empty(), "{border:?}");
            assert_eq!(border.mirrored(&thumb), thumb.l);
        }
        let empty = Border::of(&Thumb::empty());
        assert!(empty.is_empty());
    }

    #[test]
    fn the_picture_goes_on_mirrored_where_the_border_was() {
        let thumb = framed((64, 32), 20..44, 0..32, 0.);
        let mirrored = Border::of(&thumb).mirrored(&thumb);
        for y in 0..32 {
            let (row, seen) = (&thumb.l[64 * y..][..64], &mirrored[64 * y..][..64]);
            // The outermost lines of the picture may be partly border: they are made anew too.
            assert_eq!(row[21..43], seen[21..43]);
            for i in 0..21 {
                assert_eq!(seen[20 - i], row[21 + i]);
                assert_eq!(seen[43 + i], row[42 - i]);
            }
        }
    }

    #[test]
    fn the_border_has_no_colour() {
        let border = Border::of(&framed((64, 32), 16..48, 0..32, 60.));
        let mut ab = AbMap {
            width: 16,
            height: 8,
            a: vec![10.; 128],
            b: vec![-5.; 128],
        };
        border.bleach(&mut ab);
        for (cell, (a, b)) in ab.a.iter().zip(&ab.b).enumerate() {
            let inside = (4..12).contains(&(cell % 16));
            assert_eq!((*a, *b), if inside { (10., -5.) } else { (0., 0.) });
        }
    }
}
