//! `autochrome eval`: how good a model is on photographs that it was not trained on.

use std::path::PathBuf;

use clap::Args;

use crate::{
    error::{Error, Result},
    eval::{self, EvalOptions},
    net::{self, DeviceChoice, Precision},
};

/// Flags of `eval`.
#[derive(Args)]
pub struct EvalArgs {
    /// Folders of colour photographs; of those that the model learnt from, only the part held out for test is used
    #[arg(required = true)]
    photos: Vec<PathBuf>,
    /// A bundled model or a .safetensors file
    #[arg(long, value_name = "NAME|FILE", default_value = net::DEFAULT_MODEL)]
    model: String,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
    /// auto, f32 or bf16: the network's numbers on a CPU; auto takes bf16 where the CPU multiplies such numbers
    #[arg(long, value_name = "NUMBERS", default_value = "auto")]
    precision: Precision,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl EvalArgs {
    /// Prints the figures of the model, of grey and of a constant mean colour.
    ///
    /// # Errors
    /// As [`eval::run`].
    pub fn run(self) -> Result<()> {
        let report = eval::run(&EvalOptions {
            photos: self.photos,
            model: self.model,
            device: self.device,
            precision: self.precision,
        })?;
        if self.json {
            println!(
                "{}",
                serde_json::to_string(&report).map_err(|e| Error::internal("eval", e))?
            );
        } else {
            println!("{report}");
        }
        Ok(())
    }
}
