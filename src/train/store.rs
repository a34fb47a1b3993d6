//! Checkpoints of a run: written whole or not at all, verified before they are used, thinned out as stated.
//!
//! A checkpoint is a folder `checkpoints/step-00001000` of the run's folder. Each part of the state (weights, their
//! mean, the optimiser's moments, ...) is one or more safetensors files under 16 MB; `state.json` holds the caller's
//! state and every file's size and SHA-256; `state.sha256` is that file's own sum, in the form of `sha256sum`. The
//! folder grows as `.part`, everything in it is synced, then it takes its name: a run that is killed leaves the
//! checkpoint of before or the new one, never half of one.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    error::{Error, Result, io_sentence, shown},
    net::checkpoint::{self, digest},
};

/// Tensors by name: one part of a checkpoint.
pub type Named = BTreeMap<String, Tensor>;

/// Which checkpoints stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keep {
    /// So many of the newest; at least one is kept.
    pub last: usize,
    /// So many of those with the smallest metric.
    pub best: usize,
    /// Besides, every one whose step is a multiple of this; 0 for none.
    pub every: u64,
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            last: 2,
            best: 1,
            every: 0,
        }
    }
}

/// The checkpoints of one run.
pub struct Store {
    folder: PathBuf,
    keep: Keep,
    /// Largest file in bytes.
    limit: usize,
    /// Steps of the checkpoints that are there, with their metrics.
    saved: BTreeMap<u64, Option<f64>>,
    warnings: Vec<String>,
}

/// A checkpoint whose files are all as they were written.
#[derive(Debug)]
pub struct Saved {
    /// Steps done.
    pub step: u64,
    /// What the caller saved beside the tensors.
    pub state: Value,
    folder: PathBuf,
    parts: BTreeMap<String, Part>,
}

