//! Splits the content of files while it streams by.

use dimsum_format::Blake3;
use dimsum_recipe::temporary::BufferedTemporary;
use dimsum_tree::{ContentId, ContentSink};

use super::large::slice_count;
use super::{Arrived, FileContent, LargeFiles, SmallFiles, SmallRecord, Workers};
use crate::error::ConvertError;
use crate::progress::ConversionProgress;

/// The contents that came in.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ContentCounts {
    /// Bytes of all files.
    pub(crate) bytes: u64,
    /// Bytes of small files and slices of only zeros.
    pub(crate) null: u64,
    /// Bytes of small files that were known.
    pub(crate) shared: u64,
}

/// The sink of one layer.
pub(crate) struct Splitter<'a> {
    small: &'a mut SmallFiles,
    large: &'a mut LargeFiles,
    spool: &'a mut BufferedTemporary,
    workers: Workers<'a>,
    progress: &'a dyn ConversionProgress,
    small_limit: u64,
    slice_size: u64,
    counts: ContentCounts,
    /// Whether bytes of files are bytes of the source.
    count_input: bool,
    file: SplitFile,
    /// The current small file, or the current slice as far as it has come in.
    buffer: Vec<u8>,
}

/// The current file.
#[derive(Clone, Copy, Default)]
struct SplitFile {
    size: u64,
    large: bool,
    /// Where its pieces start.
    start: u32,
    /// Slices that are complete.
    slices: u64,
    /// Of so many.
    slice_count: u64,
}

impl<'a> Splitter<'a> {
    #[expect(clippy::too_many_arguments, reason = "each part is borrowed from another owner")]
    pub(crate) fn new(
        small: &'a mut SmallFiles,
        large: &'a mut LargeFiles,
        spool: &'a mut BufferedTemporary,
        workers: Workers<'a>,
        progress: &'a dyn ConversionProgress,
        small_limit: u64,
        slice_size: u32,
        count_input: bool,
    ) -> Self {
        Self {
            small,
            large,
            spool,
            workers,
            progress,
            small_limit,
            slice_size: u64::from(slice_size),
            counts: ContentCounts::default(),
            count_input,
            file: SplitFile::default(),
            buffer: Vec::new(),
        }
    }

    /// Waits until all slices are done; returns the contents in their order.
    pub(crate) fn finish(self) -> Result<(ContentCounts, Arrived), ConvertError> {
        Ok((self.counts, self.workers.finish()?))
    }

    /// Bytes of the slice that is being filled.
    fn slice_length(&self) -> usize {
        let SplitFile { size, slices, slice_count, .. } = self.file;
        let length = if slices + 1 == slice_count { size - slices * self.slice_size } else { self.slice_size };
        usize::try_from(length).expect("a slice is at most 5 MiB")
    }

    /// Hands the slice in the buffer over if it is complete.
    fn end_slice(&mut self) -> Result<(), ConvertError> {
        if self.buffer.len() < self.slice_length() {
            return Ok(());
        }
        self.file.slices += 1;
        if is_zero(&self.buffer) {
            self.counts.null += self.buffer.len() as u64;
            self.buffer.clear();
            self.workers.table().push_null(1, self.file.start);
            return Ok(());
        }
        let piece = self.workers.table().push_slice()?;
        let bytes = std::mem::replace(&mut self.buffer, self.workers.buffer());
        self.workers.send(piece, bytes)
    }

    /// Skips slices that lie in a hole as a whole; returns the rest of the hole.
    fn null_slices(&mut self, length: u64) -> u64 {
        let SplitFile { slices, slice_count, start, .. } = self.file;
        // The last slice has another length and is filled as usual, which it costs little to do once.
        let skipped = (length / self.slice_size).min((slice_count - slices).saturating_sub(1));
        if skipped > 0 {
            let count = u32::try_from(skipped).expect("a file has at most 2^28 slices");
            self.workers.table().push_null(count, start);
            self.file.slices += skipped;
            self.counts.null += skipped * self.slice_size;
        }
        length - skipped * self.slice_size
    }

