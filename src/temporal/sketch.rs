//! Sketch: a small grey picture of a frame, made for matching, with its halves and quarters.

use std::borrow::Cow;

/// Samples that a picture goes on for beyond its border, which is what it repeats there.
pub const MARGIN: usize = 40;

/// Long side of a sketch.
pub const LONG_SIDE: usize = 320;

/// One size of a sketch: lightness in 8 bits, with a margin around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grey {
    /// Width in samples, without the margin.
    pub width: usize,
    /// Height in samples, without the margin.
    pub height: usize,
    samples: Vec<u8>,
}

impl Grey {
    /// From dense rows.
    fn new(width: usize, rows: impl ExactSizeIterator<Item = Vec<u8>>) -> Self {
        let (stride, height) = (width + 2 * MARGIN, rows.len());
        let mut samples = Vec::with_capacity(stride * (height + 2 * MARGIN));
        let copy = |samples: &mut Vec<u8>, first: usize, times: usize| {
            (0..times).for_each(|_| samples.extend_from_within(first..first + stride));
        };
        for (y, row) in rows.enumerate() {
            samples.extend([row[0]; MARGIN]);
            samples.extend(&row);
            samples.extend([row[width - 1]; MARGIN]);
            if y == 0 {
                copy(&mut samples, 0, MARGIN);
            }
        }
        let last = samples.len() - stride;
        copy(&mut samples, last, MARGIN);
        Self {
            width,
            height,
            samples,
        }
    }

    /// Samples from one row to the next.
    #[inline]
    pub fn stride(&self) -> usize {
        self.width + 2 * MARGIN
    }

    /// The samples from (x, y) on, row after row, `stride` apart. Beyond the margin it is the margin's border.
    #[inline]
    pub fn from(&self, x: i32, y: i32) -> &[u8] {
        let within =
            |at: i32, end: usize| (at + MARGIN as i32).clamp(0, (end + MARGIN) as i32) as usize;
        &self.samples[within(y, self.height) * self.stride() + within(x, self.width)..]
    }

    fn mean(&self) -> f32 {
        let Self { width, height, .. } = *self;
        let row = |y: usize| {
            let row = &self.from(0, y as i32)[..width];
            row.iter().map(|l| u32::from(*l)).sum::<u32>()
        };
        (0..height).map(row).sum::<u32>() as f32 / (width * height) as f32
    }

    fn darkened(&self, by: u8) -> Self {
        Self {
            samples: self.samples.iter().map(|l| l.saturating_sub(by)).collect(),
            ..*self
        }
    }

    fn halved(&self) -> Self {
        let (width, height) = (self.width.div_ceil(2), self.height.div_ceil(2));
        let row = |y: usize| {
            let [upper, lower] =
                [0, 1].map(|row| self.from(0, 2 * y as i32 + row).as_chunks::<2>().0);
            let pairs = upper.iter().zip(lower).take(width);
            let mean = |(upper, lower): (&[u8; 2], &[u8; 2])| {
                let sum: u16 = upper.iter().chain(lower).map(|l| u16::from(*l)).sum();
                ((sum + 2) / 4) as u8
            };
            pairs.map(mean).collect()
        };
        Self::new(width, (0..height).map(row))
    }
}

/// A frame's small grey picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Sketch {
    /// Whole, halved, and halved again.
    pub levels: [Grey; 3],
    /// Mean of the whole one.
    pub mean: f32,
}

impl Sketch {
    /// The size of the sketch of a picture: its long side is [`LONG_SIDE`], its shape kept.
    pub fn size_for(width: usize, height: usize) -> (usize, usize) {
        let long = width.max(height).max(1);
        let side = |side: usize| (side * LONG_SIDE).div_ceil(long).max(16);
        (side(width), side(height))
    }

    /// From lightness, 0..100, row-major, of this width and height.
    pub fn new(l: &[f32], (width, height): (usize, usize)) -> Self {
        let row = |y: usize| {
            let row = &l[y * width..][..width];
            row.iter().map(|l| (l * 2.55 + 0.5) as u8).collect()
        };
        let whole = Grey::new(width, (0..height).map(row));
        let half = whole.halved();
        let quarter = half.halved();
        Self {
            mean: whole.mean(),
            levels: [whole, half, quarter],
        }
    }

    /// The whole one.
    pub fn whole(&self) -> &Grey {
        &self.levels[0]
    }

    /// Width and height.
    pub fn size(&self) -> (usize, usize) {
        (self.whole().width, self.whole().height)
    }

    /// As lightness 0..100 of another, smaller size: means of areas.
    pub fn shrunk(&self, (width, height): (usize, usize)) -> Vec<f32> {
        let span = |i: usize, cells: usize, samples: usize| {
            let first = i * samples / cells;
            first..((i + 1) * samples / cells).max(first + 1)
        };
        let (from_width, from_height) = self.size();
        let mut all = Vec::with_capacity(width * height);
        for y in 0..height {
            let rows = span(y, height, from_height);
            let mut sums = vec![0u32; from_width];
            for row in rows.clone() {
                let row = self.whole().from(0, row as i32);
                sums.iter_mut()
                    .zip(row)
                    .for_each(|(sum, l)| *sum += u32::from(*l));
            }
            all.extend((0..width).map(|x| {
                let columns = span(x, width, from_width);
                let count = (columns.len() * rows.len()) as f32;
                sums[columns].iter().sum::<u32>() as f32 / (2.55 * count)
            }));
        }
        all
    }

    /// Darkened by as much as it is lighter, on the mean, than another: two frames of one thing in another light are
    /// alike then.
    pub fn levelled(&self, other: &Self) -> Cow<'_, Self> {
        let lighter = (self.mean - other.mean).round();
        match lighter >= 1. {
            true => Cow::Owned(Self {
                levels: self
                    .levels
                    .each_ref()
                    .map(|grey| grey.darkened(lighter as u8)),
                mean: self.mean - lighter,
            }),
            false => Cow::Borrowed(self),
        }
    }
}
