//! Settings: everything that decides what a film becomes.

use serde::{Deserialize, Serialize};

use crate::{
    colorize,
    error::{Error, Result},
    media::OutputOptions,
    net::{self, checkpoint},
};

/// Everything that decides what a film becomes, and where that is worked out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// Name of a model, or path of its file.
    pub model: String,
    /// How it is used.
    pub network: net::Options,
    /// How films are coloured.
    pub colorize: colorize::Options,
    /// Frames that go through the network together; `None`: as it likes best.
    pub batch: Option<usize>,
    /// Container of every result; `None`: the source's, where it can be kept, else Matroska.
    pub container: Option<String>,
    /// As for [`OutputOptions`].
    pub codec: Option<String>,
    /// Likewise.
    pub crf: Option<f64>,
    /// Likewise.
    pub preset: Option<String>,
    /// Likewise.
    pub encoder_options: Vec<(String, String)>,
    /// Likewise.
    pub pixel_format: Option<String>,
    /// Likewise.
    pub drop_unsupported: bool,
    /// Length of a segment in seconds.
    pub segment: f64,
    /// Threads of a job.
    pub threads: usize,
}

impl Settings {
    /// SHA-256 of what decides how a film looks, with a model that describes itself so. Where it is worked out, in which
    /// numbers and in which pieces does not count: a GPU may go on where a CPU has begun.
    pub fn digest(&self, model: &str) -> Result<String> {
        let decides = (
            (model, self.network.look, self.network.quality),
            (&self.colorize.temporal, self.colorize.key_interval),
            (self.colorize.grade, self.colorize.keep_color),
            (&self.container, &self.codec, self.crf, &self.preset),
            (
                &self.encoder_options,
                &self.pixel_format,
                self.drop_unsupported,
            ),
        );
        let words = serde_json::to_vec(&decides).map_err(|e| Error::internal("archive", e))?;
        Ok(checkpoint::digest(&words))
    }

    /// Threads of the encoder, of which some always wait: as many as x264 takes by itself. A job of one thread has one here
    /// too: then x264 makes the same of the same pictures, always.
    pub fn encoder_threads(&self) -> usize {
        match self.threads {
            1 => 1,
            threads => (3 * threads).div_ceil(2),
        }
    }

    /// How a result is written, by an encoder of so many threads.
    pub fn output(&self, model: &str, threads: usize) -> OutputOptions {
        OutputOptions {
            format: self.container.clone(),
            codec: self.codec.clone(),
            crf: self.crf,
            preset: self.preset.clone(),
            encoder_options: self.encoder_options.clone(),
            pixel_format: self.pixel_format.clone(),
            drop_unsupported: self.drop_unsupported,
            threads,
            provenance: self.colorize.provenance(model),
            // What stands there under a name of this worker's own is its own.
            force: true,
            ..OutputOptions::default()
        }
    }

    /// The settings for people: names and values.
    pub fn lines(&self) -> Vec<(String, String)> {
        let colorize = &self.colorize;
        let asked = |value: &Option<String>| value.clone().unwrap_or_else(|| "by the film".into());
        let mut lines = vec![
            ("look", self.network.look.to_string()),
            ("quality", self.network.quality.to_string()),
            ("saturation", colorize.grade.saturation.to_string()),
            ("warmth", colorize.grade.warmth.to_string()),
            ("keep color", colorize.keep_color.to_string()),
            (
                "temporal",
                format!(
                    "{}, key interval {}",
                    colorize.temporal, colorize.key_interval
                ),
            ),
            ("container", asked(&self.container)),
            ("codec", asked(&self.codec)),
        ];
        lines.extend(self.crf.map(|crf| ("crf", crf.to_string())));
        lines.extend(self.preset.clone().map(|preset| ("preset", preset)));
        lines.extend(
            self.encoder_options
                .iter()
                .map(|(k, v)| ("encoder option", format!("{k}={v}"))),
        );
        lines.extend(
            self.pixel_format
                .clone()
                .map(|format| ("pixel format", format)),
        );
        lines.push(("segments", format!("about {} s", self.segment)));
        lines
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}
