//! Work for a job, and the process that does it.

use std::{fs, time::Instant};

use super::{Event, Unit, Work, Worker, marker};
use crate::{
    archive::{
        hand::Hand,
        record::{Digest, key},
        state::Claim,
        task::{Film, Piece, Plan, Task},
    },
    error::{Error, Result},
};

impl Worker<'_> {
    /// A slot's process, started where there is none.
    pub(super) fn hand(&mut self, at: usize) -> Result<&mut Hand> {
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

    pub(super) fn give(
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
            sheet: self.state.own(&key, "sheet.jpg"),
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
            (Unit::Join, Some(plan)) => match self.joining(at, &film, plan)? {
                Some(task) => (task, format!("{}, joining", item.source)),
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
        self.begun.insert(at);
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

    /// The joining of a film's segments; `None` where one is not what was written, and is to be done anew.
    pub(super) fn joining(
        &mut self,
        at: usize,
        film: &Film,
        plan: Box<Plan>,
    ) -> Result<Option<Task>> {
        let key = &key(&self.items[at].source);
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
        Ok(whole.then(|| Task::Join(film.clone(), plan, paths, end)))
    }
}
