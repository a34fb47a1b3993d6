//! What an encoder takes: which pixel format keeps a source's depth and chroma, which of an encoder's is nearest to it,
//! and how the samples lie in it.

use super::{
    ffi::{self, Components},
    luma::is_plain,
    picture::{Tags, has_luma, is_jpeg, pixel_name},
};
use crate::frame::{Range, Sampling};
use ffmpeg_next::format::Pixel;

/// What the encoder takes: a pixel format and how its samples lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layout {
    pub(super) pixel: Pixel,
    /// Depth, subsampling, range and matrix of the merged picture. Where the pixel format is no planar Y'CbCr (RGB,
    /// NV12, grey), that is the picture before its last conversion by swscale: 4:4:4 at the source's depth for RGB
    /// and grey.
    pub sampling: Sampling,
}

impl Layout {
    /// A source's pictures in a pixel format: the format's depth and subsampling, the source's matrix, range and, where
    /// both subsample alike, chroma position. The "J" formats are full range whatever the source is. `None` where
    /// pictures cannot be made in the format.
    pub(super) fn for_pixel(pixel: Pixel, source: &Sampling) -> Option<Self> {
        let c = Components::of(pixel)?;
        let ycbcr = has_luma(pixel) && c.count >= 3;
        if !is_planar_ycbcr(pixel) && !ffi::can_write(pixel) {
            return None;
        }
        let d = pixel.descriptor()?;
        let (log2_w, log2_h) = match ycbcr {
            true => (d.log2_chroma_w(), d.log2_chroma_h()),
            false => (0, 0),
        };
        let mut sampling = Sampling {
            depth: if ycbcr {
                c.list[0].depth as u8
            } else {
                source.depth
            },
            log2_w,
            log2_h,
            chroma_offset: moved(source, log2_w, log2_h),
            ..*source
        };
        if is_jpeg(pixel) {
            sampling.range = Range::Full;
        }
        let layout = Self { pixel, sampling };
        layout.planar().map(|_| layout)
    }

    /// FFmpeg's name of the pixel format.
    pub fn name(&self) -> &'static str {
        pixel_name(self.pixel)
    }

    /// The tags that the encoder must be told; frames carry them too.
    pub(super) fn tags(&self) -> Tags {
        let mut tags = Tags::of(&self.sampling);
        if Components::of(self.pixel).is_some_and(|c| c.rgb()) {
            tags.space = ffmpeg_next::color::Space::RGB;
            tags.range = ffmpeg_next::color::Range::JPEG;
            tags.location = ffmpeg_next::chroma::Location::Unspecified;
        }
        tags
    }

    /// The planar format that pictures are merged in; where it is not the encoder's, swscale goes the last step.
    pub(super) fn planar(&self) -> Option<Pixel> {
        if is_planar_ycbcr(self.pixel) {
            return Some(self.pixel);
        }
        let alpha = has_alpha(self.pixel);
        let Sampling {
            depth,
            log2_w,
            log2_h,
            ..
        } = self.sampling;
        planar(depth, (log2_w, log2_h), alpha).or_else(|| planar(depth, (log2_w, log2_h), false))
    }
}

/// Where chroma sits after a change of subsampling: across, centred stays centred; down, a new halving is centred.
fn moved(source: &Sampling, log2_w: u8, log2_h: u8) -> (f32, f32) {
    let middle = |log2: u8| ((1u8 << log2) - 1) as f32 / 2.0;
    let (x, y) = source.chroma_offset;
    (
        if x > 0.0 { middle(log2_w) } else { 0.0 },
        if log2_h == source.log2_h {
            y
        } else {
            middle(log2_h)
        },
    )
}

/// Native-endian Y'CbCr with every component in a plane of its own: what pictures are merged in.
fn is_planar_ycbcr(pixel: Pixel) -> bool {
    Components::of(pixel).is_some_and(|c| {
        let own = |i: usize| is_plain(&c, i) && c.list[i].plane == i;
        has_luma(pixel) && c.count >= 3 && (0..c.count).all(own)
    })
}

/// Whether every pixel has an alpha of its own. A palette's is not read.
pub(super) fn has_alpha(pixel: Pixel) -> bool {
    Components::of(pixel).is_some_and(|c| c.alpha() && !c.palette())
}

