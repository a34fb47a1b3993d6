//! The weights that a run starts from.

use std::{collections::BTreeMap, path::Path};

use candle_core::Tensor;

use super::Config;
use crate::{
    error::{Error, Result},
    net::{
        self,
        checkpoint::Checkpoint,
        graph::Graph,
        import::{self, Taken},
    },
};

/// Weights for a network, by name, and what to tell of them.
pub struct Start {
    /// Those that were found.
    pub given: BTreeMap<String, Tensor>,
    /// What was not, in words; nothing where all of it fitted.
    pub words: Option<String>,
}

/// The weights of `name`, a bundled model or a file, for the network of these settings: a model of the same kind; the
/// ImageNet weights of its encoder; or another network's, renamed by [`Config::rename`].
///
/// # Errors
/// [`Error::Model`] where it cannot be read, is a model of another kind, or nothing of it fits.
pub fn start(name: &str, config: &Config, graph: &Graph) -> Result<Start> {
    if let Some(model) = ours(name) {
        let model = model?;
        if model.header.arch != config.arch && config.rename.is_empty() {
            let (its, arch) = (model.header.arch, &config.arch);
            return Err(Error::model(
                name,
                format!(
                    "it is {its}, not {arch}: --set arch={its}, or start from a model of {arch}"
                ),
            ));
        }
        return fitting(name, model.tensors, config, graph);
    }
    let tensors = import::tensors(Path::new(name))?;
    if let Some(pretrained) = net::arch(&config.arch)?.pretrained
        && config.rename.is_empty()
        && let Ok(given) = pretrained(&config.network, &tensors)
    {
        return Ok(Start { given, words: None });
    }
    fitting(name, tensors, config, graph)
}

/// The model of this name, if it says that it is one.
fn ours(name: &str) -> Option<Result<Checkpoint>> {
    match net::open(name) {
        Err(_) if Path::new(name).exists() => None,
        opened => Some(opened),
    }
}

fn fitting(
    name: &str,
    tensors: BTreeMap<String, Tensor>,
    config: &Config,
    graph: &Graph,
) -> Result<Start> {
    let fit = import::fitting(import::mapped(tensors, &config.rename)?, graph)?;
    if fit.taken.is_empty() {
        return Err(Error::model(name, nothing_fits(&fit, graph)));
    }
    let words = words(name, &fit);
    Ok(Start {
        given: fit.taken,
        words,
    })
}

fn nothing_fits(fit: &Taken, graph: &Graph) -> String {
    if let Some(sentence) = fit.misshapen.first() {
        return format!("nothing in it fits the network: {sentence}");
    }
    let parameters = graph.parameters();
    let ours = parameters.first().map_or("", |p| &p.name);
    let theirs = fit.left.first().map_or("", String::as_str);
    format!(
        "nothing in it fits the network: it has {theirs}, the network {ours}; --set 'rename=[[\"FROM\",\"TO\"]]' replaces FROM by TO in its names"
    )
}

/// What of the network was not found.
fn words(name: &str, fit: &Taken) -> Option<String> {
    let lacking = fit.missing.len() + fit.misshapen.len();
    let first = fit.misshapen.first().or(fit.missing.first())?;
    Some(format!(
        "{name} has {} of the network's parameters; {lacking} are drawn afresh, the first: {first}",
        fit.taken.len()
    ))
}
