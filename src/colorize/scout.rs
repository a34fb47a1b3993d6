//! Scout: frames wait here until it is known, from luma alone, where scenes begin, how they move, and which of them the
//! network is to see.

use std::collections::VecDeque;

use crate::{
    error::Result,
    frame::{Decoded, VideoInfo},
    media::Thumbnailer,
    temporal::{Plan, Planner, Sketch},
};

/// Frames a second of a film that does not say.
const USUAL_RATE: f64 = 25.;

/// Looks ahead of the network.
pub struct Scout {
    planner: Planner,
    sketcher: Thumbnailer,
    waiting: VecDeque<Decoded>,
    /// Frames a tick.
    rate: f64,
}

impl Scout {
    /// For a film of this kind.
    pub fn new(info: &VideoInfo, planner: Planner) -> Self {
        let (width, height) = match info.rotation % 180 {
            90 => (info.display.1, info.display.0),
            _ => info.display,
        };
        // Motion is that of the picture as it is coded, which is the one that is coloured.
        let coded = VideoInfo {
            rotation: 0,
            ..info.clone()
        };
        let seconds = f64::from(info.time_base.0) / f64::from(info.time_base.1);
        let rate = info
            .frame_rate
            .map(|(num, den)| f64::from(num) / f64::from(den));
        let rate = rate.filter(|rate| rate.is_finite() && *rate > 0.);
        Self {
            planner,
            sketcher: Thumbnailer::new(&coded, Sketch::size_for(width, height)),
            waiting: VecDeque::new(),
            rate: seconds * rate.unwrap_or(USUAL_RATE),
        }
    }

    /// Takes the next frame; gives the one that was waiting longest, once enough have come to tell.
    ///
    /// # Errors
    /// Nobody can read the picture's pixel format.
    pub fn push(&mut self, frame: Decoded) -> Result<Option<(Decoded, Plan)>> {
        let small = self.sketcher.thumb(&frame.picture)?;
        let sketch = Sketch::new(&small.l, (small.width, small.height));
        let time = frame.pts as f64 * self.rate;
        self.waiting.push_back(frame);
        let plan = self.planner.push(sketch, time);
        Ok(plan.and_then(|plan| Some((self.waiting.pop_front()?, plan))))
    }

    /// At the end of the film: the frames that still wait, one a call.
    pub fn finish(&mut self) -> Option<(Decoded, Plan)> {
        let plan = self.planner.finish()?;
        Some((self.waiting.pop_front()?, plan))
    }
}
