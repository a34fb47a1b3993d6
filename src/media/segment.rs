//! A sink for a segment: of all frames that are coloured for its sake it takes those that belong to it.

use super::{Layout, Packet, Segment, Sink, Written};
use crate::{error::Result, frame::Merged};

/// Takes a segment's frames, and none before or behind it.
pub struct SegmentSink {
    film: Box<dyn Sink>,
    from: i64,
    to: Option<i64>,
}

impl SegmentSink {
    /// Into `film`, which was opened for a segment (`OutputOptions::segment_of`); or to whatever else looks at its frames.
    pub fn new(film: Box<dyn Sink>, segment: &Segment) -> Self {
        Self {
            film,
            from: segment.from,
            to: segment.to,
        }
    }
}

impl Sink for SegmentSink {
    fn layout(&self) -> Option<Layout> {
        self.film.layout()
    }

    fn frame(&mut self, frame: &Merged) -> Result<()> {
        match frame.pts >= self.from && self.to.is_none_or(|to| frame.pts < to) {
            true => self.film.frame(frame),
            false => Ok(()),
        }
    }

    fn packet(&mut self, _packet: &Packet) -> Result<()> {
        Ok(())
    }

    fn cut(&mut self) {
        self.film.cut();
    }

    fn finish(self: Box<Self>) -> Result<Written> {
        self.film.finish()
    }
}
