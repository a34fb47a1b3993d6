//! Models without weights, for tests and benchmarks.

use super::Colorizer;
use crate::{
    error::Result,
    frame::{AbMap, Thumb},
};

/// One colour everywhere; without chroma it is `gray`.
pub struct Constant {
    /// CIE a and b.
    pub ab: (f32, f32),
}

impl Colorizer for Constant {
    fn describe(&self) -> String {
        match self.ab == (0., 0.) {
            true => "gray (built in, no chroma)".into(),
            false => format!(
                "constant (built in, a {} b {} everywhere)",
                self.ab.0, self.ab.1
            ),
        }
    }

    fn thumb_size(&self, _: usize, _: usize, _: f64) -> Option<(usize, usize)> {
        None
    }

    fn predict(&mut self, thumbs: &[Thumb]) -> Result<Vec<AbMap>> {
        Ok(vec![AbMap::constant(self.ab.0, self.ab.1); thumbs.len()])
    }
}
