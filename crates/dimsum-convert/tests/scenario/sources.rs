//! Source images in OCI layouts, and their conversion.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use dimsum_convert::{ConvertError, ConvertOptions, Converted, Input, convert};
use dimsum_format::manifest::{Descriptor, Manifest};
use dimsum_format::{Digest, media};
use dimsum_layout::OciLayout;
use dimsum_source::{ImageName, Role, Target};
use serde_json::json;
use tempfile::TempDir;

use crate::tar::{Entry, Packing, archive, compress};

/// A directory with an ordinary image in `source` and room for a converted one in `target`.
pub(crate) struct Case {
    pub(crate) dir: TempDir,
    pub(crate) manifest: Digest,
}

/// A layer as it is written: the tests of damage change it.
pub(crate) struct Layer {
    pub(crate) blob: Vec<u8>,
    pub(crate) digest: Digest,
    pub(crate) diff_id: Digest,
    pub(crate) media_type: &'static str,
}

impl Layer {
    pub(crate) fn new(entries: &[Entry], packing: Packing) -> Self {
        let tar = archive(entries);
        let blob = compress(&tar, packing);
        let media_type = match packing {
            Packing::Plain => media::LAYER_TAR,
            Packing::Gzip => media::LAYER_GZIP,
            Packing::Zstd => media::LAYER_ZSTD,
        };
        Self { digest: Digest::of(&blob), diff_id: Digest::of(&tar), blob, media_type }
    }
}

pub(crate) fn small_options() -> ConvertOptions {
    ConvertOptions {
        slice_size: 64 << 10,
        bundle_size: 32 << 10,
        jobs: NonZeroUsize::new(2).unwrap(),
        temp_dir: std::env::temp_dir(),
        ..ConvertOptions::default()
    }
}

impl Case {
    pub(crate) fn new(layers: &[Vec<Entry>]) -> Self {
        Self::of(layers.iter().map(|entries| Layer::new(entries, Packing::Gzip)).collect())
    }

    pub(crate) fn of(layers: Vec<Layer>) -> Self {
        let dir = TempDir::new().unwrap();
        let layout = OciLayout::create(dir.path().join("source"), Some(ImageName::Tag("v1".into()))).unwrap();
        let put = |bytes: &[u8]| {
            let mut blob = layout.start_blob().unwrap();
            blob.write_all(bytes).unwrap();
            blob.commit(Digest::of(bytes), bytes.len() as u64, &|_| std::ops::ControlFlow::Continue(())).unwrap();
        };
        let config = json!({
            "created": "2026-01-01T00:00:00Z",
            "architecture": "amd64",
            "config": { "Cmd": ["/bin/true"], "X-Unknown": [1, 2] },
            "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": layers.iter().map(|layer| layer.diff_id.to_string()).collect::<Vec<_>>() },
            "history": layers.iter().enumerate().map(|(i, _)| json!({ "created_by": format!("layer {i}") })).collect::<Vec<_>>(),
            "zebra": true,
        });
        let config = serde_json::to_vec(&config).unwrap();
        put(&config);
        let descriptor = |media_type: &str, digest, size: usize| Descriptor {
            media_type: media_type.into(),
            digest,
            size: size as u64,
            platform: None,
            artifact_type: None,
            annotations: Default::default(),
        };
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media::MANIFEST.into()),
            artifact_type: None,
            subject: None,
            config: descriptor(media::CONFIG, Digest::of(&config), config.len()),
            layers: layers.iter().map(|layer| descriptor(layer.media_type, layer.digest, layer.blob.len())).collect(),
            annotations: Default::default(),
        };
        for layer in &layers {
            // Under the digest the manifest names, whether it is true or not.
            std::fs::write(dir.path().join("source/blobs/sha256").join(layer.digest.hex()), &layer.blob).unwrap();
        }
        let manifest = layout.put_manifest(media::MANIFEST, &manifest.to_bytes(), Role::Root).unwrap();
        Self { dir, manifest }
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.dir.path().join("target")
    }

    pub(crate) fn source(&self) -> OciLayout {
        OciLayout::open(self.dir.path().join("source"), None).unwrap()
    }

    pub(crate) fn try_convert(&self, options: &ConvertOptions) -> Result<Converted, ConvertError> {
        let target = OciLayout::create(self.target(), Some(ImageName::Tag("out".into()))).unwrap();
        let source = self.source();
        convert(Input::Image { source: &source, manifest: self.manifest }, &target, options, &())
    }

    pub(crate) fn convert(&self, options: &ConvertOptions) -> Converted {
        self.try_convert(options).unwrap()
    }
}

/// Bytes that do not repeat and compress a little.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8 & 0x3f
    })
    .take(length)
    .collect()
}
