//! Colour arithmetic, each conversion beside its inverse: sRGB <-> CIE Lab and Lab <-> network units.
//!
//! Formulas: CIE 1976 with the sRGB transfer curve and D65 white (0.95047, 1, 1.08883), as in
//! `skimage.color.rgb2lab`. Outside `net` and `train`, L is 0..100 and a, b are CIE units.
//!
//! A pixel without colour has R' = G' = B' = Y', so its lightness is a function of the luma code alone
//! ([`lightness_table`]); [`chroma`] goes the other way, from luma and (a, b) to Cb and Cr planes.

pub mod chroma;
mod grade;
mod palette;

pub use grade::Grade;
pub use palette::Palette;

use std::sync::LazyLock;

use crate::frame::Range;

/// D65 white, 2 degree observer.
pub const WHITE: [f32; 3] = [0.95047, 1.0, 1.08883];
/// Network units of one unit of L: `x = L / 50 - 1`.
pub const L_SCALE: f32 = 50.0;
/// Network units of one unit of a or b: `y = ab / 110`.
pub const AB_SCALE: f32 = 110.0;
/// Where the cube root of CIE 1976 ends and its straight line begins.
pub const DELTA: f32 = 6.0 / 29.0;

/// Linear sRGB to XYZ (IEC 61966-2-1), row-major.
const RGB_TO_XYZ: [[f32; 3]; 3] = [
    [0.412453, 0.357580, 0.180423],
    [0.212671, 0.715160, 0.072169],
    [0.019334, 0.119193, 0.950227],
];
/// XYZ to linear sRGB, row-major.
pub const XYZ_TO_RGB: [[f32; 3]; 3] = [
    [3.240_481_3, -1.537_151_5, -0.498_536_33],
    [-0.969_255, 1.875_99, 0.041_555_927],
    [0.055_646_64, -0.204_041_34, 1.057_311],
];

/// sRGB transfer curve, encoded 0..1 to linear 0..1.
pub fn linear_from_srgb(v: f32) -> f32 {
    if v <= 0.04045 {
        v / 12.92
    } else {
        ((v + 0.055) / 1.055).powf(2.4)
    }
}

/// Inverse of [`linear_from_srgb`].
pub fn srgb_from_linear(v: f32) -> f32 {
    if v <= 0.003_130_8 {
        v * 12.92
    } else {
        1.055 * v.powf(1.0 / 2.4) - 0.055
    }
}

fn lab_f(t: f32) -> f32 {
    if t > DELTA.powi(3) {
        t.cbrt()
    } else {
        t / (3.0 * DELTA * DELTA) + 4.0 / 29.0
    }
}

fn lab_f_inverse(t: f32) -> f32 {
    if t > DELTA {
        t * t * t
    } else {
        3.0 * DELTA * DELTA * (t - 4.0 / 29.0)
    }
}

/// CIE Lab of an encoded sRGB colour, each channel 0..1.
pub fn lab_from_srgb(rgb: [f32; 3]) -> [f32; 3] {
    let lin = rgb.map(linear_from_srgb);
    let dot = |r: [f32; 3]| r[0] * lin[0] + r[1] * lin[1] + r[2] * lin[2];
    let [fx, fy, fz] = [0, 1, 2].map(|i| lab_f(dot(RGB_TO_XYZ[i]) / WHITE[i]));
    [116.0 * fy - 16.0, 500.0 * (fx - fy), 200.0 * (fy - fz)]
}

/// [`lab_from_srgb`] of 8-bit codes, to within 1e-3, several times as fast.
pub fn lab_from_srgb8(rgb: [u8; 3]) -> [f32; 3] {
    let lin = rgb.map(|code| LINEAR[usize::from(code)]);
    let dot = |r: [f32; 3]| r[0] * lin[0] + r[1] * lin[1] + r[2] * lin[2];
    let [fx, fy, fz] = [0, 1, 2].map(|i| lab_f_fast(dot(RGB_TO_XYZ[i]) / WHITE[i]));
    [116.0 * fy - 16.0, 500.0 * (fx - fy), 200.0 * (fy - fz)]
}

/// [`linear_from_srgb`] of every 8-bit code.
static LINEAR: LazyLock<[f32; 256]> =
    LazyLock::new(|| std::array::from_fn(|code| linear_from_srgb(code as f32 / 255.0)));

