//! FileSink: encode and mux. (stub: replaced by its owner)

use super::*;
use crate::frame::Merged;

/// How to write an output.
#[derive(Clone, Debug, Default)]
pub struct OutputOptions {
    /// Muxer name, where the extension does not say.
    pub format: Option<String>,
    /// `h264`, `hevc`, `av1`, `vp9`, `prores`, `ffv1` or any FFmpeg encoder name; default by container and depth.
    pub codec: Option<String>,
    /// Constant rate factor, in the encoder's own units.
    pub crf: Option<f64>,
    /// The encoder's preset.
    pub preset: Option<String>,
    /// `--encoder-option key=value`.
    pub encoder_options: Vec<(String, String)>,
    /// Pixel format to encode instead of the source's own.
    pub pixel_format: Option<String>,
    /// Overwrite an existing output.
    pub force: bool,
    /// Leave out streams that the container cannot hold.
    pub drop_unsupported: bool,
    /// Encoder threads; 0: FFmpeg's choice.
    pub threads: usize,
    /// What the output's metadata says about how its colours were made ("comment").
    pub provenance: String,
}

/// An encoder and a muxer.
pub struct FileSink {
    layout: Layout,
}

impl FileSink {
    /// Opens `output` for the frames and packets of `source`; every refusal happens here, before the first frame.
    pub fn create(
        _output: &std::ffi::OsStr,
        _options: &OutputOptions,
        _source: &Source,
    ) -> Result<Self> {
        Err(crate::Error::internal("output", "stub"))
    }
    /// The pictures that this sink wants.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }
}

impl Sink for FileSink {
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
