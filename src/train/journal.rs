//! What a run leaves in its folder beside its state: a log and sheets of pictures.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    time::Instant,
};

use image::{Rgb, RgbImage};

use crate::{
    error::{Error, Result, io_sentence, shown},
    eval::{self, Exam, Figures},
    frame::AbMap,
};

/// Losses of one step by name.
pub type Losses = Vec<(&'static str, f32)>;

/// The journal of one run, in its folder.
pub struct Journal {
    folder: PathBuf,
    log: File,
    started: Instant,
    smooth: Losses,
}

impl Journal {
    /// Steps between two lines of losses in the log.
    const LOG_EVERY: u64 = 20;
    /// Weight of a step in the running mean of the losses.
    const NEWEST: f32 = 0.02;

    /// Opens the journal of a run. The log of an earlier part of it is continued.
    ///
    /// # Errors
    /// [`Error::Output`] where the folder cannot be written.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("log.csv");
        let fresh = !path.exists();
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let mut log = log.map_err(|e| Error::output(shown(&path), io_sentence(&e)))?;
        if fresh {
            let head = writeln!(log, "step,seconds,name,value");
            head.map_err(|e| Error::output(shown(&path), io_sentence(&e)))?;
        }
        Ok(Self {
            folder: folder.to_owned(),
            log,
            started: Instant::now(),
            smooth: Vec::new(),
        })
    }

    /// Notes the losses of a finished step, counted from 1; gives their running mean.
    pub fn step(&mut self, step: u64, losses: &Losses) -> Losses {
        if self.smooth.len() != losses.len() {
            self.smooth.clone_from(losses);
        }
        for (smooth, (_, loss)) in self.smooth.iter_mut().zip(losses) {
            smooth.1 += Self::NEWEST * (loss - smooth.1);
        }
        if step.is_multiple_of(Self::LOG_EVERY) {
            for (name, value) in self.smooth.clone() {
                self.record(step, name, f64::from(value));
            }
        }
        self.smooth.clone()
    }

    /// Notes figures on the validation photographs.
    pub fn figures(&mut self, step: u64, figures: &Figures) {
        self.record(step, "ciede2000", figures.ciede2000);
        self.record(step, "psnr_ab", figures.psnr_ab);
        self.record(step, "chroma_ratio", figures.chroma_ratio);
    }

    // A log line that cannot be written must not end a run of hours.
    fn record(&mut self, step: u64, name: &str, value: f64) {
        let seconds = self.started.elapsed().as_secs();
        let _ = writeln!(self.log, "{step},{seconds},{name},{value}");
    }

    /// Draws grey, result and truth of each exam side by side into `sheet-STEP.png`.
    ///
    /// # Errors
    /// [`Error::Output`] where the file cannot be written.
    pub fn sheet(&self, step: u64, exams: &[Exam], maps: &[AbMap]) -> Result<()> {
        let path = self.folder.join(format!("sheet-{step:06}.png"));
        sheet(exams, maps)
            .save(&path)
            .map_err(|e| Error::output(shown(&path), e))
    }
}

/// Grey, result and truth of each exam, three exams a row.
pub fn sheet(exams: &[Exam], maps: &[AbMap]) -> RgbImage {
    const ACROSS: usize = 3;
    let side = |f: fn(&Exam) -> usize| exams.iter().map(f).max().unwrap_or(1);
    let (w, h) = (side(|e| e.thumb.width), side(|e| e.thumb.height));
    let rows = exams.len().div_ceil(ACROSS);
    let mut sheet = RgbImage::new((ACROSS * 3 * w) as u32, (rows * h) as u32);
    for (i, (exam, map)) in exams.iter().zip(maps).enumerate() {
        let (width, height) = (exam.thumb.width, exam.thumb.height);
        let columns = [&AbMap::constant(0., 0.), map, &exam.truth];
        for (j, map) in columns.into_iter().enumerate() {
            let (left, top) = ((i % ACROSS * 3 + j) * w, i / ACROSS * h);
            for (p, rgb) in eval::srgb(&exam.thumb, &eval::enlarged(map, width, height)).enumerate()
            {
                let (x, y) = (left + p % width, top + p / width);
                sheet.put_pixel(x as u32, y as u32, Rgb(rgb.map(|v| v as u8)));
            }
        }
    }
    sheet
}

/// Writes `bytes` to `path` so that a crash leaves the old file or the new one, never half a file.
///
/// # Errors
/// [`Error::Output`].
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
    write().map_err(|e| Error::output(shown(path), io_sentence(&e)))
}
