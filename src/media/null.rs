//! A sink that counts and writes nothing: for benchmarks and tests.

use super::{Packet, Sink, Written};
use crate::{error::Result, frame::Merged};

/// Counts frames; writes nothing.
#[derive(Default)]
pub struct NullSink {
    frames: u64,
}

impl Sink for NullSink {
    fn frame(&mut self, _frame: &Merged) -> Result<()> {
        self.frames += 1;
        Ok(())
    }

    fn packet(&mut self, _packet: &Packet) -> Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Written> {
        Ok(Written {
            name: "null".into(),
            frames: self.frames,
            ..Written::default()
        })
    }
}
