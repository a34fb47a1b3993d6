//! Verify: reads every result again and says which is not what its record claims.
//!
//! A result is held against its record (size, SHA-256, frames) and against its source (times, luma, other streams). Where
//! the source is gone or has changed since, only the record is left to hold it against.

use super::{
    FOLDER,
    record::{Digest, Done, Outcome, Record, hex, listed},
    report,
};
use crate::{
    controls::{Controls, Progress},
    error::{Error, Result, io_sentence},
    media::{self, Agreement, Comparison, Films, Luma, MOVED, Reading, Times, Track},
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// The least PSNR of a whole film's luma after an encoder with losses, in decibels, where nobody says otherwise. x264 was
/// measured on a drawn film, with grain of a standard deviation of 0, 12 and 25 codes: 41, 38 and 37 at its default here (crf
/// 17), 35, 27 and 25 at crf 28, which takes most of the grain away. A film that is brighter by a twentieth of the range
/// comes to 26.
pub const LEAST_PSNR: f64 = 28.;
/// A single frame may be worse by this much, as an encoder's frames differ; a black one in a drawn film comes to 7.
const WORSE: f64 = 8.;

/// Bytes that are hashed between two looks at whether to stop.
const CHUNK: usize = 1 << 20;

/// How an item fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The result is what its record claims and what its source asks for.
    Good,
    /// It is not.
    Wrong,
    /// It is what its record claims; the source is gone or has changed, and cannot be asked.
    Changed,
    /// It was not to be coloured.
    Skipped,
    /// It could not be coloured.
    Failed,
}

/// What was found of one item.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The source's path below the archive's root.
    pub source: String,
    /// The result's path below the output folder, if there should be one.
    pub output: Option<String>,
    /// How it fares.
    pub state: State,
    /// What is not as it should be; why it was skipped or has failed.
    pub problems: Vec<String>,
    /// What else is to be known.
    pub notes: Vec<String>,
    /// The figures, where source and result could be compared.
    pub comparison: Option<Comparison>,
}

/// What was found of an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Results that are what they should be.
    pub good: u64,
    /// Results that are not.
    pub wrong: u64,
    /// Results whose source is gone or has changed.
    pub changed: u64,
    /// Items that were not to be coloured.
    pub skipped: u64,
    /// Items that could not be coloured.
    pub failed: u64,
    /// Files below the output folder that no record claims.
    pub strays: Vec<String>,
}

impl Summary {
    fn count(&mut self, state: State) {
        *match state {
            State::Good => &mut self.good,
            State::Wrong => &mut self.wrong,
            State::Changed => &mut self.changed,
            State::Skipped => &mut self.skipped,
            State::Failed => &mut self.failed,
        } += 1;
    }
}

/// Looks at every item, in the order of `records`; `hear` is told of each. `least` is the PSNR that a film's luma must have
/// after an encoder with losses, such as [`LEAST_PSNR`]. Progress counts the frames of all results.
///
/// # Errors
/// [`Error::Stopped`] after [`Controls::abort`], an output folder that cannot be listed, what `hear` returns. A result that
/// is missing or damaged is a verdict, not an error.
pub fn verify(
    output: &Path,
    records: &[Record],
    least: f64,
    controls: &Controls,
    hear: &mut dyn FnMut(&Verdict) -> Result<()>,
) -> Result<Summary> {
    let mut summary = Summary::default();
    let mut before = Progress {
        frames: 0,
        seconds: 0.,
    };
    for record in records {
        controls.check()?;
        let verdict = verdict(output, record, least, controls, before)?;
        if let Outcome::Done(done) = &record.outcome {
            before.frames += done.frames;
            before.seconds += done.seconds;
            controls.report(before);
        }
        summary.count(verdict.state);
        hear(&verdict)?;
    }
    summary.strays = strays(output, records)?;
    Ok(summary)
}

fn verdict(
    output: &Path,
    record: &Record,
    least: f64,
    controls: &Controls,
    before: Progress,
) -> Result<Verdict> {
    let mut verdict = Verdict {
        source: record.source.clone(),
        output: None,
        state: State::Good,
        problems: Vec::new(),
        notes: Vec::new(),
        comparison: None,
    };
    match &record.outcome {
        Outcome::Done(done) => Check {
            result: output.join(&done.output),
            record,
            done,
            least,
            controls,
            before,
            verdict: &mut verdict,
        }
        .run()?,
        Outcome::Skipped { why } => {
            verdict.state = State::Skipped;
            verdict.notes.push(why.clone());
        }
        Outcome::Publishing(_) | Outcome::Split => {
            verdict.state = State::Skipped;
            verdict.notes.push("it is not done yet".into());
        }
        Outcome::Failed { why, attempts } => {
            verdict.state = State::Failed;
            let times = if *attempts == 1 {
                "once"
            } else {
                "again and again"
            };
            verdict
                .problems
                .push(format!("it could not be coloured, tried {times}: {why}"));
        }
    }
    Ok(verdict)
}

