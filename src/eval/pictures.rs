//! Which photographs and films are judged: those that no model has learnt from.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    error::{Error, Result, shown},
    net,
    train::{
        Config,
        data::{LeftOut, Pack, Photo, ScanOptions, Split},
    },
};

const NO_PHOTOGRAPHS: &str = "there are no photographs (JPEG, PNG or WebP) and no films in colour to judge by in it; \
                              a film that is named itself, as in FOLDER/*.mp4, is judged as a film";

/// What a model file says of the photographs that were kept from it.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct HeldOut {
    /// Seed of the split.
    pub split: u64,
    /// Share of each held-out part.
    pub held_out: f64,
}

impl Default for HeldOut {
    fn default() -> Self {
        let Config {
            split, held_out, ..
        } = Config::default();
        Self { split, held_out }
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
    /// What nothing can be learnt of.
    pub left_out: LeftOut,
}

impl Pictures {
    /// Splits what is in `inputs`, photographs and frames of the films in folders, as it was split for the training of
    /// every model: what is held out from all of them. With `all` every picture is taken, for those that no model ever
    /// saw.
    ///
    /// # Errors
    /// [`Error::Input`] where an input cannot be read or no picture is left.
    pub fn gather(
        inputs: &[PathBuf],
        held_out: &[HeldOut],
        all: bool,
        tell: &mut dyn FnMut(usize, usize),
    ) -> Result<Self> {
        let mut splits = Vec::new();
        for held_out in held_out {
            // With nothing held out all are in one part, however few they are.
            let share = if all { 0. } else { held_out.held_out };
            let options = ScanOptions::new(inputs, share, held_out.split, 1);
            let split = Split::scan(&options, tell);
            splits.push(split.map_err(|e| match e {
                Error::Train(why) => nothing(inputs, &format!("{NO_PHOTOGRAPHS} ({why})")),
                other => other,
            })?);
        }
        let mut pictures = Self::default();
        let Some(first) = splits.first() else {
            return Ok(pictures);
        };
        pictures.skipped.clone_from(&first.skipped);
        pictures.left_out = first.left_out;
        if all {
            pictures.test.clone_from(&first.train);
            return Ok(pictures);
        }
        pictures.test = in_all(splits.iter().map(|split| &split.test));
        pictures.validation = in_all(splits.iter().map(|split| &split.validation));
        Ok(pictures)
    }
}

/// What is in every one of some parts, in the first one's order.
fn in_all<'a>(mut parts: impl Iterator<Item = &'a Vec<Photo>>) -> Vec<Photo> {
    let mut common = parts.next().cloned().unwrap_or_default();
    for part in parts {
        let part: BTreeSet<_> = part.iter().map(Photo::content).collect();
        common.retain(|photo| part.contains(&photo.content()));
    }
    common
}

/// Whether `path`, named by the user, is a film to be judged as such; else it is a photograph or a folder of them.
pub fn is_film(path: &Path) -> bool {
    let extension = path
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default();
    let pictures = ["jpg", "jpeg", "png", "webp"];
    path.is_file()
        && !Pack::is_one(path)
        && !pictures.contains(&extension.to_ascii_lowercase().as_str())
}

/// The error of an evaluation without a single picture.
pub(super) fn nothing(inputs: &[PathBuf], why: &str) -> Error {
    let names: Vec<_> = inputs.iter().map(shown).collect();
    Error::input(names.join(", "), why)
}
