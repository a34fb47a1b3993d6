//! Note: what follows from how a run colours, for those who keep its results.

use super::{KeepColor, Options, keep};
use crate::{error::Result, temporal};

impl Options {
    /// What a film's metadata says of how its colours were made, by a model that describes itself so.
    pub fn provenance(&self, model: &str) -> String {
        format!(
            "Colours are machine-made, by autochrome {}; model {model}; temporal {}, key interval {}; saturation {}, \
             warmth {}; keep color {}",
            env!("CARGO_PKG_VERSION"),
            self.temporal,
            self.key_interval,
            self.grade.saturation,
            self.grade.warmth,
            self.keep_color
        )
    }

    /// How many frames (back, ahead) a frame's colour may depend on, at the most: a run that begins so far before a frame
    /// gives it the same colour as one of the whole film.
    ///
    /// # Errors
    /// There is no temporal filter of that name.
    pub fn reach(&self) -> Result<(usize, usize)> {
        let interval = self.key_interval.max(1);
        let row = temporal::by_name(&self.temporal)?;
        let (back, ahead) = (row.make)(interval, self.pace).reach();
        // A verdict on the film's own colours looks at key frames, of which every interval has one.
        let keys = (row.interval)(interval).filter(|_| self.keep_color != KeepColor::Never);
        let keeps = keys.map_or(0, |interval| keep::FRAMES * interval);
        Ok((back + keeps, ahead))
    }
}
