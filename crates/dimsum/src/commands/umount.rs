//! `dimsum umount`.

use std::path::PathBuf;

use clap::Args;

use crate::context::Context;
use crate::error::Error;

/// Unmount an image, or name the processes that use it
#[derive(Debug, Args)]
pub struct Umount {
    /// The directory on which the image is mounted
    directory: PathBuf,
    /// Unmount also if it is in use: the mount vanishes at once and ends with its last use
    #[arg(long)]
    lazy: bool,
}

impl Umount {
    /// Unmounts.
    ///
    /// # Errors
    /// If no image is mounted there, or it is in use.
    pub fn run(self, _context: &Context) -> Result<(), Error> {
        let done = dimsum_node::umount(&self.directory, self.lazy);
        done.map_err(|source| Error::Node { object: self.directory.display().to_string(), source: Box::new(source) })
    }
}
