//! Luma: how far a result's luma lies from its source's, read as the merge stage reads it, in the result's codes.

use super::{
    super::{
        Picture,
        luma::{LumaReader, bytes_of},
        merge::{requantised, translate},
        picture::{has_luma, sampling_of},
    },
    Moment,
};
use crate::{
    error::{Error, Result},
    frame::{Range, Sampling},
};
use ffmpeg_next::frame::Video;
use serde::Serialize;

/// How the frames' luma differs. Ratios (PSNR) are in decibels, of the mean square error and the largest code; `None`
/// means that nothing differs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Luma {
    /// Frames that were compared.
    pub frames: u64,
    /// The result has no luma of its own (RGB): it was computed, and rounded twice.
    pub computed: bool,
    /// Frames whose luma is not the same, code by code.
    pub unlike: u64,
    /// The first of them.
    pub first: Option<Moment>,
    /// The one that is farthest off, and its PSNR.
    pub worst: Option<(Moment, f64)>,
    /// PSNR of the whole film.
    pub psnr: Option<f64>,
}

/// Compares the luma of pictures of one size.
#[derive(Default)]
pub(super) struct LumaMeter {
    eyes: Option<Eyes>,
    found: Luma,
    /// Sum of the frames' mean square errors, in parts of the largest code's square.
    error: f64,
    /// The greatest of them.
    most: f64,
}

/// How the luma of the two is read.
struct Eyes {
    before: Eye,
    after: Eye,
}

impl LumaMeter {
    /// The next frame of both.
    ///
    /// # Errors
    /// Nobody can read the pixel format.
    pub fn push(&mut self, at: Moment, before: &Picture, after: &Picture) -> Result<()> {
        let (before, after) = (&before.0, &after.0);
        self.found.computed |= !has_luma(after.format());
        let fits = |eyes: &Eyes| eyes.before.fits(before) && eyes.after.fits(after);
        if !self.eyes.as_ref().is_some_and(fits) {
            self.eyes = Some(Eyes::new(before, after)?);
        }
        let Some(eyes) = &mut self.eyes else {
            return Err(Error::internal("compare", "no way to read luma"));
        };
        let error = eyes.error(before, after)?;
        self.note(at, error);
        Ok(())
    }

    fn note(&mut self, at: Moment, error: f64) {
        self.found.frames += 1;
        if error == 0. {
            return;
        }
        self.found.unlike += 1;
        self.found.first.get_or_insert(at);
        self.error += error;
        if error > self.most {
            self.most = error;
            self.found.worst = Some((at, decibels(error)));
        }
    }

    /// What came of it.
    pub fn finish(self) -> Luma {
        let mean = self.error / self.found.frames.max(1) as f64;
        Luma {
            psnr: (mean > 0.).then(|| decibels(mean)),
            ..self.found
        }
    }
}

/// PSNR of a mean square error in parts of the largest code's square.
fn decibels(error: f64) -> f64 {
    -10. * error.log10()
}

impl Eyes {
    fn new(before: &Video, after: &Video) -> Result<Self> {
        let (own, wanted) = (sampling_of(before), sampling_of(after));
        // Luma is only ever moved to full range. A result that seems limited where its source was full is in a container
        // that does not say, and the codes are what they were.
        let range = match wanted.range {
            Range::Full => Range::Full,
            Range::Limited => own.range,
        };
        Ok(Self {
            before: Eye::new(before, Sampling { range, ..wanted })?,
            after: Eye::new(after, wanted)?,
        })
    }

