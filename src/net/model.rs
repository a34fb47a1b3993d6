//! Models by name: what [`load`] takes, and what [`info`] tells.

use std::{fmt, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Colorizer, DeviceChoice, Look, Looks, Model, Network, Place, Precision, Quality, Setting, arch,
    bins::Decoding, builtin::Constant, checkpoint::Checkpoint, decoded, decoder::Head,
    graph::Graph, params::Params,
};
use crate::error::{Error, Result};

/// The model that is used where none is named.
pub const DEFAULT_MODEL: &str = "autochrome";

/// Models that are part of the program: name and file.
const BUNDLED: &[(&str, &[u8])] = &[
    (
        DEFAULT_MODEL,
        include_bytes!("../../models/autochrome.safetensors"),
    ),
    ("fast", include_bytes!("../../models/fast.safetensors")),
];

/// The names of the models that are part of the program.
pub fn bundled() -> impl Iterator<Item = &'static str> {
    BUNDLED.iter().map(|(name, _)| *name)
}

/// Test models without a network: name, a and b.
const PLAIN: &[(&str, (f32, f32))] = &[("gray", (0., 0.)), ("constant", (10., 20.))];

/// How a model is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Where it runs.
    pub device: DeviceChoice,
    /// In which numbers.
    pub precision: Precision,
    /// What its colours are meant to be.
    pub look: Look,
    /// How large its thumbnails are.
    pub quality: Quality,
}

/// Whether `name` is a model rather than a film: a bundled or test model, or a safetensors file.
pub fn is_model_name(name: &str) -> bool {
    let extension = Path::new(name).extension();
    name == "default"
        || BUNDLED.iter().any(|(n, _)| *n == name)
        || PLAIN.iter().any(|(n, _)| *n == name)
        || extension.is_some_and(|e| e.eq_ignore_ascii_case("safetensors"))
}

/// The model `name`, ready for use: a bundled one, `gray` (no chroma), `constant` (one colour), or a safetensors file.
///
/// # Errors
/// [`Error::Model`] where there is no such model, the file is damaged or of another kind, or the device cannot be had.
pub fn load(name: &str, options: &Options) -> Result<Box<dyn Colorizer>> {
    if let Some((_, ab)) = PLAIN.iter().find(|(n, _)| *n == name) {
        return Ok(Box::new(Constant { ab: *ab }));
    }
    ready(name, open(name)?, options)
}

/// A model of this name from what stands, or would stand, in its file.
///
/// # Errors
/// As for [`load`].
pub fn ready(name: &str, checkpoint: Checkpoint, options: &Options) -> Result<Box<dyn Colorizer>> {
    let (model, _, place) = model(name, checkpoint, options)?;
    Ok(Box::new(Network::new(model, place)))
}

/// Its network up to the last step: what it says of each pixel is logits of bins, where it has bins.
///
/// # Errors
/// As for [`load`].
pub fn undecoded(name: &str, checkpoint: Checkpoint, options: &Options) -> Result<Network> {
    let (model, graph, place) = model(name, checkpoint, options)?;
    Ok(Network::new(Model { graph, ..model }, place))
}

/// What the model `name` is; see [`load`] for names.
///
/// # Errors
/// [`Error::Model`] as for [`load`].
pub fn info(name: &str) -> Result<ModelInfo> {
    match PLAIN.iter().find(|(n, _)| *n == name) {
        Some((_, ab)) => Ok(ModelInfo::plain(name, &Constant { ab: *ab })),
        None => Ok(ModelInfo::new(name, &open(name)?)),
    }
}

/// What stands in the file of the model `name`, a bundled one or a file.
///
/// # Errors
/// [`Error::Model`] as for [`load`].
pub fn open(name: &str) -> Result<Checkpoint> {
    let name = if name == "default" {
        DEFAULT_MODEL
    } else {
        name
    };
    if let Some((_, bytes)) = BUNDLED.iter().find(|(n, _)| *n == name) {
        return Checkpoint::parse(bytes, name);
    }
    let path = Path::new(name);
    if !path.exists() {
        let known: Vec<_> = BUNDLED
            .iter()
            .map(|(n, _)| *n)
            .chain(PLAIN.iter().map(|(n, _)| *n))
            .collect();
        return Err(Error::model(
            name,
            format!(
                "there is no such model or file; built in are {}",
                known.join(", ")
            ),
        ));
    }
    Checkpoint::open(path)
}

