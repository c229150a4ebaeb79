//! What a root reaches: manifests and indexes in memory, blobs by name.

use std::collections::HashSet;

use dimsum_format::limits::MAX_INDEX_MANIFESTS;
use dimsum_format::manifest::{Blob, Descriptor, Index, Manifest, Platform};
use dimsum_format::{Digest, FormatError, media};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{SourceError, SourceFault};
use crate::place::{Document, is_index};
use crate::platform;
use crate::source::Source;

/// Indexes inside of indexes that are followed: the specification allows any number, tools write one.
const MAX_NESTING: usize = 4;
/// Bytes of all manifests and indexes together, as they are held in memory: a thousand images of the usual 4 KiB are 4 MiB.
const MAX_DOCUMENT_BYTES: u64 = 64 << 20;
/// Ties an attestation to its image, in the index of both.
const ATTESTED: &str = "vnd.docker.reference.digest";

/// A blob to bring.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Its digest and length.
    pub blob: Blob,
    /// It has URLs: it lies elsewhere.
    pub foreign: bool,
}

/// All that is to be copied.
#[derive(Debug)]
pub struct Plan {
    parts: Vec<Document>,
    root: Document,
    blobs: Vec<Wanted>,
}

impl Plan {
    /// Follows a root to all that it names.
    ///
    /// # Errors
    /// If a manifest cannot be read or parsed, or the whole is above a limit.
    pub fn of(source: &dyn Source, root: Document) -> Result<Self, SourceError> {
        Self::chosen(source, root, None)
    }

    /// Follows a root; of an index, only to what is for one of the platforms.
    pub(crate) fn chosen(
        source: &dyn Source,
        root: Document,
        platforms: Option<&[Platform]>,
    ) -> Result<Self, SourceError> {
        let mut walk = Walk {
            source,
            platforms,
            parts: Vec::new(),
            blobs: Vec::new(),
            seen_manifests: HashSet::new(),
            seen_blobs: HashSet::new(),
            bytes: 0,
        };
        let offered = root.clone();
        match walk.follow(root, 0)? {
            Some(root) => Ok(Self { parts: walk.parts, root, blobs: walk.blobs }),
            None => Err(walk.nothing_chosen(&offered)),
        }
    }

    /// Returns what comes before the root, each behind what it names.
    #[must_use]
    pub fn parts(&self) -> &[Document] {
        &self.parts
    }

    /// Returns the root.
    #[must_use]
    pub const fn root(&self) -> &Document {
        &self.root
    }

    /// Returns parts and root.
    pub fn documents(&self) -> impl Iterator<Item = &Document> {
        self.parts.iter().chain([&self.root])
    }

    /// Adds blobs of what refers to the images.
    pub(crate) fn add_blobs(&mut self, blobs: &[Blob]) {
        let mut seen: HashSet<(Digest, u64)> =
            self.blobs.iter().map(|wanted| (wanted.blob.digest, wanted.blob.size)).collect();
        let new = blobs.iter().filter(|blob| seen.insert((blob.digest, blob.size)));
        self.blobs.extend(new.map(|&blob| Wanted { blob, foreign: false }));
    }

    /// Returns the blobs, each once.
    #[must_use]
    pub fn blobs(&self) -> &[Wanted] {
        &self.blobs
    }
}

/// The layers of a manifest, as far as they say where they lie.
#[derive(Deserialize)]
struct Places {
    layers: Vec<Urls>,
}

#[derive(Deserialize)]
struct Urls {
    #[serde(default)]
    urls: Vec<String>,
}

struct Walk<'a> {
    source: &'a dyn Source,
    platforms: Option<&'a [Platform]>,
    parts: Vec<Document>,
    blobs: Vec<Wanted>,
    seen_manifests: HashSet<Digest>,
    seen_blobs: HashSet<(Digest, u64)>,
    bytes: u64,
}

