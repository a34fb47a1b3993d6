//! Pack: many small pictures in one portable file.
//!
//! The file: eight bytes `ACpack1\n`, SHA-256 of all that follows, the length of the header (u64, little-endian), the
//! header (JSON), for each picture the SHA-256 of its original content and its ticket (u64), then the pictures, one
//! after the other, as lossy WebP. Name, source, content and ticket are those of the original, so a pack is split as
//! the folder is that it was made from.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    LeftOut, Photo, ScanOptions, Split,
    facts::{Hash, hash_rest},
    photo::reason,
    resize::shrunk,
    source, stratified,
};
use crate::{
    error::{Error, Result, io_sentence, shown},
    train::journal::publish,
};

const MAGIC: &[u8; 8] = b"ACpack1\n";
/// Magic, digest and length of the header.
const FRONT: usize = 8 + 32 + 8;
/// Bytes that say which picture one is: content and ticket.
const IDENTITY: usize = 32 + 8;

/// What a pack says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Header {
    /// The split that its tickets are for.
    split: u64,
    /// Longest short side.
    size: u32,
    /// WebP quality, 0 to 100.
    quality: u8,
    sources: Vec<String>,
    /// Name, number of its source, length in bytes.
    pictures: Vec<(String, usize, u32)>,
}

/// An open pack, whose content was found whole.
#[derive(Debug)]
pub(crate) struct Pack {
    path: PathBuf,
    file: File,
    header: Header,
    identities: Vec<(Hash, u64)>,
    /// Where each picture begins in the file.
    begins: Vec<u64>,
}

impl Pack {
    /// Whether a file begins like a pack.
    pub fn is_one(path: &Path) -> bool {
        let mut magic = [0; MAGIC.len()];
        let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
        read.is_ok() && magic == *MAGIC
    }

    /// Opens a pack that is to be split by the seed `split`, and checks all of it.
    ///
    /// # Errors
    /// [`Error::Input`] where it cannot be read, is damaged, or was made for another split.
    pub fn open(path: &Path, split: u64) -> Result<Self> {
        let wrong = |why: String| Error::input(shown(path), why);
        let damaged =
            || wrong("the pack is damaged or cut short; copy it again, or pack again".into());
        let unreadable = |e: io::Error| match e.kind() {
            io::ErrorKind::UnexpectedEof => damaged(),
            _ => wrong(io_sentence(&e)),
        };
        let mut file = File::open(path).map_err(unreadable)?;
        let mut front = [0; FRONT];
        file.read_exact(&mut front).map_err(unreadable)?;
        let (magic, rest) = front.split_at(MAGIC.len());
        let (digest, length) = rest.split_at(32);
        if magic != MAGIC {
            return Err(wrong("it is no pack; `autochrome pack` makes them".into()));
        }
        let found = hash_rest(&file, Sha256::new_with_prefix(length)).map_err(unreadable)?;
        if found != *digest {
            return Err(damaged());
        }
        let length = length.try_into().map_or(0, u64::from_le_bytes) as usize;
        let pack = Self::read(path, file, length).map_err(unreadable)?;
        match pack.header.split == split {
            true => Ok(pack),
            false => Err(wrong(format!(
                "it was packed for split {}, not {split}, so its test pictures are others; take --set split={0}, or pack again with --split {split}",
                pack.header.split
            ))),
        }
    }

