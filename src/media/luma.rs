//! The luma of every pixel format, a row at a time: where it lies in a plane of its own it is read where it is; packed,
//! shifted or big-endian luma is rearranged without loss; formats without luma go through one conversion.
//!
//! # The conversion
//! R, G, B (each stretched to the deepest of them, at least 8 bits; palette entries and 1-bit pixels are 8-bit) become
//! `Y' = kr R + kg G + kb B` with the picture's matrix, full range, rounded once. The weights are integers that add up to
//! one, so a grey pixel keeps its exact value. Floats become 16 bits. What FFmpeg's descriptors do not describe (XYZ,
//! a sensor's mosaic, half floats) is first made 16-bit RGB by swscale.

use super::{
    ffi::{self, Component, Components, ScaleEnd, Scaler},
    picture::{has_luma, scale_end, unreadable},
};
use crate::{
    error::{Error, Result},
    frame::{Matrix, Sampling},
};
use ffmpeg_next::{format::Pixel, frame::Video};

/// Reads the luma of frames of one pixel format and size, as native-endian samples of their sampling's depth: one byte
/// at 8 bits, else two.
pub(super) struct LumaReader {
    pixel: Pixel,
    width: usize,
    bytes: usize,
    way: Way,
}

/// How luma is had from a row.
enum Way {
    /// It lies there: native-endian, nothing between the samples.
    Plain(usize),
    /// The first component, rearranged.
    Gathered(Field),
    /// Four luma samples in six bytes: Cb Y Y Cr Y Y.
    Uyyvyy,
    /// Y' of each of 256 colours, which every frame may change.
    Palette(Vec<u16>, Weights),
    /// R, G and B, after swscale where FFmpeg's descriptors do not say where they lie.
    Mixed([Field; 3], Weights, Option<Scaler>),
}

impl LumaReader {
    /// For frames like this one, which has this sampling.
    ///
    /// # Errors
    /// Nobody can read the pixel format.
    pub fn new(frame: &Video, sampling: &Sampling) -> Result<Self> {
        let pixel = frame.format();
        let c = Components::of(pixel).ok_or_else(|| unreadable(pixel))?;
        let depth = u32::from(sampling.depth);
        let weights = Weights::new(sampling.matrix);
        let way = if pixel == Pixel::UYYVYY411 {
            Way::Uyyvyy
        } else if c.palette() {
            Way::Palette(vec![0; 256], weights)
        } else if c.bits() && c.count == 1 {
            Way::Gathered(Field::new(pixel, &c, 0, depth))
        } else if !has_luma(pixel) {
            let (fields, scaler) = rgb_fields(frame, &c, depth)?;
            Way::Mixed(fields, weights, scaler)
        } else if is_plain(&c, 0) {
            Way::Plain(c.list[0].plane)
        } else {
            Way::Gathered(Field::new(pixel, &c, 0, depth))
        };
        Ok(Self {
            pixel,
            width: frame.width() as usize,
            bytes: bytes_of(depth),
            way,
        })
    }

    /// Whether it was made for frames like this one.
    pub fn fits(&self, frame: &Video) -> bool {
        (self.pixel, self.width) == (frame.format(), frame.width() as usize)
    }

    /// The plane that is luma, sample by sample, where there is one.
    pub fn plain_plane(&self) -> Option<usize> {
        match self.way {
            Way::Plain(plane) => Some(plane),
            _ => None,
        }
    }

