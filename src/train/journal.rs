//! What a run tells about itself: a progress line, a log file, sheets of pictures.

use std::{
    fs::{self, File, OpenOptions},
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use image::{Rgb, RgbImage};
use indicatif::{ProgressBar, ProgressStyle};

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
    bar: Option<ProgressBar>,
    started: Instant,
    first: u64,
    steps: u64,
    spoken: Instant,
    smooth: Losses,
}

impl Journal {
    const EVERY: Duration = Duration::from_secs(10);

    /// Opens the journal of a run of `steps` steps that begins (or goes on) at `first`. An old log is continued.
    ///
    /// # Errors
    /// [`Error::Output`] where the folder cannot be written.
    pub fn open(folder: &Path, first: u64, steps: u64) -> Result<Self> {
        let path = folder.join("log.csv");
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let mut log = log.map_err(|e| Error::output(shown(&path), io_sentence(&path, &e)))?;
        if first == 0 {
            let _ = writeln!(log, "step,seconds,name,value");
        }
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {eta} {msg}");
            let bar = ProgressBar::new(steps).with_position(first);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        let now = Instant::now();
        Ok(Self {
            folder: folder.to_owned(),
            log,
            bar,
            started: now,
            first,
            steps,
            spoken: now,
            smooth: Vec::new(),
        })
    }

    /// Notes the losses of a finished step; `step` counts from 1.
    pub fn step(&mut self, step: u64, losses: &Losses) {
        if self.smooth.len() != losses.len() {
            self.smooth.clone_from(losses);
        }
        for (smooth, (_, loss)) in self.smooth.iter_mut().zip(losses) {
            smooth.1 += 0.02 * (loss - smooth.1);
        }
        let last = step == self.steps;
        if self.spoken.elapsed() < Self::EVERY && !last && self.bar.is_none() {
            return;
        }
        let shown: Vec<_> = self
            .smooth
            .iter()
            .map(|(name, v)| format!("{name} {v:.4}"))
            .collect();
        let shown = shown.join(" ");
        if let Some(bar) = &self.bar {
            bar.set_position(step);
            bar.set_message(shown);
        } else {
            let done = (step - self.first) as f64;
            let seconds = self.started.elapsed().as_secs_f64();
            let left = seconds / done * (self.steps - step) as f64;
            eprintln!(
                "step {step}/{} {shown}, {:.0} ms a step, {:.0} min left",
                self.steps,
                1e3 * seconds / done,
                left / 60.
            );
        }
        if self.spoken.elapsed() >= Self::EVERY || last {
            self.spoken = Instant::now();
            for (name, value) in self.smooth.clone() {
                self.record(step, name, f64::from(value));
            }
        }
    }

    /// Notes figures on the validation photographs.
    pub fn figures(&mut self, step: u64, figures: &Figures) {
        self.say(&format!(
            "step {step}: validation CIEDE2000 {:.3}, PSNR_ab {:.3} dB, chroma {:.3} of the truth's, colourfulness {:.1} of {:.1}",
            figures.ciede2000, figures.psnr_ab, figures.chroma_ratio, figures.colourfulness, figures.true_colourfulness
        ));
        self.record(step, "ciede2000", figures.ciede2000);
        self.record(step, "psnr_ab", figures.psnr_ab);
        self.record(step, "chroma_ratio", figures.chroma_ratio);
    }

    /// A line for people, beside the bar.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
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
    write().map_err(|e| Error::output(shown(path), io_sentence(path, &e)))
}