/// One result on its way to a verdict.
struct Check<'a> {
    result: PathBuf,
    record: &'a Record,
    done: &'a Done,
    least: f64,
    controls: &'a Controls,
    /// What was done of the archive before it.
    before: Progress,
    verdict: &'a mut Verdict,
}

impl Check<'_> {
    fn run(mut self) -> Result<()> {
        self.verdict.output = Some(self.done.output.clone());
        let changed = self.source_changed();
        if self.file()? {
            let read = match changed {
                None => self.against_source(),
                Some(_) => self.alone(),
            };
            match read {
                Err(Error::Stopped) => return Err(Error::Stopped),
                Err(e) => self.wrong(e.to_string()),
                Ok(()) => {}
            }
        }
        self.verdict.state = match (self.verdict.problems.is_empty(), &changed) {
            (false, _) => State::Wrong,
            (true, None) => State::Good,
            (true, Some(_)) => State::Changed,
        };
        self.verdict.notes.extend(changed);
        Ok(())
    }

    fn wrong(&mut self, what: impl Into<String>) {
        self.verdict.problems.push(what.into());
    }

    fn source(&self) -> PathBuf {
        Path::new(&self.record.root).join(&self.record.source)
    }

    /// Why the source cannot be asked.
    fn source_changed(&self) -> Option<String> {
        let held = "the result was held against its record alone";
        match Digest::of(&self.source()) {
            Ok(digest) if digest == self.record.digest => None,
            Ok(_) => Some(format!(
                "the source has changed since it was coloured; {held}"
            )),
            Err(_) if !self.source().exists() => Some(format!("the source is gone; {held}")),
            Err(e) => Some(format!("the source cannot be read ({e}); {held}")),
        }
    }

    /// Holds the file against its record; whether there is one that can be decoded.
    fn file(&mut self) -> Result<bool> {
        let hashed = match File::open(&self.result) {
            Ok(file) => self.hashed(file)?,
            Err(e) => Err(e),
        };
        let (bytes, sum) = match hashed {
            Ok(found) => found,
            Err(e) => {
                let why = format!("the result cannot be read: {}", io_sentence(&e));
                self.wrong(why);
                return Ok(false);
            }
        };
        let claimed = self.done.bytes;
        if bytes != claimed {
            self.wrong(format!(
                "it has {bytes} bytes, and its record says {claimed}"
            ));
        } else if !sum.eq_ignore_ascii_case(&self.done.sha256) {
            self.wrong(
                "its SHA-256 is not the recorded one: bytes have changed since it was written",
            );
        }
        Ok(bytes > 0)
    }

    /// Length and SHA-256 of a file.
    fn hashed(&self, mut file: File) -> Result<io::Result<(u64, String)>> {
        let (mut hash, mut bytes, mut chunk) = (Sha256::new(), 0, vec![0; CHUNK]);
        loop {
            self.controls.check()?;
            match file.read(&mut chunk) {
                Ok(0) => return Ok(Ok((bytes, hex(&hash.finalize())))),
                Ok(count) => {
                    hash.update(&chunk[..count]);
                    bytes += count as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Ok(Err(e)),
            }
        }
    }

    /// Decodes the result by itself.
    fn alone(&mut self) -> Result<()> {
        let hear = &mut progress(self.controls, self.before);
        let stop = self.controls.abort_flag();
        let read = media::read_through(self.result.as_os_str(), &stop, hear)?;
        self.reading(&read, None);
        Ok(())
    }

    /// Decodes the result beside its source.
    fn against_source(&mut self) -> Result<()> {
        let source = self.source();
        let films = Films {
            source: source.as_os_str(),
            result: self.result.as_os_str(),
            streams: &self.done.streams,
        };
        let hear = &mut progress(self.controls, self.before);
        let found = media::compare(&films, &self.controls.abort_flag(), hear)?;
        self.reading(&found.result, Some(&found.source));
        self.times(&found.times);
        match &found.luma {
            Some(luma) => self.luma(luma, found.source.damage() > 0),
            None => self.wrong(format!(
                "its pictures are {}, and those of its source {}",
                size(found.result.size),
                size(found.source.size)
            )),
        }
        found.tracks.iter().for_each(|track| self.track(track));
        self.verdict.comparison = Some(found);
        Ok(())
    }

    fn reading(&mut self, read: &Reading, source: Option<&Reading>) {
        let report = &read.report;
        if read.damage() > 0 {
            self.wrong(format!(
                "it is damaged: {} packets and {} frames",
                report.corrupt_packets, report.damaged_frames
            ));
        }
        // A header may promise more than the source has either: chapters that reach beyond its pictures.
        if report.truncated && source.is_some_and(|source| !source.report.truncated) {
            self.wrong("it ends before the end that its header promises");
        }
        if read.size != self.done.size {
            let (found, claimed) = (size(read.size), size(self.done.size));
            self.wrong(format!(
                "its pictures are {found}, and its record says {claimed}"
            ));
        }
        let (frames, claimed) = (report.frames, self.done.frames);
        if frames != claimed {
            self.wrong(format!(
                "it has {frames} frames, and its record says {claimed}"
            ));
        }
        if let Some(wanted) = source.map(|s| s.report.frames).filter(|&n| n != frames) {
            self.wrong(format!("it has {frames} frames, and its source {wanted}"));
        }
    }

    fn times(&mut self, times: &Times) {
        let Some((at, off)) = times.worst.filter(|_| !times.kept) else {
            return;
        };
        let what = format!(
            "times are not kept: frame {} ({:.3} s) comes {:.1} ms {} than the first frame's shift allows",
            at.frame,
            at.seconds,
            off.abs() * 1e3,
            if off < 0. { "earlier" } else { "later" },
        );
        // The record says so itself.
        match self.done.warnings.iter().any(|told| told.contains(MOVED)) {
            true => self.verdict.notes.push(what),
            false => self.wrong(what),
        }
    }

    fn luma(&mut self, luma: &Luma, damaged: bool) {
        // Patches for what is damaged may turn out otherwise the next time.
        let exact = self.done.lossless && !luma.computed && !damaged;
        if damaged {
            let note = "the source is damaged, and its luma was not compared code by code";
            self.verdict.notes.push(note.into());
        }
        if let Some(at) = luma.first.filter(|_| exact) {
            self.wrong(format!(
                "the luma of {} frames is not the source's, first of frame {} ({:.3} s), though its encoder is lossless",
                luma.unlike, at.frame, at.seconds
            ));
        }
        let least = self.least - WORSE;
        if let Some((at, ratio)) = luma.worst.filter(|&(_, ratio)| ratio < least) {
            self.wrong(format!(
                "the luma of frame {} ({:.3} s) is far from the source's: PSNR {ratio:.1} dB, where at least {least} are \
                 wanted of a frame",
                at.frame, at.seconds
            ));
        }
        let least = self.least;
        if let Some(ratio) = luma.psnr.filter(|&ratio| ratio < least) {
            self.wrong(format!(
                "the luma is far from the source's: PSNR {ratio:.1} dB, where at least {least} are wanted of a whole film"
            ));
        }
    }

    fn track(&mut self, track: &Track) {
        let Track {
            line,
            source,
            result,
            ..
        } = track;
        let what = match track.agreement {
            Agreement::Same | Agreement::Counted => return,
            Agreement::Differs if source != result => {
                format!("'{line}': it has {result} packets of it, and its source {source}")
            }
            Agreement::Differs => format!("'{line}': its bytes are not the source's"),
            Agreement::Unknown => format!("'{line}': its source has no such stream"),
            Agreement::Missing => format!("'{line}': it has no such stream"),
            Agreement::Surplus => format!("'{line}': its record knows nothing of this stream"),
        };
        self.wrong(what);
    }
}

