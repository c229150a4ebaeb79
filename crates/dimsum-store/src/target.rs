//! Putting a converted image into the store.
//!
//! What the store has of a pack piece by piece counts as there only when it is complete and has its digest (`disk/packs.rs`).

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use dimsum_format::Digest;
use dimsum_format::limits::MAX_CONFIG_BYTES;
use dimsum_format::manifest::Manifest;
use dimsum_source::{BlobWriter, Role, Source as _, SourceError, Target};

use crate::disk::layout::{self, PACKS, StagedFile};
use crate::disk::layout::{CONFIG_FILE, MANIFEST_FILE};
use crate::disk::packs::io_error;
use crate::services::Services;

/// A [`Target`] that writes blobs to `packs/` and manifest and config to `images/`.
///
/// Everything is synced before it is visible: of a local conversion there is no other copy. The meta stays in `packs/` as a blob
/// like any other, so an opened meta heals from it, as device files heal from the packs.
#[derive(Debug, Clone)]
pub struct StoreTarget {
    services: Arc<Services>,
}

impl StoreTarget {
    pub(crate) fn new(services: &Arc<Services>) -> Self {
        Self { services: Arc::clone(services) }
    }
}

impl Target for StoreTarget {
    fn name(&self) -> &str {
        self.services.packs().name()
    }

    fn has(&self, blob: Digest, size: u64) -> Result<bool, SourceError> {
        Ok(self.services.packs().size(blob)? == Some(size))
    }

    fn start_blob(&self) -> Result<Box<dyn BlobWriter + '_>, SourceError> {
        let directory = self.services.layout().directory(PACKS);
        let temporary = StagedFile::create(&directory).map_err(|error| io_error(&directory, error))?;
        Ok(Box::new(PackWriter { services: &self.services, temporary, written: 0 }))
    }

    fn put_manifest(&self, _media_type: &str, manifest: &[u8], _role: Role) -> Result<Digest, SourceError> {
        let digest = Digest::of(manifest);
        let put =
            |path: &Path, bytes: &[u8]| layout::put_file(path, bytes, true).map_err(|error| io_error(path, error));
        let parsed = Manifest::parse(manifest).ok().filter(Manifest::is_dimsum);
        let Some(parsed) = parsed else {
            // An index, or a source's manifest beside its image: a blob to copy on, not an image to open.
            put(&self.services.layout().pack(digest), manifest)?;
            return Ok(digest);
        };
        let directory = self.services.layout().image(digest);
        let config = self.services.packs().read_small("config", parsed.config.digest, MAX_CONFIG_BYTES)?;
        put(&directory.join(CONFIG_FILE), &config)?;
        // Last, so that an image with a manifest has all its parts.
        put(&directory.join(MANIFEST_FILE), manifest)?;
        Ok(digest)
    }
}

struct PackWriter<'a> {
    services: &'a Services,
    temporary: StagedFile,
    written: u64,
}

impl Write for PackWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.temporary.file.write(bytes)?;
        self.written = self.written.saturating_add(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temporary.file.flush()
    }
}

impl BlobWriter for PackWriter<'_> {
    fn commit(
        self: Box<Self>,
        digest: Digest,
        size: u64,
        _progress: &dyn Fn(u64) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        let path = self.services.layout().pack(digest);
        if self.written != size {
            let error = io::Error::new(io::ErrorKind::InvalidData, "another length was written than is committed");
            return Err(io_error(&path, error));
        }
        self.temporary.place(&path, true).map_err(|error| io_error(&path, error))?;
        self.services.packs().forget_parts(digest);
        Ok(())
    }
}
