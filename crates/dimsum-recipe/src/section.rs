//! The compressed parts of a recipe: written to a temporary file and read from one, with bounded memory.

use std::io::{self, BufReader, Read, Write};

use crate::error::RecipeError;
use crate::temporary::{TemporaryError, TemporaryFile, TemporaryFiles, TemporaryRange};

/// zstd level: bytes that are not content are few, and many of them repeat.
const LEVEL: i32 = 9;
/// log2 of the zstd window: 8 MiB, the memory that reading takes.
const WINDOW_LOG: u32 = 23;
/// Bytes written or read at a time.
const BUFFER: usize = 64 << 10;

/// A part that is being written.
pub(crate) struct SectionOut {
    encoder: zstd::stream::write::Encoder<'static, Appending>,
    length: u64,
}

/// A part of a recipe that is whole: compressed, in a temporary file.
#[derive(Debug)]
pub struct Section {
    pub(crate) file: TemporaryFile,
    /// Bytes before compression.
    pub(crate) length: u64,
}

/// A temporary file as a stream.
struct Appending {
    file: TemporaryFile,
    buffer: Vec<u8>,
}

impl SectionOut {
    pub(crate) fn new(temporaries: &TemporaryFiles) -> Result<Self, RecipeError> {
        Self::with_level(temporaries, LEVEL)
    }

    /// Starts a part that is only kept for a while.
    pub(crate) fn fast(temporaries: &TemporaryFiles) -> Result<Self, RecipeError> {
        Self::with_level(temporaries, 1)
    }

    fn with_level(temporaries: &TemporaryFiles, level: i32) -> Result<Self, RecipeError> {
        let file = Appending { file: temporaries.create()?, buffer: Vec::with_capacity(BUFFER) };
        let encoder = zstd::stream::write::Encoder::new(file, level).and_then(|mut encoder| {
            encoder.window_log(WINDOW_LOG)?;
            Ok(encoder)
        });
        let encoder = encoder.map_err(failed)?;
        Ok(Self { encoder, length: 0 })
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<(), RecipeError> {
        self.length += bytes.len() as u64;
        self.encoder.write_all(bytes).map_err(failed)
    }

    pub(crate) fn finish(self) -> Result<Section, RecipeError> {
        let mut file = self.encoder.finish().map_err(failed)?;
        file.flush().map_err(failed)?;
        Ok(Section { file: file.file, length: self.length })
    }
}

/// The error of a temporary file, on its way through zstd.
fn failed(error: io::Error) -> RecipeError {
    match error.downcast::<TemporaryError>() {
        Ok(error) => error.into(),
        Err(source) => RecipeError::Write { source },
    }
}

impl Write for Appending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        if bytes.len() >= BUFFER {
            self.file.append(bytes).map_err(io::Error::other)?;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.file.append(&self.buffer).map_err(io::Error::other)?;
            self.buffer.clear();
        }
        Ok(())
    }
}

/// A part that is read from its start to its end.
pub(crate) struct SectionIn<'t> {
    part: &'static str,
    decoder: io::Take<zstd::stream::read::Decoder<'static, BufReader<TemporaryRange<'t>>>>,
}

impl<'t> SectionIn<'t> {
    /// Opens the `compressed` bytes from `at` on, which are `length` bytes uncompressed: never more are given.
    pub(crate) fn open(
        file: &'t TemporaryFile,
        at: u64,
        compressed: u64,
        length: u64,
        part: &'static str,
    ) -> Result<Self, RecipeError> {
        let input = BufReader::with_capacity(BUFFER, TemporaryRange::new(file, at, compressed));
        let decoder = zstd::stream::read::Decoder::with_buffer(input).and_then(|mut decoder| {
            decoder.window_log_max(WINDOW_LOG)?;
            Ok(decoder)
        });
        let decoder = decoder.map_err(|source| RecipeError::Read { part, source })?;
        // One byte more tells a part that is longer than it says.
        Ok(Self { part, decoder: decoder.take(length.saturating_add(1)) })
    }

    pub(crate) fn of(section: &'t Section, part: &'static str) -> Result<Self, RecipeError> {
        Self::open(&section.file, 0, section.file.len(), section.length, part)
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RecipeError> {
        let part = self.part;
        self.decoder.read_exact(bytes).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => RecipeError::Short { part },
            _ => RecipeError::Read { part, source },
        })
    }

    /// Makes sure that nothing is left.
    pub(crate) fn end(mut self) -> Result<(), RecipeError> {
        let mut byte = [0];
        match self.decoder.read(&mut byte) {
            Ok(0) => Ok(()),
            Ok(_) => Err(RecipeError::Mismatch { part: self.part, said: 0, is: 1 }),
            Err(source) => Err(RecipeError::Read { part: self.part, source }),
        }
    }
}

impl Read for SectionIn<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.decoder.read(bytes)
    }
}
