//! A target in rehearsal: what a conversion reads of the real one it gets from there, what it writes goes into the scratch layout.
//!
//! ```text
//! conversion ─┬─ place, read_tag, has ─→ the real target, which is only read: what its name stands for, cache tags, packs
//!             ├─ blobs, manifest ──────→ the layout
//!             └─ packs of others ──────→ counted as the real target would get them: mounted in one registry, else copied
//! ```
//!
//! Packs that are there already, or would be moved there, are fetched into the layout only if a run is to read them.

use std::ops::ControlFlow;
use std::sync::Arc;

use dimsum_format::Digest;
use dimsum_format::manifest::Blob;
use dimsum_layout::OCI_LAYOUT;
use dimsum_registry::REGISTRY;
use dimsum_source::{
    BlobWriter, Document, ImageName, Place, Reference, Repository, Role, Source, SourceError, SourceFault, Target,
};

use crate::image;
use crate::{Engine, EngineError, ErrorKind};

/// The target of a rehearsal.
#[derive(Debug)]
pub(super) struct Rehearsal {
    engine: Engine,
    layout: Box<dyn Target>,
    /// The real target; none if none was named, if it is not there yet, or if it keeps nothing to look up.
    there: Option<Arc<dyn Place>>,
    /// Whether packs of others are fetched.
    whole: bool,
}

impl Rehearsal {
    /// Prepares one. Nothing is written to `target`.
    ///
    /// # Errors
    /// If `target` is no reference, or cannot be asked.
    pub(super) fn new(
        engine: &Engine,
        layout: Box<dyn Target>,
        target: Option<&str>,
        whole: bool,
    ) -> Result<Self, EngineError> {
        // It is a target: it is named by a tag.
        let engine = engine.reconfigured(|config| config.require_digest = false);
        let reference = target.map(|target| image::parse(&engine, target)).transpose()?;
        let there = match reference.filter(keeps) {
            Some(reference) => match image::open_place(&engine, &reference) {
                Ok(place) => Some(place),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            },
            None => None,
        };
        Ok(Self { engine, layout, there, whole })
    }

    /// Copies a pack into the layout, so that a run finds it.
    fn fetch(&self, blob: Blob, from: &dyn Source) -> Result<(), SourceError> {
        if !self.whole || self.layout.has(blob.digest, blob.size)? {
            return Ok(());
        }
        let ends = || self.engine.cancel().is_cancelled();
        self.layout.copy_blob(blob, from, &|_| if ends() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    fn open(&self, reference: &Reference) -> Result<Arc<dyn Place>, SourceError> {
        match self.engine.transports() {
            Ok(transports) => transports.open(reference),
            // It was made when the real target was opened.
            Err(_) => Err(SourceFault::Cancelled.at(reference.to_string())),
        }
    }
}

/// Whether a place keeps several things under names, as a target that a conversion looks something up in does.
fn keeps(reference: &Reference) -> bool {
    reference.repository().is_some() || reference.scheme() == OCI_LAYOUT.name
}

/// Returns the reference of another tag beside this one.
fn beside(reference: &Reference, tag: &str) -> Option<Reference> {
    keeps(reference).then(|| reference.with_name(Some(ImageName::Tag(tag.to_owned()))))
}

impl Target for Rehearsal {
    fn name(&self) -> &str {
        self.there.as_ref().map_or_else(|| self.layout.name(), |place| Source::name(&**place))
    }

    fn has(&self, blob: Digest, size: u64) -> Result<bool, SourceError> {
        let Some(place) = &self.there else { return self.layout.has(blob, size) };
        let has = place.size(blob)? == Some(size);
        if has {
            self.fetch(Blob { digest: blob, size }, &**place)?;
        }
        Ok(has)
    }

    fn start_blob(&self) -> Result<Box<dyn BlobWriter + '_>, SourceError> {
        self.layout.start_blob()
    }

    fn mount_blob(&self, blob: Blob, from: &Repository) -> Result<bool, SourceError> {
        let same_registry = self.there.as_ref().and_then(|place| place.repository());
        let mounts = same_registry.is_some_and(|to| to.host() == from.host() && to.path() != from.path());
        if mounts && self.whole {
            // Blobs are named by their digests, whatever the reference stands for.
            let reference = Reference::in_registry(REGISTRY.name, from.clone(), ImageName::Digest(blob.digest));
            self.fetch(blob, &*self.open(&reference)?)?;
        }
        Ok(mounts)
    }

    fn copy_blob(
        &self,
        blob: Blob,
        from: &dyn Source,
        _progress: &dyn Fn(u64) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        self.fetch(blob, from)
    }

    fn put_manifest(&self, media_type: &str, manifest: &[u8], role: Role) -> Result<Digest, SourceError> {
        self.layout.put_manifest(media_type, manifest, role)
    }

    fn place(&self) -> Option<&dyn Place> {
        self.there.as_deref()
    }

    fn read_tag(&self, tag: &str) -> Result<Option<Document>, SourceError> {
        let Some(reference) = self.there.as_ref().and_then(|place| beside(place.reference(), tag)) else {
            return Ok(None);
        };
        match self.open(&reference)?.root() {
            Ok(document) => Ok(Some(document)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
