//! Flags to options, one file a verb.

pub mod train;
