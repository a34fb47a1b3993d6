//! Every `unsafe` line of the media code: what ffmpeg-next does not offer safely, one small function each, with the
//! reason why it is sound.
#![allow(unsafe_code)]

mod input;
pub(super) mod output;
mod pictures;

pub(super) use input::*;
pub(super) use pictures::*;
