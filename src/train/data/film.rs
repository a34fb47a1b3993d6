//! Film: pictures out of colour videos, some of every scene.

use std::{fs::File, path::Path};

use image::{RgbImage, imageops};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::facts::{Facts, Hash, LOOK, SMALL, hash_rest, ticket};
use crate::{
    error::{Error, Result, io_sentence, shown},
    frame::{Decoded, Item, VideoInfo},
    media::{InputOptions, Source},
};

/// Seconds between two frames that are looked at.
const GLANCE: f64 = 0.2;
/// Mean difference of the looks of two such frames, in levels of 255, from which on a new scene begins.
const CUT: f32 = 24.;
/// Seconds of a scene for which one frame is taken, and the most frames of one scene.
const A_FRAME_PER: f64 = 3.;
const MOST: usize = 5;
/// Longest short side at which frames are taken: more than any network here looks at.
const SHORT_SIDE: usize = 384;

/// A frame of a film.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Moment {
    /// Its time from the start of the film.
    pub seconds: f64,
    /// A time after the frame before it and before itself, from which on it is the first.
    seek: f64,
}

impl Moment {
    /// Decodes the frame, upright, with square pixels, its short side at most [`SHORT_SIDE`].
    ///
    /// # Errors
    /// [`Error::Input`] where the film has become another or can no longer be read.
    pub fn open(&self, path: &Path) -> Result<RgbImage> {
        let options = InputOptions {
            start: Some(self.seek),
            threads: 1,
            ..InputOptions::default()
        };
        let mut source = Source::open(path.as_os_str(), &options)?;
        let info = source.info().video.clone();
        match next_frame(&mut source)? {
            Some(frame) => upright(&frame, &info, taken_size(&info)),
            None => Err(Error::input(
                shown(path),
                "its frame is gone; has the file changed?",
            )),
        }
    }
}

fn next_frame(source: &mut Source) -> Result<Option<Decoded>> {
    while let Some(item) = source.next()? {
        if let Item::Frame(frame) = item {
            return Ok(Some(frame));
        }
    }
    Ok(None)
}

/// Width and height at which frames are taken.
fn taken_size(info: &VideoInfo) -> (usize, usize) {
    let (w, h) = info.display;
    let scale = (SHORT_SIDE as f64 / w.min(h) as f64).min(1.);
    let scaled = |side: usize| ((side as f64 * scale).round() as usize).max(1);
    (scaled(w), scaled(h))
}

/// A frame as sRGB at `size`, upright.
fn upright(frame: &Decoded, info: &VideoInfo, size: (usize, usize)) -> Result<RgbImage> {
    let turned = info.rotation % 180 == 90;
    let (w, h) = if turned { (size.1, size.0) } else { size };
    let rgb = frame.picture.to_rgb(w, h)?;
    let coded = RgbImage::from_raw(w as u32, h as u32, rgb)
        .ok_or_else(|| Error::internal("film", "a scaled frame has another size"))?;
    Ok(match info.rotation {
        90 => imageops::rotate90(&coded),
        180 => imageops::rotate180(&coded),
        270 => imageops::rotate270(&coded),
        _ => coded,
    })
}

/// A frame that was looked at.
struct Glance {
    moment: Moment,
    small: RgbImage,
}

/// Some frames of every scene of a film, with their facts. Frames of one scene have one ticket, so that they never
/// fall into two parts.
///
/// # Errors
/// [`Error::Input`] where it is no film or cannot be read on.
pub(super) fn moments(path: &Path, seed: u64) -> Result<Vec<(Moment, Facts)>> {
    let content = File::open(path).and_then(|file| hash_rest(file, Sha256::new()));
    let content = content.map_err(|e| Error::input(shown(path), io_sentence(&e)))?;
    let mut source = Source::open(path.as_os_str(), &InputOptions::default())?;
    let info = source.info().video.clone();
    let mut found = Vec::new();
    let mut scenes = 0u64;
    let mut scene: Vec<Glance> = Vec::new();
    let mut take = |scene: &mut Vec<Glance>| {
        let ticket = ticket(seed, &[&content, &scenes.to_le_bytes()]);
        found.extend(spread(scene).map(|glance| glance.facts(&content, ticket, &info)));
        scenes += 1;
        scene.clear();
    };
    let mut before: Option<f64> = None;
    while let Some(frame) = next_frame(&mut source)? {
        let tick = f64::from(info.time_base.0) / f64::from(info.time_base.1);
        let seconds = frame.pts as f64 * tick;
        let seek = before.map_or(0., |before| (before + seconds) / 2.);
        before = Some(seconds);
        let due = |last: &Glance| seconds >= last.moment.seconds + GLANCE;
        if scene.last().is_none_or(due) {
            let small = upright(&frame, &info, (SMALL as usize, SMALL as usize))?;
            if scene.last().is_some_and(|last| is_cut(&last.small, &small)) {
                take(&mut scene);
            }
            let moment = Moment { seconds, seek };
            scene.push(Glance { moment, small });
        }
    }
    take(&mut scene);
    Ok(found)
}

impl Glance {
    fn facts(&self, film: &Hash, ticket: u64, info: &VideoInfo) -> (Moment, Facts) {
        let time = self.moment.seconds.to_le_bytes();
        let content = Sha256::new_with_prefix(film).chain_update(time).finalize();
        let (w, h) = taken_size(info);
        let size = (w as u32, h as u32);
        let facts = Facts::new(content.into(), ticket, size, &self.small);
        (self.moment, facts)
    }
}

/// A few frames of a scene, well spread and away from its ends.
fn spread(scene: &[Glance]) -> impl Iterator<Item = &Glance> {
    let ends = scene.first().zip(scene.last());
    let length = ends.map_or(0., |(a, b)| b.moment.seconds - a.moment.seconds);
    let count = (1 + (length / A_FRAME_PER) as usize)
        .min(MOST)
        .min(scene.len());
    (0..count).map(move |i| &scene[(2 * i + 1) * scene.len() / (2 * count)])
}

fn is_cut(before: &RgbImage, after: &RgbImage) -> bool {
    let tiny = |small| imageops::thumbnail(small, LOOK as u32, LOOK as u32).into_raw();
    let (before, after) = (tiny(before), tiny(after));
    let pairs = before.iter().zip(&after);
    let sum: u32 = pairs.map(|(b, a)| u32::from(b.abs_diff(*a))).sum();
    sum as f32 / before.len() as f32 > CUT
}