    fn read(path: &Path, file: File, length: usize) -> io::Result<Self> {
        let mut header = vec![0; length];
        file.read_exact_at(&mut header, FRONT as u64)?;
        let header: Header = serde_json::from_slice(&header)?;
        let mut identities = vec![0; header.pictures.len() * IDENTITY];
        file.read_exact_at(&mut identities, (FRONT + length) as u64)?;
        let mut begin = (FRONT + length + identities.len()) as u64;
        let begins = header.pictures.iter().map(|(_, _, length)| {
            let this = begin;
            begin += u64::from(*length);
            this
        });
        Ok(Self {
            path: path.to_owned(),
            begins: begins.collect(),
            identities: identities.chunks(IDENTITY).map(identity).collect(),
            file,
            header,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn len(&self) -> usize {
        self.header.pictures.len()
    }

    pub fn name(&self, number: usize) -> &str {
        &self.header.pictures[number].0
    }

    pub fn source(&self, number: usize) -> &str {
        let number = self.header.pictures[number].1;
        self.header.sources.get(number).map_or("", String::as_str)
    }

    /// The original's content and ticket.
    pub fn identity(&self, number: usize) -> (Hash, u64) {
        self.identities[number]
    }

    /// The WebP file of a picture.
    pub fn bytes(&self, number: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.header.pictures[number].2 as usize];
        let read = self.file.read_exact_at(&mut bytes, self.begins[number]);
        read.map_err(|e| Error::input(shown(&self.path), io_sentence(&e)))?;
        Ok(bytes)
    }
}

fn identity(bytes: &[u8]) -> (Hash, u64) {
    let (content, ticket) = bytes.split_at(32);
    let content = content.try_into().unwrap_or_default();
    (content, ticket.try_into().map_or(0, u64::from_le_bytes))
}

/// What to pack.
#[derive(Clone, Debug)]
pub struct PackOptions {
    /// Folders, pictures, films and packs.
    pub inputs: Vec<PathBuf>,
    /// The file to write.
    pub output: PathBuf,
    /// Larger pictures are scaled to this short side, in pixels.
    pub size: u32,
    /// Most bytes that the file may have; any number where there is none.
    pub fit: Option<u64>,
    /// Seed of the split that the pack will be used with.
    pub split: u64,
}

/// What a pack has become.
#[derive(Clone, Debug)]
pub struct Packed {
    /// Pictures in it.
    pub pictures: usize,
    /// Pictures that could have been in it.
    pub usable: usize,
    /// WebP quality, 0 to 100.
    pub quality: u8,
    /// Size of the file.
    pub bytes: u64,
    /// Names of what could not be used, with the reason.
    pub skipped: Vec<(String, String)>,
    /// What was left out.
    pub left_out: LeftOut,
}

/// What [`write`] is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Reading and judging files.
    Scanning,
    /// Scaling and compressing pictures.
    Packing,
}

/// Qualities, best first. Below the last one it is better to have fewer pictures.
const QUALITIES: [u8; 8] = [90, 85, 80, 75, 70, 65, 60, 50];
/// Shortest side of a picture that is worth its place.
const LEAST_SIDE: u32 = 32;
/// Pictures that are compressed to foretell the size of all, and between two words about progress.
const PROBED: usize = 256;
const A_GO: usize = 64;

/// Packs pictures: at the best quality at which all of them fit, else fewer, each source in proportion to the square
/// root of how many it has. The same pictures make the same file.
///
/// # Errors
/// As [`Split::scan`]; [`Error::Usage`] where not one picture fits; [`Error::Output`] where the file cannot be
/// written.
pub fn write(options: &PackOptions, tell: &mut dyn FnMut(Work, usize, usize)) -> Result<Packed> {
    let scan = ScanOptions::new(&options.inputs, 0., options.split, LEAST_SIDE);
    let split = Split::scan(&scan, &mut |done, of| tell(Work::Scanning, done, of))?;
    let mut skipped = split.skipped;
    let usable = split.train.len();
    let packer = Packer {
        size: options.size,
        split: options.split,
        fit: options.fit.unwrap_or(u64::MAX),
    };
    let (quality, pictures) = packer.fitting(&split.train, &mut skipped, tell)?;
    // A picture that could not be packed at one quality could not at another.
    skipped.sort();
    skipped.dedup();
    let bytes = packer.bytes(quality, &pictures)?;
    publish(&options.output, &bytes)?;
    Ok(Packed {
        pictures: pictures.len(),
        usable,
        quality,
        bytes: bytes.len() as u64,
        skipped,
        left_out: split.left_out,
    })
}

/// A photo and its WebP file.
type Small = (Photo, Vec<u8>);

struct Packer {
    size: u32,
    split: u64,
    fit: u64,
}

impl Packer {
    /// Quality and pictures of a pack that fits.
    fn fitting(
        &self,
        photos: &[Photo],
        skipped: &mut Vec<(String, String)>,
        tell: &mut dyn FnMut(Work, usize, usize),
    ) -> Result<(u8, Vec<Small>)> {
        let probed = stratified(photos, PROBED);
        let likely = |quality: &&u8| {
            if self.fit == u64::MAX {
                return true;
            }
            let sizes = probed
                .par_iter()
                .filter_map(|p| self.small(p, **quality).ok());
            let sum: usize = sizes.map(|small| small.len()).sum();
            let each = sum as f64 / probed.len() as f64 + 2. * IDENTITY as f64;
            each * photos.len() as f64 <= self.fit as f64
        };
        let (&last, better) = QUALITIES.split_last().unwrap_or((&50, &[]));
        let first = better
            .iter()
            .position(|q| likely(&q))
            .unwrap_or(better.len());
        // The estimate may be a little too good: then the next quality.
        for &quality in &better[first..] {
            let all = self.all(photos, quality, skipped, tell);
            if self.bytes(quality, &all)?.len() as u64 <= self.fit {
                return Ok((quality, all));
            }
        }
        let all = self.all(photos, last, skipped, tell);
        Ok((last, self.fewer(last, all)?))
    }

