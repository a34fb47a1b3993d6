//! `autochrome batch`: flags -> options of a worker on an archive.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use clap::{Args, ValueHint};
use indicatif::HumanDuration;

use super::{
    Ui,
    board::Board,
    colorize::{on_signals, time},
    encoder::EncoderArgs,
    network::NetworkArgs,
};
use crate::{
    archive::{
        outlook::{self, Outlook},
        record,
        report::{self, Facts},
        room,
        settings::Settings,
        shard::Shard,
        state::State,
        walk::{Found, Walk, walk},
        worker::{self, Options, Summary},
    },
    error::{Error, Result, io_sentence, shown},
};

const EXAMPLES: &str = "\
Examples:
  autochrome batch archive/ -o colored/                 every film below archive/, in the same folders
  autochrome batch archive/ -o colored/ --dry-run       what there is to do, and how long it may take
  autochrome batch archive/ -o colored/ --jobs 4 --memory 6G
  autochrome batch archive/ -o colored/ --include '1950s/**' --exclude '*.vob'
  autochrome batch archive/ -o colored/ --list films.txt
  autochrome batch film.mkv -o colored/                 one long film, in segments
  autochrome batch archive/ -o colored/ --shard auto    one of many workers, as a cluster starts them

Stop it as you like: Ctrl-C, a power cut, kill -9. The same command goes on; what is done is not done again. The same
command on another machine that shares both folders helps. Afterwards: colored/report.html, and autochrome verify colored/.

Exit codes:
  0 nothing is left to do for this worker; 75 it was stopped, or the disk is full: run it again;
  else the first failure's: 3 a film cannot be read, or its job crashed, got stuck or took too much memory; 4 a result
  cannot be written. What failed is in the report, and --retry-failed tries it again.";

/// Bytes of pictures in a report: browsers take no page of any size.
const SHEETS: usize = 100 << 20;
/// Memory that one job takes at least, in bytes.
const LEAST: u64 = 256 << 20;

/// Flags of `batch`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct BatchArgs {
    /// Folder with films, however deep, or one film
    #[arg(value_hint = ValueHint::AnyPath)]
    archive: PathBuf,
    /// Folder for the results, in which the archive's folders appear again
    #[arg(short, long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    output: PathBuf,
    /// File that names the films, one path a line; - is standard input
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    list: Option<PathBuf>,
    /// Only what matches this pattern, such as '1950s/**' or '*.dat'; repeatable
    #[arg(long, value_name = "PATTERN")]
    include: Vec<String>,
    /// Nothing that matches this pattern; repeatable
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Say what there is to do, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Try again what has failed before
    #[arg(long)]
    retry_failed: bool,
    /// Films, or segments of films, at once; each in a process of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
    /// Memory for all jobs together; one that wants more than its share is ended [default: three quarters of what is free]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// Length of the segments in which long films are coloured: seconds or [HH:]MM:SS
    #[arg(long, value_name = "TIME", default_value = "2:00", value_parser = time)]
    segment: f64,
    /// Where to begin looking, so that many workers rarely want the same: I/N, or auto, as Slurm's arrays and Kubernetes'
    /// indexed jobs say
    #[arg(long, value_name = "I/N|auto", default_value = "0/1")]
    shard: Shard,
    /// When asked to stop, segments that end within this time are finished, the others dropped: seconds or [HH:]MM:SS
    #[arg(long, value_name = "TIME", default_value = "25", value_parser = time)]
    grace: f64,
    /// A job that makes no progress for so long is ended: seconds or [HH:]MM:SS
    #[arg(long, value_name = "TIME", default_value = "5:00", value_parser = time)]
    patience: f64,
    /// A worker that nobody has heard of for so long is believed dead, and its work is done by others: seconds or
    /// [HH:]MM:SS
    #[arg(long, value_name = "TIME", default_value = "1:00", value_parser = time)]
    lease: f64,
    #[command(flatten)]
    encoder: EncoderArgs,
    /// FFmpeg pixel format of the output, such as yuv420p [default: the source's depth and subsampling]
    #[arg(long, value_name = "NAME", help_heading = "Output")]
    pixel_format: Option<String>,
    /// Go on without streams that a container cannot hold
    #[arg(long, help_heading = "Output")]
    drop_unsupported: bool,
    #[command(flatten)]
    network: NetworkArgs,
}