/// `state.json`.
#[derive(Serialize, Deserialize)]
struct Manifest {
    step: u64,
    metric: Option<f64>,
    state: Value,
    parts: BTreeMap<String, Part>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Part {
    files: Vec<Shard>,
    /// Shapes of the tensors that are too large for one file and lie in pieces, `NAME#0000` and so on.
    split: BTreeMap<String, Vec<usize>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Shard {
    name: String,
    bytes: u64,
    sha256: String,
}

const STATE: &str = "state.json";
const SUM: &str = "state.sha256";
/// Suffix of a checkpoint that is being written or removed.
const PART: &str = "part";
/// Suffix of a checkpoint whose successor of the same step is about to take its name.
const OLD: &str = "old";
/// The metadata's key.
const KEY: &str = "autochrome-checkpoint";

impl Store {
    /// Largest file of a checkpoint in bytes: 16 MB, which mail, web forms and version control still take.
    const LIMIT: usize = 16_000_000;

    /// Opens the store in a run's folder; what a killed run left unfinished is removed.
    ///
    /// # Errors
    /// [`Error::Output`] where the folder cannot be read or written.
    pub fn open(run: &Path, keep: Keep) -> Result<Self> {
        Self::with_limit(run, keep, Self::LIMIT)
    }

    fn with_limit(run: &Path, keep: Keep, limit: usize) -> Result<Self> {
        let folder = run.join("checkpoints");
        tidy(&folder).map_err(|e| Error::output(shown(&folder), io_sentence(&e)))?;
        let mut store = Self {
            folder,
            keep,
            limit,
            saved: BTreeMap::new(),
            warnings: Vec::new(),
        };
        for step in store.steps_on_disk() {
            let manifest = manifest(&store.path(step)).ok();
            store.saved.insert(step, manifest.and_then(|m| m.metric));
        }
        Ok(store)
    }

    /// Saves a checkpoint, then removes those that [`Keep`] does not name. `metric` is smaller for a better model;
    /// one that is not finite counts as none. A checkpoint of the same step is replaced.
    ///
    /// # Errors
    /// [`Error::Output`] where it cannot be written, a full disk for instance: what was begun is removed, and the
    /// checkpoints of before are as they were.
    pub fn save(
        &mut self,
        step: u64,
        parts: &BTreeMap<&str, Named>,
        state: &Value,
        metric: Option<f64>,
    ) -> Result<()> {
        let metric = metric.filter(|m| m.is_finite());
        let part = self.path(step).with_extension(PART);
        let manifest = Manifest {
            step,
            metric,
            state: state.clone(),
            parts: BTreeMap::new(),
        };
        let written = self
            .write(&part, manifest, parts)
            .and_then(|()| self.publish(step));
        if written.is_err() {
            // The error that is told is the first one.
            let _ = fs::remove_dir_all(&part);
        }
        written?;
        self.saved.insert(step, metric);
        self.thin_out();
        Ok(())
    }

    /// The newest checkpoint whose files are all intact. A damaged one is passed over with a warning that names it;
    /// it is removed when the next one has been saved.
    ///
    /// # Errors
    /// [`Error::Model`] where there are checkpoints, but none that is intact.
    pub fn newest(&mut self) -> Result<Option<Saved>> {
        let steps: Vec<_> = self.saved.keys().copied().rev().collect();
        let any = !steps.is_empty();
        for step in steps {
            match self.load(step) {
                Ok(saved) => return Ok(Some(saved)),
                Err(e) => {
                    self.saved.remove(&step);
                    self.warnings
                        .push(format!("{e}; looking for an earlier checkpoint"));
                }
            }
        }
        match any {
            false => Ok(None),
            true => Err(Error::model(
                shown(&self.folder),
                "none of the run's checkpoints is intact; move the run's folder away and begin anew",
            )),
        }
    }

    /// The checkpoint of a step, its files verified.
    ///
    /// # Errors
    /// [`Error::Model`] where there is none, or where one of its files is missing, truncated or changed.
    pub fn load(&self, step: u64) -> Result<Saved> {
        let folder = self.path(step);
        let manifest = manifest(&folder)?;
        for shard in manifest.parts.values().flat_map(|part| &part.files) {
            let path = folder.join(&shard.name);
            let bytes = read(&path)?;
            let why = match bytes.len() as u64 {
                len if len != shard.bytes => format!("it has {len} bytes, not {}", shard.bytes),
                _ if digest(&bytes) != shard.sha256 => changed(),
                _ => continue,
            };
            return Err(Error::model(shown(path), why));
        }
        Ok(Saved {
            step: manifest.step,
            state: manifest.state,
            folder,
            parts: manifest.parts,
        })
    }

    /// The step of the checkpoint with the smallest metric, the earliest of equals.
    pub fn best(&self) -> Option<u64> {
        self.by_metric().first().copied()
    }

    /// What the user should hear of since the last call.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    fn path(&self, step: u64) -> PathBuf {
        self.folder.join(format!("step-{step:08}"))
    }

    fn steps_on_disk(&self) -> Vec<u64> {
        let names = entries(&self.folder).unwrap_or_default();
        let step = |path: &PathBuf| {
            path.file_name()?
                .to_str()?
                .strip_prefix("step-")?
                .parse()
                .ok()
        };
        names.iter().filter_map(step).collect()
    }

    /// Steps with a metric, the best first.
    fn by_metric(&self) -> Vec<u64> {
        let judged = |(step, metric): (&u64, &Option<f64>)| Some((*step, (*metric)?));
        let mut judged: Vec<_> = self.saved.iter().filter_map(judged).collect();
        judged.sort_by(|a, b| a.1.total_cmp(&b.1));
        judged.into_iter().map(|(step, _)| step).collect()
    }

    fn write(
        &self,
        folder: &Path,
        mut manifest: Manifest,
        parts: &BTreeMap<&str, Named>,
    ) -> Result<()> {
        fs::create_dir(folder).map_err(|e| self.unwritten(folder, &e))?;
        for (name, tensors) in parts {
            let part = self.write_part(folder, name, tensors)?;
            manifest.parts.insert((*name).to_owned(), part);
        }
        let state =
            serde_json::to_vec_pretty(&manifest).map_err(|e| Error::internal("checkpoint", e))?;
        self.write_file(&folder.join(STATE), &state)?;
        let sum = format!("{}  {STATE}\n", digest(&state));
        self.write_file(&folder.join(SUM), sum.as_bytes())
    }

    fn write_part(&self, folder: &Path, name: &str, tensors: &Named) -> Result<Part> {
        let mut part = Part::default();
        for (i, shard) in shards(tensors, self.limit, &mut part.split)?
            .iter()
            .enumerate()
        {
            let file = format!("{name}-{i:02}.safetensors");
            let bytes = checkpoint::serialize(shard, KEY, &json!({ "part": name, "file": i }))?;
            self.write_file(&folder.join(&file), &bytes)?;
            part.files.push(Shard {
                name: file,
                bytes: bytes.len() as u64,
                sha256: digest(&bytes),
            });
        }
        Ok(part)
    }

    fn write_file(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let write = || {
            let mut file = File::create(path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(|e| self.unwritten(path, &e))
    }

    /// Gives a finished checkpoint its name.
    fn publish(&self, step: u64) -> Result<()> {
        let path = self.path(step);
        let (part, old) = (path.with_extension(PART), path.with_extension(OLD));
        let publish = || {
            sync(&part)?;
            if path.exists() {
                fs::rename(&path, &old)?;
            }
            fs::rename(&part, &path)?;
            sync(&self.folder)?;
            tidy(&self.folder)
        };
        publish().map_err(|e| self.unwritten(&path, &e))
    }

    /// Removes what is not to be kept. What cannot be removed costs room, not the run.
    fn thin_out(&mut self) {
        let Keep { last, best, every } = self.keep;
        let newest = self.saved.keys().rev().take(last.max(1)).copied();
        let best = self.by_metric().into_iter().take(best);
        let mut stay: Vec<_> = newest.chain(best).collect();
        stay.extend(
            self.saved
                .keys()
                .filter(|s| every > 0 && s.is_multiple_of(every)),
        );
        self.saved.retain(|step, _| stay.contains(step));
        for step in self.steps_on_disk() {
            if stay.contains(&step) {
                continue;
            }
            let path = self.path(step);
            let part = path.with_extension(PART);
            // Renamed first: a run that is killed meanwhile leaves nothing that looks like a checkpoint.
            if let Err(e) = fs::rename(&path, &part).and_then(|()| fs::remove_dir_all(&part)) {
                let why = io_sentence(&e);
                self.warnings
                    .push(format!("{}: cannot be removed: {why}", shown(path)));
            }
        }
    }

    fn unwritten(&self, path: &Path, e: &io::Error) -> Error {
        let good = match self.saved.keys().next_back() {
            Some(step) => format!(
                "the checkpoint of step {step} is intact, and --resume goes on from there once there is room"
            ),
            None => "there is no earlier checkpoint: make room and begin anew".into(),
        };
        let why = io_sentence(e);
        Error::output(
            shown(path),
            format!("{why}. The unfinished checkpoint was removed; {good}"),
        )
    }
}

impl Saved {
    /// For messages.
    pub fn name(&self) -> String {
        shown(&self.folder)
    }

    /// What the caller saved beside the tensors under this name.
    ///
    /// # Errors
    /// [`Error::Model`] where it is not there, or of another version.
    pub fn read<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T> {
        serde_json::from_value(self.state[name].clone()).map_err(|e| {
            let why = format!("its state cannot be understood: {name}: {e}");
            Error::model(self.name(), why)
        })
    }

    /// The tensors of a part, on `device`.
    ///
    /// # Errors
    /// [`Error::Model`] where the checkpoint has no such part, or a file of it can no longer be read.
    pub fn part(&self, name: &str, device: &Device) -> Result<Named> {
        let Some(part) = self.parts.get(name) else {
            let parts: Vec<_> = self.parts.keys().map(String::as_str).collect();
            let why = format!("it has no part {name}, only {}", parts.join(", "));
            return Err(Error::model(shown(&self.folder), why));
        };
        let mut tensors = Named::new();
        for shard in &part.files {
            let path = self.folder.join(&shard.name);
            tensors.extend(checkpoint::tensors(&read(&path)?, &shown(&path), device)?);
        }
        for (name, shape) in &part.split {
            let first = piece_name(name, 0);
            let of_it = |(piece, _): &(&String, &Tensor)| piece.starts_with(&format!("{name}#"));
            let pieces = tensors.range(first..).take_while(of_it);
            let (names, pieces): (Vec<_>, Vec<_>) =
                pieces.map(|(n, t)| (n.clone(), t.clone())).unzip();
            tensors.retain(|name, _| !names.contains(name));
            tensors.insert(
                name.clone(),
                Tensor::cat(&pieces, 0)?.reshape(shape.as_slice())?,
            );
        }
        Ok(tensors)
    }
}

/// The tensors in groups whose files have at most `limit` bytes; shapes of those that had to be cut go to `split`.
fn shards(
    tensors: &Named,
    limit: usize,
    split: &mut BTreeMap<String, Vec<usize>>,
) -> Result<Vec<Named>> {
    // The entry of a tensor in the file's head, and the head's own entry, in bytes: more than they ever take.
    let entry = |name: &str| 256 + 2 * name.len();
    const HEAD: usize = 1024;
    let mut shards: Vec<Named> = Vec::new();
    let mut room = 0;
    for (name, tensor) in tensors {
        let most = limit.saturating_sub(HEAD + entry(name));
        let pieces = pieces(name, tensor, most)?;
        if pieces.len() > 1 {
            split.insert(name.clone(), tensor.dims().to_vec());
        }
        for (name, piece) in pieces {
            let size = entry(&name) + bytes_of(&piece);
            if size > room {
                shards.push(Named::new());
                room = limit - HEAD;
            }
            room = room.saturating_sub(size);
            if let Some(shard) = shards.last_mut() {
                shard.insert(name, piece);
            }
        }
    }
    Ok(shards)
}

/// A tensor, or its values in pieces of at most `most` bytes.
fn pieces(name: &str, tensor: &Tensor, most: usize) -> Result<Vec<(String, Tensor)>> {
    let tensor = tensor.to_device(&Device::Cpu)?;
    if bytes_of(&tensor) <= most {
        return Ok(vec![(name.to_owned(), tensor)]);
    }
    let each = (most / tensor.dtype().size_in_bytes()).max(1);
    let flat = tensor.flatten_all()?;
    let count = flat.elem_count();
    let begins = (0..count).step_by(each).enumerate();
    begins
        .map(|(i, from)| {
            let piece = flat.narrow(0, from, each.min(count - from))?;
            Ok((piece_name(name, i), piece))
        })
        .collect()
}

fn piece_name(name: &str, index: usize) -> String {
    format!("{name}#{index:04}")
}

fn bytes_of(tensor: &Tensor) -> usize {
    tensor.elem_count() * tensor.dtype().size_in_bytes()
}

/// The verified `state.json` of a checkpoint.
fn manifest(folder: &Path) -> Result<Manifest> {
    let path = folder.join(STATE);
    let (state, sum) = (read(&path)?, read(&folder.join(SUM))?);
    if !sum.starts_with(digest(&state).as_bytes()) {
        return Err(Error::model(shown(path), changed()));
    }
    serde_json::from_slice(&state).map_err(|e| {
        let why = format!("another version of autochrome wrote it ({e}); go on with that one");
        Error::model(shown(path), why)
    })
}

fn changed() -> String {
    "its SHA-256 is not what it was when it was written".into()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| Error::model(shown(path), io_sentence(&e)))
}

/// Makes the folder, and ends what a killed run began in it: what was being written or removed goes, a replaced
/// checkpoint whose successor did not come gets its name back.
fn tidy(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for path in entries(folder)? {
        let suffix = path.extension().unwrap_or_default();
        let name = path.with_extension("");
        if suffix == OLD && !name.exists() {
            fs::rename(&path, &name)?;
        } else if suffix == PART || suffix == OLD {
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect()
}

/// Makes the names in a folder durable.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
