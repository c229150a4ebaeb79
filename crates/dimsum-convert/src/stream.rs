//! A meta or layer meta as a stream: hashed, cut into frames of 128 KiB, compressed on all processors.

use std::io::{self, Write};
use std::num::NonZeroUsize;

use dimsum_format::codec::Compressor;
use dimsum_format::group::{self, ChainingValue, GROUP};
use dimsum_format::map::FrameMap;
use dimsum_format::pack::META_FRAME;
use dimsum_format::{Blake3, Digest, FormatError};
use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::ordered::{Ordered, with_workers};

/// What is known when all has been written.
#[derive(Debug)]
pub(crate) struct Streamed {
    /// Lengths of the frames.
    pub(crate) frames: FrameMap,
    /// Of each group of the uncompressed bytes.
    pub(crate) values: Vec<ChainingValue>,
    /// BLAKE3 of the uncompressed bytes.
    pub(crate) digest: Blake3,
    /// SHA-256 of the uncompressed bytes.
    pub(crate) diff_id: Digest,
}

/// 128 KiB, or what is left at the end.
struct Task {
    bytes: Vec<u8>,
    first_group: u64,
    length: u64,
}

struct Frame {
    bytes: Result<Vec<u8>, FormatError>,
    values: Vec<ChainingValue>,
}

/// Takes the uncompressed bytes.
pub(crate) struct MetaStream<'a> {
    ordered: &'a mut Ordered<Task, Frame>,
    out: &'a mut dyn FnMut(&[u8]) -> Result<(), Error>,
    origin: &'a str,
    buffer: Vec<u8>,
    /// Bytes there will be.
    length: u64,
    submitted: u64,
    hasher: Sha256,
    frames: FrameMap,
    values: Vec<ChainingValue>,
    /// What failed, while the writer above only sees that something did.
    error: Option<Error>,
}

/// Streams `length` bytes that `body` writes; the frames go to `out` in order.
pub(crate) fn stream(
    jobs: NonZeroUsize,
    level: i32,
    origin: &str,
    length: u64,
    out: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    body: impl FnOnce(&mut MetaStream<'_>) -> io::Result<()>,
) -> Result<Streamed, Error> {
    with_workers(
        jobs,
        || Compressor::new(level).ok(),
        compress,
        |ordered| {
            let mut stream = MetaStream {
                ordered,
                out,
                origin,
                buffer: Vec::with_capacity(META_FRAME),
                length,
                submitted: 0,
                hasher: Sha256::new(),
                frames: FrameMap::default(),
                values: Vec::new(),
                error: None,
            };
            let written = body(&mut stream);
            stream.finish(written)
        },
    )
}

fn compress(compressor: &mut Option<Compressor>, task: Task) -> Frame {
    let Task { bytes, first_group, length } = task;
    let groups = bytes.chunks(GROUP).zip(first_group..);
    let values = groups.map(|(bytes, number)| group::chaining_value(bytes, number, length)).collect();
    let mut frame = Vec::new();
    let done = match compressor {
        Some(compressor) => compressor.compress(&bytes, &mut frame),
        None => Err(FormatError::Frame { reason: "zstd could not be started" }),
    };
    Frame { bytes: done.map(|_| frame), values }
}

impl MetaStream<'_> {
    fn submit(&mut self) -> Result<(), Error> {
        let bytes = std::mem::replace(&mut self.buffer, Vec::with_capacity(META_FRAME));
        self.hasher.update(&bytes);
        let (first_group, length) = (self.submitted / GROUP as u64, self.length);
        self.submitted += bytes.len() as u64;
        match self.ordered.submit(Task { bytes, first_group, length }) {
            Some(frame) => self.put(frame),
            None => Ok(()),
        }
    }

    fn put(&mut self, frame: Frame) -> Result<(), Error> {
        let failed = |source| Error::format(self.origin, source);
        let bytes = frame.bytes.map_err(failed)?;
        self.frames.push(u32::try_from(bytes.len()).unwrap_or(u32::MAX)).map_err(failed)?;
        self.values.extend_from_slice(&frame.values);
        (self.out)(&bytes)
    }

    fn finish(mut self, written: io::Result<()>) -> Result<Streamed, Error> {
        if let Err(source) = written {
            let by_the_writer = || Error::Meta { origin: self.origin.to_owned(), source };
            return Err(self.error.take().unwrap_or_else(by_the_writer));
        }
        if !self.buffer.is_empty() {
            self.submit()?;
        }
        while let Some(frame) = self.ordered.take() {
            self.put(frame)?;
        }
        let mismatch = FormatError::Mismatch { part: "length of the meta", said: self.length, is: self.submitted };
        let digest = group::combine(&self.values, self.length).filter(|_| self.submitted == self.length);
        let digest = digest.ok_or_else(|| Error::format(self.origin, mismatch))?;
        let diff_id = Digest::new(self.hasher.finalize().into());
        Ok(Streamed { frames: self.frames, values: self.values, digest, diff_id })
    }
}

impl Write for MetaStream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (now, _) = bytes.split_at(bytes.len().min(META_FRAME - self.buffer.len()));
        self.buffer.extend_from_slice(now);
        if self.buffer.len() == META_FRAME
            && let Err(error) = self.submit()
        {
            self.error = Some(error);
            return Err(io::Error::other("stopped"));
        }
        Ok(now.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
