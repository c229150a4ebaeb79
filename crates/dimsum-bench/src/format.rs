//! Proofs, maps, frames and manifests.

use std::hint::black_box;

use dimsum_format::Blake3;
use dimsum_format::codec::{Compressor, Decompressor};
use dimsum_format::group::{GROUP, Groups, chaining_values};
use dimsum_format::manifest::Manifest;
use dimsum_format::map::{DeviceMap, FrameMap};

use crate::{Work, bytes};

/// Bytes of a usual chunk.
const CHUNK: usize = 256 << 10;
/// Chunks of a middling pack.
const CHUNKS: u32 = 4096;

/// The proof of one group on a warm read.
pub(crate) fn verify_group() -> Work {
    let chunk = bytes(CHUNK);
    let values = chaining_values(&chunk).into_boxed_slice();
    let groups = Groups::prove(values, CHUNK as u64, Blake3::of(&chunk)).expect("values of these bytes");
    Box::new(move || {
        let group = chunk.get(3 * GROUP..4 * GROUP).expect("a chunk has 16 groups");
        assert!(groups.verify(3, black_box(group)), "the group is right");
    })
}

/// The chaining values of a chunk, and that they combine to its digest.
pub(crate) fn prove_groups() -> Work {
    let chunk = bytes(CHUNK);
    let digest = Blake3::of(&chunk);
    Box::new(move || {
        let values = chaining_values(black_box(&chunk)).into_boxed_slice();
        assert!(Groups::prove(values, CHUNK as u64, digest).is_some(), "values of these bytes");
    })
}

/// One chunk out of its frame.
pub(crate) fn decode_frame() -> Work {
    let chunk = bytes(CHUNK);
    let mut frame = Vec::new();
    let mut compressor = Compressor::new(3).expect("a level that exists");
    compressor.compress(&chunk, &mut frame).expect("memory is there");
    let mut decompressor = Decompressor::default();
    Box::new(move || {
        let decoded = decompressor.decompress(black_box(&frame), CHUNK).expect("our own frame");
        assert_eq!(decoded.len(), CHUNK);
    })
}

/// A device map, as when an image is opened.
pub(crate) fn parse_device_map() -> Work {
    let mut map = DeviceMap::default();
    for number in 0..CHUNKS {
        map.push(1 + number % 64, Blake3::of(&number.to_le_bytes())).expect("a small map");
    }
    let rows = map.to_bytes();
    Box::new(move || {
        let map = DeviceMap::parse(black_box(&rows)).expect("our own map");
        assert!(map.blocks() > CHUNKS);
    })
}

/// A frame map, as when an image is opened.
pub(crate) fn parse_frame_map() -> Work {
    let mut map = FrameMap::default();
    for number in 0..CHUNKS {
        map.push(1000 + number).expect("a small map");
    }
    let rows = map.to_bytes();
    Box::new(move || {
        let map = FrameMap::parse(black_box(&rows)).expect("our own map");
        assert!(map.frame(CHUNKS - 1).is_some());
    })
}

/// An image's manifest.
pub(crate) fn parse_manifest() -> Work {
    let text = include_bytes!("../../../fuzz/corpus/manifest/manifest-nasty-v1.json");
    Box::new(move || assert!(Manifest::parse(black_box(text)).is_ok(), "a manifest of the corpus"))
}
