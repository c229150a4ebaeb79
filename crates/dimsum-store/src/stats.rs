//! Counters of an image, and the events that a security log wants.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use dimsum_format::Digest;

use crate::error::{ReadObject, SourceFailure};

/// Counters of one image since it was opened. A copy; each is exact, together they are not one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Compressed bytes that sources gave to open the image and to readers; what is on this disk is not counted.
    pub bytes_fetched: u64,
    /// Of these, bytes between wanted frames that were fetched to save a round trip. They are kept in the store.
    pub bytes_bridged: u64,
    /// Compressed bytes that sources gave to fills.
    pub bytes_filled: u64,
    /// Compressed bytes that were not fetched, for readers or for fills, because another device of this node had the chunks: the
    /// length of their frames in this image's packs.
    pub bytes_shared: u64,
    /// Compressed bytes from the store's own packs.
    pub local_bytes: u64,
    /// Requests that were sent to sources to open the image and for readers.
    pub requests: u64,
    /// Requests that were sent to sources by fills.
    pub fill_requests: u64,
    /// Frames that the store's own packs gave.
    pub local_requests: u64,
    /// Chunks that were taken from other devices of this node.
    pub chunks_shared: u64,
    /// Chunks and meta frames that were fetched, or taken from another device, and whose digest was right.
    pub chunks_verified: u64,
    /// 16 KiB groups that were read from disk and whose hash was right.
    pub groups_verified: u64,
    /// Damaged chunks and meta frames on disk that were written again with right bytes.
    pub repairs: u64,
    /// Damaged chunks, chaining values and meta frames that were found on disk.
    pub damage: u64,
    /// Answers of sources that were wrong, cut off or late.
    pub source_failures: u64,
    /// Reads that failed.
    pub read_errors: u64,
    /// Writes to the store that failed (disk full); the reader got its bytes all the same.
    pub write_errors: u64,
}

/// The counters themselves.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) bytes_fetched: AtomicU64,
    pub(crate) bytes_bridged: AtomicU64,
    pub(crate) bytes_filled: AtomicU64,
    pub(crate) bytes_shared: AtomicU64,
    pub(crate) local_bytes: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) fill_requests: AtomicU64,
    pub(crate) local_requests: AtomicU64,
    pub(crate) chunks_shared: AtomicU64,
    pub(crate) chunks_verified: AtomicU64,
    pub(crate) groups_verified: AtomicU64,
    pub(crate) repairs: AtomicU64,
    pub(crate) damage: AtomicU64,
    pub(crate) source_failures: AtomicU64,
    pub(crate) read_errors: AtomicU64,
    pub(crate) write_errors: AtomicU64,
}

impl Counters {
    pub(crate) fn snapshot(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            bytes_fetched: get(&self.bytes_fetched),
            bytes_bridged: get(&self.bytes_bridged),
            bytes_filled: get(&self.bytes_filled),
            bytes_shared: get(&self.bytes_shared),
            local_bytes: get(&self.local_bytes),
            requests: get(&self.requests),
            fill_requests: get(&self.fill_requests),
            local_requests: get(&self.local_requests),
            chunks_shared: get(&self.chunks_shared),
            chunks_verified: get(&self.chunks_verified),
            groups_verified: get(&self.groups_verified),
            repairs: get(&self.repairs),
            damage: get(&self.damage),
            source_failures: get(&self.source_failures),
            read_errors: get(&self.read_errors),
            write_errors: get(&self.write_errors),
        }
    }
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// Something that an operator should hear of.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// Bytes on disk do not match.
    Damaged {
        /// The image that was read.
        image: Digest,
        /// What is damaged.
        object: ReadObject,
    },
    /// They were fetched again and written.
    Repaired {
        /// The image that was read.
        image: Digest,
        /// What was repaired.
        object: ReadObject,
    },
    /// A source gave wrong bytes, none, or none in time.
    SourceFailed {
        /// The image that was read.
        image: Digest,
        /// What was asked for.
        object: ReadObject,
        /// What the source did.
        failure: SourceFailure,
    },
    /// A file of the store could not be written; nothing is cached.
    WriteFailed {
        /// The file.
        path: PathBuf,
        /// The operating system's word.
        kind: std::io::ErrorKind,
    },
    /// A conversion record does not verify; it counts as absent.
    RecordRefused {
        /// The file.
        path: PathBuf,
    },
}

/// Takes events. Called on the store's threads: it must not block and must not read from the store.
pub trait EventSink: std::fmt::Debug + Send + Sync {
    /// Takes one event.
    fn event(&self, event: &Event);
}