    /// Every photo that can be read, compressed.
    fn all(
        &self,
        photos: &[Photo],
        quality: u8,
        skipped: &mut Vec<(String, String)>,
        tell: &mut dyn FnMut(Work, usize, usize),
    ) -> Vec<Small> {
        let mut all = Vec::with_capacity(photos.len());
        for (number, go) in photos.chunks(A_GO).enumerate() {
            let small: Vec<_> = go.par_iter().map(|p| self.small(p, quality)).collect();
            for (photo, small) in go.iter().zip(small) {
                match small {
                    Ok(bytes) => all.push((photo.clone(), bytes)),
                    Err(e) => skipped.push((photo.name(), reason(e))),
                }
            }
            tell(Work::Packing, number * A_GO + go.len(), photos.len());
        }
        all
    }

    /// As many of these as fit.
    fn fewer(&self, quality: u8, mut all: Vec<Small>) -> Result<Vec<Small>> {
        loop {
            let bytes = self.bytes(quality, &all)?.len() as u64;
            if bytes <= self.fit && !all.is_empty() {
                return Ok(all);
            }
            let count = (all.len() as f64 * 0.995 * self.fit as f64 / bytes as f64) as usize;
            if count == 0 {
                return Err(Error::Usage(format!(
                    "not one picture of {} pixels fits into {} bytes; allow more, or a smaller size",
                    self.size, self.fit
                )));
            }
            let photos: Vec<_> = all.iter().map(|(photo, _)| photo.clone()).collect();
            let kept: std::collections::BTreeSet<_> = source::rooted(&photos, count)
                .iter()
                .map(Photo::content)
                .collect();
            all.retain(|(photo, _)| kept.contains(&photo.content()));
        }
    }

    /// A photo as lossy WebP.
    fn small(&self, photo: &Photo, quality: u8) -> Result<Vec<u8>> {
        let picture = shrunk(photo.open()?, self.size)?;
        let encoder = webp::Encoder::from_rgb(picture.as_raw(), picture.width(), picture.height());
        let encoded = encoder.encode_simple(false, quality.into());
        let failed = |e| Error::internal("pack", format!("{}: {e:?}", photo.name()));
        Ok(encoded.map_err(failed)?.to_vec())
    }

    /// The pack's file.
    fn bytes(&self, quality: u8, pictures: &[Small]) -> Result<Vec<u8>> {
        let mut sources: Vec<_> = pictures
            .iter()
            .map(|(p, _)| p.source().to_owned())
            .collect();
        sources.sort();
        sources.dedup();
        let row = |(photo, bytes): &Small| {
            let source = sources.binary_search_by(|s| s.as_str().cmp(photo.source()));
            (photo.label(), source.unwrap_or(0), bytes.len() as u32)
        };
        let header = Header {
            split: self.split,
            size: self.size,
            quality,
            pictures: pictures.iter().map(row).collect(),
            sources: sources.clone(),
        };
        let header = serde_json::to_vec(&header).map_err(|e| Error::internal("pack", e))?;
        let mut body = (header.len() as u64).to_le_bytes().to_vec();
        body.extend(header);
        for (photo, _) in pictures {
            body.extend(photo.content());
            body.extend(photo.ticket().to_le_bytes());
        }
        pictures.iter().for_each(|(_, bytes)| body.extend(bytes));
        Ok([&MAGIC[..], &Sha256::digest(&body), &body].concat())
    }
}
