//! Reading what `docker save` (and skopeo) writes: `manifest.json` names config and layers of each image.
//!
//! There are no digests in it but the config's `diff_ids`. A layer that is a plain tar is a blob of its diff_id. Its
//! reader checks that, so nothing is hashed here. A compressed layer (newer dockers save layers as they have them) is
//! read once, for the digest of its blob.

use std::io;
use std::ops::Range;
use std::path::Path;

use dimsum_format::limits::{MAX_CONFIG_BYTES, MAX_INDEX_MANIFESTS, MAX_SOURCE_LAYERS};
use dimsum_format::manifest::{Annotations, Blob, Descriptor, ImageConfig, Manifest};
use dimsum_format::{Digest, FormatError, media};
use dimsum_source::{ImageName, Reference, SourceError, SourceFault, parse_image_name};
use dimsum_tree::Compression;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Archive;
use super::content::Content;
use super::fault::ArchiveFault;
use super::members::{Members, clean};
use crate::schemes::DOCKER_ARCHIVE;

/// The listing of such an archive.
pub(super) const MANIFEST: &str = "manifest.json";

/// An image in the listing.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Saved {
    /// Member with the config.
    pub(super) config: String,
    /// Names of the image; null if it has none.
    pub(super) repo_tags: Option<Vec<String>>,
    /// Members with the layers, lowest first; null if it has none.
    pub(super) layers: Option<Vec<String>>,
}

pub(super) fn open(file: &Path, name: Option<String>) -> Result<Archive, SourceError> {
    let reference = Reference::in_files(DOCKER_ARCHIVE.name, file, name.clone().map(ImageName::Tag));
    let (mut content, members) = Content::open(file, reference.to_string())?;
    let name_error = |reason| SourceFault::Name { reason }.at(&content.text);
    let Some(listing) = members.file(MANIFEST) else {
        return Err(name_error(missing(&members)));
    };
    let listing = content.listing(MANIFEST, listing)?;
    let format_error = |source| SourceFault::Format { source }.at(&content.text);
    let json = |source| FormatError::Json { part: MANIFEST, source };
    let images: Vec<Saved> = serde_json::from_slice(&listing).map_err(json).map_err(format_error)?;
    limit("images of the archive", images.len(), MAX_INDEX_MANIFESTS).map_err(format_error)?;
    let image = pick(&images, name.as_deref()).map_err(name_error)?;
    let layers = image.layers.as_deref().unwrap_or_default();
    limit("layers of the image", layers.len(), MAX_SOURCE_LAYERS).map_err(format_error)?;

    let find = |member: &String| {
        let found = clean(member).and_then(|name| members.file_or_link(name));
        let reason = "manifest.json names it, but there is no such file in the archive";
        let (source_name, member) = (content.text.clone(), member.clone());
        found.ok_or_else(|| ArchiveFault { member, offset: 0, reason }.at(source_name))
    };
    let config_range = find(&image.config)?;
    let layers = layers.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    let config = content.document("config", config_range.clone(), MAX_CONFIG_BYTES)?;
    let config_digest = Digest::of(&config);
    let diff_ids = ImageConfig::parse(&config).and_then(|config| config.diff_ids()).map_err(format_error)?;
    if diff_ids.len() != layers.len() {
        let (said, is) = (diff_ids.len() as u64, layers.len() as u64);
        return Err(format_error(FormatError::Mismatch { part: "number of layers, by diff_ids", said, is }));
    }
    let mut descriptors = Vec::new();
    for (range, diff_id) in layers.into_iter().zip(diff_ids) {
        let descriptor = layer(&content, &range, diff_id)?;
        content.store(descriptor.digest, range);
        descriptors.push(descriptor);
    }
    content.store(config_digest, config_range);
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media::MANIFEST.to_owned()),
        artifact_type: None,
        subject: None,
        config: Descriptor::new(media::CONFIG, Blob { digest: config_digest, size: config.len() as u64 }),
        layers: descriptors,
        annotations: Annotations::new(),
    };
    let root = content.make(manifest.to_bytes());
    Ok(Archive { reference, content, root, annotations: Annotations::new() })
}

/// Describes a layer by its first bytes.
fn layer(content: &Content, range: &Range<u64>, diff_id: Digest) -> Result<Descriptor, SourceError> {
    let size = range.end - range.start;
    let start = content.document("layer", range.start..range.end.min(range.start + 4), 4)?;
    let media_type = match Compression::sniff(&start) {
        Compression::Plain => return Ok(Descriptor::new(media::LAYER_TAR, Blob { digest: diff_id, size })),
        Compression::Gzip => media::LAYER_GZIP,
        Compression::Zstd => media::LAYER_ZSTD,
    };
    let mut hasher = Hasher(Sha256::new());
    io::copy(&mut content.member(range.clone()), &mut hasher).map_err(|error| content.io_error(error))?;
    let digest = Digest::new(hasher.0.finalize().into());
    Ok(Descriptor::new(media_type, Blob { digest, size }))
}

/// Finds an image by its name; without a name, the only one.
fn pick<'i>(images: &'i [Saved], name: Option<&str>) -> Result<&'i Saved, String> {
    let has = |image: &&Saved| {
        name.is_none_or(|name| image.repo_tags.iter().flatten().any(|tag| canonical(tag) == canonical(name)))
    };
    let mut found = images.iter().filter(has);
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) if name.is_some() => Err("the archive has this name twice".to_owned()),
        (Some(_), Some(_)) => Err(format!("the name stands for several images; {}", list(images))),
        (None, _) => Err(format!("no such image; {}", list(images))),
    }
}

/// Returns a name as docker understands it: `redis` is `docker.io/library/redis:latest`.
pub(super) fn canonical(name: &str) -> String {
    match parse_image_name(name) {
        Ok((repository, name)) => format!("{repository}{name}"),
        Err(_) => name.to_owned(),
    }
}

fn list(images: &[Saved]) -> String {
    /// Names that an error lists at most.
    const SHOWN: usize = 20;
    let tags: Vec<&str> = images.iter().flat_map(|image| image.repo_tags.iter().flatten()).map(|tag| &**tag).collect();
    match tags.get(SHOWN..) {
        _ if images.is_empty() => "the archive is empty".to_owned(),
        _ if tags.is_empty() => format!("there are {} images without a name", images.len()),
        Some(rest) if !rest.is_empty() => {
            format!("there is: {} and {} more", tags.get(..SHOWN).unwrap_or_default().join(", "), rest.len())
        }
        _ => format!("there is: {}", tags.join(", ")),
    }
}

fn missing(members: &Members) -> String {
    let hint = if members.file(super::oci::INDEX).is_some() {
        "; it is an OCI layout: write oci-archive:FILE"
    } else if members.file("repositories").is_some() {
        "; it was saved by a docker before 1.10, load it with a newer one and save it again"
    } else {
        ""
    };
    format!("not an archive of docker: it has no {MANIFEST}{hint}")
}

const fn limit(part: &'static str, value: usize, limit: usize) -> Result<(), FormatError> {
    if value > limit {
        return Err(FormatError::Limit { part, value: value as u64, limit: limit as u64 });
    }
    Ok(())
}

/// Takes bytes only to hash them.
struct Hasher(Sha256);

impl io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
