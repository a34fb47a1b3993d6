//! merge: the source's luma, by reference wherever it lies in a plane of its own, with new chroma planes.

use super::{
    Layout, Picture,
    ffi::{self, Buffer, Components, Plane, Pool, Scaler},
    layout::has_alpha,
    luma::{Field, LumaReader, bytes_of, is_plain, put, row, stretch},
    picture::{has_chroma, sampling_of, scale_end, unreadable},
};
use crate::{
    color::{
        self,
        chroma::{Painter, PlaneMut},
    },
    error::{Error, Result},
    frame::{AbMap, Range, Sampling, VideoInfo},
};
use ffmpeg_next::{format::Pixel, frame::Video};

/// Rows begin at multiples of this many bytes, as FFmpeg's own do, for the encoders' vector code.
const ALIGN: usize = 64;

/// merge: (source luma, ab map) -> picture in the sink's layout.
///
/// Luma that has the layout's depth and range is never copied: the merged frame refers to the decoder's. It is
/// rearranged where it is packed, shifted, big-endian or must be converted from RGB, and requantised where the user asked
/// for another depth: in limited range that is a shift (16 stays black at any depth), in full range white stays white;
/// fewer bits are rounded.
pub struct Merger {
    size: (usize, usize),
    layout: Layout,
    planar: Pixel,
    /// For progressive and for interlaced pictures.
    painters: [Painter; 2],
    chroma: Planes,
    luma: Planes,
    source: Option<SourceLuma>,
    /// For chroma that is kept but lies otherwise than the layout's.
    converter: Option<Scaler>,
    last_step: Option<Scaler>,
}

/// How the luma of the frames that come is read; made anew when their format changes.
struct SourceLuma {
    reader: LumaReader,
    sampling: Sampling,
    /// Source code to layout code, where depth or range differ.
    codes: Option<Vec<u16>>,
}

