//! Everything that knows ffmpeg. Placeholder until the media branch lands.
/// A decoded or merged picture.
pub struct Picture;
/// A packet of a copied stream.
pub struct Packet;
