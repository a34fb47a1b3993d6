//! Scout: frames wait here until it is known, from luma alone, where scenes begin, how they move, and which of them the
//! network is to see; and which are in colour already.

use std::{collections::VecDeque, time::Instant};

use super::{
    ease::{Ease, LEVELS},
    keep::Keeper,
};
use crate::{
    error::Result,
    frame::{Decoded, Planned, Thumb, VideoInfo},
    media::Thumbnailer,
    temporal::{Plan, Planner, Sketch},
};

/// Frames a second of a film that does not say.
const USUAL_RATE: f64 = 25.;

/// Goes before the network.
pub struct Scout {
    /// Looks ahead; nobody does where every frame is coloured by itself.
    ahead: Option<Lookout>,
    keeper: Keeper,
    /// One a size; none for a network that looks at no pixels.
    thumbs: Vec<Thumbnailer>,
    /// In a live run: how much is asked of the machine.
    ease: Option<Ease>,
    /// Which of the sizes is used.
    size: usize,
}

impl Scout {
    /// With what looks ahead, decides on a film's own colours, and makes what the network sees.
    /// `thumbs` is of one size, or with `ease` of one for each of its levels.
    pub fn new(
        ahead: Option<Lookout>,
        keeper: Keeper,
        thumbs: Vec<Thumbnailer>,
        ease: Option<Ease>,
    ) -> Self {
        Self {
            ahead,
            keeper,
            thumbs,
            ease,
            size: 0,
        }
    }

    /// Takes the next frame; gives the one that was waiting longest, once enough have come to tell.
    ///
    /// # Errors
    /// Nobody can read the picture's pixel format.
    pub fn push(&mut self, frame: Decoded) -> Result<Option<Planned>> {
        let level = self
            .ease
            .as_mut()
            .and_then(|ease| ease.frame(Instant::now()));
        if let (Some(level), Some(ahead)) = (level, &mut self.ahead) {
            ahead.planner.slow(LEVELS[level].slower);
            self.size = level;
        }
        let known = match &mut self.ahead {
            Some(ahead) => ahead.push(frame)?,
            None => {
                let first = frame.index == 0;
                Some((frame, Plan::alone(first)))
            }
        };
        self.planned(known)
    }

    /// At the end of the film: the frames that still wait, one a call.
    ///
    /// # Errors
    /// As for [`Scout::push`].
    pub fn finish(&mut self) -> Result<Option<Planned>> {
        let known = self.ahead.as_mut().and_then(Lookout::finish);
        self.planned(known)
    }

    fn planned(&mut self, known: Option<(Decoded, Plan)>) -> Result<Option<Planned>> {
        let Some((frame, mut plan)) = known else {
            return Ok(None);
        };
        let own = self.keeper.keeps(&frame.picture, &mut plan)?;
        let key = plan.key && !own;
        let thumb = match self.thumbs.get_mut(self.size) {
            Some(thumbs) if key => Some(thumbs.thumb(&frame.picture)?),
            _ => key.then(Thumb::empty),
        };
        Ok(Some(Planned {
            frame,
            thumb,
            cut: plan.cut,
            own,
            motion: plan.motion,
        }))
    }
}

/// Looks ahead of the network.
pub struct Lookout {
    planner: Planner,
    sketcher: Thumbnailer,
    waiting: VecDeque<Decoded>,
    /// Frames a tick.
    rate: f64,
}

impl Lookout {
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

    fn push(&mut self, frame: Decoded) -> Result<Option<(Decoded, Plan)>> {
        let small = self.sketcher.thumb(&frame.picture)?;
        let sketch = Sketch::new(&small.l, (small.width, small.height));
        let time = frame.pts as f64 * self.rate;
        self.waiting.push_back(frame);
        let plan = self.planner.push(sketch, time);
        Ok(plan.and_then(|plan| Some((self.waiting.pop_front()?, plan))))
    }

    fn finish(&mut self) -> Option<(Decoded, Plan)> {
        let plan = self.planner.finish()?;
        Some((self.waiting.pop_front()?, plan))
    }
}
