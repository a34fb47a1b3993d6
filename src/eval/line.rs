//! Line: colour over time as `colorize` makes it, of one model by one temporal filter, without the pictures.

use std::collections::VecDeque;

use std::time::Instant;

use crate::{
    error::{Error, Result},
    frame::{AbMap, Decoded, Inferred, Steady, Thumb},
    media::Picture,
    temporal::{Pace, Plan, Planner, Row, Sketch, TemporalFilter},
};

/// Colours on their way through a temporal filter.
pub struct Line {
    planner: Option<Planner>,
    filter: Box<dyn TemporalFilter>,
    /// Colours of frames of which it is not known yet whether they are key frames.
    waiting: VecDeque<AbMap>,
    ready: VecDeque<AbMap>,
    came: u64,
    network_ran: Vec<bool>,
    residual: Vec<Option<f64>>,
}

impl Line {
    /// Through the filter of this row, with a key frame every `interval` frames.
    pub fn new(row: &Row, interval: usize) -> Self {
        Self {
            planner: row.planner(interval, Pace::Film),
            filter: (row.make)(interval, Pace::Film),
            waiting: VecDeque::new(),
            ready: VecDeque::new(),
            came: 0,
            network_ran: Vec::new(),
            residual: Vec::new(),
        }
    }

    /// Takes the next frame, with what the network says of it, which is used if it becomes a key frame.
    ///
    /// # Errors
    /// As for [`TemporalFilter::push`].
    pub fn push(&mut self, thumb: &Thumb, map: AbMap) -> Result<()> {
        let time = self.came as f64;
        let plan = match &mut self.planner {
            None => Some(Plan::alone(self.came == 0)),
            Some(planner) => planner.push(Sketch::new(&thumb.l, (thumb.width, thumb.height)), time),
        };
        self.waiting.push_back(map);
        self.came += 1;
        plan.map_or(Ok(()), |plan| self.planned(plan))
    }

    /// The film is over: all that is still held becomes ready.
    ///
    /// # Errors
    /// As for [`TemporalFilter::push`].
    pub fn finish(&mut self) -> Result<()> {
        while let Some(plan) = self.planner.as_mut().and_then(Planner::finish) {
            self.planned(plan)?;
        }
        let rest = self.filter.flush()?;
        self.ready
            .extend(rest.into_iter().filter_map(|Steady { ab, .. }| ab));
        Ok(())
    }

    fn planned(&mut self, Plan { cut, key, motion }: Plan) -> Result<()> {
        let Some(map) = self.waiting.pop_front() else {
            return Err(Error::internal("eval", "a plan without a frame"));
        };
        self.network_ran.push(key);
        let lost = motion.as_ref().map(|motion| motion.way.lost());
        self.residual.push(lost.map(f64::from));
        let index = self.came - self.waiting.len() as u64 - 1;
        let frame = Decoded {
            index,
            pts: index as i64,
            duration: 1,
            arrived: Instant::now(),
            picture: Picture::empty(),
        };
        let done = self.filter.push(Inferred {
            frame,
            cut,
            own: false,
            key,
            late: None,
            motion,
            ab: key.then_some(map),
        })?;
        self.ready
            .extend(done.into_iter().filter_map(|Steady { ab, .. }| ab));
        Ok(())
    }

    /// Frames whose colour is ready.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// The colour of the next frame, if it is ready.
    pub fn take(&mut self) -> Option<AbMap> {
        self.ready.pop_front()
    }

    /// Of every frame planned so far, whether it is a key frame: whether the network had to run.
    pub fn network_ran(&self) -> &[bool] {
        &self.network_ran
    }

    /// Of every frame planned so far, the share of the picture, 0..=1, whose motion from the last key frame cannot be
    /// trusted; `None` where nobody plans.
    pub fn residual(&self) -> &[Option<f64>] {
        &self.residual
    }
}
