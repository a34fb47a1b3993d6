//! What travels through the pipeline, one type an edge; and the small picture types that the network sees.
//!
//! Nothing here knows ffmpeg, tensors, flags or threads. Outside `net` and `train`, lightness L is 0..100 and
//! a, b are CIE 1976 units.

use std::time::Instant;

use crate::{
    media::{Packet, Picture},
    temporal::Motion,
};

/// Which code values a picture uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// 16..235 for luma and 16..240 for chroma, scaled by depth ("tv", "mpeg").
    Limited,
    /// Every code value ("pc", "jpeg").
    Full,
}

/// Luma coefficients of a Y'CbCr matrix: `Y' = kr R' + (1 - kr - kb) G' + kb B'`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Matrix {
    /// Weight of red.
    pub kr: f32,
    /// Weight of blue.
    pub kb: f32,
}

impl Matrix {
    /// ITU-R BT.601: standard definition.
    pub const BT601: Self = Self {
        kr: 0.299,
        kb: 0.114,
    };
    /// ITU-R BT.709: high definition.
    pub const BT709: Self = Self {
        kr: 0.2126,
        kb: 0.0722,
    };
    /// ITU-R BT.2020, non-constant luminance.
    pub const BT2020: Self = Self {
        kr: 0.2627,
        kb: 0.0593,
    };
    /// FCC 73.682.
    pub const FCC: Self = Self { kr: 0.30, kb: 0.11 };
    /// SMPTE 240M.
    pub const SMPTE240M: Self = Self {
        kr: 0.212,
        kb: 0.087,
    };
}

/// Chromaticities (CIE xy) of the red, green and blue that a picture's R, G, B stand for. The white is D65 always:
/// grey is R = G = B in every system, and old C-white systems are shown on D65 screens anyway.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Primaries {
    /// Red.
    pub r: [f32; 2],
    /// Green.
    pub g: [f32; 2],
    /// Blue.
    pub b: [f32; 2],
}

impl Primaries {
    /// ITU-R BT.709 and sRGB.
    pub const BT709: Self = Self {
        r: [0.640, 0.330],
        g: [0.300, 0.600],
        b: [0.150, 0.060],
    };
    /// SMPTE 170M and 240M: NTSC.
    pub const SMPTE170M: Self = Self {
        r: [0.630, 0.340],
        g: [0.310, 0.595],
        b: [0.155, 0.070],
    };
    /// ITU-R BT.470 BG: PAL and SECAM.
    pub const BT470BG: Self = Self {
        r: [0.640, 0.330],
        g: [0.290, 0.600],
        b: [0.150, 0.060],
    };
    /// ITU-R BT.2020.
    pub const BT2020: Self = Self {
        r: [0.708, 0.292],
        g: [0.170, 0.797],
        b: [0.131, 0.046],
    };
}

/// How samples lie in a picture, whatever program made it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Bits of a luma sample, 8 to 16.
    pub depth: u8,
    /// log2 of luma columns per chroma column: 0, 1 or 2.
    pub log2_w: u8,
    /// log2 of luma rows per chroma row: 0, 1 or 2.
    pub log2_h: u8,
    /// Where the first chroma sample sits, in luma samples right of and below the first luma sample's centre:
    /// (0, 0.5) for MPEG-2 and H.264 4:2:0 ("left"), (0.5, 0.5) for JPEG and MPEG-1 ("center").
    pub chroma_offset: (f32, f32),
    /// Code values used.
    pub range: Range,
    /// Y'CbCr matrix.
    pub matrix: Matrix,
    /// What its R, G and B are.
    pub primaries: Primaries,
    /// Rows alternate between two fields: in 4:2:0 chroma row j belongs to field j & 1.
    pub interlaced: bool,
}

/// What is known of the main video before its first frame is coloured.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoInfo {
    /// Width of the coded picture.
    pub width: usize,
    /// Height of the coded picture.
    pub height: usize,
    /// Width and height as shown: square pixels, upright.
    pub display: (usize, usize),
    /// Clockwise turn in degrees that makes the coded picture upright: 0, 90, 180 or 270.
    pub rotation: u16,
    /// FFmpeg's name of the codec.
    pub codec: String,
    /// FFmpeg's name of the pixel format.
    pub pixel_format: String,
    /// How samples lie, with the tags that are used where the source has none.
    pub sampling: Sampling,
    /// Seconds per tick of every `pts`, as (numerator, denominator).
    pub time_base: (i32, i32),
    /// Nominal frames a second as (numerator, denominator), where known.
    pub frame_rate: Option<(i32, i32)>,
    /// Length in seconds, where the container says.
    pub duration: Option<f64>,
    /// Number of frames, estimated from the container; for progress only.
    pub frames: Option<u64>,
}

