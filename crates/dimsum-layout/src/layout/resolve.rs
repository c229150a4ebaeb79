//! From a name in `index.json` to the manifest or index that it stands for.

use dimsum_format::Digest;
use dimsum_format::manifest::{Annotations, Descriptor};
use dimsum_format::media;
use dimsum_source::referrers::is_fallback_tag;
use dimsum_source::{Document, ImageName, Place, Reference, Source as _, SourceError, SourceFault};

use super::OciLayout;

impl Place for OciLayout {
    fn reference(&self) -> &Reference {
        &self.reference
    }

    fn root(&self) -> Result<Document, SourceError> {
        let (digest, annotations) = self.named()?;
        let bytes = self.read_manifest(digest)?;
        let mut document = Document::new(digest, bytes).map_err(|source| self.format_error(source))?;
        document.descriptor.annotations = annotations;
        Ok(document)
    }

    fn referrers(&self, subject: Digest, artifact_type: Option<&str>) -> Result<Vec<Descriptor>, SourceError> {
        self.list_referrers(subject, artifact_type)
    }
}

impl OciLayout {
    /// Returns the digest that the name stands for. A digest is taken as it is, whatever `index.json` lists.
    fn named(&self) -> Result<(Digest, Annotations), SourceError> {
        if let Some(ImageName::Digest(digest)) = self.name {
            return Ok((digest, Annotations::new()));
        }
        let manifests = self.index()?.manifests;
        find_named(&manifests, self.name.as_ref()).map_err(|reason| self.name_error(reason))
    }

    pub(super) fn name_error(&self, reason: String) -> SourceError {
        SourceFault::Name { reason }.at(&self.text)
    }

    pub(super) fn format_error(&self, source: dimsum_format::FormatError) -> SourceError {
        SourceFault::Format { source }.at(&self.text)
    }
}

/// Finds the entry of `index.json` that a name stands for, by its tag. Without a name it is the only entry that is no
/// list of referrers.
pub(crate) fn find_named(manifests: &[Descriptor], name: Option<&ImageName>) -> Result<(Digest, Annotations), String> {
    let wanted = match name {
        Some(ImageName::Digest(digest)) => return Ok((*digest, Annotations::new())),
        Some(ImageName::Tag(tag)) => Some(tag.as_str()),
        None => None,
    };
    let fits = |descriptor: &&Descriptor| match wanted {
        Some(_) => tag(descriptor) == wanted,
        None => !tag(descriptor).is_some_and(is_fallback_tag),
    };
    let mut found = manifests.iter().filter(fits);
    match (found.next(), found.next()) {
        (Some(only), None) => Ok((only.digest, only.annotations.clone())),
        (None, _) => Err(format!("no such image; {}", list_tags(manifests))),
        (Some(_), Some(_)) => Err(format!("the name stands for several images; {}", list_tags(manifests))),
    }
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
