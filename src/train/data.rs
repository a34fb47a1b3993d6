//! Photographs to batches: find, split, decode, crop, mirror, convert.
//!
//! Which photographs are held out depends on their content and the seed alone, not on names, folders or order. Every
//! batch is a function of (seed, step), so a resumed run sees exactly the batches it would have seen.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use candle_core::{Device, Tensor};
use image::{ImageReader, RgbImage, imageops};
use rand::{Rng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::{
    color,
    error::{Error, Result, io_sentence, shown},
    frame::Item,
    net::params::stream,
    stage::{self, Receiver, Stage, Stages},
};

/// Photographs, each in exactly one part.
#[derive(Clone, Debug, Default)]
pub struct Split {
    /// To learn from.
    pub train: Vec<PathBuf>,
    /// To watch the training and to choose the chroma gain by.
    pub validation: Vec<PathBuf>,
    /// To report figures on, once.
    pub test: Vec<PathBuf>,
    /// What is not a picture, with the reason.
    pub skipped: Vec<(PathBuf, String)>,
}

impl Split {
    /// Splits all JPEG, PNG and WebP files below `folders`: a share `held_out` each for validation and for test.
    /// Equal files are in the same part, once.
    ///
    /// # Errors
    /// [`Error::Input`] where a folder cannot be read; [`Error::Train`] where no picture is found.
    pub fn scan(folders: &[PathBuf], held_out: f64, seed: u64) -> Result<Self> {
        let mut files = Vec::new();
        for folder in folders {
            walk(folder, &mut files).map_err(|e| Error::input(shown(folder), io_sentence(&e)))?;
        }
        let mut hashed: Vec<_> = files
            .into_par_iter()
            .map(|path| (fingerprint(&path, seed), path))
            .collect();
        hashed.sort();
        let mut split = Self::default();
        let mut seen = BTreeSet::new();
        for (hash, path) in hashed {
            let hash = match hash {
                Ok(hash) => hash,
                Err(why) => {
                    split.skipped.push((path, why));
                    continue;
                }
            };
            let part = match share(hash) {
                u if u < held_out => &mut split.test,
                u if u < 2. * held_out => &mut split.validation,
                _ => &mut split.train,
            };
            if seen.insert(hash) {
                part.push(path);
            }
        }
        match split.train.is_empty() {
            true => Err(Error::Train(format!(
                "no photographs (JPEG, PNG or WebP) to learn from in {}",
                folders.iter().map(shown).collect::<Vec<_>>().join(", ")
            ))),
            false => Ok(split),
        }
    }
}

/// Files below `path`, or `path` itself if it is one; hidden ones left out.
fn walk(path: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if !fs::metadata(path)?.is_dir() {
        let extension = path
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default();
        if ["jpg", "jpeg", "png", "webp"].contains(&extension.to_ascii_lowercase().as_str()) {
            files.push(path.to_owned());
        }
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            walk(&entry.path(), files)?;
        }
    }
    Ok(())
}

/// Hash of (seed, content), or why the file is no picture.
fn fingerprint(path: &Path, seed: u64) -> std::result::Result<[u8; 32], String> {
    let bytes = fs::read(path).map_err(|e| io_sentence(&e))?;
    ImageReader::new(std::io::Cursor::new(&bytes))
        .with_guessed_format()
        .map_err(|e| e.to_string())?
        .into_dimensions()
        .map_err(|e| e.to_string())?;
    Ok(Sha256::new()
        .chain_update(seed.to_le_bytes())
        .chain_update(&bytes)
        .finalize()
        .into())
}

/// A hash as a number in 0..1.
fn share(hash: [u8; 32]) -> f64 {
    let head = hash
        .first_chunk::<8>()
        .map_or(0, |head| u64::from_le_bytes(*head));
    head as f64 / u64::MAX as f64
}

/// Decodes a photograph to 8-bit sRGB.
///
/// # Errors
/// [`Error::Input`] where it cannot be read or decoded.
pub fn open(path: &Path) -> Result<RgbImage> {
    let reader = ImageReader::open(path)
        .and_then(ImageReader::with_guessed_format)
        .map_err(|e| Error::input(shown(path), io_sentence(&e)))?;
    let picture = reader.decode().map_err(|e| Error::input(shown(path), e))?;
    Ok(picture.into_rgb8())
}

/// Decoded photographs, kept first come, first kept, until they fill a limit; those beyond it are decoded at every
/// visit. What a visitor gets does not depend on it, only how soon.
struct Cache {
    /// Bytes of pixels that may be kept, and that are.
    limit: usize,
    kept: AtomicUsize,
    photos: Vec<OnceLock<Arc<RgbImage>>>,
}

