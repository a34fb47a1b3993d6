//! The program from end to end: media drawn by the `ffmpeg` program, `autochrome` run as a person runs it, and FFmpeg's
//! own tools to look at the result. Each test names the point of the specification that it proves: point 3 is "the
//! luma is the source's, bit for bit", and so on; the full list stands in the issue that founded the project (3).

#[path = "../common/mod.rs"]
mod common;

mod containers;
mod errors;
mod luma;
mod odd;
mod scenes;
mod signals;
mod streams;
mod timing;
mod words;
