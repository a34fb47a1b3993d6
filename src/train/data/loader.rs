//! Loader: batches made ahead, on threads of their own, in exact order.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use image::{RgbImage, imageops};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{
    Augment, Batch, Photo, Sample, cache::Cache, photo::reason, resize::resized, sampler::Sampler,
};
use crate::{
    error::{Error, Result},
    frame::Item,
    net::{grain, params::stream},
    stage::{self, Receiver, Stage, Stages},
};

/// Short side of the pictures that are kept, as a multiple of the largest batch's: crops of two thirds lose nothing.
const KEPT_SIDE: f64 = 1.5;

/// What batches look like from a step on, up to the next phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    /// The first step, from 0; the first phase begins at 0.
    pub from: u64,
    /// Side of the square crops in pixels.
    pub size: usize,
    /// Samples in a batch.
    pub batch: usize,
}

/// What the loader needs to know.
#[derive(Clone, Debug)]
pub struct LoaderOptions {
    /// What batches look like, in the order of their first steps; at least one phase.
    pub phases: Vec<Phase>,
    /// What is done to pictures.
    pub augment: Augment,
    /// Seed of every choice.
    pub seed: u64,
    /// Bytes of decoded photographs to keep, by all threads together; those beyond are decoded at every visit.
    pub cache: usize,
}

impl LoaderOptions {
    /// The phase of a step, and the position of its first sample in the endless sequence.
    fn at(&self, step: u64) -> Option<(&Phase, u64)> {
        let mut position = 0;
        for (number, phase) in self.phases.iter().enumerate() {
            let end = self
                .phases
                .get(number + 1)
                .map_or(u64::MAX, |next| next.from);
            if step < end {
                return Some((phase, position + (step - phase.from) * phase.batch as u64));
            }
            position += (end - phase.from) * phase.batch as u64;
        }
        None
    }

    fn validate(&self) -> Result<()> {
        let rising = self.phases.windows(2).all(|two| two[0].from < two[1].from);
        let empty = |phase: &Phase| phase.size == 0 || phase.batch == 0;
        let begins = self.phases.first().is_some_and(|phase| phase.from == 0);
        if !rising || !begins || self.phases.iter().any(empty) {
            return Err(Error::Usage(
                "phases must begin at step 0, each after the one before, with sizes and batches of at least 1".into(),
            ));
        }
        self.augment.validate()
    }
}

/// Photographs that were found damaged, by name, with the reason.
type Skipped = Arc<Mutex<BTreeMap<String, String>>>;

/// Batches in order, made ahead by threads of their own, which end when it is dropped.
pub struct Loader {
    lanes: Vec<Receiver<Result<Batch>>>,
    next: usize,
    skipped: Skipped,
    waited: Duration,
}

impl Loader {
    /// Starts `threads` threads that make the batches of steps `first`, `first + 1`, ... from `photos`; also gives the
    /// threads, to be joined.
    ///
    /// # Errors
    /// [`Error::Usage`] for phases or strengths out of range, [`Error::Train`] without photographs; the system refuses
    /// a thread.
    pub fn start<'scope>(
        stages: &Stages<'scope, '_>,
        photos: &[Photo],
        options: &LoaderOptions,
        first: u64,
        threads: u64,
    ) -> Result<(Self, Vec<Stage<'scope, ()>>)> {
        options.validate()?;
        if photos.is_empty() {
            return Err(Error::Train(
                "there are no photographs to learn from".into(),
            ));
        }
        let maker = Maker::new(photos, options);
        let (mut lanes, mut running) = (Vec::new(), Vec::new());
        // Thread t makes every threads-th batch: order is exact without a reorder buffer.
        for lane in 0..threads {
            let (sender, receiver) = stage::edge(1);
            let mut maker = maker.twin();
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
                skipped: maker.skipped,
                waited: Duration::ZERO,
            },
            running,
        ))
    }

    /// The next batch.
    ///
    /// # Errors
    /// [`Error::Train`] where no photograph can be decoded.
    pub fn next_batch(&mut self) -> Result<Batch> {
        let since = Instant::now();
        let lane = &self.lanes[self.next % self.lanes.len()];
        self.next += 1;
        let item = lane.recv();
        self.waited += since.elapsed();
        match item {
            Some(Item::Frame(batch)) => batch,
            _ => Err(Error::Disconnected),
        }
    }

    /// Names of photographs that were found damaged so far, with the reason.
    pub fn skipped(&self) -> Vec<(String, String)> {
        let skipped = self.skipped.lock().unwrap_or_else(|e| e.into_inner());
        skipped.clone().into_iter().collect()
    }

    /// Time that [`Loader::next_batch`] has waited for batches so far.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

