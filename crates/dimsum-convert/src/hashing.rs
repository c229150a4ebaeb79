//! A reader that hashes and counts what passes through it.

use std::io::{self, Read};

use dimsum_format::Digest;
use sha2::{Digest as _, Sha256};

use crate::progress::ConversionProgress;

/// Hashes and counts bytes as they are read, and stops when everything was cancelled.
pub(crate) struct HashingReader<'p, R> {
    inner: R,
    hasher: Sha256,
    count: u64,
    /// Whether reading failed, so that the hashed bytes are not all.
    failed: bool,
    progress: &'p dyn ConversionProgress,
}

impl<'p, R: Read> HashingReader<'p, R> {
    pub(crate) fn new(inner: R, progress: &'p dyn ConversionProgress) -> Self {
        Self { inner, hasher: Sha256::new(), count: 0, failed: false, progress }
    }

    /// Says whether reading failed.
    pub(crate) const fn failed(&self) -> bool {
        self.failed
    }

    /// Returns digest and length of the bytes that were read.
    pub(crate) fn finish(self) -> (Digest, u64) {
        (Digest::new(self.hasher.finalize().into()), self.count)
    }
}

impl<R: Read> Read for HashingReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.progress.cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        let read = self.inner.read(buffer);
        self.failed |= read.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Interrupted);
        let count = read?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        self.count += count as u64;
        self.progress.bytes_in(count as u64);
        Ok(count)
    }
}
