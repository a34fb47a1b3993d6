//! The user's hand on a running pipeline, and what it tells the user.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

use crate::error::{Error, Result};

/// The user's hand on a running pipeline: please finish, stop at once, and where is it now. Cheap to clone.
#[derive(Clone)]
pub struct Controls {
    finish: Arc<AtomicBool>,
    abort: Arc<AtomicBool>,
    /// Bits of the factor on the colours' strength.
    saturation: Arc<AtomicU32>,
    dropped: Arc<AtomicU64>,
    level: Arc<AtomicUsize>,
    progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
}

/// Where a run is: after each encoded frame.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Frames encoded so far.
    pub frames: u64,
    /// Time of the last one, in seconds of film.
    pub seconds: f64,
}

impl Default for Controls {
    fn default() -> Self {
        Self {
            finish: Arc::default(),
            abort: Arc::default(),
            saturation: Arc::new(1f32.to_bits().into()),
            dropped: Arc::default(),
            level: Arc::default(),
            progress: None,
        }
    }
}

impl Controls {
    /// Controls that report progress to `f`, which is called from the encode stage after each frame.
    pub fn with_progress(self, f: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self {
            progress: Some(Arc::new(f)),
            ..self
        }
    }

    /// The source stops, everything that was read is coloured, the output is playable.
    pub fn finish(&self) {
        self.finish.store(true, Ordering::Relaxed);
    }

    /// Stop at once; unfinished outputs are removed.
    pub fn abort(&self) {
        self.abort.store(true, Ordering::Relaxed);
    }

    /// Whether [`Controls::finish`] was called.
    pub fn is_finishing(&self) -> bool {
        self.finish.load(Ordering::Relaxed)
    }

    /// From the next frame on the colours are this many times as strong as they were asked to be; 1 at first.
    pub fn saturate(&self, factor: f32) {
        self.saturation.store(factor.to_bits(), Ordering::Relaxed);
    }

    /// What [`Controls::saturate`] has set.
    pub fn saturation(&self) -> f32 {
        f32::from_bits(self.saturation.load(Ordering::Relaxed))
    }

    /// Frames that a live run has left out so far, for newer ones had come.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// How far a live run has gone down in what it asks of the machine, an index of [`crate::colorize::LEVELS`].
    pub fn level(&self) -> usize {
        self.level.load(Ordering::Relaxed)
    }

    pub(crate) fn levels(&self) -> Arc<AtomicUsize> {
        self.level.clone()
    }

    pub(crate) fn drops(&self) -> Arc<AtomicU64> {
        self.dropped.clone()
    }

    /// The flag that [`Controls::finish`] raises, for a source that may have nothing to say when the user wants to end.
    pub fn finish_flag(&self) -> Arc<AtomicBool> {
        self.finish.clone()
    }

    /// The flag that [`Controls::abort`] raises, for code that blocks in the network or in a driver.
    pub fn abort_flag(&self) -> Arc<AtomicBool> {
        self.abort.clone()
    }

    pub(crate) fn report(&self, progress: Progress) {
        if let Some(f) = &self.progress {
            f(progress);
        }
    }

    /// [`Error::Stopped`] once the user wants to stop at once.
    pub(crate) fn check(&self) -> Result<()> {
        if self.abort.load(Ordering::Relaxed) {
            Err(Error::Stopped)
        } else {
            Ok(())
        }
    }
}
