//! Worker: one process of possibly many on an archive. It looks for what nobody does, gives it to its jobs, and writes down
//! what becomes of it.
//!
//! One thread decides everything, in the order in which letters come; a film goes through it like this:
//!
//! ```text
//! claimed ──▶ film ──▶ done ──▶ publishing ──▶ renamed ──▶ done
//!               └────▶ split ──▶ segments, each claimed ──▶ join ──▶ as above
//! ```

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::{
    hand::{Hand, Letter},
    record::{Digest, Done, Outcome, Record, key},
    room,
    settings::Settings,
    shard::Shard,
    state::{Claim, Held, State},
    task::{Film, Piece, Plan, Task, Told},
    walk::{Found, Item},
};
use crate::{
    controls::Controls,
    error::{Error, Result, io_sentence, shown},
    stage::{self, Mailbox, Post},
};

/// How often jobs, memory and disk are looked at.
const TICK: Duration = Duration::from_millis(250);
/// How long what somebody else works on is left alone.
const LATER: Duration = Duration::from_secs(2);
/// How often a piece of work is tried.
const ATTEMPTS: u32 = 2;

/// How a worker works.
#[derive(Clone, Debug)]
pub struct Options {
    /// The archive's root.
    pub root: PathBuf,
    /// Where results and state go.
    pub output: PathBuf,
    /// Everything that decides what films become.
    pub settings: Settings,
    /// The program whose processes do the jobs.
    pub program: PathBuf,
    /// Processes at once.
    pub jobs: usize,
    /// Memory that they may take together, in bytes.
    pub memory: u64,
    /// Where to begin looking.
    pub shard: Shard,
    /// After the first signal, pieces that end within this time are finished.
    pub grace: Duration,
    /// A job that tells nothing for so long has got stuck.
    pub patience: Duration,
    /// What has failed before is tried again.
    pub retry_failed: bool,
}

/// What a worker tells of its work.
pub enum Event<'a> {
    /// The jobs have their model, which runs there.
    Ready(&'a str, &'a str),
    /// A job begins something.
    Begins(usize, &'a str),
    /// It has done so many of so many frames.
    At(usize, u64, u64),
    /// It has ended it.
    Ends(usize),
    /// An item is over, and how.
    Over(&'a str, &'a Outcome),
    /// Something is tried again, or somebody else's.
    Said(&'a str),
    /// Where the whole archive is.
    Tick(Tally),
}

/// Where a worker's archive is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Tally {
    /// Items.
    pub items: usize,
    /// Of those, coloured now.
    pub done: usize,
    /// Coloured before.
    pub before: usize,
    /// Not to be coloured.
    pub skipped: usize,
    /// Failed, now or before.
    pub failed: usize,
    /// Worked on by others.
    pub others: usize,
    /// Bytes of the sources that are to be worked on, and that are done; parts of films count.
    pub bytes: u64,
    /// Likewise.
    pub bytes_done: u64,
}

/// What a worker leaves behind.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// The last figures.
    pub tally: Tally,
    /// The model and where it ran.
    pub model: String,
    /// Items that are still to be done, by this worker or another one.
    pub waiting: Vec<String>,
    /// The first failure's exit code, what it was of, and why.
    pub failure: Option<(u8, String, String)>,
    /// It was asked to stop, or had to: work is left.
    pub stopped: Option<String>,
}

