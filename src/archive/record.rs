//! Record: what became of one item, one small file each.

#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::FOLDER;
use crate::{
    error::{Error, Result, io_sentence, shown},
    net::checkpoint,
};

/// The folder of records, inside of [`FOLDER`].
pub(super) const ITEMS: &str = "items";
/// Bytes of a block of a [`Digest`].
const BLOCK: u64 = 16 << 10;
/// Hexadecimal digits of a [`key`].
const KEY: usize = 16;

/// What a source file is known by: two that agree in all of it are taken for the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// Size.
    pub bytes: u64,
    /// When it was last written to, in nanoseconds since 1970.
    pub modified: i64,
    /// SHA-256, in hexadecimal, of a few of its blocks: the first, the middle and the last 16 KiB.
    pub blocks: String,
}

impl Digest {
    /// Of the file at `path`, of which it reads three blocks, or all where there is no more.
    ///
    /// # Errors
    /// [`Error::Input`] where it cannot be read.
    pub fn of(path: &Path) -> Result<Self> {
        let digest = File::open(path).and_then(|file| Self::of_file(&file));
        digest.map_err(|e| {
            let why = match e.kind() {
                ErrorKind::UnexpectedEof => {
                    "it became shorter while it was read; wait until it is complete".into()
                }
                _ => io_sentence(&e),
            };
            Error::input(shown(path), why)
        })
    }

    fn of_file(file: &File) -> io::Result<Self> {
        let facts = file.metadata()?;
        Ok(Self {
            bytes: facts.len(),
            modified: facts
                .mtime()
                .saturating_mul(1_000_000_000)
                .saturating_add(facts.mtime_nsec()),
            blocks: checkpoint::digest(&blocks(file, facts.len())?),
        })
    }
}

/// The first, the middle and the last block of a file of `bytes`, or the whole file.
fn blocks(file: &File, bytes: u64) -> io::Result<Vec<u8>> {
    let (offsets, length) = match bytes.checked_sub(3 * BLOCK) {
        None => (vec![0], bytes),
        Some(_) => (vec![0, (bytes - BLOCK) / 2, bytes - BLOCK], BLOCK),
    };
    let mut blocks = vec![0; offsets.len() * length as usize];
    // An empty file has no blocks, not blocks of no bytes.
    for (offset, block) in offsets
        .into_iter()
        .zip(blocks.chunks_exact_mut(length.max(1) as usize))
    {
        file.read_exact_at(block, offset)?;
    }
    Ok(blocks)
}

/// What a source's files in the state folder are called: the beginning of its path's SHA-256, for a path may be too long
/// for a name.
pub fn key(source: &str) -> String {
    checkpoint::digest(source.as_bytes())
        .chars()
        .take(KEY)
        .collect()
}

/// What became of one source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The source's path below the archive's root, with `/`.
    pub source: String,
    /// The archive's root, absolute, as the worker that did it saw it.
    pub root: String,
    /// What the source was.
    pub digest: Digest,
    /// SHA-256 of everything that decides how it is coloured and encoded.
    pub settings: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Whether a result of this archive has ever been given its name, so that what stands there may be replaced.
    #[serde(default)]
    pub published: bool,
    /// When it was written, in seconds since 1970.
    pub finished: u64,
    /// Who wrote it: host and process.
    pub worker: String,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Outcome {
    /// It was coloured.
    Done(Done),
    /// It is coloured, and gets its name just now: whoever finds this looks whether it has.
    Publishing(Done),
    /// It is being coloured in segments.
    Split,
    /// It is not to be coloured.
    Skipped {
        /// Why, for people.
        why: String,
    },
    /// It could not be coloured.
    Failed {
        /// Why, for people.
        why: String,
        /// How often it was tried.
        attempts: u32,
    },
}

/// A film in colour.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// The result's path below the output folder, with `/`.
    pub output: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
    /// Frames.
    pub frames: u64,
    /// Frames that kept the colours that they came with.
    pub kept: u64,
    /// Width and height of the coded picture.
    pub size: (usize, usize),
    /// Length of the film in seconds.
    pub seconds: f64,
    /// Seconds that all of the work on it took, of whatever machines.
    pub worked: f64,
    /// Pieces in which it was coloured; 1: in one go.
    pub segments: usize,
    /// The model and where it ran, as they describe themselves.
    pub model: String,
    /// Whether the encoder gives every picture back bit for bit.
    pub lossless: bool,
    /// One line a kept stream: "video h264 yuv420p crf 17: colorized", "audio aac eng: copied".
    pub streams: Vec<String>,
    /// What was noticed on the way.
    pub warnings: Vec<String>,
}

impl Record {
    /// Where the record of a source lies: under its [`key`], in a folder of the first two digits.
    pub fn path(output: &Path, source: &str) -> PathBuf {
        let key = key(source);
        let folder = output.join(FOLDER).join(ITEMS).join(&key[..2]);
        folder.join(format!("{key}.json"))
    }
}

/// Every record of an archive, in order of source.
///
/// # Errors
/// [`Error::Input`]: there is no archive, a folder of it cannot be read, or a record is damaged.
pub fn records(output: &Path) -> Result<Vec<Record>> {
    records_with(output, Vec::new())
}

/// The same, where some are known and need not be read.
///
/// # Errors
/// As for [`records`].
pub fn records_with(output: &Path, known: Vec<Record>) -> Result<Vec<Record>> {
    let items = output.join(FOLDER).join(ITEMS);
    if !items.is_dir() {
        let why = format!(
            "this is no archive: there is no {FOLDER}/{ITEMS} in it; name the output folder of `autochrome batch`"
        );
        return Err(Error::input(shown(output), why));
    }
    let mut records = known;
    let known: HashSet<String> = records.iter().map(|r| key(&r.source)).collect();
    for folder in listed(&items)?.iter().filter(|path| path.is_dir()) {
        let fresh = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.strip_suffix(".json")
                .is_some_and(|key| !known.contains(key))
        };
        for file in listed(folder)?.into_iter().filter(fresh) {
            records.push(read(output, &file)?);
        }
    }
    records.sort_by(|a: &Record, b| a.source.cmp(&b.source));
    Ok(records)
}

fn read(output: &Path, file: &Path) -> Result<Record> {
    let damaged = |why: String| {
        let why =
            format!("this record is damaged ({why}); remove it, then `batch` does its film anew");
        Error::input(shown(file), why)
    };
    let text = fs::read(file).map_err(|e| Error::input(shown(file), io_sentence(&e)))?;
    let record: Record = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
    match Record::path(output, &record.source) == file {
        true => Ok(record),
        false => Err(damaged(format!(
            "it lies where that of {} does not",
            record.source
        ))),
    }
}

/// What lies in a folder.
pub(super) fn listed(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e: io::Error| Error::input(shown(folder), io_sentence(&e));
    let entries = fs::read_dir(folder).map_err(failed)?;
    entries
        .map(|entry| Ok(entry.map_err(failed)?.path()))
        .collect()
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
