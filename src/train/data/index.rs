//! Index: the facts of an earlier scan, remembered in the user's cache folder.
//!
//! One file an input. An entry counts while its file's size and time of change are what they were; an index that is
//! missing, damaged or cannot be written only costs time.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    facts::{Facts, hex},
    film::Moment,
};
use crate::train::journal::publish;

/// Says how an index is to be read; changes with what [`Facts`] mean.
const FORM: u32 = 1;
/// A scan that took less is done again instead of remembered.
const WORTH: Duration = Duration::from_secs(2);

/// What was found in a file: pictures, each with its moment where the file is a film; or why there are none.
pub(super) type Findings = std::result::Result<Vec<(Option<Moment>, Facts)>, String>;

/// Which state of a file findings are of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Stamp {
    bytes: u64,
    /// Nanoseconds since 1970.
    changed: u64,
}

impl Stamp {
    /// Of the file as it is now.
    pub fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let changed = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(Self {
            bytes: metadata.len(),
            changed: u64::try_from(changed.as_nanos()).ok()?,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Entry {
    stamp: Stamp,
    findings: Findings,
}

/// What is remembered of one input for one seed.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Index {
    form: u32,
    entries: BTreeMap<String, Entry>,
    /// Its own file; none where nothing is remembered.
    #[serde(skip)]
    path: Option<PathBuf>,
    /// Names asked for since it was loaded: the others' files are gone.
    #[serde(skip)]
    fresh: BTreeMap<String, Entry>,
}

impl Index {
    /// The index of `input`, below `folder`.
    pub fn load(folder: Option<&Path>, input: &Path, seed: u64) -> Self {
        let path = folder.zip(fs::canonicalize(input).ok());
        let path = path.map(|(folder, input)| {
            let mut hash = Sha256::new_with_prefix(seed.to_le_bytes());
            hash.update(input.as_os_str().as_encoded_bytes());
            let name = hex::digits(&hash.finalize()[..16]);
            folder.join(format!("{name}.json"))
        });
        let text = path.as_ref().and_then(|path| fs::read(path).ok());
        let index = text.and_then(|text| serde_json::from_slice::<Self>(&text).ok());
        Self {
            form: FORM,
            path,
            ..index.filter(|index| index.form == FORM).unwrap_or_default()
        }
    }

    /// What is remembered under `name` of a file in this state.
    pub fn recall(&self, name: &str, stamp: Option<&Stamp>) -> Option<Findings> {
        let entry = self.entries.get(name)?;
        (Some(&entry.stamp) == stamp).then(|| entry.findings.clone())
    }

    /// Remembers findings of this scan.
    pub fn note(&mut self, name: String, stamp: Option<Stamp>, findings: Findings) {
        if let Some(stamp) = stamp {
            self.fresh.insert(name, Entry { stamp, findings });
        }
    }

    /// Writes what was noted, where finding it again would take long. That it cannot be written is no failure.
    pub fn save(mut self, taken: Duration) {
        self.entries = std::mem::take(&mut self.fresh);
        if let Some(path) = self.path.as_ref().filter(|_| taken >= WORTH)
            && let Some(folder) = path.parent()
            && let Ok(text) = serde_json::to_vec(&self)
            && fs::create_dir_all(folder).is_ok()
        {
            let _ = publish(path, &text);
        }
    }
}

/// Where indexes lie: `autochrome/scan` in `XDG_CACHE_HOME`, else in `~/.cache`.
pub(super) fn folder() -> Option<PathBuf> {
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(cache.join("autochrome/scan"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Findings {
        let picture = image::RgbImage::from_fn(9, 9, |x, y| image::Rgb([x as u8, y as u8, 9]));
        Ok(vec![(None, Facts::of(&picture, b"bytes", 1))])
    }

    #[test]
    fn what_took_long_is_remembered_until_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.png");
        fs::write(&file, b"one").unwrap();
        let cache = folder.path().join("cache");
        let load = |seed| Index::load(Some(&cache), folder.path(), seed);
        let remember = |taken| {
            let mut index = load(1);
            index.note("a".into(), Stamp::of(&file), findings());
            index.note("b".into(), Stamp::of(&file), Err("it is no picture".into()));
            index.save(taken);
        };
        let recall = |name| load(1).recall(name, Stamp::of(&file).as_ref());
        remember(Duration::ZERO);
        assert_eq!(recall("a"), None);
        remember(WORTH);
        assert_eq!(recall("a"), Some(findings()));
        assert_eq!(recall("b"), Some(Err("it is no picture".into())));
        assert_eq!(load(2).recall("a", Stamp::of(&file).as_ref()), None);
        fs::write(&file, b"another").unwrap();
        assert_eq!(recall("a"), None);
    }

    #[test]
    fn a_damaged_or_unwritable_index_only_costs_time() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.png");
        fs::write(&file, b"one").unwrap();
        let index = |cache: &Path| Index::load(Some(cache), folder.path(), 1);
        let path = index(folder.path()).path.unwrap();
        fs::write(&path, b"{\"form\": 1, \"entr").unwrap();
        assert_eq!(
            index(folder.path()).recall("a", Stamp::of(&file).as_ref()),
            None
        );
        // A file where the folder should be.
        let mut unwritable = index(&file);
        unwritable.note("a".into(), Stamp::of(&file), findings());
        unwritable.save(WORTH);
        assert_eq!(index(&file).recall("a", Stamp::of(&file).as_ref()), None);
    }
}
