//! State: what all workers on an archive know of it, as small files in a folder that they share.
//!
//! ```text
//! items/ab/KEY.json      what became of an item            written whole, by whoever holds its claim
//! films/KEY/plan.json    a film's segments                 the first to come is the one that counts
//! films/KEY/00007.nut    a segment, and 00007.json with what there is to say of it
//! claims/KEY[-00007]     who works on it                   made by one only, removed by who made it
//! workers/ID             a worker, and its heart           written to every few seconds
//! sheets/ab/KEY.jpg      some pictures, before and after
//! ```
//!
//! There is no lock: a claim keeps work from being done twice, not results from being right. Whoever is believed dead and is
//! not may finish what another one has begun anew; both write the same, each under a name of its own, and what counts is
//! renamed into place. Ages are differences between times that the file server gave, never of a worker's own clock.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    FOLDER,
    heart::{BEATS, Worker},
    record::Record,
    whole,
};
use crate::{
    error::{Error, Result, io_sentence, shown},
    stage::Apart,
};

/// The shared folder, as one worker sees it.
pub struct State {
    folder: PathBuf,
    /// Who this worker is.
    me: Worker,
    /// A worker whose heart has not beaten for so long is dead.
    lease: Duration,
    /// Files that were made, read, renamed or removed here.
    operations: AtomicU64,
    /// The heart stops when this is raised.
    ended: Arc<AtomicBool>,
    heart: Option<Apart<()>>,
}

/// The right to work on something, until it is dropped.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    id: String,
    /// It was just seen to be this worker's still.
    sure: bool,
}

/// Who holds what one wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// A worker whose heart beats.
    Alive,
    /// One that has not been heard for a while and is not yet believed dead.
    Silent,
}

impl State {
    /// Opens the state of the archive whose results go to `output`, making what is missing.
    ///
    /// # Errors
    /// [`Error::Output`] where it cannot be written there.
    pub fn open(output: &Path, lease: Duration) -> Result<Self> {
        let folder = output.join(FOLDER);
        for part in ["items", "films", "claims", "workers", "sheets"] {
            let path = folder.join(part);
            fs::create_dir_all(&path).map_err(|e| refused(&path, &e))?;
        }
        let me = Worker::this();
        let mut state = Self {
            folder,
            me,
            lease,
            operations: AtomicU64::new(0),
            ended: Arc::default(),
            heart: None,
        };
        state.start_heart()?;
        Ok(state)
    }

    /// Who this worker is, for people.
    pub fn worker(&self) -> &str {
        &self.me.id
    }

    /// Files that were made, read, renamed or removed, without the heart's.
    pub fn operations(&self) -> u64 {
        self.operations.load(Ordering::Relaxed)
    }

    fn count(&self, operations: u64) {
        self.operations.fetch_add(operations, Ordering::Relaxed);
    }

    // -- records --

    fn item(&self, key: &str) -> PathBuf {
        self.folder
            .join("items")
            .join(&key[..2])
            .join(format!("{key}.json"))
    }

    /// What became of an item.
    ///
    /// # Errors
    /// The record cannot be read, or is none.
    pub fn record(&self, key: &str) -> Result<Option<Record>> {
        self.read(&self.item(key))
    }