impl Walk<'_> {
    /// Returns the document as it is to be stored; none if nothing of it was chosen.
    fn follow(&mut self, document: Document, depth: usize) -> Result<Option<Document>, SourceError> {
        self.bytes = self.bytes.saturating_add(document.bytes.len() as u64);
        self.limit("bytes of all manifests", self.bytes, MAX_DOCUMENT_BYTES)?;
        self.limit("manifests of all indexes", self.parts.len() as u64, MAX_INDEX_MANIFESTS as u64)?;
        if document.is_index() { self.index(document, depth) } else { self.manifest(document).map(Some) }
    }

    fn manifest(&mut self, document: Document) -> Result<Document, SourceError> {
        let manifest = Manifest::parse(&document.bytes).map_err(|source| self.format_error(source))?;
        let json = |source| self.format_error(FormatError::Json { part: "manifest", source });
        let places: Places = serde_json::from_slice(&document.bytes).map_err(json)?;
        self.want(&manifest.config, false);
        for (layer, place) in manifest.layers.iter().zip(&places.layers) {
            self.want(layer, !place.urls.is_empty());
        }
        Ok(document)
    }

    fn index(&mut self, document: Document, depth: usize) -> Result<Option<Document>, SourceError> {
        self.limit("depth of nested indexes", depth as u64, MAX_NESTING as u64)?;
        let index = Index::parse(&document.bytes).map_err(|source| self.format_error(source))?;
        let mut kept: Vec<Option<Descriptor>> = Vec::new();
        for entry in &index.manifests {
            let keep = if self.is_chosen(entry) { self.entry(entry, depth)? } else { None };
            kept.push(keep);
        }
        if self.platforms.is_some() {
            self.attached(&index, &mut kept, depth)?;
        }
        if kept.iter().flatten().eq(&index.manifests) {
            return Ok(Some(document));
        }
        if kept.iter().all(Option::is_none) {
            return Ok(None);
        }
        self.rewrite(&document, &kept).map(Some)
    }

    /// Follows an entry of an index and returns it as it is to be listed; none if nothing of it was chosen.
    fn entry(&mut self, entry: &Descriptor, depth: usize) -> Result<Option<Descriptor>, SourceError> {
        if !is_manifest(entry) && !is_index(entry) {
            // The specification lets an index list anything; it is brought like a layer.
            self.want(entry, false);
            return Ok(Some(entry.clone()));
        }
        if !is_index(entry) && !self.seen_manifests.insert(entry.digest) {
            return Ok(Some(entry.clone()));
        }
        let bytes = self.source.read_manifest(entry.digest)?;
        if bytes.len() as u64 != entry.size {
            let (said, is) = (entry.size, bytes.len() as u64);
            return Err(self.format_error(FormatError::Mismatch { part: "length of a manifest", said, is }));
        }
        let mut part = Document::new(entry.digest, bytes).map_err(|source| self.format_error(source))?;
        // The list says how it is to be read, as for every reader of the list.
        part.descriptor.media_type.clone_from(&entry.media_type);
        let Some(part) = self.follow(part, depth + 1)? else { return Ok(None) };
        let (digest, size) = (part.descriptor.digest, part.descriptor.size);
        if self.parts.iter().all(|known| known.descriptor.digest != digest) {
            self.parts.push(part);
        }
        Ok(Some(Descriptor { digest, size, ..entry.clone() }))
    }

    /// Keeps attestations of images that are kept.
    fn attached(&mut self, index: &Index, kept: &mut [Option<Descriptor>], depth: usize) -> Result<(), SourceError> {
        let digests: HashSet<String> = kept.iter().flatten().map(|each| each.digest.to_string()).collect();
        for (entry, keep) in index.manifests.iter().zip(kept) {
            if keep.is_none() && entry.annotations.get(ATTESTED).is_some_and(|digest| digests.contains(digest)) {
                *keep = self.entry(entry, depth)?;
            }
        }
        Ok(())
    }

    fn is_chosen(&self, entry: &Descriptor) -> bool {
        let Some(platforms) = self.platforms else { return true };
        match &entry.platform {
            Some(has) => platforms.iter().any(|wanted| platform::fits(has, wanted)),
            // What is inside says for what it is.
            None => is_index(entry),
        }
    }

    /// Writes an index anew with the entries that are kept. It is changed as JSON, so that what is not known here stays.
    fn rewrite(&self, document: &Document, kept: &[Option<Descriptor>]) -> Result<Document, SourceError> {
        let json_error = |source| self.format_error(FormatError::Json { part: "index", source });
        let mut value: Value = serde_json::from_slice(&document.bytes).map_err(json_error)?;
        if let Some(list) = value.get_mut("manifests").and_then(Value::as_array_mut) {
            let entries = std::mem::take(list).into_iter().zip(kept);
            list.extend(entries.filter_map(|(mut entry, keep)| {
                let keep = keep.as_ref()?;
                if let Some(entry) = entry.as_object_mut() {
                    entry.insert("digest".to_owned(), json!(keep.digest));
                    entry.insert("size".to_owned(), json!(keep.size));
                }
                Some(entry)
            }));
        }
        let bytes = serde_json::to_vec(&value).map_err(json_error)?;
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        Ok(Document { descriptor: Descriptor { digest, size, ..document.descriptor.clone() }, bytes })
    }

    fn want(&mut self, descriptor: &Descriptor, foreign: bool) {
        let blob = Blob { digest: descriptor.digest, size: descriptor.size };
        // By size too: a second descriptor that lies about it must not pass unseen.
        if self.seen_blobs.insert((blob.digest, blob.size)) {
            self.blobs.push(Wanted { blob, foreign });
        }
    }

    fn nothing_chosen(&self, root: &Document) -> SourceError {
        let manifests = Index::parse(&root.bytes).map(|index| index.manifests).unwrap_or_default();
        let mut offered: Vec<_> =
            manifests.iter().filter_map(|each| each.platform.as_ref()).map(platform::text).collect();
        offered.sort_unstable();
        offered.dedup();
        let wanted: Vec<_> = self.platforms.unwrap_or_default().iter().map(platform::text).collect();
        let reason = format!("no image for {}; there is: {}", wanted.join(", "), offered.join(", "));
        SourceFault::Name { reason }.at(self.source.name())
    }

    fn limit(&self, part: &'static str, value: u64, limit: u64) -> Result<(), SourceError> {
        if value > limit {
            return Err(self.format_error(FormatError::Limit { part, value, limit }));
        }
        Ok(())
    }

    fn format_error(&self, source: FormatError) -> SourceError {
        SourceFault::Format { source }.at(self.source.name())
    }
}

fn is_manifest(descriptor: &Descriptor) -> bool {
    matches!(&*descriptor.media_type, media::MANIFEST | media::DOCKER_MANIFEST)
}
