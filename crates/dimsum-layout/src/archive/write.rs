//! Writes a tar whose bytes are a function of its members: no times, no owners, the order that the caller gives.

use std::fs::{self, File};
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::header::{BLOCK, header};
use crate::layout::{io_error, sync_directory};
use dimsum_source::SourceError;

/// An archive that is not visible yet.
#[derive(Debug)]
pub(super) struct TarWriter {
    file: File,
    path: PathBuf,
    /// Bytes written so far: whole members.
    length: u64,
}

impl TarWriter {
    /// Starts an archive at `path`, which is not its place yet.
    pub(super) fn create(path: PathBuf) -> Result<Self, SourceError> {
        let file = File::create(&path).map_err(|error| io_error(&path, error))?;
        Ok(Self { file, path, length: 0 })
    }

    /// Adds a directory.
    pub(super) fn directory(&mut self, name: &str) -> Result<(), SourceError> {
        self.file.write_all(&header(name, 0, true)).map_err(|error| io_error(&self.path, error))?;
        self.length += BLOCK as u64;
        Ok(())
    }

    /// Adds a file that is in memory.
    pub(super) fn bytes(&mut self, name: &str, mut bytes: &[u8]) -> Result<(), SourceError> {
        self.member(name, |file| io::copy(&mut bytes, file)).map_err(|error| io_error(&self.path, error))
    }

    /// Adds a file that is on disk; the kernel copies it, and shares its blocks where the file system can do that.
    pub(super) fn file(&mut self, name: &str, from: &Path) -> Result<(), SourceError> {
        let mut input = File::open(from).map_err(|error| io_error(from, error))?;
        self.member(name, |file| io::copy(&mut input, file)).map_err(|error| io_error(&self.path, error))
    }

    /// Adds a file of unknown length.
    pub(super) fn stream(&mut self, name: &str, input: &mut dyn Read) -> io::Result<()> {
        self.member(name, |file| io::copy(input, file))
    }

    /// The length is known when all is written, so the header is written last.
    fn member(&mut self, name: &str, write: impl FnOnce(&mut File) -> io::Result<u64>) -> io::Result<()> {
        let start = self.length;
        self.file.seek(SeekFrom::Start(start + BLOCK as u64))?;
        let size = write(&mut self.file)?;
        let end = start + BLOCK as u64 + size;
        let padded = end.next_multiple_of(BLOCK as u64);
        let padding = usize::try_from(padded - end).expect("less than a block");
        self.file.write_all([0; BLOCK].get(..padding).unwrap_or_default())?;
        self.file.seek(SeekFrom::Start(start))?;
        self.file.write_all(&header(name, size, false))?;
        self.file.seek(SeekFrom::Start(padded))?;
        self.length = padded;
        Ok(())
    }

    /// Ends the archive and gives it its place, whole and durable.
    pub(super) fn finish(mut self, place: &Path) -> Result<(), SourceError> {
        let failed = |error| io_error(place, error);
        self.file.write_all(&[0; 2 * BLOCK]).map_err(failed)?;
        self.file.sync_all().map_err(failed)?;
        fs::rename(&self.path, place).map_err(failed)?;
        let parent = place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        sync_directory(parent).map_err(failed)
    }
}