/// One loader thread's state.
struct Maker {
    photos: Arc<[Photo]>,
    options: LoaderOptions,
    sampler: Sampler,
    cache: Arc<Cache>,
    skipped: Skipped,
}

impl Maker {
    fn new(photos: &[Photo], options: &LoaderOptions) -> Self {
        let largest = options.phases.iter().map(|phase| phase.size).max();
        let side = (KEPT_SIDE * largest.unwrap_or(1) as f64).ceil() as u32;
        Self {
            photos: photos.into(),
            sampler: Sampler::new(photos, options.seed),
            cache: Arc::new(Cache::new(photos.len(), side, options.cache)),
            options: options.clone(),
            skipped: Skipped::default(),
        }
    }

    /// Another with the same cache and the same list of what is damaged.
    fn twin(&self) -> Self {
        Self {
            photos: Arc::clone(&self.photos),
            options: self.options.clone(),
            sampler: Sampler::new(&self.photos, self.options.seed),
            cache: Arc::clone(&self.cache),
            skipped: Arc::clone(&self.skipped),
        }
    }

    fn batch(&mut self, step: u64) -> Result<Batch> {
        let (phase, first) = self
            .options
            .at(step)
            .ok_or_else(|| Error::internal("load", format!("no phase covers step {step}")))?;
        let Phase { size, batch, .. } = *phase;
        let samples: Vec<_> = (first..first + batch as u64)
            .map(|position| self.sample(position, size))
            .collect::<Result<_>>()?;
        Batch::stack(&samples, size, size)
    }

    /// The sample at `position` of the endless sequence. A damaged photograph is replaced by the one after.
    fn sample(&mut self, position: u64, size: usize) -> Result<Sample> {
        let mut rng = stream(self.options.seed, &format!("sample {position}"));
        // Every picture is met within so many positions.
        let round = self.sampler.longest_wait();
        for position in position..position + round {
            let number = self.sampler.photo(position);
            match self.cache.open(number, &self.photos[number]) {
                Ok(picture) => return self.drawn(&picture, size, &mut rng),
                Err(e) => {
                    let mut skipped = self.skipped.lock().unwrap_or_else(|e| e.into_inner());
                    skipped.insert(self.photos[number].name(), reason(e));
                }
            }
        }
        Err(Error::Train(
            "not one of the photographs can be decoded".into(),
        ))
    }

    /// A crop of a picture, mirrored perhaps, on a film that has seen better days.
    fn drawn(&self, picture: &RgbImage, size: usize, rng: &mut ChaCha8Rng) -> Result<Sample> {
        let augment = &self.options.augment;
        let (w, h) = picture.dimensions();
        let share = augment.crop + (1. - augment.crop) * rng.random::<f64>();
        let side = ((f64::from(w.min(h)) * share) as u32).max(1);
        let (x, y) = (
            rng.random_range(0..=w - side),
            rng.random_range(0..=h - side),
        );
        let mut crop = resized(picture, (x, y, side, side), (size as u32, size as u32))?;
        let mirrored: bool = rng.random();
        if mirrored && augment.mirror {
            imageops::flip_horizontal_in_place(&mut crop);
        }
        let mut sample = Sample::new(&crop, augment.stock(rng));
        augment.wear(&mut sample.l, size, rng);
        sample.l = grain::removed(&sample.l, (size, size));
        Ok(sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Tensor;
    use std::{fs, path::Path};

    const SIDE: u32 = 24;

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
        let mut paths: Vec<_> = (0..6).map(paint).collect();
        paths.push(folder.join("damaged.png"));
        fs::write(&paths[6], b"no picture").unwrap();
        let photo = |path| Photo::unseen(path, "drawn", [0; 32]);
        let photos: Vec<_> = paths.into_iter().map(photo).collect();
        let phase = |from, size, batch| Phase { from, size, batch };
        Maker::new(
            &photos,
            &LoaderOptions {
                phases: vec![phase(0, 8, 3), phase(5, 12, 2), phase(7, 16, 1)],
                augment: Augment::default(),
                seed: 5,
                cache,
            },
        )
    }

    fn values(batch: Batch) -> [Vec<f32>; 3] {
        let flat = |t: Tensor| t.flatten_all().unwrap().to_vec1().unwrap();
        [flat(batch.l), flat(batch.ab), flat(batch.true_l)]
    }

    #[test]
    fn batches_do_not_depend_on_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let one = (SIDE * SIDE * 3) as usize;
        let mut without = maker(folder.path(), 0);
        let mut some = maker(folder.path(), 2 * one);
        let mut all = maker(folder.path(), usize::MAX);
        for step in 0..12 {
            let truth = values(without.batch(step).unwrap());
            assert_eq!(values(some.batch(step).unwrap()), truth, "step {step}");
            assert_eq!(values(all.batch(step).unwrap()), truth, "step {step}");
        }
        let skipped = without.skipped.lock().unwrap().clone();
        assert_eq!(*all.skipped.lock().unwrap(), skipped);
        assert_eq!(skipped.len(), 1);
    }

