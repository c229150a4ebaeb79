//! Watches a tar while its layer is read, and records everything but the content of files.
//!
//! ```text
//!   tar ─▸ Tee ─▸ tar reader ─▸ RecordingSink ─▸ sink of the conversion
//!           │ every byte            │ which of them are content, and of which file
//!           └────────▸ Recording ◂──┘
//!             the rest: compressed, in a temporary file; where content was: a list in another
//! ```
//!
//! The recipe must hold every byte that the tar reader took and did not call content: headers, padding, the end
//! of the archive, ignored content. Nothing is kept in memory, and content is not copied.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, BufRead, Read};
use std::sync::Arc;

use dimsum_tree::{ContentId, ContentSink};

use crate::error::RecipeError;
use crate::section::{Section, SectionIn, SectionOut};
use crate::temporary::{BufferedTemporary, TemporaryFile, TemporaryFiles};
use crate::varint;

/// The record of a tar, as far as it has been read.
pub struct Recording(RefCell<RecordingState>);

struct RecordingState {
    literals: SectionOut,
    segments: BufferedTemporary,
    segment_bytes: u64,
    /// Bytes of the tar that the reader has taken.
    taken: u64,
    /// How many of the bytes that it takes next are content.
    claimed: usize,
    /// Bytes that are not content since the last segment.
    between: u64,
    file: RecordedFile,
    /// The failure of a call that cannot return it.
    error: Option<RecipeError>,
}

/// The current file.
#[derive(Default)]
struct RecordedFile {
    size: u64,
    /// Where in the file the next bytes belong.
    position: u64,
    /// Where in the tar the next bytes stand.
    offset: Option<u64>,
    /// Parts that are in the tar.
    parts: Vec<FilePart>,
}

/// Bytes of a file that stand together in the tar.
struct FilePart {
    /// Bytes of the tar between the part before and this one.
    between: u64,
    position: u64,
    length: u64,
}

/// A tar that has been read to its end.
#[derive(Debug)]
pub struct Recorded {
    /// The bytes that are not content, one after the other.
    literals: Section,
    segments: Arc<TemporaryFile>,
    segment_bytes: u64,
    /// How many of the literals come behind the last segment.
    tail: u64,
}

/// Content in the tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Bytes before it that are not content.
    pub between: u64,
    /// The file's content.
    pub content: ContentId,
    /// Bytes of the file.
    pub size: u64,
    /// Where in the file it starts.
    pub position: u64,
    /// Bytes of it.
    pub length: u64,
}

impl Recording {
    /// Starts with two temporary files.
    ///
    /// # Errors
    /// If they cannot be made.
    pub fn new(temporaries: &TemporaryFiles) -> Result<Self, RecipeError> {
        Ok(Self(RefCell::new(RecordingState {
            literals: SectionOut::fast(temporaries)?,
            segments: BufferedTemporary::new(temporaries.create()?),
            segment_bytes: 0,
            taken: 0,
            claimed: 0,
            between: 0,
            file: RecordedFile::default(),
            error: None,
        })))
    }

    /// Records the reads of a tar.
    pub const fn tee<R>(&self, tar: R) -> RecordingTar<'_, R> {
        RecordingTar { tar, recording: self }
    }

    /// Watches what goes to a sink.
    pub const fn sink<'r, S>(&'r self, sink: &'r mut S) -> RecordingSink<'r, S> {
        RecordingSink { sink, recording: self }
    }

    /// Ends when the tar has been read to its end.
    ///
    /// # Errors
    /// If a temporary file failed meanwhile, or the tar reader hands on bytes in another order than it reads them.
    pub fn finish(self) -> Result<Recorded, RecipeError> {
        let state = self.0.into_inner();
        if let Some(error) = state.error {
            return Err(error);
        }
        let RecordingState { literals, mut segments, segment_bytes, between, .. } = state;
        Ok(Recorded { literals: literals.finish()?, segments: segments.share()?, segment_bytes, tail: between })
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording").finish_non_exhaustive()
    }
}

impl RecordingState {
    /// The reader takes these bytes, some of which it may have called content.
    fn take(&mut self, bytes: &[u8]) {
        let (content, literal) = bytes.split_at(self.claimed.min(bytes.len()));
        self.claimed -= content.len();
        if !literal.is_empty()
            && self.error.is_none()
            && let Err(error) = self.literals.put(literal)
        {
            self.error = Some(error);
        }
        self.between += literal.len() as u64;
        self.taken += bytes.len() as u64;
    }

    /// The next `length` bytes of the file stand at its offset in the tar.
    fn content(&mut self, length: usize) {
        // Content is spoken of before it is taken, and piece by piece.
        if self.claimed > 0 || self.file.offset.take() != Some(self.taken) {
            self.error.get_or_insert(RecipeError::Order);
            return;
        }
        self.claimed = length;
        let (between, position) = (std::mem::take(&mut self.between), self.file.position);
        let length = length as u64;
        self.file.position += length;
        if let Some(last) = self.file.parts.last_mut()
            && between == 0
            && last.position + last.length == position
        {
            last.length += length;
        } else {
            self.file.parts.push(FilePart { between, position, length });
        }
    }

