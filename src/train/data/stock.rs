//! Stock: the kind of grey that a film or a video made of the colours before it.

use rand::Rng;

use crate::color;

/// How the one grey channel of an old film came about, for an encoded sRGB colour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stock {
    /// CIE lightness: what an ideal film would see.
    Ideal,
    /// A weighted sum of R', G', B' taken for the encoded grey. Weights sum to 1.
    Mix([f32; 3]),
}

impl Stock {
    /// Luma of standard and of high definition: what a desaturated video carries.
    const BT601: Self = Self::Mix([0.299, 0.587, 0.114]);
    const BT709: Self = Self::Mix([0.2126, 0.7152, 0.0722]);

    /// One that is not ideal, at random: one of the two lumas, or as often blue-sensitive like orthochromatic film.
    pub fn random(rng: &mut impl Rng) -> Self {
        match rng.random_range(0..4) {
            0 => Self::BT601,
            1 => Self::BT709,
            _ => {
                let (red, blue) = (rng.random_range(0.0..0.25), rng.random_range(0.2..0.5));
                Self::Mix([red, 1. - red - blue, blue])
            }
        }
    }

    /// Lightness 0..100 of an 8-bit encoded colour whose own lightness is `ideal`.
    pub fn lightness(self, rgb: [u8; 3], ideal: f32) -> f32 {
        match self {
            Self::Ideal => ideal,
            Self::Mix(k) => {
                let [r, g, b] = rgb.map(f32::from);
                color::lightness_of_code(k[0] * r + k[1] * g + k[2] * b)
            }
        }
    }
}
