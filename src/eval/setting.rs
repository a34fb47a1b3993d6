//! The grid of settings of a network's last step that is searched.

use std::{collections::BTreeSet, fmt};

use serde::Serialize;

use crate::net::{self, Decoding};

/// How what a network says becomes colour.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Setting {
    /// How a choice of bins becomes a colour; none of a network without bins.
    #[serde(flatten)]
    pub decoding: Option<Decoding>,
    /// Factor on the chroma.
    pub gain: f32,
}

impl Setting {
    /// As it stands in a model's file.
    pub fn stored(&self) -> net::Setting {
        net::Setting {
            decoding: self.decoding.unwrap_or_default(),
            gain: self.gain,
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if let Some(Decoding {
            k,
            temperature,
            calm,
        }) = self.decoding
        {
            write!(f, "k {k}, T {temperature}, calm {calm}, ")?;
        }
        write!(f, "gain {}", self.gain)
    }
}

/// A place in a grid: the numbers of its k, T, calm and gain.
pub type Point = [usize; 4];

/// The values that are tried of each number.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    k: &'static [f32],
    temperature: &'static [f32],
    calm: &'static [u8],
    gain: &'static [f32],
    /// Of how many values one is tried at first.
    stride: usize,
}

impl Grid {
    /// Of a network that chooses bins.
    pub const CLASSIFICATION: Self = Self {
        k: &[0., 0.1, 0.2, 0.3, 0.4, 0.5],
        temperature: &[0.25, 0.38, 0.5, 0.7, 1.],
        calm: &[0, 1, 2],
        gain: &[1., 1.2, 1.4, 1.6, 1.8, 2., 2.2, 2.4, 2.6],
        stride: 2,
    };

    /// Of one that says a and b.
    pub const REGRESSION: Self = Self {
        k: &[],
        temperature: &[],
        calm: &[],
        gain: &[1., 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2.],
        stride: 1,
    };

    /// The setting at a place.
    pub fn at(&self, [k, temperature, calm, gain]: Point) -> Setting {
        let decoding = || {
            Some(Decoding {
                k: *self.k.get(k)?,
                temperature: *self.temperature.get(temperature)?,
                calm: *self.calm.get(calm)?,
            })
        };
        Setting {
            decoding: decoding(),
            gain: self.gain[gain],
        }
    }

    /// Where a search begins: evenly over the grid.
    pub fn coarse(&self) -> BTreeSet<Point> {
        self.points(|_, at| at % self.stride == 0)
    }

    /// A place and its neighbours: at most two of their numbers are others, by one.
    pub fn around(&self, point: Point) -> BTreeSet<Point> {
        let mut points = self.points(|axis, at| at.abs_diff(point[axis]) <= 1);
        points.retain(|other| other.iter().zip(&point).filter(|(x, y)| x != y).count() <= 2);
        points
    }

    /// The places whose every number is `wanted` on its axis.
    fn points(&self, wanted: impl Fn(usize, usize) -> bool) -> BTreeSet<Point> {
        let mut points = BTreeSet::from([[0; 4]]);
        let counts = [
            self.k.len(),
            self.temperature.len(),
            self.calm.len(),
            self.gain.len(),
        ];
        for (axis, count) in counts.into_iter().enumerate() {
            let numbers = (0..count.max(1)).filter(|at| wanted(axis, *at));
            let numbers: Vec<usize> = numbers.collect();
            let spread = |mut point: Point| {
                numbers.clone().into_iter().map(move |at| {
                    point[axis] = at;
                    point
                })
            };
            points = points.into_iter().flat_map(spread).collect();
        }
        points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_can_reach_every_setting() {
        for (grid, count, first) in [
            (Grid::CLASSIFICATION, 6 * 5 * 3 * 9, 3 * 3 * 2 * 5),
            (Grid::REGRESSION, 11, 11),
        ] {
            let mut reached = grid.coarse();
            assert_eq!(reached.len(), first);
            while reached.len() < count {
                let wider: BTreeSet<_> = reached.iter().flat_map(|p| grid.around(*p)).collect();
                assert!(wider.len() > reached.len());
                reached.extend(wider);
            }
            assert_eq!(reached.len(), count);
        }
        assert_eq!(Grid::CLASSIFICATION.around([3, 2, 1, 2]).len(), 33);
        assert_eq!(Grid::CLASSIFICATION.around([0; 4]).len(), 11);
        let words = Grid::CLASSIFICATION.at([4, 1, 2, 1]).to_string();
        assert_eq!(words, "k 0.4, T 0.38, calm 2, gain 1.2");
        assert_eq!(Grid::REGRESSION.at([0, 0, 0, 3]).to_string(), "gain 1.3");
    }
}
