//! Hands the content of a file on disk to a sink, holes as holes.

use std::io;

use rustix::fd::OwnedFd;
use rustix::fs::{self, SeekFrom, Stat};
use rustix::io::{Errno, pread};

use super::same_state;
use crate::error::{EntryFault, LayerReadError, TreeError};
use crate::limits::MAX_FILE_SIZE;
use crate::sink::ContentSink;
use crate::types::ContentId;

/// What is read at a time: as much as the kernel reads ahead.
const BUFFER: usize = 128 * 1024;

/// Reads files, one after the other, through one buffer.
pub(super) struct FileCopier {
    buffer: Vec<u8>,
}

impl FileCopier {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; BUFFER] }
    }

    /// Reads a file of `size` bytes that was `stat` when it was opened, and still must be at its end.
    pub(super) fn copy<S: ContentSink>(
        &mut self,
        fd: &OwnedFd,
        stat: &Stat,
        size: u64,
        path: &[u8],
        sink: &mut S,
    ) -> Result<ContentId, LayerReadError<S::Error>> {
        let fail = |source| LayerReadError::Sink { path: path.into(), source };
        let io_error = |error: Errno| TreeError::File { path: path.into(), source: io::Error::from(error) };
        if size > MAX_FILE_SIZE {
            return Err(TreeError::entry(path, EntryFault::FileTooLarge { size }).into());
        }
        // Holes are asked for only where some are: a file without takes all blocks of its size.
        let sparse = u64::try_from(stat.st_blocks).is_ok_and(|blocks| blocks.saturating_mul(512) < size);
        sink.begin(size).map_err(fail)?;
        let mut at = 0;
        while at < size {
            let (start, end) = if sparse { segment(fd, at, size).map_err(io_error)? } else { (at, size) };
            if start > at {
                sink.hole(start - at).map_err(fail)?;
            }
            at = start;
            while at < end {
                let wanted = usize::try_from(end - at).map_or(BUFFER, |left| left.min(BUFFER));
                let (buffer, _) = self.buffer.split_at_mut(wanted);
                match pread(fd, &mut *buffer, at) {
                    Ok(0) => return Err(TreeError::entry(path, EntryFault::Changed).into()),
                    Ok(count) => {
                        let (bytes, _) = buffer.split_at(count);
                        sink.data(bytes).map_err(fail)?;
                        at += count as u64;
                    }
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(io_error(error).into()),
                }
            }
        }
        if !same_state(stat, &fs::fstat(fd).map_err(io_error)?) {
            return Err(TreeError::entry(path, EntryFault::Changed).into());
        }
        sink.end().map_err(fail)
    }
}

/// Returns start and end of the next data from `at` on; both are `size` if there is none.
fn segment(fd: &OwnedFd, at: u64, size: u64) -> Result<(u64, u64), Errno> {
    match fs::seek(fd, SeekFrom::Data(at)) {
        Ok(start) if start < size => {
            let end = fs::seek(fd, SeekFrom::Hole(start))?;
            Ok((start, end.clamp(start, size)))
        }
        // No data up to the end.
        Ok(_) | Err(Errno::NXIO) => Ok((size, size)),
        // The file system does not know: all is data.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok((at, size)),
        Err(error) => Err(error),
    }
}
