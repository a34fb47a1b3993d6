//! Which photographs and films are judged: those that no model has learnt from.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use image::RgbImage;
use serde::Deserialize;

use crate::{
    error::{Error, Result, shown},
    net,
    train::{
        Config,
        data::{self, Split},
    },
};

const NO_PHOTOGRAPHS: &str = "there are no photographs (JPEG, PNG or WebP) in it; films are named one by one, as in \
                              FOLDER/*.mp4";

/// A photograph.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Photo(PathBuf);

impl Photo {
    /// For messages.
    pub fn name(&self) -> String {
        shown(&self.0)
    }

    /// Where it comes from: its name up to the first `_` or digit, or its folder where nothing is left.
    pub fn source(&self) -> String {
        let words = |name: Option<&std::ffi::OsStr>| {
            name.map_or(String::new(), |n| n.to_string_lossy().into_owned())
        };
        let name = words(self.0.file_stem());
        match name.split(|c: char| c == '_' || c.is_ascii_digit()).next() {
            Some(prefix) if !prefix.is_empty() => prefix.trim_end_matches('-').to_owned(),
            _ => words(self.0.parent().and_then(Path::file_name)),
        }
    }

    /// Decodes it.
    ///
    /// # Errors
    /// [`Error::Input`] where it cannot be read or decoded.
    pub fn open(&self) -> Result<RgbImage> {
        data::open(&self.0)
    }
}

/// What a model file says of the photographs that were kept from it.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct HeldOut {
    /// Seed of the split.
    pub seed: u64,
    /// Share of each held-out part.
    pub held_out: f64,
}

impl Default for HeldOut {
    fn default() -> Self {
        let Config { seed, held_out, .. } = Config::default();
        Self { seed, held_out }
    }
}

impl HeldOut {
    /// Of the model `name`: the trainer's defaults where its file does not say.
    ///
    /// # Errors
    /// As for [`net::info`].
    pub fn of(name: &str) -> Result<Self> {
        let settings = net::info(name)?.trained["settings"].clone();
        Ok(serde_json::from_value(settings).unwrap_or_default())
    }
}

/// The parts of some photographs that no model has learnt from.
#[derive(Clone, Debug, Default)]
pub struct Pictures {
    /// To report figures on.
    pub test: Vec<Photo>,
    /// To choose by.
    pub validation: Vec<Photo>,
    /// What cannot be read, with the reason.
    pub skipped: Vec<(String, String)>,
}

impl Pictures {
    /// Splits what is in `inputs` as it was split for the training of every model: what is held out from all of them.
    /// With `all` every picture is taken, for those that no model ever saw.
    ///
    /// # Errors
    /// [`Error::Input`] where an input cannot be read or no picture is left.
    pub fn gather(inputs: &[PathBuf], held_out: &[HeldOut], all: bool) -> Result<Self> {
        let mut splits = Vec::new();
        for held_out in held_out {
            let split = Split::scan(inputs, held_out.held_out, held_out.seed);
            splits.push(split.map_err(|e| match e {
                Error::Train(_) => nothing(inputs, NO_PHOTOGRAPHS),
                other => other,
            })?);
        }
        let mut pictures = Self::default();
        let Some(first) = splits.first() else {
            return Ok(pictures);
        };
        let skipped = first.skipped.iter();
        pictures.skipped = skipped
            .map(|(path, why)| (shown(path), why.clone()))
            .collect();
        if all {
            let parts = [&first.test, &first.validation, &first.train];
            pictures.test = parts.into_iter().flatten().cloned().map(Photo).collect();
            return Ok(pictures);
        }
        pictures.test = in_all(splits.iter().map(|split| &split.test));
        pictures.validation = in_all(splits.iter().map(|split| &split.validation));
        Ok(pictures)
    }
}

/// What is in every one of some parts, in the first one's order.
fn in_all<'a>(mut parts: impl Iterator<Item = &'a Vec<PathBuf>>) -> Vec<Photo> {
    let mut common: Vec<Photo> = parts
        .next()
        .into_iter()
        .flatten()
        .cloned()
        .map(Photo)
        .collect();
    for part in parts {
        let part: BTreeSet<&PathBuf> = part.iter().collect();
        common.retain(|photo| part.contains(&photo.0));
    }
    common
}

/// `count` of the photographs, of every source its share, at least one where there is room; in a fixed order.
pub fn stratified(photos: &[Photo], count: usize) -> Vec<Photo> {
    let mut sources: BTreeMap<String, Vec<&Photo>> = BTreeMap::new();
    for photo in photos {
        sources.entry(photo.source()).or_default().push(photo);
    }
    // The i-th of n photographs of a source stands at (i + 1/2) / n of the way: a prefix has every source's share.
    let mut placed: Vec<(f64, &Photo)> = Vec::new();
    for of_source in sources.values() {
        let step = 1. / of_source.len() as f64;
        let places = (0..of_source.len()).map(|i| (i as f64 + 0.5) * step);
        placed.extend(places.zip(of_source.iter().copied()));
    }
    placed.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(b.1)));
    placed
        .into_iter()
        .take(count)
        .map(|(_, photo)| photo.clone())
        .collect()
}

/// Whether `path`, named by the user, is a film to be judged as such; else it is a photograph or a folder of them.
pub fn is_film(path: &Path) -> bool {
    let extension = path
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default();
    let pictures = ["jpg", "jpeg", "png", "webp"];
    path.is_file() && !pictures.contains(&extension.to_ascii_lowercase().as_str())
}

/// The error of an evaluation without a single picture.
pub(super) fn nothing(inputs: &[PathBuf], why: &str) -> Error {
    let names: Vec<_> = inputs.iter().map(shown).collect();
    Error::input(names.join(", "), why)
}