/// A film's plan as it lies beside its segments.
#[derive(Serialize, Deserialize)]
struct Written {
    digest: Digest,
    settings: String,
    plan: Plan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Unit {
    Film,
    Segment(usize),
    Join,
}

/// What a job does.
struct Work {
    item: usize,
    unit: Unit,
    claim: Claim,
    film: Film,
    digest: Digest,
    since: Instant,
    heard: Instant,
    at: (u64, u64),
}

#[derive(Default)]
struct Slot {
    hand: Option<Hand>,
    /// How many hands it has had.
    hands: u64,
    work: Option<Work>,
}

/// What can be done for an item.
enum Pick {
    Work(Box<(Unit, Claim, Digest)>),
    /// Somebody else does what there is to do.
    Held(Held),
    Over(Over),
}

enum Over {
    Before,
    Skipped,
    Failed(String),
    Done,
}

/// Works on an archive until there is nothing left to do for this worker.
///
/// # Errors
/// The state cannot be read or written; no job can have its model. What happens to single films is in the summary.
pub fn run(
    options: &Options,
    found: &Found,
    state: &State,
    controls: &Controls,
    tell: &mut dyn FnMut(Event),
) -> Result<Summary> {
    let (post, letters) = stage::mailbox();
    let mut worker = Worker::new(options, found, state, post, tell);
    worker.prepare(&letters)?;
    worker.work(&letters, controls)?;
    Ok(worker.end())
}

struct Worker<'a> {
    options: &'a Options,
    items: &'a [Item],
    state: &'a State,
    post: Post<Letter>,
    tell: &'a mut dyn FnMut(Event),
    slots: Vec<Slot>,
    queue: VecDeque<usize>,
    later: Vec<(Instant, usize)>,
    /// Items of `later` whose holder is believed to be well.
    others: HashSet<usize>,
    model: String,
    settings: String,
    plans: HashMap<usize, Plan>,
    /// Pieces of the films in work that are known to be done.
    pieces: HashMap<usize, HashSet<usize>>,
    attempts: HashMap<(usize, Unit), u32>,
    tally: Tally,
    worked: HashMap<usize, f64>,
    failure: Option<(u8, String, String)>,
    stopping: Option<(Instant, String)>,
    told: Instant,
}

impl<'a> Worker<'a> {
    fn new(
        options: &'a Options,
        found: &'a Found,
        state: &'a State,
        post: Post<Letter>,
        tell: &'a mut dyn FnMut(Event),
    ) -> Self {
        let items = &found.items;
        let start = options.shard.start(items.len());
        let queue = (start..items.len()).chain(0..start).collect();
        Self {
            options,
            items,
            state,
            post,
            tell,
            slots: (0..options.jobs).map(|_| Slot::default()).collect(),
            queue,
            later: Vec::new(),
            others: HashSet::new(),
            model: String::new(),
            settings: String::new(),
            plans: HashMap::new(),
            pieces: HashMap::new(),
            attempts: HashMap::new(),
            tally: Tally {
                items: items.len(),
                bytes: items.iter().map(|item| item.bytes).sum(),
                ..Tally::default()
            },
            worked: HashMap::new(),
            failure: None,
            stopping: None,
            told: Instant::now(),
        }
    }

    /// The first job says which model there is: without one nothing can be done.
    fn prepare(&mut self, letters: &Mailbox<Letter>) -> Result<()> {
        self.hand(0)?;
        match letters.wait() {
            Some((_, Some(Told::Ready { model, device, .. }))) => {
                self.settings = self.options.settings.digest(&model)?;
                (self.tell)(Event::Ready(&model, &device));
                self.model = match device.is_empty() {
                    true => model,
                    false => format!("{model} on {device}"),
                };
                Ok(())
            }
            Some((_, Some(Told::Failed(5, why)))) => {
                Err(Error::model(&self.options.settings.model, why))
            }
            Some((_, Some(Told::Failed(_, why)))) => Err(Error::Usage(why)),
            _ => {
                let cause = self.slots[0].hand.as_mut().map(Hand::cause);
                Err(Error::internal("job", cause.unwrap_or_default()))
            }
        }
    }

    fn work(&mut self, letters: &Mailbox<Letter>, controls: &Controls) -> Result<()> {
        loop {
            if controls.is_finishing() && self.stopping.is_none() {
                self.stop("it was asked to stop");
            }
            self.wake();
            for slot in 0..self.slots.len() {
                while self.slots[slot].work.is_none()
                    && self.stopping.is_none()
                    && self.begin(slot)?
                {}
            }
            let busy = self.slots.iter().any(|slot| slot.work.is_some());
            if !busy && (self.stopping.is_some() || self.is_over()) {
                return Ok(());
            }
            if let Some(letter) = letters.within(TICK) {
                self.read(letter)?;
            }
            self.look(controls)?;
        }
    }

