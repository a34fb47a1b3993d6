//! Weights from elsewhere: our own models, other safetensors files, PyTorch's `.pth` and `.pt`, and which of them fit a
//! network.
//!
//! A `.pth` file is a zip archive of plain numbers and a pickle that names them. The pickle is read as data: what it
//! asks to be called is not called.

use std::{collections::BTreeMap, fs, panic::catch_unwind, path::Path};

use candle_core::{DType, Device, Tensor, pickle::PthTensors};

use super::{
    checkpoint,
    graph::{Graph, Op, Parameter},
};
use crate::error::{Error, Result, io_sentence, shown};

/// Under which names trainers put the weights of a network into a larger file.
const NESTS: [&str; 5] = ["state_dict", "model", "netG", "generator", "params"];

/// Every tensor of the file at `path`, in f32 and on the CPU: any safetensors file, models of ours among them, or a
/// PyTorch file. The prefix `module.`, which parallel training adds, is taken off, and `num_batches_tracked`, which is
/// no part of a network in use, left out.
///
/// # Errors
/// [`Error::Model`] where the file cannot be read, is of another kind or has no tensors.
pub fn tensors(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let name = shown(path);
    let bytes = fs::read(path).map_err(|e| Error::model(&name, io_sentence(&e)))?;
    let all = match &bytes[..] {
        [b'P', b'K', 3, 4, ..] => pytorch(path, &name)?,
        [0x80, 2, 0x8a, 10, ..] => {
            return Err(Error::model(
                name,
                "this is a PyTorch file of the old form, before 1.6: load it there and save it again",
            ));
        }
        _ => checkpoint::tensors(&bytes, &name, &Device::Cpu)?,
    };
    let kept = all
        .into_iter()
        .filter(|(name, _)| !name.ends_with("num_batches_tracked"));
    let plain = |(name, tensor): (String, Tensor)| -> Result<_> {
        let name = name.strip_prefix("module.").unwrap_or(&name).to_owned();
        Ok((name, tensor.to_dtype(DType::F32)?))
    };
    let all: BTreeMap<_, _> = kept.map(plain).collect::<Result<_>>()?;
    match all.is_empty() {
        true => Err(Error::model(
            name,
            format!(
                "no weights in it, at the top or under {}; save a network's state_dict",
                NESTS.join(", ")
            ),
        )),
        false => Ok(all),
    }
}

/// The tensors of a PyTorch file.
fn pytorch(path: &Path, name: &str) -> Result<BTreeMap<String, Tensor>> {
    // candle's reader panics on some pickles that lack what it looks for.
    let read = catch_unwind(|| unpickled(path));
    let read = read.unwrap_or_else(|_| Err(candle_core::Error::msg("its pickle is damaged")));
    read.map_err(|e| {
        Error::model(
            name,
            format!("this is no PyTorch file that can be read ({e}); save a network's state_dict"),
        )
    })
}

/// The tensors at the top of a PyTorch file, else those of the first nest that has any.
fn unpickled(path: &Path) -> candle_core::Result<BTreeMap<String, Tensor>> {
    let mut file = PthTensors::new(path, None)?;
    for nest in NESTS {
        if !file.tensor_infos().is_empty() {
            break;
        }
        if let Ok(nested) = PthTensors::new(path, Some(nest)) {
            file = nested;
        }
    }
    let mut all = BTreeMap::new();
    for name in file.tensor_infos().keys() {
        if let Some(tensor) = file.get(name)? {
            all.insert(name.clone(), tensor);
        }
    }
    Ok(all)
}

/// `tensors` under other names: in each name every occurrence of a rule's first text becomes its second, rule after
/// rule.
///
/// # Errors
/// [`Error::Usage`] for a rule that replaces nothing, or where two tensors come to have one name.
pub fn mapped(
    tensors: BTreeMap<String, Tensor>,
    rules: &[(String, String)],
) -> Result<BTreeMap<String, Tensor>> {
    if let Some((_, to)) = rules.iter().find(|(from, _)| from.is_empty()) {
        return Err(Error::Usage(format!(
            "a rule for names has nothing to replace by \"{to}\": write FROM=TO"
        )));
    }
    let mut all = BTreeMap::new();
    for (name, tensor) in tensors {
        let replaced = |name: String, (from, to): &(String, String)| name.replace(from, to);
        let new = rules.iter().fold(name.clone(), replaced);
        if all.insert(new.clone(), tensor).is_some() {
            return Err(Error::Usage(format!(
                "the rules for names give {new} to {name} and to another tensor: make them more exact"
            )));
        }
    }
    Ok(all)
}

/// What of a file fits a network.
#[derive(Debug, Default)]
pub struct Taken {
    /// The parameters that fit, by name.
    pub taken: BTreeMap<String, Tensor>,
    /// Names in the file that the network does not have.
    pub left: Vec<String>,
    /// Parameters of the network that the file does not have.
    pub missing: Vec<String>,
    /// Parameters that both have in different shapes: a sentence each, with the name and both.
    pub misshapen: Vec<String>,
}

impl Taken {
    /// The parameters, where the network has got all that it needs and all of the file is used; `file` is for the
    /// message.
    ///
    /// # Errors
    /// [`Error::Model`] with what does not fit.
    pub fn whole(self, file: &str) -> Result<BTreeMap<String, Tensor>> {
        let complaint = if let Some(sentence) = self.misshapen.first() {
            sentence.clone()
        } else if let Some(name) = self.missing.first() {
            format!("it lacks {} parameters, {name} first", self.missing.len())
        } else if let Some(name) = self.left.first() {
            format!(
                "it has {} tensors that the network has not, {name} first",
                self.left.len()
            )
        } else {
            return Ok(self.taken);
        };
        Err(Error::model(
            file,
            format!(
                "it does not fit the network: {complaint}; take the settings that it was made with, or map its names"
            ),
        ))
    }
}

/// What of `tensors` fits `graph`, by name and shape. A first layer that sees three planes, as of an RGB picture, is
/// summed into one that sees one.
///
/// # Errors
/// Out of memory.
pub fn fitting(tensors: BTreeMap<String, Tensor>, graph: &Graph) -> Result<Taken> {
    let first = first_layer(graph);
    let mut left = tensors;
    let mut fit = Taken::default();
    for Parameter { name, shape, .. } in graph.parameters() {
        let Some(mut value) = left.remove(&name) else {
            fit.missing.push(name);
            continue;
        };
        if first.as_ref() == Some(&name) && shape.get(1) == Some(&1) && has_planes(&value) {
            value = value.sum_keepdim(1)?;
        }
        if value.dims() == shape {
            fit.taken.insert(name, value);
        } else {
            let has = value.dims();
            let sentence = format!("the file has {name} as {has:?}, the network as {shape:?}");
            fit.misshapen.push(sentence);
        }
    }
    fit.left = left.into_keys().collect();
    Ok(fit)
}

/// Whether a convolution's weight sees three planes.
fn has_planes(weight: &Tensor) -> bool {
    matches!(weight.dims(), [_, 3, _, _])
}

/// The weight of the convolution of the network's input.
fn first_layer(graph: &Graph) -> Option<String> {
    graph.nodes().iter().find_map(|node| match &node.op {
        Op::Conv(conv) if node.inputs[0].index() == 0 => Some(format!("{}.weight", conv.name)),
        _ => None,
    })
}
