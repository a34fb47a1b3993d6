//! What there is to do for an item, by its record and by who holds its claims.

use std::{fs, path::Path};

use super::{Event, Over, PLAN, Pick, Unit, Worker, Written, marker};
use crate::{
    archive::{
        job,
        record::{Digest, Done, Outcome, Record, key},
        state::{Claim, Held},
    },
    error::{Result, shown},
};

impl Worker<'_> {
    pub(super) fn pick(&mut self, at: usize) -> Result<Pick> {
        let item = &self.items[at];
        let digest = match Digest::of(&item.path) {
            Ok(digest) => digest,
            Err(e) => return Ok(Pick::Over(Over::Failed(e.to_string()))),
        };
        let key = key(&item.source);
        let record = self.state.record(&key)?;
        self.records
            .extend(record.clone().map(|record| (at, record)));
        if let Some(pick) = self.judge(at, &digest, record.as_ref())? {
            return Ok(pick);
        }
        let claim = match self.state.claim(&key)? {
            Ok(claim) => claim,
            Err(held) => return Ok(Pick::Held(held)),
        };
        // Somebody may have done it just before.
        let now = self.state.record(&key)?;
        self.records.extend(now.clone().map(|record| (at, record)));
        if now != record
            && let Some(pick) = self.judge(at, &digest, now.as_ref())?
        {
            return Ok(pick);
        }
        self.take(at, claim, digest, now)
    }

    /// What an item's record says that there is to do, if the record is of this source and these settings.
    pub(super) fn judge(
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
    pub(super) fn take(
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
            Some(Outcome::Publishing(done)) if self.is_published(&key, done, &target) => {
                let outcome = Outcome::Done(done.clone());
                self.set_outcome(at, &digest, outcome.clone())?;
                self.state.end_film(&key);
                (self.tell)(Event::Over(&item.source, &outcome));
                return Ok(Pick::Over(Over::Done));
            }
            // It goes on with what there is of it.
            Some(Outcome::Failed { .. } | Outcome::Publishing(_))
                if self.has_plan(&key, &digest)? =>
            {
                self.set_outcome(at, &digest, Outcome::Split)?;
                drop(claim);
                let pick = self.piece_of(at, &digest)?;
                return Ok(pick.unwrap_or(Pick::Held(Held::Silent)));
            }
            _ => {}
        }
        if target.exists() && !record.as_ref().is_some_and(|r| r.published) {
            let why = format!(
                "{} exists already and is not of this archive: move it away, then --retry-failed",
                shown(&target)
            );
            let outcome = Outcome::Failed {
                why: why.clone(),
                attempts: 1,
            };
            self.set_outcome(at, &digest, outcome)?;
            return Ok(Pick::Over(Over::Failed(why)));
        }
        if record.is_some_and(|r| r.outcome == Outcome::Split) {
            // Its segments are of another source, or other settings.
            self.state.end_film(&key);
        }
        Ok(Pick::Work(Box::new((Unit::Film, claim, digest))))
    }

    /// Whether segments of this very film are there.
    pub(super) fn has_plan(&self, key: &str, digest: &Digest) -> Result<bool> {
        let plan = self.state.of_film::<Written>(key, PLAN)?;
        Ok(plan.is_some_and(|plan| plan.digest == *digest && plan.settings == self.settings))
    }

    /// Whether what was about to be published has its name, or can be given it now.
    pub(super) fn is_published(&self, key: &str, done: &Done, target: &Path) -> bool {
        let size = |path: &Path| fs::metadata(path).is_ok_and(|m| m.len() == done.bytes);
        let same = |path: &Path| {
            size(path) && job::digest(path, || Ok(())).is_ok_and(|(_, sum)| sum == done.sha256)
        };
        let waiting = self.state.waiting(key);
        // If it cannot be made, nothing can be renamed into it.
        let _ = target.parent().map(fs::create_dir_all);
        same(target)
            || waiting
                .iter()
                .any(|path| same(path) && fs::rename(path, target).is_ok())
    }

    /// A segment that nobody does, or the joining of them all.
    pub(super) fn piece_of(&mut self, at: usize, digest: &Digest) -> Result<Option<Pick>> {
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

    pub(super) fn is_done(&mut self, at: usize, key: &str, number: usize) -> bool {
        let known = self.pieces.entry(at).or_default();
        if known.contains(&number) {
            return true;
        }
        let done = self.state.has(key, &marker(number));
        done && known.insert(number)
    }
}
