//! What a run leaves in its folder for people, beside its checkpoints.
//!
//! - `config.json`: everything that the run was asked to do, and each time that it went on;
//! - `metrics.csv`: losses, rates and figures, a row a noted step;
//! - `events.out.tfevents.*`: the same for TensorBoard;
//! - `curves.png`: the same as curves;
//! - `sheet-STEP.png`: grey, result and truth of the validation photographs;
//! - `progress.png`: a few of them over all sheets, a column each, so that one sees the colour come;
//! - `summary.json`, `summary.md`: what came of it.
//!
//! A run that went on after it was killed leaves what one leaves that was never stopped.

mod canvas;
mod chart;
mod events;
mod history;
mod sheet;
mod summary;
mod table;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    time::Instant,
};

use image::{ImageFormat, RgbImage};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    error::{Error, Result, io_sentence, shown},
    eval::Exam,
    frame::AbMap,
};
use chart::{Panel, Series};
use events::Events;
pub use sheet::sheet;
use table::Table;

/// Losses of one step by name.
pub type Losses = Vec<(&'static str, f32)>;

/// The journal of one run, in its folder.
pub struct Journal {
    folder: PathBuf,
    table: Table,
    events: Events,
    opened: Instant,
    /// Seconds that earlier parts of the run took.
    before: f32,
    means: Means,
    /// What could not be written, told once.
    warning: Option<String>,
    warned: bool,
}

/// Means of the losses that are under way. They belong to a checkpoint, for the table of a run that goes on to be that
/// of one that never stopped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Means {
    /// Running means, for the eye.
    running: BTreeMap<String, f32>,
    /// Sums and numbers since the last row of the table.
    since: BTreeMap<String, (f64, u32)>,
}

const SECONDS: &str = "seconds";
const RATE: &str = "rate";

impl Journal {
    /// Steps between two rows of losses.
    const EVERY: u64 = 20;
    /// Weight of a step in the running mean of the losses.
    const NEWEST: f32 = 0.02;

    /// Opens the journal in a run's folder, which is made if need be, and notes in `config.json` what the run is asked
    /// to do: `header`, which is added to what stands there. A run that goes on after `resumed_at` steps continues the
    /// table; what was noted of later steps is dropped.
    ///
    /// # Errors
    /// [`Error::Output`] where the folder cannot be written, [`Error::Input`] where its files are not a journal's.
    pub fn open(folder: &Path, header: &Value, resumed_at: Option<u64>) -> Result<Self> {
        let unwritable = |e| Error::output(shown(folder), io_sentence(&e));
        let done = resumed_at.unwrap_or(0);
        fs::create_dir_all(folder).map_err(unwritable)?;
        history::note(folder, header, done)?;
        let table = Table::open(&folder.join("metrics.csv"), done)?;
        sheet::forget(folder, done);
        let before = table.points(SECONDS).last().map_or(0., |p| p.1 as f32);
        Ok(Self {
            folder: folder.to_owned(),
            table,
            events: Events::create(folder, done + 1).map_err(unwritable)?,
            opened: Instant::now(),
            before,
            means: Means::default(),
            warning: None,
            warned: false,
        })
    }

    /// The means that are under way, for a checkpoint.
    pub fn means(&self) -> Means {
        self.means.clone()
    }

    /// Goes on from the means of a checkpoint.
    pub fn restore(&mut self, means: Means) {
        self.means = means;
    }

    /// What the user should hear of since the last call: that a file cannot be written, once. A run of hours does not
    /// end for that.
    pub fn take_warning(&mut self) -> Option<String> {
        self.warning.take()
    }

    /// Notes a finished step, counted from 1: its losses, the generator's learning rate, and the pace; gives the
    /// running means of the losses.
    pub fn step(
        &mut self,
        step: u64,
        losses: &Losses,
        rate: f64,
        pictures_per_second: f64,
    ) -> Losses {
        let smooth = self.means.add(losses);
        if step.is_multiple_of(Self::EVERY) {
            let mut numbers = vec![
                (RATE.to_owned(), rate as f32),
                ("pictures_per_second".into(), pictures_per_second as f32),
            ];
            numbers.extend(self.means.take());
            self.note(step, numbers);
        }
        smooth
    }

    /// Notes figures on the validation photographs.
    pub fn figures(&mut self, step: u64, figures: &[(&str, f64)]) {
        let named = |(name, value): &(&str, f64)| (format!("{VALIDATION}{name}"), *value as f32);
        self.note(step, figures.iter().map(named).collect());
    }

