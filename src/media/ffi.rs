//! Every `unsafe` line of the media code: what ffmpeg-next does not offer safely, one small function each, with the
//! reason why it is sound.
#![allow(unsafe_code)]

// ---- frames and pictures ----

// ---- input ----

// ---- output ----