impl Cache {
    fn new(photos: usize, limit: usize) -> Self {
        Self {
            limit,
            kept: AtomicUsize::new(0),
            photos: (0..photos).map(|_| OnceLock::new()).collect(),
        }
    }

    /// The photograph of this number, which is at `path`. Nobody waits for another's decoding: at worst both do it.
    fn open(&self, number: usize, path: &Path) -> Result<Arc<RgbImage>> {
        let place = &self.photos[number];
        if let Some(photo) = place.get() {
            return Ok(Arc::clone(photo));
        }
        let photo = Arc::new(open(path)?);
        let size = photo.as_raw().len();
        let room = |kept: usize| kept.checked_add(size).filter(|sum| *sum <= self.limit);
        let reserved = self
            .kept
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room);
        if reserved.is_ok() && place.set(Arc::clone(&photo)).is_err() {
            // Another thread was faster, and has counted it.
            self.kept.fetch_sub(size, Ordering::Relaxed);
        }
        Ok(photo)
    }
}

/// How the one grey channel of an old film came about, for an encoded sRGB colour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stock {
    /// CIE lightness: what an ideal film would see.
    Ideal,
    /// A weighted sum of R', G', B' taken for the encoded grey. Weights sum to 1.
    Mix([f32; 3]),
}

impl Stock {
    /// Luma of standard and of high definition: what a desaturated video carries.
    const BT601: Self = Self::Mix([0.299, 0.587, 0.114]);
    const BT709: Self = Self::Mix([0.2126, 0.7152, 0.0722]);

    /// One at random: half ideal, else one of the two lumas, else blue-sensitive like orthochromatic film.
    pub fn random(rng: &mut impl Rng) -> Self {
        match rng.random_range(0..8) {
            0..4 => Self::Ideal,
            4 => Self::BT601,
            5 => Self::BT709,
            _ => {
                let (red, blue) = (rng.random_range(0.0..0.25), rng.random_range(0.2..0.5));
                Self::Mix([red, 1. - red - blue, blue])
            }
        }
    }

    /// Lightness 0..100 of an encoded colour 0..1 whose own lightness is `ideal`.
    fn lightness(self, rgb: [f32; 3], ideal: f32) -> f32 {
        match self {
            Self::Ideal => ideal,
            Self::Mix(k) => color::lightness(k[0] * rgb[0] + k[1] * rgb[1] + k[2] * rgb[2]),
        }
    }
}

/// A picture as the networks see it: L (one plane) and ab (two), network units, row-major.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Lightness.
    pub l: Vec<f32>,
    /// a, then b.
    pub ab: Vec<f32>,
}

impl Sample {
    /// Converts a picture; `stock` says what its grey version looks like.
    pub fn new(picture: &RgbImage, stock: Stock) -> Self {
        let count = picture.as_raw().len() / 3;
        let mut sample = Self {
            l: Vec::with_capacity(count),
            ab: vec![0.; 2 * count],
        };
        let (a_plane, b_plane) = sample.ab.split_at_mut(count);
        for ((pixel, to_a), to_b) in picture.pixels().zip(a_plane).zip(b_plane) {
            let rgb = pixel.0.map(|v| f32::from(v) / 255.);
            let [l, a, b] = color::lab_from_srgb(rgb);
            sample
                .l
                .push(color::network_from_l(stock.lightness(rgb, l)));
            *to_a = color::network_from_ab(a);
            *to_b = color::network_from_ab(b);
        }
        sample
    }
}

/// Samples stacked: the loader's product.
pub struct Batch {
    /// `[N, H, W, 1]`, network units.
    pub l: Tensor,
    /// `[N, H, W, 2]`, network units.
    pub ab: Tensor,
}

impl Batch {
    /// Stacks samples of `height` x `width`.
    ///
    /// # Errors
    /// A sample of another size.
    pub fn stack(samples: &[Sample], height: usize, width: usize) -> Result<Self> {
        let n = samples.len();
        let plane = height * width;
        let l: Vec<f32> = samples.iter().flat_map(|s| s.l.iter().copied()).collect();
        let both = |s: &'_ Sample| -> Vec<f32> {
            let (a, b) = s.ab.split_at(plane);
            a.iter().zip(b).flat_map(|(a, b)| [*a, *b]).collect()
        };
        let ab: Vec<f32> = samples.iter().flat_map(both).collect();
        Ok(Self {
            l: Tensor::from_vec(l, (n, height, width, 1), &Device::Cpu)?,
            ab: Tensor::from_vec(ab, (n, height, width, 2), &Device::Cpu)?,
        })
    }
}

