//! Everything that knows tensors, beside `train` and `eval`.
//!
//! The narrow waist between the stream and the network is [`Colorizer::predict`]: plain vectors in, plain vectors
//! out; no tensor leaves.

use crate::{
    error::Result,
    frame::{AbMap, Thumb},
};

/// What the pipeline knows of a network: thumbnails in, colour maps out.
pub trait Colorizer: Send {
    /// One line for people: name, size, device.
    fn describe(&self) -> String;

    /// The thumbnail that this network wants for a picture of display size `width` x `height`: display aspect kept,
    /// each side a multiple of the network's stride. `None`: it looks at no pixels, only the number of frames counts.
    fn thumb_size(&self, width: usize, height: usize) -> Option<(usize, usize)>;

    /// Colour of each thumbnail: as many maps as thumbnails, in order, each of finite values. A frame's colour does
    /// not depend on its batch mates: bit-identical for any batch size and number of threads on the CPU.
    ///
    /// # Errors
    /// Out of device memory even at batch 1, or a defect.
    fn predict(&mut self, thumbs: &[Thumb]) -> Result<Vec<AbMap>>;

    /// Whether every map is exactly neutral, so that chroma need not be computed at all.
    fn is_gray(&self) -> bool {
        false
    }
}
