//! What refers to the images of a copy, and comes along with them.
//!
//! A list of referrers is only a list. Each manifest that it names is read by its digest, and names its subject itself.
//! A manifest whose subject is not an image of the copy, or that is not there any more, is left and reported. It is no
//! reason not to copy the image.

use std::collections::{HashSet, VecDeque};

use dimsum_format::manifest::{Blob, Descriptor, Manifest};
use dimsum_format::{Digest, FormatError, media};

use super::plan::Plan;
use crate::error::{SourceError, SourceFault};
use crate::kind::ErrorKind;
use crate::place::{Document, Place};
use crate::target::Shape;

/// Referrers of one copy. An image has a handful; whoever may push beside an image of somebody else may attach any number to it.
const MAX_REFERRERS: u64 = 1024;
/// Bytes of all their manifests, as they are held in memory: as many as a thousand of the usual ones have.
const MAX_DOCUMENT_BYTES: u64 = 64 << 20;
/// Bytes of all their blobs. Recipes of the largest images have some hundred MiB with the packs that only they need,
/// and other tools' documents have less. The limit is far above both, and not the whole disk.
const MAX_BLOB_BYTES: u64 = 64 << 30;
/// Referrers of referrers that are followed: a signature of a list of contents of an image is two deep.
const MAX_DEPTH: usize = 4;

/// Which manifests that refer to the images of a copy come along.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Referrers {
    /// None.
    #[default]
    None,
    /// Recipes of the original layers of Dimsum images. Nothing is asked of other images.
    Ours,
    /// All, and what refers to them in turn: signatures, lists of contents, attestations.
    All,
}

/// A referrer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopiedReferrer {
    /// Its manifest.
    pub digest: Digest,
    /// The manifest of which it speaks.
    pub subject: Digest,
    /// What it is.
    pub artifact_type: String,
    /// Bytes of its blobs.
    pub bytes: u64,
}

/// A referrer that is not in the target.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftReferrer {
    /// Its manifest, as it is listed.
    pub digest: Digest,
    /// The manifest of which it is said to speak.
    pub subject: Digest,
    /// Why it is not there.
    pub reason: &'static str,
}

/// Referrers that were found.
#[derive(Debug, Default)]
pub(super) struct Attached {
    pub(super) referrers: Vec<(Document, CopiedReferrer)>,
    /// All blobs of these.
    pub(super) blobs: Vec<Blob>,
    pub(super) left: Vec<LeftReferrer>,
}

/// Looks for what refers to the images of a plan. `refused` is why the target takes none, if so: then they are only listed.
pub(super) fn find(
    from: &dyn Place,
    plan: &Plan,
    which: Referrers,
    refused: Option<&'static str>,
) -> Result<Attached, SourceError> {
    let artifact_type = match which {
        Referrers::None => return Ok(Attached::default()),
        Referrers::Ours => Some(media::ORIGINAL),
        Referrers::All => None,
    };
    let mut search = Search {
        from,
        artifact_type,
        refused,
        seen: HashSet::new(),
        count: 0,
        document_bytes: 0,
        blob_bytes: 0,
        found: Attached::default(),
    };
    let mut subjects: VecDeque<(Digest, usize)> = VecDeque::new();
    for document in plan.documents() {
        if which == Referrers::All || Shape::of(document) == Shape::Dimsum {
            subjects.push_back((document.descriptor.digest, 0));
        }
        search.seen.insert(document.descriptor.digest);
    }
    while let Some((subject, depth)) = subjects.pop_front() {
        let new = search.of(subject)?;
        if which == Referrers::All && depth < MAX_DEPTH {
            subjects.extend(new.into_iter().map(|digest| (digest, depth + 1)));
        }
    }
    Ok(search.found)
}

struct Search<'a> {
    from: &'a dyn Place,
    artifact_type: Option<&'static str>,
    refused: Option<&'static str>,
    /// Images of the plan, and referrers that were met.
    seen: HashSet<Digest>,
    count: u64,
    document_bytes: u64,
    blob_bytes: u64,
    found: Attached,
}

impl Search<'_> {
    /// Takes what refers to a manifest, and returns the digests of what is new.
    fn of(&mut self, subject: Digest) -> Result<Vec<Digest>, SourceError> {
        let mut new = Vec::new();
        for entry in self.from.referrers(subject, self.artifact_type)? {
            if !self.seen.insert(entry.digest) {
                continue;
            }
            self.count = self.count.saturating_add(1);
            self.limit("referrers of the images", self.count, MAX_REFERRERS)?;
            match self.take(subject, &entry)? {
                Ok(()) => new.push(entry.digest),
                Err(reason) => self.found.left.push(LeftReferrer { digest: entry.digest, subject, reason }),
            }
        }
        Ok(new)
    }

    /// Takes a referrer, or says why not.
    fn take(&mut self, subject: Digest, entry: &Descriptor) -> Result<Result<(), &'static str>, SourceError> {
        if let Some(reason) = self.refused {
            return Ok(Err(reason));
        }
        if entry.media_type != media::MANIFEST {
            return Ok(Err("it is no image manifest"));
        }
        let bytes = match self.from.read_manifest(entry.digest) {
            Ok(bytes) => bytes,
            // Nobody takes it off the list of a fallback tag when it is deleted.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Err("it is listed, but not there")),
            Err(error) => return Err(error),
        };
        self.document_bytes = self.document_bytes.saturating_add(bytes.len() as u64);
        self.limit("bytes of the manifests of referrers", self.document_bytes, MAX_DOCUMENT_BYTES)?;
        let Ok(manifest) = Manifest::parse(&bytes) else { return Ok(Err("it is no manifest that can be read")) };
        if manifest.subject.as_ref().is_none_or(|said| said.digest != subject) {
            return Ok(Err("it speaks of something else"));
        }
        let artifact_type = manifest.artifact_type.as_ref().unwrap_or(&manifest.config.media_type);
        if self.artifact_type.is_some_and(|wanted| wanted != artifact_type) {
            return Ok(Err("it is of another type"));
        }
        let blobs = manifest.layers.iter().chain([&manifest.config]);
        let blobs: Vec<Blob> = blobs.map(|each| Blob { digest: each.digest, size: each.size }).collect();
        let size = blobs.iter().map(|blob| blob.size).fold(0, u64::saturating_add);
        self.blob_bytes = self.blob_bytes.saturating_add(size);
        self.limit("bytes of all referrers", self.blob_bytes, MAX_BLOB_BYTES)?;
        let artifact_type = artifact_type.clone();
        let copied = CopiedReferrer { digest: entry.digest, subject, artifact_type, bytes: size };
        let blob = Blob { digest: entry.digest, size: bytes.len() as u64 };
        let document = Document { descriptor: Descriptor::new(media::MANIFEST, blob), bytes };
        self.found.referrers.push((document, copied));
        self.found.blobs.extend(blobs);
        Ok(Ok(()))
    }

    fn limit(&self, part: &'static str, value: u64, limit: u64) -> Result<(), SourceError> {
        if value > limit {
            let source = FormatError::Limit { part, value, limit };
            return Err(SourceFault::Format { source }.at(self.from.name()));
        }
        Ok(())
    }
}