    fn end(&mut self, content: ContentId) {
        let mut bytes = Vec::new();
        for part in std::mem::take(&mut self.file.parts) {
            for value in [part.between, content.get().into(), self.file.size, part.position, part.length] {
                varint::put(&mut bytes, value);
            }
        }
        self.segment_bytes += bytes.len() as u64;
        if self.error.is_none()
            && let Err(error) = self.segments.append(&bytes)
        {
            self.error = Some(error.into());
        }
    }
}

impl Recorded {
    /// Reads it from the start of the tar to its end.
    ///
    /// # Errors
    /// If the temporary file cannot be read.
    pub fn reader(&self) -> Result<RecordedReader<'_>, RecipeError> {
        let segments = Segments { recorded: self, at: 0, buffer: Vec::new(), used: 0 };
        Ok(RecordedReader { segments, literals: SectionIn::of(&self.literals, "notes")? })
    }

    /// Bytes behind the last segment that are not content.
    #[must_use]
    pub const fn tail(&self) -> u64 {
        self.tail
    }
}

/// Reads the record of a tar in the order of the tar.
pub struct RecordedReader<'r> {
    segments: Segments<'r>,
    literals: SectionIn<'r>,
}

impl RecordedReader<'_> {
    /// Returns the next content; none behind the last.
    ///
    /// # Errors
    /// If the temporary file cannot be read.
    pub fn next_segment(&mut self) -> Result<Option<Segment>, RecipeError> {
        self.segments.next()
    }

    /// Fills `bytes` with the next bytes that are not content.
    ///
    /// # Errors
    /// If there are not so many, or the temporary file cannot be read.
    pub fn literals(&mut self, bytes: &mut [u8]) -> Result<(), RecipeError> {
        self.literals.fill(bytes)
    }
}

impl fmt::Debug for RecordedReader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordedReader").finish_non_exhaustive()
    }
}

/// The segments of a tar, one by one.
struct Segments<'r> {
    recorded: &'r Recorded,
    at: u64,
    buffer: Vec<u8>,
    used: usize,
}

impl Segments<'_> {
    fn next(&mut self) -> Result<Option<Segment>, RecipeError> {
        let Some(between) = varint::read(self, "notes")? else { return Ok(None) };
        let mut number = || varint::need(self, "notes");
        let (content, size, position, length) = (number()?, number()?, number()?, number()?);
        let content = ContentId::new(u32::try_from(content).expect("a content id has 32 bits"));
        Ok(Some(Segment { between, content, size, position, length }))
    }
}

impl Read for Segments<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        /// Bytes read at a time.
        const BUFFER: u64 = 64 << 10;
        if self.used == self.buffer.len() {
            let count = (self.recorded.segment_bytes - self.at).min(BUFFER);
            self.buffer.resize(usize::try_from(count).expect("at most BUFFER"), 0);
            self.recorded.segments.read(self.at, &mut self.buffer).map_err(io::Error::other)?;
            self.at += count;
            self.used = 0;
        }
        let mut rest = self.buffer.get(self.used..).unwrap_or_default();
        let count = rest.read(bytes)?;
        self.used += count;
        Ok(count)
    }
}

/// A tar that is watched.
#[derive(Debug)]
pub struct RecordingTar<'r, R> {
    tar: R,
    recording: &'r Recording,
}

impl<R: BufRead> BufRead for RecordingTar<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.tar.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        // What was given is still there and costs nothing to get again; an error was met before.
        if let Ok(bytes) = self.tar.fill_buf() {
            self.recording.0.borrow_mut().take(bytes.get(..count).unwrap_or(bytes));
        }
        self.tar.consume(count);
    }
}

impl<R: BufRead> Read for RecordingTar<'_, R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(bytes)?;
        self.consume(count);
        Ok(count)
    }
}

/// A sink that is watched.
#[derive(Debug)]
pub struct RecordingSink<'r, S> {
    sink: &'r mut S,
    recording: &'r Recording,
}

impl<S: ContentSink> ContentSink for RecordingSink<'_, S> {
    type Error = S::Error;

    fn begin(&mut self, size: u64) -> Result<(), S::Error> {
        self.recording.0.borrow_mut().file = RecordedFile { size, ..RecordedFile::default() };
        self.sink.begin(size)
    }

    fn at(&mut self, offset: u64) {
        self.recording.0.borrow_mut().file.offset = Some(offset);
        self.sink.at(offset);
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), S::Error> {
        self.recording.0.borrow_mut().content(bytes.len());
        self.sink.data(bytes)
    }

    fn hole(&mut self, length: u64) -> Result<(), S::Error> {
        self.recording.0.borrow_mut().file.position += length;
        self.sink.hole(length)
    }

    fn end(&mut self) -> Result<ContentId, S::Error> {
        let content = self.sink.end()?;
        self.recording.0.borrow_mut().end(content);
        Ok(content)
    }
}
