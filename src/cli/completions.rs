//! `autochrome completions SHELL`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::error::Result;

/// Flags of `completions`.
#[derive(Args)]
pub struct CompletionsArgs {
    /// The shell: its script is printed; see its manual for where to put it
    shell: Shell,
}

impl CompletionsArgs {
    /// Prints the script.
    ///
    /// # Errors
    /// None today; the signature is every verb's.
    pub fn run(self) -> Result<()> {
        clap_complete::generate(
            self.shell,
            &mut super::Cli::command(),
            "autochrome",
            &mut std::io::stdout(),
        );
        Ok(())
    }
}
