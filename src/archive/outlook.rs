//! Outlook: what there is to do in an archive, without doing it.

use std::collections::HashMap;

use super::{
    hand::Hand,
    record::{self, Digest, Outcome, Record},
    room,
    task::{Looked, Task, Told},
    walk::{Found, Item},
    worker::Options,
};
use crate::{
    error::{Error, Result},
    stage::{self, Mailbox},
};

/// Seconds of work a frame, and a million pixels of one, on two cores with the default model and encoder, where nothing of
/// the archive has been done that could tell better.
const PACE: (f64, f64) = (0.009, 0.028);
/// Bytes of a result for each of its source.
const GROWTH: f64 = 1.2;

/// What there is to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outlook {
    /// Films to colour.
    pub films: usize,
    /// Their length in seconds, as far as they say it.
    pub seconds: f64,
    /// Their frames.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Films that are done and unchanged.
    pub before: usize,
    /// Films that are not to be coloured.
    pub skipped: usize,
    /// Films that failed and are not to be tried again.
    pub failed_before: usize,
    /// Films that cannot be opened, and why.
    pub failed: Vec<(String, String)>,
    /// Seconds that the work will take, about.
    pub work: f64,
    /// Bytes that the results will take, about.
    pub disk: u64,
    /// Bytes that are free there.
    pub free: u64,
}

/// Looks at every film of an archive that is not known to be done; `told` hears how many were looked at.
///
/// # Errors
/// The state cannot be read, or no process can be started.
pub fn of(options: &Options, found: &Found, told: &mut dyn FnMut(String)) -> Result<Outlook> {
    let known: HashMap<String, Record> = match record::records(&options.output) {
        Ok(records) => records.into_iter().map(|r| (r.source.clone(), r)).collect(),
        // There is no archive yet.
        Err(_) => HashMap::new(),
    };
    let mut outlook = Outlook::default();
    let mut pixels = Pace::of(known.values());
    let mut looker = Looker::new(options)?;
    for (at, item) in found.items.iter().enumerate() {
        if outlook.counts(
            item,
            known.get(&item.source),
            &looker.settings,
            options.retry_failed,
        ) {
            continue;
        }
        match looker.look(item)? {
            Ok(looked) => outlook.add(item, &looked, &mut pixels),
            Err(why) => outlook.failed.push((item.source.clone(), why)),
        }
        told(format!(
            "looked at {} of {}: {}",
            at + 1,
            found.items.len(),
            item.source
        ));
    }
    outlook.work /= options.jobs as f64;
    outlook.free = room::free(existing(&options.output))?;
    Ok(outlook)
}

/// The nearest folder that is there already.
fn existing(path: &std::path::Path) -> &std::path::Path {
    path.ancestors().find(|p| p.exists()).unwrap_or(path)
}

impl Outlook {
    /// Counts an item of which the outcome is known and stands; whether it is.
    fn counts(
        &mut self,
        item: &Item,
        record: Option<&Record>,
        settings: &str,
        retry: bool,
    ) -> bool {
        let Some(record) = record.filter(|r| r.settings == settings) else {
            return false;
        };
        if !Digest::of(&item.path).is_ok_and(|digest| digest == record.digest) {
            return false;
        }
        let count = match &record.outcome {
            Outcome::Done(_) => &mut self.before,
            Outcome::Skipped { .. } => &mut self.skipped,
            Outcome::Failed { .. } if !retry => &mut self.failed_before,
            _ => return false,
        };
        *count += 1;
        true
    }

    fn add(&mut self, item: &Item, looked: &Looked, pace: &mut Pace) {
        self.films += 1;
        self.seconds += looked.seconds;
        self.frames += looked.frames;
        self.bytes += item.bytes;
        self.work += pace.seconds(looked);
        self.disk += (item.bytes as f64 * pace.growth) as u64;
    }
}

/// How fast work goes, and how large results are.
struct Pace {
    frame: f64,
    megapixel: f64,
    growth: f64,
}

impl Pace {
    /// By what was done already, where that is something.
    fn of<'a>(records: impl Iterator<Item = &'a Record>) -> Self {
        let (mut worked, mut expected, mut bytes, mut sources) = (0., 0., 0, 0);
        let mut pace = Self {
            frame: PACE.0,
            megapixel: PACE.1,
            growth: GROWTH,
        };
        for record in records {
            if let Outcome::Done(done) = &record.outcome {
                let looked = Looked {
                    frames: done.frames,
                    size: done.size,
                    ..Looked::default()
                };
                worked += done.worked;
                expected += pace.seconds(&looked);
                bytes += done.bytes;
                sources += record.digest.bytes;
            }
        }
        if expected > 0. && sources > 0 {
            pace.frame *= worked / expected;
            pace.megapixel *= worked / expected;
            pace.growth = bytes as f64 / sources as f64;
        }
        pace
    }

    fn seconds(&self, looked: &Looked) -> f64 {
        let megapixels = (looked.size.0 * looked.size.1) as f64 / 1e6;
        looked.frames as f64 * (self.frame + self.megapixel * megapixels)
    }
}

/// A job that opens one film after the other. One at which it dies costs that film only.
struct Looker<'a> {
    options: &'a Options,
    hand: Option<Hand>,
    hands: u64,
    post: stage::Post<super::hand::Letter>,
    letters: Mailbox<super::hand::Letter>,
    settings: String,
}

impl<'a> Looker<'a> {
    fn new(options: &'a Options) -> Result<Self> {
        let (post, letters) = stage::mailbox();
        let mut looker = Self {
            options,
            hand: None,
            hands: 0,
            post,
            letters,
            settings: String::new(),
        };
        looker.start()?;
        Ok(looker)
    }

    fn start(&mut self) -> Result<()> {
        self.hands += 1;
        let name = ((0, self.hands), self.post.clone());
        self.hand = Some(Hand::start(
            &self.options.program,
            &self.options.settings,
            name,
        )?);
        match self.told() {
            Some(Told::Ready { model, .. }) => {
                self.settings = self.options.settings.digest(&model)?;
                Ok(())
            }
            Some(Told::Failed(_, why)) => Err(Error::model(&self.options.settings.model, why)),
            _ => Err(Error::internal("job", "it does not begin")),
        }
    }

    /// What the present hand tells next; `None`: it has ended.
    fn told(&self) -> Option<Told> {
        loop {
            let ((_, hands), told) = self.letters.wait()?;
            if hands == self.hands {
                return told;
            }
        }
    }

    fn look(&mut self, item: &Item) -> Result<std::result::Result<Looked, String>> {
        if self.hand.is_none() {
            self.start()?;
        }
        if let Some(hand) = &mut self.hand {
            hand.give(&Task::Look(item.path.display().to_string()));
        }
        match self.told() {
            Some(Told::Looked(looked)) => Ok(Ok(looked)),
            Some(Told::Failed(_, why)) => Ok(Err(why)),
            _ => {
                let cause = self.hand.take().map(|mut hand| hand.cause());
                Ok(Err(cause.unwrap_or_default()))
            }
        }
    }
}
