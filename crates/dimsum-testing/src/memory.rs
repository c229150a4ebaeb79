//! A transport in memory, `memory:BOX[:TAG]`: the smallest one that keeps the contracts, and the proof that a new scheme is
//! one registration.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use dimsum_format::Digest;
use dimsum_format::manifest::Descriptor;
use dimsum_source::referrers::{Referrer, fallback_tag, list_in_tag, parse_list, select};
use dimsum_source::{
    BlobWriter, BoxFuture, Document, ImageName, Place, Reference, Role, Scheme, Source, SourceError, SourceFault,
    Target, Transport,
};

/// The scheme.
pub const MEMORY: Scheme = Scheme {
    name: "memory",
    usage: "memory:BOX[:TAG]",
    parse: |rest| {
        let (name, tag) = rest.split_once(':').map_or((rest, None), |(name, tag)| (name, Some(tag)));
        let tag = tag.map(|tag| ImageName::Tag(tag.to_owned()));
        if name.is_empty() { Err("the box is empty".into()) } else { Ok(Reference::elsewhere("memory", name, tag)) }
    },
};

/// Blobs and tags by the name of their box. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<BTreeMap<String, MemoryBox>>>);

#[derive(Debug, Default)]
struct MemoryBox {
    blobs: BTreeMap<Digest, Bytes>,
    tags: BTreeMap<String, Digest>,
}

impl Memory {
    /// Opens a box for one of its images; one that is not there is empty.
    #[must_use]
    pub fn open(&self, reference: &Reference) -> MemoryPlace {
        MemoryPlace { memory: self.clone(), reference: reference.clone(), text: reference.to_string() }
    }

    /// Opens a box by its name and a tag.
    #[must_use]
    pub fn tag(&self, name: &str, tag: &str) -> MemoryPlace {
        self.open(&Reference::elsewhere(MEMORY.name, name, Some(ImageName::Tag(tag.to_owned()))))
    }
}

impl Transport for Memory {
    fn scheme(&self) -> Scheme {
        MEMORY
    }

    fn open(&self, reference: &Reference) -> Result<Arc<dyn Place>, SourceError> {
        Ok(Arc::new(self.open(reference)))
    }

    fn create(&self, reference: &Reference) -> Result<Box<dyn Target>, SourceError> {
        Ok(Box::new(self.open(reference)))
    }
}

/// A box, opened for one of its images.
#[derive(Debug)]
pub struct MemoryPlace {
    memory: Memory,
    reference: Reference,
    text: String,
}

impl MemoryPlace {
    /// Gives a digest bytes that need not have it: what a broken disk does.
    ///
    /// # Panics
    /// If a thread panicked.
    pub fn forge(&self, digest: Digest, bytes: &[u8]) {
        self.with(|held| held.blobs.insert(digest, Bytes::copy_from_slice(bytes)));
    }

    fn with<T>(&self, work: impl FnOnce(&mut MemoryBox) -> T) -> T {
        work(self.memory.0.lock().unwrap().entry(self.reference.location()).or_default())
    }

    fn blob(&self, digest: Digest) -> Result<Bytes, SourceError> {
        let found = self.with(|held| held.blobs.get(&digest).cloned());
        found.ok_or_else(|| SourceFault::NotFound { object: "blob", digest }.at(&self.text))
    }

    fn slice(&self, digest: Digest, range: Range<u64>) -> Result<Bytes, SourceError> {
        let blob = self.blob(digest)?;
        let (start, end) = (usize::try_from(range.start).unwrap(), usize::try_from(range.end).unwrap());
        if start <= end && end <= blob.len() {
            return Ok(blob.slice(start..end));
        }
        Err(SourceFault::Range { digest, range }.at(&self.text))
    }

    fn document(&self, digest: Digest) -> Result<Document, SourceError> {
        let format = |source| SourceFault::Format { source }.at(&self.text);
        Document::new(digest, self.read_manifest(digest)?).map_err(format)
    }
}