    /// Whether all that is left is in good hands.
    fn is_over(&self) -> bool {
        self.queue.is_empty()
            && self
                .later
                .iter()
                .all(|(_, item)| self.others.contains(item))
    }

    fn stop(&mut self, why: &str) {
        self.stopping
            .get_or_insert((Instant::now(), why.to_owned()));
    }

    /// What was left alone for a while is looked at again.
    fn wake(&mut self) {
        let now = Instant::now();
        let due: Vec<usize> = self
            .later
            .iter()
            .filter(|(at, _)| *at <= now)
            .map(|(_, item)| *item)
            .collect();
        self.later.retain(|(at, _)| *at > now);
        self.queue.extend(due);
    }

    // -- finding work --

    /// Looks at the next item for a slot; whether there may be more to look at.
    fn begin(&mut self, slot: usize) -> Result<bool> {
        if let Some(why) = room::lack(&self.options.output, self.expected())? {
            self.stop(&why);
            return Ok(false);
        }
        let Some(item) = self.queue.pop_front() else {
            return Ok(false);
        };
        self.others.remove(&item);
        match self.pick(item)? {
            Pick::Work(work) => {
                let (unit, claim, digest) = *work;
                self.give(slot, item, unit, claim, digest)?;
                // The next segment of a film may be for the next slot.
                if let Unit::Segment(_) = unit {
                    self.queue.push_front(item);
                }
                Ok(false)
            }
            Pick::Held(held) => {
                if held == Held::Alive {
                    self.others.insert(item);
                }
                self.later.push((Instant::now() + LATER, item));
                Ok(!self.queue.is_empty())
            }
            Pick::Over(over) => {
                self.over(item, over);
                Ok(true)
            }
        }
    }

    /// Bytes that what is in work may still want on the disk.
    fn expected(&self) -> u64 {
        let works = self.slots.iter().filter_map(|slot| slot.work.as_ref());
        works.map(|work| self.items[work.item].bytes).sum()
    }

    fn pick(&mut self, at: usize) -> Result<Pick> {
        let item = &self.items[at];
        let digest = match Digest::of(&item.path) {
            Ok(digest) => digest,
            Err(e) => return Ok(Pick::Over(Over::Failed(e.to_string()))),
        };
        let key = key(&item.source);
        let record = self.state.record(&key)?;
        if let Some(pick) = self.judge(at, &digest, record.as_ref())? {
            return Ok(pick);
        }
        let claim = match self.state.claim(&key)? {
            Ok(claim) => claim,
            Err(held) => return Ok(Pick::Held(held)),
        };
        // Somebody may have done it just before.
        let now = self.state.record(&key)?;
        if now != record
            && let Some(pick) = self.judge(at, &digest, now.as_ref())?
        {
            return Ok(pick);
        }
        self.take(at, claim, digest, now)
    }

    /// What an item's record says that there is to do, if the record is of this source and these settings.
    fn judge(
        &mut self,
        at: usize,
        digest: &Digest,
        record: Option<&Record>,
    ) -> Result<Option<Pick>> {
        let Some(record) = record.filter(|r| r.digest == *digest && r.settings == self.settings)
        else {
            return Ok(None);
        };
        Ok(match &record.outcome {
            Outcome::Done(done) => {
                let size = fs::metadata(self.options.output.join(&done.output)).map(|m| m.len());
                let there = size.is_ok_and(|size| size == done.bytes);
                there.then_some(Pick::Over(Over::Before))
            }
            Outcome::Skipped { .. } => Some(Pick::Over(Over::Skipped)),
            Outcome::Failed { why, .. } if !self.options.retry_failed => Some(Pick::Over(
                Over::Failed(format!("{why} (--retry-failed tries it again)")),
            )),
            Outcome::Split => self.piece_of(at, digest)?,
            Outcome::Failed { .. } | Outcome::Publishing(_) => None,
        })
    }