/// [`lab_f`] with a cube root by two steps of Halley's method from a guess at its exponent.
fn lab_f_fast(t: f32) -> f32 {
    let mut root = f32::from_bits(t.to_bits() / 3 + 0x2A51_4067);
    for _ in 0..2 {
        let cube = root * root * root;
        root *= (cube + 2.0 * t) / (2.0 * cube + t);
    }
    if t > DELTA * DELTA * DELTA {
        root
    } else {
        t / (3.0 * DELTA * DELTA) + 4.0 / 29.0
    }
}

/// Encoded sRGB of a CIE Lab colour. Inverse of [`lab_from_srgb`]; values outside 0..1 are out of gamut and not
/// clipped here.
pub fn srgb_from_lab(lab: [f32; 3]) -> [f32; 3] {
    linear_from_lab(lab).map(|v| v.signum() * srgb_from_linear(v.abs()))
}

/// Linear sRGB of a CIE Lab colour, not clipped.
pub fn linear_from_lab([l, a, b]: [f32; 3]) -> [f32; 3] {
    let fy = (l + 16.0) / 116.0;
    let xyz = [
        WHITE[0] * lab_f_inverse(fy + a / 500.0),
        WHITE[1] * lab_f_inverse(fy),
        WHITE[2] * lab_f_inverse(fy - b / 200.0),
    ];
    XYZ_TO_RGB.map(|r| r[0] * xyz[0] + r[1] * xyz[1] + r[2] * xyz[2])
}

/// Lightness 0..100 of an encoded grey 0..1.
pub fn lightness(v: f32) -> f32 {
    116.0 * lab_f(linear_from_srgb(v)) - 16.0
}

/// Lightness of an encoded grey in 8-bit codes, 0..255, which may lie between two: straight lines between quarters of
/// codes, at most 1e-3 from [`lightness`].
pub fn lightness_of_code(code: f32) -> f32 {
    let quarters = 4.0 * code.clamp(0.0, 255.0);
    let below = quarters as usize;
    let [low, high] = [below, (below + 1).min(1020)].map(|i| GREYS[i]);
    low + (high - low) * (quarters - below as f32)
}

/// [`lightness`] of every quarter of an 8-bit code.
static GREYS: LazyLock<[f32; 1021]> =
    LazyLock::new(|| std::array::from_fn(|quarter| lightness(quarter as f32 / 1020.0)));

/// Y' 0..1 of a luma code, which may lie between two codes (an average). Codes beyond black and white (limited range
/// has them) are black and white. Inverse of [`code_from_level`].
pub fn level_from_code(code: f32, depth: u8, range: Range) -> f32 {
    let (black, white) = black_and_white(depth, range);
    ((code - black) / (white - black)).clamp(0.0, 1.0)
}

/// Luma code, not rounded, of a Y' 0..1. Inverse of [`level_from_code`].
pub fn code_from_level(level: f32, depth: u8, range: Range) -> f32 {
    let (black, white) = black_and_white(depth, range);
    black + level * (white - black)
}

/// Luma codes of black and white: 16 and 235 scaled to the depth, or the ends of the range (ITU-R BT.601, BT.2100).
fn black_and_white(depth: u8, range: Range) -> (f32, f32) {
    match range {
        Range::Limited => {
            let unit = (1u32 << (depth - 8)) as f32;
            (16.0 * unit, 235.0 * unit)
        }
        Range::Full => (0.0, ((1u32 << depth) - 1) as f32),
    }
}

/// Lightness 0..100 of every luma code of a depth (8 to 16) and range: `2^depth` values.
pub fn lightness_table(depth: u8, range: Range) -> Vec<f32> {
    (0..1u32 << depth)
        .map(|code| lightness(level_from_code(code as f32, depth, range)))
        .collect()
}

/// L 0..100 to network units -1..1.
pub fn network_from_l(l: f32) -> f32 {
    (l / L_SCALE - 1.0).clamp(-1.0, 1.0)
}

/// Inverse of [`network_from_l`].
pub fn l_from_network(x: f32) -> f32 {
    (x.clamp(-1.0, 1.0) + 1.0) * L_SCALE
}

