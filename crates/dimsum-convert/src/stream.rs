//! A meta or layer meta as a stream: hashed, cut into frames of 128 KiB, compressed on all processors.

use std::io;
use std::num::NonZeroUsize;

use dimsum_format::codec::Compressor;
use dimsum_format::group::{self, ChainingValue, GROUP};
use dimsum_format::map::FrameMap;
use dimsum_format::pack::META_FRAME;
use dimsum_format::{Blake3, Digest, FormatError};

use crate::chunked::{BlockSink, Chunked, Ended};
use crate::error::ConvertError;
use crate::ordered_tasks::{OrderedTasks, with_workers};

/// The result when all bytes have been written.
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

/// 128 KiB, or the rest at the end.
pub(crate) struct MetaBlock {
    bytes: Vec<u8>,
    first_group: u64,
    length: u64,
}

pub(crate) struct MetaBlockFrame {
    bytes: Result<Vec<u8>, FormatError>,
    values: Vec<ChainingValue>,
}

/// Takes the uncompressed bytes.
pub(crate) type MetaStream<'a> = Chunked<MetaFrames<'a>>;

/// Has blocks compressed and passes their frames on, in order.
pub(crate) struct MetaFrames<'a> {
    ordered: &'a mut OrderedTasks<MetaBlock, MetaBlockFrame>,
    out: &'a mut dyn FnMut(&[u8]) -> Result<(), ConvertError>,
    origin: &'a str,
    /// Bytes there will be.
    length: u64,
    /// Groups handed over so far.
    groups: u64,
    frames: FrameMap,
    values: Vec<ChainingValue>,
}

/// Streams `length` bytes that `body` writes; the frames go to `out` in order.
pub(crate) fn stream(
    jobs: NonZeroUsize,
    level: i32,
    origin: &str,
    length: u64,
    out: &mut dyn FnMut(&[u8]) -> Result<(), ConvertError>,
    body: impl FnOnce(&mut MetaStream<'_>) -> io::Result<()>,
) -> Result<Streamed, ConvertError> {
    with_workers(
        jobs,
        || Compressor::new(level).ok(),
        compress,
        |ordered| {
            let (frames, values) = (FrameMap::default(), Vec::new());
            let sink = MetaFrames { ordered, out, origin, length, groups: 0, frames, values };
            let mut stream = Chunked::new(META_FRAME, sink);
            let written = body(&mut stream);
            finish(stream, origin, length, written)
        },
    )
}

fn compress(compressor: &mut Option<Compressor>, task: MetaBlock) -> MetaBlockFrame {
    let MetaBlock { bytes, first_group, length } = task;
    let groups = bytes.chunks(GROUP).zip(first_group..);
    let values = groups.map(|(bytes, number)| group::chaining_value(bytes, number, length)).collect();
    let mut frame = Vec::new();
    let done = match compressor {
        Some(compressor) => compressor.compress(&bytes, &mut frame),
        None => Err(FormatError::Frame { reason: "zstd could not be started" }),
    };
    MetaBlockFrame { bytes: done.map(|_| frame), values }
}

impl BlockSink for MetaFrames<'_> {
    fn block(&mut self, bytes: Vec<u8>) -> Result<(), ConvertError> {
        let task = MetaBlock { bytes, first_group: self.groups, length: self.length };
        self.groups += (META_FRAME / GROUP) as u64;
        match self.ordered.submit(task) {
            Some(frame) => self.put(frame),
            None => Ok(()),
        }
    }
}

impl MetaFrames<'_> {
    fn put(&mut self, frame: MetaBlockFrame) -> Result<(), ConvertError> {
        let failed = |source| ConvertError::format(self.origin, source);
        let bytes = frame.bytes.map_err(failed)?;
        self.frames.push(u32::try_from(bytes.len()).unwrap_or(u32::MAX)).map_err(failed)?;
        self.values.extend_from_slice(&frame.values);
        (self.out)(&bytes)
    }
}

/// Ends the stream once `written` tells that all is in it.
fn finish(
    mut stream: MetaStream<'_>,
    origin: &str,
    length: u64,
    written: io::Result<()>,
) -> Result<Streamed, ConvertError> {
    if let Err(source) = written {
        let by_the_writer = || ConvertError::Meta { origin: origin.to_owned(), source };
        return Err(stream.take_error().unwrap_or_else(by_the_writer));
    }
    let Ended { sink: mut frames, digest: diff_id, length: is } = stream.finish()?;
    while let Some(frame) = frames.ordered.take() {
        frames.put(frame)?;
    }
    let mismatch = FormatError::Mismatch { part: "length of the meta", said: length, is };
    let digest = group::combine(&frames.values, length).filter(|_| is == length);
    let digest = digest.ok_or_else(|| ConvertError::format(origin, mismatch))?;
    Ok(Streamed { frames: frames.frames, values: frames.values, digest, diff_id })
}
