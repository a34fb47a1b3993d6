//! Stages and the edges between them: the only threading code of the pipeline.
//!
//! A stage is an ordinary function on a named thread, with something to receive from and something to send to. An
//! edge is bounded: waiting *is* the flow control. End of stream is a dropped sender; a stage whose reader is gone
//! gets [`Error::Disconnected`] from `send` and returns it, and [`Stages::join`] reports the one error that was the
//! cause. Time spent waiting is written down where the waiting happens, in the thread's own [`Meter`].

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    thread::{Builder, Scope, ScopedJoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel as channel;

use crate::{
    error::{Error, Result},
    frame::Item,
};

/// Packets of copied streams that may wait on one edge beside its frames. They are small; a film has a few for each
/// frame, so in practice only the frames' own capacity is ever felt.
const PACKETS_PER_EDGE: usize = 256;

thread_local! {
    static STARVED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static BLOCKED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// The sending end of an edge.
pub struct Sender<F> {
    items: channel::Sender<Item<F>>,
    slots: channel::Sender<()>,
}

/// The receiving end of an edge.
pub struct Receiver<F> {
    items: channel::Receiver<Item<F>>,
    slots: channel::Receiver<()>,
}

/// An edge on which at most `frames` frames wait (at least 1). Packets do not take a frame's place.
pub fn edge<F>(frames: usize) -> (Sender<F>, Receiver<F>) {
    let frames = frames.max(1);
    // A slot is taken before a frame is sent and given back when it is received.
    let (slot_tx, slot_rx) = channel::bounded(frames);
    let (item_tx, item_rx) = channel::bounded(frames + PACKETS_PER_EDGE);
    (
        Sender {
            items: item_tx,
            slots: slot_tx,
        },
        Receiver {
            items: item_rx,
            slots: slot_rx,
        },
    )
}

impl<F> Sender<F> {
    /// Sends one item; waits while the edge is full.
    ///
    /// # Errors
    /// [`Error::Disconnected`] once the reader is gone.
    pub fn send(&self, item: Item<F>) -> Result<()> {
        waiting(&BLOCKED, || {
            if matches!(item, Item::Frame(_)) {
                self.slots.send(()).map_err(|_| Error::Disconnected)?;
            }
            self.items.send(item).map_err(|_| Error::Disconnected)
        })
    }
}

impl<F> Receiver<F> {
    /// The next item in order; `None` at the end of the stream.
    pub fn recv(&self) -> Option<Item<F>> {
        let item = waiting(&STARVED, || self.items.recv().ok())?;
        if matches!(item, Item::Frame(_)) {
            // Never empty: the sender took the slot before it sent the frame.
            let _ = self.slots.try_recv();
        }
        Some(item)
    }

    /// The items until the end of the stream.
    pub fn iter(&self) -> impl Iterator<Item = Item<F>> + '_ {
        std::iter::from_fn(|| self.recv())
    }
}

fn waiting<T>(
    account: &'static std::thread::LocalKey<Cell<Duration>>,
    wait: impl FnOnce() -> T,
) -> T {
    let since = Instant::now();
    let value = wait();
    account.set(account.get() + since.elapsed());
    value
}

/// How a stage spent its time.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Meter {
    /// Name of the stage and of its thread.
    pub stage: &'static str,
    /// Seconds of work.
    pub busy: f64,
    /// Seconds of waiting for input.
    pub starved: f64,
    /// Seconds of waiting for room in the next edge.
    pub blocked: f64,
}

/// What one stage's thread ended with, and when.
struct Ended<T> {
    meter: Meter,
    at: Instant,
    result: Result<T>,
}

/// A handle on a running stage's value.
pub struct Stage<'scope, T> {
    name: &'static str,
    thread: ScopedJoinHandle<'scope, Ended<T>>,
}

/// Starts stages and, at the end, tells the one failure that was the cause.
pub struct Stages<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    failures: Vec<(Instant, Error)>,
    meters: Vec<Meter>,
}

impl<'scope, 'env> Stages<'scope, 'env> {
    /// Stages of one run, inside a thread scope.
    pub fn new(scope: &'scope Scope<'scope, 'env>) -> Self {
        Self {
            scope,
            failures: Vec::new(),
            meters: Vec::new(),
        }
    }

    /// Runs `body` on a thread called `name`. A panic in it becomes an error with that name.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn spawn<T: Send + 'scope>(
        &self,
        name: &'static str,
        body: impl FnOnce() -> Result<T> + Send + 'scope,
    ) -> Result<Stage<'scope, T>> {
        let thread = Builder::new()
            .name(name.into())
            .spawn_scoped(self.scope, move || run(name, body))
            .map_err(|e| Error::internal(name, format!("cannot start a thread: {e}")))?;
        Ok(Stage { name, thread })
    }

    /// Waits for a stage; its value, if it succeeded. Join the stages in pipeline order.
    pub fn join<T>(&mut self, stage: Stage<'scope, T>) -> Option<T> {
        let Ok(ended) = stage.thread.join() else {
            self.failures.push((
                Instant::now(),
                Error::internal(stage.name, "its thread died"),
            ));
            return None;
        };
        self.meters.push(ended.meter);
        match ended.result {
            Ok(value) => Some(value),
            Err(e) => {
                self.failures.push((ended.at, e));
                None
            }
        }
    }

    /// The meters of the joined stages; or the first failure in time that is not a mere echo of another.
    ///
    /// # Errors
    /// The cause of the run's failure.
    pub fn finish(self) -> Result<Vec<Meter>> {
        match first_failure(self.failures) {
            Some(cause) => Err(cause),
            None => Ok(self.meters),
        }
    }
}

