//! A model file: one safetensors file that says what it is.
//!
//! Its metadata has one entry, `autochrome`, whose value is a [`Header`] as JSON. Nothing in it is executable, and no
//! option is needed to read it.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::look::Looks;
use crate::error::{Error, Result, io_sentence, shown};

/// The metadata's key.
const KEY: &str = "autochrome";

/// The colour convention that this version reads and writes (see [`crate::color`]).
pub const COLOR: &str = "CIE Lab 1976, D65, sRGB curve; input L/50 - 1, output ab/110";

/// What a model file says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Kind of generator, a name of [`super::ARCHS`].
    pub arch: String,
    /// The generator's settings.
    pub network: Value,
    /// The colour convention, [`COLOR`].
    pub color: String,
    /// Short side of the thumbnails that it was trained for.
    pub size: usize,
    /// How what it says becomes colour.
    pub looks: Looks,
    /// How it was trained: the settings, the number of steps and of photographs.
    pub trained: Value,
    /// Figures on the held-out photographs, where known.
    pub figures: Value,
}

/// A model file in memory.
pub struct Checkpoint {
    /// What it says of itself.
    pub header: Header,
    /// The parameters by name, on the CPU, in the stored type.
    pub tensors: BTreeMap<String, Tensor>,
    /// SHA-256 of the file, in hexadecimal.
    pub digest: String,
}

impl Checkpoint {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`Error::Model`] where it cannot be read or is no model of autochrome.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::model(shown(path), io_sentence(&e)))?;
        Self::parse(&bytes, &shown(path))
    }

    /// Reads a model from `bytes`; `name` is for messages.
    ///
    /// # Errors
    /// [`Error::Model`] as for [`Checkpoint::open`].
    pub fn parse(bytes: &[u8], name: &str) -> Result<Self> {
        let header: Header = metadata(bytes, KEY, name)?;
        if header.color != COLOR {
            return Err(Error::model(
                name,
                format!(
                    "its colours are in \"{}\", this version knows \"{COLOR}\"",
                    header.color
                ),
            ));
        }
        Ok(Self {
            header,
            tensors: tensors(bytes, name, &Device::Cpu)?,
            digest: digest(bytes),
        })
    }

    /// A file's bytes, with the tensors as they are.
    ///
    /// # Errors
    /// A defect.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        serialize(&self.tensors, KEY, &self.header)
    }
}

/// A model file's bytes; parameters are stored as `dtype`.
///
/// # Errors
/// A defect.
pub fn bytes(header: &Header, tensors: &BTreeMap<String, Tensor>, dtype: DType) -> Result<Vec<u8>> {
    let stored: candle_core::Result<BTreeMap<_, _>> = tensors
        .iter()
        .map(|(name, tensor)| {
            Ok((
                name.clone(),
                tensor.to_dtype(dtype)?.to_device(&Device::Cpu)?,
            ))
        })
        .collect();
    serialize(&stored?, KEY, header)
}

/// Tensors and one metadata entry as a safetensors file.
///
/// # Errors
/// A defect.
pub fn serialize(
    tensors: &BTreeMap<String, Tensor>,
    key: &str,
    entry: &impl Serialize,
) -> Result<Vec<u8>> {
    let defect = |e: String| Error::internal("checkpoint", e);
    let json = serde_json::to_string(entry).map_err(|e| defect(e.to_string()))?;
    let metadata = HashMap::from([(key.to_owned(), json)]);
    safetensors::serialize(tensors, Some(metadata)).map_err(|e| defect(e.to_string()))
}

/// The metadata entry `key` of a safetensors file.
///
/// # Errors
/// [`Error::Model`] where the file is no safetensors file, lacks the entry, or has one that cannot be understood.
pub fn metadata<T: serde::de::DeserializeOwned>(bytes: &[u8], key: &str, name: &str) -> Result<T> {
    let (_, metadata) = SafeTensors::read_metadata(bytes)
        .map_err(|e| Error::model(name, format!("this is no safetensors file ({e})")))?;
    let entry = metadata.metadata().as_ref().and_then(|m| m.get(key)).ok_or_else(|| {
        Error::model(name, "this is a safetensors file but no model of autochrome: its metadata does not say what it is")
    })?;
    serde_json::from_str(entry)
        .map_err(|e| Error::model(name, format!("its metadata cannot be understood ({e})")))
}

/// All tensors of a safetensors file, on `device`.
///
/// # Errors
/// [`Error::Model`] where the file is damaged.
pub fn tensors(bytes: &[u8], name: &str, device: &Device) -> Result<BTreeMap<String, Tensor>> {
    let tensors = candle_core::safetensors::load_buffer(bytes, device)
        .map_err(|e| Error::model(name, format!("this is no intact safetensors file ({e})")))?;
    Ok(tensors.into_iter().collect())
}

/// SHA-256 in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