    /// With an item's claim in hand: what to do with it.
    fn take(
        &mut self,
        at: usize,
        claim: Claim,
        digest: Digest,
        record: Option<Record>,
    ) -> Result<Pick> {
        let item = &self.items[at];
        let key = key(&item.source);
        let target = self.options.output.join(&item.output);
        let known = record
            .as_ref()
            .filter(|r| r.digest == digest && r.settings == self.settings);
        match known.map(|r| &r.outcome) {
            Some(Outcome::Publishing(done)) => {
                if self.is_published(&key, done, &target) {
                    self.set_outcome(at, &digest, Outcome::Done(done.clone()))?;
                    self.state.end_film(&key);
                    return Ok(Pick::Over(Over::Done));
                }
            }
            Some(Outcome::Failed { .. }) => {
                let plan = self.state.of_film::<Written>(&key, PLAN)?;
                if plan.is_some_and(|plan| plan.digest == digest && plan.settings == self.settings)
                {
                    self.set_outcome(at, &digest, Outcome::Split)?;
                    drop(claim);
                    return Ok(self
                        .piece_of(at, &digest)?
                        .unwrap_or(Pick::Held(Held::Silent)));
                }
            }
            _ => {}
        }
        if record.is_none() && target.exists() {
            let why = format!(
                "{} exists already and is not of this archive: move it away",
                shown(&target)
            );
            self.set_outcome(
                at,
                &digest,
                Outcome::Failed {
                    why: why.clone(),
                    attempts: 0,
                },
            )?;
            return Ok(Pick::Over(Over::Failed(why)));
        }
        if record.is_some_and(|r| r.outcome == Outcome::Split) {
            // Its segments are of another source, or other settings.
            self.state.end_film(&key);
        }
        Ok(Pick::Work(Box::new((Unit::Film, claim, digest))))
    }

    /// Whether what was about to be published has its name, or can be given it now.
    fn is_published(&self, key: &str, done: &Done, target: &Path) -> bool {
        let size = |path: &Path| fs::metadata(path).is_ok_and(|m| m.len() == done.bytes);
        let same = |path: &Path| {
            size(path)
                && super::job::digest(path, || Ok(())).is_ok_and(|(_, sum)| sum == done.sha256)
        };
        let waiting = self.state.waiting(key);
        same(target)
            || waiting
                .iter()
                .any(|path| same(path) && fs::rename(path, target).is_ok())
    }

    /// A segment that nobody does, or the joining of them all.
    fn piece_of(&mut self, at: usize, digest: &Digest) -> Result<Option<Pick>> {
        let key = key(&self.items[at].source);
        if !self.plans.contains_key(&at) {
            let written = self.state.of_film::<Written>(&key, PLAN)?;
            let Some(written) =
                written.filter(|w| w.digest == *digest && w.settings == self.settings)
            else {
                return Ok(None);
            };
            self.plans.insert(at, written.plan);
        }
        let count = self.plans.get(&at).map_or(0, |plan| plan.segments.len());
        let mut held = None;
        for number in 0..count {
            if self.is_done(at, &key, number) {
                continue;
            }
            match self.state.claim(&format!("{key}-{number:05}"))? {
                Ok(claim) if self.is_done(at, &key, number) => drop(claim),
                Ok(claim) => {
                    let work = (Unit::Segment(number), claim, digest.clone());
                    return Ok(Some(Pick::Work(Box::new(work))));
                }
                Err(other) => {
                    held = Some(if other == Held::Silent {
                        other
                    } else {
                        held.unwrap_or(other)
                    })
                }
            }
        }
        if let Some(held) = held {
            return Ok(Some(Pick::Held(held)));
        }
        Ok(Some(match self.state.claim(&format!("{key}-join"))? {
            Err(held) => Pick::Held(held),
            Ok(claim) => Pick::Work(Box::new((Unit::Join, claim, digest.clone()))),
        }))
    }

    fn is_done(&mut self, at: usize, key: &str, number: usize) -> bool {
        let known = self.pieces.entry(at).or_default();
        if known.contains(&number) {
            return true;
        }
        let done = self.state.has(key, &marker(number));
        done && known.insert(number)
    }

