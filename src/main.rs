//! Parse, call, print the error, exit code.

use std::process::ExitCode;

use autochrome::cli::Cli;
use clap::Parser;

fn main() -> ExitCode {
    let cli = Cli::parse();
    set_threads(cli.threads());
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("autochrome: {e}");
            ExitCode::from(e.exit_code())
        }
    }
}

/// candle and rayon read the number of threads from the environment only; unset, candle asks the kernel at every
/// matrix product, which costs more than half its speed. candle's second pool, for element-wise work, spins while it
/// waits: beside anything else that wants the cores it took 60 % of them and did nothing, so it gets no threads.
fn set_threads(threads: Option<usize>) {
    let threads = threads
        .map(|n| n.to_string())
        .or_else(|| std::env::var("RAYON_NUM_THREADS").ok());
    let threads = threads.unwrap_or_else(|| {
        std::thread::available_parallelism()
            .map_or(1, |n| n.get())
            .to_string()
    });
    // SAFETY: the first statement after parsing; no other thread exists yet that could read the environment.
    unsafe {
        std::env::set_var("RAYON_NUM_THREADS", threads);
        std::env::set_var("CANDLE_NUM_THREADS", "1");
    }
}
