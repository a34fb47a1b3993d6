//! What a person sees of a training: a live view on a terminal, else a line every ten seconds.

use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use super::Ui;
use crate::train::{Event, Step};

/// The view of one run.
pub struct Watch {
    ui: Ui,
    bar: Option<ProgressBar>,
    /// The step that was done first here, and when.
    first: Option<(u64, Instant)>,
    /// When a line was last written.
    spoken: Instant,
    /// Running mean of the pictures per second.
    pace: Option<f64>,
    /// The smallest CIEDE2000 so far, and at which step.
    best: Option<(f64, u64)>,
}

impl Watch {
    const LINE_EVERY: Duration = Duration::from_secs(10);

    /// A view of a run that has not begun yet.
    pub fn new(ui: Ui) -> Self {
        let bar = ui.draws().then(|| {
            let template =
                "{prefix} {wide_bar} {pos}/{len}  {elapsed_precise}  ETA {eta_precise}\n{msg}";
            // A wrong template is seen by the first person who trains; the default bar is no reason to fail.
            let style = ProgressStyle::with_template(template);
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(0).with_style(style)
        });
        Self {
            ui,
            bar,
            first: None,
            spoken: Instant::now(),
            pace: None,
            best: None,
        }
    }

    /// Shows what the run reports.
    pub fn hear(&mut self, event: Event) {
        match event {
            Event::Note(line) => self.print(|ui| ui.say(&line)),
            Event::Warning(line) => self.print(|ui| ui.warn(&line)),
            Event::Scanned { done, of } => self.scanned(done, of),
            Event::Step(step) => self.step(&step),
            Event::Checked { step, figures: f } => {
                if self.best.is_none_or(|(best, _)| f.ciede2000 < best) {
                    self.best = Some((f.ciede2000, step));
                }
                self.print(|ui| {
                    ui.say(format_args!(
                        "step {step}: on validation photographs CIEDE2000 {:.3}, PSNR_ab {:.3} dB, chroma {:.3} of the truth's",
                        f.ciede2000, f.psnr_ab, f.chroma_ratio
                    ));
                });
            }
        }
    }

    /// The photographs are being looked at.
    fn scanned(&mut self, done: usize, of: usize) {
        if let Some(bar) = &self.bar {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
            bar.set_prefix("photographs");
            if done >= of {
                bar.reset();
            }
        } else if self.spoken.elapsed() >= Self::LINE_EVERY {
            self.spoken = Instant::now();
            self.ui
                .say(format_args!("{done} of {of} photographs looked at"));
        }
    }

    fn step(&mut self, s: &Step) {
        const NEWEST: f64 = 0.05;
        let pace = self.pace.get_or_insert(s.pictures_per_second);
        *pace += NEWEST * (s.pictures_per_second - *pace);
        let details = Details {
            step: s,
            pace: *pace,
            best: self.best,
        };
        let begins = self.first.is_none();
        let (first, since) = *self.first.get_or_insert_with(|| (s.step, Instant::now()));
        if let Some(bar) = &self.bar {
            bar.set_length(s.of);
            bar.set_position(s.step);
            bar.set_prefix(s.phase.clone());
            bar.set_message(format!("{}\n{}", details.losses(), details.figures()));
            if begins {
                // The steps of an earlier part took no time here.
                bar.reset_eta();
            }
        } else if self.spoken.elapsed() >= Self::LINE_EVERY || s.step == s.of {
            self.spoken = Instant::now();
            let a_step = since.elapsed().as_secs_f64() / (s.step - first).max(1) as f64;
            self.ui.say(details.line(a_step));
        }
    }

    fn print(&self, say: impl FnOnce(&Ui)) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(&self.ui)),
            None => say(&self.ui),
        }
    }

    /// Removes the view.
    pub fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The words about a step.
struct Details<'a> {
    step: &'a Step,
    pace: f64,
    best: Option<(f64, u64)>,
}

impl Details<'_> {
    fn losses(&self) -> String {
        let losses = self.step.losses.iter();
        let losses: Vec<_> = losses
            .map(|(name, loss)| format!("{name} {loss:.4}"))
            .collect();
        losses.join(" ")
    }

    fn figures(&self) -> String {
        let best = match self.best {
            Some((figure, step)) => format!(", best CIEDE2000 {figure:.3} at step {step}"),
            None => String::new(),
        };
        let (rate, pace) = (self.step.rate, self.pace);
        format!("rate {rate:.2e}, {pace:.1} pictures/s{best}")
    }

    /// All of it on one line; a step takes so many seconds.
    fn line(&self, a_step: f64) -> String {
        let Step {
            step, of, phase, ..
        } = self.step;
        let left = Duration::from_secs_f64(a_step * of.saturating_sub(*step) as f64);
        format!(
            "{phase}, step {step}/{of}: {}, {}, {:.0} ms a step, {} left",
            self.losses(),
            self.figures(),
            a_step * 1e3,
            HumanDuration(left)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Log;
    use crate::eval::Figures;

    fn a_step(step: u64) -> Step {
        Step {
            step,
            of: 2000,
            losses: vec![("l1", 0.03125), ("gan", 1.5)],
            rate: 2e-4,
            pictures_per_second: 31.25,
            phase: "generator alone".into(),
        }
    }

    #[test]
    fn a_line_says_everything() {
        let step = a_step(500);
        let details = Details {
            step: &step,
            pace: 31.25,
            best: Some((6.5, 400)),
        };
        assert_eq!(
            details.line(0.128),
            "generator alone, step 500/2000: l1 0.0312 gan 1.5000, rate 2.00e-4, 31.2 pictures/s, \
             best CIEDE2000 6.500 at step 400, 128 ms a step, 3 minutes left"
        );
    }

    #[test]
    fn the_best_figure_stays_and_the_pace_is_steadied() {
        let mut watch = Watch::new(Ui::new(false, true, Log::Text));
        for (step, ciede2000) in [(10, 9.), (20, 7.), (30, 8.)] {
            let figures = Figures {
                ciede2000,
                ..Figures::default()
            };
            watch.hear(Event::Checked { step, figures });
        }
        assert_eq!(watch.best, Some((7., 20)));
        for step in 1..=200 {
            let pictures_per_second = if step % 2 == 0 { 20. } else { 40. };
            watch.step(&Step {
                pictures_per_second,
                ..a_step(step)
            });
        }
        assert!(
            watch.pace.is_some_and(|p| (29. ..31.).contains(&p)),
            "{:?}",
            watch.pace
        );
    }

    /// Steps that come faster than a clock tells, steps of an earlier part, and more than were asked for.
    #[test]
    fn odd_steps_do_no_harm() {
        let mut watch = Watch::new(Ui::new(false, true, Log::Text));
        for step in [1990, 2000, 2001, 5] {
            watch.step(&a_step(step));
        }
    }
}
