//! Where the arithmetic of the networks is done.

#[cfg(feature = "cudnn")]
pub mod cudnn;