    // -- jobs --

    /// A slot's process, started where there is none.
    fn hand(&mut self, at: usize) -> Result<&mut Hand> {
        let slot = &mut self.slots[at];
        if slot.hand.is_none() {
            slot.hands += 1;
            let name = ((at, slot.hands), self.post.clone());
            slot.hand = Some(Hand::start(
                &self.options.program,
                &self.options.settings,
                name,
            )?);
        }
        slot.hand
            .as_mut()
            .ok_or_else(|| Error::internal("job", "no process"))
    }

    fn give(
        &mut self,
        slot: usize,
        at: usize,
        unit: Unit,
        claim: Claim,
        digest: Digest,
    ) -> Result<()> {
        let item = &self.items[at];
        let key = key(&item.source);
        let name = self.options.output.join(&item.output);
        let file = name
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let output = match unit {
            Unit::Film | Unit::Join => self.state.own(&key, &file),
            Unit::Segment(number) => self.state.own_segment(&key, number),
        };
        let film = Film {
            input: item.path.display().to_string(),
            output,
            name: name.display().to_string(),
            sheet: self.state.sheet(&key),
        };
        let plan = || self.plans.get(&at).cloned().map(Box::new);
        let (task, told) = match (unit, plan()) {
            (Unit::Segment(number), Some(plan)) => {
                let told = format!(
                    "{}, segment {} of {}",
                    item.source,
                    number + 1,
                    plan.segments.len()
                );
                (Task::Segment(film.clone(), plan, number), told)
            }
            (Unit::Join, Some(plan)) => match self.joined(at, &key, plan)? {
                Some((plan, paths, end)) => {
                    let task = Task::Join(film.clone(), plan, paths, end);
                    (task, format!("{}, joining", item.source))
                }
                // A segment turned out to be damaged: it is done anew.
                None => {
                    self.queue.push_front(at);
                    return Ok(());
                }
            },
            _ => (Task::Film(film.clone()), item.source.clone()),
        };
        self.hand(slot)?.give(&task);
        (self.tell)(Event::Begins(slot, &told));
        let now = Instant::now();
        self.slots[slot].work = Some(Work {
            item: at,
            unit,
            claim,
            film,
            digest,
            since: now,
            heard: now,
            at: (0, 0),
        });
        Ok(())
    }

    /// The segments of a film that are all there, and where the last frame ends; `None` where one is not what was written.
    fn joined(
        &mut self,
        at: usize,
        key: &str,
        plan: Box<Plan>,
    ) -> Result<Option<(Box<Plan>, Vec<PathBuf>, i64)>> {
        let (mut paths, mut end, mut whole) = (Vec::new(), 0, true);
        for number in 0..plan.segments.len() {
            let piece = self.state.of_film::<Piece>(key, &marker(number))?;
            let path = self.state.film(key).join(format!("{number:05}.nut"));
            let size = fs::metadata(&path).map(|m| m.len()).ok();
            match piece {
                Some(piece) if Some(piece.bytes) == size => {
                    end = piece.end;
                    paths.push(path);
                }
                _ => {
                    whole = false;
                    self.state.forget(key, &marker(number));
                    self.pieces.remove(&at);
                }
            }
        }
        Ok(whole.then_some((plan, paths, end)))
    }

    fn read(&mut self, ((at, hands), told): Letter) -> Result<()> {
        if self.slots[at].hands != hands {
            return Ok(());
        }
        let Some(told) = told else {
            let hand = self.slots[at].hand.take();
            let cause = hand.map(|mut hand| hand.cause()).unwrap_or_default();
            return match self.finished(at) {
                Some(work) => self.failed(work, (70, cause)),
                None => Ok(()),
            };
        };
        if let Some(work) = &mut self.slots[at].work {
            work.heard = Instant::now();
        }
        match told {
            Told::At(done, of) => {
                if let Some(work) = &mut self.slots[at].work {
                    work.at = (done, of);
                }
                (self.tell)(Event::At(at, done, of));
                Ok(())
            }
            Told::Ready { .. } => Ok(()),
            told => match self.finished(at) {
                Some(work) => self.settle(work, told),
                None => Ok(()),
            },
        }
    }