    fn note(&mut self, step: u64, numbers: Vec<(String, f32)>) {
        let told = self.events.scalars(step, &numbers).map_err(|e| {
            let file = self.folder.join("events.out.tfevents");
            Error::output(shown(file), io_sentence(&e))
        });
        let seconds = self.before + self.opened.elapsed().as_secs_f32();
        let seconds = (SECONDS.to_owned(), (seconds * 10.).round() / 10.);
        let row = [vec![seconds], numbers].concat();
        let noted = self.table.put(step, &row);
        if let Err(e) = told.and(noted)
            && !self.warned
        {
            self.warned = true;
            self.warning = Some(format!("{e}; the run goes on, its journal has gaps"));
        }
    }

    /// Draws grey, result and truth of each exam side by side into `sheet-STEP.png`, and the first few exams over all
    /// sheets into `progress.png`.
    ///
    /// # Errors
    /// [`Error::Output`] where a file cannot be written.
    pub fn sheet(&mut self, step: u64, exams: &[Exam], maps: &[AbMap]) -> Result<()> {
        save(&sheet(exams, maps), &sheet::path(&self.folder, step))?;
        let progress = sheet::progress(&self.folder, exams);
        save(&progress, &self.folder.join("progress.png"))
    }

    /// Draws everything that was noted so far over the steps into `curves.png`: the losses together, every other
    /// number in a panel of its own.
    ///
    /// # Errors
    /// [`Error::Output`] where the file cannot be written.
    pub fn curves(&self) -> Result<()> {
        let (losses, others): (Vec<_>, Vec<_>) = self
            .table
            .columns()
            .iter()
            .filter(|name| *name != SECONDS)
            .partition(|name| name.starts_with(LOSS));
        let series = |name: &String| Series {
            name: name.trim_start_matches(LOSS).to_owned(),
            points: self.table.points(name),
        };
        let mut panels = Vec::new();
        if !losses.is_empty() {
            panels.push(Panel {
                title: "losses".into(),
                noisy: true,
                series: losses.into_iter().map(series).collect(),
            });
        }
        panels.extend(others.into_iter().map(|name| Panel {
            title: name.replace(['_', '/'], " "),
            noisy: name != RATE,
            series: vec![series(name)],
        }));
        save(&chart::draw(&panels), &self.folder.join("curves.png"))
    }

    /// Writes what came of the run: `summary` as `summary.json`, and with the extremes of everything that was noted as
    /// `summary.md`.
    ///
    /// # Errors
    /// [`Error::Output`] where a file cannot be written.
    pub fn finish(&mut self, summary: &Value) -> Result<()> {
        let mut json =
            serde_json::to_vec_pretty(summary).map_err(|e| Error::internal("journal", e))?;
        json.push(b'\n');
        publish(&self.folder.join("summary.json"), &json)?;
        let words = summary::markdown(summary, &self.table);
        publish(&self.folder.join("summary.md"), words.as_bytes())
    }
}

// Groups of names, as TensorBoard shows them.
const LOSS: &str = "loss/";
const VALIDATION: &str = "validation/";

impl Means {
    /// Adds a step; gives the running means in the losses' order. One that ceases is forgotten.
    fn add(&mut self, losses: &Losses) -> Losses {
        self.running
            .retain(|name, _| losses.iter().any(|(n, _)| n == name));
        let mut smooth = Losses::new();
        for (name, loss) in losses {
            let mean = self.running.entry((*name).to_owned()).or_insert(*loss);
            *mean += Journal::NEWEST * (loss - *mean);
            smooth.push((*name, *mean));
            let (sum, count) = self.since.entry((*name).to_owned()).or_default();
            *sum += f64::from(*loss);
            *count += 1;
        }
        smooth
    }

    /// The means since the last call.
    fn take(&mut self) -> impl Iterator<Item = (String, f32)> + use<> {
        let mean =
            |(name, (sum, count))| (format!("{LOSS}{name}"), (sum / f64::from(count)) as f32);
        std::mem::take(&mut self.since).into_iter().map(mean)
    }
}

fn save(image: &RgbImage, path: &Path) -> Result<()> {
    let mut png = std::io::Cursor::new(Vec::new());
    image
        .write_to(&mut png, ImageFormat::Png)
        .map_err(|e| Error::output(shown(path), e))?;
    publish(path, &png.into_inner())
}

/// What is in a folder; nothing where it cannot be read.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|e| Some(e.ok()?.path())).collect()
}

/// Writes `bytes` to `path` so that a crash leaves the old file or the new one, never half a file.
///
/// # Errors
/// [`Error::Output`]; the old file is as it was.
pub fn publish(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let write = || {
        let mut file = File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    write().map_err(|e| {
        // Half a file is of no use to anybody.
        let _ = fs::remove_file(&part);
        Error::output(shown(path), io_sentence(&e))
    })
}

#[cfg(test)]
mod tests;
