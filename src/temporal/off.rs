//! No temporal filter: every frame is a key frame and keeps its own colour.

use super::TemporalFilter;
use crate::{
    error::{Error, Result},
    frame::{Inferred, Steady},
};

/// Passes every frame on with its own colour.
pub struct Off;

impl TemporalFilter for Off {
    fn reach(&self) -> (usize, usize) {
        (0, 0)
    }

    fn push(&mut self, Inferred { frame, ab, .. }: Inferred) -> Result<Vec<Steady>> {
        let ab = ab.ok_or_else(|| {
            Error::internal(
                "steady",
                format!("frame {} came without colour", frame.index),
            )
        })?;
        Ok(vec![Steady {
            frame,
            ab: Some(ab),
        }])
    }

    fn flush(&mut self) -> Result<Vec<Steady>> {
        Ok(Vec::new())
    }
}
