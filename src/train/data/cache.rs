//! Cache: pictures as the loader wants them, kept within stated memory.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use image::RgbImage;

use super::{Photo, resize::shrunk};
use crate::error::Result;

/// Decoded photographs, shrunk to what crops need, kept first come, first kept, until they fill a limit; those beyond
/// it are decoded at every visit. What a visitor gets does not depend on it, only how soon.
pub(super) struct Cache {
    /// The short side to which larger photographs are shrunk.
    short_side: u32,
    /// Bytes of pixels that may be kept, and that are.
    limit: usize,
    kept: AtomicUsize,
    photos: Vec<OnceLock<Arc<RgbImage>>>,
}

impl Cache {
    pub fn new(photos: usize, short_side: u32, limit: usize) -> Self {
        Self {
            short_side,
            limit,
            kept: AtomicUsize::new(0),
            photos: (0..photos).map(|_| OnceLock::new()).collect(),
        }
    }

    /// The photograph of this number. Nobody waits for another's decoding: at worst both do it.
    pub fn open(&self, number: usize, photo: &Photo) -> Result<Arc<RgbImage>> {
        let place = &self.photos[number];
        if let Some(picture) = place.get() {
            return Ok(Arc::clone(picture));
        }
        let picture = Arc::new(shrunk(photo.open()?, self.short_side)?);
        let size = picture.as_raw().len();
        let room = |kept: usize| kept.checked_add(size).filter(|sum| *sum <= self.limit);
        let reserved = self
            .kept
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room);
        if reserved.is_ok() && place.set(Arc::clone(&picture)).is_err() {
            // Another thread was faster, and has counted it.
            self.kept.fetch_sub(size, Ordering::Relaxed);
        }
        Ok(picture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path};

    const SIDE: u32 = 24;
    /// Bytes of one photograph.
    const ONE: usize = (SIDE * SIDE * 3) as usize;

    /// Six photographs and a file that is none.
    fn photos(folder: &Path) -> Vec<Photo> {
        let paint = |i: u32| {
            let path = folder.join(format!("{i}.png"));
            let shade = |x: u32, y: u32| image::Rgb([x as u8, y as u8, 40 * i as u8]);
            RgbImage::from_fn(SIDE, SIDE, shade).save(&path).unwrap();
            path
        };
        let mut paths: Vec<_> = (0..6).map(paint).collect();
        paths.push(folder.join("damaged.png"));
        fs::write(&paths[6], b"no picture").unwrap();
        let photo = |path| Photo::unseen(path, "", [0; 32]);
        paths.into_iter().map(photo).collect()
    }

    #[test]
    fn the_cache_keeps_its_limit_and_fills_it() {
        let folder = tempfile::tempdir().unwrap();
        let photos = photos(folder.path());
        for (limit, fit) in [
            (0, 0),
            (ONE - 1, 0),
            (2 * ONE, 2),
            (4 * ONE - 1, 3),
            (usize::MAX, 6),
        ] {
            let cache = Cache::new(photos.len(), SIDE, limit);
            let visit = || {
                for (number, photo) in photos.iter().enumerate() {
                    assert_eq!(cache.open(number, photo).is_ok(), number < 6);
                }
            };
            // Two threads that meet at every photograph; then one, for what neither kept while both had it.
            std::thread::scope(|scope| {
                scope.spawn(visit);
                scope.spawn(visit);
            });
            visit();
            let kept: Vec<_> = cache.photos.iter().filter_map(OnceLock::get).collect();
            let bytes: usize = kept.iter().map(|photo| photo.as_raw().len()).sum();
            assert!(bytes <= limit);
            assert_eq!(bytes, cache.kept.load(Ordering::Relaxed));
            assert_eq!(kept.len(), fit, "of a limit of {limit}");
        }
    }

    #[test]
    fn a_kept_photograph_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let photos = photos(folder.path());
        let cache = Cache::new(photos.len(), SIDE, ONE);
        let first = cache.open(0, &photos[0]).unwrap();
        cache.open(1, &photos[1]).unwrap();
        fs::remove_file(photos[0].name()).unwrap();
        fs::remove_file(photos[1].name()).unwrap();
        assert_eq!(cache.open(0, &photos[0]).unwrap(), first);
        assert!(cache.open(1, &photos[1]).is_err());
    }
}
