//! `config.json`: what the run was asked to do, each part of it.

use std::{fs, io, path::Path};

use serde_json::{Value, json};

use super::publish;
use crate::error::{Error, Result, io_sentence, shown};

/// Adds a part of the run to the file's list; what stands there stays.
///
/// # Errors
/// [`Error::Input`] where there is a file that is not such a list; [`Error::Output`] where it cannot be written.
pub(super) fn note(folder: &Path, header: &Value, from_step: u64) -> Result<()> {
    let path = folder.join("config.json");
    let mut file = match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).unwrap_or(Value::Null),
        Err(e) if e.kind() == io::ErrorKind::NotFound => json!({ "run": header, "history": [] }),
        Err(e) => return Err(Error::input(shown(&path), io_sentence(&e))),
    };
    let Some(history) = file.get_mut("history").and_then(Value::as_array_mut) else {
        let why = "this is not the settings of a run; move it away";
        return Err(Error::input(shown(&path), why));
    };
    history.push(json!({ "from_step": from_step, "run": header }));
    let mut text = serde_json::to_vec_pretty(&file).map_err(|e| Error::internal("journal", e))?;
    text.push(b'\n');
    publish(&path, &text)
}
