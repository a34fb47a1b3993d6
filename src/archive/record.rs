//! Record: what became of one item, one small file each.

use super::FOLDER;
use crate::error::{Error, Result, io_sentence, shown};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// The folder of records, inside of [`FOLDER`].
const ITEMS: &str = "items";
/// Bytes of a block of [`Digest::blocks`].
const BLOCK: u64 = 16 << 10;

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

impl Digest {
    /// Of a file as it is now. Blocks of a small file overlap.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of(file: &Path) -> io::Result<Self> {
        let mut file = File::open(file)?;
        let about = file.metadata()?;
        let bytes = about.len();
        let mut hash = Sha256::new();
        for start in [
            0,
            (bytes / 2).saturating_sub(BLOCK / 2),
            bytes.saturating_sub(BLOCK),
        ] {
            file.seek(SeekFrom::Start(start))?;
            let mut block = Vec::new();
            (&mut file).take(BLOCK).read_to_end(&mut block)?;
            hash.update(&block);
        }
        Ok(Self {
            bytes,
            modified: nanoseconds(about.modified()?),
            blocks: hex(&hash.finalize()),
        })
    }
}

/// Nanoseconds since 1970; below 0 before.
fn nanoseconds(time: SystemTime) -> i64 {
    let whole = |passed: std::time::Duration| i64::try_from(passed.as_nanos()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => whole(since),
        Err(before) => -whole(before.duration()),
    }
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Record {
    /// Where the record of a source lies: under the first 16 hexadecimal digits of the SHA-256 of the source's path, in a
    /// folder of their first two.
    pub fn path(output: &Path, source: &str) -> PathBuf {
        let key = &hex(&Sha256::digest(source))[..16];
        let folder = output.join(FOLDER).join(ITEMS).join(&key[..2]);
        folder.join(format!("{key}.json"))
    }
}

/// Every record of an archive, in order of source.
///
/// # Errors
/// [`Error::Input`]: there is no archive, a folder of it cannot be read, or a record is damaged.
pub fn records(output: &Path) -> Result<Vec<Record>> {
    let items = output.join(FOLDER).join(ITEMS);
    if !items.is_dir() {
        let why = format!(
            "this is no archive: there is no {FOLDER}/{ITEMS} in it; name the output folder of `autochrome batch`"
        );
        return Err(Error::input(shown(output), why));
    }
    let mut records = Vec::new();
    for folder in listed(&items)?.iter().filter(|path| path.is_dir()) {
        // A record that is being written has another ending.
        let whole = |path: &PathBuf| path.extension().is_some_and(|end| end == "json");
        for file in listed(folder)?.into_iter().filter(whole) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn record(source: &str) -> Record {
        Record {
            source: source.into(),
            root: "/films".into(),
            digest: Digest {
                bytes: 1,
                modified: 2,
                blocks: "3".into(),
            },
            settings: String::new(),
            outcome: Outcome::Skipped {
                why: "in colour".into(),
            },
            finished: 0,
            worker: "host 1".into(),
        }
    }

    fn put(output: &Path, record: &Record) -> PathBuf {
        let path = Record::path(output, &record.source);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, serde_json::to_vec(record).unwrap()).unwrap();
        path
    }

    #[test]
    fn records_come_back_in_order_of_source() {
        let dir = tempfile::tempdir().unwrap();
        let sources = ["c.mkv", "a/z.mkv", "b.mkv"];
        for source in sources {
            put(dir.path(), &record(source));
        }
        let unfinished = Record::path(dir.path(), "b.mkv").with_extension("json.part");
        fs::write(unfinished, "{").unwrap();
        let found = records(dir.path()).unwrap();
        assert_eq!(found, ["a/z.mkv", "b.mkv", "c.mkv"].map(record));
    }

    #[test]
    fn a_record_that_is_damaged_or_misplaced_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let said = |path: &Path| {
            let said = records(dir.path()).unwrap_err().to_string();
            assert!(
                said.contains(&shown(path)) && said.contains("remove it"),
                "{said}"
            );
        };
        assert!(
            records(dir.path())
                .unwrap_err()
                .to_string()
                .contains("no archive")
        );
        let path = put(dir.path(), &record("a.mkv"));
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        said(&path);
        fs::write(&path, whole).unwrap();
        let stray = path.with_file_name("0000000000000000.json");
        fs::rename(&path, &stray).unwrap();
        said(&stray);
    }

    #[test]
    fn a_digest_sees_the_ends_and_the_middle_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("film");
        let digest = |at: Option<usize>| {
            let mut bytes = vec![7; 200_000];
            if let Some(at) = at {
                bytes[at] = 8;
            }
            fs::write(&path, bytes).unwrap();
            Digest::of(&path).unwrap()
        };
        let whole = digest(None);
        assert_eq!(whole.bytes, 200_000);
        for at in [0, 16_383, 100_000, 199_999] {
            assert_ne!(digest(Some(at)).blocks, whole.blocks, "{at}");
        }
        assert_eq!(digest(Some(40_000)).blocks, whole.blocks);
        fs::write(&path, "short").unwrap();
        assert_eq!(Digest::of(&path).unwrap().bytes, 5);
    }
}
