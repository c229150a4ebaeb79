//! Images in a tar: `oci-archive:` (an OCI layout) and `docker-archive:` (what `docker save` writes).
//!
//! ```text
//!   reading:  file ─ headers ─→ Members: name → range ─→ Content: digest → range ─→ pread, nothing is unpacked
//!   writing:  blobs ─→ spool (a layout beside the archive) ─ the root comes ─→ tar of what it reaches ─→ rename
//! ```
//!
//! An archive is outside data: the walker refuses members that could be read in two ways. The reader of a blob checks
//! its digest, as everywhere.

mod content;
mod docker;
mod fault;
mod header;
mod members;
mod oci;
mod spool;
mod target;
mod write;

use std::io::Read;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use dimsum_format::Digest;
use dimsum_format::manifest::Annotations;
use dimsum_source::{BoxFuture, Document, ImageName, Place, Reference, Source, SourceError, SourceFault};

use self::content::Content;

pub use self::members::Members;
pub use self::target::ArchiveTarget;
pub use fault::ArchiveFault;

/// An archive, opened for one of its images. The file stays open: replacing it does not disturb who reads.
#[derive(Debug)]
pub struct Archive {
    reference: Reference,
    content: Content,
    /// The document that the name stands for.
    root: Digest,
    annotations: Annotations,
}

impl Archive {
    /// Opens an OCI layout in a tar.
    ///
    /// # Errors
    /// If it is none, is compressed, has a member that is refused, or has no image of this name.
    pub fn open_oci(file: &Path, name: Option<ImageName>) -> Result<Self, SourceError> {
        oci::open(file, name)
    }

    /// Opens what `docker save` writes. Its image gets an OCI manifest, made of the archive's own description. Layers
    /// keep their bytes.
    ///
    /// # Errors
    /// If it is none, is compressed, has a member that is refused, or has no image of this name.
    pub fn open_docker(file: &Path, name: Option<String>) -> Result<Self, SourceError> {
        docker::open(file, name)
    }
}

impl Source for Archive {
    fn name(&self) -> &str {
        &self.content.text
    }

    fn read_range(&self, blob: Digest, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, SourceError>> {
        Box::pin(self.content.read_range(blob, range))
    }

    fn open(&self, blob: Digest) -> Result<Box<dyn Read + Send>, SourceError> {
        self.content.open_at(blob, 0)
    }

    fn open_at(&self, blob: Digest, start: u64) -> Result<Box<dyn Read + Send>, SourceError> {
        self.content.open_at(blob, start)
    }

    fn size(&self, blob: Digest) -> Result<Option<u64>, SourceError> {
        Ok(self.content.size(blob))
    }
}

impl Place for Archive {
    fn reference(&self) -> &Reference {
        &self.reference
    }

    fn root(&self) -> Result<Document, SourceError> {
        let bytes = self.read_manifest(self.root)?;
        let format_error = |source| SourceFault::Format { source }.at(&self.content.text);
        let mut document = Document::new(self.root, bytes).map_err(format_error)?;
        document.descriptor.annotations.clone_from(&self.annotations);
        Ok(document)
    }
}
