//! Report: what became of an archive, as a page for people and as JSON for programs.

mod page;
mod units;

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use serde::Serialize;

use super::record::{Outcome, Record};
use crate::error::{Error, Result, io_sentence, shown};

/// The page, in the output folder.
pub const PAGE: &str = "report.html";
/// The same for programs, beside it.
pub const JSON: &str = "report.json";

/// What a report says beside the records.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    /// The archive's root as the user wrote it: the title.
    pub archive: String,
    /// The model as it describes itself (name, parameters, SHA-256), and where it ran.
    pub model: String,
    /// Settings as pairs of name and value, for people, in order.
    pub settings: Vec<(String, String)>,
    /// Sources that are still to be done (or being worked on by others), by path.
    pub waiting: Vec<String>,
    /// When it was written, in seconds since 1970.
    pub written: u64,
    /// The program's version.
    pub version: String,
}

/// How much has become of an archive so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Totals {
    /// Films in colour.
    pub done: usize,
    /// Sources that are not to be coloured.
    pub skipped: usize,
    /// Sources that could not be coloured.
    pub failed: usize,
    /// Sources that are still to be done.
    pub waiting: usize,
    /// Frames of the films in colour.
    pub frames: u64,
    /// Frames of them that kept the colours that they came with.
    pub kept: u64,
    /// Length of the films in colour, in seconds.
    pub seconds: f64,
    /// Seconds that all of the work on them took, of whatever machines.
    pub worked: f64,
    /// Seconds of film a second of work; `None` where no work was measured.
    pub speed: Option<f64>,
    /// Size of the films in colour.
    pub bytes: u64,
    /// Size of their sources.
    pub source_bytes: u64,
    /// Things that were noticed on the way.
    pub warnings: usize,
}

impl Totals {
    /// Adds up `records`; `waiting` more sources have none yet.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a Record>, waiting: usize) -> Self {
        let mut totals = Self {
            waiting,
            ..Self::default()
        };
        for record in records {
            totals.add(record);
        }
        totals.speed = (totals.worked > 0.).then(|| totals.seconds / totals.worked);
        totals
    }

    fn add(&mut self, record: &Record) {
        match &record.outcome {
            Outcome::Done(film) => {
                self.done += 1;
                self.frames += film.frames;
                self.kept += film.kept;
                self.seconds += film.seconds;
                self.worked += film.worked;
                self.bytes += film.bytes;
                self.source_bytes += record.digest.bytes;
                self.warnings += film.warnings.len();
            }
            Outcome::Skipped { .. } => self.skipped += 1,
            Outcome::Failed { .. } => self.failed += 1,
            // Not yet over: these are among those that wait.
            Outcome::Publishing(_) | Outcome::Split => {}
        }
    }
}

/// All that a report tells.
#[derive(Serialize)]
struct Report<'a> {
    facts: &'a Facts,
    totals: Totals,
    /// By source.
    records: Vec<&'a Record>,
}

/// Gives the JPEG of a film's contact sheet, before and after, where there is one.
pub type Sheets<'a> = dyn Fn(&Record) -> Option<Vec<u8>> + 'a;

/// Writes [`PAGE`] and [`JSON`] into the folder `output`, each whole or not at all, and answers where the page is.
///
/// Sheets are asked for one at a time, in the page's order, and stand in the page itself: a thousand of 50 kB make it
/// one of 70 MB, so whoever has more may want to answer `None` for some.
///
/// # Errors
/// [`Error::Output`]; an older report is as it was.
pub fn publish(
    output: &Path,
    facts: &Facts,
    records: &[Record],
    sheet: &Sheets,
) -> Result<PathBuf> {
    let mut sorted: Vec<&Record> = records.iter().collect();
    sorted.sort_by(|a, b| a.source.cmp(&b.source));
    let report = Report {
        facts,
        totals: Totals::of(records, facts.waiting.len()),
        records: sorted,
    };
    whole(&output.join(JSON), |file| {
        serde_json::to_writer_pretty(&mut *file, &report)?;
        file.write_all(b"\n")
    })?;
    let page = output.join(PAGE);
    whole(&page, |file| page::write(file, &report, sheet))?;
    Ok(page)
}

/// Writes a file that appears under its name once all of it is on the disk.
fn whole(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let part = part(path);
    let publish = |file: File| {
        let mut file = BufWriter::new(file);
        write(&mut file)?;
        file.into_inner()?.sync_all()?;
        fs::rename(&part, path)
    };
    let created = File::create_new(&part).map_err(|e| refused(path, &e))?;
    publish(created).map_err(|e| {
        // Half a report is of no use to anybody.
        let _ = fs::remove_file(&part);
        refused(path, &e)
    })
}

/// The name until it is whole. Several machines may write into one folder, and in containers their process ids are
/// often the same, so the time is in it, too.
fn part(path: &Path) -> PathBuf {
    let time = UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
    let mut name = OsString::from(path);
    name.push(format!(".{}-{time}.part", std::process::id()));
    name.into()
}

fn refused(path: &Path, e: &io::Error) -> Error {
    let why = format!(
        "the report was not written: {}; the films and what is known of them are as they were, so ask for it again once \
         this is mended",
        io_sentence(e)
    );
    Error::output(shown(path), why)
}

#[cfg(test)]
mod tests;
