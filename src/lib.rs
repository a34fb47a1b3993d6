//! autochrome: a streaming video colorizer.

pub mod cli;
pub mod color;
pub mod colorize;
pub mod error;
pub mod frame;
pub mod media;
pub mod net;
pub mod stage;
pub mod temporal;

pub use error::{Error, Result};
