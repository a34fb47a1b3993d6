//! Whole: a small file appears with all that is in it, or not at all.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

/// Writes `bytes` to `path`, by way of `through`, a name in the same folder that nobody else writes to.
///
/// # Errors
/// The disk refuses; then `path` is what it was.
pub(super) fn write(path: &Path, through: &Path, bytes: &[u8]) -> io::Result<()> {
    let written = File::create(through).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(through, path)
    });
    if written.is_err() {
        // Whoever hears of the error has nothing to do with what is left of it.
        let _ = fs::remove_file(through);
    }
    sync_folder(path);
    written
}

/// Makes a new name durable. Some file systems cannot; the file itself is safe already.
pub(super) fn sync_folder(path: &Path) {
    let _ = path
        .parent()
        .map(|folder| File::open(folder).and_then(|f| f.sync_all()));
}
