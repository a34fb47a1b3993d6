//! Finish is not publish: an output grows as `name.part`, is synced, and takes its name only when it is whole.

use crate::error::{Error, Result, io_sentence, shown};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Where an output goes.
pub(super) enum Place {
    /// A file of its own: written as `name.part`, then renamed.
    File(Part),
    /// Pictures, one file each, written under their final names one by one: each appears whole.
    Sequence(Sequence),
    /// Standard output, a URL, a device or a muxer that names its own files: nothing to rename.
    Direct(Vec<u8>),
}

impl Place {
    /// The name that libavformat opens. Files carry `file:`, so that a colon in a name is no protocol.
    pub fn url(&self) -> Vec<u8> {
        match self {
            Self::File(part) => url_of(&part.part),
            Self::Sequence(sequence) => url_of(&sequence.pattern),
            Self::Direct(url) => url.clone(),
        }
    }

    /// Where an output that is never whole stays all the same.
    pub fn left(&self) -> Option<String> {
        match self {
            Self::File(part) if part.once => Some(shown(&part.part)),
            _ => None,
        }
    }

    /// Everything is written and closed: make it durable and give it its name. Gives the size where it is one file.
    pub fn publish(&mut self) -> Result<Option<u64>> {
        match self {
            Self::File(part) => part.publish().map(Some),
            Self::Sequence(sequence) => {
                sequence.published = true;
                sync_folder(&sequence.pattern);
                Ok(None)
            }
            Self::Direct(_) => Ok(None),
        }
    }
}

/// The `file:` URL of a path.
pub(super) fn url_of(path: &Path) -> Vec<u8> {
    [b"file:", path.as_os_str().as_encoded_bytes()].concat()
}

/// A file's path: as it was written, without `file:`.
pub(super) fn path_of(name: &OsStr) -> &Path {
    let bytes = name.as_encoded_bytes();
    Path::new(bytes.strip_prefix(b"file:").map_or(name, os_str))
}

/// Bytes as the operating system's kind of name.
pub(super) fn os_str(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

/// Whether `name` is for libavformat's protocols: `scheme://...` or `pipe:...`.
pub(super) fn is_url(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    let scheme = bytes.iter().position(|&b| b == b':').unwrap_or(0);
    let named = scheme > 1
        && bytes[..scheme]
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b));
    named && (bytes[scheme..].starts_with(b"://") || bytes.starts_with(b"pipe:"))
}

/// Whether `path` exists and is neither file nor folder: a device or a pipe, which is written to as it is.
pub(super) fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| {
        let kind = m.file_type();
        kind.is_char_device() || kind.is_block_device() || kind.is_fifo() || kind.is_socket()
    })
}

