//! From a name to the digest of one image's manifest.

use dimsum_format::Digest;
use dimsum_format::limits::MAX_MANIFEST_BYTES;
use dimsum_format::manifest::{Descriptor, Index, Manifest, Platform};
use dimsum_format::media;

use super::OciLayout;
use crate::error::SourceError;
use crate::platform;
use crate::reference::ImageName;
use crate::source::Source as _;

/// Indexes inside of indexes that are followed: the specification allows any number, tools write one.
const MAX_NESTING: usize = 4;

/// One image of a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedImage {
    /// Digest of the manifest.
    pub digest: Digest,
    /// What the index says of it.
    pub descriptor: Descriptor,
}

impl OciLayout {
    /// Finds the image that the layout was opened for. Where a name stands for several platforms, `wanted` picks.
    ///
    /// # Errors
    /// If there is no such image, or several: the error lists what there is.
    pub fn resolve(&self, wanted: &Platform) -> Result<ResolvedImage, SourceError> {
        let mut descriptor = self.named()?;
        for _ in 0..MAX_NESTING {
            if !is_index(&descriptor) {
                return Ok(ResolvedImage { digest: descriptor.digest, descriptor });
            }
            let bytes = self.read_small("index", descriptor.digest, MAX_MANIFEST_BYTES)?;
            let index = Index::parse(&bytes).map_err(|source| self.format_error(source))?;
            descriptor = self.pick(index.manifests, wanted)?;
        }
        Err(self.name_error("indexes are nested too deep".to_owned()))
    }

    /// Returns the descriptor that the name stands for.
    fn named(&self) -> Result<Descriptor, SourceError> {
        if let Some(ImageName::Digest(digest)) = self.name {
            return self.pinned(digest);
        }
        let manifests = self.index()?.manifests;
        let wanted = match &self.name {
            Some(ImageName::Tag(tag)) => Some(tag.as_str()),
            _ => None,
        };
        let mut found = manifests.iter().filter(|descriptor| wanted.is_none() || tag(descriptor) == wanted);
        match (found.next(), found.next()) {
            (Some(only), None) => Ok(only.clone()),
            (None, _) => Err(self.name_error(format!("no such image; {}", list_tags(&manifests)))),
            (Some(_), Some(_)) => {
                Err(self.name_error(format!("this stands for several images; {}", list_tags(&manifests))))
            }
        }
    }

    /// Returns a descriptor of a manifest or index that is there, whatever `index.json` lists.
    fn pinned(&self, digest: Digest) -> Result<Descriptor, SourceError> {
        let bytes = self.read_small("manifest", digest, MAX_MANIFEST_BYTES)?;
        let (media_type, default) = match Manifest::parse(&bytes) {
            Ok(manifest) => (manifest.media_type, media::MANIFEST),
            Err(error) => match Index::parse(&bytes) {
                Ok(index) => (index.media_type, media::INDEX),
                Err(_) => return Err(self.format_error(error)),
            },
        };
        Ok(Descriptor {
            media_type: media_type.unwrap_or_else(|| default.to_owned()),
            digest,
            size: bytes.len() as u64,
            platform: None,
            artifact_type: None,
            annotations: Default::default(),
        })
    }

    fn pick(&self, manifests: Vec<Descriptor>, wanted: &Platform) -> Result<Descriptor, SourceError> {
        let fits =
            |descriptor: &&Descriptor| descriptor.platform.as_ref().is_some_and(|has| platform::fits(has, wanted));
        if let Some(found) = manifests.iter().find(fits) {
            return Ok(found.clone());
        }
        match &*manifests {
            // Nothing to choose from, and nothing said against it.
            [only] if only.platform.is_none() => Ok(only.clone()),
            _ => {
                let mut offered: Vec<_> =
                    manifests.iter().filter_map(|each| each.platform.as_ref()).map(platform::text).collect();
                offered.sort_unstable();
                offered.dedup();
                let wanted = platform::text(wanted);
                Err(self.name_error(format!("no image for {wanted}; there is: {}", offered.join(", "))))
            }
        }
    }

    pub(super) fn name_error(&self, reason: String) -> SourceError {
        SourceError::Name { source_name: self.text.clone(), reason }
    }

    pub(super) fn format_error(&self, source: dimsum_format::FormatError) -> SourceError {
        SourceError::Format { source_name: self.text.clone(), source }
    }
}

fn is_index(descriptor: &Descriptor) -> bool {
    matches!(&*descriptor.media_type, media::INDEX | media::DOCKER_INDEX)
}

fn tag(descriptor: &Descriptor) -> Option<&str> {
    descriptor.annotations.get(media::ANNOTATION_REF_NAME).map(String::as_str)
}

/// A list for an error, of bounded length.
fn list_tags(manifests: &[Descriptor]) -> String {
    /// Tags that an error lists at most.
    const SHOWN: usize = 20;
    let tags: Vec<_> = manifests.iter().filter_map(tag).collect();
    match tags.get(SHOWN..) {
        _ if manifests.is_empty() => "the layout is empty".to_owned(),
        _ if tags.is_empty() => format!("there are {} images without a tag, name one by @sha256:…", manifests.len()),
        Some(rest) if !rest.is_empty() => {
            format!("there is: {} and {} more", tags.get(..SHOWN).unwrap_or_default().join(", "), rest.len())
        }
        _ => format!("there is: {}", tags.join(", ")),
    }
}
