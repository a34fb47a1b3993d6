//! Room: whether there is some on the disk for what is to be written, and in memory for those who write it.

use std::{fs, path::Path};

use crate::error::{Error, Result, io_sentence, shown};

/// Bytes that are left to others: a disk that is full to its last block stops more than this program.
const RESERVE: u64 = 64 << 20;

/// Free bytes where `folder` lies, for whoever is not root.
///
/// # Errors
/// The file system does not say.
pub fn free(folder: &Path) -> Result<u64> {
    let about = rustix::fs::statvfs(folder);
    let about = about.map_err(|e| Error::output(shown(folder), io_sentence(&e.into())))?;
    Ok(about.f_bavail * about.f_frsize)
}

/// Why nothing more should be begun in `folder`, if what is in work there may still want so many bytes.
///
/// # Errors
/// As for [`free`].
pub fn lack(folder: &Path, expected: u64) -> Result<Option<String>> {
    let free = free(folder)?;
    let needed = RESERVE + expected;
    Ok((free < needed).then(|| {
        format!(
            "the disk is full, or will soon be: {} MiB are free in {}, and {} MiB may be needed; free some space and run the \
             same command again",
            free >> 20,
            shown(folder),
            needed >> 20
        )
    }))
}

/// Whether a sentence says that a disk is full.
pub fn is_full(why: &str) -> bool {
    why.contains("the disk is full")
}

/// Bytes of memory that can be had without putting others out.
pub fn memory() -> u64 {
    let about = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = about
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    // Elsewhere than on Linux nobody says: what a small machine has.
    kib.map_or(4 << 30, |kib| kib << 10).min(limit())
}

/// What this process and its children may have, where they are confined, as a cluster's jobs are.
fn limit() -> u64 {
    let told = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let limits = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    limits
        .into_iter()
        .filter_map(told)
        .min()
        .unwrap_or(u64::MAX)
}
