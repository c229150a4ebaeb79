//! `dimsum hook`: what the runtime calls right before the container's command starts, for `run --report`.

use std::path::PathBuf;

use clap::Args;
use dimsum_engine::container::note_exec_time;

use crate::context::Context;
use crate::error::Error;

/// Note the time (called by the container runtime)
#[derive(Debug, Args)]
#[command(hide = true)]
pub struct Hook {
    /// The file to note it in
    file: PathBuf,
}

impl Hook {
    /// Notes the time.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn run(self, _context: &Context) -> Result<(), Error> {
        note_exec_time(&self.file).map_err(|source| Error::io("note the time in", &self.file, source))
    }
}
