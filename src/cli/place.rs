//! Flags that say where and how a network runs.

use clap::Args;

use crate::net::{DeviceChoice, Look, Options, Precision, Quality};

/// Flags of every verb that runs a network.
#[derive(Args)]
pub struct PlaceArgs {
    /// How large the network's picture is: fast, normal, best, or its short side in pixels
    #[arg(long, value_name = "QUALITY", default_value = "normal")]
    quality: Quality,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
    /// auto, f32 or bf16: the network's numbers on a CPU; auto takes bf16 where the CPU multiplies such numbers
    #[arg(long, value_name = "NUMBERS", default_value = "auto")]
    precision: Precision,
}

impl PlaceArgs {
    /// For colours of this look.
    pub fn options(&self, look: Look) -> Options {
        Options {
            device: self.device,
            precision: self.precision,
            quality: self.quality,
            look,
        }
    }
}
