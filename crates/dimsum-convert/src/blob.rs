//! A blob on its way into the target. It is hashed and counted while it is written, and visible only at its
//! end.

use std::ops::ControlFlow;

use dimsum_format::Digest;
use dimsum_format::manifest::Blob;
use dimsum_source::{BlobWriter, ErrorKind, SourceError, Target};
use sha2::{Digest as _, Sha256};

use crate::error::ConvertError;
use crate::progress::ConversionProgress;

/// A blob that is being written.
pub(crate) struct BlobOut<'t> {
    writer: Box<dyn BlobWriter + 't>,
    target: &'t dyn Target,
    progress: &'t dyn ConversionProgress,
    hasher: Sha256,
    size: u64,
}

/// A blob that is whole but not visible yet. Dropped, it is as if it had never been.
pub(crate) struct WholeBlob<'t> {
    writer: Box<dyn BlobWriter + 't>,
    progress: &'t dyn ConversionProgress,
    pub(crate) blob: Blob,
}

impl<'t> BlobOut<'t> {
    pub(crate) fn new(target: &'t dyn Target, progress: &'t dyn ConversionProgress) -> Result<Self, ConvertError> {
        Ok(Self { writer: target.start_blob()?, target, progress, hasher: Sha256::new(), size: 0 })
    }

    /// Writes the next bytes.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<(), ConvertError> {
        if self.progress.cancelled() {
            return Err(ConvertError::Cancelled);
        }
        let failed = |source| ConvertError::Write { target_name: self.target.name().to_owned(), source };
        self.writer.write_all(bytes).map_err(failed)?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.progress.bytes_out(bytes.len() as u64);
        Ok(())
    }

    /// Returns the bytes written so far.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn finish(self) -> WholeBlob<'t> {
        let digest = Digest::new(self.hasher.finalize().into());
        WholeBlob { writer: self.writer, progress: self.progress, blob: Blob { digest, size: self.size } }
    }
}

impl WholeBlob<'_> {
    /// Makes the blob durable and visible.
    pub(crate) fn commit(self) -> Result<(), ConvertError> {
        let Self { writer, progress, blob } = self;
        writer.commit(blob.digest, blob.size, &|_| go_on(progress)).map_err(|error| unless_cancelled(error, progress))
    }
}

/// Says to a target whether to go on.
pub(crate) fn go_on(progress: &dyn ConversionProgress) -> ControlFlow<()> {
    if progress.cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// The error of a target for bytes that did not move; the cause may be a cancel.
pub(crate) fn unless_cancelled(error: SourceError, progress: &dyn ConversionProgress) -> ConvertError {
    match error {
        error if error.kind() == ErrorKind::Cancelled && progress.cancelled() => ConvertError::Cancelled,
        error => error.into(),
    }
}

/// Asks once more whether to go on, before the manifest makes all visible. Sending blobs to a registry takes long, and
/// nobody sees them there without a manifest. A directory takes a moment, and a whole image is better than blobs alone.
pub(crate) fn last_chance(target: &dyn Target, progress: &dyn ConversionProgress) -> Result<(), ConvertError> {
    let sent = target.place().is_some_and(|place| place.is_remote());
    if sent && progress.cancelled() { Err(ConvertError::Cancelled) } else { Ok(()) }
}
