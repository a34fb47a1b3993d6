//! Colour over time. `plan` marks key frames from luma alone; `steady` turns colour on key frames into colour on
//! every frame.
//!
//! A filter is one file and one row of [`FILTERS`]; the contract test below runs every row.

mod off;

use crate::{
    error::{Error, Result},
    frame::{Inferred, Steady},
};

/// Spreads and steadies colour along time, with a finite memory.
///
/// A filter carries frames that it does not look into, so a timestamp never parts from its picture.
pub trait TemporalFilter: Send {
    /// How many frames (back, ahead) a frame's colour may depend on, at the most. A run that starts this far before a
    /// frame gives it the same colour as the whole film does.
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

/// A row of [`FILTERS`].
pub struct Row {
    /// Name on the command line.
    pub name: &'static str,
    /// One line of help.
    pub about: &'static str,
    /// Makes a fresh filter.
    pub make: fn() -> Box<dyn TemporalFilter>,
}

/// Every temporal filter.
pub const FILTERS: &[Row] = &[Row {
    name: "off",
    about: "every frame is coloured by itself",
    make: || Box::new(off::Off),
}];

/// A fresh filter of that name.
///
/// # Errors
/// There is no such row in [`FILTERS`].
pub fn by_name(name: &str) -> Result<Box<dyn TemporalFilter>> {
    let row = FILTERS.iter().find(|row| row.name == name);
    row.map(|row| (row.make)()).ok_or_else(|| {
        let names: Vec<_> = FILTERS.iter().map(|row| row.name).collect();
        Error::Usage(format!(
            "there is no temporal filter '{name}': choose one of {}",
            names.join(", ")
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        frame::{AbMap, Decoded},
        media::Picture,
    };

    fn frame(index: u64) -> Inferred {
        let frame = Decoded {
            index,
            pts: index as i64 * 3,
            duration: 3,
            picture: Picture::empty(),
        };
        Inferred {
            frame,
            cut: index == 0,
            ab: Some(AbMap::constant(index as f32, -1.0)),
        }
    }

    #[test]
    fn every_filter_returns_the_frames_that_it_was_given_in_order() {
        for row in FILTERS {
            for n in [0, 1, 2, 3, 4, 5, 6, 50] {
                let mut filter = (row.make)();
                let mut out = Vec::new();
                for i in 0..n {
                    out.extend(filter.push(frame(i)).unwrap());
                    let held = i as usize + 1 - out.len();
                    assert!(
                        held <= filter.reach().1,
                        "{}: holds {held} frames",
                        row.name
                    );
                }
                out.extend(filter.flush().unwrap());
                let seen: Vec<_> = out.iter().map(|s| (s.frame.index, s.frame.pts)).collect();
                assert_eq!(
                    seen,
                    (0..n).map(|i| (i, i as i64 * 3)).collect::<Vec<_>>(),
                    "{}",
                    row.name
                );
            }
        }
    }

    #[test]
    fn every_filter_started_in_the_middle_with_its_pre_roll_gives_the_same_maps() {
        for row in FILTERS {
            let maps = |from: u64| -> Vec<(u64, AbMap)> {
                let mut filter = (row.make)();
                let mut out: Vec<Steady> = (from..40)
                    .flat_map(|i| filter.push(frame(i)).unwrap())
                    .collect();
                out.extend(filter.flush().unwrap());
                out.into_iter().map(|s| (s.frame.index, s.ab)).collect()
            };
            let back = (row.make)().reach().0 as u64;
            assert_eq!(
                maps(0)[20..],
                maps(20 - back)[back as usize..],
                "{}",
                row.name
            );
        }
    }
}
