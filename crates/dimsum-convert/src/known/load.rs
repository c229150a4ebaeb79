//! Loads the packs of images that the caller names.

use std::collections::HashSet;

use dimsum_format::limits::MAX_CONFIG_BYTES;
use dimsum_format::manifest::{Blob, Descriptor, DimsumManifest, ImageConfig, Manifest};
use dimsum_format::{Digest, FormatError, media};
use dimsum_recipe::temporary::TemporaryFiles;
use dimsum_source::{ErrorKind, Source, SourceFault};

use super::describe::describe;
use super::packs::KnownPack;
use crate::error::ConvertError;
use crate::sharing::{KnownImage, Refusals, RefusedPack};

/// Images whose packs are looked at: the whole corpus of a team, and a bound for a list that a script made.
const MAX_IMAGES: usize = 256;
/// Chunks and small files of all packs together: about 50 bytes of memory each, so 200 MB.
const MAX_ROWS: u64 = 1 << 22;

/// A pack as its image's manifest and config name it.
#[derive(Debug, Clone)]
pub(crate) struct ListedPacks {
    pub(crate) blob: Blob,
    pub(crate) diff_id: Digest,
    /// Source layer and chain id.
    pub(crate) of: Option<(Digest, Digest)>,
    /// Taken from another image when that was converted.
    pub(crate) foreign: bool,
}

/// The description of an image before its packs are read.
#[derive(Debug)]
pub(crate) struct ListedImage {
    pub(crate) manifest: Manifest,
    pub(crate) packs: Vec<ListedPacks>,
}

/// Reads manifest and config of a Dimsum image.
pub(crate) fn list(image: &KnownImage<'_>) -> Result<ListedImage, ConvertError> {
    let digest = image.manifest;
    let failed = |object, digest| move |source| ConvertError::Document { object, digest, source: Box::new(source) };
    let bytes = image.source.read_manifest(digest)?;
    let manifest = Manifest::parse(&bytes).map_err(failed("manifest", digest))?;
    let dimsum = DimsumManifest::new(&manifest).map_err(failed("manifest", digest))?;
    let config_digest = dimsum.config.digest;
    let config = image.source.read_small("config", config_digest, MAX_CONFIG_BYTES)?;
    let config = ImageConfig::parse(&config).map_err(failed("config", config_digest))?;
    let diff_ids = config.diff_ids().map_err(failed("config", config_digest))?;
    if diff_ids.len() != manifest.layers.len() {
        return Err(ConvertError::LayerCount { digest, layers: manifest.layers.len(), diff_ids: diff_ids.len() });
    }
    let packs = dimsum.packs.iter().zip(&manifest.layers).zip(diff_ids);
    let packs = packs.map(|((&blob, layer), diff_id)| ListedPacks {
        blob,
        diff_id,
        of: made_of(layer),
        foreign: layer.annotations.contains_key(media::ANNOTATION_FOREIGN),
    });
    Ok(ListedImage { packs: packs.collect(), manifest })
}

/// Returns the source layer and chain id that a pack is marked with.
pub(crate) fn made_of(layer: &Descriptor) -> Option<(Digest, Digest)> {
    let digest = |key| layer.annotations.get(key)?.parse().ok();
    Some((digest(media::ANNOTATION_SOURCE_DIFF_ID)?, digest(media::ANNOTATION_SOURCE_CHAIN_ID)?))
}

/// Reads the descriptions of all packs of some images, each pack once, with where it is. A pack that does not describe
/// itself as the format requires is left out and reported.
pub(crate) fn load<'s>(
    images: &[KnownImage<'s>],
    temporaries: &TemporaryFiles,
    refused: &mut Refusals,
) -> Result<Vec<(KnownPack, &'s dyn Source)>, ConvertError> {
    let (mut packs, mut seen, mut rows) = (Vec::new(), HashSet::new(), 0);
    for image in images.iter().take(MAX_IMAGES) {
        let name = format!("{} {}", image.source.name(), image.manifest);
        if refused.hold(&name) {
            continue;
        }
        let listed = match list(image) {
            Ok(listed) => listed.packs,
            Err(error) => {
                refused.add(refuse(name, error)?);
                continue;
            }
        };
        for pack in listed {
            let what = format!("pack {} of {name}", pack.blob.digest);
            // No more packs than numbers for them.
            if refused.hold(&what) || packs.len() >= usize::from(u16::MAX / 2) || !seen.insert(pack.blob.digest) {
                continue;
            }
            let known = match describe(image.source, pack.blob, temporaries) {
                Ok(described) => {
                    let source_name = image.source.name().to_owned();
                    KnownPack::new(source_name, image.manifest, pack.blob, pack.diff_id, pack.of, described)
                }
                Err(error) => {
                    refused.add(refuse(what, error)?);
                    continue;
                }
            };
            if rows + known.rows() > MAX_ROWS {
                let reason = format!("more than {MAX_ROWS} chunks and files to share with: name fewer images");
                refused.add(RefusedPack { what, reason });
                continue;
            }
            rows += known.rows();
            packs.push((known, image.source));
        }
    }
    for image in images.iter().skip(MAX_IMAGES) {
        let what = format!("{} {}", image.source.name(), image.manifest);
        refused.add(RefusedPack { what, reason: format!("only {MAX_IMAGES} images are looked at") });
    }
    Ok(packs)
}

/// Lets all be done again without something that is gone or damaged, though it was there and right when it was
/// looked at.
pub(crate) fn without(what: String, error: ConvertError) -> ConvertError {
    match refuse(what, error) {
        Ok(RefusedPack { what, reason }) => ConvertError::Reuse { what, reason },
        Err(error) => error,
    }
}

/// A malformed pack is left out; an unreachable one, or a cancel, ends the conversion.
pub(crate) fn refuse(what: String, error: ConvertError) -> Result<RefusedPack, ConvertError> {
    let wrong = match &error {
        ConvertError::Registry(source) => {
            matches!(source.kind(), ErrorKind::Integrity | ErrorKind::NotFound | ErrorKind::Limit)
                || matches!(source.detail(), Some(SourceFault::Range { .. }))
        }
        ConvertError::Cancelled | ConvertError::Temporary { .. } => false,
        _ => true,
    };
    if !wrong {
        return Err(error);
    }
    let reason = match &error {
        ConvertError::Document { source, .. } if matches!(**source, FormatError::NotDimsum { .. }) => {
            "it is not a Dimsum image: convert it first".to_owned()
        }
        other => other.to_string(),
    };
    Ok(RefusedPack { what, reason })
}