fn run<T>(name: &'static str, body: impl FnOnce() -> Result<T>) -> Ended<T> {
    let since = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        Err(Error::internal(
            name,
            format!("panicked: {}", panic_message(&*panic)),
        ))
    });
    let (starved, blocked) = (STARVED.get().as_secs_f64(), BLOCKED.get().as_secs_f64());
    let busy = (since.elapsed().as_secs_f64() - starved - blocked).max(0.0);
    Ended {
        meter: Meter {
            stage: name,
            busy,
            starved,
            blocked,
        },
        at: Instant::now(),
        result,
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

/// The earliest error that is not [`Error::Disconnected`]: when one stage fails its neighbours fail too, and only the
/// first says why.
fn first_failure(mut failures: Vec<(Instant, Error)>) -> Option<Error> {
    failures.sort_by_key(|(at, _)| *at);
    let cause = failures
        .iter()
        .position(|(_, e)| !matches!(e, Error::Disconnected))
        .unwrap_or(0);
    (!failures.is_empty()).then(|| failures.swap_remove(cause).1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn frames(n: u32) -> impl Iterator<Item = Item<u32>> {
        (0..n).map(Item::Frame)
    }

    fn frame(item: Item<u32>) -> u32 {
        match item {
            Item::Frame(f) => f,
            Item::Packet(_) => panic!("no packets here"),
        }
    }

    #[test]
    fn order_holds_and_a_dropped_sender_ends_the_stream() {
        for n in [0, 1, 2, 3, 5, 100] {
            let (tx, rx) = edge(2);
            let got: Vec<u32> = thread::scope(|s| {
                s.spawn(move || frames(n).try_for_each(|f| tx.send(f)));
                rx.iter().map(frame).collect()
            });
            assert_eq!(got, (0..n).collect::<Vec<_>>());
        }
    }

    #[test]
    fn at_most_the_capacity_waits() {
        let (tx, rx) = edge(3);
        thread::scope(|s| {
            let sender = s.spawn(move || {
                for f in frames(10) {
                    tx.send(f).unwrap();
                }
            });
            thread::sleep(Duration::from_millis(50));
            assert_eq!(rx.items.len(), 3, "three wait, the fourth is held back");
            assert!(!sender.is_finished());
            assert_eq!(rx.iter().count(), 10);
        });
    }

    #[test]
    fn a_sender_notices_that_its_reader_is_gone_even_while_it_waits() {
        let (tx, rx) = edge(1);
        thread::scope(|s| {
            let sender = s.spawn(move || frames(10).try_for_each(|f| tx.send(f)));
            thread::sleep(Duration::from_millis(20));
            drop(rx);
            assert!(matches!(sender.join().unwrap(), Err(Error::Disconnected)));
        });
    }

    #[test]
    fn the_first_cause_is_told_not_its_echoes() {
        let (tx, rx) = edge(1);
        let result = thread::scope(|s| {
            let mut stages = Stages::new(s);
            let first = stages
                .spawn("first", move || frames(10).try_for_each(|f| tx.send(f)))
                .unwrap();
            let second = stages
                .spawn("second", move || {
                    rx.recv();
                    Err::<(), _>(Error::output("film.mp4", "the disk is full"))
                })
                .unwrap();
            stages.join(first);
            stages.join(second);
            stages.finish()
        });
        assert_eq!(
            result.unwrap_err().to_string(),
            "film.mp4: the disk is full"
        );
    }

    #[test]
    fn a_panic_is_an_error_with_the_name_of_its_stage() {
        let result = thread::scope(|s| {
            let mut stages = Stages::new(s);
            let stage = stages
                .spawn("merge", || -> Result<()> { panic!("row {} is odd", 7) })
                .unwrap();
            stages.join(stage);
            stages.finish()
        });
        let message = result.unwrap_err().to_string();
        assert!(
            message.starts_with("merge: panicked: row 7 is odd"),
            "{message}"
        );
    }

    #[test]
    fn waiting_is_not_work() {
        let (tx, rx) = edge(1);
        let meters = thread::scope(|s| {
            let mut stages = Stages::new(s);
            let slow = stages
                .spawn("slow", move || {
                    thread::sleep(Duration::from_millis(100));
                    tx.send(Item::Frame(1))
                })
                .unwrap();
            let quick = stages
                .spawn("quick", move || Ok(rx.iter().count()))
                .unwrap();
            stages.join(slow);
            assert_eq!(stages.join(quick), Some(1));
            stages.finish().unwrap()
        });
        assert!(
            meters[0].busy >= 0.09 && meters[0].starved == 0.0,
            "{meters:?}"
        );
        assert!(
            meters[1].starved >= 0.09 && meters[1].busy < 0.05,
            "{meters:?}"
        );
    }
}
