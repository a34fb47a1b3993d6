//! autochrome: a streaming video colorizer.

pub mod color;
pub mod error;
pub mod frame;
pub mod media;
pub mod net;

pub use error::{Error, Result};
