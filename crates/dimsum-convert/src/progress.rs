//! Reports of a running conversion, and the way to stop it.

use dimsum_format::Digest;

/// The current step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConversionPhase {
    /// An image of several begins.
    Image {
        /// Its number, from 0.
        index: usize,
        /// How many there are.
        count: usize,
        /// Its manifest.
        digest: Digest,
    },
    /// The original is copied.
    Original {
        /// Bytes of its blobs. [`ConversionProgress::bytes_in`] gets as many, less what the target has already.
        size: u64,
    },
    /// A layer is read, split and compressed.
    Layer {
        /// Its number, from 0.
        index: usize,
        /// How many there are.
        count: usize,
        /// Its blob; none if the source is a directory.
        digest: Option<Digest>,
        /// Bytes of the blob, as many as [`ConversionProgress::bytes_in`] will get; none if not known before.
        size: Option<u64>,
    },
    /// The layer's pack is written.
    Pack {
        /// The layer's number, from 0.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// The meta is written.
    Meta,
    /// Everything is made durable and visible.
    Publish,
}

/// Is told how a conversion gets on; calls come from several threads and should return at once.
pub trait ConversionProgress: Send + Sync {
    /// A phase begins.
    fn phase(&self, phase: ConversionPhase) {
        let _ = phase;
    }

    /// So many more bytes of the source have been read (of the blob, where it is compressed; of files, for a
    /// directory).
    fn bytes_in(&self, count: u64) {
        let _ = count;
    }

    /// So many more bytes have been written to the target.
    fn bytes_out(&self, count: u64) {
        let _ = count;
    }

    /// Is asked often; once it says yes the conversion ends with [`Error::Cancelled`](crate::ConvertError::Cancelled)
    /// and leaves nothing behind.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Shows no progress.
impl ConversionProgress for () {}
