//! `autochrome info`: what a film, a model or this machine is.

use std::ffi::{OsStr, OsString};

use clap::{Args, ValueHint};

use super::ui::answer;
use crate::{
    error::{Error, Result},
    media::{InputOptions, Source},
    net::{self, Machine},
};

/// Flags of `info`.
#[derive(Args)]
pub struct InfoArgs {
    /// A film, a .safetensors model, or the name of a bundled model
    #[arg(value_hint = ValueHint::FilePath, required_unless_present = "device")]
    file: Option<OsString>,
    /// What this machine offers a network, and what would be chosen
    #[arg(long, conflicts_with = "file")]
    device: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl InfoArgs {
    /// Prints it.
    ///
    /// # Errors
    /// The file is neither a film nor a model, or cannot be read.
    pub fn run(self) -> Result<()> {
        let (text, json) = match &self.file {
            None => machine()?,
            Some(file) => match file.to_string_lossy() {
                name if net::is_model_name(&name) => model(&name)?,
                _ => film(file)?,
            },
        };
        match self.json {
            true => {
                answer(serde_json::to_string_pretty(&json).map_err(|e| Error::internal("info", e))?)
            }
            false => answer(text),
        }
    }
}

fn film(file: &OsStr) -> Result<(String, serde_json::Value)> {
    let source = Source::open(file, &InputOptions::default())?;
    let info = source.info();
    let v = &info.video;
    let mut lines = vec![
        format!("{}: {}", info.name, info.format),
        format!(
            "  {} x {}, shown {} x {}, turned {} degrees",
            v.width, v.height, v.display.0, v.display.1, v.rotation
        ),
        format!("  {} bits, {:?} range", v.sampling.depth, v.sampling.range).to_lowercase(),
    ];
    lines.extend(
        v.duration
            .map(|d| format!("  {d:.3} s, about {} frames", v.frames.unwrap_or(0))),
    );
    lines.extend(source.streams().iter().map(|s| format!("  {s}")));
    let json = serde_json::json!({
        "name": info.name, "format": info.format, "width": v.width, "height": v.height, "display": v.display,
        "rotation": v.rotation, "codec": v.codec, "pixel_format": v.pixel_format, "depth": v.sampling.depth,
        "duration": v.duration, "frames": v.frames, "frame_rate": v.frame_rate, "streams": source.streams(),
    });
    Ok((lines.join("\n"), json))
}

fn machine() -> Result<(String, serde_json::Value)> {
    let machine = Machine::this()?;
    let json = serde_json::to_value(&machine).map_err(|e| Error::internal("info", e))?;
    Ok((machine.to_string(), json))
}

fn model(name: &str) -> Result<(String, serde_json::Value)> {
    let info = net::info(name)?;
    let json = serde_json::to_value(&info).map_err(|e| Error::internal("info", e))?;
    Ok((info.to_string(), json))
}
