//! Walk: which files of an archive are films, and what each one's result is called.

mod filter;
mod list;
mod name;
mod others;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, DirEntry},
    io,
    path::{Path, PathBuf},
};

use crate::error::{Error, Result, io_sentence, shown};
use filter::{Filter, Verdict};
pub use others::Others;

/// What is to be looked at.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    /// A folder, with all that is in it, or one film.
    pub root: PathBuf,
    /// Where the results go; it need not be there yet.
    pub output: PathBuf,
    /// A file that lists the sources, one path a line, below the root or absolute; `-` is standard input.
    pub list: Option<PathBuf>,
    /// Patterns, such as `*.dat` or `1950s/**`: where there is one, only what matches one is looked at. A pattern that
    /// ends in stars alone says where; any other says which, and what matches it is a film whatever its extension.
    pub include: Vec<String>,
    /// Patterns of what is left out, whatever else says that it is a film.
    pub exclude: Vec<String>,
    /// The container that every result gets (`mkv`), where one was asked for.
    pub container: Option<String>,
}

/// One source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its path below the root, with `/`; its name, if it is the root.
    pub source: String,
    /// Where it lies: the root as it was given, and the source.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Where its result goes below the output folder, with `/`.
    pub output: String,
}

/// A file or folder that should be looked at and is not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refused {
    /// Its path below the root, with `/`.
    pub source: String,
    /// Why, and what to try.
    pub why: String,
}

/// What an archive has in it.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Its films, in the byte order of their paths, or in the order of the list.
    pub items: Vec<Item>,
    /// What is none for some reason that someone may want to know.
    pub refused: Vec<Refused>,
    /// How many other files there are.
    pub others: Others,
    /// How many links to folders there are; they are not followed, for they may lead in circles.
    pub links: usize,
}

const NAME: &str = "its name is not UTF-8; rename it";

/// Finds the films of an archive, without opening one.
///
/// Hidden files and folders are left out, and the output folder, and what ends in `.part`. Names that a list gives are
/// films whatever they are called, unless they lie in the output folder.
///
/// # Errors
/// [`Error::Input`] where the root or the list cannot be read; [`Error::Usage`] for a bad pattern, a line of the list that
/// lies outside of the root, or an output folder in which a result could fall on a source.
pub fn walk(walk: &Walk) -> Result<Found> {
    let mut walker = Walker::new(walk)?;
    match (&walk.list, walk.root.is_dir()) {
        (None, false) => walker.film()?,
        (None, true) => {
            walker.enter(vec![String::new()])?;
            walker
                .found
                .items
                .sort_unstable_by(|a, b| a.source.cmp(&b.source));
        }
        (Some(list), true) => walker.listed(list)?,
        (Some(_), false) => {
            let root = shown(&walk.root);
            return Err(Error::Usage(format!(
                "--list says what to take from a folder, and {root} is none"
            )));
        }
    }
    let mut found = walker.found;
    found.refused.extend(name::claim(&mut found.items));
    found.refused.sort_unstable();
    Ok(found)
}

struct Walker<'a> {
    root: &'a Path,
    /// The output folder below the root, if it lies there.
    own: Option<PathBuf>,
    container: Option<&'a str>,
    filter: Filter,
    found: Found,
}

impl<'a> Walker<'a> {
    fn new(walk: &'a Walk) -> Result<Self> {
        Ok(Self {
            root: &walk.root,
            own: own(&walk.root, &walk.output)?,
            container: walk.container.as_deref(),
            filter: Filter::new(&walk.include, &walk.exclude)?,
            found: Found::default(),
        })
    }

    /// The root, which is a film because somebody says so.
    fn film(&mut self) -> Result<()> {
        let name = self.root.file_name().unwrap_or_default();
        match name.to_str() {
            Some(name) => self.take(name.to_owned(), self.root.to_owned()),
            None => self.refuse(name.to_string_lossy(), NAME),
        }
        Ok(())
    }

