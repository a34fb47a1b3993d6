//! A sink that draws a before/after sheet of a few frames. (stub: replaced by its owner)

use super::*;
use crate::frame::Merged;

/// Collects frames spread over the film and writes one PNG of grey beside colour.
pub struct PreviewSink {}

impl Sink for PreviewSink {
    fn frame(&mut self, _frame: &Merged) -> Result<()> {
        Ok(())
    }
    fn packet(&mut self, _packet: &Packet) -> Result<()> {
        Ok(())
    }
    fn finish(self: Box<Self>) -> Result<Written> {
        Ok(Written::default())
    }
}
