//! Filter: pictures without colour, and pictures that are there twice.

use std::collections::{HashMap, HashSet};

use super::facts::{Facts, Hash, LOOK};

/// Mean chroma (CIE) below which a picture teaches no colour.
const NEAR_GREY: f32 = 4.;
/// Bits of the perceptual hash in which duplicates may differ.
const FAR: u32 = 7;
/// Root of the mean squared difference between the looks of duplicates, in levels of 255. Of copies at 0.6 of the size
/// and JPEG quality 60, 99 % lie within; other photographs hardly ever come below 12.
const UNLIKE: f32 = 5.;
/// Columns and rows of the cosine transform that the hash keeps.
const LOW: usize = 8;
/// The hash in bands: hashes that differ in at most [`FAR`] bits have one of these bytes in common.
const BANDS: u32 = FAR + 1;

/// Whether a picture has too little colour to learn from.
pub(super) fn is_grey(facts: &Facts) -> bool {
    facts.chroma < NEAR_GREY
}

/// Pictures met so far, to tell which come again: re-compressed or scaled, not cropped.
#[derive(Default)]
pub(super) struct Seen {
    contents: HashSet<Hash>,
    hashes: Vec<u64>,
    looks: Vec<Vec<u8>>,
    /// By band and its byte: the pictures that have it.
    bands: HashMap<(u32, u8), Vec<u32>>,
}

impl Seen {
    /// Notes a picture; answers whether it is new.
    pub fn insert(&mut self, facts: &Facts) -> bool {
        let hash = perceptual_hash(&facts.look);
        if !self.contents.insert(facts.content) || self.holds(hash, &facts.look) {
            return false;
        }
        for band in bands(hash) {
            let number = self.hashes.len() as u32;
            self.bands.entry(band).or_default().push(number);
        }
        self.hashes.push(hash);
        self.looks.push(facts.look.clone());
        true
    }

    fn holds(&self, hash: u64, look: &[u8]) -> bool {
        let near = |number: &u32| {
            let number = *number as usize;
            (self.hashes[number] ^ hash).count_ones() <= FAR
                && difference(&self.looks[number], look) <= UNLIKE
        };
        bands(hash).any(|band| {
            self.bands
                .get(&band)
                .is_some_and(|all| all.iter().any(near))
        })
    }
}

fn bands(hash: u64) -> impl Iterator<Item = (u32, u8)> {
    (0..BANDS).map(move |band| (band, (hash >> (8 * band)) as u8))
}

/// Root of the mean squared difference of two looks.
fn difference(left: &[u8], right: &[u8]) -> f32 {
    let squares = left.iter().zip(right);
    let sum: f32 = squares
        .map(|(l, r)| (f32::from(*l) - f32::from(*r)).powi(2))
        .sum();
    (sum / left.len().max(1) as f32).sqrt()
}

/// 64 bits that hardly change when a picture is scaled or compressed: which of its lowest frequencies are above their
/// median (Zauner 2010, section 3.2.1).
pub(super) fn perceptual_hash(look: &[u8]) -> u64 {
    let wave = |k: usize, i: usize| {
        let angle = std::f32::consts::PI * k as f32 * (i as f32 + 0.5) / LOOK as f32;
        angle.cos()
    };
    let waves: Vec<f32> = (1..=LOW)
        .flat_map(|k| (0..LOOK).map(move |i| wave(k, i)))
        .collect();
    let project = |values: &[f32], k: usize| -> f32 {
        let wave = &waves[k * LOOK..(k + 1) * LOOK];
        values.iter().zip(wave).map(|(v, w)| v * w).sum()
    };
    let mut across = vec![0.; LOW * LOOK];
    for (y, row) in look.chunks(LOOK).take(LOOK).enumerate() {
        let row: Vec<f32> = row.iter().copied().map(f32::from).collect();
        (0..LOW).for_each(|k| across[k * LOOK + y] = project(&row, k));
    }
    let columns = across.chunks(LOOK);
    let all: Vec<f32> = columns
        .flat_map(|column| (0..LOW).map(|k| project(column, k)).collect::<Vec<_>>())
        .collect();
    let mut sorted = all.clone();
    sorted.sort_by(f32::total_cmp);
    let median = sorted[sorted.len() / 2];
    let bits = all.iter().enumerate();
    bits.fold(0, |hash, (i, v)| hash | u64::from(*v > median) << i)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{RgbImage, codecs::jpeg::JpegEncoder, imageops};
    use rand::Rng;

    /// A picture of coloured blots.
    fn blots(seed: u64) -> RgbImage {
        let mut rng = crate::net::params::stream(seed, "blots");
        let mut draw = |range: std::ops::Range<f32>| rng.random_range(range);
        let blots: Vec<_> = (0..12)
            .map(|_| {
                [
                    0.0..160.,
                    0.0..120.,
                    8.0..50.,
                    0.0..255.,
                    0.0..255.,
                    0.0..255.,
                ]
                .map(&mut draw)
            })
            .collect();
        RgbImage::from_fn(160, 120, |x, y| {
            let inside = |b: &&[f32; 6]| (x as f32 - b[0]).hypot(y as f32 - b[1]) < b[2];
            let [.., r, g, b] = blots.iter().rfind(inside).copied().unwrap_or([90.; 6]);
            image::Rgb([r as u8, g as u8, b as u8])
        })
    }

    fn facts(picture: &RgbImage) -> Facts {
        Facts::of(picture, picture.as_raw(), 1)
    }

    #[test]
    fn a_scaled_and_compressed_copy_is_no_new_picture_and_others_are() {
        let mut seen = Seen::default();
        for seed in 0..200 {
            assert!(seen.insert(&facts(&blots(seed))), "{seed} is another");
        }
        let known = (0..200).filter(|&seed| !seen.insert(&facts(&copy(&blots(seed)))));
        // Edges as hard as these are rare in photographs.
        assert!(known.count() >= 190);
    }

    /// Smaller, and compressed hard.
    fn copy(picture: &RgbImage) -> RgbImage {
        let small = imageops::resize(picture, 96, 72, imageops::FilterType::Triangle);
        let mut jpeg = Vec::new();
        let encoder = JpegEncoder::new_with_quality(&mut jpeg, 60);
        small.write_with_encoder(encoder).unwrap();
        image::load_from_memory(&jpeg).unwrap().into_rgb8()
    }

    #[test]
    fn grey_and_nearly_grey_pictures_are_told_from_coloured_ones() {
        let tinted = |tint: u8| {
            RgbImage::from_fn(40, 30, |x, y| {
                let v = (x * 3 + y * 2) as u8;
                image::Rgb([v + tint, v, v])
            })
        };
        assert!(is_grey(&facts(&tinted(0))));
        assert!(is_grey(&facts(&tinted(4))));
        assert!(!is_grey(&facts(&tinted(40))));
    }

    #[test]
    fn twenty_thousand_pictures_are_compared_quickly() {
        let mut rng = crate::net::params::stream(1, "looks");
        let mut seen = Seen::default();
        let since = std::time::Instant::now();
        for number in 0..20_000u32 {
            let mut content = [0; 32];
            content[..4].copy_from_slice(&number.to_le_bytes());
            let look = (0..LOOK * LOOK).map(|_| rng.random()).collect();
            let facts = Facts {
                content,
                ticket: number.into(),
                size: (64, 64),
                chroma: 20.,
                look,
            };
            assert!(seen.insert(&facts));
        }
        assert!(since.elapsed().as_secs() < 20, "{:?}", since.elapsed());
    }
}
