//! Sampler: which picture stands at which position of the endless sequence that training goes through.
//!
//! The sequence is made of rounds as long as there are pictures. In every round each source has a fixed number of
//! places, in proportion to the square root of how many pictures it has; its pictures take them in turn, shuffled anew
//! each time all have had one. The round itself is shuffled too. So position p is a function of (seed, p), and with
//! one source a round is an epoch.

use rand::seq::SliceRandom;

use super::{Photo, source};
use crate::net::params::stream;

pub(super) struct Sampler {
    seed: u64,
    groups: Vec<Vec<usize>>,
    /// Places of each group in a round.
    places: Vec<usize>,
    /// A round and what stands in it.
    round: (u64, Vec<usize>),
}

impl Sampler {
    /// Over at least one photo.
    pub fn new(photos: &[Photo], seed: u64) -> Self {
        let groups = source::by_source(photos);
        let weights: Vec<f64> = groups.iter().map(|g| (g.len() as f64).sqrt()).collect();
        Self {
            seed,
            places: source::divided(photos.len(), &weights),
            groups,
            round: (u64::MAX, Vec::new()),
        }
    }

    /// Number of the picture at `position`.
    pub fn photo(&mut self, position: u64) -> usize {
        let length: usize = self.places.iter().sum();
        let round = position / length as u64;
        if self.round.0 != round {
            self.round = (round, self.in_round(round));
        }
        self.round.1[(position % length as u64) as usize]
    }

    /// Positions within which every picture is met at least once, wherever one begins.
    pub fn longest_wait(&self) -> u64 {
        let length: usize = self.places.iter().sum();
        let turns = self.groups.iter().zip(&self.places);
        let rounds = turns.map(|(group, places)| group.len().div_ceil((*places).max(1)));
        // A picture may be first in one turn and last in the next.
        ((2 * rounds.max().unwrap_or(1) + 1) * length) as u64
    }

    fn in_round(&self, round: u64) -> Vec<usize> {
        let mut all = Vec::new();
        for (number, (group, &places)) in self.groups.iter().zip(&self.places).enumerate() {
            let (mut from, end) = (round * places as u64, (round + 1) * places as u64);
            while from < end {
                let turn = from / group.len() as u64;
                let mut order = group.clone();
                let purpose = format!("source {number} turn {turn}");
                order.shuffle(&mut stream(self.seed, &purpose));
                let skip = (from % group.len() as u64) as usize;
                let take = (group.len() - skip).min((end - from) as usize);
                all.extend_from_slice(&order[skip..skip + take]);
                from += take as u64;
            }
        }
        all.shuffle(&mut stream(self.seed, &format!("round {round}")));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn photos() -> Vec<Photo> {
        let source = |i: u32| if i < 100 { "many" } else { "few" };
        let photo = |i: u32| Photo::unseen(i.to_string().into(), source(i), [0; 32]);
        (0..104).map(photo).collect()
    }

    #[test]
    fn sources_have_the_square_root_of_their_count_and_pictures_of_one_are_equal() {
        let mut sampler = Sampler::new(&photos(), 3);
        let mut visits = [0; 104];
        let length = 104 * 150;
        (0..length).for_each(|position| visits[sampler.photo(position)] += 1);
        let few: u64 = visits[100..].iter().sum();
        // 100 : 4 pictures are 10 : 2 places.
        assert!(
            (few as f64 / length as f64 - 2. / 12.).abs() < 0.005,
            "{few}"
        );
        for group in [&visits[..100], &visits[100..]] {
            let (least, most) = (group.iter().min().unwrap(), group.iter().max().unwrap());
            assert!(most - least <= 1, "{visits:?}");
        }
    }

    #[test]
    fn a_position_is_the_same_wherever_one_begins() {
        let mut whole = Sampler::new(&photos(), 3);
        let sequence: Vec<_> = (0..500).map(|p| whole.photo(p)).collect();
        for start in [499, 104, 103, 7] {
            assert_eq!(
                Sampler::new(&photos(), 3).photo(start),
                sequence[start as usize]
            );
        }
        let mut other = Sampler::new(&photos(), 4);
        assert!((0..500).any(|p| other.photo(p) != sequence[p as usize]));
    }
}
