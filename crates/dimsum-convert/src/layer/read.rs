//! Reads the bytes of a layer: gives its tree, and splits, deduplicates and spools its content.
//!
//! ```text
//!   thread "decode": blob → SHA-256 → gunzip → SHA-256 ─ buffers ─▸ this thread: tar → tree, sink ─ slices ─▸ pool
//! ```
//!
//! Every byte of the blob is read and hashed. So its digest and the diff_id are checked before anything of the
//! layer is used.

use std::io::{self, BufRead, Read};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use dimsum_format::Digest;
use dimsum_recipe::temporary::{BufferedTemporary, TemporaryFile, TemporaryFiles};
use dimsum_recipe::{Recorded, Recording};
use dimsum_tree::{Compression, LayerDecoder, LayerReadError, LayerTree, Policy, Tree};
use sha2::{Digest as _, Sha256};
use tracing::Span;

use crate::content::{self, Arrived, ContentCounts, ContentTable, Splitter, Workers};
use crate::error::ConvertError;
use crate::hashing::HashingReader;
use crate::known::Promised;
use crate::options::ConvertOptions;
use crate::original::unkept;
use crate::progress::ConversionProgress;
use crate::worker_pool::WorkerPool;

/// Bytes of a buffer between the threads, and how many there are: enough for both to go on while the other one
/// is held up.
const BUFFER: usize = 256 << 10;
const BUFFERS: usize = 4;

/// A layer that has been read.
pub(crate) struct ReadLayer {
    pub(crate) layer: LayerTree,
    pub(crate) taken: SpooledContent,
    /// Length of the uncompressed tar; 0 for a directory.
    pub(crate) tar_bytes: u64,
    /// The records for a recipe, if the original is kept.
    pub(crate) recorded: Option<Recorded>,
}

/// What the sink has of a layer's content.
pub(crate) struct SpooledContent {
    pub(crate) counts: ContentCounts,
    pub(crate) arrived: Arrived,
    /// New small files as they are.
    pub(crate) small: Arc<TemporaryFile>,
}

/// The state that reading a layer needs besides its source.
pub(crate) struct LayerReader<'a> {
    pub(crate) contents: &'a mut ContentTable,
    pub(crate) pool: &'a WorkerPool,
    /// Slices that are in packs already.
    pub(crate) promised: Promised,
    pub(crate) temporaries: &'a TemporaryFiles,
    pub(crate) options: &'a ConvertOptions,
    pub(crate) progress: &'a dyn ConversionProgress,
    pub(crate) origin: &'a str,
}

/// The expected digests of a layer.
pub(crate) struct Expected {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) diff_id: Digest,
}

/// Reads the blob of a layer.
pub(crate) fn read_image_layer(
    reader: LayerReader<'_>,
    blob: Box<dyn Read + Send>,
    expected: &Expected,
    lower: Option<&Tree>,
) -> Result<ReadLayer, ConvertError> {
    let policy = policy(reader.options);
    let (progress, origin) = (reader.progress, reader.origin);
    let keep = reader.options.keep_original;
    let recording = keep.then(|| Recording::new(reader.temporaries)).transpose().map_err(unkept)?;
    thread::scope(|scope| {
        let (full, inbox) = bounded(BUFFERS);
        let (free, empty) = bounded(BUFFERS);
        let span = Span::current();
        let decode = scope.spawn(move || span.in_scope(|| decode(blob, expected.size, progress, &full, &empty)));
        let tar = TarBuffers { inbox, free, current: Vec::new(), filled: 0, position: 0 };
        // Ending this call drops the receiver, which ends the thread if it has not come to the end.
        let read = reader.run(false, |sink| match &recording {
            None => dimsum_tree::read_buffered_layer(tar, lower, sink, policy),
            Some(recording) => {
                let (tar, mut sink) = (recording.tee(tar), recording.sink(sink));
                dimsum_tree::read_buffered_layer(tar, lower, &mut sink, policy)
            }
        });
        let decoded = decode.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        if progress.cancelled() {
            return Err(ConvertError::Cancelled);
        }
        // A wrong digest explains every other fault of the layer.
        if let Some((is, is_size)) = decoded.blob
            && (is, is_size) != (expected.digest, expected.size)
        {
            return Err(ConvertError::LayerDigest { must: expected.digest, is, must_size: expected.size, is_size });
        }
        let (layer, taken) = read?;
        let tar = decoded.tar.ok_or_else(|| ConvertError::Tree {
            origin: origin.to_owned(),
            source: dimsum_tree::TreeError::Read { offset: 0, source: io::ErrorKind::UnexpectedEof.into() },
        })?;
        if tar.0 != expected.diff_id {
            return Err(ConvertError::DiffId { layer: expected.digest, must: expected.diff_id, is: tar.0 });
        }
        let recorded = recording.map(Recording::finish).transpose().map_err(unkept)?;
        Ok(ReadLayer { layer, taken, tar_bytes: tar.1, recorded })
    })
}

/// Reads a directory.
pub(crate) fn read_directory(reader: LayerReader<'_>, path: &Path) -> Result<ReadLayer, ConvertError> {
    let policy = policy(reader.options);
    let (layer, taken) = reader.run(true, |sink| dimsum_tree::read_directory(path, sink, policy))?;
    Ok(ReadLayer { layer, taken, tar_bytes: 0, recorded: None })
}

fn policy(options: &ConvertOptions) -> Policy {
    Policy { overlay_entries: options.overlay_entries }
}

