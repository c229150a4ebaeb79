//! Reads a tar of any dialect as a sequence of entries, without knowing what an image is.
//!
//! Dialects: V7, ustar, star, GNU (long names and links, base-256 numbers, sparse files) and POSIX extended headers
//! (with the three versions of GNU's sparse files). Where readers of the field disagree, the rule is that of Go's
//! `archive/tar`, which container runtimes use. Where that rule would be a guess, the tar is refused.
//!
//! The stream is read once, in order, to its end. No claim of a header is believed before the bytes are there: buffers
//! grow with the bytes that were read, up to a limit.

mod header;
mod pax;
mod sparse;
#[cfg(test)]
mod tests;

use std::io::{self, BufRead};

use self::header::{BLOCK, SparseHeader, TarHeader};
use self::pax::Extended;
pub(crate) use self::sparse::MAX_SEGMENTS;
use self::sparse::SparseMap;
use crate::error::{EntryFault, LayerReadError, TreeError};
use crate::limits::{MAX_EXTENDED_HEADER, MAX_FILE_SIZE, MAX_ID};
use crate::sink::ContentSink;
use crate::types::{ContentId, DeviceNumber, Timestamp, Xattr};

/// Bytes read ahead of a stream that has no buffer of its own.
pub(crate) const BUFFER: usize = 128 * 1024;

/// The kind of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EntryType {
    Regular,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// One entry with all extensions applied.
#[derive(Clone, Debug)]
pub(crate) struct TarEntry {
    pub(crate) entry_type: EntryType,
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) permissions: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
    pub(crate) device: DeviceNumber,
    /// Length of a regular file, holes included.
    pub(crate) size: u64,
    pub(crate) xattrs: Vec<Xattr>,
    sparse: Option<SparseMap>,
}

/// Reads entries one by one.
#[derive(Debug)]
pub(crate) struct TarReader<R> {
    input: R,
    /// Bytes read so far.
    offset: u64,
    /// Bytes of the current entry's content still to read.
    content: u64,
    /// Zeros behind the content up to a whole block.
    padding: u64,
    /// The values of global headers.
    global: Extended,
}

/// Headers that say something of the entry behind them.
#[derive(Default)]
struct Pending {
    records: Option<Vec<u8>>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: BufRead> TarReader<R> {
    /// Starts at the first header. Pieces of content reach the sink as they stand in the buffers of `input`.
    pub(crate) fn new(input: R) -> Self {
        Self { input, offset: 0, content: 0, padding: 0, global: Extended::default() }
    }

    /// Returns the next entry, skipping the rest of the content of the last; none at the end of the archive.
    pub(crate) fn next_entry(&mut self) -> Result<Option<TarEntry>, TreeError> {
        self.skip_content()?;
        let mut pending = Pending::default();
        loop {
            let start = self.offset;
            let refuse = |fault| TreeError::Archive { offset: start, fault };
            let Some(block) = self.header_block()? else {
                let unused = pending.records.is_some() || pending.long_name.is_some() || pending.long_link.is_some();
                return if unused { Err(refuse(EntryFault::ExtendedAlone)) } else { Ok(None) };
            };
            let header = TarHeader::parse(&block).map_err(refuse)?;
            let slot = match header.type_flag() {
                b'x' => &mut pending.records,
                b'L' => &mut pending.long_name,
                b'K' => &mut pending.long_link,
                b'g' => {
                    let records = self.extended_data(header.size().map_err(refuse)?)?;
                    self.global.add_global(&records).map_err(refuse)?;
                    continue;
                }
                _ => return self.entry(header, pending).map(Some),
            };
            if slot.is_some() {
                return Err(refuse(EntryFault::ExtendedTwice));
            }
            *slot = Some(self.extended_data(header.size().map_err(refuse)?)?);
        }
    }

    /// Hands the current entry's content to the sink and returns what the sink calls it.
    pub(crate) fn content<S: ContentSink>(
        &mut self,
        entry: &TarEntry,
        sink: &mut S,
    ) -> Result<ContentId, LayerReadError<S::Error>> {
        let fail = |source| LayerReadError::Sink { path: entry.path.as_slice().into(), source };
        let Some(map) = &entry.sparse else {
            sink.begin(self.content).map_err(fail)?;
            self.pass(entry, self.content, sink)?;
            return sink.end().map_err(fail);
        };
        sink.begin(map.size).map_err(fail)?;
        let mut at = 0;
        // The end of the file closes the last hole.
        for &(offset, length) in map.segments.iter().chain(&[(map.size, 0)]) {
            if offset > at {
                sink.hole(offset - at).map_err(fail)?;
            }
            self.pass(entry, length, sink)?;
            at = offset + length;
        }
        sink.end().map_err(fail)
    }

    /// Reads the rest of the stream, so that digests over it are whole: writers pad the end of an archive.
    pub(crate) fn drain(mut self) -> Result<(), TreeError> {
        io::copy(&mut self.input, &mut io::sink())
            .map(drop)
            .map_err(|source| TreeError::Read { offset: self.offset, source })
    }

    /// Reads the next header; none at the end: two blocks of zeros, or where the stream ends after one or none.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>, TreeError> {
        let Some(block) = self.block()? else { return Ok(None) };
        if block != [0; BLOCK] {
            return Ok(Some(block));
        }
        let offset = self.offset;
        match self.block()? {
            None => Ok(None),
            Some(second) if second == [0; BLOCK] => Ok(None),
            Some(_) => Err(TreeError::Archive { offset, fault: EntryFault::LoneZeroBlock }),
        }
    }

