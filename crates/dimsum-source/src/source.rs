//! Reading blobs.

use std::fmt::Debug;
use std::future::Future;
use std::io::Read;
use std::ops::Range;
use std::pin::Pin;

use bytes::Bytes;
use dimsum_format::Digest;
use dimsum_format::limits::MAX_MANIFEST_BYTES;
use futures_util::stream::{self, BoxStream, StreamExt as _};

use crate::reference::Repository;
use crate::{SourceError, SourceFault};

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

    /// Reads exactly `range` of a blob in pieces, as they arrive. Dropping the stream ends the request. Otherwise as
    /// [`Source::read_range`], of which this is one piece where nothing arrives piecewise.
    ///
    /// After the last byte of the range the stream ends; an error ends it too.
    fn stream_range(&self, blob: Digest, range: Range<u64>) -> BoxStream<'_, Result<Bytes, SourceError>> {
        stream::once(self.read_range(blob, range)).boxed()
    }

    /// Says whether bytes cost a network; by default they do not. Three things depend on it:
    ///
    /// - *retry*: the store asks again after a passing failure only if one of an image's sources is remote;
    /// - *fill*: a fill fetches from remote sources only;
    /// - *keeping*: frames of a remote source are kept in the store as they came. A conversion on the way in keeps the
    ///   layers that it has fetched until it is done. The store also remembers the name of the image.
    fn is_remote(&self) -> bool {
        false
    }

    /// Returns the repository of a registry that this is, if it is one: blobs can be mounted from there.
    ///
    /// Openings go by the repository of the *reference*. Only a registry has a deadline for its tags there. Only a wait
    /// for a registry ends when the opening is cancelled.
    fn repository(&self) -> Option<&Repository> {
        None
    }

    /// Opens a blob for streaming from its start, blocking.
    ///
    /// # Errors
    /// If it is not there.
    fn open(&self, blob: Digest) -> Result<Box<dyn Read + Send>, SourceError>;

    /// Opens a blob for streaming from byte `start`, blocking: what is left of an interrupted copy.
    ///
    /// # Errors
    /// If it is not there or ends before `start`.
    fn open_at(&self, blob: Digest, start: u64) -> Result<Box<dyn Read + Send>, SourceError> {
        let mut reader = self.open(blob)?;
        let io = |source| SourceError::io(format!("{} {blob}", self.name()), source);
        let skipped = std::io::copy(&mut (&mut reader).take(start), &mut std::io::sink()).map_err(io)?;
        if skipped < start {
            return Err(SourceFault::Range { digest: blob, range: start..start.saturating_add(1) }.at(self.name()));
        }
        Ok(reader)
    }

    /// Reads exactly `range` of a blob, blocking: for those who need a few pieces of it.
    ///
    /// # Errors
    /// As [`Source::read_range`].
    fn read_piece(&self, blob: Digest, range: Range<u64>) -> Result<Bytes, SourceError> {
        let mut bytes = Vec::new();
        let io = |source| SourceError::io(format!("{} {blob}", self.name()), source);
        let wanted = range.end.saturating_sub(range.start);
        self.open_at(blob, range.start)?.take(wanted).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 != wanted {
            return Err(SourceFault::Range { digest: blob, range }.at(self.name()));
        }
        Ok(bytes.into())
    }

    /// Reads a whole manifest or index by its digest and checks it, blocking. Registries keep these apart from blobs.
    ///
    /// # Errors
    /// As [`Source::read_small`].
    fn read_manifest(&self, digest: Digest) -> Result<Vec<u8>, SourceError> {
        self.read_small("manifest", digest, MAX_MANIFEST_BYTES)
    }

    /// Returns the length of a blob, blocking; `None` if it is not there.
    ///
    /// # Errors
    /// If the source cannot be asked.
    fn size(&self, blob: Digest) -> Result<Option<u64>, SourceError>;

    /// Reads a whole small blob (config) of at most `limit` bytes and checks its digest, blocking.
    ///
    /// # Errors
    /// If it is not there, too large, or does not have the digest.
    fn read_small(&self, object: &'static str, blob: Digest, limit: u64) -> Result<Vec<u8>, SourceError> {
        let mut bytes = Vec::new();
        let io = |source| SourceError::io(format!("{} {blob}", self.name()), source);
        // One byte more than allowed tells a blob at the limit from one above it.
        let reader = self.open(blob).map_err(|error| error.of_document(object))?;
        reader.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(io)?;
        let source_name = self.name().to_owned();
        if bytes.len() as u64 > limit {
            return Err(SourceFault::TooLarge { object, digest: blob, size: bytes.len() as u64, limit }.at(source_name));
        }
        let is = Digest::of(&bytes);
        if is != blob {
            return Err(SourceFault::Digest { object, is, must: blob }.at(source_name));
        }
        Ok(bytes)
    }
}
