//! Looks: ways to make colour of what one network says. A model's file holds the settings of each.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::bins::Decoding;
use crate::error::{Error, Result};

/// What colours are meant to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Look {
    /// With the least error: calm, near grey where the network does not know.
    Faithful,
    /// About as colourful as photographs are.
    #[default]
    Vivid,
}

impl Look {
    /// Every look.
    pub const ALL: [Self; 2] = [Self::Faithful, Self::Vivid];
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Faithful => "faithful",
            Self::Vivid => "vivid",
        })
    }
}

impl FromStr for Look {
    type Err = String;

    fn from_str(s: &str) -> std::result::Result<Self, String> {
        let named = Self::ALL.into_iter().find(|look| look.to_string() == s);
        named.ok_or_else(|| format!("'{s}' is no look: there are faithful and vivid"))
    }
}

/// Numbers of a network's last step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// How a choice of bins becomes a colour; nothing to a network without them.
    #[serde(flatten)]
    pub decoding: Decoding,
    /// Factor on the chroma.
    pub gain: f32,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            decoding: Decoding::default(),
            gain: 1.,
        }
    }
}

impl Setting {
    /// Whether these are numbers to make colours with.
    ///
    /// # Errors
    /// [`Error::Usage`] as for [`Decoding::check`], and for a gain that is not a number from 0.
    pub fn check(&self) -> Result<()> {
        self.decoding.check()?;
        match self.gain >= 0. && self.gain.is_finite() {
            true => Ok(()),
            false => Err(Error::Usage(format!(
                "a chroma gain of {} is impossible: it must be at least 0",
                self.gain
            ))),
        }
    }
}

/// The settings of every look, chosen on validation photographs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Looks {
    /// Of [`Look::Faithful`].
    pub faithful: Setting,
    /// Of [`Look::Vivid`].
    pub vivid: Setting,
}

impl Looks {
    /// One setting for every look.
    pub fn both(setting: Setting) -> Self {
        Self {
            faithful: setting,
            vivid: setting,
        }
    }

    /// The setting of `look`.
    pub fn of(&self, look: Look) -> Setting {
        match look {
            Look::Faithful => self.faithful,
            Look::Vivid => self.vivid,
        }
    }
}
