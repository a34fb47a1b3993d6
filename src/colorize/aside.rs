//! Aside: a sink on a thread of its own, so that what it waits for, or how it ends, holds nothing else up.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use crate::{
    error::{Error, Result},
    frame::{Item, Merged},
    media::{Layout, Packet, Sink, Written},
    stage::{Apart, Sender, slot},
};

/// What is done with the error that a sink ends with.
pub type Mourn = Box<dyn FnOnce(&str, Error) + Send>;

/// Hands frames on to another thread, of which the newest waits: a slow sink leaves frames out, a sink that fails is
/// told of once and missed by nobody.
pub struct Aside {
    name: String,
    layout: Option<Layout>,
    /// None once the sink is gone.
    to: Option<Sender<Merged>>,
    cut: Arc<AtomicBool>,
    thread: Apart<Option<Written>>,
    left_out: Arc<AtomicU64>,
}

impl Aside {
    /// Moves `sink` aside; `mourn` is called with `name` and the error where it fails.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn new(name: &str, sink: Box<dyn Sink>, mourn: Mourn) -> Result<Self> {
        let left_out = Arc::new(AtomicU64::new(0));
        let (to, items) = slot::<Merged>(left_out.clone());
        let cut = Arc::new(AtomicBool::new(false));
        let (layout, ends, own) = (sink.layout(), cut.clone(), name.to_owned());
        let work = move || {
            let mut sink = sink;
            let mut taken = || {
                for item in items.iter() {
                    match item {
                        Item::Frame(frame) => sink.frame(&frame)?,
                        Item::Packet(packet) => sink.packet(&packet)?,
                    }
                }
                if ends.load(Ordering::Relaxed) {
                    sink.cut();
                }
                Ok(())
            };
            match taken().and_then(|()| sink.finish()) {
                Ok(written) => Some(written),
                Err(e) => {
                    mourn(&own, e);
                    None
                }
            }
        };
        let thread = Apart::start("sink", work)?;
        Ok(Self {
            name: name.to_owned(),
            layout,
            to: Some(to),
            cut,
            thread,
            left_out,
        })
    }

    fn send(&mut self, item: Item<Merged>) {
        if let Some(to) = &self.to
            && to.send(item).is_err()
        {
            self.to = None;
        }
    }
}

impl Sink for Aside {
    fn layout(&self) -> Option<Layout> {
        self.layout
    }

    fn frame(&mut self, frame: &Merged) -> Result<()> {
        self.send(Item::Frame(Merged {
            index: frame.index,
            pts: frame.pts,
            duration: frame.duration,
            arrived: frame.arrived,
            picture: frame.picture.share()?,
        }));
        Ok(())
    }

    fn packet(&mut self, packet: &Packet) -> Result<()> {
        self.send(Item::Packet(packet.clone()));
        Ok(())
    }

    fn cut(&mut self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    fn finish(self: Box<Self>) -> Result<Written> {
        let Self {
            name,
            to,
            thread,
            left_out,
            ..
        } = *self;
        drop(to);
        let mut written = thread.join()?.unwrap_or_else(|| Written {
            name,
            notes: vec!["it failed".into()],
            ..Written::default()
        });
        let left_out = left_out.load(Ordering::Relaxed);
        if left_out > 0 {
            let note = format!("{left_out} frames were left out, for it could not keep up");
            written.notes.push(note);
        }
        Ok(written)
    }
}
