//! `autochrome merge`: the weighted mean of models of one kind.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::Ui;
use crate::{
    error::{Error, Result, shown},
    train,
};

const EXAMPLES: &str = "\
Examples:
  autochrome merge a.safetensors b.safetensors -o mean.safetensors
  autochrome merge faithful.safetensors vivid.safetensors --weights 0.7,0.3 -o between.safetensors

Parameters of models that were trained from the same start can be averaged; of others the mean is noise.";

/// Flags of `merge`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct MergeArgs {
    /// Two or more models of one kind with the same settings
    #[arg(required = true, num_args = 2.., value_hint = ValueHint::FilePath)]
    models: Vec<String>,
    /// How much each counts, one number a model; they are scaled to sum to 1 [default: all the same]
    #[arg(long, value_delimiter = ',', value_name = "W,W,...")]
    weights: Vec<f64>,
    /// Model file to write
    #[arg(short, long, value_hint = ValueHint::FilePath)]
    output: PathBuf,
}

impl MergeArgs {
    /// Writes the mean.
    ///
    /// # Errors
    /// A model cannot be read, or they are not of one kind; the output cannot be written.
    pub fn run(self, ui: &Ui) -> Result<()> {
        let weights = match self.weights.len() {
            0 => vec![1.; self.models.len()],
            n if n == self.models.len() => self.weights,
            n => {
                return Err(Error::Usage(format!(
                    "{n} weights for {} models: write one for each",
                    self.models.len()
                )));
            }
        };
        let weighted: Vec<_> = self.models.into_iter().zip(weights).collect();
        train::merge(&weighted, &self.output)?;
        ui.say(format_args!(
            "{}: the mean of {} models",
            shown(&self.output),
            weighted.len()
        ));
        Ok(())
    }
}
