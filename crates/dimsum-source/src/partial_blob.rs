//! A blob that is fetched in more than one attempt: a file with its first bytes, which one process writes.
//!
//! An interrupted fetch leaves the file, and the next one goes on where it ends. Nothing in it is trusted: its user
//! hashes it from the first byte. The writer holds a lock on the file. A second process finds it locked and does without.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use dimsum_format::manifest::Blob;

use crate::{Source, SourceError};

/// Bytes that are moved at once: a few network reads, and one request to a disk.
const BUFFER: usize = 256 << 10;

/// The first bytes of a blob, in a file that nobody else writes.
#[derive(Debug)]
pub struct PartialBlob {
    file: File,
    /// None if the file has no name, and so will not be found again.
    path: Option<PathBuf>,
    found: u64,
}

/// Why the rest of a blob did not come.
#[derive(Debug)]
pub enum PartialFailure {
    /// The source does not give it.
    Source(SourceError),
    /// The source broke off.
    Read(io::Error),
    /// The file failed.
    File(io::Error),
    /// The caller stopped it.
    Stopped,
}

impl PartialBlob {
    /// Opens the file of a blob of `size` bytes, or makes it; none if somebody else writes it. A file that is too long
    /// cannot be right and is emptied.
    ///
    /// # Errors
    /// If the file cannot be opened, locked or emptied.
    pub fn open(path: &Path, size: u64) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o644).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Between opening and locking its writer may have come to the end and given it another name, or none.
        let same = |named: &fs::Metadata, own: &fs::Metadata| (named.dev(), named.ino()) == (own.dev(), own.ino());
        let own = file.metadata()?;
        if !fs::metadata(path).is_ok_and(|named| same(&named, &own)) {
            return Ok(None);
        }
        let mut partial = Self { file, path: Some(path.to_owned()), found: own.len() };
        if partial.found > size {
            partial.clear()?;
        }
        Ok(Some(partial))
    }

    /// Takes an empty file without a name, for an attempt that leaves nothing.
    #[must_use]
    pub const fn unnamed(file: File) -> Self {
        Self { file, path: None, found: 0 }
    }

    /// Returns the bytes that an earlier attempt left.
    #[must_use]
    pub const fn found(&self) -> u64 {
        self.found
    }

    /// Returns the file. Its bytes can be read up to the end that [`fetch`](Self::fetch) reports.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Reads the bytes that an earlier attempt left, piece by piece.
    ///
    /// # Errors
    /// [`PartialFailure::File`], or [`PartialFailure::Stopped`] if `each` breaks.
    pub fn read_found(&self, each: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) -> Result<(), PartialFailure> {
        let (mut buffer, mut at) = (vec![0; BUFFER], 0);
        while at < self.found {
            let count = self.file.read_at(&mut buffer, at).map_err(PartialFailure::File)?;
            if count == 0 {
                return Err(PartialFailure::File(io::ErrorKind::UnexpectedEof.into()));
            }
            at = at.saturating_add(count as u64);
            if each(buffer.get(..count).unwrap_or_default()).is_break() {
                return Err(PartialFailure::Stopped);
            }
        }
        Ok(())
    }

    /// Fetches the bytes behind those that were found, and gives each piece to `each` once it is in the file. Returns
    /// the end of all bytes. It is one more than the blob's size if the source has more.
    ///
    /// # Errors
    /// [`PartialFailure`]. The pieces before it stay.
    pub fn fetch(
        &self,
        blob: Blob,
        from: &dyn Source,
        each: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<u64, PartialFailure> {
        let mut at = self.found;
        if at >= blob.size {
            return Ok(at);
        }
        let left = blob.size.saturating_sub(at).saturating_add(1);
        let mut reader = from.open_at(blob.digest, at).map_err(PartialFailure::Source)?.take(left);
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = reader.read(&mut buffer).map_err(PartialFailure::Read)?;
            let bytes = buffer.get(..count).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(at);
            }
            self.file.write_all_at(bytes, at).map_err(PartialFailure::File)?;
            at = at.saturating_add(count as u64);
            if each(bytes).is_break() {
                return Err(PartialFailure::Stopped);
            }
        }
    }

    /// Throws away the bytes, since they may be wrong.
    ///
    /// # Errors
    /// If the file cannot be changed.
    pub fn clear(&mut self) -> io::Result<()> {
        self.found = 0;
        self.file.set_len(0)
    }

    /// Removes the file, if it has a name.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self) -> io::Result<()> {
        self.path.as_ref().map_or(Ok(()), fs::remove_file)
    }

    /// Gives the file, which is whole, its last name, durably but for the directory.
    ///
    /// # Errors
    /// If it cannot be written or renamed.
    pub fn finish(&self, name: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        self.path.as_ref().map_or(Ok(()), |path| fs::rename(path, name))
    }
}

/// Removes the file of a partial blob, unless somebody writes it. Nothing depends on it.
pub fn remove_unwritten(path: &Path) {
    if File::open(path).is_ok_and(|file| file.try_lock().is_ok()) {
        let _ignored: io::Result<()> = fs::remove_file(path);
    }
}