/// Bytes of "6G", "500M".
fn size(s: &str) -> std::result::Result<u64, String> {
    let wrong = || format!("'{s}' is not a size: write 500M or 6G");
    let at = s
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(s.len());
    let (number, unit) = s.split_at(at);
    let shift = match unit
        .to_ascii_uppercase()
        .trim_end_matches("IB")
        .trim_end_matches('B')
    {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Ok((number * (1u64 << shift) as f64) as u64)
}

impl BatchArgs {
    /// Works on the archive until nothing is left to do for this worker.
    ///
    /// # Errors
    /// The archive or the output cannot be read or written; no model; the first film's failure, after all were tried;
    /// [`Error::Unfinished`] where it was stopped.
    pub fn run(self, ui: &Ui) -> Result<()> {
        let output = self.folder()?;
        let found = walk(&self.walk(&output))?;
        self.tell_found(&found, ui);
        let options = self.options(output)?;
        if self.dry_run {
            return self.tell_outlook(
                &outlook::of(&options, &found, &mut |done| ui.detail(done))?,
                ui,
            );
        }
        let controls = on_signals(*ui, "finishing what ends soon")?;
        let lease = Duration::from_secs_f64(self.lease.max(1.));
        let state = State::open(&options.output, lease)?;
        ui.say(format_args!(
            "{}; {} at once, each with {} threads and at most {} MiB of memory",
            films(found.items.len()),
            options.jobs,
            options.settings.threads,
            (options.memory / options.jobs as u64) >> 20
        ));
        let mut board = Board::new(*ui, options.jobs);
        let summary = worker::run(&options, &found, &state, &controls, &mut |event| {
            board.show(event)
        });
        board.done();
        let mut summary = summary.map_err(|e| match room::is_full(&e.to_string()) {
            true => Error::Unfinished(format!("{e}: the same command goes on")),
            false => e,
        })?;
        let page = match self.report(&options, &state, &mut summary) {
            Ok(page) => format!("see {}", shown(page)),
            // There may be no room for it, which is why the work has stopped.
            Err(e) if summary.stopped.is_some() => e.to_string(),
            Err(e) => return Err(e),
        };
        ui.detail(format_args!(
            "{} operations on the state",
            state.operations()
        ));
        self.tell_summary(&summary, &found, &page, ui)
    }

    /// The output folder by its full name.
    fn folder(&self) -> Result<PathBuf> {
        let full = std::path::absolute(&self.output);
        full.map_err(|e| Error::output(shown(&self.output), io_sentence(&e)))
    }

    fn walk(&self, output: &Path) -> Walk {
        Walk {
            root: self.archive.clone(),
            output: output.to_owned(),
            list: self.list.clone(),
            include: self.include.clone(),
            exclude: self.exclude.clone(),
            container: self.encoder.format.clone(),
        }
    }

    fn options(&self, output: PathBuf) -> Result<Options> {
        let input = |e: std::io::Error| Error::input(shown(&self.archive), io_sentence(&e));
        let jobs = usize::from(self.jobs);
        let memory = self.memory.unwrap_or_else(|| room::memory() / 4 * 3);
        if memory / (jobs as u64) < LEAST {
            return Err(Error::Usage(format!(
                "{jobs} jobs in {} MiB of memory: each needs at least {} MiB, at 1080p about 500; try fewer --jobs, or more \
                 --memory",
                memory >> 20,
                LEAST >> 20
            )));
        }
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        // One film is an archive in its folder.
        let mut root = std::path::absolute(&self.archive).map_err(input)?;
        if root.is_file() {
            root.pop();
        }
        let threads = self
            .network
            .threads
            .map_or_else(|| (cores / jobs).max(1), usize::from);
        Ok(Options {
            root,
            output,
            settings: self.settings(threads),
            program: program()?,
            jobs,
            memory,
            shard: self.shard,
            grace: Duration::from_secs_f64(self.grace),
            patience: Duration::from_secs_f64(self.patience.max(1.)),
            retry_failed: self.retry_failed,
        })
    }

    fn settings(&self, threads: usize) -> Settings {
        let network = &self.network;
        Settings {
            model: network.model.clone(),
            network: network.place.options(network.look),
            colorize: network.options(1),
            batch: network.batch.map(usize::from),
            container: self.encoder.format.clone(),
            codec: self.encoder.codec.clone(),
            crf: self.encoder.crf,
            preset: self.encoder.preset.clone(),
            encoder_options: self.encoder.encoder_option.clone(),
            pixel_format: self.pixel_format.clone(),
            drop_unsupported: self.drop_unsupported,
            segment: self.segment.max(1.),
            threads,
        }
    }

    fn tell_found(&self, found: &Found, ui: &Ui) {
        for refused in &found.refused {
            ui.warn(format_args!("{}: {}", refused.source, refused.why));
        }
        if found.others.total() > 0 {
            ui.say(&found.others);
        }
        if found.links > 0 {
            ui.warn(format_args!(
                "{} links to folders are not followed",
                found.links
            ));
        }
    }

    fn tell_outlook(&self, outlook: &Outlook, ui: &Ui) -> Result<()> {
        for (source, why) in &outlook.failed {
            ui.warn(format_args!("{source}: {why}"));
        }
        super::ui::answer(format!(
            "{} to colour: {} of film, {} frames, {}\n\
             {} are done and unchanged, {} left out, {} failed before\n\
             about {} with {} at once, and about {} on the disk ({} are free)",
            films(outlook.films),
            HumanDuration(Duration::from_secs_f64(outlook.seconds)),
            outlook.frames,
            indicatif::HumanBytes(outlook.bytes),
            outlook.before,
            outlook.skipped,
            outlook.failed_before,
            HumanDuration(Duration::from_secs_f64(outlook.work)),
            self.jobs,
            indicatif::HumanBytes(outlook.disk),
            indicatif::HumanBytes(outlook.free),
        ))
    }

    fn report(&self, options: &Options, state: &State, summary: &mut Summary) -> Result<PathBuf> {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let facts = Facts {
            archive: shown(&self.archive),
            model: summary.model.clone(),
            settings: options.settings.lines(),
            waiting: summary.waiting.clone(),
            written: now.as_secs(),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        let records = record::records_with(&options.output, std::mem::take(&mut summary.records))?;
        let room = Cell::new(SHEETS);
        let sheet = |record: &record::Record| {
            let sheet = std::fs::read(state.sheet(&record::key(&record.source))).ok()?;
            room.set(room.get().checked_sub(sheet.len())?);
            Some(sheet)
        };
        report::publish(&options.output, &facts, &records, &sheet)
    }

    /// The last line says it all, in a log file too.
    fn tell_summary(&self, summary: &Summary, found: &Found, page: &str, ui: &Ui) -> Result<()> {
        let tally = &summary.tally;
        let mut words = format!("{} coloured", films(tally.done));
        for (count, what) in [
            (tally.before, "done before"),
            (tally.skipped, "left out"),
            (tally.failed, "failed"),
            (found.refused.len(), "refused"),
            (summary.waiting.len(), "still to be done"),
        ] {
            if count > 0 {
                words += &format!(", {count} {what}");
            }
        }
        ui.say(format_args!("{words}; {page}"));
        if let Some(why) = summary
            .stopped
            .as_ref()
            .filter(|_| !summary.waiting.is_empty())
        {
            return Err(Error::Unfinished(format!(
                "{why}: {} left; the same command goes on",
                films(summary.waiting.len())
            )));
        }
        let failed = summary.failure.iter();
        let failed = failed.map(|(code, source, why)| failure(*code, source, why));
        let refused = found.refused.iter();
        let refused = refused.map(|refused| Error::input(&refused.source, &refused.why));
        match failed.chain(refused).next() {
            None => Ok(()),
            Some(first) => Err(Error::Several(Box::new(first))),
        }
    }
}

/// "1 film", "2 films".
fn films(count: usize) -> String {
    format!("{count} film{}", if count == 1 { "" } else { "s" })
}

/// This very program, though another version may have taken its name since.
fn program() -> Result<PathBuf> {
    let own = PathBuf::from("/proc/self/exe");
    match own.exists() {
        true => Ok(own),
        false => std::env::current_exe().map_err(|e| Error::internal("batch", e)),
    }
}

/// A job's error, as it would have been here.
fn failure(code: u8, source: &str, why: &str) -> Error {
    match code {
        3 => Error::input(source, why),
        4 => Error::output(source, why),
        5 => Error::model(source, why),
        _ => Error::internal(source, why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("500M", 500 << 20),
            ("6G", 6 << 30),
            ("1.5GiB", 3 << 29),
            ("77", 77),
        ] {
            assert_eq!(size(text), Ok(bytes));
        }
        for text in ["", "G", "6X", "-1G", "1.2.3M"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
