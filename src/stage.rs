//! Stages and the edges between them: the only threading code of the pipeline.
//!
//! A stage is an ordinary function on a named thread, with something to receive from and something to send to. An
//! edge is bounded: waiting *is* the flow control. End of stream is a dropped sender; a stage whose reader is gone
//! gets [`Error::Disconnected`] from `send` and returns it, and [`Stages::join`] reports the one error that was the
//! cause. Time spent waiting is written down where the waiting happens, in the thread's own [`Meter`].

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{Builder, JoinHandle, Scope, ScopedJoinHandle},
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
    /// On a [`slot`]: where the frame that waits can be taken back, and how many were.
    stale: Option<(channel::Receiver<Item<F>>, Arc<AtomicU64>)>,
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
            stale: None,
        },
        Receiver {
            items: item_rx,
            slots: slot_rx,
        },
    )
}

/// An edge for what is seen as it comes: one frame waits, and a newer one takes its place. `dropped` counts those that
/// nobody saw. Packets are never dropped.
pub fn slot<F>(dropped: Arc<AtomicU64>) -> (Sender<F>, Receiver<F>) {
    let (mut sender, receiver) = edge(1);
    sender.stale = Some((receiver.items.clone(), dropped));
    (sender, receiver)
}

impl<F> Sender<F> {
    /// Sends one item; waits while the edge is full.
    ///
    /// # Errors
    /// [`Error::Disconnected`] once the reader is gone.
    pub fn send(&self, item: Item<F>) -> Result<()> {
        waiting(&BLOCKED, || {
            if matches!(item, Item::Frame(_)) && !self.takes_place()? {
                self.slots.send(()).map_err(|_| Error::Disconnected)?;
            }
            self.items.send(item).map_err(|_| Error::Disconnected)
        })
    }
}

impl<F> Sender<F> {
    /// On a slot that is full: takes the waiting frame out, whose place is free then.
    fn takes_place(&self) -> Result<bool> {
        let Some((waiting, dropped)) = &self.stale else {
            return Ok(false);
        };
        let mut taken = false;
        // Packets go back in their order; this is the only sender, so none comes between.
        let items: Vec<_> = waiting.try_iter().collect();
        for item in items {
            match item {
                Item::Frame(_) => {
                    taken = true;
                    dropped.fetch_add(1, Ordering::Relaxed);
                }
                packet => self.items.send(packet).map_err(|_| Error::Disconnected)?,
            }
        }
        Ok(taken)
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

/// A thread beside a stage that answers one question at a time. It ends when this is dropped.
pub struct Helper<Q, A> {
    questions: channel::Sender<Q>,
    answers: channel::Receiver<Result<A>>,
    busy: bool,
}

impl<Q: Send, A: Send> Helper<Q, A> {
    /// Starts a thread called `name`, which answers by `work`.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        name: &'static str,
        mut work: impl FnMut(Q) -> Result<A> + Send + 'scope,
    ) -> Result<Self>
    where
        Q: 'scope,
        A: 'scope,
    {
        let (questions, asked) = channel::bounded(1);
        let (tell, answers) = channel::bounded(1);
        let body = move || {
            for question in asked {
                let answer = catch_unwind(AssertUnwindSafe(|| work(question)));
                let answer = answer.unwrap_or_else(|_| Err(Error::internal(name, "it panicked")));
                if tell.send(answer).is_err() {
                    break;
                }
            }
        };
        let thread = Builder::new().name(name.into()).spawn_scoped(scope, body);
        thread.map_err(|e| Error::internal(name, e))?;
        Ok(Self {
            questions,
            answers,
            busy: false,
        })
    }

    /// Whether an answer is due.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Asks; the answer to the last question must have been taken.
    ///
    /// # Errors
    /// The thread is gone.
    pub fn ask(&mut self, question: Q) -> Result<()> {
        let asked = self.questions.send(question);
        self.busy = true;
        asked.map_err(|_| Error::Disconnected)
    }

    /// The answer, if there is one by now.
    ///
    /// # Errors
    /// What the work failed with.
    pub fn answer(&mut self) -> Result<Option<A>> {
        let answer = self.answers.try_recv().ok();
        self.busy &= answer.is_none();
        answer.transpose()
    }

    /// The answer, which is waited for.
    ///
    /// # Errors
    /// What the work failed with; the thread is gone.
    pub fn wait(&mut self) -> Result<A> {
        let answer = self.answers.recv().map_err(|_| Error::Disconnected)?;
        self.busy = false;
        answer
    }
}

/// What several threads write to and one reads, outside the pipeline. At most [`LETTERS`] letters wait.
pub fn mailbox<T>() -> (Post<T>, Mailbox<T>) {
    let (post, letters) = channel::bounded(LETTERS);
    (Post(post), Mailbox(letters))
}

/// Letters that may wait in a mailbox.
const LETTERS: usize = 256;

/// A writing end of a mailbox.
pub struct Post<T>(channel::Sender<T>);

impl<T> Clone for Post<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Post<T> {
    /// Posts a letter; waits while the box is full. Whether there is still somebody to read it.
    pub fn post(&self, letter: T) -> bool {
        self.0.send(letter).is_ok()
    }
}

/// The reading end of a mailbox.
pub struct Mailbox<T>(channel::Receiver<T>);

impl<T> Mailbox<T> {
    /// The next letter; `None` once nobody can write any more.
    pub fn wait(&self) -> Option<T> {
        self.0.recv().ok()
    }

    /// The next letter, if it comes within this time.
    pub fn within(&self, time: Duration) -> Option<T> {
        self.0.recv_timeout(time).ok()
    }
}

/// A thread of its own, outside the pipeline.
pub struct Apart<T>(&'static str, JoinHandle<T>);

impl<T: Send + 'static> Apart<T> {
    /// Starts one called `name`.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(name: &'static str, body: impl FnOnce() -> T + Send + 'static) -> Result<Self> {
        let thread = Builder::new().name(name.into()).spawn(body);
        let thread = thread.map_err(|e| Error::internal(name, e))?;
        Ok(Self(name, thread))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It panicked.
    pub fn join(self) -> Result<T> {
        let ended = self.1.join();
        ended.map_err(|_| Error::internal(self.0, "its thread panicked"))
    }
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
    fn on_a_slot_the_newest_frame_waits_and_every_packet() {
        let dropped = Arc::new(AtomicU64::new(0));
        let (tx, rx) = slot(dropped.clone());
        for number in 0..5 {
            tx.send(Item::Packet(crate::media::Packet::numbered(number)))
                .unwrap();
            tx.send(Item::Frame(number)).unwrap();
        }
        drop(tx);
        let mut packets = Vec::new();
        let mut frames = Vec::new();
        for item in rx.iter() {
            match item {
                Item::Packet(packet) => packets.push(packet.number()),
                Item::Frame(frame) => frames.push(frame),
            }
        }
        assert_eq!((frames, packets), (vec![4], vec![0, 1, 2, 3, 4]));
        assert_eq!(dropped.load(Ordering::Relaxed), 4);
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
