//! Writing blobs and manifests.

use std::fmt::Debug;
use std::io::Write;

use dimsum_format::Digest;

use crate::SourceError;

/// Where a converted image goes.
pub trait Target: Debug + Send + Sync {
    /// Returns the name for messages, as the user wrote it.
    fn name(&self) -> &str;

    /// Says whether a blob is there already, with its full length.
    ///
    /// # Errors
    /// If the target cannot be asked.
    fn has(&self, blob: Digest, size: u64) -> Result<bool, SourceError>;

    /// Starts a blob whose digest is not known yet. Nothing is visible before [`BlobWriter::commit`].
    ///
    /// # Errors
    /// If the target cannot take it.
    fn start_blob(&self) -> Result<Box<dyn BlobWriter + '_>, SourceError>;

    /// Stores a manifest under its digest and, if given, under the reference that the target was opened with.
    /// Called last: all blobs it names are there.
    ///
    /// # Errors
    /// If it cannot be stored.
    fn put_manifest(&self, media_type: &str, manifest: &[u8]) -> Result<Digest, SourceError>;
}

/// A blob on its way into a target.
pub trait BlobWriter: Write + Send {
    /// Makes the blob durable and visible under `digest`, which the caller computed while writing.
    ///
    /// # Errors
    /// If it cannot be made durable.
    fn commit(self: Box<Self>, digest: Digest, size: u64) -> Result<(), SourceError>;
}
