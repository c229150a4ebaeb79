//! Small images in layouts, made here.

use std::io::Write as _;
use std::path::Path;

use dimsum_format::manifest::{Descriptor, Index, Manifest, Platform};
use dimsum_format::{Digest, media};
use dimsum_layout::OciLayout;
use dimsum_source::{ImageName, Role, Target};
use serde_json::json;

/// Returns the name of a tag.
#[must_use]
pub fn tag(tag: &str) -> Option<ImageName> {
    Some(ImageName::Tag(tag.into()))
}

/// Returns a Linux platform.
#[must_use]
pub fn platform(architecture: &str) -> Platform {
    Platform { architecture: architecture.into(), os: "linux".into(), variant: None, os_version: None }
}

/// Puts a blob.
///
/// # Panics
/// If it cannot be done.
pub fn put(target: &dyn Target, bytes: &[u8]) -> Digest {
    let mut blob = target.start_blob().unwrap();
    blob.write_all(bytes).unwrap();
    blob.commit(Digest::of(bytes), bytes.len() as u64, &|_| std::ops::ControlFlow::Continue(())).unwrap();
    Digest::of(bytes)
}

/// Describes a blob.
#[must_use]
pub fn descriptor(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: media_type.into(),
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        platform: None,
        artifact_type: None,
        annotations: Default::default(),
    }
}

/// Bytes that do not compress to nothing.
#[must_use]
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A tar with one file of these bytes, as other tools read it too.
#[must_use]
pub fn layer_tar(content: &[u8]) -> Vec<u8> {
    let mut header = [0u8; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, "file");
    put(100, "0000644");
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{:011o}", content.len()));
    put(136, "00000000000");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut tar = [&header[..], content].concat();
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    tar
}

/// Compresses with gzip.
///
/// # Panics
/// If it cannot be done.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Puts an image of gzip layers.
///
/// # Panics
/// If it cannot be stored.
pub fn image(target: &dyn Target, architecture: &str, layers: &[Vec<u8>], role: Role) -> Descriptor {
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    let config = json!({
        "created": "2026-01-01T00:00:00Z",
        "architecture": architecture,
        "os": "linux",
        "config": { "Cmd": ["/bin/true"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": layers.iter().map(|_| json!({ "created_by": "test" })).collect::<Vec<_>>(),
    });
    let config = serde_json::to_vec(&config).unwrap();
    put(target, &config);
    let mut descriptors = Vec::new();
    for layer in layers {
        let blob = gzip(layer);
        put(target, &blob);
        descriptors.push(descriptor(media::LAYER_GZIP, &blob));
    }
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media::MANIFEST.into()),
        artifact_type: None,
        subject: None,
        config: descriptor(media::CONFIG, &config),
        layers: descriptors,
        annotations: Default::default(),
    };
    let bytes = manifest.to_bytes();
    target.put_manifest(media::MANIFEST, &bytes, role).unwrap();
    Descriptor { platform: Some(platform(architecture)), ..descriptor(media::MANIFEST, &bytes) }
}

/// Puts an index.
///
/// # Panics
/// If it cannot be done.
pub fn index(target: &dyn Target, manifests: Vec<Descriptor>, role: Role) -> Descriptor {
    let media_type = Some(media::INDEX.into());
    let bytes = Index { schema_version: 2, media_type, manifests, annotations: Default::default() }.to_bytes();
    target.put_manifest(media::INDEX, &bytes, role).unwrap();
    descriptor(media::INDEX, &bytes)
}

/// A layout with one image under the tag `v1`, of two layers.
///
/// # Panics
/// If it cannot be stored.
pub fn layout_with_image(dir: &Path) -> Descriptor {
    let layout = OciLayout::create(dir, tag("v1")).unwrap();
    image(&layout, "amd64", &[layer_tar(&noise(300_000, 1)), layer_tar(b"small")], Role::Root)
}

/// A layout with one image under the tag `v1`, of these layers.
///
/// # Panics
/// If it cannot be stored.
pub fn layout_of_layers(dir: &Path, tars: &[Vec<u8>]) -> Descriptor {
    let layout = OciLayout::create(dir, tag("v1")).unwrap();
    image(&layout, "amd64", tars, Role::Root)
}
