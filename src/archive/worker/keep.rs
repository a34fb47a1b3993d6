//! What comes of a piece of work, and how it is kept.

use std::{
    fs,
    path::PathBuf,
    time::{Instant, SystemTime},
};

use super::{ATTEMPTS, Event, LATER, Over, PLAN, Unit, Work, Worker, Written, marker};
use crate::{
    archive::{
        hand::Letter,
        record::{Digest, Done, Outcome, Record, key},
        room,
        task::{Piece, Plan, Told},
        whole,
    },
    error::{Error, Result, io_sentence, shown},
};

impl Worker<'_> {
    pub(super) fn read(&mut self, ((at, hands), told): Letter) -> Result<()> {
        if self.slots[at].hands != hands {
            return Ok(());
        }
        let Some(told) = told else {
            let hand = self.slots[at].hand.take();
            let cause = hand.map(|mut hand| hand.cause()).unwrap_or_default();
            return match self.finished(at) {
                Some(mut work) => match self.may_keep(&mut work) {
                    true => self.failed(work, (3, cause)),
                    false => Ok(()),
                },
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

    pub(super) fn finished(&mut self, at: usize) -> Option<Work> {
        let work = self.slots[at].work.take()?;
        (self.tell)(Event::Ends(at));
        Some(work)
    }

    /// Writes down what came of a piece of work.
    pub(super) fn settle(&mut self, mut work: Work, told: Told) -> Result<()> {
        if !self.may_keep(&mut work) {
            return Ok(());
        }
        if let Told::Done(_) = told {
            self.keep_sheet(&work);
        }
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
                self.refused.insert(work.item);
                Ok(())
            }
            (Told::Failed(code, why), _) => self.failed(work, (code, why)),
            (Told::Ready { .. } | Told::At(..) | Told::Looked(_), _) => Ok(()),
        }
    }

    /// Whether work may still be given its name: who was paused for long may have lost the right to it.
    pub(super) fn may_keep(&mut self, work: &mut Work) -> bool {
        let held = self.state.holds(&mut work.claim);
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

    /// Some pictures of the film, if this piece of it has drawn them. A report does without them where they are not.
    fn keep_sheet(&self, work: &Work) {
        let sheet = self.state.sheet(&key(&self.items[work.item].source));
        if work.film.sheet.exists() {
            let _ = sheet.parent().map(fs::create_dir_all);
            let _ = fs::rename(&work.film.sheet, sheet);
        }
    }

    pub(super) fn keep_segment(&mut self, work: Work, number: usize, piece: &Piece) -> Result<()> {
        let key = key(&self.items[work.item].source);
        let path = self.state.film(&key).join(format!("{number:05}.nut"));
        self.state.rename(&work.film.output, &path)?;
        self.state.set_of_film(&key, &marker(number), piece)?;
        self.pieces.entry(work.item).or_default().insert(number);
        if !self.queue.contains(&work.item) {
            self.queue.push_front(work.item);
        }
        // It may wait among what others do, for the last of its segments.
        self.later.retain(|(_, item)| *item != work.item);
        Ok(())
    }

    pub(super) fn split(&mut self, work: Work, plan: Plan) -> Result<()> {
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
    pub(super) fn publish(&mut self, work: Work, piece: Piece) -> Result<()> {
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
        let renamed = fs::rename(&work.film.output, &target);
        // Whoever took this worker for dead may have done it in its place.
        if renamed.is_err() && !self.is_published(&key, &done, &target) {
            renamed.map_err(refused)?;
        }
        whole::sync_folder(&target);
        let outcome = Outcome::Done(done);
        self.set_outcome(work.item, &work.digest, outcome.clone())?;
        if work.unit == Unit::Join {
            self.state.end_film(&key);
        }
        (self.tell)(Event::Over(&item.source, &outcome));
        self.over(work.item, Over::Done);
        Ok(())
    }

    pub(super) fn done(&self, work: &Work, piece: Piece, key: &str) -> Result<Done> {
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

    pub(super) fn failed(&mut self, work: Work, (code, why): (u8, String)) -> Result<()> {
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
        if work.unit == Unit::Join {
            // What cannot be joined is of no use.
            self.state.end_film(&key(source));
        }
        (self.tell)(Event::Over(source, &outcome));
        self.failure
            .get_or_insert((code, source.clone(), why.clone()));
        self.over(work.item, Over::Failed(why));
        Ok(())
    }

    /// Removes what is left of a piece of work that came to nothing.
    pub(super) fn clean(&self, work: &Work) {
        for path in [&work.film.output, &work.film.sheet] {
            let mut part = path.clone().into_os_string();
            part.push(".part");
            let _ = fs::remove_file(PathBuf::from(part));
            let _ = fs::remove_file(path);
        }
    }

    pub(super) fn set_outcome(
        &mut self,
        at: usize,
        digest: &Digest,
        outcome: Outcome,
    ) -> Result<()> {
        let item = &self.items[at];
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let record = Record {
            source: item.source.clone(),
            root: self.options.root.display().to_string(),
            digest: digest.clone(),
            settings: self.settings.clone(),
            published: self.records.get(&at).is_some_and(|record| record.published)
                || matches!(outcome, Outcome::Publishing(_) | Outcome::Done(_)),
            outcome,
            finished: now.as_secs(),
            worker: self.state.worker().to_owned(),
        };
        self.state.set_record(&key(&item.source), &record)?;
        self.records.insert(at, record);
        Ok(())
    }

    pub(super) fn over(&mut self, at: usize, over: Over) {
        if !self.over.insert(at) {
            return;
        }
        // What was not begun here says nothing of how fast work goes.
        if !self.begun.contains(&at) {
            self.tally.bytes_before += self.items[at].bytes;
        }
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
    }
}
