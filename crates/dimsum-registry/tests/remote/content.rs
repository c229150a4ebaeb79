//! Images that are made for a test.

use std::ops::ControlFlow;

use dimsum_format::manifest::Blob;
use dimsum_format::{Digest, media};
use dimsum_layout::OciLayout;
use dimsum_source::{ImageName, Place, Role, Source, Target};
use serde_json::json;
use tempfile::TempDir;

/// An image with two layers in a layout: a small one and one that is larger than what is uploaded at once.
pub(crate) struct Image {
    pub(crate) dir: TempDir,
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) layers: Vec<Vec<u8>>,
}

pub(crate) fn blob(bytes: &[u8]) -> Blob {
    Blob { digest: Digest::of(bytes), size: bytes.len() as u64 }
}

/// Bytes that do not repeat.
pub(crate) fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(word).take(length.div_ceil(8)).flatten().take(length).collect()
}

impl Image {
    pub(crate) fn new(seed: u64) -> Self {
        let layers = vec![bytes(seed, 100_000), bytes(seed + 1, 9_000_000)];
        let config = json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers",
            "diff_ids": layers.iter().map(|layer| Digest::of(layer)).collect::<Vec<_>>() } });
        let config = serde_json::to_vec(&config).unwrap();
        let describe = |media_type: &str, bytes: &[u8]| json!({ "mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len() });
        let manifest = json!({ "schemaVersion": 2, "mediaType": media::MANIFEST,
            "config": describe(media::CONFIG, &config),
            "layers": layers.iter().map(|layer| describe(media::LAYER_TAR, layer)).collect::<Vec<_>>() });
        let manifest = serde_json::to_vec(&manifest).unwrap();
        let dir = TempDir::new().unwrap();
        let layout = OciLayout::create(dir.path(), Some(ImageName::Tag("v1".into()))).unwrap();
        for bytes in layers.iter().chain([&config]) {
            write(&layout, bytes);
        }
        layout.put_manifest(media::MANIFEST, &manifest, Role::Root).unwrap();
        Self { dir, manifest, config, layers }
    }

    pub(crate) fn layout(&self) -> OciLayout {
        OciLayout::open(self.dir.path(), Some(ImageName::Tag("v1".into()))).unwrap()
    }

    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.layers.iter().chain([&self.config])
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    /// Copies the image blob by blob.
    pub(crate) fn push(&self, target: &dyn Target) {
        let layout = self.layout();
        for bytes in self.blobs() {
            let blob = blob(bytes);
            if !target.has(blob.digest, blob.size).unwrap() {
                target.copy_blob(blob, &layout, &go_on).unwrap();
            }
        }
        assert_eq!(target.put_manifest(media::MANIFEST, &self.manifest, Role::Root).unwrap(), self.digest());
    }

    /// Reads the image in every way and compares.
    pub(crate) fn compare(&self, place: &dyn Place) {
        let root = place.root().unwrap();
        assert_eq!(root.bytes, self.manifest);
        assert_eq!(place.read_manifest(self.digest()).unwrap(), self.manifest);
        assert_eq!(place.read_small("config", blob(&self.config).digest, 1 << 20).unwrap(), self.config);
        for bytes in self.blobs() {
            let blob = blob(bytes);
            assert_eq!(place.size(blob.digest).unwrap(), Some(blob.size));
            assert_eq!(&read(place, blob.digest, 0), bytes);
            assert_eq!(read(place, blob.digest, 99), bytes[99..]);
        }
        assert_eq!(place.size(Digest::of(b"absent")).unwrap(), None);
    }
}

pub(crate) fn read(source: &(impl Source + ?Sized), digest: Digest, start: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    source.open_at(digest, start).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

/// Writes a blob whose digest is known only afterwards.
pub(crate) fn write(target: &dyn Target, bytes: &[u8]) {
    let mut writer = target.start_blob().unwrap();
    for piece in bytes.chunks(70_000) {
        writer.write_all(piece).unwrap();
    }
    writer.commit(Digest::of(bytes), bytes.len() as u64, &go_on).unwrap();
}

pub(crate) fn go_on(_: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}
