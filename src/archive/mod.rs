//! Archive: folders full of films, for weeks, on any number of machines.
//!
//! ```text
//! walk ──▶ items ──▶ worker ──▶ jobs: child processes, each a film or a segment at a time
//!                      │  ▲
//!                      ▼  │ claims, records, plans: small files beside the output
//!                     state ──▶ report, verify
//! ```
//!
//! Everything that is known of an archive lies under [`FOLDER`] in the output folder, in small files that appear whole or not
//! at all, one an item; whoever can write there can take part, and nobody is needed for it to go on.

mod hand;
mod heart;
pub mod job;
pub mod outlook;
pub mod record;
pub mod report;
pub mod room;
pub mod settings;
pub mod shard;
pub mod state;
pub mod task;
pub mod verify;
pub mod walk;
mod whole;
pub mod worker;

/// Where everything that is known of an archive lies, inside of the output folder.
pub const FOLDER: &str = ".autochrome";
