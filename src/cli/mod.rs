//! The command line: every flag, and flags -> options. Nothing below `cli` knows a flag; nothing outside it prints.

mod batch;
mod board;
mod colorize;
mod completions;
mod encoder;
mod eval;
mod info;
mod job;
mod live;
mod merge;
mod network;
mod pack;
mod place;
mod summary;
mod train;
mod ui;
mod verify;
mod watch;

use clap::{Args, Parser, Subcommand};

use crate::error::Result;
pub use ui::{Log, Ui};

const EXAMPLES: &str = "\
Examples:
  autochrome colorize film.mp4                    writes film.color.mp4
  autochrome colorize film.mkv -o out.mov --codec prores
  autochrome colorize reel1.avi reel2.avi -o colored/
  autochrome colorize film.mp4 --start 60 --duration 10 --preview sheet.png
  autochrome live /dev/video0                     a camera; the picture at http://127.0.0.1:8080
  autochrome batch archive/ -o colored/           whole folders; run it again and it goes on
  autochrome train --from default my-footage/ -o mine.safetensors
  autochrome pack ~/photos ~/films -o all.pack --size 144 --fit 40M
  autochrome colorize film.mp4 --model mine.safetensors
  autochrome verify colored/
  autochrome info film.mp4

Exit codes:
  0 done; 2 wrong use; 3 an input cannot be read; 4 an output cannot be written;
  5 the model or its device cannot be had; 6 training cannot go on; 70 a defect;
  75 a batch was stopped and work is left: the same command goes on;
  130 stopped at once (Ctrl-C twice). With several inputs: the first failure's.";

/// Colorizes black-and-white film: the luma stays bit for bit, timestamps and every other stream are kept.
#[derive(Parser)]
#[command(name = "autochrome", version, about, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    voice: Voice,
}

/// How much to say.
#[derive(Args)]
struct Voice {
    /// Say more: what FFmpeg and the network chose and noticed
    #[arg(short, long, global = true)]
    verbose: bool,
    /// Say only what went wrong
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// How messages are written on standard error
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "text|json",
        default_value = "text"
    )]
    log: Log,
}

#[derive(Subcommand)]
enum Verb {
    /// Colorize films, stills or streams
    Colorize(Box<colorize::ColorizeArgs>),
    /// Colorize a camera or a stream as it comes, with a preview in the browser
    Live(Box<live::LiveArgs>),
    /// Colorize an archive: folders full of films, on one machine or many, whatever comes between
    Batch(Box<batch::BatchArgs>),
    /// What `batch` starts: takes work on standard input
    #[command(hide = true)]
    Job(job::JobArgs),
    /// Train a generator on colour photographs
    Train(train::TrainArgs),
    /// Measure a model on held-out photographs
    Eval(eval::EvalArgs),
    /// Put pictures to train on into one small file
    Pack(pack::PackArgs),
    /// Take the weighted mean of models of one kind
    Merge(merge::MergeArgs),
    /// Read every result of an archive again, and say which is not what its record claims
    Verify(verify::VerifyArgs),
    /// Tell what a film or a model is
    Info(info::InfoArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

impl Cli {
    /// Threads asked for with `--threads`, for what must be set before the first thread starts.
    pub fn threads(&self) -> Option<usize> {
        match &self.verb {
            Verb::Colorize(args) => args.threads(),
            Verb::Live(args) => args.threads(),
            Verb::Job(args) => args.threads(),
            Verb::Train(args) => args.threads.map(usize::from),
            _ => None,
        }
    }

    /// Whether the command trains.
    pub fn is_training(&self) -> bool {
        matches!(self.verb, Verb::Train(_))
    }

    /// How it speaks.
    pub fn ui(&self) -> Ui {
        Ui::new(self.voice.verbose, self.voice.quiet, self.voice.log)
    }

    /// Whether the command runs without an end.
    pub fn is_live(&self) -> bool {
        matches!(self.verb, Verb::Live(_))
    }

    /// Carries out the command.
    ///
    /// # Errors
    /// What the command could not do; the message is for people.
    pub fn run(self) -> Result<()> {
        crate::media::init(u8::from(self.voice.verbose));
        let ui = self.ui();
        match self.verb {
            Verb::Colorize(args) => args.run(&ui),
            Verb::Live(args) => args.run(&ui),
            Verb::Batch(args) => args.run(&ui),
            Verb::Job(args) => args.run(),
            Verb::Train(args) => args.run(&ui),
            Verb::Eval(args) => args.run(&ui),
            Verb::Pack(args) => args.run(&ui),
            Verb::Merge(args) => args.run(&ui),
            Verb::Verify(args) => args.run(&ui),
            Verb::Info(args) => args.run(),
            Verb::Completions(args) => args.run(),
        }
    }
}
