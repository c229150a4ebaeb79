//! Temporary files without a name. Their total size is counted.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes gathered before they are written: small files and table rows would each cost a system call.
const WRITE_BUFFER: usize = 256 << 10;

/// A temporary file could not be made, written or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot use a temporary file in {}: {source}", dir.display())]
pub struct TemporaryError {
    /// The directory of temporary files.
    pub dir: PathBuf,
    /// The system's error.
    pub source: io::Error,
}

/// Makes temporary files and knows how much they hold together.
#[derive(Clone, Debug)]
pub struct TemporaryFiles {
    dir: Arc<PathBuf>,
    usage: Arc<TemporaryUsage>,
}

#[derive(Debug, Default)]
struct TemporaryUsage {
    now: AtomicU64,
    peak: AtomicU64,
}

impl TemporaryFiles {
    /// Makes files in this directory.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir: Arc::new(dir), usage: Arc::default() }
    }

    /// Makes an empty file that vanishes with the value, or with the process.
    ///
    /// # Errors
    /// If the directory does not take one.
    pub fn create(&self) -> Result<TemporaryFile, TemporaryError> {
        let file = tempfile::tempfile_in(&*self.dir).map_err(|source| self.error(source))?;
        Ok(TemporaryFile { file, length: AtomicU64::new(0), owner: self.clone() })
    }

    /// Returns the most bytes that all files held at one time.
    #[must_use]
    pub fn peak(&self) -> u64 {
        self.usage.peak.load(Ordering::Relaxed)
    }

    fn error(&self, source: io::Error) -> TemporaryError {
        TemporaryError { dir: self.dir.to_path_buf(), source }
    }
}

/// A file that only grows; several threads may append and read.
#[derive(Debug)]
pub struct TemporaryFile {
    file: File,
    length: AtomicU64,
    owner: TemporaryFiles,
}

impl TemporaryFile {
    /// Appends bytes and returns where they start.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn append(&self, bytes: &[u8]) -> Result<u64, TemporaryError> {
        let count = bytes.len() as u64;
        let offset = self.length.fetch_add(count, Ordering::Relaxed);
        let usage = &self.owner.usage;
        let now = usage.now.fetch_add(count, Ordering::Relaxed) + count;
        usage.peak.fetch_max(now, Ordering::Relaxed);
        self.file.write_all_at(bytes, offset).map_err(|source| self.owner.error(source))?;
        Ok(offset)
    }

    /// Fills `bytes` from `offset` on.
    ///
    /// # Errors
    /// If the file cannot be read, or ends before.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), TemporaryError> {
        self.file.read_exact_at(bytes, offset).map_err(|source| self.owner.error(source))
    }

    /// Returns the number of bytes appended.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> u64 {
        self.length.load(Ordering::Relaxed)
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        self.owner.usage.now.fetch_sub(self.len(), Ordering::Relaxed);
    }
}

/// Reads a range of a temporary file as a stream.
#[derive(Debug)]
pub struct TemporaryRange<'t> {
    file: &'t TemporaryFile,
    at: u64,
    end: u64,
}

impl<'t> TemporaryRange<'t> {
    /// Takes the `length` bytes from `at` on, or as many as there are.
    #[must_use]
    pub const fn new(file: &'t TemporaryFile, at: u64, length: u64) -> Self {
        Self { file, at, end: at.saturating_add(length) }
    }
}

impl Read for TemporaryRange<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let left = self.end.min(self.file.len()).saturating_sub(self.at);
        let count = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let now = bytes.get_mut(..count).unwrap_or_default();
        self.file.read(self.at, now).map_err(io::Error::other)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// A temporary file with one writer that gathers small pieces; bytes that are not written yet can be read all the same.
#[derive(Debug)]
pub struct BufferedTemporary {
    file: Arc<TemporaryFile>,
    buffer: Vec<u8>,
}

impl BufferedTemporary {
    /// Starts with a file that has no other writer.
    #[must_use]
    pub fn new(file: TemporaryFile) -> Self {
        Self { file: Arc::new(file), buffer: Vec::with_capacity(WRITE_BUFFER) }
    }

    /// Appends bytes and returns where they start.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn append(&mut self, bytes: &[u8]) -> Result<u64, TemporaryError> {
        if self.buffer.len() + bytes.len() > WRITE_BUFFER {
            self.flush()?;
        }
        let offset = self.file.len() + self.buffer.len() as u64;
        if bytes.len() >= WRITE_BUFFER {
            self.file.append(bytes)?;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        Ok(offset)
    }

    /// Writes the gathered bytes and returns the file, which others may read while this goes on growing.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn share(&mut self) -> Result<Arc<TemporaryFile>, TemporaryError> {
        self.flush()?;
        Ok(Arc::clone(&self.file))
    }

    /// Writes the gathered bytes.
    fn flush(&mut self) -> Result<(), TemporaryError> {
        if !self.buffer.is_empty() {
            self.file.append(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Fills `bytes` from `offset` on, whether they are written already, or in part, or not at all.
    ///
    /// # Errors
    /// If the file cannot be read.
    ///
    /// # Panics
    /// If the bytes were never appended.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), TemporaryError> {
        let written = self.file.len().saturating_sub(offset);
        let written = usize::try_from(written).map_or(bytes.len(), |written| written.min(bytes.len()));
        let (from_file, from_buffer) = bytes.split_at_mut(written);
        if !from_file.is_empty() {
            self.file.read(offset, from_file)?;
        }
        let start = usize::try_from(offset.saturating_sub(self.file.len())).unwrap_or(usize::MAX);
        let held = self.buffer.get(start..).and_then(|rest| rest.get(..from_buffer.len()));
        from_buffer.copy_from_slice(held.expect("only what was appended is read"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_gathered_reads_back_wherever_it_is() {
        let temporaries = TemporaryFiles::new(std::env::temp_dir());
        let mut gathering = BufferedTemporary::new(temporaries.create().unwrap());
        let all: Vec<u8> = (0..700_000u32).map(|i| (i / 3) as u8).collect();
        for piece in all.chunks(1_001) {
            gathering.append(piece).unwrap();
        }
        let written = gathering.file.len() as usize;
        assert!(written > 0 && written < all.len());
        for range in
            [0..10, 0..all.len(), written - 5..written + 5, written..written + 1, all.len() - 1..all.len(), 7..7]
        {
            let mut bytes = vec![0; range.len()];
            gathering.read(range.start as u64, &mut bytes).unwrap();
            assert!(bytes == all[range]);
        }
        let peak = temporaries.peak();
        drop(gathering);
        temporaries.create().unwrap().append(b"x").unwrap();
        assert_eq!(temporaries.peak(), peak, "a file that is gone does not count");
    }
}
