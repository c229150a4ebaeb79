//! The manifest that lists an image's recipes: a referrer of the Dimsum image.

use dimsum_format::manifest::{Annotations, Blob, Descriptor, Manifest};
use dimsum_format::{Digest, media};
use dimsum_recipe::RecipeError;
use dimsum_recipe::limits::MAX_BLOBS;

use super::keep::Gives;

/// The config of an artifact that needs none.
pub(super) const EMPTY: &[u8] = b"{}";

/// A part of the artifact, as it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecipeEntry {
    /// Digest of the source layer.
    pub(crate) layer: Digest,
    pub(crate) diff_id: Digest,
    pub(crate) recipe: Blob,
}

/// The checked list of the manifest.
#[derive(Debug)]
pub(crate) struct OriginalArtifact {
    /// The original manifest with its media type, and the original config.
    pub(crate) manifest: (Blob, String),
    pub(crate) config: Blob,
    /// A recipe for each layer, lowest first.
    pub(crate) layers: Vec<RecipeEntry>,
    /// Packs that the image does not list and recipes refer to.
    pub(crate) packs: Vec<Blob>,
}

impl OriginalArtifact {
    /// Returns the bytes of the manifest.
    pub(super) fn to_bytes(&self, gives: &[Gives], subject: Descriptor) -> Vec<u8> {
        let with = |media_type: &str, blob: Blob, annotations: Annotations| Descriptor {
            annotations,
            ..Descriptor::new(media_type, blob)
        };
        let (manifest, media_type) = &self.manifest;
        let media_type = Annotations::from([(media::ANNOTATION_ORIGINAL_MEDIA_TYPE.to_owned(), media_type.clone())]);
        let mut layers = vec![
            with(media::ORIGINAL_MANIFEST, *manifest, media_type),
            Descriptor::new(media::ORIGINAL_CONFIG, self.config),
        ];
        for (number, (layer, gives)) in self.layers.iter().zip(gives).enumerate() {
            let annotations = [
                (media::ANNOTATION_ORIGINAL_LAYER, number.to_string()),
                (media::ANNOTATION_ORIGINAL_DIGEST, layer.layer.to_string()),
                (media::ANNOTATION_ORIGINAL_DIFF_ID, layer.diff_id.to_string()),
                (media::ANNOTATION_ORIGINAL_GIVES, gives.word().to_owned()),
            ];
            let annotations = annotations.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
            layers.push(with(media::ORIGINAL_RECIPE, layer.recipe, annotations));
        }
        layers.extend(self.packs.iter().map(|&pack| Descriptor::new(media::PACK, pack)));
        let empty = Blob { digest: Digest::of(EMPTY), size: EMPTY.len() as u64 };
        Manifest {
            schema_version: 2,
            media_type: Some(media::MANIFEST.to_owned()),
            artifact_type: Some(media::ORIGINAL.to_owned()),
            config: Descriptor::new(media::EMPTY, empty),
            layers,
            subject: Some(subject),
            annotations: Annotations::new(),
        }
        .to_bytes()
    }

    /// Reads the manifest of a referrer of `subject`.
    pub(crate) fn parse(bytes: &[u8], subject: Digest) -> Result<Self, RecipeError> {
        let wrong = |reason| RecipeError::Document { reason };
        let manifest = Manifest::parse(bytes).map_err(|_| wrong("the referrer is no manifest"))?;
        if manifest.artifact_type.as_deref() != Some(media::ORIGINAL) {
            return Err(wrong("the referrer has another type"));
        }
        if manifest.subject.is_none_or(|said| said.digest != subject) {
            return Err(wrong("the referrer speaks of another image"));
        }
        if manifest.layers.len() > MAX_BLOBS {
            let value = manifest.layers.len() as u64;
            return Err(RecipeError::Limit { part: "blobs of the referrer", value, limit: MAX_BLOBS as u64 });
        }
        let (mut document, mut config) = (None, None);
        let (mut layers, mut packs) = (Vec::new(), Vec::new());
        for layer in manifest.layers {
            let blob = Blob { digest: layer.digest, size: layer.size };
            let said = |key: &str| layer.annotations.get(key).map(String::as_str);
            match &*layer.media_type {
                media::ORIGINAL_MANIFEST => {
                    let media_type = said(media::ANNOTATION_ORIGINAL_MEDIA_TYPE).unwrap_or(media::MANIFEST);
                    document = Some((blob, media_type.to_owned()));
                }
                media::ORIGINAL_CONFIG => config = Some(blob),
                media::ORIGINAL_RECIPE => {
                    let digest = |key| said(key).and_then(|text| text.parse().ok());
                    let (Some(of), Some(diff_id)) =
                        (digest(media::ANNOTATION_ORIGINAL_DIGEST), digest(media::ANNOTATION_ORIGINAL_DIFF_ID))
                    else {
                        return Err(wrong("a recipe does not say of which layer it is"));
                    };
                    layers.push(RecipeEntry { layer: of, diff_id, recipe: blob });
                }
                media::PACK => packs.push(blob),
                // What a later version adds.
                _ => {}
            }
        }
        Ok(Self {
            manifest: document.ok_or_else(|| wrong("the referrer has no original manifest"))?,
            config: config.ok_or_else(|| wrong("the referrer has no original config"))?,
            layers,
            packs,
        })
    }
}
