//! Flags to options, one file a verb.

pub mod train;
mod ui;

pub use ui::Ui;
