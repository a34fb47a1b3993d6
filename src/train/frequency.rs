//! How frequent each class of colour is in photographs: what the rebalanced cross-entropy weighs by.

use image::imageops;
use rayon::prelude::*;

use super::data::{self, Photo, Sample, Stock};
use crate::{color, error::Result, net::bins};

/// Photographs that are looked at: more change the frequencies by little.
const LOOKED_AT: usize = 500;
/// Side that they are shrunk to.
const SIDE: u32 = 32;

/// The frequency of each of the in-gamut bins, in their order; the sum is 1. It is a function of the photographs alone.
///
/// # Errors
/// A photograph can no longer be read.
pub fn of_classes(photos: &[Photo]) -> Result<Vec<f32>> {
    let chosen = data::stratified(photos, LOOKED_AT);
    let each: Vec<Vec<f32>> = chosen.par_iter().map(of_photo).collect::<Result<_>>()?;
    let mut sum = vec![0.; bins::COUNT];
    for one in &each {
        sum.iter_mut().zip(one).for_each(|(sum, one)| *sum += one);
    }
    let all: f32 = sum.iter().sum();
    Ok(sum.into_iter().map(|count| count / all).collect())
}

fn of_photo(photo: &Photo) -> Result<Vec<f32>> {
    let small = imageops::thumbnail(&photo.open()?, SIDE, SIDE);
    let ab = Sample::new(&small, Stock::Ideal).ab;
    let (a, b) = ab.split_at(ab.len() / 2);
    let mut counts = vec![0.; bins::COUNT];
    for (a, b) in a.iter().zip(b) {
        let colour = [*a, *b].map(color::ab_from_network);
        for (bin, share) in bins::soft(bins::in_gamut(), colour) {
            counts[bin] += share;
        }
    }
    Ok(counts)
}
