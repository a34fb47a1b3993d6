//! What a person sees: messages and progress on standard error, answers on standard output.

use std::{
    io::{IsTerminal, Write},
    sync::Mutex,
    time::{Duration, Instant},
};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use crate::error::{Error, Result, io_sentence};

/// Where there is no terminal, progress is one line this often.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How much to say, and how.
#[derive(Clone, Copy)]
pub struct Ui {
    verbose: bool,
    quiet: bool,
    terminal: bool,
}

/// A line on standard output, which is for results. A reader that has gone, as `head` goes, has what it wanted.
///
/// # Errors
/// [`Error::Output`] where it cannot be written.
pub fn answer(text: impl std::fmt::Display) -> Result<()> {
    let text = text.to_string();
    match writeln!(std::io::stdout().lock(), "{}", text.trim_end_matches('\n')) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::output("standard output", io_sentence(&e)))
        }
        _ => Ok(()),
    }
}

impl Ui {
    /// A voice for this process's standard error.
    pub fn new(verbose: bool, quiet: bool) -> Self {
        Self {
            verbose,
            quiet,
            terminal: std::io::stderr().is_terminal(),
        }
    }

    /// Whether progress is drawn: on a terminal, unless the user wants quiet.
    pub fn draws(&self) -> bool {
        self.terminal && !self.quiet
    }

    /// Something that went wrong and may not be missed.
    pub fn error(&self, message: impl std::fmt::Display) {
        eprintln!("autochrome: {message}");
    }

    /// Something the user should know although the work goes on.
    pub fn warn(&self, message: impl std::fmt::Display) {
        if !self.quiet {
            eprintln!("autochrome: warning: {message}");
        }
    }

    /// What is being done.
    pub fn say(&self, message: impl std::fmt::Display) {
        if !self.quiet {
            eprintln!("{message}");
        }
    }

    /// Details for `--verbose`.
    pub fn detail(&self, message: impl std::fmt::Display) {
        if self.verbose {
            eprintln!("{message}");
        }
    }

    /// Progress through things of several kinds.
    pub fn counter(&self) -> Counter {
        Counter {
            drawn: self.terminal && !self.quiet,
            now: None,
        }
    }

    /// Progress over `total` frames of `name`, if known.
    pub fn progress(&self, name: &str, total: Option<u64>) -> Bar {
        let kind = match (self.quiet, self.terminal) {
            (true, _) => Kind::Silent,
            (false, true) => Kind::Drawn(bar(name, total)),
            (false, false) => Kind::Lines {
                name: name.to_string(),
                last: Mutex::new(Instant::now()),
            },
        };
        Bar {
            kind,
            total,
            since: Instant::now(),
        }
    }
}

/// Progress through one kind of thing after another, with the time that is left; only on a terminal.
pub struct Counter {
    drawn: bool,
    /// What is counted now, and its bar.
    now: Option<(String, ProgressBar)>,
}

impl Counter {
    /// `done` of `of` things called `what`; `of` is 0 where that is not known.
    pub fn at(&mut self, what: &str, done: usize, of: usize) {
        if !self.drawn {
            return;
        }
        if self.now.as_ref().is_none_or(|(now, _)| now != what) {
            self.done();
            let template = match of {
                0 => "{msg} {spinner} {pos}  {elapsed_precise}",
                _ => "{msg} {wide_bar} {pos}/{len}  {elapsed_precise}  ETA {eta_precise}",
            };
            let style = ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::new(of as u64).with_style(style);
            self.now = Some((what.to_owned(), bar.with_message(what.to_owned())));
        }
        if let Some((_, bar)) = &self.now {
            bar.set_position(done as u64);
        }
    }

    /// Removes the bar.
    pub fn done(&mut self) {
        if let Some((_, bar)) = self.now.take() {
            bar.finish_and_clear();
        }
    }
}

fn bar(name: &str, total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::new(total),
            "{prefix} {wide_bar} {pos}/{len} frames  {msg}  {elapsed_precise}  ETA {eta_precise}",
        ),
        None => (
            ProgressBar::new_spinner(),
            "{prefix} {spinner} {pos} frames  {msg}  {elapsed_precise}",
        ),
    };
    // A wrong template is seen by the first person who runs the program; the default bar is no reason to fail.
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style).with_prefix(name.to_string())
}

/// Progress of one film.
pub struct Bar {
    kind: Kind,
    total: Option<u64>,
    since: Instant,
}

enum Kind {
    Silent,
    Drawn(ProgressBar),
    Lines { name: String, last: Mutex<Instant> },
}

impl Bar {
    /// `frames` are done, up to `seconds` of film.
    pub fn at(&self, frames: u64, seconds: f64) {
        let fps = frames as f64 / self.since.elapsed().as_secs_f64().max(1e-6);
        match &self.kind {
            Kind::Silent => {}
            Kind::Drawn(bar) => {
                bar.set_position(frames);
                bar.set_message(format!("{fps:.1} fps"));
            }
            Kind::Lines { name, last } => {
                let Ok(mut last) = last.lock() else { return };
                if last.elapsed() >= LINE_EVERY {
                    *last = Instant::now();
                    eprintln!("{name}: {}", self.line(frames, seconds, fps));
                }
            }
        }
    }

    fn line(&self, frames: u64, seconds: f64, fps: f64) -> String {
        match self.total {
            Some(total) if total >= frames => {
                let left = Duration::from_secs_f64((total - frames) as f64 / fps.max(1e-3));
                format!(
                    "{frames}/{total} frames, {fps:.1} fps, {} left",
                    HumanDuration(left)
                )
            }
            _ => format!("{frames} frames ({seconds:.1} s of film), {fps:.1} fps"),
        }
    }

    /// Removes the bar.
    pub fn done(&self) {
        if let Kind::Drawn(bar) = &self.kind {
            bar.finish_and_clear();
        }
    }
}
