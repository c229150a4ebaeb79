//! Writing blobs and manifests.

use std::fmt::Debug;
use std::io::{Read as _, Write};
use std::ops::ControlFlow;

use dimsum_format::manifest::{Blob, Manifest};
use dimsum_format::{Digest, FormatError};
use sha2::{Digest as _, Sha256};

use crate::place::{Document, Place};
use crate::reference::Repository;
use crate::source::Source;
use crate::{SourceError, SourceFault};

/// Bytes that are copied at once.
const COPY_BUFFER: usize = 256 << 10;

/// What a manifest is in what is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The whole: what the target's reference stands for afterwards.
    Root,
    /// A manifest in an index that follows.
    Part,
}

/// What a root can be, as far as targets differ in what they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// An ordinary image, or an artifact in the form of one.
    Image,
    /// A Dimsum image.
    Dimsum,
    /// An index.
    Index,
}

impl Shape {
    /// Returns the shape of a manifest or index.
    #[must_use]
    pub fn of(document: &Document) -> Self {
        if document.is_index() {
            Self::Index
        } else if Manifest::parse(&document.bytes).is_ok_and(|manifest| manifest.is_dimsum()) {
            Self::Dimsum
        } else {
            Self::Image
        }
    }
}

/// Where a converted image goes.
pub trait Target: Debug + Send + Sync {
    /// Returns the name for messages, as the user wrote it.
    fn name(&self) -> &str;

    /// Says why such a thing cannot be the root here, if it cannot: asked before anything moves.
    fn refuses(&self, shape: Shape) -> Option<&'static str> {
        let _ = shape;
        None
    }

    /// Asks whether anything can be written here, as far as that costs nothing: before hours of work, not after them.
    ///
    /// # Errors
    /// What writing would fail with.
    fn check_writable(&self) -> Result<(), SourceError> {
        Ok(())
    }

    /// Says whether a blob is there already. A registry answers for its length; a layout has nobody to answer for it, so its
    /// bytes are hashed.
    ///
    /// # Errors
    /// If the target cannot be asked.
    fn has(&self, blob: Digest, size: u64) -> Result<bool, SourceError>;

    /// Starts a blob whose digest is not known yet. Nothing is visible before [`BlobWriter::commit`].
    ///
    /// # Errors
    /// If the target cannot take it.
    fn start_blob(&self) -> Result<Box<dyn BlobWriter + '_>, SourceError>;

    /// Makes a blob that another repository of the same registry has visible here too, without moving it. Says whether
    /// that was done; where it cannot be done the blob is to be copied.
    ///
    /// # Errors
    /// If the target cannot be asked.
    fn mount_blob(&self, blob: Blob, from: &Repository) -> Result<bool, SourceError> {
        let (_, _) = (blob, from);
        Ok(false)
    }

    /// Copies a blob whose digest is known from a source, blocking, and checks it on the way. It goes on where an
    /// earlier attempt was interrupted, if the target can do that. `progress` is told of bytes as they move and says
    /// whether to go on.
    ///
    /// # Errors
    /// If it cannot be read or written, does not have the digest, or was cancelled.
    fn copy_blob(
        &self,
        blob: Blob,
        from: &dyn Source,
        progress: &dyn Fn(u64) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        copy_through(self.start_blob()?, blob, from, progress)
    }

    /// Stores a manifest or an index under its digest, and, as the root, under the reference that the target was opened
    /// with. All that it names is there already. The root comes once and last: with it the target is whole.
    ///
    /// # Errors
    /// If it cannot be stored.
    fn put_manifest(&self, media_type: &str, manifest: &[u8], role: Role) -> Result<Digest, SourceError>;

    /// Returns the same repository or layout for reading what is there already; none where nothing can be read.
    fn place(&self) -> Option<&dyn Place> {
        None
    }

    /// Reads what another tag beside the root's stands for now; `None` if there is no such tag. Blocking.
    ///
    /// # Errors
    /// If the target cannot be asked, or what is there is no manifest or index.
    fn read_tag(&self, tag: &str) -> Result<Option<Document>, SourceError> {
        let _ = tag;
        Ok(None)
    }

    /// Stores a manifest or an index under another tag beside the root's. Says whether that was done; a target of one
    /// image has no other tags.
    ///
    /// # Errors
    /// If it cannot be stored.
    fn put_tag(&self, tag: &str, media_type: &str, manifest: &[u8]) -> Result<bool, SourceError> {
        let (_, _, _) = (tag, media_type, manifest);
        Ok(false)
    }

    /// Says why no referrers can be stored here, if so: asked before anything moves.
    fn refuses_referrers(&self) -> Option<&'static str> {
        Some("it keeps one image, and nothing that refers to it")
    }

    /// Stores a manifest that has a subject, so that [`Place::referrers`] finds it. All that it names is there already.
    ///
    /// # Errors
    /// If it cannot be stored, or has no subject.
    fn put_referrer(&self, manifest: &[u8]) -> Result<Digest, SourceError> {
        let _ = manifest;
        let reason = self.refuses_referrers().unwrap_or("it keeps no referrers");
        Err(SourceFault::Target { reason }.at(self.name()))
    }
}

/// A blob on its way into a target.
pub trait BlobWriter: Write + Send {
    /// Makes the blob visible under `digest`, which the caller computed while writing. Its bytes are durable then, and
    /// its name at the latest when something is listed or tagged. A registry gets the blob only now: `progress` is told
    /// of bytes as they move and says whether to go on.
    ///
    /// # Errors
    /// If it cannot be made durable, or was cancelled.
    fn commit(
        self: Box<Self>,
        digest: Digest,
        size: u64,
        progress: &dyn Fn(u64) -> ControlFlow<()>,
    ) -> Result<(), SourceError>;
}

/// Copies a blob from its start and checks its digest.
///
/// # Errors
/// As [`Target::copy_blob`].
pub fn copy_through(
    mut writer: Box<dyn BlobWriter + '_>,
    blob: Blob,
    from: &dyn Source,
    progress: &dyn Fn(u64) -> ControlFlow<()>,
) -> Result<(), SourceError> {
    let failed = |source| SourceError::io(format!("{} {}", from.name(), blob.digest), source);
    // One byte more tells a blob that is too long.
    let mut reader = from.open(blob.digest)?.take(blob.size.saturating_add(1));
    let (mut hasher, mut size) = (Sha256::new(), 0u64);
    let mut buffer = vec![0; COPY_BUFFER];
    loop {
        let count = reader.read(&mut buffer).map_err(failed)?;
        let bytes = buffer.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            break;
        }
        hasher.update(bytes);
        writer.write_all(bytes).map_err(failed)?;
        size += count as u64;
        if progress(count as u64).is_break() {
            return Err(SourceFault::Cancelled.at(from.name()));
        }
    }
    check(blob, from, Digest::new(hasher.finalize().into()), size)?;
    writer.commit(blob.digest, blob.size, &|_| progress(0))
}

/// Compares what was read of a blob with what it must be.
///
/// # Errors
/// If digest or length differ.
pub fn check(blob: Blob, from: &dyn Source, is: Digest, length: u64) -> Result<(), SourceError> {
    let source_name = from.name().to_owned();
    if is == blob.digest && length == blob.size {
        return Ok(());
    }
    if is == blob.digest {
        // The bytes are right, and whoever named them was wrong.
        let source = FormatError::Mismatch { part: "length of a blob", said: blob.size, is: length };
        return Err(SourceFault::Format { source }.at(source_name));
    }
    Err(SourceFault::Digest { object: "blob", is, must: blob.digest }.at(source_name))
}
