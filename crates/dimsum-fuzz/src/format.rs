//! Packs, metas, manifests.

use dimsum_format::codec::Decompressor;
use dimsum_format::index::{IndexTail, MetaIndex, TAIL_BYTES};
use dimsum_format::manifest::{DimsumManifest, ImageConfig, Index, Manifest};
use dimsum_format::map::{DeviceMap, FrameMap};
use dimsum_format::meta::{MetaFooter, MetaMaps};
use dimsum_format::pack::{FOOTER_BYTES, LayerMetaFooter, META_FOOTER_BYTES, PackFooter};
use dimsum_format::{Blake3, MetaRoot};

/// A meta, uncompressed and as an index of a compressed one: no panic; accepted maps read back to their bytes.
pub fn meta(data: &[u8]) {
    let length = data.len() as u64;
    if let Some(footer) = data.last_chunk::<META_FOOTER_BYTES>()
        && let Ok(footer) = MetaFooter::parse(footer, length)
    {
        let range = footer.maps_range();
        let maps = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let maps = maps.and_then(|(start, end)| data.get(start..end)).expect("the footer accepted the length");
        if let Ok(parsed) = MetaMaps::parse(&footer, maps) {
            check_maps(&parsed);
        }
    }
    if let Some(tail) = data.last_chunk::<TAIL_BYTES>()
        && let Ok(tail) = IndexTail::parse(tail)
        && let Some(start) = usize::try_from(tail.index_bytes()).ok().and_then(|bytes| data.len().checked_sub(bytes))
    {
        let root = MetaRoot::new(*Blake3::of(data).as_bytes());
        let _ = MetaIndex::parse(data.get(start..).unwrap_or_default(), length, root).is_ok();
    }
}

fn check_maps(maps: &MetaMaps) {
    for block in [0, maps.meta_blocks, maps.flat_blocks().saturating_sub(1), maps.flat_blocks(), u32::MAX] {
        if let Some((index, inside)) = maps.locate(block) {
            let device = maps.devices.get(index).expect("locate gives a device");
            let chunk = device.map.chunk_of_block(inside).expect("a located block is in a chunk");
            assert!(device.map.chunk_blocks(chunk).is_some_and(|blocks| blocks.contains(&inside)));
            assert!(device.frames.frame(chunk).is_some(), "every chunk has a frame");
        }
    }
    let devices: Vec<_> = maps.devices.iter().map(|device| (device.map.clone(), device.frames.clone())).collect();
    let tail = MetaMaps::tail_bytes(maps.erofs_blocks, &devices);
    assert!(tail.len() as u64 + u64::from(maps.erofs_blocks) * 4096 == u64::from(maps.meta_blocks) * 4096);
}

/// The parts of a pack: no panic, frames never decode to another length.
pub fn pack(data: &[u8]) {
    let length = data.len() as u64;
    if let Some(tail) = data.last_chunk::<FOOTER_BYTES>() {
        let _ = PackFooter::parse(tail, length).is_ok();
    }
    if let Some(footer) = data.last_chunk::<META_FOOTER_BYTES>() {
        let _ = LayerMetaFooter::parse(footer, length).is_ok();
    }
    if let Ok(map) = DeviceMap::parse(data) {
        assert_eq!(map.to_bytes(), data);
    }
    if let Ok(map) = FrameMap::parse(data) {
        assert_eq!(map.to_bytes(), data);
    }
    let mut decoder = Decompressor::default();
    for wanted in [1, 4096, 65_536] {
        if let Ok(bytes) = decoder.decompress(data, wanted) {
            assert_eq!(bytes.len(), wanted);
        }
    }
}

/// Manifests, indexes and configs: no panic; what we write again is stable.
pub fn manifest(data: &[u8]) {
    if let Ok(manifest) = Manifest::parse(data) {
        let again = Manifest::parse(&manifest.to_bytes()).expect("our own manifest parses");
        assert_eq!(again, manifest);
        let _ = DimsumManifest::new(&manifest).is_ok();
    }
    if let Ok(index) = Index::parse(data) {
        assert_eq!(Index::parse(&index.to_bytes()).expect("our own index parses"), index);
    }
    if let Ok(config) = ImageConfig::parse(data) {
        let _ = config.diff_ids().is_ok();
        drop(config.to_bytes());
    }
}