    /// Looks at a frame before its rows are read. Where this gives another frame, rows must be read from that.
    ///
    /// # Errors
    /// swscale refuses the frame.
    pub fn prepare(&mut self, frame: &Video) -> Result<Option<Video>> {
        match &mut self.way {
            Way::Mixed(_, _, Some(scaler)) => Ok(Some(scaler.run(frame)?)),
            Way::Palette(luma, weights) => {
                let colours = ffi::palette(frame).unwrap_or_default();
                for (luma, &colour) in luma.iter_mut().zip(colours) {
                    let [_, r, g, b] = u32::from_ne_bytes(colour).to_be_bytes();
                    *luma = weights.mix(r.into(), g.into(), b.into());
                }
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Writes row `y` into `out`: the picture's width of samples.
    ///
    /// # Errors
    /// The frame has no such row.
    pub fn row(&self, frame: &Video, y: usize, out: &mut [u8]) -> Result<()> {
        let width = self.width;
        match &self.way {
            Way::Plain(plane) => {
                out.copy_from_slice(row(frame, *plane, y, width * self.bytes)?);
            }
            Way::Gathered(field) => {
                field.read(frame, y, width, |x, v| put(out, x, v, self.bytes))?
            }
            Way::Uyyvyy => {
                let groups = row(frame, 0, y, width.div_ceil(4) * 6)?.chunks_exact(6);
                let luma = groups.flat_map(|g| [g[1], g[2], g[4], g[5]]);
                out.iter_mut().zip(luma).for_each(|(out, v)| *out = v);
            }
            Way::Palette(luma, _) => {
                for (x, &index) in row(frame, 0, y, width)?.iter().enumerate() {
                    put(out, x, luma[usize::from(index)], self.bytes);
                }
            }
            Way::Mixed(fields, weights, _) => {
                let mut rgb = [(); 3].map(|()| vec![0; width]);
                for (field, values) in fields.iter().zip(&mut rgb) {
                    field.read(frame, y, width, |x, v| values[x] = v)?;
                }
                let [r, g, b] = &rgb;
                for (x, ((&r, &g), &b)) in r.iter().zip(g).zip(b).enumerate() {
                    put(out, x, weights.mix(r, g, b), self.bytes);
                }
            }
        }
        Ok(())
    }
}

/// Bytes of a sample.
pub(super) fn bytes_of(depth: u32) -> usize {
    if depth > 8 { 2 } else { 1 }
}

/// Writes sample `x` of a row.
#[inline(always)]
pub(super) fn put(row: &mut [u8], x: usize, value: u16, bytes: usize) {
    if bytes == 1 {
        row[x] = value as u8;
    } else {
        row[2 * x..2 * x + 2].copy_from_slice(&value.to_ne_bytes());
    }
}

/// The first bytes of a row, or a defect.
pub(super) fn row(frame: &Video, plane: usize, y: usize, len: usize) -> Result<&[u8]> {
    ffi::row(frame, plane, y, len).ok_or_else(|| {
        let why = format!("a frame's plane {plane} has no row {y} of {len} bytes");
        Error::internal("picture", why)
    })
}

/// Whether a component fills a plane, in this machine's byte order.
pub(super) fn is_plain(c: &Components, index: usize) -> bool {
    let Component {
        step,
        offset,
        shift,
        depth,
        ..
    } = c.list[index];
    let ours = depth <= 8 || c.big_endian() == cfg!(target_endian = "big");
    let whole = step == bytes_of(depth) && offset == 0 && shift == 0 && (8..=16).contains(&depth);
    whole && ours && !(c.float() || c.rgb() || c.bits() || c.palette() || c.opaque())
}

/// The R, G and B of a format, and the swscale conversion to be done first where they cannot be found.
fn rgb_fields(frame: &Video, c: &Components, depth: u32) -> Result<([Field; 3], Option<Scaler>)> {
    let half = c.float() && c.list[0].depth < 32;
    if c.rgb() && !c.opaque() && !half {
        let fields = [0, 1, 2].map(|i| Field::new(frame.format(), c, i, depth));
        return Ok((fields, None));
    }
    let from = scale_end(frame);
    let to = ScaleEnd {
        pixel: Pixel::RGB48LE,
        full: true,
        ..from
    };
    let refused = || unreadable(from.pixel);
    let scaler = Scaler::new(from, to).ok_or_else(refused)?;
    let c = Components::of(to.pixel).ok_or_else(refused)?;
    let fields = [0, 1, 2].map(|i| Field::new(to.pixel, &c, i, depth));
    Ok((fields, Some(scaler)))
}

/// One component of a format, wherever it lies, read as values of a wanted depth.
pub(super) struct Field {
    at: Component,
    kind: Kind,
    /// Value to value of the wanted depth, where that differs.
    stretch: Option<Vec<u16>>,
}

#[derive(Clone, Copy)]
enum Kind {
    Byte,
    Little,
    Big,
    FloatLittle,
    FloatBig,
    Bits,
}

impl Field {
    /// Component `index` of `pixel`, to be read as `depth` bits.
    pub fn new(pixel: Pixel, c: &Components, index: usize, depth: u32) -> Self {
        let mut at = c.list[index];
        let big = c.big_endian();
        let kind = match (c.float(), c.bits(), at.shift + at.depth <= 8) {
            (true, ..) if big => Kind::FloatBig,
            (true, ..) => Kind::FloatLittle,
            (_, true, _) => Kind::Bits,
            (_, _, true) => Kind::Byte,
            _ if big => Kind::Big,
            _ => Kind::Little,
        };
        // The low byte of a big-endian word is the second (as in FFmpeg's av_read_image_line2).
        at.offset += usize::from(big && matches!(kind, Kind::Byte));
        let stretch = (!c.float() && at.depth != depth).then(|| stretch(at.depth, depth));
        let stretch = match stretch {
            Some(values) if pixel == Pixel::MonoWhite => Some(values.into_iter().rev().collect()),
            other => other,
        };
        Self { at, kind, stretch }
    }

    /// Gives every value of row `y` to `put`, with its column.
    ///
    /// # Errors
    /// The frame has no such row.
    pub fn read(
        &self,
        frame: &Video,
        y: usize,
        width: usize,
        put: impl FnMut(usize, u16),
    ) -> Result<()> {
        let Component {
            plane,
            step,
            offset,
            shift,
            depth,
        } = self.at;
        let mask = ((1u32 << depth.min(16)) - 1) as u16;
        let bytes = match self.kind {
            Kind::Bits => (width * step).div_ceil(8),
            Kind::Byte => (width - 1) * step + offset + 1,
            Kind::Little | Kind::Big => (width - 1) * step + offset + 2,
            Kind::FloatLittle | Kind::FloatBig => (width - 1) * step + offset + 4,
        };
        let row = row(frame, plane, y, bytes)?;
        let from = row.get(offset..).unwrap_or_default();
        match self.kind {
            Kind::Bits => {
                let at = |x: usize| x * step + offset;
                let low = |x: usize| 8 - depth as usize - at(x) % 8;
                self.give(width, |x| u16::from(row[at(x) / 8] >> low(x)) & mask, put);
            }
            Kind::Byte => self.each(from, step, |[v]| (u16::from(v) >> shift) & mask, put),
            Kind::Little => self.each(from, step, |v| (u16::from_le_bytes(v) >> shift) & mask, put),
            Kind::Big => self.each(from, step, |v| (u16::from_be_bytes(v) >> shift) & mask, put),
            Kind::FloatLittle => self.each(from, step, |v| whole(f32::from_le_bytes(v)), put),
            Kind::FloatBig => self.each(from, step, |v| whole(f32::from_be_bytes(v)), put),
        }
        Ok(())
    }

    #[inline(always)]
    fn each<const N: usize>(
        &self,
        from: &[u8],
        step: usize,
        value: impl Fn([u8; N]) -> u16,
        put: impl FnMut(usize, u16),
    ) {
        let count = (from.len() + step - N) / step;
        let sample = |x: usize| std::array::from_fn(|i| from[x * step + i]);
        self.give(count, |x| value(sample(x)), put);
    }

    #[inline(always)]
    fn give(&self, width: usize, value: impl Fn(usize) -> u16, mut put: impl FnMut(usize, u16)) {
        match &self.stretch {
            None => (0..width).for_each(|x| put(x, value(x))),
            Some(table) => (0..width).for_each(|x| put(x, table[usize::from(value(x))])),
        }
    }
}

/// Every value of `from` bits in `to` bits, so that the largest stays the largest.
pub(super) fn stretch(from: u32, to: u32) -> Vec<u16> {
    let (last, new) = ((1u64 << from) - 1, (1u64 << to) - 1);
    (0..=last)
        .map(|v| ((v * new + last / 2) / last) as u16)
        .collect()
}

/// A float of 0..1 in 16 bits.
fn whole(v: f32) -> u16 {
    (v.clamp(0.0, 1.0) * 65535.0).round() as u16
}

/// Luma weights of R, G and B in 65536ths.
struct Weights([u32; 3]);

impl Weights {
    fn new(matrix: Matrix) -> Self {
        let [r, b] = [matrix.kr, matrix.kb].map(|k| (k * 65536.0).round() as u32);
        Self([r, 65536 - r - b, b])
    }

    #[inline(always)]
    fn mix(&self, r: u16, g: u16, b: u16) -> u16 {
        let [kr, kg, kb] = self.0;
        ((kr * u32::from(r) + kg * u32::from(g) + kb * u32::from(b) + 32768) >> 16) as u16
    }
}
