//! A reference opened for reading, and the way from its name to one image.
//!
//! ```text
//! root (what the name stands for) ─→ index? pick by platform, the Dimsum twin or the original ─→ manifest
//! ```

use dimsum_format::Digest;
use dimsum_format::manifest::{Blob, Descriptor, Index, Platform};
use dimsum_format::media;

use crate::error::{SourceError, SourceFault};
use crate::platform;
use crate::reference::Reference;
use crate::source::Source;

/// Indexes inside of indexes that are followed: the specification allows any number, tools write one.
const MAX_NESTING: usize = 4;

/// A source that also knows what the name in its reference stands for.
pub trait Place: Source {
    /// Returns the reference that was opened.
    fn reference(&self) -> &Reference;

    /// Reads what the name stands for now: a manifest or an index, blocking. The bytes have the digest of the descriptor.
    ///
    /// # Errors
    /// If there is nothing by this name, or several things, or it cannot be read.
    fn root(&self) -> Result<Document, SourceError>;

    /// Lists manifests, of an artifact type or of all, whose subject is said to be `subject`, blocking. Each is to be read by its
    /// digest, and says itself of what it speaks. A place that keeps no referrers has none.
    ///
    /// # Errors
    /// If the list cannot be read.
    fn referrers(&self, subject: Digest, artifact_type: Option<&str>) -> Result<Vec<Descriptor>, SourceError> {
        let (_, _) = (subject, artifact_type);
        Ok(Vec::new())
    }
}

/// A manifest or an index, proven from the digest in its descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// What names it. The media type is that of the document itself, whatever an index said.
    pub descriptor: Descriptor,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Which image of a platform is wanted where an index has an ordinary image and its Dimsum twin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefer {
    /// The Dimsum image.
    Dimsum,
    /// The ordinary image.
    Original,
}

impl Document {
    /// Makes a document of bytes whose digest was checked. The media type is what the document says of itself, else what
    /// its form says, since old manifests leave it out.
    ///
    /// # Errors
    /// If the bytes are neither a manifest nor an index.
    pub fn new(digest: Digest, bytes: Vec<u8>) -> Result<Self, dimsum_format::FormatError> {
        use dimsum_format::manifest::Manifest;
        let (media_type, default) = match Index::parse(&bytes) {
            Ok(index) => (index.media_type, media::INDEX),
            Err(_) => (Manifest::parse(&bytes)?.media_type, media::MANIFEST),
        };
        let media_type = media_type.as_deref().unwrap_or(default);
        let descriptor = Descriptor::new(media_type, Blob { digest, size: bytes.len() as u64 });
        Ok(Self { descriptor, bytes })
    }

    /// Says whether this is an index.
    #[must_use]
    pub fn is_index(&self) -> bool {
        is_index(&self.descriptor)
    }
}

/// Finds one image. Where the name stands for several platforms, it is the one that runs on `wanted`. Where a platform
/// has an ordinary image and its Dimsum twin, it is the one that `prefer` says. Blocking.
///
/// # Errors
/// If there is no such image: the error lists the platforms that there are.
pub fn resolve(place: &dyn Place, wanted: &Platform, prefer: Prefer) -> Result<Document, SourceError> {
    let mut document = place.root()?;
    let format_error = |source| SourceFault::Format { source }.at(place.name());
    for _ in 0..MAX_NESTING {
        if !document.is_index() {
            return Ok(document);
        }
        let index = Index::parse(&document.bytes).map_err(format_error)?;
        let picked = pick(place.name(), &index.manifests, wanted, prefer)?;
        let bytes = place.read_manifest(picked.digest)?;
        document = Document::new(picked.digest, bytes).map_err(format_error)?;
        document.descriptor = Descriptor { media_type: document.descriptor.media_type, ..picked };
    }
    Err(SourceFault::Name { reason: "indexes are nested too deep".to_owned() }.at(place.name()))
}

/// Says whether a descriptor is marked as the Dimsum twin of an ordinary image in the same index.
#[must_use]
pub fn is_twin(descriptor: &Descriptor) -> bool {
    descriptor.artifact_type.as_deref() == Some(media::ARTIFACT_TYPE)
}

/// Says whether a descriptor names an index.
pub(crate) fn is_index(descriptor: &Descriptor) -> bool {
    matches!(&*descriptor.media_type, media::INDEX | media::DOCKER_INDEX)
}

fn pick(
    source_name: &str,
    manifests: &[Descriptor],
    wanted: &Platform,
    prefer: Prefer,
) -> Result<Descriptor, SourceError> {
    let fits = |descriptor: &&Descriptor| descriptor.platform.as_ref().is_some_and(|has| platform::fits(has, wanted));
    let preferred = |descriptor: &&Descriptor| is_twin(descriptor) == (prefer == Prefer::Dimsum);
    let mut fitting = manifests.iter().filter(fits);
    if let Some(found) = fitting.clone().find(preferred).or_else(|| fitting.next()) {
        return Ok(found.clone());
    }
    match manifests {
        // Nothing to choose from, and nothing said against it.
        [only] if only.platform.is_none() => Ok(only.clone()),
        _ => {
            let mut offered: Vec<_> =
                manifests.iter().filter_map(|each| each.platform.as_ref()).map(platform::text).collect();
            offered.sort_unstable();
            offered.dedup();
            let wanted = platform::text(wanted);
            let reason = format!("no image for {wanted}; there is: {}", offered.join(", "));
            Err(SourceFault::Name { reason }.at(source_name))
        }
    }
}