/// What an edge carries, in order: a frame of the main video, or a packet of a stream that is only copied.
///
/// Packets travel beside the frames, so a copied stream can neither run ahead of the picture without bound nor
/// starve behind it.
pub enum Item<F> {
    /// A frame of the main video, in the form that this edge carries.
    Frame(F),
    /// A packet of any other stream, to be copied.
    Packet(Packet),
}

/// decode -> plan: a decoded frame with its definite timestamp.
pub struct Decoded {
    /// Position in the output, from 0, without holes.
    pub index: u64,
    /// Presentation time in the source video stream's time base. Made definite by `decode`, never questioned again.
    pub pts: i64,
    /// Duration in the same time base; at least 1.
    pub duration: i64,
    /// When the packet came that made it whole: from there a live run counts its delay.
    pub arrived: Instant,
    /// The whole decoded frame; read-only for everybody.
    pub picture: Picture,
}

/// plan -> infer: whether the network runs on this frame is decided here, from luma alone.
pub struct Planned {
    /// The frame.
    pub frame: Decoded,
    /// Lightness at network size, display aspect, upright; present on key frames that do not keep their colours.
    pub thumb: Option<Thumb>,
    /// The first frame of a new scene: no state crosses to it.
    pub cut: bool,
    /// It keeps the colours that it came with.
    pub own: bool,
    /// How it moves, where the temporal filter asks for it.
    pub motion: Option<Motion>,
}

/// What the network says of a frame that has passed already.
pub struct Late {
    /// The frame's index.
    pub of: u64,
    /// Its colour.
    pub ab: AbMap,
}

/// infer -> steady: colour on key frames only.
pub struct Inferred {
    /// The frame.
    pub frame: Decoded,
    /// The first frame of a new scene.
    pub cut: bool,
    /// It keeps the colours that it came with.
    pub own: bool,
    /// Motion of the frames after it is told up to here.
    pub key: bool,
    /// Colour, on key frames; on those of a live run only where there is none to be carried to them.
    pub ab: Option<AbMap>,
    /// In a live run: the colour of an earlier key frame, which has just become known.
    pub late: Option<Late>,
    /// How it moves, where the temporal filter asks for it.
    pub motion: Option<Motion>,
}

/// steady -> merge: colour on every frame.
pub struct Steady {
    /// The frame.
    pub frame: Decoded,
    /// Colour in the orientation of the coded picture; `None`: those that it came with.
    pub ab: Option<AbMap>,
}

/// merge -> encode: the source's luma with new chroma.
pub struct Merged {
    /// Position in the output, from 0.
    pub index: u64,
    /// Presentation time in the source video stream's time base.
    pub pts: i64,
    /// Duration in the same time base.
    pub duration: i64,
    /// When the packet came that made the frame whole.
    pub arrived: Instant,
    /// The picture to encode.
    pub picture: Picture,
}

/// Lightness at network size: CIE L, 0..100, row-major, upright (display orientation, display aspect).
#[derive(Clone, Debug, PartialEq)]
pub struct Thumb {
    /// Width in samples.
    pub width: usize,
    /// Height in samples.
    pub height: usize,
    /// `width * height` lightness values, 0..100.
    pub l: Vec<f32>,
}

impl Thumb {
    /// What a network that looks at no pixels gets.
    pub fn empty() -> Self {
        Self {
            width: 0,
            height: 0,
            l: Vec::new(),
        }
    }
}

/// A small map of chroma over the whole picture: CIE a and b, row-major. Its samples are cell centres of a grid
/// that spans the picture exactly, so any size maps onto any picture.
#[derive(Clone, Debug, PartialEq)]
pub struct AbMap {
    /// Width in samples.
    pub width: usize,
    /// Height in samples.
    pub height: usize,
    /// `width * height` values of a (green-red).
    pub a: Vec<f32>,
    /// `width * height` values of b (blue-yellow).
    pub b: Vec<f32>,
}

