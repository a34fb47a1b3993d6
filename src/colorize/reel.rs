//! Reel: a recording without end, in files that each begin with a key frame, play by themselves and follow one another
//! without a gap.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
};

use crate::{
    error::{Error, Result, io_sentence, shown},
    frame::Merged,
    media::{FileSink, Layout, Origin, OutputOptions, Packet, Sink, Written},
    stage::Apart,
};

/// When a file is full.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// After so many seconds.
    Seconds(f64),
    /// After so many bytes, give or take what the encoder holds.
    Bytes(u64),
}

/// How long sound may come behind the pictures of its time, in seconds.
const BEHIND: f64 = 1.;
/// Digits of a file's number.
const DIGITS: usize = 5;

/// Writes file after file: `name-00001.mkv`, `name-00002.mkv`, ...
pub struct Reel {
    output: PathBuf,
    options: OutputOptions,
    origin: Origin,
    limit: Limit,
    number: u64,
    file: FileSink,
    /// Time of its first frame.
    begun: Option<i64>,
    /// Time of the last frame.
    last: i64,
    /// Packets of times that no frame has reached.
    ahead: VecDeque<Packet>,
    /// The file before, and where it ends: its last sound may still come.
    before: Option<(FileSink, i64)>,
    closing: Option<Apart<Result<Written>>>,
    closed: Vec<Written>,
    cut: bool,
}

impl Reel {
    /// Opens the first file. Numbers go on from the highest that is there.
    ///
    /// # Errors
    /// As for [`FileSink::create`]; the folder cannot be read.
    pub fn create(
        output: &OsStr,
        options: OutputOptions,
        origin: Origin,
        limit: Limit,
    ) -> Result<Self> {
        let output = PathBuf::from(output);
        let number = highest(&output)? + 1;
        let file = FileSink::open(&numbered(&output, number), &options, &origin, 0)?;
        Ok(Self {
            output,
            options,
            origin,
            limit,
            number,
            file,
            begun: None,
            last: i64::MIN,
            ahead: VecDeque::new(),
            before: None,
            closing: None,
            closed: Vec::new(),
            cut: false,
        })
    }

    /// What a person should know before the first frame.
    pub fn messages(&self) -> &[String] {
        self.file.messages()
    }

    fn ticks(&self, seconds: f64) -> i64 {
        let (num, den) = self.origin.time_base();
        (seconds * f64::from(den) / f64::from(num)) as i64
    }

    fn is_full(&self, time: i64) -> bool {
        let Some(begun) = self.begun else {
            return false;
        };
        match self.limit {
            Limit::Seconds(seconds) => time - begun >= self.ticks(seconds),
            Limit::Bytes(most) => self.file.bytes() >= most,
        }
    }

    /// The next file, from this time on.
    fn turn(&mut self, time: i64) -> Result<()> {
        self.close()?;
        let name = numbered(&self.output, self.number + 1);
        let next = FileSink::open(&name, &self.options, &self.origin, time)?;
        self.number += 1;
        let before = std::mem::replace(&mut self.file, next);
        self.before = Some((before, time));
        self.begun = None;
        Ok(())
    }

    /// Closes the file before, aside: that may take longer than a frame has.
    fn close(&mut self) -> Result<()> {
        let Some((file, _)) = self.before.take() else {
            return Ok(());
        };
        self.closed()?;
        let finish = move || Box::new(file).finish();
        self.closing = Some(Apart::start("close", finish)?);
        Ok(())
    }

    /// Waits until it is closed.
    fn closed(&mut self) -> Result<()> {
        if let Some(closing) = self.closing.take() {
            self.closed.push(closing.join()??);
        }
        Ok(())
    }

    /// Hands a packet to the file of its time.
    fn write(&mut self, packet: &Packet, time: i64) -> Result<()> {
        match &mut self.before {
            Some((before, end)) if time < *end => before.packet(packet),
            _ => self.file.packet(packet),
        }
    }
}

impl Sink for Reel {
    fn layout(&self) -> Option<Layout> {
        self.file.layout()
    }

    fn frame(&mut self, frame: &Merged) -> Result<()> {
        if self.is_full(frame.pts) {
            self.turn(frame.pts)?;
        }
        self.begun.get_or_insert(frame.pts);
        self.last = frame.pts;
        self.file.frame(frame)?;
        let base = self.origin.time_base();
        for packet in std::mem::take(&mut self.ahead) {
            match packet.time(base) {
                Some(time) if time > self.last => self.ahead.push_back(packet),
                time => self.write(&packet, time.unwrap_or(self.last))?,
            }
        }
        match self.before {
            Some((_, end)) if frame.pts - end >= self.ticks(BEHIND) => self.close(),
            _ => Ok(()),
        }
    }

    fn packet(&mut self, packet: &Packet) -> Result<()> {
        match packet.time(self.origin.time_base()) {
            Some(time) if time > self.last => {
                self.ahead.push_back(packet.clone());
                Ok(())
            }
            time => self.write(packet, time.unwrap_or(self.last)),
        }
    }

    fn cut(&mut self) {
        self.cut = true;
    }

    fn finish(mut self: Box<Self>) -> Result<Written> {
        self.close()?;
        self.closed()?;
        if !self.cut {
            for packet in &self.ahead {
                self.file.packet(packet)?;
            }
        }
        self.closed.push(Box::new(self.file).finish()?);
        let files = self.closed.len();
        let mut all = Written::default();
        for written in self.closed {
            all.frames += written.frames;
            all.bytes = Some(all.bytes.unwrap_or(0) + written.bytes.unwrap_or(0));
            let notes = written.notes.iter();
            all.notes
                .extend(notes.map(|note| format!("{}: {note}", written.name)));
            (all.name, all.streams) = (written.name, written.streams);
        }
        if files > 1 {
            let first = shown(numbered(&self.output, self.number + 1 - files as u64));
            all.name = format!("{first} to {} ({files} files)", all.name);
        }
        Ok(all)
    }
}

/// The name of one of the files: its number stands before the extension.
fn numbered(output: &Path, number: u64) -> OsString {
    let mut name = output.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{number:0DIGITS$}"));
    if let Some(extension) = output.extension() {
        name.push(".");
        name.push(extension);
    }
    output.with_file_name(name).into()
}

/// The highest number of a file that is there, whole or not; 0 where there is none.
fn highest(output: &Path) -> Result<u64> {
    let folder = match output.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let found = fs::read_dir(folder).map_err(|e| {
        Error::output(
            shown(output),
            format!("{}: {}", shown(folder), io_sentence(&e)),
        )
    })?;
    let stem = output.file_stem().unwrap_or_default().as_encoded_bytes();
    let number = |name: OsString| {
        let rest = name
            .as_encoded_bytes()
            .strip_prefix(stem)?
            .strip_prefix(b"-")?;
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
    };
    let numbers = found.flatten().filter_map(|file| number(file.file_name()));
    Ok(numbers.max().unwrap_or(0))
}