    fn finished(&mut self, at: usize) -> Option<Work> {
        let work = self.slots[at].work.take()?;
        (self.tell)(Event::Ends(at));
        Some(work)
    }

    /// Writes down what came of a piece of work.
    fn settle(&mut self, work: Work, told: Told) -> Result<()> {
        match (told, work.unit) {
            (Told::Done(piece), Unit::Segment(number)) => self.keep_segment(work, number, &piece),
            (Told::Done(piece), _) => self.publish(work, piece),
            (Told::Split(plan), _) => self.split(work, *plan),
            (Told::Skip(why), _) => {
                let outcome = Outcome::Skipped { why };
                self.set_outcome(work.item, &work.digest, outcome.clone())?;
                (self.tell)(Event::Over(&self.items[work.item].source, &outcome));
                self.over(work.item, Over::Skipped);
                Ok(())
            }
            (Told::Refused(why), _) => {
                let said = format!("{}: {why}; left to others", self.items[work.item].source);
                (self.tell)(Event::Said(&said));
                self.queue.retain(|item| *item != work.item);
                self.others.insert(work.item);
                self.later.push((Instant::now() + 30 * LATER, work.item));
                Ok(())
            }
            (Told::Failed(code, why), _) => self.failed(work, (code, why)),
            (Told::Ready { .. } | Told::At(..) | Told::Looked(_), _) => Ok(()),
        }
    }

    /// Whether work may still be given its name: who was paused for long may have lost the right to it.
    fn may_keep(&mut self, work: &Work) -> bool {
        let held = self.state.holds(&work.claim);
        if !held {
            let said = format!(
                "{}: another worker has taken it over",
                self.items[work.item].source
            );
            (self.tell)(Event::Said(&said));
            let _ = fs::remove_file(&work.film.output);
            self.later.push((Instant::now() + LATER, work.item));
        }
        held
    }

    fn keep_segment(&mut self, work: Work, number: usize, piece: &Piece) -> Result<()> {
        if !self.may_keep(&work) {
            return Ok(());
        }
        let key = key(&self.items[work.item].source);
        let path = self.state.film(&key).join(format!("{number:05}.nut"));
        self.state.rename(&work.film.output, &path)?;
        self.state.set_of_film(&key, &marker(number), piece)?;
        self.pieces.entry(work.item).or_default().insert(number);
        if !self.queue.contains(&work.item) {
            self.queue.push_front(work.item);
        }
        Ok(())
    }

    fn split(&mut self, work: Work, plan: Plan) -> Result<()> {
        let key = key(&self.items[work.item].source);
        self.state.begin_film(&key)?;
        let written = Written {
            digest: work.digest.clone(),
            settings: self.settings.clone(),
            plan,
        };
        self.state.set_of_film(&key, PLAN, &written)?;
        self.set_outcome(work.item, &work.digest, Outcome::Split)?;
        self.plans.insert(work.item, written.plan);
        self.pieces.remove(&work.item);
        self.queue.push_front(work.item);
        Ok(())
    }