/// CIE a or b to network units -1..1.
pub fn network_from_ab(v: f32) -> f32 {
    (v / AB_SCALE).clamp(-1.0, 1.0)
}

/// Inverse of [`network_from_ab`].
pub fn ab_from_network(y: f32) -> f32 {
    y.clamp(-1.0, 1.0) * AB_SCALE
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Colours and their Lab by scikit-image: tests/golden/lab.py.
    const GOLDEN: &str = include_str!("../tests/golden/lab.txt");

    fn golden() -> impl Iterator<Item = ([f32; 3], [f32; 3])> {
        GOLDEN.lines().map(|line| {
            let v: Vec<f32> = line.split(' ').map(|v| v.parse().unwrap()).collect();
            ([v[0], v[1], v[2]], [v[3], v[4], v[5]])
        })
    }

    fn close(left: [f32; 3], right: [f32; 3], within: f32) -> bool {
        left.iter().zip(right).all(|(l, r)| (l - r).abs() <= within)
    }

    #[test]
    fn lab_is_scikit_image_s() {
        assert_eq!(golden().count(), 50);
        for (rgb, lab) in golden() {
            assert!(
                close(lab_from_srgb(rgb), lab, 1e-3),
                "{rgb:?}: {:?} for {lab:?}",
                lab_from_srgb(rgb)
            );
        }
    }

    #[test]
    fn the_fast_lab_is_the_exact_one() {
        let codes = || (0..=255u8).step_by(5);
        for (r, g) in codes().flat_map(|r| codes().map(move |g| (r, g))) {
            for b in codes().chain([1, 2, 3, 4]) {
                let exact = lab_from_srgb([r, g, b].map(|code| f32::from(code) / 255.0));
                let fast = lab_from_srgb8([r, g, b]);
                assert!(close(fast, exact, 1e-3), "{fast:?} for {exact:?}");
            }
        }
    }

    #[test]
    fn lightness_between_codes_is_the_exact_one() {
        for tenth in 0..=2550 {
            let code = tenth as f32 / 10.0;
            let (fast, exact) = (lightness_of_code(code), lightness(code / 255.0));
            assert!((fast - exact).abs() < 1e-3, "{code}: {fast} for {exact}");
        }
    }

    #[test]
    fn lab_and_back_is_the_same_colour() {
        for (rgb, lab) in golden() {
            assert!(
                close(srgb_from_lab(lab), rgb, 1e-4),
                "{lab:?}: {:?} for {rgb:?}",
                srgb_from_lab(lab)
            );
        }
    }

    #[test]
    fn the_lightness_table_is_lab_s_of_grey_at_every_depth_and_range() {
        for depth in 8..=16 {
            for (range, black, white) in [
                (Range::Full, 0, (1 << depth) - 1),
                (Range::Limited, 16 << (depth - 8), 235 << (depth - 8)),
            ] {
                let table = lightness_table(depth, range);
                assert_eq!(table.len(), 1 << depth);
                assert!(table[..=black].iter().all(|&l| l == 0.0));
                assert!(table[white..].iter().all(|&l| (l - 100.0).abs() < 1e-4));
                assert!(table[black..=white].windows(2).all(|l| l[0] < l[1]));
                let code = black + (white - black) / 3;
                let grey = (code - black) as f32 / (white - black) as f32;
                assert!(
                    (table[code] - lab_from_srgb([grey; 3])[0]).abs() < 1e-3,
                    "{depth} bits {range:?}"
                );
            }
        }
    }

    #[test]
    fn codes_and_levels_are_inverse() {
        for (depth, range) in [(8, Range::Limited), (10, Range::Full), (16, Range::Limited)] {
            for level in [0.0, 0.25, 1.0] {
                let code = code_from_level(level, depth, range);
                assert!((level_from_code(code, depth, range) - level).abs() < 1e-6);
            }
        }
        assert_eq!(code_from_level(1.0, 10, Range::Limited), 940.0);
    }

    #[test]
    fn network_units_and_back() {
        for l in [0.0, 33.0, 100.0] {
            assert!((l_from_network(network_from_l(l)) - l).abs() < 1e-4);
        }
        for v in [-110.0, 0.0, 54.0] {
            assert!((ab_from_network(network_from_ab(v)) - v).abs() < 1e-4);
        }
        assert_eq!(network_from_ab(500.0), 1.0);
    }
}
