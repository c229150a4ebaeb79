//! Reading blobs.

use std::fmt::Debug;
use std::future::Future;
use std::io::Read;
use std::ops::Range;
use std::pin::Pin;

use bytes::Bytes;
use dimsum_format::Digest;

use crate::SourceError;

/// A future on the heap, so that sources of different kinds stand in one list.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where bytes of blobs can come from.
///
/// Bytes are **not** verified here: a whole blob is checked by its digest, a chunk by its own, by the one who asked.
pub trait Source: Debug + Send + Sync + 'static {
    /// Returns the name for messages, as the user wrote it (`oci:/images:app`).
    fn name(&self) -> &str;

    /// Reads exactly `range` of a blob. Runs inside a Tokio runtime and never blocks a thread of it.
    ///
    /// # Errors
    /// If the blob or the range is not there, or reading fails. A source that hangs is the caller's to abandon.
    fn read_range(&self, blob: Digest, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, SourceError>>;

    /// Opens a blob for streaming from its start, blocking.
    ///
    /// # Errors
    /// If it is not there.
    fn open(&self, blob: Digest) -> Result<Box<dyn Read + Send>, SourceError>;

    /// Returns the length of a blob, blocking; `None` if it is not there.
    ///
    /// # Errors
    /// If the source cannot be asked.
    fn size(&self, blob: Digest) -> Result<Option<u64>, SourceError>;

    /// Reads a whole small blob (manifest, config) of at most `limit` bytes and checks its digest, blocking.
    ///
    /// # Errors
    /// If it is not there, too large, or does not have the digest.
    fn read_small(&self, object: &'static str, blob: Digest, limit: u64) -> Result<Vec<u8>, SourceError> {
        let mut bytes = Vec::new();
        let io = |source| SourceError::Io { path: format!("{} {blob}", self.name()), source };
        // One byte more than allowed tells a blob at the limit from one above it.
        self.open(blob)?.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(io)?;
        let source_name = self.name().to_owned();
        if bytes.len() as u64 > limit {
            return Err(SourceError::TooLarge { source_name, object, digest: blob, size: bytes.len() as u64, limit });
        }
        let is = Digest::of(&bytes);
        if is != blob {
            return Err(SourceError::Digest { source_name, object, is, must: blob });
        }
        Ok(bytes)
    }
}
