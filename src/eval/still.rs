//! The stillest patch of a film, and what colour it has over time: where the picture stands still, so should colour.
//!
//! Frames are not kept and the patch is known only at the end of the film. So of lightness a mean and a spread of every
//! sample are kept, of the present scene and of the longest before it; and of colour its mean in every square of a grid
//! of which one will be the patch, less than 3 KB a frame and contestant at 16:9.

use std::ops::RangeInclusive;

use crate::frame::{AbMap, Thumb};

/// Squares along the short side of the picture.
const SQUARES: usize = 12;
/// Mean lightness of a square that is neither black nor blown out.
const EXPOSED: RangeInclusive<f32> = 15.0..=90.0;

/// Squares side by side from the upper left; what remains at the right and below belongs to none.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    width: usize,
    side: usize,
    columns: usize,
    rows: usize,
}

impl Grid {
    /// Over pictures of this width and height in samples.
    pub fn over((width, height): (usize, usize)) -> Self {
        let side = (width.min(height) / SQUARES).max(1);
        Self {
            width,
            side,
            columns: width / side,
            rows: height / side,
        }
    }

    /// Mean a and b of every square, CIE units; squares are row-major.
    pub fn colours(&self, map: &AbMap) -> Vec<[f32; 2]> {
        let pairs = self.means(&map.a).zip(self.means(&map.b));
        pairs.map(|(a, b)| [a, b]).collect()
    }

    /// Left, top and side of a square, in samples.
    pub fn square(&self, number: usize) -> (usize, usize, usize) {
        let (column, row) = (number % self.columns, number / self.columns);
        (column * self.side, row * self.side, self.side)
    }

    fn means(&self, plane: &[f32]) -> impl Iterator<Item = f32> {
        (0..self.columns * self.rows).map(|number| {
            let (left, top, side) = self.square(number);
            let row = |y: usize| plane[y * self.width + left..][..side].iter().sum::<f32>();
            (top..top + side).map(row).sum::<f32>() / (side * side) as f32
        })
    }

    /// The square whose lightness varies least over the scene, of those that are exposed, where there are any.
    fn stillest(&self, scene: &Scene) -> Option<usize> {
        let lightness = self.means(&scene.mean);
        let squares = lightness.zip(self.means(&scene.squares)).enumerate();
        let order = |(_, (lightness, squares)): &(usize, (f32, f32))| {
            (!EXPOSED.contains(lightness), *squares)
        };
        let stillest = squares.min_by(|x, y| {
            let ((x_out, x), (y_out, y)) = (order(x), order(y));
            x_out.cmp(&y_out).then(x.total_cmp(&y))
        });
        stillest.map(|(number, _)| number)
    }
}

/// Lightness over a scene, sample by sample.
#[derive(Clone, Debug, Default)]
struct Scene {
    frames: usize,
    mean: Vec<f32>,
    /// Sums of squared differences from the mean.
    squares: Vec<f32>,
}

impl Scene {
    /// Welford's update: what does not change at all has a spread of exactly nothing.
    fn push(&mut self, lightness: &[f32]) {
        self.frames += 1;
        self.mean.resize(lightness.len(), 0.);
        self.squares.resize(lightness.len(), 0.);
        let sums = self.mean.iter_mut().zip(&mut self.squares);
        for ((mean, squares), l) in sums.zip(lightness) {
            let before = l - *mean;
            *mean += before / self.frames as f32;
            *squares += before * (l - *mean);
        }
    }
}

/// How lightness varies over a film's longest scene, the first of them where there are several.
#[derive(Clone, Debug, Default)]
pub struct Stillness {
    scene: Scene,
    /// The longest of the scenes before.
    longest: Scene,
}

impl Stillness {
    /// The next frame, of the size of all; whether it begins a scene.
    pub fn push(&mut self, thumb: &Thumb, cut: bool) {
        if cut {
            let over = std::mem::take(&mut self.scene);
            if over.frames > self.longest.frames {
                self.longest = over;
            }
        }
        self.scene.push(&thumb.l);
    }

    /// Number of the stillest square; `None` without a frame.
    pub fn stillest(&self, grid: &Grid) -> Option<usize> {
        let last = self.scene.frames > self.longest.frames;
        let scene = if last { &self.scene } else { &self.longest };
        (scene.frames > 0).then(|| grid.stillest(scene))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: (usize, usize) = (50, 24);

    /// Pushes `frames` frames of lightness 50 that sways everywhere but in one square, which has `lightness`.
    fn scene(
        stillness: &mut Stillness,
        frames: usize,
        (left, top): (usize, usize),
        lightness: f32,
    ) {
        for frame in 0..frames {
            let sample = |i: usize| {
                let (x, y) = (i % SIZE.0, i / SIZE.0);
                match (left..left + 2).contains(&x) && (top..top + 2).contains(&y) {
                    true => lightness,
                    false => 50. + (frame % 3) as f32,
                }
            };
            let thumb = Thumb {
                width: SIZE.0,
                height: SIZE.1,
                l: (0..SIZE.0 * SIZE.1).map(sample).collect(),
            };
            stillness.push(&thumb, frame == 0);
        }
    }

    fn found(stillness: &Stillness) -> Option<(usize, usize, usize)> {
        let grid = Grid::over(SIZE);
        stillness.stillest(&grid).map(|number| grid.square(number))
    }

    #[test]
    fn the_longest_scene_says_which_square_is_stillest() {
        let mut stillness = Stillness::default();
        assert_eq!(found(&stillness), None, "no frame");
        scene(&mut stillness, 4, (8, 4), 30.);
        assert_eq!(found(&stillness), Some((8, 4, 2)));
        scene(&mut stillness, 9, (46, 22), 30.);
        assert_eq!(found(&stillness), Some((46, 22, 2)), "the last one");
        for (frames, corner) in [(5, (0, 0)), (3, (4, 2))] {
            scene(&mut stillness, frames, corner, 30.);
            assert_eq!(found(&stillness), Some((46, 22, 2)), "one before");
        }
    }

    #[test]
    fn black_and_white_squares_are_no_choice_unless_there_is_no_other() {
        for lightness in [3., 97.] {
            let mut stillness = Stillness::default();
            scene(&mut stillness, 4, (8, 4), lightness);
            assert_ne!(
                found(&stillness),
                Some((8, 4, 2)),
                "of lightness {lightness}"
            );
        }
        let mut dark = Stillness::default();
        for l in [1., 2.] {
            let thumb = Thumb {
                width: 12,
                height: 12,
                l: (0..144).map(|i| if i == 30 { 1. } else { l }).collect(),
            };
            dark.push(&thumb, l == 1.);
        }
        assert_eq!(dark.stillest(&Grid::over((12, 12))), Some(30));
    }

    #[test]
    fn colours_are_means_over_squares() {
        // Squares of 2 x 2; the last column and row belong to none.
        let (width, height) = (27, 25);
        let a: Vec<f32> = (0..width * height).map(|i| (i % width) as f32).collect();
        let b = (0..width * height).map(|i| (i / width) as f32).collect();
        let grid = Grid::over((width, height));
        let colours = grid.colours(&AbMap {
            width,
            height,
            a,
            b,
        });
        assert_eq!(colours.len(), 13 * 12);
        assert_eq!((colours[0], colours[13 + 2]), ([0.5, 0.5], [4.5, 2.5]));
        assert_eq!(grid.square(13 + 2), (4, 2, 2));
    }
}
