//! plan: luma -> upright lightness thumbnail.

use super::{
    Picture,
    luma::{self, LumaReader, bytes_of},
    picture::sampling_of,
};
use crate::{
    color,
    error::{Error, Result},
    frame::{self, Sampling, Thumb, VideoInfo},
};
use ffmpeg_next::frame::Video;

/// Rows of 8-bit codes whose sums fit in 16 bits.
const LONGEST: usize = 257;

/// plan: luma -> upright lightness thumbnail.
///
/// Every thumbnail sample is the average, over exactly the area that it covers, of the luma codes; its lightness is that
/// average's. Codes are averaged rather than lightness because photographs that a network learns from are shrunk
/// that way: in gamma-encoded values.
pub struct Thumbnailer {
    rotation: u16,
    /// As the picture is coded.
    size: (usize, usize),
    upright: (usize, usize),
    source: Option<SourceLuma>,
}

struct SourceLuma {
    reader: LumaReader,
    sampling: Sampling,
    lightness: Vec<f32>,
}

impl Thumbnailer {
    /// Thumbnails of `size` (upright) from pictures of `info`.
    pub fn new(info: &VideoInfo, size: (usize, usize)) -> Self {
        let turned = info.rotation % 180 == 90;
        Self {
            rotation: info.rotation,
            size: if turned { (size.1, size.0) } else { size },
            upright: size,
            source: None,
        }
    }

    /// Area-averaged lightness.
    ///
    /// # Errors
    /// Nobody can read the picture's pixel format.
    pub fn thumb(&mut self, picture: &Picture) -> Result<Thumb> {
        let (width, height) = self.upright;
        if width == 0 || height == 0 {
            return Ok(Thumb {
                width,
                height,
                l: Vec::new(),
            });
        }
        let frame = &picture.0;
        let sampling = sampling_of(frame);
        let fits = |s: &SourceLuma| s.reader.fits(frame) && s.sampling == sampling;
        if !self.source.as_ref().is_some_and(fits) {
            self.source = Some(SourceLuma::new(frame, sampling)?);
        }
        let Some(source) = &mut self.source else {
            return Err(Error::internal("plan", "no way to read luma"));
        };
        let prepared = source.reader.prepare(frame)?;
        let coded = source.averages(prepared.as_ref().unwrap_or(frame), self.size)?;
        let (_, l) = frame::turned(&coded, self.size, self.rotation);
        Ok(Thumb { width, height, l })
    }
}

impl SourceLuma {
    fn new(frame: &Video, sampling: Sampling) -> Result<Self> {
        Ok(Self {
            reader: LumaReader::new(frame, &sampling)?,
            lightness: color::lightness_table(sampling.depth, sampling.range),
            sampling,
        })
    }

    /// Lightness of every cell of a grid of `size` over the picture.
    fn averages(&self, frame: &Video, size: (usize, usize)) -> Result<Vec<f32>> {
        if self.sampling.depth == 8 {
            self.averages_of(frame, size, |sums: &mut [u16], row| {
                for (sum, &code) in sums.iter_mut().zip(row) {
                    *sum += u16::from(code);
                }
            })
        } else {
            self.averages_of(frame, size, |sums: &mut [u32], row| {
                for (sum, &code) in sums.iter_mut().zip(row.as_chunks().0) {
                    *sum += u32::from(u16::from_ne_bytes(code));
                }
            })
        }
    }

    /// The same, with sums of type `S`, to which `add` adds a row.
    fn averages_of<S: Copy + Default + Into<u32>>(
        &self,
        frame: &Video,
        (columns, rows): (usize, usize),
        add: impl Fn(&mut [S], &[u8]),
    ) -> Result<Vec<f32>> {
        let (width, height) = (frame.width() as usize, frame.height() as usize);
        let mut scratch = vec![0; width * bytes_of(self.sampling.depth.into())];
        let mut sums = vec![S::default(); width];
        let mut weighted = vec![0.0; width];
        let mut thumb = Vec::with_capacity(columns * rows);
        for cell in 0..rows {
            let span = Span::new(cell, rows, height);
            weighted.fill(0.0);
            for (first, last, weight) in span.runs() {
                sums.fill(S::default());
                for y in first..last {
                    add(&mut sums, self.row(frame, y, &mut scratch)?);
                }
                for (weighted, &sum) in weighted.iter_mut().zip(&sums) {
                    *weighted += weight * sum.into() as f32;
                }
            }
            let cells = (0..columns).map(|i| Span::new(i, columns, width));
            thumb.extend(
                cells.map(|c| self.lightness_at(c.sum(&weighted) / (c.len() * span.len()))),
            );
        }
        Ok(thumb)
    }

    /// A row of luma: where it lies, or rearranged into `scratch`.
    fn row<'a>(&self, frame: &'a Video, y: usize, scratch: &'a mut [u8]) -> Result<&'a [u8]> {
        if let Some(plane) = self.reader.plain_plane() {
            return luma::row(frame, plane, y, scratch.len());
        }
        self.reader.row(frame, y, scratch)?;
        Ok(scratch)
    }

    /// Lightness of a code between two codes.
    fn lightness_at(&self, code: f32) -> f32 {
        let last = self.lightness.len() - 1;
        let below = (code as usize).min(last);
        let (l, next) = (self.lightness[below], self.lightness[(below + 1).min(last)]);
        l + (next - l) * (code - below as f32)
    }
}

/// The part of a row or column that one cell of a thumbnail covers: whole samples, and a part of one at each end.
struct Span {
    from: f32,
    to: f32,
}

impl Span {
    /// Cell `i` of `cells` over `samples`. The product is rounded once, so neighbours share their border exactly.
    fn new(i: usize, cells: usize, samples: usize) -> Self {
        let border = |i: usize| (i * samples) as f32 / cells as f32;
        Self {
            from: border(i),
            to: border(i + 1),
        }
    }

    fn len(&self) -> f32 {
        self.to - self.from
    }

    /// Runs of samples that count alike: (first, one past the last, weight). Whole samples come in runs that sums of
    /// 8-bit codes in 16 bits can hold.
    fn runs(&self) -> impl Iterator<Item = (usize, usize, f32)> {
        let (from, to) = (self.from, self.to);
        let (whole, end) = (from.ceil() as usize, to.floor() as usize);
        let inside = (whole as f32).min(to) - from;
        let before = (inside > 0.0).then_some((from as usize, from as usize + 1, inside));
        // A cell within one sample has but the part above.
        let rest = to - end as f32;
        let after = (rest > 0.0 && end >= whole).then_some((end, end + 1, rest));
        let middle = (whole..end)
            .step_by(LONGEST)
            .map(move |y| (y, end.min(y + LONGEST), 1.0));
        before.into_iter().chain(middle).chain(after)
    }

    /// The weighted sum of the covered part of a row.
    fn sum(&self, row: &[f32]) -> f32 {
        let run = |(first, last, weight): (usize, usize, f32)| {
            weight * row[first..last].iter().sum::<f32>()
        };
        self.runs().map(run).sum()
    }
}

#[cfg(test)]
mod tests;
