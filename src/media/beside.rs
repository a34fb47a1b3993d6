//! A sink that writes a film of before and after, side by side.

use super::{
    FileSink, Layout, Origin, OutputOptions, Packet, Picture, Sink, Source, Written,
    ffi::{self, Scaler},
    luma::{bytes_of, put, row},
    picture::{scale_end, unreadable},
};
use crate::{
    error::{Error, Result, shown},
    frame::Merged,
};
use ffmpeg_next::frame::Video;
use std::ffi::OsStr;

/// Writes every frame twice as wide: grey on the left, in colour on the right, both as the film is coded (a film that
/// is shown turned has them one above the other). Sound and the other streams come along where the container takes
/// them.
pub struct BesideSink {
    film: FileSink,
    layout: Layout,
    /// Width of a half: the film's, rounded up to whole chroma samples.
    half: usize,
    /// Where the pictures that come are merged for another sink, in another layout.
    converter: Option<Scaler>,
}

impl BesideSink {
    /// Opens `output` for the frames and packets of `source`.
    ///
    /// # Errors
    /// As for [`FileSink::create`]; the output's encoder takes no planar Y'CbCr.
    pub fn create(output: &OsStr, options: &OutputOptions, source: &Source) -> Result<Self> {
        let mut origin = Origin::of(source)?;
        // Of every subsampling there is.
        let half = origin.video.width.next_multiple_of(4);
        origin.video.width = 2 * half;
        let film = FileSink::open(output, options, &origin, 0)?;
        let layout = film.layout().filter(|l| l.planar() == Some(l.pixel));
        let Some(layout) = layout else {
            let why = "a comparison is written in planar Y'CbCr, which this container's encoder does not take: name an \
                       .mp4 or .mkv";
            return Err(Error::output(shown(output), why));
        };
        Ok(Self {
            film,
            layout,
            half,
            converter: None,
        })
    }

    /// What a person should know of this output before the first frame.
    pub fn messages(&self) -> &[String] {
        self.film.messages()
    }

    /// The picture in this film's layout; `None` where it is in it already.
    fn converted(&mut self, frame: &Video) -> Result<Option<Video>> {
        let from = scale_end(frame);
        if from.pixel == self.layout.pixel {
            return Ok(None);
        }
        let to = ffi::ScaleEnd {
            pixel: self.layout.pixel,
            ..from
        };
        let converter = Scaler::between(&mut self.converter, from, to);
        let converter = converter.ok_or_else(|| unreadable(from.pixel))?;
        converter.run(frame).map(Some)
    }

    /// The grey picture and the coloured one beside it.
    fn doubled(&self, frame: &Video) -> Result<Video> {
        let mut wide = Video::new(self.layout.pixel, 2 * self.half as u32, frame.height());
        let sampling = self.layout.sampling;
        let bytes = bytes_of(sampling.depth.into());
        for plane in 0..frame.planes() {
            let chroma = plane == 1 || plane == 2;
            let (log2_w, log2_h) = match chroma {
                true => (sampling.log2_w, sampling.log2_h),
                false => (0, 0),
            };
            let (half, width) = (
                self.half >> log2_w,
                (frame.width() as usize).div_ceil(1 << log2_w),
            );
            let rows = (frame.height() as usize).div_ceil(1 << log2_h);
            let stride = wide.stride(plane);
            let out = wide.data_mut(plane).chunks_mut(stride);
            for (y, out) in out.take(rows).enumerate() {
                let (left, right) = out[..2 * half * bytes].split_at_mut(half * bytes);
                let samples = row(frame, plane, y, width * bytes)?;
                copied(samples, right, bytes);
                match chroma {
                    true => (0..half).for_each(|x| put(left, x, 1 << (sampling.depth - 1), bytes)),
                    false => left.copy_from_slice(right),
                }
            }
        }
        ffi::copy_properties(frame, &mut wide)?;
        Ok(wide)
    }
}

/// A row, its last sample repeated to the end.
fn copied(samples: &[u8], out: &mut [u8], bytes: usize) {
    let (own, rest) = out.split_at_mut(samples.len().min(out.len()));
    own.copy_from_slice(&samples[..own.len()]);
    let last = &samples[samples.len() - bytes..];
    rest.chunks_mut(bytes)
        .for_each(|out| out.copy_from_slice(last));
}

impl Sink for BesideSink {
    fn layout(&self) -> Option<Layout> {
        Some(self.layout)
    }

    fn frame(&mut self, frame: &Merged) -> Result<()> {
        let picture = &frame.picture.0;
        let converted = self.converted(picture)?;
        let wide = self.doubled(converted.as_ref().unwrap_or(picture))?;
        self.film.frame(&Merged {
            index: frame.index,
            pts: frame.pts,
            duration: frame.duration,
            arrived: frame.arrived,
            picture: Picture(wide),
        })
    }

    fn packet(&mut self, packet: &Packet) -> Result<()> {
        self.film.packet(packet)
    }

    fn cut(&mut self) {
        self.film.cut();
    }

    fn finish(self: Box<Self>) -> Result<Written> {
        Box::new(self.film).finish()
    }
}
