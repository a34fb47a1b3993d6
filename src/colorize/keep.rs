//! Keep: scenes that are in colour already keep their colours, as documentaries have them between black-and-white ones.

use std::{collections::VecDeque, fmt, str::FromStr};

use crate::{
    color::Palette,
    error::{Error, Result},
    media::Picture,
    temporal::Plan,
};

/// Width and height at which colours are looked at.
const SIZE: (usize, usize) = (64, 36);
/// Key frames over which a verdict is taken, so that one odd frame does not make a scene.
pub(super) const FRAMES: usize = 3;
/// Mean of [`Palette::varied`] from which a scene is in colour.
const VARIED: f32 = 0.14;
/// Mean of [`Palette::chroma`] from which it is not black-and-white, but may be tinted.
const TINTED: f32 = 2.;

/// Which scenes keep the colours that they came with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum KeepColor {
    /// Those in colour; tinted and sepia ones do not count as such.
    #[default]
    Auto,
    /// None.
    Never,
    /// All that have any colour, tinted and sepia ones too.
    Always,
}

impl KeepColor {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Never, Self::Always];

    /// Whether it keeps colours at all like those of this picture.
    pub fn keeps_one(self, palette: Palette) -> bool {
        self.keeps(&VecDeque::from([palette]))
    }

    fn keeps(self, palettes: &VecDeque<Palette>) -> bool {
        let count = palettes.len().max(1) as f32;
        let mean = |value: fn(&Palette) -> f32| palettes.iter().map(value).sum::<f32>() / count;
        match self {
            Self::Never => false,
            Self::Auto => mean(|palette| palette.varied) >= VARIED,
            Self::Always => mean(|palette| palette.chroma) >= TINTED,
        }
    }
}

impl fmt::Display for KeepColor {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Never => "never",
            Self::Always => "always",
        })
    }
}

impl FromStr for KeepColor {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|choice| choice.to_string() == s);
        found.ok_or_else(|| Error::Usage(format!("'{s}' is none of auto, never, always")))
    }
}

/// Decides, key frame by key frame, whether a film keeps its own colours.
pub struct Keeper {
    choice: KeepColor,
    /// Most frames that a verdict looks at.
    frames: usize,
    /// What the last key frames of this scene have.
    palettes: VecDeque<Palette>,
    keeps: bool,
}

impl Keeper {
    /// By this choice; where every frame stands `alone`, it is judged by itself.
    pub fn new(choice: KeepColor, alone: bool) -> Self {
        Self {
            choice,
            frames: if alone { 1 } else { FRAMES },
            palettes: VecDeque::new(),
            keeps: false,
        }
    }

    /// Whether the next frame keeps its colours. Where a film's own colours begin or end, so does a scene.
    ///
    /// # Errors
    /// Nobody can read the picture's pixel format.
    pub fn keeps(&mut self, picture: &Picture, plan: &mut Plan) -> Result<bool> {
        if self.choice == KeepColor::Never {
            return Ok(false);
        }
        if plan.cut {
            self.palettes.clear();
        }
        if plan.key {
            let rgb = picture.to_rgb(SIZE.0, SIZE.1)?;
            self.palettes.push_back(Palette::of(rgb.as_chunks().0));
            if self.palettes.len() > self.frames {
                self.palettes.pop_front();
            }
            let keeps = self.choice.keeps(&self.palettes);
            plan.cut |= keeps != self.keeps;
            self.keeps = keeps;
        }
        Ok(self.keeps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for choice in KeepColor::ALL {
            assert_eq!(choice.to_string().parse::<KeepColor>().unwrap(), choice);
        }
        assert!("sometimes".parse::<KeepColor>().is_err());
    }

    #[test]
    fn a_tint_is_kept_only_on_wish_and_colour_is_by_itself() {
        let scene = |chroma, varied| VecDeque::from([Palette { chroma, varied }]);
        let verdicts = |palettes| KeepColor::ALL.map(|choice| choice.keeps(&palettes));
        assert_eq!(verdicts(scene(0.3, 0.)), [false, false, false]);
        assert_eq!(verdicts(scene(20., 0.01)), [false, false, true]);
        assert_eq!(verdicts(scene(15., 0.4)), [true, false, true]);
    }
}
