//! Parse, call, print the error, exit code.
use std::process::ExitCode;

use autochrome::cli::{Ui, train::TrainArgs};
use clap::Parser;

#[derive(Parser)]
#[command(version)]
enum Cli {
    Train(TrainArgs),
}

fn main() -> ExitCode {
    let Cli::Train(args) = Cli::parse();
    match args.run(&Ui::new(false, false)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("autochrome: {e}");
            ExitCode::from(e.exit_code())
        }
    }
}