    /// Looks through folders and all that are in them. One that cannot be read is told, but for the root, without which
    /// there is nothing.
    fn enter(&mut self, mut folders: Vec<String>) -> Result<()> {
        while let Some(folder) = folders.pop() {
            match self.folder(&folder, &mut folders) {
                Err(e) if folder.is_empty() => {
                    return Err(Error::input(shown(self.root), io_sentence(&e)));
                }
                Err(e) => self.refuse(folder, io_sentence(&e)),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn folder(&mut self, folder: &str, folders: &mut Vec<String>) -> io::Result<()> {
        for entry in fs::read_dir(self.root.join(folder))? {
            folders.extend(self.entry(folder, &entry?)?);
        }
        Ok(())
    }

    /// Takes a file, or answers the folder that it is.
    fn entry(&mut self, folder: &str, entry: &DirEntry) -> io::Result<Option<String>> {
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        let readable = name.to_str().is_some();
        let name = name.to_string_lossy();
        if name.starts_with('.') {
            return Ok(None);
        }
        let source = match folder {
            "" => name.into_owned(),
            folder => format!("{folder}/{name}"),
        };
        if kind.is_dir() {
            let entered = self.filter.enters(&source) && !self.is_own(&source);
            if entered && !readable {
                self.refuse(&*source, NAME);
            }
            return Ok((entered && readable).then_some(source));
        }
        let path = entry.path();
        match kind.is_symlink() && path.is_dir() {
            true => self.found.links += 1,
            false => self.file(source, path, readable),
        }
        Ok(None)
    }

    fn file(&mut self, source: String, path: PathBuf, readable: bool) {
        if source.ends_with(".part") {
            return;
        }
        match self.filter.judge(&source) {
            Verdict::Film if readable => self.take(source, path),
            Verdict::Film => self.refuse(source, NAME),
            Verdict::Other => self.found.others.count(&source),
            Verdict::LeftOut => {}
        }
    }

    fn listed(&mut self, list: &Path) -> Result<()> {
        for path in list::read(list, self.root)? {
            match path.to_str() {
                None => self.refuse(path.to_string_lossy(), NAME),
                Some(source) if !self.filter.allows(source) => {}
                Some(source) if self.own.as_ref().is_some_and(|own| path.starts_with(own)) => {
                    self.refuse(source, "it lies in the output folder; take it off the list");
                }
                Some(source) => self.take(source.to_owned(), self.root.join(source)),
            }
        }
        Ok(())
    }

    fn take(&mut self, source: String, path: PathBuf) {
        match fs::metadata(&path) {
            Ok(facts) if facts.is_file() => {
                let output = name::output(&source, self.container);
                let bytes = facts.len();
                self.found.items.push(Item {
                    source,
                    path,
                    bytes,
                    output,
                });
            }
            Ok(facts) if facts.is_dir() => {
                self.refuse(source, "it is a folder; list the films in it")
            }
            Ok(_) => self.refuse(source, "it is a device or a pipe, not a file"),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.refuse(
                    source,
                    "there is no such file; if it is a link, it leads nowhere",
                );
            }
            Err(e) => self.refuse(source, io_sentence(&e)),
        }
    }

    fn is_own(&self, source: &str) -> bool {
        self.own.as_deref() == Some(Path::new(source))
    }

    fn refuse(&mut self, source: impl Into<String>, why: impl Into<String>) {
        self.found.refused.push(Refused {
            source: source.into(),
            why: why.into(),
        });
    }
}

/// The output folder below the root, if it lies there; checks that no result can fall on a source.
fn own(root: &Path, output: &Path) -> Result<Option<PathBuf>> {
    let unreadable = |e| Error::input(shown(root), io_sentence(&e));
    let (real, out) = (root.canonicalize().map_err(unreadable)?, settled(output));
    let risky = match real.is_dir() {
        true => real.starts_with(&out),
        false => real.parent() == Some(&out),
    };
    match risky {
        true => Err(Error::Usage(format!(
            "the output folder {} holds the source {}, on which a result could fall; choose another folder, beside it or in it",
            shown(output),
            shown(root)
        ))),
        false => Ok(out.strip_prefix(&real).ok().map(PathBuf::from)),
    }
}

/// The path without links, as far as it is there.
fn settled(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let real = path.ancestors().find_map(|there| {
        let rest = path.strip_prefix(there).ok()?;
        Some(there.canonicalize().ok()?.join(rest))
    });
    real.unwrap_or(path)
}