/// A model, its graph up to the last step, and where it runs.
fn model(name: &str, checkpoint: Checkpoint, options: &Options) -> Result<(Model, Graph, Place)> {
    let info = ModelInfo::new(name, &checkpoint);
    let place = options.device.place(options.precision)?;
    let header = checkpoint.header;
    let kind = arch(&header.arch).map_err(|e| Error::model(name, e))?;
    let in_file = |e: Error| Error::model(name, format!("it does not fit {}: {e}", header.arch));
    let Setting { decoding, gain } = header.looks.of(options.look);
    Setting { decoding, gain }.check().map_err(in_file)?;
    let undecoded = (kind.graph)(&header.network).map_err(in_file)?;
    let graph = decoded(undecoded.clone(), &decoding);
    let params = Params::given(&graph, &checkpoint.tensors, &place.device).map_err(in_file)?;
    let model = Model {
        graph,
        params,
        size: options.quality.size(header.size),
        gain,
        label: format!(
            "{name} ({}, {:.1} M parameters, sha256 {}), {}, quality {}",
            info.arch,
            info.parameters as f64 / 1e6,
            &info.digest[..12],
            options.look,
            options.quality
        ),
    };
    Ok((model, undecoded, place))
}

/// What a model is, for `autochrome info`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelInfo {
    /// As the user named it.
    pub name: String,
    /// Kind of generator.
    pub arch: String,
    /// Number of parameters.
    pub parameters: usize,
    /// Floating-point operations of its convolutions for one square thumbnail of its size.
    pub flops: u64,
    /// SHA-256 of the file; empty for a test model.
    pub digest: String,
    /// Short side of the thumbnails that it was trained for.
    pub size: usize,
    /// What its network makes; empty for a test model.
    pub head: String,
    /// How what it says becomes colour; nothing of a test model.
    pub looks: Option<Looks>,
    /// How it was trained.
    pub trained: Value,
    /// Figures on held-out photographs.
    pub figures: Value,
}

impl ModelInfo {
    fn new(name: &str, checkpoint: &Checkpoint) -> Self {
        let header = checkpoint.header.clone();
        let graph = arch(&header.arch).and_then(|kind| (kind.graph)(&header.network));
        // Unknown where the network that the header names is.
        let (head, flops) = graph.map_or((None, 0), |graph| {
            let size = (header.size, header.size);
            (Some(Head::of(&graph)), graph.flops(size))
        });
        Self {
            name: name.into(),
            flops,
            head: head.map(|head| head.to_string()).unwrap_or_default(),
            arch: header.arch,
            parameters: checkpoint.tensors.values().map(|t| t.elem_count()).sum(),
            digest: checkpoint.digest.clone(),
            size: header.size,
            looks: Some(header.looks),
            trained: header.trained,
            figures: header.figures,
        }
    }

    fn plain(name: &str, model: &Constant) -> Self {
        Self {
            name: name.into(),
            arch: model.describe(),
            parameters: 0,
            flops: 0,
            digest: String::new(),
            size: 0,
            head: String::new(),
            looks: None,
            trained: Value::Null,
            figures: Value::Null,
        }
    }
}

impl fmt::Display for ModelInfo {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.digest.is_empty() {
            return write!(f, "{}: {}", self.name, self.arch);
        }
        writeln!(
            f,
            "{}: {} with {} parameters",
            self.name, self.arch, self.parameters
        )?;
        writeln!(f, "  SHA-256 {}", self.digest)?;
        writeln!(
            f,
            "  {}; thumbnails of {} px on the short side",
            self.head, self.size
        )?;
        for look in Look::ALL {
            let Setting { decoding, gain } = self.looks.unwrap_or_default().of(look);
            let Decoding {
                k,
                temperature,
                calm,
            } = decoding;
            let bins = match self.head == Head::Classification.to_string() {
                true => format!("prior correction k {k}, temperature {temperature}, calm {calm}, "),
                false => String::new(),
            };
            writeln!(f, "  {look}: {bins}gain {gain}")?;
        }
        writeln!(
            f,
            "  {:.2} GFLOP for a thumbnail of {1} x {1}",
            self.flops as f64 / 1e9,
            self.size
        )?;
        writeln!(f, "  trained: {}", self.trained)?;
        write!(f, "  figures: {}", self.figures)
    }
}
