//! List: sources that somebody names, one path a line.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

use crate::error::{Error, Result, io_sentence, shown};

/// The paths below `root` that `list` names, each once, in its order.
///
/// # Errors
/// [`Error::Input`] where it cannot be read; [`Error::Usage`] where a line lies outside of `root`.
pub(super) fn read(list: &Path, root: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |e| Error::input(shown(list), io_sentence(&e));
    let text = bytes(list).map_err(unreadable)?;
    let roots = roots(root);
    let mut seen = HashSet::new();
    let mut paths = Vec::new();
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.starts_with(b"#") || line.trim_ascii().is_empty() {
            continue;
        }
        let line = Path::new(OsStr::from_bytes(line));
        let path = below(line, &roots).ok_or_else(|| {
            let (list, number, root) = (shown(list), number + 1, shown(root));
            let line = shown(line);
            Error::Usage(format!(
                "--list {list}, line {number}: {line} is no path below {root}; take it off the list"
            ))
        })?;
        if seen.insert(path.clone()) {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn bytes(list: &Path) -> io::Result<Vec<u8>> {
    if list != "-" {
        return fs::read(list);
    }
    let mut text = Vec::new();
    io::stdin().lock().read_to_end(&mut text)?;
    Ok(text)
}

/// How an absolute path below the root may begin: as it was given, or as the file system has it.
fn roots(root: &Path) -> Vec<PathBuf> {
    let given = std::path::absolute(root).ok().and_then(|path| plain(&path));
    given.into_iter().chain(root.canonicalize()).collect()
}

fn below(line: &Path, roots: &[PathBuf]) -> Option<PathBuf> {
    let path = plain(line)?;
    let path = match path.is_absolute() {
        true => roots.iter().find_map(|root| path.strip_prefix(root).ok())?,
        false => &path,
    };
    (!path.as_os_str().is_empty()).then(|| path.to_owned())
}

/// The path without `.` and `..`, unless it climbs out of where it begins.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => plain.pop().then_some(())?,
            part => plain.push(part),
        }
    }
    Some(plain)
}
