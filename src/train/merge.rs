//! The weighted mean of models: of several checkpoints of a run, or of several operating points (Wortsman et al. 2022,
//! "Model soups").

use std::{collections::BTreeMap, path::Path};

use candle_core::{DType, Tensor};
use serde_json::json;

use super::journal::publish;
use crate::{
    error::{Error, Result},
    net::{
        self,
        checkpoint::{self, Checkpoint, Header},
    },
};

/// Writes the mean of models, each a name or file and its weight, to `output`. Weights are scaled to sum to 1.
///
/// # Errors
/// [`Error::Usage`] for weights that have no mean, [`Error::Model`] where the models are not of one kind.
pub fn merge(models: &[(String, f64)], output: &Path) -> Result<()> {
    let sum: f64 = models.iter().map(|(_, weight)| weight).sum();
    if !(sum.is_finite() && sum > 0.) || models.iter().any(|(_, weight)| *weight < 0.) {
        return Err(Error::Usage(
            "the weights must not be negative, nor all be 0".into(),
        ));
    }
    let opened: Result<Vec<Checkpoint>> = models.iter().map(|(name, _)| net::open(name)).collect();
    let opened = opened?;
    let first = &opened[0].header;
    let mut mean: BTreeMap<String, Tensor> = BTreeMap::new();
    for (checkpoint, (name, weight)) in opened.iter().zip(models) {
        alike(first, &checkpoint.header, name)?;
        for (parameter, tensor) in &checkpoint.tensors {
            let part = (tensor.to_dtype(DType::F32)? * (weight / sum))?;
            let so_far = mean.remove(parameter);
            let so_far = so_far.map_or_else(|| Ok(part.clone()), |so_far| so_far + &part)?;
            mean.insert(parameter.clone(), so_far);
        }
    }
    let merged = models.iter().zip(&opened);
    let merged: Vec<_> = merged
        .map(|((name, weight), c)| json!({ "model": name, "sha256": c.digest, "weight": weight / sum }))
        .collect();
    let header = Header {
        trained: json!({ "merged": merged, "settings": first.trained["settings"] }),
        figures: json!({}),
        ..first.clone()
    };
    publish(output, &checkpoint::bytes(&header, &mean, DType::F16)?)
}

/// Whether parameters of one mean the same in the other.
fn alike(first: &Header, other: &Header, name: &str) -> Result<()> {
    let kind =
        |header: &Header| format!("{} {} at {} px", header.arch, header.network, header.size);
    match (&first.arch, &first.network, first.size) == (&other.arch, &other.network, other.size) {
        true => Ok(()),
        false => Err(Error::model(
            name,
            format!(
                "it is {}, the first is {}: only models of one kind have a mean",
                kind(other),
                kind(first)
            ),
        )),
    }
}