impl Merger {
    /// For pictures of `info`, to be encoded as `layout`.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(info: &VideoInfo, layout: &Layout) -> Result<Self> {
        let size = (info.width, info.height);
        let planar = layout.planar().ok_or_else(|| unreadable(layout.pixel))?;
        let painters = [false, true].map(|interlaced| {
            let sampling = Sampling {
                interlaced,
                ..layout.sampling
            };
            Painter::new(size, &sampling)
        });
        let bytes = bytes_of(layout.sampling.depth.into());
        Ok(Self {
            size,
            layout: *layout,
            planar,
            chroma: Planes::new(painters[0].chroma_size(), bytes)?,
            luma: Planes::new(size, bytes)?,
            painters,
            source: None,
            converter: None,
            last_step: None,
        })
    }

    /// The same picture with the chroma of `ab`, which lies as the coded picture does. The single colour a = b = 0 is
    /// exactly neutral chroma, and costs nothing.
    ///
    /// # Errors
    /// The picture is of another size than the film's, or nobody can read its pixel format.
    pub fn merge(&mut self, picture: &Picture, ab: &AbMap) -> Result<Picture> {
        self.look_at(picture)?;
        self.composed(picture, |merger, copy, plane| match is_neutral(ab) {
            true => merger.neutral(),
            false => merger.painted(&picture.0, copy, plane, ab),
        })
    }

    /// The luma of a picture that was looked at, with the planes that `chroma` gives, who hears of luma's copy, if there
    /// is one, or else of its plane.
    fn composed(
        &mut self,
        picture: &Picture,
        chroma: impl FnOnce(&mut Self, &Option<Buffer>, usize) -> Result<[Plane; 2]>,
    ) -> Result<Picture> {
        let frame = &picture.0;
        let Some(source) = &mut self.source else {
            return Err(Error::internal("merge", "no way to read luma"));
        };
        let prepared = source.reader.prepare(frame)?;
        let readable = prepared.as_ref().unwrap_or(frame);
        let (plane, copy) = source.plane(readable, &self.luma)?;
        let [cb, cr] = chroma(self, &copy, plane)?;
        let luma = match copy {
            Some(buffer) => self.luma.plane(buffer),
            None => Plane::Of(plane),
        };
        let mut planes = vec![luma, cb, cr];
        if has_alpha(self.planar) {
            planes.push(self.alpha(frame)?);
        }
        let mut merged = ffi::compose(frame, self.planar, planes)?;
        Layout {
            pixel: self.planar,
            ..self.layout
        }
        .tags()
        .write(&mut merged);
        self.finish(merged)
    }

    /// The same picture with the colours that it has: its chroma by reference where it lies as the layout's does, else
    /// converted.
    ///
    /// # Errors
    /// As for [`Merger::merge`].
    pub fn keep(&mut self, picture: &Picture) -> Result<Picture> {
        self.look_at(picture)?;
        let chroma = match self.own_chroma(&picture.0) {
            Some(planes) => planes.map(Plane::Of),
            None => self.converted_chroma(&picture.0)?,
        };
        self.composed(picture, |_, _, _| Ok(chroma))
    }

    /// Where a frame's chroma lies, if it is the layout's as it stands.
    fn own_chroma(&self, frame: &Video) -> Option<[usize; 2]> {
        let (own, wanted) = (sampling_of(frame), self.layout.sampling);
        let alike = |s: &Sampling| (s.depth, s.log2_w, s.log2_h, s.range, s.matrix);
        let c = Components::of(frame.format()).filter(|_| has_chroma(frame.format()))?;
        let plain = |i: usize| is_plain(&c, i) && c.list[i].depth == u32::from(wanted.depth);
        let fits = alike(&own) == alike(&wanted) && plain(1) && plain(2);
        fits.then(|| [c.list[1].plane, c.list[2].plane])
    }

    fn converted_chroma(&mut self, frame: &Video) -> Result<[Plane; 2]> {
        let from = scale_end(frame);
        let to = ffi::ScaleEnd {
            pixel: self.planar,
            space: self.layout.tags().space,
            full: self.layout.sampling.range == Range::Full,
            ..from
        };
        let converter = Scaler::between(&mut self.converter, from, to);
        let converter = converter.ok_or_else(|| unreadable(from.pixel))?;
        let converted = converter.run(frame)?;
        let (width, stride) = (self.chroma.width, self.chroma.stride);
        let copy = |plane: usize| -> Result<Plane> {
            let mut buffer = self.chroma.pool.get()?;
            let rows = buffer.bytes_mut().chunks_mut(stride);
            for (y, out) in rows.take(self.painters[0].chroma_size().1).enumerate() {
                out[..width].copy_from_slice(row(&converted, plane, y, width)?);
            }
            Ok(self.chroma.plane(buffer))
        };
        Ok([copy(1)?, copy(2)?])
    }

    /// Checks a picture, and finds out how to read its luma if it is the first of its format.
    fn look_at(&mut self, picture: &Picture) -> Result<()> {
        let frame = &picture.0;
        if picture.size() != self.size {
            let ((w, h), (fw, fh)) = (picture.size(), self.size);
            let why = format!("a picture of {w}x{h} in a film of {fw}x{fh}");
            return Err(Error::internal("merge", why));
        }
        if !self.source.as_ref().is_some_and(|s| s.fits(frame)) {
            self.source = Some(SourceLuma::new(frame, &self.layout.sampling)?);
        }
        Ok(())
    }

    /// Neutral planes: one buffer, filled once, for both and for every frame.
    fn neutral(&mut self) -> Result<[Plane; 2]> {
        let code = 1 << (self.layout.sampling.depth - 1);
        let [cb, cr] = [self.chroma.filled(code)?, self.chroma.filled(code)?];
        Ok([cb, cr])
    }

    fn painted(
        &self,
        frame: &Video,
        copy: &Option<Buffer>,
        plane: usize,
        ab: &AbMap,
    ) -> Result<[Plane; 2]> {
        let (width, stride) = (self.luma.width, self.luma.stride);
        let copied = copy.as_ref().map(|b| b.bytes());
        let luma = |y: usize| match copied {
            Some(bytes) => &bytes[y * stride..y * stride + width],
            None => ffi::row(frame, plane, y, width).unwrap_or_default(),
        };
        // Once here, so that the rows above are sure to be there.
        if copied.is_none() {
            row(frame, plane, self.size.1 - 1, width)?;
        }
        let [mut cb, mut cr] = [self.chroma.pool.get()?, self.chroma.pool.get()?];
        let painter = &self.painters[usize::from(frame.is_interlaced())];
        let plane = |data| PlaneMut {
            data,
            stride: self.chroma.stride,
        };
        let (cb_plane, cr_plane) = (plane(cb.bytes_mut()), plane(cr.bytes_mut()));
        painter.paint(luma, ab, cb_plane, cr_plane);
        Ok([self.chroma.plane(cb), self.chroma.plane(cr)])
    }

    /// The source's alpha by reference or rearranged; opaque where it has none.
    fn alpha(&mut self, frame: &Video) -> Result<Plane> {
        let pixel = frame.format();
        let depth = u32::from(self.layout.sampling.depth);
        let components = Components::of(pixel).filter(|_| has_alpha(pixel));
        let Some(c) = components else {
            return self.luma.filled((1u32 << depth) as u16 - 1);
        };
        let last = c.count - 1;
        if is_plain(&c, last) && c.list[last].depth == depth {
            return Ok(Plane::Of(c.list[last].plane));
        }
        let field = Field::new(pixel, &c, last, depth);
        let mut buffer = self.luma.pool.get()?;
        let rows = buffer.bytes_mut().chunks_mut(self.luma.stride);
        for (y, out) in rows.take(self.size.1).enumerate() {
            field.read(frame, y, self.size.0, |x, v| {
                put(out, x, v, bytes_of(depth))
            })?;
        }
        Ok(self.luma.plane(buffer))
    }

    /// The last conversion, where the encoder takes another format than the planar one.
    fn finish(&mut self, merged: Video) -> Result<Picture> {
        if self.planar == self.layout.pixel {
            return Ok(Picture(merged));
        }
        let from = scale_end(&merged);
        let to = ffi::ScaleEnd {
            pixel: self.layout.pixel,
            ..from
        };
        let scaler = Scaler::between(&mut self.last_step, from, to);
        let scaler = scaler.ok_or_else(|| unreadable(to.pixel))?;
        let mut converted = scaler.run(&merged)?;
        ffi::copy_properties(&merged, &mut converted)?;
        self.layout.tags().write(&mut converted);
        Ok(Picture(converted))
    }
}