/// What the loader needs to know.
#[derive(Clone, Debug)]
pub struct LoaderOptions {
    /// Side of the square crops.
    pub size: usize,
    /// Samples in a batch.
    pub batch: usize,
    /// Smallest crop, as a share of the photograph's short side; 1 is the largest.
    pub smallest_crop: f64,
    /// Whether the grey version is drawn by [`Stock::random`]; else it is always ideal.
    pub film_stocks: bool,
    /// Seed of every choice.
    pub seed: u64,
    /// Bytes of decoded photographs to keep, by all threads together; those beyond are decoded at every visit.
    pub cache: usize,
}

/// Batches in order, made ahead by threads of their own, which end when it is dropped.
pub struct Loader {
    lanes: Vec<Receiver<Result<Batch>>>,
    next: usize,
    skipped: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Loader {
    /// Starts `threads` threads that make the batches of steps `first`, `first + 1`, ... from `photos`; also gives the
    /// threads, to be joined.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start<'scope>(
        stages: &Stages<'scope, '_>,
        photos: &[PathBuf],
        options: &LoaderOptions,
        first: u64,
        threads: u64,
    ) -> Result<(Self, Vec<Stage<'scope, ()>>)> {
        let skipped = Arc::default();
        let cache = Arc::new(Cache::new(photos.len(), options.cache));
        let (mut lanes, mut running) = (Vec::new(), Vec::new());
        // Thread t makes every threads-th batch: order is exact without a reorder buffer.
        for lane in 0..threads {
            let (sender, receiver) = stage::edge(1);
            let mut maker = Maker {
                photos: photos.to_vec(),
                options: options.clone(),
                order: (u64::MAX, Vec::new()),
                cache: Arc::clone(&cache),
                skipped: Arc::clone(&skipped),
            };
            running.push(stages.spawn("load", move || {
                let mut step = first + lane;
                while sender.send(Item::Frame(maker.batch(step))).is_ok() {
                    step += threads;
                }
                Ok(())
            })?);
            lanes.push(receiver);
        }
        Ok((
            Self {
                lanes,
                next: 0,
                skipped,
            },
            running,
        ))
    }

    /// The next batch.
    ///
    /// # Errors
    /// [`Error::Train`] where no photograph can be decoded.
    pub fn next_batch(&mut self) -> Result<Batch> {
        let lane = &self.lanes[self.next % self.lanes.len()];
        self.next += 1;
        match lane.recv() {
            Some(Item::Frame(batch)) => batch,
            _ => Err(Error::Disconnected),
        }
    }

    /// Photographs that were found damaged so far.
    pub fn skipped(&self) -> Vec<PathBuf> {
        let skipped = self.skipped.lock().unwrap_or_else(|e| e.into_inner());
        skipped.iter().cloned().collect()
    }
}

