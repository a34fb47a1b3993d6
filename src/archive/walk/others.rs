//! Others: files of an archive that are no films, counted.

use std::{cmp::Reverse, collections::BTreeMap, fmt, path::Path};

/// Kinds that are told by name.
const TOLD: usize = 8;
/// Bytes of the longest extension; what is longer is a sentence with a full stop in it.
const LONGEST: usize = 8;

/// How many files are no films, by extension in lower case. It is shown as one sentence: "213 files that are no films: 200
/// jpg, 13 txt".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Others(BTreeMap<String, u64>);

impl Others {
    /// Counts one more.
    pub(super) fn count(&mut self, source: &str) {
        let extension = Path::new(source).extension().and_then(|e| e.to_str());
        let extension = extension.filter(|e| e.len() <= LONGEST).unwrap_or_default();
        *self.0.entry(extension.to_lowercase()).or_default() += 1;
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

impl fmt::Display for Others {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut kinds: Vec<_> = self.0.iter().collect();
        kinds.sort_by_key(|(_, count)| Reverse(**count));
        let rest: u64 = kinds.iter().skip(TOLD).map(|(_, count)| **count).sum();
        let kind = |(extension, count): &(&String, &u64)| match extension.as_str() {
            "" => format!("{count} without an extension"),
            extension => format!("{count} {extension}"),
        };
        let mut told: Vec<_> = kinds.iter().take(TOLD).map(kind).collect();
        told.extend((rest > 0).then(|| format!("{rest} of other kinds")));
        match (self.total(), told.join(", ")) {
            (0, _) => write!(f, "no files but films"),
            (1, told) => write!(f, "1 file that is no film: {told}"),
            (total, told) => write!(f, "{total} files that are no films: {told}"),
        }
    }
}