/// The one colour that has no colour.
fn is_neutral(ab: &AbMap) -> bool {
    ab.a.len() == 1 && ab.a[0] == 0.0 && ab.b[0] == 0.0
}

impl SourceLuma {
    fn new(frame: &Video, wanted: &Sampling) -> Result<Self> {
        let sampling = sampling_of(frame);
        let same = (sampling.depth, sampling.range) == (wanted.depth, wanted.range);
        Ok(Self {
            reader: LumaReader::new(frame, &sampling)?,
            codes: (!same).then(|| requantised(&sampling, wanted)),
            sampling,
        })
    }

    fn fits(&self, frame: &Video) -> bool {
        self.reader.fits(frame) && self.sampling.range == sampling_of(frame).range
    }

    /// The plane of the frame that is the layout's luma, or a copy of it that is.
    fn plane(&self, frame: &Video, planes: &Planes) -> Result<(usize, Option<Buffer>)> {
        if let (Some(plane), None) = (self.reader.plain_plane(), &self.codes) {
            return Ok((plane, None));
        }
        let (depth, bytes) = (self.sampling.depth, bytes_of(self.sampling.depth.into()));
        let mut buffer = planes.pool.get()?;
        let mut codes = vec![0; frame.width() as usize * bytes];
        let rows = buffer.bytes_mut().chunks_mut(planes.stride);
        for (y, out) in rows.take(frame.height() as usize).enumerate() {
            match &self.codes {
                None => self.reader.row(frame, y, &mut out[..planes.width])?,
                Some(table) => {
                    self.reader.row(frame, y, &mut codes)?;
                    translate(&codes, depth, table, out, planes.bytes);
                }
            }
        }
        Ok((0, Some(buffer)))
    }
}

/// Looks up every code of a row.
pub(super) fn translate(codes: &[u8], depth: u8, table: &[u16], out: &mut [u8], bytes: usize) {
    if depth == 8 {
        for (x, &code) in codes.iter().enumerate() {
            put(out, x, table[usize::from(code)], bytes);
        }
    } else {
        let last = table.len() - 1;
        for (x, &code) in codes.as_chunks().0.iter().enumerate() {
            // A damaged file can hold codes that its depth does not have.
            let code = usize::from(u16::from_ne_bytes(code)).min(last);
            put(out, x, table[code], bytes);
        }
    }
}

/// Every code of one depth and range in another.
pub(super) fn requantised(from: &Sampling, to: &Sampling) -> Vec<u16> {
    use crate::frame::Range::{Full, Limited};
    let (d, e) = (u32::from(from.depth), u32::from(to.depth));
    let last = (1u32 << e) - 1;
    let shifted = |code: u32| match e.checked_sub(d) {
        Some(more) => code << more,
        None => (code + (1 << (d - e - 1))) >> (d - e),
    };
    match (from.range, to.range) {
        (Full, Full) => stretch(d, e),
        (Limited, Limited) => (0..1 << d).map(|c| shifted(c).min(last) as u16).collect(),
        _ => (0..1u32 << d)
            .map(|code| color::level_from_code(code as f32, from.depth, from.range))
            .map(|level| color::code_from_level(level, to.depth, to.range).round() as u16)
            .collect(),
    }
}

/// Planes of one size.
struct Planes {
    pool: Pool,
    /// Bytes of a row's samples, and from row to row.
    width: usize,
    stride: usize,
    bytes: usize,
    size: usize,
    /// One that is all the same code, shared by the frames that need it.
    constant: Option<Buffer>,
}

impl Planes {
    fn new((width, height): (usize, usize), bytes: usize) -> Result<Self> {
        let stride = (width * bytes).next_multiple_of(ALIGN);
        // Vector code may read past the last sample.
        let size = stride * height + ALIGN;
        Ok(Self {
            pool: Pool::new(size)?,
            width: width * bytes,
            stride,
            bytes,
            size,
            constant: None,
        })
    }

    fn plane(&self, buffer: Buffer) -> Plane {
        Plane::New(buffer, self.stride)
    }

    /// A plane of one code. It is always the same code for the same planes.
    fn filled(&mut self, code: u16) -> Result<Plane> {
        if self.constant.is_none() {
            let mut buffer = self.pool.get()?;
            let bytes = buffer.bytes_mut();
            (0..self.size / self.bytes).for_each(|x| put(bytes, x, code, self.bytes));
            self.constant = Some(buffer);
        }
        match &self.constant {
            Some(buffer) => Ok(Plane::New(buffer.share()?, self.stride)),
            None => Err(Error::internal("merge", "no plane")),
        }
    }
}

#[cfg(test)]
mod tests;