    #[test]
    fn phases_follow_each_other_without_a_gap_in_the_sequence() {
        let folder = tempfile::tempdir().unwrap();
        let mut maker = maker(folder.path(), usize::MAX);
        let mut next = 0;
        for step in 0..10 {
            let (phase, first) = maker.options.at(step).unwrap();
            assert_eq!(first, next, "step {step}");
            next += phase.batch as u64;
            let shape = (phase.batch, phase.size, phase.size, 2);
            assert_eq!(maker.batch(step).unwrap().ab.dims4().unwrap(), shape);
        }
        assert_eq!(next, 5 * 3 + 2 * 2 + 3);
        for wrong in [
            vec![],
            vec![(1, 8, 3)],
            vec![(0, 8, 3), (0, 9, 3)],
            vec![(0, 8, 0)],
        ] {
            let phase = |&(from, size, batch): &_| Phase { from, size, batch };
            maker.options.phases = wrong.iter().map(phase).collect();
            assert!(maker.options.validate().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn batches_do_not_depend_on_the_number_of_threads_or_where_one_begins() {
        let folder = tempfile::tempdir().unwrap();
        let mut maker = maker(folder.path(), 0);
        let truth: Vec<_> = (0..9)
            .map(|step| values(maker.batch(step).unwrap()))
            .collect();
        for (threads, first) in [(1, 0), (2, 0), (3, 4)] {
            std::thread::scope(|scope| {
                let mut stages = Stages::new(scope);
                let started = Loader::start(&stages, &maker.photos, &maker.options, first, threads);
                let (mut loader, running) = started.unwrap();
                for step in first..9 {
                    let batch = values(loader.next_batch().unwrap());
                    assert_eq!(
                        batch, truth[step as usize],
                        "{threads} threads, step {step}"
                    );
                }
                assert!(loader.waited() > Duration::ZERO);
                assert!(loader.skipped()[0].0.ends_with("damaged.png"));
                drop(loader);
                running.into_iter().for_each(|stage| _ = stages.join(stage));
                stages.finish().unwrap();
            });
        }
    }

    #[test]
    fn the_look_of_film_leaves_the_truth_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut worn = maker(folder.path(), usize::MAX);
        let mut clean = maker(folder.path(), usize::MAX);
        clean.options.augment.film = 0.;
        let mut changed = 0;
        for step in 0..8 {
            let size = clean.options.at(step).unwrap().0.size;
            let [worn, clean] = [&mut worn, &mut clean].map(|m| values(m.batch(step).unwrap()));
            assert_eq!((&worn[1], &worn[2]), (&clean[1], &clean[2]));
            let plane = (size, size);
            let seen = clean[2].chunks_exact(size * size);
            let seen: Vec<f32> = seen.flat_map(|l| grain::removed(l, plane)).collect();
            assert_eq!(clean[0], seen);
            changed += usize::from(worn[0] != clean[0]);
        }
        assert!(changed > 5, "{changed}");
    }
}
