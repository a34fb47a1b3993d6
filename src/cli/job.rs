//! `autochrome job`: one of the processes of `batch`. Not for people.

use clap::Args;

use crate::{
    archive::job,
    error::{Error, Result},
};

/// Flags of `job`.
#[derive(Args)]
pub struct JobArgs {
    /// Threads of the network
    #[arg(long)]
    threads: Option<u16>,
}

impl JobArgs {
    /// The `--threads` flag.
    pub fn threads(&self) -> Option<usize> {
        self.threads.map(usize::from)
    }

    /// Works until standard input ends.
    ///
    /// # Errors
    /// The settings are none.
    pub fn run(self) -> Result<()> {
        // Clusters signal every process of a job alike: what becomes of the work is for the worker to say.
        ctrlc::set_handler(|| {}).map_err(|e| Error::internal("signals", e))?;
        job::work()
    }
}
