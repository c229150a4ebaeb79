//! Where the blobs of an archive are until it can be written: a layout beside it, `.FILE.dimsum-spool`.
//!
//! The name is always the same, so an interrupted copy goes on where it stopped, and at most one is left behind. It is
//! removed when the archive is whole, or when there is nothing in it to go on from.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::layout::{OciLayout, io_error};
use dimsum_source::{SourceError, SourceFault};

/// The spool of one archive, held by one process at a time.
#[derive(Debug)]
pub(super) struct Spool {
    pub(super) layout: OciLayout,
    /// Locked.
    _lock: File,
}

impl Spool {
    /// Opens the spool of an archive, or makes it. `target_name` is for messages.
    pub(super) fn open(archive: &Path, target_name: &str) -> Result<Self, SourceError> {
        let refuse = |reason| SourceFault::Target { reason }.at(target_name);
        let name = archive.file_name().ok_or_else(|| refuse("the path does not end in a file name"))?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(".dimsum-spool");
        let dir = archive.with_file_name(hidden);
        let layout = OciLayout::create(&dir, None)?;
        let lock = File::open(&dir).map_err(|error| io_error(&dir, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(refuse("another process is writing this archive")),
            Err(TryLockError::Error(error)) => return Err(io_error(&dir, error)),
        }
        Ok(Self { layout, _lock: lock })
    }

    /// Returns a path in the spool for the archive while it is written.
    pub(super) fn unfinished(&self) -> PathBuf {
        self.layout.dir().join("archive.tar")
    }

    /// Removes the spool. Nothing depends on it.
    pub(super) fn remove(&self) {
        let _ignored: io::Result<()> = fs::remove_dir_all(self.layout.dir());
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let blobs = fs::read_dir(self.layout.dir().join("blobs/sha256"));
        let empty = blobs.is_ok_and(|mut blobs| blobs.next().is_none());
        if empty && !self.layout.has_partials() {
            self.remove();
        }
    }
}
