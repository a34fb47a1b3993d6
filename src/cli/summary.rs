//! What a run did: as a few lines for people, or as one JSON object.

use indicatif::HumanBytes;

use crate::{
    colorize::{Options, Report},
    net::Colorizer,
};

/// One film's summary; serialised as it stands for `--json`.
#[derive(serde::Serialize)]
pub struct Summary {
    /// The input as the user wrote it.
    pub input: String,
    /// The model, as it describes itself.
    pub model: String,
    /// Where it ran.
    pub device: String,
    /// Frames that went through the network together.
    pub batch: usize,
    /// Frames encoded a second of wall time.
    pub fps: f64,
    /// Slowest stage's busy time over wall time: 1 means that nothing but it could make the run faster.
    pub overlap: f64,
    /// What was noticed on the way.
    pub warnings: Vec<String>,
    /// Everything that was counted.
    #[serde(flatten)]
    pub report: Report,
}

impl Summary {
    /// Derives the rates from a report.
    pub fn new(
        input: String,
        colorizer: &dyn Colorizer,
        options: &Options,
        warnings: Vec<String>,
        report: Report,
    ) -> Self {
        let frames = report.written.first().map_or(0, |w| w.frames) as f64;
        let slowest = report.stages.iter().map(|m| m.busy).fold(0.0, f64::max);
        let seconds = report.seconds.max(1e-9);
        Self {
            input,
            model: colorizer.describe(),
            device: colorizer.device().into(),
            batch: options.batch,
            fps: frames / seconds,
            overlap: slowest / seconds,
            warnings,
            report,
        }
    }

    /// The summary for people.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        for written in &self.report.written {
            let size = written
                .bytes
                .map_or(String::new(), |b| format!(", {}", HumanBytes(b)));
            lines.push(format!(
                "{}: {} frames in, {} out, {:.1} fps, {:.1} s{size}",
                written.name,
                self.report.source.frames,
                written.frames,
                self.fps,
                self.report.seconds
            ));
            lines.extend(written.notes.iter().map(|s| format!("  note: {s}")));
            lines.extend(written.streams.iter().map(|s| format!("  {s}")));
        }
        if self.report.kept > 0 {
            let frames = match self.report.kept {
                1 => "1 frame was".into(),
                kept => format!("{kept} frames were"),
            };
            lines.push(format!(
                "  {frames} in colour and kept it: --keep-color never colours everything anew"
            ));
        }
        lines.push("  stage      busy   starved   blocked (seconds)".into());
        for m in &self.report.stages {
            lines.push(format!(
                "  {:<7} {:>7.2} {:>9.2} {:>9.2}",
                m.stage, m.busy, m.starved, m.blocked
            ));
        }
        lines.join("\n")
    }
}