    fn end_small(&mut self) -> Result<FileContent, ConvertError> {
        let length = self.buffer.len() as u64;
        if is_zero(&self.buffer) {
            self.counts.null += length;
            return Ok(FileContent::Null);
        }
        let digest = Blake3::of(&self.buffer);
        if let Some(known) = self.small.find(digest)? {
            self.counts.shared += length;
            return Ok(FileContent::Small(known));
        }
        let offset = self.spool.append(&self.buffer)?;
        let length = u32::try_from(length).expect("a small file has at most 512 KiB");
        self.small.add(SmallRecord { digest, length, offset }).map(FileContent::Small)
    }

    fn begin_file(&mut self, size: u64) -> Result<(), ConvertError> {
        if self.progress.cancelled() {
            return Err(ConvertError::Cancelled);
        }
        self.buffer.clear();
        self.file = SplitFile { size, large: size > self.small_limit, ..SplitFile::default() };
        if self.file.large {
            self.file.slice_count = slice_count(size, self.slice_size);
            self.file.start = self.workers.table().start()?;
        }
        self.counts.bytes += size;
        Ok(())
    }

    fn take_data(&mut self, mut bytes: &[u8]) -> Result<(), ConvertError> {
        if self.count_input {
            self.progress.bytes_in(bytes.len() as u64);
        }
        if !self.file.large {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        while !bytes.is_empty() {
            let room = self.slice_length() - self.buffer.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            self.end_slice()?;
        }
        if self.progress.cancelled() { Err(ConvertError::Cancelled) } else { Ok(()) }
    }

    fn take_hole(&mut self, mut length: u64) -> Result<(), ConvertError> {
        if !self.file.large {
            let length = usize::try_from(length).expect("a small file has at most 512 KiB");
            self.buffer.resize(self.buffer.len() + length, 0);
            return Ok(());
        }
        while length > 0 {
            if self.buffer.is_empty() {
                length = self.null_slices(length);
            }
            let room = self.slice_length() - self.buffer.len();
            let now = usize::try_from(length).map_or(room, |length| length.min(room));
            self.buffer.resize(self.buffer.len() + now, 0);
            length -= now as u64;
            if now > 0 {
                self.end_slice()?;
            }
        }
        Ok(())
    }

    fn end_file(&mut self) -> Result<ContentId, ConvertError> {
        let SplitFile { size, large, start, .. } = self.file;
        let content = if size == 0 {
            FileContent::Empty
        } else if !large {
            self.end_small()?
        } else if self.workers.table().drop_if_null(start) {
            FileContent::Null
        } else {
            FileContent::Large(self.large.add(start)?)
        };
        Ok(content.id())
    }
}

/// The error is boxed because it travels far through the tar reader, in every result.
impl ContentSink for Splitter<'_> {
    type Error = Box<ConvertError>;

    fn begin(&mut self, size: u64) -> Result<(), Box<ConvertError>> {
        self.begin_file(size).map_err(Box::new)
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Box<ConvertError>> {
        self.take_data(bytes).map_err(Box::new)
    }

    fn hole(&mut self, length: u64) -> Result<(), Box<ConvertError>> {
        self.take_hole(length).map_err(Box::new)
    }

    fn end(&mut self) -> Result<ContentId, Box<ConvertError>> {
        self.end_file().map_err(Box::new)
    }
}

/// Says whether all bytes are zero; ends at the first that is not.
fn is_zero(bytes: &[u8]) -> bool {
    /// Compared one by one, before the rest is compared with itself one step on, which is a comparison of memory.
    const STEP: usize = 64;
    let (first, rest) = bytes.split_at(bytes.len().min(STEP));
    first.iter().all(|&byte| byte == 0) && bytes.get(..rest.len()) == Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_anywhere_is_not_zero() {
        for length in [0, 1, 63, 64, 65, 128, 1000] {
            let mut bytes = vec![0; length];
            assert!(is_zero(&bytes));
            for at in 0..length {
                bytes[at] = 1;
                assert!(!is_zero(&bytes), "{at} of {length}");
                bytes[at] = 0;
            }
        }
    }
}
