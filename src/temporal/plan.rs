//! Plan: from luma alone, where scenes begin, how everything moves, and which frames the network is to see.

use std::{collections::VecDeque, sync::Arc};

use super::{
    cut::{self, Cuts},
    motion::Field,
    sketch::Sketch,
    way::Way,
};

/// Share of the picture that cannot be trusted beyond which the network looks again.
const LOST: f32 = 0.3;

/// What is known of a frame before the network runs.
pub struct Plan {
    /// It begins a scene: nothing of what was before counts.
    pub cut: bool,
    /// The network is to see it.
    pub key: bool,
    /// How it moves, where that was looked at.
    pub motion: Option<Motion>,
}

impl Plan {
    /// Of a frame that has nothing to do with others; whether it is the film's `first`.
    pub fn alone(first: bool) -> Self {
        Self {
            cut: first,
            key: true,
            motion: None,
        }
    }
}

/// How a frame moves.
#[derive(Clone, Debug)]
pub struct Motion {
    /// Its small grey picture.
    pub sketch: Arc<Sketch>,
    /// From here to the last key frame before; of the first frame of a scene to itself.
    pub way: Way,
    /// From the frame before to this one, where colour is carried back as well as on.
    pub from_before: Option<Field>,
}

/// Plans frames in their order, some frames late.
pub struct Planner {
    interval: f64,
    /// How many times as rarely the network looks for now.
    slower: f64,
    /// Whether colour comes back from key frames that lie ahead.
    back: bool,
    cuts: Cuts,
    /// Frames without a verdict yet, each with its time.
    waiting: VecDeque<(Arc<Sketch>, f64)>,
    before: Option<Before>,
}

/// What is remembered of the frames before.
struct Before {
    /// The last one.
    sketch: Arc<Sketch>,
    /// The last key frame.
    key: Arc<Sketch>,
    /// From the last frame to it.
    way: Field,
    /// Number of the interval that the last frame lies in.
    interval: f64,
}

impl Planner {
    /// The network sees a frame of every `interval`, in the unit of the times that are given; by time, not by count,
    /// so that a run that begins anywhere chooses the same ones. Verdicts come `ahead` frames late.
    pub fn new(interval: f64, ahead: usize) -> Self {
        Self {
            interval,
            slower: 1.,
            back: ahead > 0,
            cuts: Cuts::new(ahead),
            waiting: VecDeque::new(),
            before: None,
        }
    }

    /// From the next frame on the network looks this many times as rarely as it was told to at first.
    pub fn slow(&mut self, times: f64) {
        self.slower = times.max(1.);
    }

    /// Takes the next frame. Gives what is known of the one that was waiting longest, once enough have come.
    pub fn push(&mut self, sketch: Sketch, time: f64) -> Option<Plan> {
        let small = sketch.shrunk(cut::SIZE);
        self.waiting.push_back((Arc::new(sketch), time));
        let cut = self.cuts.push(small)?;
        self.decide(cut)
    }

    /// At the end of the film: what is still due, one a call.
    pub fn finish(&mut self) -> Option<Plan> {
        let cut = self.cuts.finish()?;
        self.decide(cut)
    }

    fn decide(&mut self, cut: bool) -> Option<Plan> {
        let (sketch, time) = self.waiting.pop_front()?;
        // A hair later, so that times that are rounded do not fall into the interval before.
        let interval = (time / (self.interval * self.slower) + 1e-3).floor();
        let before = self.before.take().filter(|_| !cut);
        let (key, motion) = match &before {
            None => (true, Motion::beginning(sketch.clone())),
            Some(before) => {
                let to_before = Field::between(&sketch, &before.sketch);
                let way = Way::new(to_before.then(&before.way), &sketch, &before.key);
                let key = interval != before.interval || way.lost() > LOST;
                let from_before = self.back.then(|| to_before.back(&sketch, &before.sketch));
                let motion = Motion {
                    sketch: sketch.clone(),
                    way,
                    from_before,
                };
                (key, motion)
            }
        };
        let (at, way) = match before {
            Some(before) if !key => (before.key, motion.way.field.clone()),
            _ => (sketch.clone(), Field::still(sketch.size())),
        };
        self.before = Some(Before {
            sketch,
            key: at,
            way,
            interval,
        });
        let motion = Some(motion);
        Some(Plan { cut, key, motion })
    }
}

impl Motion {
    fn beginning(sketch: Arc<Sketch>) -> Self {
        let still = Field::still(sketch.size());
        Self {
            way: Way::new(still.clone(), &sketch, &sketch),
            from_before: Some(still),
            sketch,
        }
    }
}
