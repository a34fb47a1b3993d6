//! The user's hand on a running pipeline, and what it tells the user.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::error::{Error, Result};

/// The user's hand on a running pipeline: please finish, stop at once, and where is it now. Cheap to clone.
#[derive(Clone, Default)]
pub struct Controls {
    finish: Arc<AtomicBool>,
    abort: Arc<AtomicBool>,
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