impl Source for MemoryPlace {
    fn name(&self) -> &str {
        &self.text
    }

    fn read_range(&self, blob: Digest, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, SourceError>> {
        Box::pin(async move { self.slice(blob, range) })
    }

    fn open(&self, blob: Digest) -> Result<Box<dyn Read + Send>, SourceError> {
        Ok(Box::new(io::Cursor::new(self.blob(blob)?)))
    }

    fn size(&self, blob: Digest) -> Result<Option<u64>, SourceError> {
        Ok(self.with(|held| held.blobs.get(&blob).map(|bytes| bytes.len() as u64)))
    }
}

impl Place for MemoryPlace {
    fn reference(&self) -> &Reference {
        &self.reference
    }

    fn root(&self) -> Result<Document, SourceError> {
        let digest = match self.reference.name() {
            Some(ImageName::Digest(digest)) => Some(*digest),
            Some(ImageName::Tag(tag)) => self.with(|held| held.tags.get(tag).copied()),
            None => None,
        };
        let missing = || SourceFault::Name { reason: "no image by this name".to_owned() }.at(&self.text);
        self.document(digest.ok_or_else(missing)?)
    }

    fn referrers(&self, subject: Digest, artifact_type: Option<&str>) -> Result<Vec<Descriptor>, SourceError> {
        let Some(list) = self.read_tag(&fallback_tag(subject))? else { return Ok(Vec::new()) };
        Ok(select(parse_list(&self.text, subject, &list.bytes)?, artifact_type))
    }
}

impl Target for MemoryPlace {
    fn name(&self) -> &str {
        &self.text
    }

    fn has(&self, blob: Digest, size: u64) -> Result<bool, SourceError> {
        Ok(self.with(|held| held.blobs.get(&blob).is_some_and(|bytes| bytes.len() as u64 == size)))
    }

    fn start_blob(&self) -> Result<Box<dyn BlobWriter + '_>, SourceError> {
        Ok(Box::new(MemoryBlob { place: self, bytes: Vec::new() }))
    }

    fn put_manifest(&self, _media_type: &str, manifest: &[u8], role: Role) -> Result<Digest, SourceError> {
        let digest = Digest::of(manifest);
        self.forge(digest, manifest);
        if let (Role::Root, Some(ImageName::Tag(tag))) = (role, self.reference.name()) {
            self.with(|held| held.tags.insert(tag.clone(), digest));
        }
        Ok(digest)
    }

    fn place(&self) -> Option<&dyn Place> {
        Some(self)
    }

    fn read_tag(&self, tag: &str) -> Result<Option<Document>, SourceError> {
        self.with(|held| held.tags.get(tag).copied()).map(|digest| self.document(digest)).transpose()
    }

    fn put_tag(&self, tag: &str, _media_type: &str, manifest: &[u8]) -> Result<bool, SourceError> {
        let digest = Digest::of(manifest);
        self.forge(digest, manifest);
        self.with(|held| held.tags.insert(tag.to_owned(), digest));
        Ok(true)
    }

    fn refuses_referrers(&self) -> Option<&'static str> {
        None
    }

    fn put_referrer(&self, manifest: &[u8]) -> Result<Digest, SourceError> {
        let referrer = Referrer::parse(self, manifest)?;
        self.forge(referrer.entry.digest, manifest);
        list_in_tag(self, referrer.subject, &referrer.entry)?;
        Ok(referrer.entry.digest)
    }
}

struct MemoryBlob<'p> {
    place: &'p MemoryPlace,
    bytes: Vec<u8>,
}

impl Write for MemoryBlob<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobWriter for MemoryBlob<'_> {
    fn commit(
        self: Box<Self>,
        digest: Digest,
        size: u64,
        _progress: &dyn Fn(u64) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        if self.bytes.len() as u64 != size {
            let reason = "a blob was committed with another length than was written";
            return Err(SourceFault::Target { reason }.at(&self.place.text));
        }
        self.place.forge(digest, &self.bytes);
        Ok(())
    }
}