/// Tells of the frames of one film after those before it.
fn progress(controls: &Controls, before: Progress) -> impl FnMut(u64, f64) {
    let controls = controls.clone();
    move |frames, seconds| {
        controls.report(Progress {
            frames: before.frames + frames,
            seconds: before.seconds + seconds,
        });
    }
}

fn size((width, height): (usize, usize)) -> String {
    format!("{width}x{height}")
}

/// Files below the output folder that no record claims, in order; what is unfinished and the archive's own is no stray.
fn strays(output: &Path, records: &[Record]) -> Result<Vec<String>> {
    let claimed = records.iter().filter_map(|record| match &record.outcome {
        Outcome::Done(done) => Some(output.join(&done.output)),
        _ => None,
    });
    let reports = [report::PAGE, report::JSON].map(|name| output.join(name));
    let claimed: HashSet<PathBuf> = claimed.chain(reports).collect();
    let (mut strays, mut folders) = (Vec::new(), vec![output.to_owned()]);
    while let Some(folder) = folders.pop() {
        for path in listed(&folder)? {
            // A link to a folder may lead anywhere, also back.
            if path.is_dir() && !path.is_symlink() {
                folders.extend((!path.ends_with(FOLDER)).then_some(path));
            } else if !claimed.contains(&path) && path.extension().is_none_or(|end| end != "part") {
                let below = path.strip_prefix(output).unwrap_or(&path);
                strays.push(below.to_string_lossy().into_owned());
            }
        }
    }
    strays.sort();
    Ok(strays)
}