impl LayerReader<'_> {
    /// Runs `read` with a sink for content, and waits for the threads behind it.
    fn run(
        self,
        count_input: bool,
        read: impl FnOnce(&mut Splitter<'_>) -> Result<LayerTree, LayerReadError<Box<ConvertError>>>,
    ) -> Result<(LayerTree, SpooledContent), ConvertError> {
        let Self { contents, pool, promised, temporaries, options, progress, origin } = self;
        let shared_before = content::read(&contents.slices).shared_bytes();
        let mut spool = BufferedTemporary::new(temporaries.create()?);
        let mut sink = Splitter::new(
            &mut contents.small,
            &mut contents.large,
            &mut spool,
            Workers::new(pool, Arc::clone(&contents.slices), promised),
            progress,
            options.small_limit(),
            options.slice_size,
            count_input,
        );
        let layer = read(&mut sink).map_err(|error| named(error, origin));
        let (mut counts, arrived) = match (layer.is_ok(), sink.finish()) {
            (_, Ok(finished)) => finished,
            // What a thread fails with comes first, unless it was told to the reader.
            (true, Err(error)) => return Err(error),
            (false, Err(ConvertError::Cancelled)) => return Err(layer.err().unwrap_or(ConvertError::Cancelled)),
            (false, Err(error)) => return Err(error),
        };
        let layer = layer?;
        counts.shared += content::read(&contents.slices).shared_bytes() - shared_before;
        Ok((layer, SpooledContent { counts, arrived, small: spool.share()? }))
    }
}

fn named(error: LayerReadError<Box<ConvertError>>, origin: &str) -> ConvertError {
    match error {
        LayerReadError::Tree(source) => ConvertError::Tree { origin: origin.to_owned(), source },
        LayerReadError::Sink { source, .. } if matches!(*source, ConvertError::Cancelled) => ConvertError::Cancelled,
        LayerReadError::Sink { path, source } => ConvertError::Content { origin: origin.to_owned(), path, source },
    }
}

/// The result of the decoding thread.
#[derive(Default)]
struct Decoded {
    /// Digest and length of the blob, if it was read to its end.
    blob: Option<(Digest, u64)>,
    /// Digest and length of the tar, if it was decoded to its end.
    tar: Option<(Digest, u64)>,
}

/// A buffer with so many bytes of the tar.
type FilledBuffer = (Vec<u8>, usize);

/// Reads, hashes and decodes a blob, and hands the tar on.
fn decode(
    blob: Box<dyn Read + Send>,
    size: u64,
    progress: &dyn ConversionProgress,
    full: &Sender<io::Result<FilledBuffer>>,
    empty: &Receiver<Vec<u8>>,
) -> Decoded {
    let mut decoded = Decoded::default();
    // One byte more tells a blob that is too long; an endless one is not read to its end.
    let mut input = HashingReader::new(blob.take(size.saturating_add(1)), progress);
    let mut tar = None;
    match pump(&mut input, full, empty) {
        Ok(end) => tar = end,
        Err(error) => {
            let _nobody_may_wait = full.send(Err(error));
        }
    }
    // If no more bytes are wanted, the tree was refused. The digest is still of interest, unless everything was
    // cancelled. If the source was lost in the middle, the digest is unknown.
    if !progress.cancelled() && !input.failed() && io::copy(&mut input, &mut io::sink()).is_ok() {
        decoded.blob = Some(input.finish());
    }
    decoded.tar = match tar {
        Some(Tar::Decoded(digest, length)) => Some((digest, length)),
        Some(Tar::Blob) => decoded.blob,
        None => None,
    };
    decoded
}

/// The whole of a tar.
enum Tar {
    /// With its digest and length.
    Decoded(Digest, u64),
    /// It is the blob itself, which need not be hashed twice.
    Blob,
}

/// Decodes until the end; returns what the tar was, none if the receiver has gone.
fn pump(
    input: impl Read,
    full: &Sender<io::Result<FilledBuffer>>,
    empty: &Receiver<Vec<u8>>,
) -> io::Result<Option<Tar>> {
    let mut decoder = LayerDecoder::new(input, None)?;
    let plain = decoder.compression() == Compression::Plain;
    let (mut hasher, mut count) = (Sha256::new(), 0);
    loop {
        let mut buffer = empty.try_recv().unwrap_or_else(|_| vec![0; BUFFER]);
        let filled = fill(&mut decoder, &mut buffer)?;
        let bytes = buffer.get(..filled).unwrap_or_default();
        if bytes.is_empty() {
            let decoded = || Tar::Decoded(Digest::new(hasher.finalize().into()), count);
            return Ok(Some(if plain { Tar::Blob } else { decoded() }));
        }
        if !plain {
            hasher.update(bytes);
        }
        count += filled as u64;
        if full.send(Ok((buffer, filled))).is_err() {
            return Ok(None);
        }
    }
}

/// Fills a buffer as far as there is something; returns how far.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..)
        && !rest.is_empty()
    {
        match input.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The other end: the tar as a stream, read from the buffers themselves.
struct TarBuffers {
    inbox: Receiver<io::Result<FilledBuffer>>,
    free: Sender<Vec<u8>>,
    current: Vec<u8>,
    filled: usize,
    position: usize,
}

impl BufRead for TarBuffers {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.position == self.filled {
            let Ok(next) = self.inbox.recv() else { return Ok(&[]) };
            let (buffer, filled) = next?;
            let used = std::mem::replace(&mut self.current, buffer);
            (self.filled, self.position) = (filled, 0);
            if !used.is_empty() {
                // If the other side has enough the buffer is not needed.
                let _surplus = self.free.try_send(used);
            }
        }
        Ok(self.current.get(self.position..self.filled).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.position = (self.position + count).min(self.filled);
    }
}

impl Read for TarBuffers {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}
