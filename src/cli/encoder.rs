//! Flags that say how an output is encoded.

use clap::Args;

/// Flags of every verb that writes films.
#[derive(Args)]
pub struct EncoderArgs {
    /// Container of the output, where its name does not say; with input - also the input's, if --input-format is not
    /// given
    #[arg(long, value_name = "NAME")]
    pub format: Option<String>,
    /// h264, hevc, av1, vp9, prores, ffv1 or any FFmpeg encoder [default: by container and depth, near lossless;
    /// live: h264 without delay]
    #[arg(long, value_name = "NAME", value_parser = crate::media::codec_name)]
    pub codec: Option<String>,
    /// Constant quality in the encoder's own units; smaller is better and larger
    #[arg(long, value_name = "N")]
    pub crf: Option<f64>,
    /// The encoder's preset, such as veryfast or slow [live: veryfast, of h264]
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Option for the encoder, as key=value; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = super::colorize::key_value)]
    pub encoder_option: Vec<(String, String)>,
}