    /// Writes what became of an item.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn set_record(&self, key: &str, record: &Record) -> Result<()> {
        self.write(&self.item(key), record)
    }

    /// Where an item's pictures before and after lie.
    pub fn sheet(&self, key: &str) -> PathBuf {
        self.folder
            .join("sheets")
            .join(&key[..2])
            .join(format!("{key}.jpg"))
    }

    // -- films in segments --

    /// Where a film's segments lie.
    pub fn film(&self, key: &str) -> PathBuf {
        self.folder.join("films").join(key)
    }

    /// Where this worker writes what will be called `name`; nobody else writes there.
    pub fn own(&self, key: &str, name: &str) -> PathBuf {
        let folder = self.folder.join("films");
        folder.join(format!("{key}-{}-{name}", self.me.id))
    }

    /// Where this worker writes a film's segment.
    pub fn own_segment(&self, key: &str, number: usize) -> PathBuf {
        self.film(key)
            .join(format!("{number:05}-{}.nut", self.me.id))
    }

    /// Whole results of an item that wait for their name, of whatever worker.
    pub fn waiting(&self, key: &str) -> Vec<PathBuf> {
        self.count(1);
        let files = fs::read_dir(self.folder.join("films"))
            .into_iter()
            .flatten()
            .flatten();
        let paths = files.filter(|file| {
            file.file_name()
                .to_string_lossy()
                .starts_with(&format!("{key}-"))
        });
        let paths = paths.map(|file| file.path());
        paths
            .filter(|path| path.extension().is_none_or(|e| e != "part"))
            .collect()
    }

    /// Removes a film's small file.
    pub fn forget(&self, key: &str, name: &str) {
        self.count(1);
        // If it stays, the work is found to be damaged once more.
        let _ = fs::remove_file(self.film(key).join(name));
    }

    /// A small file of a film's.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn of_film<T: DeserializeOwned>(&self, key: &str, name: &str) -> Result<Option<T>> {
        self.read(&self.film(key).join(name))
    }

    /// Writes one.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn set_of_film(&self, key: &str, name: &str, value: &impl Serialize) -> Result<()> {
        self.write(&self.film(key).join(name), value)
    }

    /// Whether a film has this file.
    pub fn has(&self, key: &str, name: &str) -> bool {
        self.count(1);
        self.film(key).join(name).exists()
    }

    /// Gives what was written under a name of this worker's own the name that counts.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.count(1);
        fs::rename(from, to).map_err(|e| refused(to, &e))?;
        whole::sync_folder(to);
        Ok(())
    }

    /// Makes a film's folder.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn begin_film(&self, key: &str) -> Result<()> {
        self.count(1);
        let folder = self.film(key);
        fs::create_dir_all(&folder).map_err(|e| refused(&folder, &e))
    }

    /// Removes a film's folder with all that is in it.
    pub fn end_film(&self, key: &str) {
        self.count(1);
        // What cannot be removed is no harm: the next who works on the film tries again.
        let _ = fs::remove_dir_all(self.film(key));
    }

    // -- claims --

    /// The right to work on something, if nobody has it who is alive.
    ///
    /// # Errors
    /// The claim cannot be written.
    pub fn claim(&self, name: &str) -> Result<std::result::Result<Claim, Held>> {
        let path = self.folder.join("claims").join(name);
        if let Some(claim) = self.make(&path)? {
            return Ok(Ok(claim));
        }
        let Some(holder) = self.read::<Worker>(&path).unwrap_or(None) else {
            return self.claim_unsigned(&path);
        };
        if let Some(held) = self.judge(&holder) {
            return Ok(Err(held));
        }
        self.take_from(&path, &holder)?;
        Ok(self.make(&path)?.ok_or(Held::Alive))
    }

    /// A claim that says nobody's name: it is gone by now, or its maker is just about to write, or died over it.
    fn claim_unsigned(&self, path: &Path) -> Result<std::result::Result<Claim, Held>> {
        if self.age(path).is_some_and(|age| age > self.lease) {
            self.count(1);
            let _ = fs::remove_file(path);
        }
        Ok(self.make(path)?.ok_or(Held::Silent))
    }

    fn make(&self, path: &Path) -> Result<Option<Claim>> {
        // And it is removed.
        self.count(2);
        let made = OpenOptions::new().write(true).create_new(true).open(path);
        let mut file = match made {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(None),
            made => made.map_err(|e| refused(path, &e))?,
        };
        let claim = Claim {
            path: path.to_owned(),
            id: self.me.id.clone(),
            sure: false,
        };
        let words = json(&self.me)?;
        file.write_all(&words).map_err(|e| refused(path, &e))?;
        Ok(Some(claim))
    }

    /// Whether a worker is alive; `None` where it is dead.
    fn judge(&self, worker: &Worker) -> Option<Held> {
        if worker.host == self.me.host && worker.is_gone() {
            return None;
        }
        self.count(2);
        match (
            self.age(&self.heart_of(&worker.id)),
            worker.id == self.me.id,
        ) {
            (_, true) => Some(Held::Alive),
            (Some(age), _) if age < 3 * self.lease / BEATS => Some(Held::Alive),
            (Some(age), _) if age < self.lease => Some(Held::Silent),
            _ => None,
        }
    }

    fn heart_of(&self, id: &str) -> PathBuf {
        self.folder.join("workers").join(id)
    }

    /// How long nobody has written to a file, by the file server's clock.
    fn age(&self, path: &Path) -> Option<Duration> {
        let now = self.me.beat(&self.heart_of(&self.me.id)).ok()?;
        // Opened: a network's file system asks for the present age of a file only then.
        let then = File::open(path)
            .and_then(|f| f.metadata()?.modified())
            .ok()?;
        Some(now.duration_since(then).unwrap_or_default())
    }

    /// Removes what dead workers have left behind: their hearts, their claims, and what they had half written.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn sweep(&self) -> Result<()> {
        for path in self.listed("claims")? {
            let holder = self.read::<Worker>(&path).unwrap_or(None);
            if let Some(dead) = holder.filter(|holder| self.judge(holder).is_none()) {
                self.take_from(&path, &dead)?;
            }
        }
        let mut alive = Vec::new();
        for path in self.listed("workers")? {
            match self.read::<Worker>(&path).unwrap_or(None) {
                Some(worker) if self.judge(&worker).is_none() => drop(fs::remove_file(&path)),
                _ => alive.extend(path.file_name().map(|id| id.to_string_lossy().into_owned())),
            }
        }
        for path in self
            .listed("films")?
            .into_iter()
            .filter(|path| path.is_file())
        {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !alive.iter().any(|id| name.contains(id.as_str())) {
                // Nobody will ask for it.
                let _ = fs::remove_file(&path);
            }
        }
        Ok(())
    }

    fn listed(&self, folder: &str) -> Result<Vec<PathBuf>> {
        let folder = self.folder.join(folder);
        let files = fs::read_dir(&folder).map_err(|e| refused(&folder, &e))?;
        Ok(files.flatten().map(|file| file.path()).collect())
    }

    /// Takes a dead worker's claim out of the way. Of several who try, one succeeds; where it took another's fresh one
    /// instead, it puts that back.
    fn take_from(&self, path: &Path, dead: &Worker) -> Result<()> {
        let mut aside = path.as_os_str().to_owned();
        aside.push(format!(".{}", self.me.id));
        let aside = PathBuf::from(aside);
        self.count(2);
        if fs::rename(path, &aside).is_err() {
            return Ok(());
        }
        if self.read::<Worker>(&aside)?.as_ref() != Some(dead) {
            // If there is one by now, the work is done twice, which is no harm.
            let _ = fs::hard_link(&aside, path);
        }
        let _ = fs::remove_file(&aside);
        let _ = fs::remove_file(self.heart_of(&dead.id));
        Ok(())
    }

    /// Whether a claim is still this worker's: one that was paused for long may have lost it.
    pub fn holds(&self, claim: &mut Claim) -> bool {
        let holder = self.read::<Worker>(&claim.path);
        claim.sure = holder.is_ok_and(|holder| holder.is_some_and(|h| h.id == claim.id));
        claim.sure
    }

    // -- the heart --

    fn start_heart(&mut self) -> Result<()> {
        let path = self.heart_of(&self.me.id);
        self.me.beat(&path).map_err(|e| refused(&path, &e))?;
        let (me, ended, every) = (self.me.clone(), self.ended.clone(), self.lease / BEATS);
        let body = move || {
            let mut since = Duration::ZERO;
            while !ended.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(50));
                since += Duration::from_millis(50);
                if since >= every {
                    since = Duration::ZERO;
                    // A server that is away for a while is no reason to end; if it stays away others take over.
                    let _ = me.beat(&path);
                }
            }
            let _ = fs::remove_file(&path);
        };
        self.heart = Some(Apart::start("heart", body)?);
        Ok(())
    }

    // -- files --

    fn read<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>> {
        self.count(1);
        let mut text = Vec::new();
        match File::open(path).and_then(|mut f| f.read_to_end(&mut text)) {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(refused(path, &e)),
        }
        serde_json::from_slice(&text).map(Some).map_err(|e| {
            let why = format!("this is not what autochrome writes ({e}); remove it, and what it told of is done anew");
            Error::output(shown(path), why)
        })
    }

    fn write(&self, path: &Path, value: &impl Serialize) -> Result<()> {
        self.count(2);
        let bytes = json(value)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let through = self.own(&name, "state");
        let written = whole::write(path, &through, &bytes);
        let written = match (written, path.parent()) {
            (Err(e), Some(folder)) if e.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(folder).and_then(|()| whole::write(path, &through, &bytes))
            }
            (written, _) => written,
        };
        written.map_err(|e| refused(path, &e))
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = self.heart.take().map(Apart::join);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.sure {
            let text = fs::read(&self.path).unwrap_or_default();
            let holder = serde_json::from_slice::<Worker>(&text);
            self.sure = holder.is_ok_and(|holder| holder.id == self.id);
        }
        if self.sure {
            // One that stays is found to be a dead worker's.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).map_err(|e| Error::internal("archive", e))
}

