//! autochrome: a streaming video colorizer.

pub mod cli;
pub mod color;
pub mod error;
pub mod eval;
pub mod frame;
pub mod media;
pub mod net;
pub mod stage;
pub mod train;

pub use error::{Error, Result};
