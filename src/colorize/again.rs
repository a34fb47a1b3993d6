//! Again: a connection that frames are sent to, and that is opened again when it breaks.

use std::{
    ffi::{OsStr, OsString},
    time::{Duration, Instant},
};

use crate::{
    error::{Error, Result, shown},
    frame::Merged,
    media::{FileSink, Hear, Layout, Origin, OutputOptions, Packet, Sink, Told, Written},
};

/// The first pause before it is opened again; every next one is twice as long.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest.
const LONGEST: Duration = Duration::from_secs(8);

/// Sends to an address. While nobody takes anything there, frames are left out; what happened is told once.
pub struct Again {
    output: OsString,
    options: OutputOptions,
    origin: Origin,
    hear: Hear,
    layout: Option<Layout>,
    state: State,
    frames: u64,
    left_out: u64,
}

enum State {
    There(Box<FileSink>),
    Gone {
        since: Instant,
        pause: Duration,
        next: Instant,
    },
}

impl Again {
    /// Opens `output` for the first time; `hear` is told when it breaks and when it is back.
    ///
    /// # Errors
    /// As for [`FileSink::create`]: what never was there is not waited for.
    pub fn create(
        output: &OsStr,
        options: OutputOptions,
        origin: Origin,
        hear: Hear,
    ) -> Result<Self> {
        let sink = FileSink::open(output, &options, &origin, 0)?;
        Ok(Self {
            output: output.to_owned(),
            options,
            origin,
            hear,
            layout: sink.layout(),
            state: State::There(Box::new(sink)),
            frames: 0,
            left_out: 0,
        })
    }

    /// What a person should know before the first frame.
    pub fn messages(&self) -> &[String] {
        match &self.state {
            State::There(sink) => sink.messages(),
            State::Gone { .. } => &[],
        }
    }

    /// It has broken.
    fn lost(&mut self, why: Error) -> Result<()> {
        if matches!(why, Error::Stopped) {
            return Err(why);
        }
        let now = Instant::now();
        self.state = State::Gone {
            since: now,
            pause: PAUSE,
            next: now + PAUSE,
        };
        (self.hear)(Told::Gone(why.to_string()));
        Ok(())
    }

    /// Opens it for the frames from this time on, where it is time to try.
    fn tried(&mut self, time: i64) {
        let State::Gone { since, pause, next } = &mut self.state else {
            return;
        };
        if Instant::now() < *next {
            return;
        }
        match FileSink::open(&self.output, &self.options, &self.origin, time) {
            Ok(sink) => {
                let away = since.elapsed();
                self.state = State::There(Box::new(sink));
                (self.hear)(Told::Back(away));
            }
            // It was said why.
            Err(_) => {
                *pause = (2 * *pause).min(LONGEST);
                *next = Instant::now() + *pause;
            }
        }
    }
}

impl Sink for Again {
    fn layout(&self) -> Option<Layout> {
        self.layout
    }

    fn frame(&mut self, frame: &Merged) -> Result<()> {
        self.tried(frame.pts);
        let State::There(sink) = &mut self.state else {
            self.left_out += 1;
            return Ok(());
        };
        match sink.frame(frame) {
            Ok(()) => {
                self.frames += 1;
                Ok(())
            }
            Err(e) => self.lost(e),
        }
    }

    fn packet(&mut self, packet: &Packet) -> Result<()> {
        match &mut self.state {
            State::There(sink) => sink.packet(packet).or_else(|e| self.lost(e)),
            State::Gone { .. } => Ok(()),
        }
    }

    fn cut(&mut self) {
        if let State::There(sink) = &mut self.state {
            sink.cut();
        }
    }

    fn finish(self: Box<Self>) -> Result<Written> {
        let mut written = match self.state {
            State::There(sink) => sink.finish()?,
            State::Gone { .. } => Written {
                name: shown(&self.output),
                notes: vec!["it was gone when the run ended".into()],
                ..Written::default()
            },
        };
        written.frames = self.frames;
        if self.left_out > 0 {
            let note = format!("{} frames were left out while it was gone", self.left_out);
            written.notes.push(note);
        }
        Ok(written)
    }
}
