//! Filter: which files are films, by their names alone.

use std::path::Path;

use globset::{Glob, GlobBuilder, GlobSet};

use crate::error::{Error, Result};

/// Extensions that films have.
const FILMS: &[&str] = &[
    "mp4", "m4v", "mov", "qt", "mkv", "mk3d", "webm", "avi", "divx", "mpg", "mpeg", "mpe", "mpv",
    "m1v", "m2v", "m2p", "vob", "vro", "evo", "ts", "m2ts", "mts", "m2t", "tp", "trp", "wmv",
    "asf", "wtv", "flv", "f4v", "ogv", "ogm", "3gp", "3g2", "mxf", "gxf", "dv", "rm", "rmvb",
    "nut", "y4m", "mj2", "mjpg", "mjpeg", "ivf", "h264", "264", "h265", "hevc", "265", "nsv",
    "amv",
];

/// What a file is by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A film.
    Film,
    /// None.
    Other,
    /// Whatever it is, it was not asked for.
    LeftOut,
}

/// The user's patterns.
pub(super) struct Filter {
    /// Whether there are patterns of what is looked at.
    chosen: bool,
    /// Those that say which files are films.
    which: GlobSet,
    /// Those that end in stars alone, and say only where films are.
    place: GlobSet,
    exclude: GlobSet,
    /// Folders of which all is excluded.
    closed: GlobSet,
}

impl Filter {
    /// # Errors
    /// [`Error::Usage`] for a bad pattern.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self> {
        let (place, which): (Vec<&str>, Vec<&str>) = include
            .iter()
            .map(String::as_str)
            .partition(|p| is_place(p));
        let excluded = set("exclude", exclude)?;
        let stems = exclude
            .iter()
            .filter_map(|pattern| pattern.strip_suffix("/**"));
        let closed = stems.map(anchored).collect::<Result<Vec<_>, _>>();
        let closed = closed
            .and_then(GlobSet::new)
            .map_err(|e| refused("exclude", "", e))?;
        Ok(Self {
            chosen: !include.is_empty(),
            which: set("include", &which)?,
            place: set("include", &place)?,
            exclude: excluded,
            closed,
        })
    }

    /// What a file found below the root is.
    pub fn judge(&self, source: &str) -> Verdict {
        match () {
            _ if !self.allows(source) => Verdict::LeftOut,
            _ if self.which.is_match(source) || is_film(source) => Verdict::Film,
            _ => Verdict::Other,
        }
    }

    /// Whether the patterns let a file pass.
    pub fn allows(&self, source: &str) -> bool {
        let included = !self.chosen || self.which.is_match(source) || self.place.is_match(source);
        included && !self.exclude.is_match(source)
    }

    /// Whether anything in a folder may be let pass.
    pub fn enters(&self, folder: &str) -> bool {
        !self.closed.is_match(folder)
    }
}

fn is_film(source: &str) -> bool {
    let extension = Path::new(source).extension().and_then(|e| e.to_str());
    extension.is_some_and(|e| FILMS.iter().any(|film| film.eq_ignore_ascii_case(e)))
}

fn is_place(pattern: &str) -> bool {
    let (_, name) = pattern.rsplit_once('/').unwrap_or(("", pattern));
    name.chars().all(|c| c == '*')
}

fn set(option: &str, patterns: &[impl AsRef<str>]) -> Result<GlobSet> {
    let globs = patterns
        .iter()
        .map(|pattern| glob(option, pattern.as_ref()));
    GlobSet::new(globs.collect::<Result<Vec<_>>>()?).map_err(|e| refused(option, "", e))
}

fn glob(option: &str, pattern: &str) -> Result<Glob> {
    if pattern.is_empty() || pattern.starts_with('/') || pattern.ends_with('/') {
        let why = "it matches no file; a pattern is a path below the archive's root, such as *.dat, 1950s/** or **/tests/*";
        return Err(refused(option, pattern, why));
    }
    let glob = match pattern.contains('/') {
        true => anchored(pattern),
        false => anchored(&format!("**/{pattern}")),
    };
    glob.map_err(|e| refused(option, pattern, e.kind()))
}

fn anchored(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(true).build()
}

fn refused(option: &str, pattern: &str, why: impl ToString) -> Error {
    Error::Usage(format!("--{option} '{pattern}': {}", why.to_string()))
}
