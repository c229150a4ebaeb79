//! OCI manifests, indexes and configs, as far as Dimsum reads and writes them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, MetaRoot};
use crate::error::FormatError;
use crate::limits::{MAX_CONFIG_BYTES, MAX_INDEX_MANIFESTS, MAX_MANIFEST_BYTES, MAX_PACKS, MAX_SOURCE_LAYERS};
use crate::media;

/// Annotations, in key order so that documents are canonical.
pub type Annotations = BTreeMap<String, String>;

/// A reference to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type.
    pub media_type: String,
    /// SHA-256 of the blob.
    pub digest: Digest,
    /// Length of the blob in bytes.
    pub size: u64,
    /// Platform, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Artifact type, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: Annotations,
}

impl Descriptor {
    /// Describes a blob by media type, digest and size alone.
    #[must_use]
    pub fn new(media_type: &str, blob: Blob) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: blob.digest,
            size: blob.size,
            platform: None,
            artifact_type: None,
            annotations: Annotations::new(),
        }
    }
}

/// The platform of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// For example `amd64`.
    pub architecture: String,
    /// For example `linux`.
    pub os: String,
    /// For example `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Windows build; kept, not used.
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
}

/// An OCI image manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Media type; some old tools leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Artifact type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The config blob.
    pub config: Descriptor,
    /// Layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// The manifest that this one says something of: it is a referrer of that one then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: Annotations,
}

impl Manifest {
    /// Parses a manifest.
    ///
    /// # Errors
    /// If it is too long, no manifest, or has too many layers.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let manifest: Self = parse_json("manifest", bytes, MAX_MANIFEST_BYTES)?;
        limit("layers of the manifest", manifest.layers.len(), MAX_SOURCE_LAYERS)?;
        Ok(manifest)
    }

    /// Returns the canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers always serialize")
    }

    /// Says whether this is a Dimsum image: its last layer is a meta.
    #[must_use]
    pub fn is_dimsum(&self) -> bool {
        self.layers.last().is_some_and(|layer| layer.media_type == media::META)
    }
}

/// An OCI image index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// Media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The manifests.
    pub manifests: Vec<Descriptor>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: Annotations,
}

impl Index {
    /// Parses an index.
    ///
    /// # Errors
    /// If it is too long, no index, or has too many manifests.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let index: Self = parse_json("index", bytes, MAX_MANIFEST_BYTES)?;
        limit("manifests of the index", index.manifests.len(), MAX_INDEX_MANIFESTS)?;
        Ok(index)
    }

    /// Returns the canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers always serialize")
    }
}

/// An image config, kept as JSON: what we do not know we keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageConfig(serde_json::Map<String, serde_json::Value>);

impl ImageConfig {
    /// Parses a config.
    ///
    /// # Errors
    /// If it is too long or not a JSON object.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        parse_json("config", bytes, MAX_CONFIG_BYTES).map(Self)
    }

    /// Wraps an object.
    #[must_use]
    pub const fn from_object(object: serde_json::Map<String, serde_json::Value>) -> Self {
        Self(object)
    }

    /// Returns the object.
    #[must_use]
    pub const fn object(&self) -> &serde_json::Map<String, serde_json::Value> {
        &self.0
    }

    /// Returns the object for changes.
    pub const fn object_mut(&mut self) -> &mut serde_json::Map<String, serde_json::Value> {
        &mut self.0
    }

    /// Returns the bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.0).expect("a JSON object always serializes")
    }

    /// Returns `rootfs.diff_ids`.
    ///
    /// # Errors
    /// If they are missing or not digests.
    pub fn diff_ids(&self) -> Result<Vec<Digest>, FormatError> {
        let list = self.0.get("rootfs").and_then(|rootfs| rootfs.get("diff_ids")).and_then(|ids| ids.as_array());
        let list = list.ok_or(FormatError::NotDimsum { reason: "the config has no rootfs.diff_ids" })?;
        let parse = |id: &serde_json::Value| {
            let text = id.as_str().unwrap_or_default();
            text.parse().map_err(|source| FormatError::DigestText { part: "rootfs.diff_ids", source })
        };
        list.iter().map(parse).collect()
    }
}

/// A blob of a Dimsum image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    /// SHA-256 of the blob.
    pub digest: Digest,
    /// Length in bytes.
    pub size: u64,
}

/// The manifest of a Dimsum image, checked: what the runtime needs of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DimsumManifest {
    /// The config blob.
    pub config: Blob,
    /// Packs in order: device k of the meta is `packs[k]`.
    pub packs: Vec<Blob>,
    /// The meta blob.
    pub meta: Blob,
    /// The root of trust.
    pub root: MetaRoot,
}

impl DimsumManifest {
    /// Takes the needed fields of a parsed manifest.
    ///
    /// # Errors
    /// If it is not the manifest of a Dimsum image of version 1, or its layers disagree on meta and root.
    pub fn new(manifest: &Manifest) -> Result<Self, FormatError> {
        let Some((meta, packs)) = manifest.layers.split_last() else {
            return Err(FormatError::NotDimsum { reason: "the manifest has no layers" });
        };
        if meta.media_type != media::META {
            return Err(FormatError::NotDimsum { reason: "the last layer is not a meta" });
        }
        if manifest.annotations.get(media::ANNOTATION_FORMAT).map(String::as_str) != Some("1") {
            return Err(FormatError::NotDimsum { reason: "the annotation io.dimsum.format is not 1" });
        }
        limit("packs of an image", packs.len(), MAX_PACKS)?;
        let root = layer_annotation(meta, media::ANNOTATION_ROOT)?;
        let root = root.parse().map_err(|source| FormatError::DigestText { part: "meta root", source })?;
        let meta_digest = meta.digest.to_string();
        for layer in &manifest.layers {
            let same = layer_annotation(layer, media::ANNOTATION_META)? == meta_digest
                && layer_annotation(layer, media::ANNOTATION_ROOT)?.parse() == Ok(root);
            if !same {
                return Err(FormatError::NotDimsum { reason: "its layers name different metas or meta roots" });
            }
        }
        if packs.iter().any(|pack| pack.media_type != media::PACK) {
            return Err(FormatError::NotDimsum { reason: "a layer before the meta is not a pack" });
        }
        let blob = |descriptor: &Descriptor| Blob { digest: descriptor.digest, size: descriptor.size };
        Ok(Self { config: blob(&manifest.config), packs: packs.iter().map(blob).collect(), meta: blob(meta), root })
    }
}

fn layer_annotation<'a>(layer: &'a Descriptor, key: &str) -> Result<&'a str, FormatError> {
    let value = layer.annotations.get(key).map(String::as_str);
    value.ok_or(FormatError::NotDimsum { reason: "a layer has no annotation with the meta or its root" })
}

fn parse_json<T: for<'de> Deserialize<'de>>(part: &'static str, bytes: &[u8], max: u64) -> Result<T, FormatError> {
    if bytes.len() as u64 > max {
        return Err(FormatError::Limit { part, value: bytes.len() as u64, limit: max });
    }
    serde_json::from_slice(bytes).map_err(|source| FormatError::Json { part, source })
}

const fn limit(part: &'static str, value: usize, max: usize) -> Result<(), FormatError> {
    if value > max {
        return Err(FormatError::Limit { part, value: value as u64, limit: max as u64 });
    }
    Ok(())
}