    /// The mean square error of a frame, in parts of the largest code's square.
    fn error(&mut self, before: &Video, after: &Video) -> Result<f64> {
        let depth = self.after.wanted.depth;
        let (width, height) = (after.width() as usize, after.height() as usize);
        let bytes = width * bytes_of(depth.into());
        let (mut a, mut b) = (vec![0; bytes], vec![0; bytes]);
        let readable = [
            self.before.reader.prepare(before)?,
            self.after.reader.prepare(after)?,
        ];
        let before = readable[0].as_ref().unwrap_or(before);
        let after = readable[1].as_ref().unwrap_or(after);
        let mut sum = 0;
        for y in 0..height {
            self.before.row(before, y, &mut a)?;
            self.after.row(after, y, &mut b)?;
            sum += squares(&a, &b, depth);
        }
        let peak = f64::from((1u32 << depth) - 1);
        Ok(sum as f64 / (width * height) as f64 / (peak * peak))
    }
}

/// Sum of the squared differences of two rows of codes.
fn squares(a: &[u8], b: &[u8], depth: u8) -> u64 {
    let square = |a: u16, b: u16| u64::from(a.abs_diff(b)).pow(2);
    if a == b {
        return 0;
    }
    if bytes_of(depth.into()) == 1 {
        let pairs = a.iter().zip(b);
        return pairs.map(|(&a, &b)| square(a.into(), b.into())).sum();
    }
    let pairs = a.as_chunks().0.iter().zip(b.as_chunks().0);
    pairs
        .map(|(&a, &b)| square(u16::from_ne_bytes(a), u16::from_ne_bytes(b)))
        .sum()
}

/// Reads luma in the codes of a wanted sampling.
struct Eye {
    reader: LumaReader,
    own: Sampling,
    wanted: Sampling,
    /// Own code to wanted code, where they differ.
    codes: Option<Vec<u16>>,
    codes_row: Vec<u8>,
}

impl Eye {
    fn new(frame: &Video, wanted: Sampling) -> Result<Self> {
        let own = sampling_of(frame);
        let same = (own.depth, own.range) == (wanted.depth, wanted.range);
        Ok(Self {
            reader: LumaReader::new(frame, &own)?,
            codes: (!same).then(|| requantised(&own, &wanted)),
            codes_row: vec![0; frame.width() as usize * bytes_of(own.depth.into())],
            own,
            wanted,
        })
    }

    fn fits(&self, frame: &Video) -> bool {
        self.reader.fits(frame) && self.own.range == sampling_of(frame).range
    }

    fn row(&mut self, frame: &Video, y: usize, out: &mut [u8]) -> Result<()> {
        let Some(table) = &self.codes else {
            return self.reader.row(frame, y, out);
        };
        self.reader.row(frame, y, &mut self.codes_row)?;
        let bytes = bytes_of(self.wanted.depth.into());
        translate(&self.codes_row, self.own.depth, table, out, bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_those_of_the_books() {
        // A difference of one code everywhere, at 8 bits: 48.13 dB.
        let error = squares(&[7; 64], &[8; 64], 8) as f64 / 64. / (255. * 255.);
        assert!((decibels(error) - 48.1308).abs() < 1e-4);
        let deep: Vec<u8> = [700u16, 300].iter().flat_map(|v| v.to_ne_bytes()).collect();
        let other: Vec<u8> = [300u16, 301].iter().flat_map(|v| v.to_ne_bytes()).collect();
        assert_eq!(squares(&deep, &other, 10), 160_001);
    }

    #[test]
    fn the_worst_frame_and_the_mean_are_told() {
        let mut meter = LumaMeter::default();
        for (frame, error) in [0., 0.0001, 0.01, 0.].into_iter().enumerate() {
            let at = Moment {
                frame: frame as u64,
                seconds: 0.,
            };
            meter.note(at, error);
        }
        let found = meter.finish();
        assert_eq!((found.frames, found.unlike), (4, 2));
        assert_eq!(found.first.unwrap().frame, 1);
        let (worst, ratio) = found.worst.unwrap();
        assert!(worst.frame == 2 && (ratio - 20.).abs() < 1e-9);
        assert!((found.psnr.unwrap() - 25.978).abs() < 1e-3);
        assert_eq!(LumaMeter::default().finish().psnr, None);
    }
}
