//! `autochrome verify`: whether an archive is what its records claim.

use std::{path::PathBuf, sync::Arc};

use clap::{Args, ValueHint};
use serde_json::json;

use super::{Ui, ui::answer};
use crate::{
    archive::{
        record::{self, Outcome, Record},
        verify::{self, State, Summary, Verdict},
    },
    controls::Controls,
    error::{Error, Result, shown},
};

const EXAMPLES: &str = "\
Every result is hashed and decoded to its end, beside its source where that is as it was:
frames, times, luma (exact after a lossless encoder, else of a least PSNR), other streams.
Nothing is written.

Examples:
  autochrome verify colored/
  autochrome verify colored/ --json > verdicts.jsonl
  autochrome -q verify colored/                   says only what is wrong

Exit codes:
  0 all results are what their records claim (a source that has changed is only told);
  4 a result is missing or is not what its record claims;
  3 all are, but some sources could not be coloured; or there is no archive, or a record
    is damaged; 130 stopped (Ctrl-C).";

/// Flags of `verify`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct VerifyArgs {
    /// Output folder of `autochrome batch`
    #[arg(value_name = "OUT", value_hint = ValueHint::DirPath)]
    output: PathBuf,
    /// Print one JSON object an item on standard output, and one with the sums
    #[arg(long)]
    json: bool,
    /// Least PSNR of a film's luma after an encoder with losses; a frame may be 8 dB worse. Strong grain at a low quality
    /// (crf 28 and more) comes to 25
    #[arg(long, value_name = "DB", default_value_t = verify::LEAST_PSNR, value_parser = decibels)]
    min_psnr: f64,
}

impl VerifyArgs {
    /// Looks at every item.
    ///
    /// # Errors
    /// [`Error::Output`] where a result is wrong, [`Error::Input`] where a source could not be coloured; else as
    /// [`record::records`] and [`verify::verify`].
    pub fn run(self, ui: &Ui) -> Result<()> {
        let records = record::records(&self.output)?;
        let bar = Arc::new(ui.progress("verify", Some(frames(&records))));
        let drawn = bar.clone();
        let controls = on_signal()?.with_progress(move |p| drawn.at(p.frames, p.seconds));
        let mut hear = |verdict: &Verdict| {
            bar.aside(|| tell(verdict, ui));
            match self.json {
                true => self.print(verdict),
                false => Ok(()),
            }
        };
        let found = verify::verify(&self.output, &records, self.min_psnr, &controls, &mut hear);
        bar.done();
        let summary = found?;
        for stray in &summary.strays {
            ui.say(format_args!("note: {stray}: no record claims this file"));
        }
        match self.json {
            true => self.print(&json!({ "summary": summary }))?,
            false => ui.say(words(&summary)),
        }
        self.result(&summary)
    }

    fn print(&self, object: &impl serde::Serialize) -> Result<()> {
        answer(serde_json::to_string(object).map_err(|e| Error::internal("verify", e))?)
    }

    fn result(&self, summary: &Summary) -> Result<()> {
        let Summary { wrong, failed, .. } = summary;
        if *wrong > 0 {
            let why = format!(
                "not every result is what its record claims ({wrong} are not); remove those, then `batch` does their films anew"
            );
            return Err(Error::output(shown(&self.output), why));
        }
        if *failed > 0 {
            let why =
                format!("not every source could be coloured ({failed} could not); see above why");
            return Err(Error::input(shown(&self.output), why));
        }
        Ok(())
    }
}

fn decibels(text: &str) -> std::result::Result<f64, String> {
    let number = text.parse().ok();
    number
        .filter(|v| (8. ..=99.).contains(v))
        .ok_or_else(|| format!("'{text}' is not a number from 8 to 99"))
}

/// Ctrl-C or SIGTERM: stop at once. There is nothing to finish.
fn on_signal() -> Result<Controls> {
    let controls = Controls::default();
    let hand = controls.clone();
    ctrlc::set_handler(move || hand.abort()).map_err(|e| Error::internal("signals", e))?;
    Ok(controls)
}

/// Frames of all results.
fn frames(records: &[Record]) -> u64 {
    let frames = records.iter().map(|record| match &record.outcome {
        Outcome::Done(done) => done.frames,
        _ => 0,
    });
    frames.sum()
}

fn tell(verdict: &Verdict, ui: &Ui) {
    let name = verdict.output.as_ref().unwrap_or(&verdict.source);
    for problem in &verdict.problems {
        ui.error(format_args!("{name}: {problem}"));
    }
    for note in &verdict.notes {
        match verdict.state {
            State::Skipped => ui.detail(format_args!("{name}: skipped: {note}")),
            _ => ui.warn(format_args!("{name}: {note}")),
        }
    }
    if verdict.state == State::Good {
        ui.detail(format_args!("{name}: good"));
    }
}

fn words(summary: &Summary) -> String {
    let Summary {
        good,
        wrong,
        changed,
        skipped,
        failed,
        strays,
    } = summary;
    format!(
        "{good} good, {wrong} wrong, {changed} with a source that has changed, {skipped} skipped, {failed} failed, {} \
         files that no record claims",
        strays.len()
    )
}