fn refused(path: &Path, e: &std::io::Error) -> Error {
    Error::output(shown(path), io_sentence(e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn state(folder: &Path) -> State {
        State::open(folder, Duration::from_secs(60)).unwrap()
    }

    #[test]
    fn one_of_many_gets_a_claim_and_others_once_it_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let states: Vec<_> = (0..8).map(|_| state(folder.path())).collect();
        let claims: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = states
                .iter()
                .map(|state| scope.spawn(|| state.claim("film").unwrap().ok()))
                .collect();
            threads
                .into_iter()
                .filter_map(|t| t.join().unwrap())
                .collect()
        });
        assert_eq!(claims.len(), 1);
        assert_eq!(states[0].claim("film").unwrap().err(), Some(Held::Alive));
        drop(claims);
        assert!(states[3].claim("film").unwrap().is_ok());
    }

    #[test]
    fn a_dead_processs_claim_is_taken_over_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (state(folder.path()), state(folder.path()));
        let mut claim = one.claim("film").unwrap().unwrap();
        let mut dead = one.me.clone();
        dead.process.1 += 1;
        fs::write(&claim.path, json(&dead).unwrap()).unwrap();
        let mut taken = other.claim("film").unwrap().unwrap();
        assert!(other.holds(&mut taken) && !one.holds(&mut claim));
        drop(claim);
        assert!(
            other.holds(&mut taken),
            "who has lost it does not remove it"
        );
        assert_eq!(
            fs::read_dir(folder.path().join(FOLDER).join("claims"))
                .unwrap()
                .count(),
            1
        );
    }

    #[test]
    fn a_worker_elsewhere_is_dead_when_its_heart_has_been_still_for_the_lease() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (state(folder.path()), state(folder.path()));
        let claim = one.claim("film").unwrap().unwrap();
        let elsewhere = Worker {
            host: "elsewhere".into(),
            id: "elsewhere-1".into(),
            ..one.me.clone()
        };
        fs::write(&claim.path, json(&elsewhere).unwrap()).unwrap();
        let heart = folder.path().join(FOLDER).join("workers/elsewhere-1");
        let beats = |seconds: u64| {
            elsewhere.beat(&heart).unwrap();
            let then = SystemTime::now() - Duration::from_secs(seconds);
            File::options()
                .write(true)
                .open(&heart)
                .unwrap()
                .set_modified(then)
                .unwrap();
        };
        beats(3);
        assert_eq!(other.claim("film").unwrap().err(), Some(Held::Alive));
        beats(30);
        assert_eq!(other.claim("film").unwrap().err(), Some(Held::Silent));
        beats(61);
        assert!(other.claim("film").unwrap().is_ok());
    }

    #[test]
    fn what_the_dead_have_left_is_swept_away_and_what_the_living_have_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (state(folder.path()), state(folder.path()));
        let mut claim = one.claim("mine").unwrap().unwrap();
        let kept = one.own("abcd", "film.mkv");
        fs::write(&kept, "half").unwrap();
        let dead = Worker {
            id: "dead-1".into(),
            process: (one.me.process.0, one.me.process.1 + 1),
            ..one.me.clone()
        };
        dead.beat(&one.heart_of("dead-1")).unwrap();
        let claims = folder.path().join(FOLDER).join("claims");
        fs::write(claims.join("theirs"), json(&dead).unwrap()).unwrap();
        let left = folder
            .path()
            .join(FOLDER)
            .join("films/abcd-dead-1-film.mkv.part");
        fs::write(&left, "half").unwrap();
        other.sweep().unwrap();
        assert!(one.holds(&mut claim) && kept.exists() && !left.exists());
        assert_eq!(other.listed("claims").unwrap().len(), 1);
        assert_eq!(other.listed("workers").unwrap().len(), 2);
    }

    #[test]
    fn hearts_stop_with_their_workers() {
        let folder = tempfile::tempdir().unwrap();
        let hearts = folder.path().join(FOLDER).join("workers");
        let one = state(folder.path());
        assert_eq!(fs::read_dir(&hearts).unwrap().count(), 1);
        drop(one);
        assert_eq!(fs::read_dir(&hearts).unwrap().count(), 0);
    }

    #[test]
    fn what_is_no_record_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let state = state(folder.path());
        assert!(state.record("abcdef").unwrap().is_none());
        fs::create_dir_all(state.item("abcdef").parent().unwrap()).unwrap();
        fs::write(state.item("abcdef"), "{").unwrap();
        let e = state.record("abcdef").unwrap_err().to_string();
        assert!(e.contains("abcdef.json") && e.contains("remove it"), "{e}");
    }
}
