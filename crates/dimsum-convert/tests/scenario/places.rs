//! Places as they are in the world: a repository in which tags stand, and one that loses a blob while it is being read.

use std::io::{self, Cursor, Read};
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use dimsum_format::Digest;
use dimsum_format::manifest::{Blob, Index, Manifest};
use dimsum_format::media;
use dimsum_layout::OciLayout;
use dimsum_source::{
    BlobWriter, BoxFuture, Document, ImageName, Place, Reference, Role, Source, SourceError, SourceFault, Target,
};

use crate::reader::blob;

/// A layout that says it is far away, as registries do: conversions leave their cache tags there.
#[derive(Debug)]
pub(crate) struct Repository(OciLayout);

impl Repository {
    pub(crate) fn create(dir: &Path) -> Self {
        Self(OciLayout::create(dir, Some(ImageName::Tag("out".into()))).unwrap())
    }

    /// Returns the packs that stand under cache tags, in the order in which these were written.
    pub(crate) fn tagged(&self) -> Vec<Digest> {
        let index = Index::parse(&std::fs::read(self.0.dir().join("index.json")).unwrap()).unwrap();
        let tag = |name: &&String| name.starts_with("dimsum-cache-");
        let tags =
            index.manifests.iter().filter(|it| it.annotations.get(media::ANNOTATION_REF_NAME).filter(tag).is_some());
        tags.map(|it| Manifest::parse(&blob(self.0.dir(), it.digest)).unwrap().layers[0].digest).collect()
    }
}

impl Source for Repository {
    fn name(&self) -> &str {
        Source::name(&self.0)
    }

    fn read_range(&self, blob: Digest, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, SourceError>> {
        self.0.read_range(blob, range)
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn open(&self, blob: Digest) -> Result<Box<dyn Read + Send>, SourceError> {
        self.0.open(blob)
    }

    fn size(&self, blob: Digest) -> Result<Option<u64>, SourceError> {
        self.0.size(blob)
    }
}

impl Place for Repository {
    fn reference(&self) -> &Reference {
        self.0.reference()
    }

    fn root(&self) -> Result<Document, SourceError> {
        self.0.root()
    }
}

impl Target for Repository {
    fn name(&self) -> &str {
        Target::name(&self.0)
    }

    fn has(&self, blob: Digest, size: u64) -> Result<bool, SourceError> {
        self.0.has(blob, size)
    }

    fn start_blob(&self) -> Result<Box<dyn BlobWriter + '_>, SourceError> {
        self.0.start_blob()
    }

    fn copy_blob(
        &self,
        blob: Blob,
        from: &dyn Source,
        progress: &dyn Fn(u64) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        self.0.copy_blob(blob, from, progress)
    }

    fn put_manifest(&self, media_type: &str, manifest: &[u8], role: Role) -> Result<Digest, SourceError> {
        self.0.put_manifest(media_type, manifest, role)
    }

    fn place(&self) -> Option<&dyn Place> {
        Some(self)
    }

    fn read_tag(&self, tag: &str) -> Result<Option<Document>, SourceError> {
        self.0.read_tag(tag)
    }

    fn put_tag(&self, tag: &str, media_type: &str, manifest: &[u8]) -> Result<bool, SourceError> {
        self.0.put_tag(tag, media_type, manifest)
    }
}

/// What becomes of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// It is deleted.
    Gone,
    /// Its bytes are others.
    Damaged,
    /// It cannot be reached.
    Broken,
}

/// A layout that gives one blob a few times, and not again.
#[derive(Debug)]
pub(crate) struct Fading {
    layout: OciLayout,
    blob: Digest,
    left: AtomicU32,
    loss: Loss,
}

impl Fading {
    pub(crate) fn new(layout: OciLayout, blob: Digest, times: u32, loss: Loss) -> Self {
        Self { layout, blob, left: AtomicU32::new(times), loss }
    }

    /// Says what is left of a blob.
    fn asked(&self, blob: Digest) -> Result<bool, SourceError> {
        let count = |left: u32| left.checked_sub(1);
        if blob != self.blob || self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count).is_ok() {
            return Ok(true);
        }
        let source_name = Source::name(&self.layout).to_owned();
        match self.loss {
            Loss::Gone => Err(SourceFault::NotFound { object: "blob", digest: blob }.at(source_name)),
            Loss::Damaged => Ok(false),
            Loss::Broken => Err(SourceError::io(source_name, io::Error::other("no way there"))),
        }
    }
}

impl Source for Fading {
    fn name(&self) -> &str {
        Source::name(&self.layout)
    }

    fn read_range(&self, blob: Digest, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, SourceError>> {
        self.layout.read_range(blob, range)
    }

    fn open(&self, blob: Digest) -> Result<Box<dyn Read + Send>, SourceError> {
        self.open_at(blob, 0)
    }

    fn open_at(&self, blob: Digest, start: u64) -> Result<Box<dyn Read + Send>, SourceError> {
        let whole = self.asked(blob)?;
        let mut reader = self.layout.open_at(blob, start)?;
        if whole {
            return Ok(reader);
        }
        let mut first = [0];
        reader.read_exact(&mut first).unwrap();
        Ok(Box::new(Cursor::new([first[0] ^ 1]).chain(reader)))
    }

    fn size(&self, blob: Digest) -> Result<Option<u64>, SourceError> {
        self.layout.size(blob)
    }
}