    /// A film is whole: it gets its name, and its record says so before and after.
    fn publish(&mut self, work: Work, piece: Piece) -> Result<()> {
        if !self.may_keep(&work) {
            return Ok(());
        }
        let item = &self.items[work.item];
        if Digest::of(&item.path).ok().as_ref() != Some(&work.digest) {
            let why = "the source was changed while it was coloured: it is begun anew";
            let _ = fs::remove_file(&work.film.output);
            return self.failed(work, (3, why.into()));
        }
        let key = key(&item.source);
        let target = self.options.output.join(&item.output);
        let done = self.done(&work, piece, &key)?;
        self.set_outcome(work.item, &work.digest, Outcome::Publishing(done.clone()))?;
        let refused = |e: std::io::Error| Error::output(shown(&target), io_sentence(&e));
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).map_err(refused)?;
        }
        fs::rename(&work.film.output, &target).map_err(refused)?;
        super::whole::sync_folder(&target);
        let outcome = Outcome::Done(done);
        self.set_outcome(work.item, &work.digest, outcome.clone())?;
        if work.unit == Unit::Join {
            self.state.end_film(&key);
        }
        (self.tell)(Event::Over(&item.source, &outcome));
        self.over(work.item, Over::Done);
        Ok(())
    }

    fn done(&self, work: &Work, piece: Piece, key: &str) -> Result<Done> {
        let mut done = Done {
            output: self.items[work.item].output.clone(),
            bytes: piece.bytes,
            sha256: piece.sha256,
            frames: piece.frames,
            kept: piece.kept,
            size: piece.size,
            seconds: piece.seconds,
            worked: piece.worked,
            segments: 1,
            lossless: piece
                .streams
                .first()
                .is_some_and(|line| line.starts_with("video ffv1")),
            model: piece.model,
            streams: piece.streams,
            warnings: piece.warnings,
        };
        if let (Unit::Join, Some(plan)) = (work.unit, self.plans.get(&work.item)) {
            done.segments = plan.segments.len();
            for number in 0..plan.segments.len() {
                let piece = self
                    .state
                    .of_film::<Piece>(key, &marker(number))?
                    .unwrap_or_default();
                done.kept += piece.kept;
                done.worked += piece.worked;
                let fresh = piece
                    .warnings
                    .into_iter()
                    .filter(|w| !done.warnings.contains(w));
                done.warnings.extend(fresh.collect::<Vec<_>>());
            }
        }
        Ok(done)
    }

    fn failed(&mut self, work: Work, (code, why): (u8, String)) -> Result<()> {
        self.clean(&work);
        let why = why.replace(&*work.film.output.to_string_lossy(), &work.film.name);
        if room::is_full(&why) {
            self.stop(&why);
            self.queue.push_front(work.item);
            return Ok(());
        }
        let source = &self.items[work.item].source;
        let tried = self.attempts.entry((work.item, work.unit)).or_default();
        *tried += 1;
        if *tried < ATTEMPTS {
            (self.tell)(Event::Said(&format!(
                "{source}: {why}; it is tried once more"
            )));
            self.queue.push_back(work.item);
            return Ok(());
        }
        let outcome = Outcome::Failed {
            why: why.clone(),
            attempts: *tried,
        };
        self.set_outcome(work.item, &work.digest, outcome.clone())?;
        (self.tell)(Event::Over(source, &outcome));
        self.failure
            .get_or_insert((code, source.clone(), why.clone()));
        self.queue.retain(|item| *item != work.item);
        self.over(work.item, Over::Failed(why));
        Ok(())
    }

    /// Removes what is left of a piece of work that came to nothing.
    fn clean(&self, work: &Work) {
        let mut part = work.film.output.clone().into_os_string();
        part.push(".part");
        for path in [PathBuf::from(part), work.film.output.clone()] {
            let _ = fs::remove_file(path);
        }
    }

    fn set_outcome(&self, at: usize, digest: &Digest, outcome: Outcome) -> Result<()> {
        let item = &self.items[at];
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let record = Record {
            source: item.source.clone(),
            root: self.options.root.display().to_string(),
            digest: digest.clone(),
            settings: self.settings.clone(),
            outcome,
            finished: now.as_secs(),
            worker: self.state.worker().to_owned(),
        };
        self.state.set_record(&key(&item.source), &record)
    }

    fn over(&mut self, at: usize, over: Over) {
        match over {
            Over::Before => self.tally.before += 1,
            Over::Skipped => self.tally.skipped += 1,
            Over::Done => self.tally.done += 1,
            Over::Failed(why) => {
                self.tally.failed += 1;
                let source = self.items[at].source.clone();
                self.failure.get_or_insert((3, source, why));
            }
        }
        self.tally.bytes_done += self.items[at].bytes;
        self.plans.remove(&at);
        self.pieces.remove(&at);
        self.worked.remove(&at);
    }

    // -- watching over jobs --

    fn look(&mut self, controls: &Controls) -> Result<()> {
        let most = self.options.memory / self.options.jobs.max(1) as u64;
        let stopping = self.stopping.as_ref().map(|(since, _)| since.elapsed());
        let at_once = controls.check().is_err();
        for slot in &mut self.slots {
            let (Some(hand), Some(work)) = (&mut slot.hand, &slot.work) else {
                continue;
            };
            let left = self
                .options
                .grace
                .saturating_sub(stopping.unwrap_or_default());
            if stopping.is_some() && (at_once || !work.ends_within(left)) {
                hand.end(DROPPED);
            } else if work.heard.elapsed() > self.options.patience {
                hand.end(format!(
                    "it made no progress for {:.0} s",
                    self.options.patience.as_secs_f64()
                ));
            } else if hand.memory() > most {
                hand.end(format!(
                    "it needed more than {} MiB of memory, its share: try fewer --jobs, or more --memory",
                    most >> 20
                ));
            }
        }
        self.drop_ended();
        if self.told.elapsed() >= TICK {
            self.told = Instant::now();
            let tally = self.tally();
            (self.tell)(Event::Tick(tally));
        }
        Ok(())
    }

    /// Work that was dropped for the sake of stopping has not failed.
    fn drop_ended(&mut self) {
        for at in 0..self.slots.len() {
            let slot = &mut self.slots[at];
            if slot
                .hand
                .as_ref()
                .is_some_and(|hand| hand.ended.as_deref() == Some(DROPPED))
            {
                slot.hand = None;
                slot.hands += 1;
                if let Some(work) = self.finished(at) {
                    self.clean(&work);
                    self.queue.push_front(work.item);
                }
            }
        }
    }

    fn tally(&self) -> Tally {
        let works = self.slots.iter().filter_map(|slot| slot.work.as_ref());
        let share = |work: &Work| match (work.unit, self.plans.get(&work.item), work.at) {
            (_, _, (_, 0)) => 0.,
            (Unit::Segment(_), Some(plan), (done, of)) => {
                done as f64 / of as f64 / plan.segments.len() as f64
            }
            (Unit::Join, ..) => 0.,
            (_, _, (done, of)) => (done as f64 / of as f64).min(1.),
        };
        let parts: f64 = works
            .map(|work| share(work) * self.items[work.item].bytes as f64)
            .sum();
        let whole = |(item, done): (&usize, &HashSet<usize>)| {
            let count = self.plans.get(item).map_or(1, |plan| plan.segments.len());
            (self.items[*item].bytes as f64 * done.len() as f64 / count as f64) as u64
        };
        let pieces: u64 = self.pieces.iter().map(whole).sum();
        Tally {
            others: self.others.len(),
            bytes_done: self.tally.bytes_done + parts as u64 + pieces,
            ..self.tally
        }
    }

    fn end(mut self) -> Summary {
        let tally = self.tally();
        let left = self
            .queue
            .iter()
            .copied()
            .chain(self.later.iter().map(|(_, item)| *item));
        let mut waiting: Vec<String> = left.map(|item| self.items[item].source.clone()).collect();
        waiting.sort_unstable();
        waiting.dedup();
        Summary {
            tally,
            model: std::mem::take(&mut self.model),
            waiting,
            failure: self.failure.take(),
            stopped: self.stopping.take().map(|(_, why)| why),
        }
    }
}

/// Why a job was ended whose work is not to count as failed.
const DROPPED: &str = "dropped";
/// The file that says how a film is taken apart.
const PLAN: &str = "plan.json";

/// The file that says that a segment is safely on the disk.
fn marker(number: usize) -> String {
    format!("{number:05}.json")
}

impl Work {
    /// Whether it will end in this time, by how fast it went so far.
    fn ends_within(&self, time: Duration) -> bool {
        let (done, of) = self.at;
        let passed = self.since.elapsed().as_secs_f64();
        let left = match done {
            0 => f64::INFINITY,
            done => passed * of.saturating_sub(done) as f64 / done as f64,
        };
        left < time.as_secs_f64()
    }
}
