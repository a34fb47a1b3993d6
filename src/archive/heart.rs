//! Heart: who works on an archive, and that it lives.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

/// How many times a worker's heart beats in the time after which it is believed dead.
pub(super) const BEATS: u32 = 12;

/// Who works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Worker {
    /// A name that no other worker has.
    pub id: String,
    /// The machine, one start of it, and one world of process numbers on it.
    pub host: String,
    /// The process there, and when it started, in the kernel's ticks.
    pub process: (u32, u64),
}

impl Worker {
    /// This process.
    pub fn this() -> Self {
        let text = |path: &str| {
            fs::read_to_string(path)
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        let name = text("/proc/sys/kernel/hostname");
        let boot = text("/proc/sys/kernel/random/boot_id");
        let world = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let process = std::process::id();
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let short: String = name.chars().map(plain).take(40).collect();
        Self {
            id: format!("{short}-{process}-{:x}", now.as_nanos()),
            host: format!("{name} {boot} {}", world.display()),
            process: (process, started(process).unwrap_or(0)),
        }
    }

    /// Whether there is no such process any more, of one on this machine.
    pub fn is_gone(&self) -> bool {
        started(self.process.0) != Some(self.process.1)
    }

    /// Writes to its heart; when that was, by the file server.
    pub fn beat(&self, path: &Path) -> std::io::Result<SystemTime> {
        let words = serde_json::to_vec(self).unwrap_or_default();
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(path)?;
        file.write_all(&words)?;
        file.sync_all()?;
        file.metadata()?.modified()
    }
}

/// When a process of this machine started, in the kernel's ticks; `None` where there is none.
fn started(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in brackets, may hold anything; the 22nd field is the 20th behind it.
    let behind = stat.rsplit_once(')')?.1;
    let mut fields = behind.split_whitespace();
    let state = fields.next()?;
    (state != "Z").then(|| fields.nth(18)?.parse().ok())?
}