/// One loader thread's state.
struct Maker {
    photos: Vec<PathBuf>,
    options: LoaderOptions,
    /// An epoch and its order of the photographs.
    order: (u64, Vec<u32>),
    cache: Arc<Cache>,
    skipped: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Maker {
    fn batch(&mut self, step: u64) -> Result<Batch> {
        let LoaderOptions { batch, size, .. } = self.options;
        let samples: Vec<_> = (0..batch as u64)
            .map(|i| self.sample(step * batch as u64 + i))
            .collect::<Result<_>>()?;
        Batch::stack(&samples, size, size)
    }

    /// The sample at `position` of the endless sequence of epochs. A damaged photograph is replaced by the one after.
    fn sample(&mut self, position: u64) -> Result<Sample> {
        let mut rng = stream(self.options.seed, &format!("sample {position}"));
        let count = self.photos.len();
        for attempt in 0..count as u64 {
            let index = self.photo(position + attempt);
            match self.cache.open(index, &self.photos[index]) {
                Ok(photo) => return Ok(self.cropped(&photo, &mut rng)),
                Err(_) => {
                    let mut skipped = self.skipped.lock().unwrap_or_else(|e| e.into_inner());
                    skipped.insert(self.photos[index].clone());
                }
            }
        }
        Err(Error::Train(
            "not one of the photographs can be decoded".into(),
        ))
    }

    fn photo(&mut self, position: u64) -> usize {
        let count = self.photos.len() as u64;
        let epoch = position / count;
        if self.order.0 != epoch {
            let mut order: Vec<u32> = (0..count as u32).collect();
            order.shuffle(&mut stream(self.options.seed, &format!("epoch {epoch}")));
            self.order = (epoch, order);
        }
        self.order.1[(position % count) as usize] as usize
    }

    fn cropped(&self, photo: &RgbImage, rng: &mut ChaCha8Rng) -> Sample {
        let LoaderOptions {
            size,
            smallest_crop,
            film_stocks,
            ..
        } = self.options;
        let (w, h) = photo.dimensions();
        let share = smallest_crop + (1. - smallest_crop) * rng.random::<f64>();
        let side = ((f64::from(w.min(h)) * share) as u32).max(1);
        let (x, y) = (
            rng.random_range(0..=w - side),
            rng.random_range(0..=h - side),
        );
        let crop = imageops::crop_imm(photo, x, y, side, side);
        let mut crop = imageops::resize(
            &*crop,
            size as u32,
            size as u32,
            imageops::FilterType::Triangle,
        );
        if rng.random() {
            imageops::flip_horizontal_in_place(&mut crop);
        }
        let stock = if film_stocks {
            Stock::random(rng)
        } else {
            Stock::Ideal
        };
        Sample::new(&crop, stock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: u32 = 24;
    /// Bytes of one photograph.
    const ONE: usize = (SIDE * SIDE * 3) as usize;

    /// A maker over seven photographs, the last of them damaged, that keeps `cache` bytes.
    fn maker(folder: &Path, cache: usize) -> Maker {
        let paint = |i: u32| {
            let path = folder.join(format!("{i}.png"));
            let picture = RgbImage::from_fn(SIDE, SIDE, |x, y| {
                image::Rgb([
                    (x * 9 + i) as u8,
                    (y * 7 + 3 * i) as u8,
                    (x * y + 40 * i) as u8,
                ])
            });
            picture.save(&path).unwrap();
            path
        };
        let mut photos: Vec<_> = (0..6).map(paint).collect();
        photos.push(folder.join("damaged.png"));
        fs::write(&photos[6], b"no picture").unwrap();
        Maker {
            cache: Arc::new(Cache::new(photos.len(), cache)),
            photos,
            options: LoaderOptions {
                size: 8,
                batch: 3,
                smallest_crop: 0.5,
                film_stocks: true,
                seed: 5,
                cache,
            },
            order: (u64::MAX, Vec::new()),
            skipped: Arc::default(),
        }
    }

    fn values(batch: Batch) -> (Vec<f32>, Vec<f32>) {
        let flat = |t: Tensor| t.flatten_all().unwrap().to_vec1().unwrap();
        (flat(batch.l), flat(batch.ab))
    }

    #[test]
    fn batches_do_not_depend_on_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let mut without = maker(folder.path(), 0);
        let mut some = maker(folder.path(), 2 * ONE);
        let mut all = maker(folder.path(), usize::MAX);
        for step in 0..12 {
            let truth = values(without.batch(step).unwrap());
            assert_eq!(values(some.batch(step).unwrap()), truth, "step {step}");
            assert_eq!(values(all.batch(step).unwrap()), truth, "step {step}");
        }
        assert_eq!(
            *all.skipped.lock().unwrap(),
            *without.skipped.lock().unwrap()
        );
    }

    #[test]
    fn the_cache_keeps_its_limit_and_fills_it() {
        let folder = tempfile::tempdir().unwrap();
        for (limit, fit) in [
            (0, 0),
            (ONE - 1, 0),
            (2 * ONE, 2),
            (4 * ONE - 1, 3),
            (usize::MAX, 6),
        ] {
            let maker = maker(folder.path(), limit);
            let visit = || {
                for (number, path) in maker.photos.iter().enumerate() {
                    assert_eq!(maker.cache.open(number, path).is_ok(), number < 6);
                }
            };
            // Two threads that meet at every photograph; then one, for what neither kept while both had it.
            std::thread::scope(|scope| {
                scope.spawn(visit);
                scope.spawn(visit);
            });
            visit();
            let kept: Vec<_> = maker
                .cache
                .photos
                .iter()
                .filter_map(OnceLock::get)
                .collect();
            let bytes: usize = kept.iter().map(|photo| photo.as_raw().len()).sum();
            assert!(bytes <= limit);
            assert_eq!(bytes, maker.cache.kept.load(Ordering::Relaxed));
            assert_eq!(kept.len(), fit, "of a limit of {limit}");
        }
    }

    #[test]
    fn a_kept_photograph_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let maker = maker(folder.path(), ONE);
        let first = maker.cache.open(0, &maker.photos[0]).unwrap();
        maker.cache.open(1, &maker.photos[1]).unwrap();
        fs::remove_file(&maker.photos[0]).unwrap();
        fs::remove_file(&maker.photos[1]).unwrap();
        assert_eq!(maker.cache.open(0, &maker.photos[0]).unwrap(), first);
        assert!(maker.cache.open(1, &maker.photos[1]).is_err());
    }
}
