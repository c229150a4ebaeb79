//! Manifest and config of the exported image: those of the source, without the additions of a Dimsum image.

use dimsum_format::manifest::{Annotations, Blob, Descriptor, DimsumManifest, ImageConfig, Manifest};
use dimsum_format::{Digest, media};
use serde_json::{Value, json};

use super::open::ExportImage;
use crate::error::ConvertError;

/// Prefixes of our annotations.
const OURS: [&str; 2] = ["io.dimsum.", "containerd.io/snapshot/dimsum."];

/// The history of a layer that had none.
const LAYER_HISTORY: &str = "dimsum export: file data";
/// The history of the layer with the whole tree.
const FLAT_HISTORY: &str = "dimsum export: the whole file tree";
/// The history of the last layer.
const FIX_UP_HISTORY: &str = "dimsum export: what the layers leave open";

/// Which layers there are.
#[derive(Clone, Copy, Debug)]
pub(super) enum ManifestShape {
    Flat,
    /// One for each pack, and perhaps one more.
    PerLayer {
        packs: usize,
        layers: usize,
    },
}

/// The documents of a Dimsum image.
pub(super) struct Documents {
    manifest: Manifest,
    config: ImageConfig,
    pub(super) dimsum: DimsumManifest,
    /// The packs that were made of the image's own layers, with their numbers; the others only lend chunks.
    pub(super) own: Vec<(usize, Blob)>,
}

impl Documents {
    pub(super) fn parse(image: &dyn ExportImage) -> Result<Self, ConvertError> {
        let digest = Digest::of(image.manifest());
        let failed = |object, digest| move |source| ConvertError::Document { object, digest, source: Box::new(source) };
        let manifest = Manifest::parse(image.manifest()).map_err(failed("manifest", digest))?;
        let dimsum = DimsumManifest::new(&manifest).map_err(failed("manifest", digest))?;
        let config = ImageConfig::parse(image.config()).map_err(failed("config", dimsum.config.digest))?;
        let (packs, devices) = (dimsum.packs.len(), image.maps().devices.len());
        if packs != devices {
            let source = dimsum_format::FormatError::Mismatch {
                part: "devices of the image",
                said: packs as u64,
                is: devices as u64,
            };
            return Err(failed("meta", dimsum.meta.digest)(source));
        }
        let own = dimsum.packs.iter().zip(&manifest.layers).enumerate().filter(|(_, (_, layer))| !lends(layer));
        let own = own.map(|(number, (pack, _))| (number, *pack)).collect();
        Ok(Self { manifest, config, dimsum, own })
    }

    /// Returns the config for other layers.
    pub(super) fn config(&self, shape: ManifestShape, diff_ids: &[Digest]) -> Vec<u8> {
        let mut config = self.config.clone();
        let object = config.object_mut();
        let lent = self.dimsum.packs.len() - self.own.len();
        let history = history(object.get("history"), lent, self.own.len(), shape);
        let diff_ids: Vec<_> = diff_ids.iter().map(|diff_id| Value::String(diff_id.to_string())).collect();
        object.insert("rootfs".to_owned(), json!({ "type": "layers", "diff_ids": diff_ids }));
        object.insert("history".to_owned(), Value::Array(history));
        config.to_bytes()
    }

    /// Returns the descriptor of a layer, with the annotations of its pack that are not ours.
    pub(super) fn layer(&self, blob: Blob, pack: Option<Digest>, media_type: &str) -> Descriptor {
        let from = pack.and_then(|pack| self.manifest.layers.iter().find(|layer| layer.digest == pack));
        let annotations = from.map(|layer| others(&layer.annotations)).unwrap_or_default();
        Descriptor { annotations, ..Descriptor::new(media_type, blob) }
    }

    /// Returns the manifest.
    pub(super) fn manifest(&self, config: Blob, layers: Vec<Descriptor>) -> Vec<u8> {
        let annotations = others(&self.manifest.config.annotations);
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media::MANIFEST.to_owned()),
            artifact_type: None,
            subject: None,
            config: Descriptor { annotations, ..Descriptor::new(media::CONFIG, config) },
            layers,
            annotations: others(&self.manifest.annotations),
        };
        manifest.to_bytes()
    }
}

/// Says whether a pack is another image's, and stands for no layer of this one.
fn lends(layer: &Descriptor) -> bool {
    layer.annotations.contains_key(media::ANNOTATION_FOREIGN)
        && !layer.annotations.contains_key(media::ANNOTATION_SOURCE_CHAIN_ID)
}

/// Returns the history for other layers: as many entries that are not empty as there are layers. The first
/// `lent` are of packs of other images, then there are those of `packs`, then that of the meta.
fn history(source: Option<&Value>, lent: usize, packs: usize, shape: ManifestShape) -> Vec<Value> {
    let mut history = source.and_then(Value::as_array).cloned().unwrap_or_default();
    let is_layer = |entry: &Value| entry.get("empty_layer").and_then(Value::as_bool) != Some(true);
    let layers = history.iter().filter(|entry| is_layer(entry)).count();
    // The last one is the meta.
    let meta = history
        .iter()
        .rposition(is_layer)
        .filter(|_| layers == lent + packs + 1 && history.iter().all(Value::is_object));
    match meta {
        Some(meta) => {
            history.remove(meta);
            // They stand before everything that the source said.
            history.drain(..lent);
        }
        None => history = (0..packs).map(|_| json!({ "created_by": LAYER_HISTORY })).collect(),
    }
    match shape {
        ManifestShape::Flat => {
            for entry in history.iter_mut().filter_map(Value::as_object_mut) {
                entry.insert("empty_layer".to_owned(), Value::Bool(true));
            }
            history.push(json!({ "created_by": FLAT_HISTORY }));
        }
        ManifestShape::PerLayer { packs, layers } if layers > packs => {
            history.push(json!({ "created_by": FIX_UP_HISTORY }));
        }
        ManifestShape::PerLayer { .. } => {}
    }
    history
}

fn others(annotations: &Annotations) -> Annotations {
    let other = |key: &String| !OURS.iter().any(|ours| key.starts_with(ours));
    annotations.iter().filter(|(key, _)| other(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, empty: bool) -> Value {
        if empty { json!({ "created_by": name, "empty_layer": true }) } else { json!({ "created_by": name }) }
    }

    #[test]
    fn history_has_an_entry_for_each_layer() {
        let source = json!([entry("a", false), entry("env", true), entry("b", false), entry("meta", false)]);
        let kept = vec![entry("a", false), entry("env", true), entry("b", false)];
        let per_layer = |layers| history(Some(&source), 0, 2, ManifestShape::PerLayer { packs: 2, layers });
        let lent = json!([
            entry("another", false),
            entry("a", false),
            entry("env", true),
            entry("b", false),
            entry("meta", false)
        ]);
        assert_eq!(history(Some(&lent), 1, 2, ManifestShape::PerLayer { packs: 2, layers: 2 }), kept);
        assert_eq!(per_layer(2), kept);
        assert_eq!(per_layer(3), [&kept[..], &[entry(FIX_UP_HISTORY, false)]].concat());
        let flat = [entry("a", true), entry("env", true), entry("b", true), entry(FLAT_HISTORY, false)];
        assert_eq!(history(Some(&source), 0, 2, ManifestShape::Flat), flat);
        for odd in [None, Some(json!("text")), Some(json!([entry("a", false)])), Some(json!([1, 2, 3]))] {
            let replaced = history(odd.as_ref(), 0, 2, ManifestShape::PerLayer { packs: 2, layers: 2 });
            assert_eq!(replaced, vec![entry(LAYER_HISTORY, false); 2]);
        }
    }
}
