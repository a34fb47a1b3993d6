//! Jobs are watched: whether they get on, how much memory they take, what is dropped when it is time to stop.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use super::{Event, TICK, Tally, Unit, Work, Worker};
use crate::{controls::Controls, error::Result};

/// Why a job was ended whose work is not to count as failed.
const DROPPED: &str = "dropped";

impl Worker<'_> {
    pub(super) fn look(&mut self, controls: &Controls) -> Result<()> {
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
    pub(super) fn drop_ended(&mut self) {
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

    pub(super) fn is_here(&self, item: usize) -> bool {
        let mut works = self.slots.iter().filter_map(|slot| slot.work.as_ref());
        works.any(|work| work.item == item)
    }

    pub(super) fn tally(&self) -> Tally {
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
            others: self
                .others
                .iter()
                .filter(|item| !self.is_here(**item))
                .count(),
            bytes_done: self.tally.bytes_done + parts as u64 + pieces,
            ..self.tally
        }
    }
}

impl Work {
    /// Whether it will end in this time, by how fast it went so far.
    pub(super) fn ends_within(&self, time: Duration) -> bool {
        let (done, of) = self.at;
        let passed = self.since.elapsed().as_secs_f64();
        let left = match done {
            0 => f64::INFINITY,
            done => passed * of.saturating_sub(done) as f64 / done as f64,
        };
        left < time.as_secs_f64()
    }
}
