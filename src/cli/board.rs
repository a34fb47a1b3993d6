//! Board: what a person sees of a batch: the whole archive with the time that is left, and a line a job.

use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanDuration, MultiProgress, ProgressBar, ProgressStyle};

use super::Ui;
use crate::archive::{
    record::Outcome,
    worker::{Event, Tally},
};

/// Where there is no terminal, the whole is told this often.
const EVERY: Duration = Duration::from_secs(30);

/// Draws on a terminal; elsewhere writes lines.
pub struct Board {
    ui: Ui,
    drawn: Option<Drawn>,
    since: Instant,
    /// When the whole was last told.
    told: Instant,
    /// What each job does, when it began, and how far it is.
    jobs: Vec<Option<(String, Instant, u64, u64)>>,
}

struct Drawn {
    all: MultiProgress,
    whole: ProgressBar,
    jobs: Vec<ProgressBar>,
}

impl Board {
    /// For so many jobs.
    pub fn new(ui: Ui, jobs: usize) -> Self {
        Self {
            ui,
            drawn: ui.draws().then(|| Drawn::new(jobs)),
            since: Instant::now(),
            told: Instant::now(),
            jobs: vec![None; jobs],
        }
    }

    /// Shows what has happened.
    pub fn show(&mut self, event: Event) {
        match event {
            Event::Ready(model, "") => self.say(&format!("model {model}")),
            Event::Ready(model, device) => self.say(&format!("model {model} on {device}")),
            Event::Begins(job, name) => {
                self.jobs[job] = Some((name.to_owned(), Instant::now(), 0, 0));
                self.draw(job);
            }
            Event::At(job, done, of) => {
                if let Some(work) = &mut self.jobs[job] {
                    (work.2, work.3) = (done, of);
                }
                self.draw(job);
            }
            Event::Ends(job) => {
                self.jobs[job] = None;
                self.draw(job);
            }
            Event::Over(name, outcome) => self.over(name, outcome),
            Event::Said(words) => self.warn(words),
            Event::Tick(tally) => self.tick(&tally),
        }
    }

    fn over(&self, name: &str, outcome: &Outcome) {
        match outcome {
            Outcome::Done(done) => {
                let fps = done.frames as f64 / done.worked.max(1e-3);
                let parts = match done.segments {
                    1 => String::new(),
                    n => format!(" in {n} segments"),
                };
                self.say(&format!(
                    "{name}: {} frames{parts}, {fps:.1} fps, {} -> {}",
                    done.frames,
                    HumanBytes(done.bytes),
                    done.output
                ));
                done.warnings
                    .iter()
                    .for_each(|w| self.warn(&format!("{name}: {w}")));
            }
            Outcome::Skipped { why } => self.say(&format!("{name}: left out: {why}")),
            Outcome::Failed { why, .. } => {
                self.clear(|| self.ui.error(format_args!("{name}: {why}")))
            }
            Outcome::Publishing(_) | Outcome::Split => {}
        }
    }

    fn tick(&mut self, tally: &Tally) {
        let line = self.line(tally);
        match &self.drawn {
            Some(drawn) => {
                drawn.whole.set_length(tally.bytes);
                drawn.whole.set_position(tally.bytes_done);
                drawn.whole.set_message(line);
            }
            None if self.told.elapsed() >= EVERY => {
                self.told = Instant::now();
                self.ui.say(line);
            }
            None => {}
        }
    }

    /// "3 of 20 films, 1 skipped, about 2 hours left".
    fn line(&self, tally: &Tally) -> String {
        let over = tally.done + tally.before + tally.skipped + tally.failed;
        let mut line = format!("{over} of {} films", tally.items);
        for (count, what) in [
            (tally.skipped, "left out"),
            (tally.failed, "failed"),
            (tally.others, "with others"),
        ] {
            if count > 0 {
                line += &format!(", {count} {what}");
            }
        }
        let done = tally.bytes_done.saturating_sub(tally.bytes_before) as f64;
        let left = tally.bytes.saturating_sub(tally.bytes_done) as f64;
        if done > 0. {
            let seconds = self.since.elapsed().as_secs_f64() * left / done;
            line += &format!(
                ", about {} left",
                HumanDuration(Duration::from_secs_f64(seconds.min(1e9)))
            );
        }
        line
    }

    fn draw(&self, job: usize) {
        let Some(drawn) = &self.drawn else {
            return;
        };
        let bar = &drawn.jobs[job];
        match &self.jobs[job] {
            None => {
                bar.set_position(0);
                bar.set_message("waits");
            }
            Some((name, since, done, of)) => {
                let fps = *done as f64 / since.elapsed().as_secs_f64().max(1e-3);
                bar.set_length(*of);
                bar.set_position(*done);
                bar.set_message(format!("{fps:>5.1} fps  {name}"));
            }
        }
    }

    fn say(&self, words: &str) {
        self.clear(|| self.ui.say(words));
    }

    fn warn(&self, words: &str) {
        self.clear(|| self.ui.warn(words));
    }

    /// Says something above the bars.
    fn clear(&self, say: impl FnOnce()) {
        match &self.drawn {
            Some(drawn) => drawn.all.suspend(say),
            None => say(),
        }
    }

    /// Removes the bars. What is said after this stays, in a log file too.
    pub fn done(self) {
        if let Some(drawn) = self.drawn {
            let _ = drawn.all.clear();
        }
    }
}

impl Drawn {
    fn new(jobs: usize) -> Self {
        let all = MultiProgress::new();
        // A wrong template is seen by the first person who runs the program; the default bar is no reason to fail.
        let style = |template: &str| {
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
        };
        let job = style("  {wide_bar} {percent:>3} %  {msg:<50}");
        let jobs = (0..jobs).map(|_| {
            all.add(
                ProgressBar::new(0)
                    .with_style(job.clone())
                    .with_message("waits"),
            )
        });
        let jobs = jobs.collect();
        let whole = style("{wide_bar} {percent:>3} %  {msg}  {elapsed_precise}");
        let whole = all.add(ProgressBar::new(0).with_style(whole));
        Self { all, whole, jobs }
    }
}
