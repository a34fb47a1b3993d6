//! Quality: how much a network looks at, traded for speed.

use std::{fmt, str::FromStr};

/// Size of the thumbnails that the network sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Quality {
    /// Two thirds of what the model's file says: for live use and slow machines.
    Fast,
    /// What the model's file says.
    #[default]
    Normal,
    /// A sixth more: chroma follows smaller things. Beyond that the default model's errors grow.
    Best,
    /// A short side of so many pixels.
    Pixels(usize),
}

impl Quality {
    /// Least and largest short side that can be asked for.
    const RANGE: std::ops::RangeInclusive<usize> = 32..=1024;

    /// Short side of the thumbnails for a network trained at `size`.
    pub fn size(self, size: usize) -> usize {
        match self {
            Self::Fast => size * 2 / 3,
            Self::Normal => size,
            Self::Best => size * 7 / 6,
            Self::Pixels(pixels) => pixels,
        }
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Fast => f.write_str("fast"),
            Self::Normal => f.write_str("normal"),
            Self::Best => f.write_str("best"),
            Self::Pixels(pixels) => write!(f, "{pixels} px"),
        }
    }
}

impl FromStr for Quality {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let pixels = || s.parse().ok().filter(|px| Self::RANGE.contains(px));
        match s {
            "fast" => Ok(Self::Fast),
            "normal" => Ok(Self::Normal),
            "best" => Ok(Self::Best),
            _ => pixels().map(Self::Pixels).ok_or_else(|| {
                let (least, most) = (Self::RANGE.start(), Self::RANGE.end());
                format!("'{s}' is no quality: write fast, normal, best, or the short side of the network's picture, {least} to {most} pixels")
            }),
        }
    }
}