impl AbMap {
    /// One colour everywhere.
    pub fn constant(a: f32, b: f32) -> Self {
        Self {
            width: 1,
            height: 1,
            a: vec![a],
            b: vec![b],
        }
    }

    /// a and b at a place, 0..=1 across and down, by cubic curves through the samples (Catmull and Rom 1974): straight
    /// lines would take a little of the colour each time that it is carried on.
    pub fn at(&self, x: f32, y: f32) -> [f32; 2] {
        let (columns, rows) = (taps(x, self.width), taps(y, self.height));
        [&self.a, &self.b].map(|plane| {
            let row = |(row, weight): &(usize, f32)| {
                let row = &plane[row * self.width..][..self.width];
                let sum: f32 = columns.iter().map(|(x, weight)| weight * row[*x]).sum();
                weight * sum
            };
            rows.iter().map(row).sum()
        })
    }

    /// Turns a map from upright (display) orientation to that of the coded picture. `rotation` is
    /// [`VideoInfo::rotation`]: the clockwise turn that makes the coded picture upright, undone here.
    pub fn rotated_to_coded(self, rotation: u16) -> Self {
        let back = (360 - rotation % 360) % 360;
        let (size, a) = turned(&self.a, (self.width, self.height), back);
        let (_, b) = turned(&self.b, (self.width, self.height), back);
        Self {
            width: size.0,
            height: size.1,
            a,
            b,
        }
    }
}

/// The four of `count` samples around a place, 0..=1, with their weights; the first and the last go on beyond the ends.
fn taps(place: f32, count: usize) -> [(usize, f32); 4] {
    let at = (place * count as f32 - 0.5).clamp(0., (count - 1) as f32);
    let first = at as usize;
    let t = at - first as f32;
    let weights = [
        t * (t * (2. - t) - 1.),
        t * t * (3. * t - 5.) + 2.,
        t * (t * (4. - 3. * t) + 1.),
        t * t * (t - 1.),
    ];
    let sample = |i: usize| (first + i).saturating_sub(1).min(count - 1);
    std::array::from_fn(|i| (sample(i), weights[i] / 2.))
}

/// A row-major grid of (width, height) turned clockwise by 0, 90, 180 or 270 degrees, with its new size.
pub(crate) fn turned<T: Copy>(
    grid: &[T],
    (width, height): (usize, usize),
    clockwise: u16,
) -> ((usize, usize), Vec<T>) {
    let column = |x: usize| (0..height).map(move |y| grid[y * width + x]);
    match clockwise {
        90 => (
            (height, width),
            (0..width).flat_map(|x| column(x).rev()).collect(),
        ),
        180 => ((width, height), grid.iter().rev().copied().collect()),
        270 => ((height, width), (0..width).rev().flat_map(column).collect()),
        _ => ((width, height), grid.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ```text
    /// 1 2 3   clockwise   4 1
    /// 4 5 6   by 90:      5 2
    ///                     6 3
    /// ```
    #[test]
    fn a_clockwise_turn_puts_the_left_column_on_top() {
        let grid = [1, 2, 3, 4, 5, 6];
        assert_eq!(turned(&grid, (3, 2), 90), ((2, 3), vec![4, 1, 5, 2, 6, 3]));
        assert_eq!(turned(&grid, (3, 2), 180).1, [6, 5, 4, 3, 2, 1]);
        assert_eq!(turned(&grid, (3, 2), 270), ((2, 3), vec![3, 6, 2, 5, 1, 4]));
        assert_eq!(turned(&grid, (3, 2), 0), ((3, 2), grid.to_vec()));
    }

    #[test]
    fn rotating_a_map_undoes_the_turn_that_makes_the_picture_upright() {
        let coded = AbMap {
            width: 3,
            height: 2,
            a: vec![1., 2., 3., 4., 5., 6.],
            b: vec![-1., -2., -3., -4., -5., -6.],
        };
        for rotation in [0, 90, 180, 270] {
            let (size, a) = turned(&coded.a, (3, 2), rotation);
            let (_, b) = turned(&coded.b, (3, 2), rotation);
            let upright = AbMap {
                width: size.0,
                height: size.1,
                a,
                b,
            };
            assert_eq!(
                upright.rotated_to_coded(rotation),
                coded,
                "{rotation} degrees"
            );
        }
    }
}