/// Whether both names are one file, also through links.
pub(super) fn same_file(a: &Path, b: &Path) -> bool {
    match (fs::metadata(a), fs::metadata(b)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// A file that is being written under another name.
pub(super) struct Part {
    target: PathBuf,
    part: PathBuf,
    /// The file stands on the disk under its `.part` name.
    standing: bool,
    /// It stays there even if it is never whole.
    once: bool,
}

impl Part {
    /// Checks that `output` may be written, without touching the disk.
    pub fn plan(output: &Path, force: bool, once: bool) -> Result<Self> {
        // Through a link, so that forcing replaces the file and not the link.
        let target = fs::canonicalize(output).unwrap_or_else(|_| output.to_path_buf());
        if target.is_dir() {
            let why = "this is a folder; name a file in it";
            return Err(Error::output(shown(output), why));
        }
        if target.exists() && !force {
            let why = "exists already; --force overwrites it, -o names another file";
            return Err(Error::output(shown(output), why));
        }
        check_folder(output, &target)?;
        let part = with_suffix(&target, ".part");
        if once && part.exists() && !force {
            let why = format!(
                "{} is there, a recording that was cut off; give it another name to keep it, or --force to lose it",
                shown(&part)
            );
            return Err(Error::output(shown(output), why));
        }
        Ok(Self {
            part,
            target,
            standing: false,
            once,
        })
    }

    /// Whether `input` is what would be overwritten.
    pub fn touches(&self, input: &Path) -> bool {
        same_file(input, &self.target) || same_file(input, &self.part)
    }

    /// Makes the `.part` file, empty: the operating system says here what it refuses.
    pub fn create(&mut self) -> Result<()> {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&self.part)
            .map_err(|e| self.refused(&e))?;
        self.standing = true;
        Ok(())
    }

    fn publish(&mut self) -> Result<u64> {
        let bytes = self.sync_and_rename().map_err(|e| self.refused(&e))?;
        self.standing = false;
        sync_folder(&self.target);
        Ok(bytes)
    }

    fn sync_and_rename(&self) -> io::Result<u64> {
        let file = File::open(&self.part)?;
        file.sync_all()?;
        fs::rename(&self.part, &self.target)?;
        file.metadata().map(|m| m.len())
    }

    fn refused(&self, e: &io::Error) -> Error {
        Error::output(shown(&self.target), io_sentence(e))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let empty = || fs::metadata(&self.part).is_ok_and(|m| m.len() == 0);
        if self.standing && (!self.once || empty()) {
            // Whoever drops an unpublished part is already reporting why.
            let _ = fs::remove_file(&self.part);
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(suffix);
    name.into()
}

/// The folder of `path`; `.` for a bare name.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn check_folder(output: &Path, target: &Path) -> Result<()> {
    let folder = folder_of(target);
    if folder.is_dir() {
        return Ok(());
    }
    let why = format!(
        "there is no folder {}; make it first or choose another place",
        shown(folder)
    );
    Err(Error::output(shown(output), why))
}

/// Makes a new name durable. Some file systems cannot; the file itself is safe already.
fn sync_folder(path: &Path) {
    let _ = File::open(folder_of(path)).and_then(|folder| folder.sync_all());
}

/// Numbered pictures: `out%04d.png`.
pub(super) struct Sequence {
    pattern: PathBuf,
    prefix: Vec<u8>,
    suffix: Vec<u8>,
    digits: usize,
    written: u64,
    published: bool,
}

/// The number of the first picture, as image2 counts by default.
const FIRST: u64 = 1;

impl Sequence {
    /// A sequence where `output`'s file name has `%d` or `%04d`; `None` where it names one file.
    pub fn parse(output: &Path) -> Option<Self> {
        let name = output.file_name()?.as_encoded_bytes();
        let start = name.iter().position(|&b| b == b'%')?;
        let length = name[start..].iter().position(|&b| b == b'd')?;
        let digits = std::str::from_utf8(&name[start + 1..start + length]).ok()?;
        Some(Self {
            pattern: output.to_path_buf(),
            prefix: name[..start].to_vec(),
            suffix: name[start + length + 1..].to_vec(),
            digits: if digits.is_empty() {
                1
            } else {
                digits.parse().ok()?
            },
            written: 0,
            published: false,
        })
    }

    /// Checks that the pictures may be written: the folder is there, and no picture of this name unless `force`.
    pub fn check(&self, force: bool) -> Result<()> {
        check_folder(&self.pattern, &self.pattern)?;
        if force {
            return Ok(());
        }
        let folder = fs::read_dir(folder_of(&self.pattern))
            .map_err(|e| Error::output(shown(&self.pattern), io_sentence(&e)))?;
        let old = folder.flatten().find(|file| self.owns(&file.file_name()));
        let Some(old) = old else { return Ok(()) };
        let why = format!(
            "{} exists already; --force overwrites, -o names another place",
            shown(old.file_name())
        );
        Err(Error::output(shown(&self.pattern), why))
    }

    /// Whether `input` is one of these pictures, or the same pattern.
    pub fn touches(&self, input: &Path) -> bool {
        let name = input.file_name().unwrap_or_default();
        let theirs = Some(name) == self.pattern.file_name() || self.owns(name);
        theirs && same_file(folder_of(input), folder_of(&self.pattern))
    }

    fn owns(&self, name: &OsStr) -> bool {
        let number = name
            .as_encoded_bytes()
            .strip_prefix(self.prefix.as_slice())
            .and_then(|rest| rest.strip_suffix(self.suffix.as_slice()));
        number.is_some_and(|n| n.len() >= self.digits && n.iter().all(u8::is_ascii_digit))
    }

    /// One more picture goes to the disk.
    pub fn count(&mut self) {
        self.written += 1;
    }

    fn name(&self, number: u64) -> PathBuf {
        let digits = format!("{number:0width$}", width = self.digits);
        let name = [&self.prefix, digits.as_bytes(), &self.suffix].concat();
        folder_of(&self.pattern).join(OsString::from_vec(name))
    }
}

impl Drop for Sequence {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        for number in FIRST..FIRST + self.written {
            let picture = self.name(number);
            // The last one may be half written under image2's own temporary name; whoever drops is already
            // reporting why.
            let _ = fs::remove_file(with_suffix(&picture, ".tmp"));
            let _ = fs::remove_file(picture);
        }
    }
}