    /// Reads one block; none if the stream ends before it.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, TreeError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while let Some(rest) = block.get_mut(filled..)
            && !rest.is_empty()
        {
            match self.input.read(rest) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(TreeError::Archive { offset: self.offset, fault: EntryFault::Truncated }),
                Ok(count) => filled += count,
                Err(source) if source.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(TreeError::Read { offset: self.offset, source }),
            }
        }
        self.offset += BLOCK as u64;
        Ok(Some(block))
    }

    /// Reads the data of an extended header.
    fn extended_data(&mut self, size: u64) -> Result<Vec<u8>, TreeError> {
        let offset = self.offset;
        if size > MAX_EXTENDED_HEADER as u64 {
            return Err(TreeError::Archive { offset, fault: EntryFault::ExtendedTooLarge });
        }
        self.start_content(size);
        let mut data = Vec::new();
        self.read_content(size, |_, bytes| -> Result<(), TreeError> {
            data.extend_from_slice(bytes);
            Ok(())
        })?
        .map_err(|fault| TreeError::Archive { offset, fault })?;
        self.skip_content()?;
        Ok(data)
    }

    /// Makes an entry of a header and the extended headers before it.
    fn entry(&mut self, header: TarHeader<'_>, pending: Pending) -> Result<TarEntry, TreeError> {
        let plain_path = header.path();
        let mut extended = self.global.clone();
        if let Some(records) = &pending.records {
            extended.add(records).map_err(|fault| TreeError::entry(plain_path.as_slice(), fault))?;
        }
        let sparse_name = extended.sparse.name.take();
        let (said_path, said_link) = (extended.path.take(), extended.link.take());
        let long_name = pending.long_name.map(|name| header::text(&name).to_vec());
        let path = long_name.or(sparse_name).or(said_path).unwrap_or(plain_path);
        let long_link = pending.long_link.map(|link| header::text(&link).to_vec());
        let link = long_link.or(said_link).unwrap_or_else(|| header.link().to_vec());
        match self.attributes(header, extended) {
            Ok(entry) => Ok(TarEntry { path, link, ..entry }.with_directory_by_slash(header)),
            Err(Failed::Fault(fault)) => Err(TreeError::entry(path, fault)),
            Err(Failed::Error(error)) => Err(error),
        }
    }

    /// Everything of an entry but its paths; its content is next in the stream then.
    fn attributes(&mut self, header: TarHeader<'_>, mut extended: Extended) -> Result<TarEntry, Failed> {
        let entry_type = match header.type_flag() {
            b'0' | 0 | b'7' | b'S' => EntryType::Regular,
            b'1' => EntryType::HardLink,
            b'2' => EntryType::Symlink,
            b'3' => EntryType::CharDevice,
            b'4' => EntryType::BlockDevice,
            b'5' => EntryType::Directory,
            b'6' => EntryType::Fifo,
            flag => return Err(EntryFault::UnknownType { flag: flag.into() }.into()),
        };
        let size = extended.size.map_or_else(|| header.size(), Ok)?;
        if size > MAX_FILE_SIZE {
            return Err(EntryFault::FileTooLarge { size }.into());
        }
        // Only files have content, whatever the size says: some writers repeat that of a hard link's target.
        self.start_content(if entry_type == EntryType::Regular { size } else { 0 });
        let sparse = if entry_type == EntryType::Regular { self.sparse_map(header, &extended)? } else { None };
        let id = |said: Option<u64>, plain: Result<i128, EntryFault>| {
            let id = said.map_or(plain, |id| Ok(id.into()))?;
            u32::try_from(id).ok().filter(|&id| id <= MAX_ID).ok_or(EntryFault::Id)
        };
        let device = match entry_type {
            EntryType::CharDevice | EntryType::BlockDevice => header.device()?,
            _ => DeviceNumber::default(),
        };
        let mtime = match extended.mtime {
            Some(mtime) => mtime,
            None => Timestamp { seconds: header.mtime()?, nanoseconds: 0 },
        };
        Ok(TarEntry {
            entry_type,
            path: Vec::new(),
            link: Vec::new(),
            permissions: header.permissions()?,
            uid: id(extended.uid, header.uid())?,
            gid: id(extended.gid, header.gid())?,
            mtime,
            device,
            size: sparse.as_ref().map_or(self.content, |map| map.size),
            xattrs: extended.take_xattrs(),
            sparse,
        })
    }

    /// Returns the map of a sparse file, reading it if it stands in front of the content; none if the file is
    /// not sparse.
    fn sparse_map(&mut self, header: TarHeader<'_>, extended: &Extended) -> Result<Option<SparseMap>, Failed> {
        let records = &extended.sparse;
        if header.type_flag() == b'S' {
            let SparseHeader { mut segments, mut more, size } = header.sparse()?;
            while more {
                let offset = self.offset;
                let block = self.block()?.ok_or(TreeError::Archive { offset, fault: EntryFault::Truncated })?;
                more = header::sparse_extension(&block, &mut segments)?;
                sparse::check_count(segments.len())?;
            }
            return Ok(Some(SparseMap::new(size, segments, self.content)?));
        }
        let segments = match (records.major, records.minor, &records.map) {
            (None, None, None) => return Ok(None),
            (None, None, Some(map)) | (Some(0), Some(0 | 1), Some(map)) => map.clone(),
            (Some(1), Some(0), _) => self.sparse_map_in_content()?,
            _ => return Err(EntryFault::SparseMap.into()),
        };
        let size = records.size.ok_or(EntryFault::SparseMap)?;
        Ok(Some(SparseMap::new(size, segments, self.content)?))
    }

    /// Reads a map in front of the content: a count, then offset and length of each segment, one number a line. Zeros
    /// follow up to a whole block.
    fn sparse_map_in_content(&mut self) -> Result<Vec<(u64, u64)>, Failed> {
        let before = self.content;
        let count = usize::try_from(self.line_in_content()?).map_err(|_| EntryFault::SparseMap)?;
        sparse::check_count(count)?;
        let mut segments = Vec::new();
        for _ in 0..count {
            segments.push((self.line_in_content()?, self.line_in_content()?));
        }
        let read = before - self.content;
        let rest = read.next_multiple_of(BLOCK as u64) - read;
        if rest > self.content {
            return Err(EntryFault::SparseMap.into());
        }
        self.read_content(rest, |_, _| Ok::<_, TreeError>(()))??;
        Ok(segments)
    }

    /// Reads one number and the end of its line from the content.
    fn line_in_content(&mut self) -> Result<u64, Failed> {
        // 64 bits have at most 20 digits.
        let mut line = Vec::with_capacity(20);
        loop {
            let mut byte = 0;
            if self.content == 0 || line.len() > 20 {
                return Err(EntryFault::SparseMap.into());
            }
            self.read_content(1, |_, bytes| {
                byte = bytes.first().copied().unwrap_or(0);
                Ok::<_, TreeError>(())
            })??;
            if byte == b'\n' {
                return Ok(pax::digits(&line).ok_or(EntryFault::SparseMap)?);
            }
            line.push(byte);
        }
    }

    /// Notes that `size` bytes of content come next.
    fn start_content(&mut self, size: u64) {
        self.content = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
    }

    /// Hands the next `length` bytes of an entry's content to the sink.
    fn pass<S: ContentSink>(
        &mut self,
        entry: &TarEntry,
        length: u64,
        sink: &mut S,
    ) -> Result<(), LayerReadError<S::Error>> {
        let each = |offset, bytes: &[u8]| {
            sink.at(offset);
            sink.data(bytes).map_err(|source| LayerReadError::Sink { path: entry.path.as_slice().into(), source })
        };
        self.read_content(length, each)?.map_err(|fault| TreeError::entry(entry.path.as_slice(), fault).into())
    }

    /// Reads the next `length` bytes of content in pieces, each with its offset in the archive; the inner
    /// result says whether they were all there.
    fn read_content<E>(
        &mut self,
        length: u64,
        mut each: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<Result<(), EntryFault>, E>
    where
        E: From<TreeError>,
    {
        let mut left = length;
        while left > 0 {
            let buffer = match self.input.fill_buf() {
                Ok([]) => return Ok(Err(EntryFault::Truncated)),
                Ok(buffer) => buffer,
                Err(source) if source.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(TreeError::Read { offset: self.offset, source }.into()),
            };
            let count = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            let (piece, _) = buffer.split_at(count);
            each(self.offset, piece)?;
            self.input.consume(count);
            left -= count as u64;
            self.offset += count as u64;
            self.content -= count as u64;
        }
        Ok(Ok(()))
    }

    /// Skips to the next header. The zeros behind the last content may be missing.
    fn skip_content(&mut self) -> Result<(), TreeError> {
        let offset = self.offset;
        self.read_content(self.content, |_, _| Ok::<_, TreeError>(()))?
            .map_err(|fault| TreeError::Archive { offset, fault })?;
        // Counted as content, so that one function reads everything.
        self.content = std::mem::take(&mut self.padding);
        let _may_be_missing: Result<(), EntryFault> = self.read_content(self.content, |_, _| Ok::<_, TreeError>(()))?;
        self.content = 0;
        Ok(())
    }
}

impl TarEntry {
    /// Before there was a type for directories a slash at the end of the name said so.
    fn with_directory_by_slash(mut self, header: TarHeader<'_>) -> Self {
        if header.type_flag() == 0 && self.path.ends_with(b"/") {
            self.entry_type = EntryType::Directory;
        }
        self
    }
}

/// Either what is wrong with the entry at hand, whose name the caller knows, or an error that is whole.
enum Failed {
    Fault(EntryFault),
    Error(TreeError),
}

impl From<EntryFault> for Failed {
    fn from(fault: EntryFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<TreeError> for Failed {
    fn from(error: TreeError) -> Self {
        Self::Error(error)
    }
}
