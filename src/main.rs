//! Parse, call, print the error, exit code.

use std::process::ExitCode;

use autochrome::cli::Cli;
use clap::Parser;

fn main() -> ExitCode {
    let cli = Cli::parse();
    set_environment(cli.threads(), cli.is_training(), cli.is_live());
    let ui = cli.ui();
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            ui.error(&e);
            ExitCode::from(e.exit_code())
        }
    }
}

/// candle and rayon read the number of threads from the environment only; unset, candle asks the kernel at every
/// matrix product, which costs more than half its speed. candle's second pool, for element-wise work, spins while it
/// waits: beside anything else that wants the cores it took 60 % of them and did nothing, so it gets no threads.
/// SVT-AV1 takes its silence from there as well, and OpenMP its one thread, should oneDNN start any.
///
/// A training step asks for the same hundreds of megabytes again and again. glibc would give them back to the kernel
/// in between, which then clears every page anew: a seventh of the step.
///
/// A live run opens encoders and decoders again and again, for days. glibc learns from the first that are closed to keep
/// such large pieces, between which what is small comes to lie: memory grew by 3 MiB with every new file. Told a size,
/// it gives what is larger back at once.
#[allow(unsafe_code)]
fn set_environment(threads: Option<usize>, training: bool, live: bool) {
    let cores = || std::thread::available_parallelism().map_or(1, |n| n.get());
    let asked = std::env::var("RAYON_NUM_THREADS")
        .ok()
        .filter(|_| threads.is_none());
    let threads = asked.unwrap_or_else(|| threads.unwrap_or_else(cores).to_string());
    // SAFETY: called once, right after parsing; no other thread exists yet that could read the environment.
    unsafe {
        std::env::set_var("RAYON_NUM_THREADS", threads);
        std::env::set_var("CANDLE_NUM_THREADS", "1");
        std::env::set_var("OMP_NUM_THREADS", "1");
        std::env::set_var("SVT_LOG", "1");
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        if training {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        }
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        if live {
            libc::mallopt(libc::M_MMAP_THRESHOLD, 256 << 10);
        }
    }
    let _ = (training, live);
}