/// FFmpeg's planar format of a depth and subsampling, if there is one.
fn planar(depth: u8, log2: (u8, u8), alpha: bool) -> Option<Pixel> {
    let name = match log2 {
        (1, 1) => "420",
        (1, 0) => "422",
        (0, 0) => "444",
        (0, 1) => "440",
        (2, 0) => "411",
        (2, 2) => "410",
        _ => return None,
    };
    let alpha = if alpha { "a" } else { "" };
    let depth = if depth == 8 {
        String::new()
    } else {
        depth.to_string()
    };
    // Without "le" or "be" FFmpeg takes the name as this machine's order.
    format!("yuv{alpha}{name}p{depth}").parse().ok()
}

/// The planar format that keeps what a source has: its depth, chroma subsampling and alpha; 4:2:0 for grey, RGB and
/// whatever else has no chroma of its own. Where FFmpeg has no such format, more chroma, then more depth.
pub(super) fn natural_pixel(source: Pixel, sampling: &Sampling) -> Pixel {
    let chroma = has_luma(source) && Components::of(source).is_some_and(|c| c.count >= 3);
    let own = if chroma {
        (sampling.log2_w, sampling.log2_h)
    } else {
        (1, 1)
    };
    let shapes = [own, (1, 0), (0, 0)];
    let deeper = (sampling.depth..=16).flat_map(|depth| shapes.map(|shape| (depth, shape)));
    deeper
        .filter_map(|(depth, shape)| planar(depth, shape, has_alpha(source)))
        .next()
        .unwrap_or(Pixel::YUV444P16)
}

/// Of an encoder's formats, the one nearest to `wanted` (a planar Y'CbCr format): never less depth, and never less
/// chroma than wanted but for 4:1:1, 4:1:0 and 4:4:0, which become formats with as many samples that more can play.
/// RGB is taken where the encoder has nothing else.
pub(super) fn nearest(supported: &[Pixel], wanted: Pixel) -> Option<Pixel> {
    let by_cost = |cost: fn(Pixel, Pixel) -> Option<[usize; 4]>| {
        let costs = supported
            .iter()
            .filter_map(|&p| Some((cost(p, wanted)?, p)));
        costs.min_by_key(|(cost, _)| *cost).map(|(_, p)| p)
    };
    by_cost(ycbcr_cost).or_else(|| by_cost(rgb_cost))
}

/// What is lost or wasted, the worst first: alpha, chroma, depth, a range of its own.
fn ycbcr_cost(pixel: Pixel, wanted: Pixel) -> Option<[usize; 4]> {
    if !is_planar_ycbcr(pixel) {
        return None;
    }
    let shape = |p: Pixel| {
        p.descriptor()
            .map(|d| (d.log2_chroma_w(), d.log2_chroma_h()))
    };
    let rank = substitutes(shape(wanted)?)
        .iter()
        .position(|s| Some(*s) == shape(pixel))?;
    let range = usize::from(is_jpeg(pixel) != is_jpeg(wanted));
    Some([
        alpha_cost(pixel, wanted),
        rank,
        depth_cost(pixel, wanted)?,
        range,
    ])
}

fn rgb_cost(pixel: Pixel, wanted: Pixel) -> Option<[usize; 4]> {
    let c = Components::of(pixel)?;
    let readable = c.rgb() && !(c.palette() || c.bits() || c.float() || c.opaque());
    // Five or six bits a channel are not offered: depth_cost looks at one channel only.
    if !readable || c.list[..3].iter().any(|c| c.depth < 8) || !ffi::can_write(pixel) {
        return None;
    }
    let planar = usize::from(c.planar());
    Some([
        alpha_cost(pixel, wanted),
        depth_cost(pixel, wanted)?,
        planar,
        0,
    ])
}

/// A wanted alpha that is lost costs more than one that is full of nothing.
fn alpha_cost(pixel: Pixel, wanted: Pixel) -> usize {
    match (has_alpha(wanted), has_alpha(pixel)) {
        (true, false) => 2,
        (false, true) => 1,
        _ => 0,
    }
}

fn depth_cost(pixel: Pixel, wanted: Pixel) -> Option<usize> {
    let depth = |p: Pixel| Some(Components::of(p)?.list[0].depth as usize);
    depth(pixel)?.checked_sub(depth(wanted)?)
}

/// Subsamplings that may stand for one, the best first.
fn substitutes(log2: (u8, u8)) -> &'static [(u8, u8)] {
    match log2 {
        (1, 1) => &[(1, 1), (1, 0), (0, 0)],
        (1, 0) => &[(1, 0), (0, 0)],
        (0, 1) => &[(0, 1), (0, 0), (1, 0)],
        (2, 0) => &[(2, 0), (1, 1), (1, 0), (0, 0)],
        (2, 2) => &[(2, 2), (1, 1), (1, 0), (0, 0)],
        _ => &[(0, 0)],
    }
}

#[cfg(test)]
mod tests;
