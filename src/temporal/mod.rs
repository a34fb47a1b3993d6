//! Colour over time. `plan` finds scenes, motion and key frames from luma alone; `steady` turns colour on key frames
//! into colour on every frame.
//!
//! A filter is one file and one row of [`FILTERS`]; the contract test below runs every row.

pub mod cut;
pub mod motion;
mod off;
mod plan;
mod propagate;
pub mod sketch;
mod way;

pub use plan::{Motion, Plan, Planner};
pub use sketch::Sketch;

use crate::{
    error::{Error, Result},
    frame::{Inferred, Steady},
};

/// Spreads and steadies colour along time, with a finite memory.
///
/// A filter carries frames that it does not look into, so a timestamp never parts from its picture.
pub trait TemporalFilter: Send {
    /// How many frames (back, ahead) a frame's colour may depend on, at the most, the planner's included. A run that
    /// starts this far before a frame gives it the same colour as the whole film does.
    fn reach(&self) -> (usize, usize);

    /// Takes the next frame; gives those that are ready, in order.
    ///
    /// # Errors
    /// A key frame came without colour: a defect of an earlier stage.
    fn push(&mut self, frame: Inferred) -> Result<Vec<Steady>>;

    /// End of the film: gives all that is still held.
    ///
    /// # Errors
    /// As for `push`.
    fn flush(&mut self) -> Result<Vec<Steady>>;
}

/// How far a run may look ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Pace {
    /// Some frames: colour comes from the key frames before and after.
    #[default]
    Film,
    /// Not at all: every frame leaves as soon as it has come, its colour from the key frame before.
    Live,
}

/// A row of [`FILTERS`].
pub struct Row {
    /// Name on the command line.
    pub name: &'static str,
    /// One line of help.
    pub about: &'static str,
    /// Frames from one key frame to the next, of those that are asked for; `None`: every frame is one, and nobody
    /// needs to know how it moves.
    pub interval: fn(usize) -> Option<usize>,
    /// Makes a fresh filter for that interval.
    pub make: fn(usize, Pace) -> Box<dyn TemporalFilter>,
}

/// Every temporal filter.
pub const FILTERS: &[Row] = &[
    Row {
        name: "off",
        about: "every frame is coloured by itself",
        interval: |_| None,
        make: |_, _| Box::new(off::Off),
    },
    Row {
        name: "smooth",
        about: "every frame is coloured by the network, and steadied along the motion",
        interval: |_| Some(1),
        make: |_, pace| Box::new(propagate::Propagate::new(1, pace)),
    },
    Row {
        name: "motion",
        about: "the network colours key frames; motion carries their colour, steadied, to the others",
        interval: Some,
        make: |interval, pace| Box::new(propagate::Propagate::new(interval, pace)),
    },
];

/// The row of that name.
///
/// # Errors
/// There is no such row in [`FILTERS`].
pub fn by_name(name: &str) -> Result<&'static Row> {
    let row = FILTERS.iter().find(|row| row.name == name);
    row.ok_or_else(|| {
        let names: Vec<_> = FILTERS.iter().map(|row| row.name).collect();
        Error::Usage(format!(
            "there is no temporal filter '{name}': choose one of {}",
            names.join(", ")
        ))
    })
}

impl Pace {
    /// Frames that a verdict on cuts may wait for.
    fn ahead(self) -> usize {
        match self {
            Self::Film => cut::AHEAD,
            Self::Live => 0,
        }
    }
}

impl Row {
    /// What plans frames for this filter, with key frames every `interval` frames; `None` where every frame is one.
    pub fn planner(&self, interval: usize, pace: Pace) -> Option<Planner> {
        let interval = (self.interval)(interval)?;
        Some(Planner::new(interval as f64, pace.ahead()))
    }
}

#[cfg(test)]
mod tests;
