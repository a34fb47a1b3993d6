//! What a person sees: messages and progress on standard error, answers on standard output.

use std::{
    io::{IsTerminal, Write},
    sync::Mutex,
    time::{Duration, Instant, SystemTime},
};

use clap::ValueEnum;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::error::{Error, Result, io_sentence};

/// Where there is no terminal, progress is one line this often.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// And on a terminal, where it is a line of figures, that often.
const DRAWN_EVERY: Duration = Duration::from_millis(250);

/// How what is said is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Log {
    /// For people.
    #[default]
    Text,
    /// For programs: one object a line, with time (seconds since 1970), level and message.
    Json,
}

/// How much to say, and how.
#[derive(Clone, Copy)]
pub struct Ui {
    verbose: bool,
    quiet: bool,
    terminal: bool,
    log: Log,
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
    pub fn new(verbose: bool, quiet: bool, log: Log) -> Self {
        Self {
            verbose,
            quiet,
            // Bars are nothing for programs.
            terminal: log == Log::Text && std::io::stderr().is_terminal(),
            log,
        }
    }

    /// Whether progress is drawn: on a terminal, unless the user wants quiet.
    pub fn draws(&self) -> bool {
        self.terminal && !self.quiet
    }

    /// Something that went wrong and may not be missed.
    pub fn error(&self, message: impl std::fmt::Display) {
        self.speak("error", "autochrome: ", &message, None);
    }

    /// Something the user should know although the work goes on.
    pub fn warn(&self, message: impl std::fmt::Display) {
        if !self.quiet {
            self.speak("warning", "autochrome: warning: ", &message, None);
        }
    }

    /// What is being done.
    pub fn say(&self, message: impl std::fmt::Display) {
        if !self.quiet {
            self.speak("info", "", &message, None);
        }
    }

    /// Details for `--verbose`.
    pub fn detail(&self, message: impl std::fmt::Display) {
        if self.verbose {
            self.speak("debug", "", &message, None);
        }
    }

    fn speak(
        &self,
        level: &str,
        start: &str,
        message: &dyn std::fmt::Display,
        figures: Option<Value>,
    ) {
        match self.log {
            Log::Text => eprintln!("{start}{message}"),
            Log::Json => {
                let passed = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
                let mut line = json!({
                    "time": passed.as_millis() as f64 / 1e3,
                    "level": level,
                    "message": message.to_string(),
                });
                if let Some(figures) = figures {
                    line["figures"] = figures;
                }
                eprintln!("{line}");
            }
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
        self.bar(name, total, || bar(name, total))
    }

    /// The figures of `name`, which runs without an end.
    pub fn figures(&self, name: &str) -> Bar {
        self.bar(name, None, || {
            let style = ProgressStyle::with_template("{prefix} {spinner} {msg}  {elapsed_precise}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
            let bar = ProgressBar::new_spinner().with_style(style);
            bar.with_prefix(name.to_owned())
        })
    }

    fn bar(&self, name: &str, total: Option<u64>, drawn: impl FnOnce() -> ProgressBar) -> Bar {
        let kind = match (self.quiet, self.terminal) {
            (true, _) => Kind::Silent,
            (false, true) => Kind::Drawn(drawn()),
            (false, false) => Kind::Lines(name.to_string()),
        };
        Bar {
            ui: *self,
            kind,
            total,
            since: Instant::now(),
            last: Mutex::new(Instant::now()),
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
    ui: Ui,
    kind: Kind,
    total: Option<u64>,
    since: Instant,
    /// When something was last said of it.
    last: Mutex<Instant>,
}

enum Kind {
    Silent,
    Drawn(ProgressBar),
    Lines(String),
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
            Kind::Lines(name) => {
                if self.is_due(LINE_EVERY) {
                    let line = format!("{name}: {}", self.line(frames, seconds, fps));
                    let figures = json!({ "frames": frames, "seconds": seconds, "fps": fps });
                    self.ui.speak("progress", "", &line, Some(figures));
                }
            }
        }
    }

    /// What runs without an end: a line of its figures, and they themselves for programs.
    pub fn figures(&self, figures: impl FnOnce() -> (String, Value)) {
        match &self.kind {
            Kind::Silent => {}
            Kind::Drawn(bar) => {
                if self.is_due(DRAWN_EVERY) {
                    bar.set_message(figures().0);
                }
            }
            Kind::Lines(name) => {
                if self.is_due(LINE_EVERY) {
                    let (line, figures) = figures();
                    self.ui
                        .speak("progress", "", &format!("{name}: {line}"), Some(figures));
                }
            }
        }
    }

    fn is_due(&self, every: Duration) -> bool {
        let Ok(mut last) = self.last.lock() else {
            return false;
        };
        let due = last.elapsed() >= every;
        if due {
            *last = Instant::now();
        }
        due
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

    /// Does what writes lines beside the bar.
    pub fn aside(&self, speak: impl FnOnce()) {
        match &self.kind {
            Kind::Drawn(bar) => bar.suspend(speak),
            _ => speak(),
        }
    }

    /// Removes the bar.
    pub fn done(&self) {
        if let Kind::Drawn(bar) = &self.kind {
            bar.finish_and_clear();
        }
    }
}
