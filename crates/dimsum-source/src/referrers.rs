//! Referrers: manifests that say something of another one, by their `subject`.
//!
//! A registry with the referrers API lists them by itself and says so when one is stored. For any other registry, and
//! for OCI layouts, the client that stores one keeps the list. The list is an index under the tag
//! `sha256-<hex of the subject>` (the fallback of the OCI distribution specification). The list is only a list: each
//! manifest says of which one it speaks, and is read by its digest.

use dimsum_format::limits::MAX_INDEX_MANIFESTS;
use dimsum_format::manifest::{Annotations, Blob, Descriptor, Index, Manifest};
use dimsum_format::{Digest, FormatError, media};

use crate::error::{SourceError, SourceFault};
use crate::target::Target;

/// Times that a list is written again because somebody else wrote it at the same time.
const WRITES: usize = 4;

/// Length of the hex part of a fallback tag.
const HEX: usize = 64;

/// Returns the tag under which the referrers of a manifest are listed where there is no referrers API.
#[must_use]
pub fn fallback_tag(subject: Digest) -> String {
    format!("sha256-{}", subject.hex())
}

/// Parses what lies under the fallback tag of a manifest.
///
/// # Errors
/// If it is no index.
pub fn parse_list(source_name: &str, subject: Digest, bytes: &[u8]) -> Result<Index, SourceError> {
    Index::parse(bytes).map_err(|source| {
        SourceFault::Referrers { tag: fallback_tag(subject), source: Box::new(source) }.at(source_name)
    })
}

/// Says whether a tag is one of [`fallback_tag`]: a list of referrers, no image.
#[must_use]
pub fn is_fallback_tag(tag: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    tag.strip_prefix("sha256-").is_some_and(|tail| tail.len() == HEX && tail.bytes().all(hex))
}

/// A manifest that has a subject.
#[derive(Debug, Clone)]
pub struct Referrer {
    /// The manifest that it speaks of.
    pub subject: Digest,
    /// How it is listed.
    pub entry: Descriptor,
}

impl Referrer {
    /// Parses a manifest that is to be stored in `target`.
    ///
    /// # Errors
    /// If it is no manifest, or has no subject.
    pub fn parse(target: &dyn Target, bytes: &[u8]) -> Result<Self, SourceError> {
        let target_name = || target.name().to_owned();
        let manifest = Manifest::parse(bytes);
        let manifest = manifest.map_err(|source| SourceFault::Format { source }.at(target_name()))?;
        let Some(subject) = manifest.subject else {
            let reason = "a manifest without a subject refers to nothing";
            return Err(SourceFault::Target { reason }.at(target_name()));
        };
        let blob = Blob { digest: Digest::of(bytes), size: bytes.len() as u64 };
        // As the specification wants it: the annotations of the manifest, and its type, which is that of its config if it has none.
        let artifact_type = Some(manifest.artifact_type.unwrap_or(manifest.config.media_type));
        let entry =
            Descriptor { artifact_type, annotations: manifest.annotations, ..Descriptor::new(media::MANIFEST, blob) };
        Ok(Self { subject: subject.digest, entry })
    }
}

/// Takes those of a type out of a list of referrers; all of them if no type is given.
#[must_use]
pub fn select(index: Index, artifact_type: Option<&str>) -> Vec<Descriptor> {
    let wanted = |entry: &Descriptor| match artifact_type {
        Some(_) => entry.media_type == media::MANIFEST && entry.artifact_type.as_deref() == artifact_type,
        None => true,
    };
    index.manifests.into_iter().filter(wanted).collect()
}

/// Adds a referrer to the list under the fallback tag, and looks whether it stayed there: registries know no change under a lock.
///
/// # Errors
/// If the tag cannot be read or written, or others go on writing it.
pub fn list_in_tag(target: &dyn Target, subject: Digest, entry: &Descriptor) -> Result<(), SourceError> {
    let tag = fallback_tag(subject);
    let format_error = |source| SourceFault::Format { source }.at(target.name());
    for _ in 0..WRITES {
        let mut index = match target.read_tag(&tag)? {
            Some(document) => parse_list(target.name(), subject, &document.bytes)?,
            None => Index {
                schema_version: 2,
                media_type: Some(media::INDEX.to_owned()),
                manifests: Vec::new(),
                annotations: Annotations::new(),
            },
        };
        if index.manifests.iter().any(|known| known.digest == entry.digest) {
            return Ok(());
        }
        index.manifests.push(entry.clone());
        if index.manifests.len() > MAX_INDEX_MANIFESTS {
            let (value, limit) = (index.manifests.len() as u64, MAX_INDEX_MANIFESTS as u64);
            return Err(format_error(FormatError::Limit { part: "referrers of a manifest", value, limit }));
        }
        if !target.put_tag(&tag, media::INDEX, &index.to_bytes())? {
            break;
        }
    }
    let reason = "the list of referrers cannot be kept: the tag is not stored, or somebody else goes on writing it";
    Err(SourceFault::Target { reason }.at(target.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fallback_tag_is_told_from_others() {
        let tag = fallback_tag(Digest::of(b"x"));
        assert!(is_fallback_tag(&tag));
        for other in ["sha256-", "latest", &tag[1..], &format!("{tag}0"), &tag.to_uppercase(), &tag.replace('-', ":")] {
            assert!(!is_fallback_tag(other), "{other}");
        }
    }
}
