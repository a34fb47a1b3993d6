//! Flags that say how films are coloured.

use clap::Args;

use super::place::PlaceArgs;
use crate::{
    color::Grade,
    colorize::{self, KeepColor},
    net,
    temporal::Pace,
};

/// Flags of every verb that colours films.
#[derive(Args)]
#[command(next_help_heading = "Network")]
pub struct NetworkArgs {
    /// A bundled model (autochrome, or fast, which is smaller) or a .safetensors file; gray and constant are test models
    /// without a network
    #[arg(long, value_name = "NAME|FILE", default_value = net::DEFAULT_MODEL)]
    pub model: String,
    /// What the colours are meant to be: faithful (least error: calm where the network does not know) or vivid (about
    /// as colourful as photographs)
    #[arg(long, value_name = "LOOK", default_value_t)]
    pub look: net::Look,
    /// Factor on the colours' strength: 0 is grey, 1.3 is strong
    #[arg(long, value_name = "FACTOR", default_value_t = 1., value_parser = super::colorize::within::<0, 4>)]
    pub saturation: f32,
    /// Warmer light, or cooler below 0: 1 is as much as from noon to early evening
    #[arg(long, value_name = "SHIFT", default_value_t = 0., allow_negative_numbers = true, value_parser = super::colorize::within::<-1, 1>)]
    pub warmth: f32,
    /// Scenes that are in colour already keep their colours: auto (those in colour; tinted and sepia ones are coloured
    /// anew), never, or always (all that have any colour)
    #[arg(long, value_name = "WHICH", default_value_t)]
    pub keep_color: KeepColor,
    /// Colour over time: off (every frame by itself), smooth (steadied along the motion) or motion (the network colours
    /// key frames, motion carries their colour to the others: steadier, and much faster)
    #[arg(long, value_name = "FILTER", default_value = "motion")]
    pub temporal: String,
    /// With --temporal motion: frames from one key frame to the next; more are faster, and follow less
    #[arg(long, value_name = "FRAMES", default_value_t = 6, value_parser = clap::value_parser!(u8).range(1..=50))]
    pub key_interval: u8,
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Frames that go through the network together [default: one a thread on half of the threads, 8 on CUDA]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub batch: Option<u16>,
    /// Threads: as many encode; half as many run the network, and decode [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

impl NetworkArgs {
    /// How films are coloured, so many frames at once.
    pub fn options(&self, batch: usize) -> colorize::Options {
        colorize::Options {
            batch,
            temporal: self.temporal.clone(),
            key_interval: self.key_interval.into(),
            pace: Pace::Film,
            keep_color: self.keep_color,
            grade: Grade {
                saturation: self.saturation,
                warmth: self.warmth,
            },
        }
    }
}
