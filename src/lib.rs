//! autochrome: a streaming video colorizer.
//!
//! ```text
//!                 packets of every other stream travel with the frames
//!          ┌────────┐   ┌──────┐   ┌───────┐   ┌────────┐   ┌───────┐   ┌────────┐
//! film ──▶ │ decode │──▶│ plan │──▶│ infer │──▶│ steady │──▶│ merge │──▶│ encode │──▶ film in colour
//!          └────────┘   └──────┘   └───────┘   └────────┘   └───────┘   └────────┘
//!            media     scenes and   net        temporal     colour      media
//!                        motion
//! ```
//!
//! Read [`colorize`] first: [`colorize::run`] is the only wiring, and it is the diagram above.
//!
//! | module | what it knows | may use |
//! |---|---|---|
//! | [`frame`] | what travels on each edge; small plain pictures | `media`'s opaque `Picture` and `Packet`, `temporal`'s `Motion` |
//! | [`color`] | L, a, b, Y', Cb, Cr and network units, each conversion beside its inverse | nothing |
//! | [`stage`] | threads, bounded edges, meters, first failure | `frame` |
//! | [`media`] | ffmpeg: sources, sinks, pictures; its `unsafe` is in `media/ffi` | `frame`, `color` |
//! | [`net`] | tensors: generators as graphs, the engines that run them (their `unsafe` is in `onednn` and `cudnn`), checkpoints, devices | `frame`, `color` |
//! | [`temporal`] | scenes, motion, colour over time | `frame` |
//! | [`controls`] | please finish, stop at once, where is it now | `error` |
//! | [`colorize`] | the stages | all of the above |
//! | [`live`] | what a live run shows of itself: the preview page, its figures | `media`, `net`, `controls`, `stage` |
//! | [`archive`] | what of many films is done, and who does what; child processes | `media`, `net`, `color`, `colorize`, `controls`, `stage` |
//! | [`train`], [`eval`] | learning and measuring | `net`, `color`, `media` |
//! | [`cli`] | flags, progress, words | everything; nothing uses it |
//! | [`error`] | the one error type | nothing |
//!
//! # The library in ten lines
//!
//! ```no_run
//! use autochrome::{colorize, controls::Controls, media::*, net};
//! # fn main() -> autochrome::Result<()> {
//! let mut colorizer = net::load(net::DEFAULT_MODEL, &net::Options::default())?;
//! let source = Source::open("film.mp4".as_ref(), &InputOptions::default())?;
//! let sink = FileSink::create("film.color.mp4".as_ref(), &OutputOptions::default(), &source)?;
//! let controls = Controls::default().with_progress(|p| println!("{} frames", p.frames));
//! let options = colorize::Options::default();
//! let report = colorize::run(source, vec![Box::new(sink)], colorizer.as_mut(), &options, &controls)?;
//! println!("{} frames in {:.1} s", report.written[0].frames, report.seconds);
//! # Ok(())
//! # }
//! ```

pub mod archive;
pub mod cli;
pub mod color;
pub mod colorize;
pub mod controls;
pub mod error;
pub mod eval;
pub mod frame;
pub mod live;
pub mod media;
pub mod net;
pub mod stage;
pub mod temporal;
pub mod train;

pub use error::{Error, Result};

/// The example in the README is compiled with the doc tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
