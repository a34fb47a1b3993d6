//! Screen: frames as JPEG pictures, for whoever looks on.

use super::{
    Layout, Packet, Sink, Source, Written,
    ffi::{ScaleEnd, Scaler},
    picture::{sampling_of, scale_end, unreadable},
};
use crate::{
    error::{Error, Result},
    frame::Merged,
};
use ffmpeg_next::{
    self as ffmpeg, Rational,
    codec::{self, Flags},
    color::{Range, Space},
    format::Pixel,
    frame::Video,
};
use std::time::Instant;

/// Longest side of a picture.
const SIDE: usize = 1280;
/// The encoder's quantizer (2 best, 31 worst) in its own units.
const QUALITY: i32 = 4 * 118;

/// A frame that has come to the end of its way.
pub struct Shown {
    /// When its packet came.
    pub arrived: Instant,
    /// The picture, upright as it is coded, with square pixels; none where nobody wants one.
    pub jpeg: Option<Vec<u8>>,
}

/// Where frames are shown.
pub trait Viewer: Send {
    /// Whether anybody looks.
    fn looks(&self) -> bool;

    /// Takes a frame.
    fn show(&mut self, frame: Shown);
}

/// Makes JPEG pictures of frames, one for all who look.
pub struct Screen {
    viewer: Box<dyn Viewer>,
    layout: Layout,
    size: (u32, u32),
    scaler: Option<Scaler>,
    encoder: codec::encoder::Video,
    frames: u64,
}

impl Screen {
    /// For the frames of `source`.
    ///
    /// # Errors
    /// This FFmpeg has no JPEG encoder, or the film's pictures cannot be made into what it takes.
    pub fn create(source: &Source, viewer: Box<dyn Viewer>) -> Result<Self> {
        let missing = |why: &str| Error::output("preview", why.to_owned());
        let first = source
            .first_frame()
            .ok_or_else(|| Error::internal("preview", "the source has lost its first frame"))?;
        let layout = Layout::for_pixel(Pixel::YUV420P, &sampling_of(&first.0));
        let layout = layout.ok_or_else(|| missing("pictures of this kind cannot be shown"))?;
        let size = fitted(source.info().video.display);
        let encoder = opened(size)
            .map_err(|e| missing(&format!("FFmpeg here makes no JPEG pictures ({e})")))?;
        Ok(Self {
            viewer,
            layout,
            size,
            scaler: None,
            encoder,
            frames: 0,
        })
    }

    fn jpeg(&mut self, frame: &Video) -> Result<Vec<u8>> {
        let from = scale_end(frame);
        // JPEG is BT.601 in full range, whatever the film is.
        let to = ScaleEnd {
            pixel: Pixel::YUVJ420P,
            width: self.size.0,
            height: self.size.1,
            space: Space::SMPTE170M,
            full: true,
        };
        let scaler = Scaler::between(&mut self.scaler, from, to);
        let mut picture = scaler.ok_or_else(|| unreadable(from.pixel))?.run(frame)?;
        picture.set_pts(Some(self.frames as i64));
        picture.set_color_range(Range::JPEG);
        let failed = |e: ffmpeg::Error| Error::internal("preview", e);
        self.encoder.send_frame(&picture).map_err(failed)?;
        let mut packet = ffmpeg::Packet::empty();
        self.encoder.receive_packet(&mut packet).map_err(failed)?;
        Ok(packet.data().unwrap_or_default().to_vec())
    }
}

/// The size of a film as it is shown, made smaller where it is larger than a preview needs to be.
fn fitted((width, height): (usize, usize)) -> (u32, u32) {
    let scale = (SIDE as f64 / width.max(height).max(1) as f64).min(1.);
    let side = |side: usize| (side as f64 * scale).round().max(16.) as u32 & !1;
    (side(width), side(height))
}

fn opened((width, height): (u32, u32)) -> Result<codec::encoder::Video, ffmpeg::Error> {
    let codec = codec::encoder::find(codec::Id::MJPEG).ok_or(ffmpeg::Error::EncoderNotFound)?;
    let mut encoder = codec::Context::new_with_codec(codec).encoder().video()?;
    encoder.set_width(width);
    encoder.set_height(height);
    encoder.set_format(Pixel::YUVJ420P);
    encoder.set_color_range(Range::JPEG);
    encoder.set_time_base(Rational(1, 25));
    encoder.set_flags(Flags::QSCALE);
    encoder.set_global_quality(QUALITY);
    encoder.open_as(codec)
}

impl Sink for Screen {
    fn layout(&self) -> Option<Layout> {
        Some(self.layout)
    }

    fn frame(&mut self, frame: &Merged) -> Result<()> {
        self.frames += 1;
        let jpeg = match self.viewer.looks() {
            true => Some(self.jpeg(&frame.picture.0)?),
            false => None,
        };
        self.viewer.show(Shown {
            arrived: frame.arrived,
            jpeg,
        });
        Ok(())
    }

    fn packet(&mut self, _packet: &Packet) -> Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Written> {
        Ok(Written {
            name: "preview".into(),
            frames: self.frames,
            ..Written::default()
        })
    }
}
