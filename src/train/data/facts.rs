//! Facts: what is known of a picture without having it in memory.

use std::io::{self, Read};

use image::{RgbImage, imageops};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::color;

/// SHA-256 of a picture's file, or of its film and place in it.
pub(super) type Hash = [u8; 32];

/// Side of the small picture that chroma is measured on, and of the look.
pub(super) const SMALL: u32 = 64;
pub(super) const LOOK: usize = 16;

/// What is known of a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Facts {
    /// Says which picture it is, whatever it is called.
    #[serde(with = "hex")]
    pub content: Hash,
    /// Where it falls among the parts: a number as good as drawn, from its content and the seed.
    pub ticket: u64,
    /// Size in pixels, upright.
    pub size: (u32, u32),
    /// Mean chroma (CIE) of the picture when it is small.
    pub chroma: f32,
    /// Its luma, 0..255, at [`LOOK`] x [`LOOK`]: what duplicates have in common.
    #[serde(with = "hex")]
    pub look: Vec<u8>,
}

impl Facts {
    /// Of a picture of `size`, seen at [`SMALL`] x [`SMALL`].
    pub fn new(content: Hash, ticket: u64, size: (u32, u32), small: &RgbImage) -> Self {
        let chroma = |rgb: &image::Rgb<u8>| {
            let [_, a, b] = color::lab_from_srgb8(rgb.0);
            a.hypot(b)
        };
        let sum: f32 = small.pixels().map(chroma).sum();
        let tiny = imageops::thumbnail(small, LOOK as u32, LOOK as u32);
        let luma = |rgb: &image::Rgb<u8>| {
            let [r, g, b] = rgb.0.map(u32::from);
            ((299 * r + 587 * g + 114 * b + 500) / 1000) as u8
        };
        Self {
            content,
            ticket,
            size,
            chroma: sum / (small.width() * small.height()).max(1) as f32,
            look: tiny.pixels().map(luma).collect(),
        }
    }

    /// Of a picture in memory, whose bytes in its file these are.
    pub fn of(picture: &RgbImage, bytes: &[u8], seed: u64) -> Self {
        let small = imageops::thumbnail(picture, SMALL, SMALL);
        Self::new(
            Sha256::digest(bytes).into(),
            ticket(seed, &[bytes]),
            picture.dimensions(),
            &small,
        )
    }

    /// Length of the short side.
    pub fn short_side(&self) -> u32 {
        self.size.0.min(self.size.1)
    }

    /// The ticket as a number in 0..1.
    pub fn share(&self) -> f64 {
        self.ticket as f64 / u64::MAX as f64
    }
}

/// Finishes a hash with all that is left to read.
pub(super) fn hash_rest(mut from: impl Read, mut hash: Sha256) -> io::Result<Hash> {
    let mut piece = vec![0; 1 << 20];
    loop {
        match from.read(&mut piece)? {
            0 => return Ok(hash.finalize().into()),
            count => hash.update(&piece[..count]),
        }
    }
}

/// The ticket of a content for a seed.
pub(super) fn ticket(seed: u64, content: &[&[u8]]) -> u64 {
    let mut hash = Sha256::new_with_prefix(seed.to_le_bytes());
    for part in content {
        hash.update(part);
    }
    let hash: Hash = hash.finalize().into();
    hash.first_chunk::<8>()
        .map_or(0, |head| u64::from_le_bytes(*head))
}

/// Bytes as hexadecimal digits in text formats.
pub(super) mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Two digits a byte.
    pub fn digits(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    pub fn serialize<S: Serializer>(bytes: impl AsRef<[u8]>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&digits(bytes.as_ref()))
    }

    pub fn deserialize<'de, D: Deserializer<'de>, T: TryFrom<Vec<u8>>>(
        from: D,
    ) -> Result<T, D::Error> {
        let text = String::deserialize(from)?;
        let pairs = text.as_bytes().chunks(2);
        let bytes: Option<Vec<u8>> = pairs
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect();
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| D::Error::custom("these are no hexadecimal digits of the right number"))
    }
}
