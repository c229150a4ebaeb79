//! Manifest and config: what was there, with our layers in the place of the old ones.

use dimsum_format::manifest::{Annotations, Blob, Config, Descriptor, Manifest};
use dimsum_format::{Digest, MetaRoot, codec, media};
use dimsum_registry::host_platform;
use serde_json::{Map, Value, json};

use crate::options::Options;

/// What history says of the meta, the one layer the source does not have.
const META_HISTORY: &str = "dimsum convert: file tree and maps";
/// What history says of a layer whose source says nothing.
const PACK_HISTORY: &str = "dimsum convert: file data";

/// A layer of the source in the new image.
#[derive(Debug, Clone, Default)]
pub(crate) struct SourceLayer {
    /// `diff_id` and chain id of the source; none if that is a directory.
    pub(crate) source: Option<(Digest, Digest)>,
    /// The pack and its `diff_id`, if it is listed.
    pub(crate) pack: Option<(Blob, Digest)>,
}

/// The meta.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MetaLayer {
    pub(crate) blob: Blob,
    pub(crate) diff_id: Digest,
    pub(crate) root: MetaRoot,
}

/// Returns the config of an image that has none: this machine's platform and nothing to start.
pub(crate) fn new_config() -> Config {
    let platform = host_platform();
    let mut object = Map::new();
    object.insert("architecture".to_owned(), json!(platform.architecture));
    object.insert("os".to_owned(), json!(platform.os));
    object.insert("config".to_owned(), json!({}));
    Config::from_object(object)
}

/// Changes a source's config to describe the new layers.
pub(crate) fn adapt_config(config: &mut Config, layers: &[SourceLayer], meta: &MetaLayer) {
    let packs = layers.iter().filter_map(|layer| layer.pack).map(|(_, diff_id)| diff_id);
    let diff_ids: Vec<_> = packs.chain([meta.diff_id]).map(|diff_id| Value::String(diff_id.to_string())).collect();
    let object = config.object_mut();
    let mut history = history(object.get("history"), layers);
    history.push(json!({ "created_by": META_HISTORY }));
    object.insert("rootfs".to_owned(), json!({ "type": "layers", "diff_ids": diff_ids }));
    object.insert("history".to_owned(), Value::Array(history));
}

/// Marks what is not listed as empty. A history that does not fit the layers is replaced.
fn history(source: Option<&Value>, layers: &[SourceLayer]) -> Vec<Value> {
    let source = source.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let is_empty = |entry: &&Value| entry.get("empty_layer").and_then(Value::as_bool) == Some(true);
    let fits =
        source.iter().all(Value::is_object) && source.iter().filter(|entry| !is_empty(entry)).count() == layers.len();
    if !fits {
        let listed = layers.iter().filter(|layer| layer.pack.is_some());
        return listed.map(|_| json!({ "created_by": PACK_HISTORY })).collect();
    }
    let mut layers = layers.iter();
    let mut history = source.to_vec();
    for entry in &mut history {
        if is_empty(&&*entry) {
            continue;
        }
        let listed = layers.next().is_some_and(|layer| layer.pack.is_some());
        if let (false, Some(entry)) = (listed, entry.as_object_mut()) {
            entry.insert("empty_layer".to_owned(), Value::Bool(true));
        }
    }
    history
}

/// Returns the manifest of the new image.
pub(crate) fn new_manifest(
    config: Blob,
    layers: &[SourceLayer],
    meta: &MetaLayer,
    source: Option<Digest>,
    options: &Options,
) -> Manifest {
    let common = Annotations::from([
        (media::ANNOTATION_META.to_owned(), meta.blob.digest.to_string()),
        (media::ANNOTATION_ROOT.to_owned(), meta.root.to_string()),
    ]);
    let mut descriptors = Vec::new();
    for layer in layers {
        let Some((blob, _)) = layer.pack else { continue };
        let mut annotations = common.clone();
        if let Some((diff_id, chain_id)) = layer.source {
            annotations.insert(media::ANNOTATION_SOURCE_DIFF_ID.to_owned(), diff_id.to_string());
            annotations.insert(media::ANNOTATION_SOURCE_CHAIN_ID.to_owned(), chain_id.to_string());
        }
        descriptors.push(Descriptor { annotations, ..Descriptor::new(media::PACK, blob) });
    }
    descriptors.push(Descriptor { annotations: common, ..Descriptor::new(media::META, meta.blob) });
    let mut annotations = Annotations::from([
        (media::ANNOTATION_FORMAT.to_owned(), "1".to_owned()),
        (media::ANNOTATION_ENCODER.to_owned(), codec::encoder_id(options.level)),
        (media::ANNOTATION_OPTIONS.to_owned(), options.canonical()),
    ]);
    if let Some(digest) = source {
        annotations.insert(media::ANNOTATION_SOURCE_MANIFEST.to_owned(), digest.to_string());
    }
    Manifest {
        schema_version: 2,
        media_type: Some(media::MANIFEST.to_owned()),
        artifact_type: None,
        subject: None,
        config: Descriptor::new(media::CONFIG, config),
        layers: descriptors,
        annotations,
    }
}

/// Returns the chain id of a layer over that of the layers below it, as the OCI image specification defines it.
pub(crate) fn chain_id(lower: Option<Digest>, diff_id: Digest) -> Digest {
    lower.map_or(diff_id, |lower| Digest::of(format!("{lower} {diff_id}").as_bytes()))
}
