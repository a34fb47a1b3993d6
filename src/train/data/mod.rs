//! Data: from folders, films and packs to batches.
//!
//! | file | noun |
//! |---|---|
//! | `scan` | what is found in the inputs, judged and split |
//! | `facts` | what is known of a picture: its content, size, chroma and look |
//! | `index` | the facts of an earlier scan, remembered |
//! | `photo` | one picture, wherever it lies |
//! | `film` | pictures out of colour videos: some of every scene |
//! | `pack` | many small pictures in one portable file |
//! | `filter` | grey pictures and duplicates, left out |
//! | `source` | where pictures come from, and fair shares of that |
//! | `sampler` | which picture stands at which position of the endless sequence |
//! | `stock`, `augment` | the lightness that films have, and the look of old ones |
//! | `sample` | a picture and a batch as the networks see them |
//! | `resize` | a part of a picture at another size |
//! | `cache`, `loader` | batches made ahead, on threads of their own |
//!
//! In which part a picture falls depends on its content and the seed of the split alone, not on names, folders, order or other
//! pictures. Every batch is a function of (seed, step), so a resumed run sees exactly the batches it would have seen.

pub mod augment;
mod cache;
mod facts;
mod film;
mod filter;
mod index;
mod loader;
pub mod pack;
mod photo;
mod resize;
mod sample;
mod sampler;
mod scan;
mod source;
mod stock;

pub use augment::Augment;
pub use loader::{Loader, LoaderOptions, Phase};
pub(crate) use pack::Pack;
pub use photo::Photo;
pub use sample::{Batch, Sample};
pub use scan::{LeftOut, ScanOptions, Split};
pub use source::stratified;
pub use stock::Stock;
