//! Photo: one picture, wherever it lies.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use image::{ImageReader, RgbImage};

use super::{
    facts::{Facts, Hash},
    film::Moment,
    pack::Pack,
};
use crate::error::{Error, Result, io_sentence, shown};

/// One picture: a file, a frame of a film, or an entry of a pack. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Photo(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    place: Place,
    source: String,
    content: Hash,
    ticket: u64,
}

/// Where a picture lies.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// A file of its own.
    File(PathBuf),
    /// A frame of a film.
    Frame(PathBuf, Moment),
    /// An entry of a pack, by its number.
    Entry(Arc<Pack>, usize),
}

impl Place {
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => shown(path),
            Self::Frame(path, moment) => format!("{} at {:.3} s", shown(path), moment.seconds),
            Self::Entry(pack, number) => format!("{}#{}", shown(pack.path()), pack.name(*number)),
        }
    }

    pub fn open(&self) -> Result<RgbImage> {
        match self {
            Self::File(path) => open(path),
            Self::Frame(path, moment) => moment.open(path),
            Self::Entry(pack, number) => {
                decode(&pack.bytes(*number)?).map_err(|why| Error::input(self.name(), why))
            }
        }
    }
}

impl Photo {
    pub(super) fn new(place: Place, source: String, facts: &Facts) -> Self {
        Self(Arc::new(Inner {
            place,
            source,
            content: facts.content,
            ticket: facts.ticket,
        }))
    }

    /// A picture in a file, whose content nobody has looked at: for tests.
    #[cfg(test)]
    pub(super) fn unseen(path: PathBuf, source: &str, content: Hash) -> Self {
        let small = RgbImage::new(1, 1);
        let facts = Facts::new(content, 0, (1, 1), &small);
        Self::new(Place::File(path), source.into(), &facts)
    }

    /// What messages call it: `cat.jpg`, `film.mp4 at 12.300 s`, `all.pack#cat.jpg`.
    pub fn name(&self) -> String {
        self.0.place.name()
    }

    /// Which source it belongs to: the beginning of its file's name, up to the first `_`, `-`, digit or dot, where at
    /// least eight pictures share it, else the name of its folder. Pictures in a pack keep what they had.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// SHA-256 of its file, or, for frames of films, of the film's file and the frame's time. Pictures in a pack keep
    /// what they had.
    pub fn content(&self) -> [u8; 32] {
        self.0.content
    }

    /// Where it falls among the parts.
    pub(super) fn ticket(&self) -> u64 {
        self.0.ticket
    }

    /// Its name in a pack: that of its file, without folders.
    pub(super) fn label(&self) -> String {
        let name = match &self.0.place {
            Place::Entry(pack, number) => return pack.name(*number).to_owned(),
            place => place.name(),
        };
        name.rsplit('/').next().unwrap_or_default().to_owned()
    }

    /// Decodes it to 8-bit sRGB, upright.
    ///
    /// # Errors
    /// [`Error::Input`] where it cannot be read or decoded.
    pub fn open(&self) -> Result<RgbImage> {
        self.0.place.open()
    }
}

/// Decodes a photograph's file to 8-bit sRGB.
fn open(path: &Path) -> Result<RgbImage> {
    let bytes = std::fs::read(path).map_err(|e| Error::input(shown(path), io_sentence(&e)))?;
    decode(&bytes).map_err(|why| Error::input(shown(path), why))
}

/// Decodes a JPEG, PNG or WebP file in memory to 8-bit sRGB; else says why not.
pub(super) fn decode(bytes: &[u8]) -> std::result::Result<RgbImage, String> {
    let reader = ImageReader::new(std::io::Cursor::new(bytes));
    let reader = reader.with_guessed_format().map_err(|e| e.to_string())?;
    Ok(reader.decode().map_err(|e| e.to_string())?.into_rgb8())
}

/// What is wrong, without the file's name, which stands before it already.
pub(super) fn reason(error: Error) -> String {
    match error {
        Error::Input { why, .. } => why,
        other => other.to_string(),
    }
}
