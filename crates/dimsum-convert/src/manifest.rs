//! Manifest and config of the new image: those of the source, with packs and meta in the place of its layers.

use dimsum_format::manifest::{Annotations, Blob, Descriptor, ImageConfig, Manifest};
use dimsum_format::{Digest, MetaRoot, codec, media};
use dimsum_source::host_platform;
use serde_json::{Map, Value, json};

use crate::options::ConvertOptions;
use crate::sharing::Sharing;

/// The history of the meta, the one layer that the source does not have.
const META_HISTORY: &str = "dimsum convert: file tree and maps";
/// The history of a pack of another image.
const FOREIGN_HISTORY: &str = "dimsum convert: file data shared with";
/// The history of a layer whose source has none.
const PACK_HISTORY: &str = "dimsum convert: file data";

/// A layer of the source in the new image.
#[derive(Debug, Clone, Default)]
pub(crate) struct SourceLayer {
    /// `diff_id` and chain id of the source; none if that is a directory.
    pub(crate) source: Option<(Digest, Digest)>,
    /// The pack, if it is listed.
    pub(crate) pack: Option<ListedPack>,
}

/// A pack that the image lists.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ListedPack {
    pub(crate) blob: Blob,
    pub(crate) diff_id: Digest,
    /// The image it was found in, if that is another one.
    pub(crate) foreign: Option<Digest>,
}

/// The fields of a manifest about the making of its image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ManifestOrigin<'a> {
    /// The manifest that was converted, if it was one.
    pub(crate) source: Option<Digest>,
    pub(crate) options: &'a ConvertOptions,
    pub(crate) sharing: &'a Sharing<'a>,
}

/// The meta.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MetaLayer {
    pub(crate) blob: Blob,
    pub(crate) diff_id: Digest,
    pub(crate) root: MetaRoot,
}

/// Returns the config of an image that has none: this machine's platform and nothing to start.
pub(crate) fn new_config() -> ImageConfig {
    let platform = host_platform();
    let mut object = Map::new();
    object.insert("architecture".to_owned(), json!(platform.architecture));
    object.insert("os".to_owned(), json!(platform.os));
    object.insert("config".to_owned(), json!({}));
    ImageConfig::from_object(object)
}

/// Changes a source's config to describe the new layers.
pub(crate) fn adapt_config(config: &mut ImageConfig, foreign: &[ListedPack], layers: &[SourceLayer], meta: &MetaLayer) {
    let packs = foreign.iter().copied().chain(layers.iter().filter_map(|layer| layer.pack));
    let diff_ids = packs.map(|pack| pack.diff_id).chain([meta.diff_id]);
    let diff_ids: Vec<_> = diff_ids.map(|diff_id| Value::String(diff_id.to_string())).collect();
    let object = config.object_mut();
    let from = foreign.iter().filter_map(|pack| pack.foreign);
    let mut history: Vec<Value> =
        from.map(|image| json!({ "created_by": format!("{FOREIGN_HISTORY} {image}") })).collect();
    history.extend(self::history(object.get("history"), layers));
    history.push(json!({ "created_by": META_HISTORY }));
    object.insert("rootfs".to_owned(), json!({ "type": "layers", "diff_ids": diff_ids }));
    object.insert("history".to_owned(), Value::Array(history));
}

/// Marks layers without a listed pack as empty. A history that does not fit the layers is replaced.
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

/// Returns the manifest of the new image: packs of other images, its own in the order of the layers, the meta.
pub(crate) fn new_manifest(
    config: Blob,
    foreign: &[ListedPack],
    layers: &[SourceLayer],
    meta: &MetaLayer,
    origin: ManifestOrigin<'_>,
) -> Manifest {
    let common = Annotations::from([
        (media::ANNOTATION_META.to_owned(), meta.blob.digest.to_string()),
        (media::ANNOTATION_ROOT.to_owned(), meta.root.to_string()),
    ]);
    let pack = |pack: ListedPack, source: Option<(Digest, Digest)>| {
        let mut annotations = common.clone();
        let mut add = |key: &str, digest: Digest| annotations.insert(key.to_owned(), digest.to_string());
        if let Some((diff_id, chain_id)) = source {
            add(media::ANNOTATION_SOURCE_DIFF_ID, diff_id);
            add(media::ANNOTATION_SOURCE_CHAIN_ID, chain_id);
        }
        if let Some(image) = pack.foreign {
            add(media::ANNOTATION_FOREIGN, image);
        }
        Descriptor { annotations, ..Descriptor::new(media::PACK, pack.blob) }
    };
    let mut descriptors: Vec<Descriptor> = foreign.iter().map(|&foreign| pack(foreign, None)).collect();
    descriptors.extend(layers.iter().filter_map(|layer| Some(pack(layer.pack?, layer.source))));
    descriptors.push(Descriptor { annotations: common, ..Descriptor::new(media::META, meta.blob) });
    Manifest {
        schema_version: 2,
        media_type: Some(media::MANIFEST.to_owned()),
        artifact_type: None,
        config: Descriptor::new(media::CONFIG, config),
        layers: descriptors,
        subject: None,
        annotations: annotations(origin),
    }
}

fn annotations(origin: ManifestOrigin<'_>) -> Annotations {
    let ManifestOrigin { source, options, sharing } = origin;
    let mut annotations = Annotations::from([
        (media::ANNOTATION_FORMAT.to_owned(), "1".to_owned()),
        (media::ANNOTATION_ENCODER.to_owned(), codec::encoder_id(options.level)),
        (media::ANNOTATION_OPTIONS.to_owned(), options.canonical()),
    ]);
    let mut add = |key: &str, value: String| annotations.insert(key.to_owned(), value);
    if let Some(digest) = source {
        add(media::ANNOTATION_SOURCE_MANIFEST, digest.to_string());
    }
    if !sharing.with.is_empty() {
        let with: Vec<String> = sharing.with.iter().map(|image| image.manifest.to_string()).collect();
        add(media::ANNOTATION_DEDUP, with.join(","));
    }
    if let Some(parent) = sharing.parent {
        add(media::ANNOTATION_PARENT, parent.to_string());
    }
    annotations
}

/// Returns the chain id of a layer over that of the layers below it, as the OCI image specification defines it.
pub(crate) fn chain_id(lower: Option<Digest>, diff_id: Digest) -> Digest {
    lower.map_or(diff_id, |lower| Digest::of(format!("{lower} {diff_id}").as_bytes()))
}
