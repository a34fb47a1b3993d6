//! Worker: one process of possibly many on an archive. It looks for what nobody does, gives it to its jobs, and writes down
//! what becomes of it.
//!
//! One thread decides everything, in the order in which letters come; a film goes through it like this:
//!
//! ```text
//! claimed ──▶ film ──▶ done ──▶ publishing ──▶ renamed ──▶ done
//!               └────▶ split ──▶ segments, each claimed ──▶ join ──▶ as above
//! ```

mod find;
mod give;
mod keep;
mod watch;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    path::PathBuf,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{
    hand::{Hand, Letter},
    record::{Digest, Outcome, Record},
    room,
    settings::Settings,
    shard::Shard,
    state::{Claim, Held, State},
    task::{Film, Plan, Told},
    walk::{Found, Item},
};
use crate::{
    controls::Controls,
    error::{Error, Result},
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
    /// Of those, done without this worker.
    pub bytes_before: u64,
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
    /// What became of the items that were looked at.
    pub records: Vec<Record>,
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
    state.sweep()?;
    worker.prepare(&letters)?;
    worker.work(&letters, controls)?;
    state.sweep()?;
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
    /// Items that are over, and items that are not for this worker.
    over: HashSet<usize>,
    /// The last that is known of every item's record.
    records: HashMap<usize, Record>,
    /// Items that were worked on here.
    begun: HashSet<usize>,
    refused: HashSet<usize>,
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
            over: HashSet::new(),
            records: HashMap::new(),
            begun: HashSet::new(),
            refused: HashSet::new(),
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

    /// Looks at the next item for a slot; whether there may be more to look at.
    fn begin(&mut self, slot: usize) -> Result<bool> {
        if let Some(why) = room::lack(&self.options.output, self.expected())? {
            self.stop(&why);
            return Ok(false);
        }
        let Some(item) = self.queue.pop_front() else {
            return Ok(false);
        };
        if self.over.contains(&item) || self.refused.contains(&item) {
            return Ok(true);
        }
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
                if let Over::Failed(why) = &over {
                    let said = format!("{}: {why}", self.items[item].source);
                    (self.tell)(Event::Said(&said));
                }
                self.over(item, over);
                Ok(true)
            }
        }
    }

    /// Bytes that what is in work may still want on the disk.
    fn expected(&self) -> u64 {
        let works = self.slots.iter().filter_map(|slot| slot.work.as_ref());
        let next = self.queue.front().map_or(0, |item| self.items[*item].bytes);
        next + works.map(|work| self.items[work.item].bytes).sum::<u64>()
    }

    fn end(mut self) -> Summary {
        let tally = self.tally();
        let left = self
            .queue
            .iter()
            .copied()
            .chain(self.later.iter().map(|(_, item)| *item));
        let left = left.chain(self.refused.iter().copied());
        let left = left.filter(|item| !self.over.contains(item));
        let mut waiting: Vec<String> = left.map(|item| self.items[item].source.clone()).collect();
        waiting.sort_unstable();
        waiting.dedup();
        Summary {
            tally,
            model: std::mem::take(&mut self.model),
            waiting,
            failure: self.failure.take(),
            records: self.records.into_values().collect(),
            stopped: self.stopping.take().map(|(_, why)| why),
        }
    }
}

/// The file that says how a film is taken apart.
const PLAN: &str = "plan.json";

/// The file that says that a segment is safely on the disk.
fn marker(number: usize) -> String {
    format!("{number:05}.json")
}
