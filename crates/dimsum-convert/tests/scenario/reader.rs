//! Reads a converted image back, believing nothing: every digest on the way is checked.

use std::collections::BTreeMap;
use std::path::Path;

use dimsum_erofs::{Bounds, ErofsImage, ImageKind, validate};
use dimsum_format::codec::Decompressor;
use dimsum_format::index::{IndexTail, MetaIndex, TAIL_BYTES};
use dimsum_format::manifest::{DimsumManifest, ImageConfig, Manifest};
use dimsum_format::meta::{MetaFooter, MetaMaps};
use dimsum_format::pack::META_FOOTER_BYTES;
use dimsum_format::{BLOCK, Blake3, Digest, MetaRoot};
use dimsum_tree::FileType;

/// A converted image in memory.
pub(crate) struct Read {
    pub(crate) manifest: Manifest,
    pub(crate) dimsum: DimsumManifest,
    pub(crate) config: ImageConfig,
    pub(crate) meta: Vec<u8>,
    pub(crate) maps: MetaMaps,
    /// The device bytes of each pack listed.
    pub(crate) devices: Vec<Vec<u8>>,
}

/// What a path of an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    File(Vec<u8>),
    Directory,
    Symlink(Vec<u8>),
    Other,
}

pub(crate) fn blob(layout: &Path, digest: Digest) -> Vec<u8> {
    let bytes = std::fs::read(layout.join("blobs/sha256").join(digest.hex())).unwrap();
    assert_eq!(Digest::of(&bytes), digest);
    bytes
}

/// Decodes all frames of a zstd stream, as `zstd -dc` does.
pub(crate) fn zstd_dc(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::decode_all(bytes).unwrap()
}

pub(crate) fn read(layout: &Path, manifest: Digest) -> Read {
    let manifest = Manifest::parse(&blob(layout, manifest)).unwrap();
    let dimsum = DimsumManifest::new(&manifest).unwrap();
    let config = ImageConfig::parse(&blob(layout, dimsum.config.digest)).unwrap();
    let meta = read_meta(&blob(layout, dimsum.meta.digest), dimsum.root);
    let length = meta.len() as u64;
    let footer = MetaFooter::parse(&meta[meta.len() - META_FOOTER_BYTES..], length).unwrap();
    let range = footer.maps_range();
    let maps = MetaMaps::parse(&footer, &meta[range.start as usize..range.end as usize]).unwrap();
    let mut devices = Vec::new();
    for (pack, device) in dimsum.packs.iter().zip(&maps.devices) {
        let pack = blob(layout, pack.digest);
        let mut bytes = Vec::new();
        for chunk in 0..device.map.chunks() as u32 {
            let frame = device.frames.frame(chunk).unwrap();
            let range = device.map.chunk_bytes(chunk).unwrap();
            let frame = &pack[frame.start as usize..frame.end as usize];
            let chunk_bytes = Decompressor::default().decompress(frame, (range.end - range.start) as usize).unwrap();
            assert_eq!(Some(Blake3::of(&chunk_bytes)), device.map.digest(chunk));
            bytes.extend(chunk_bytes);
        }
        assert_eq!(zstd_dc(&pack), bytes);
        devices.push(bytes);
    }
    let diff_ids: Vec<_> = devices.iter().chain([&meta]).map(|bytes| Digest::of(bytes)).collect();
    assert_eq!(config.diff_ids().unwrap(), diff_ids);
    Read { manifest, dimsum, config, meta, maps, devices }
}

/// Decodes a compressed meta through its index.
fn read_meta(blob: &[u8], root: MetaRoot) -> Vec<u8> {
    let tail = IndexTail::parse(&blob[blob.len() - TAIL_BYTES..]).unwrap();
    let index_at = blob.len() - tail.index_bytes() as usize;
    let index = MetaIndex::parse(&blob[index_at..], blob.len() as u64, root).unwrap();
    let mut meta = Vec::new();
    for number in 0..index.frames.frames() as u32 {
        let frame = index.frames.frame(number).unwrap();
        let content = index.frame_content(number);
        let frame = &blob[frame.start as usize..frame.end as usize];
        meta.extend(Decompressor::default().decompress(frame, (content.end - content.start) as usize).unwrap());
    }
    assert_eq!(zstd_dc(blob), meta);
    assert_eq!(*Blake3::of(&meta).as_bytes(), *root.as_bytes());
    meta
}

impl Read {
    pub(crate) fn erofs(&self) -> Vec<u8> {
        self.meta[..self.maps.erofs_blocks as usize * BLOCK].to_vec()
    }

    /// The flat image.
    pub(crate) fn flat(&self) -> Vec<u8> {
        [vec![self.meta.clone()], self.devices.clone()].concat().concat()
    }

    /// All paths of the image.
    pub(crate) fn tree(&self) -> BTreeMap<String, Node> {
        let blocks: Vec<u32> = self.devices.iter().map(|bytes| (bytes.len() / BLOCK) as u32).collect();
        tree(&self.erofs(), &self.flat(), self.maps.meta_blocks, &blocks, ImageKind::Image)
    }

    pub(crate) fn file(&self, path: &str) -> Vec<u8> {
        match self.tree().remove(path) {
            Some(Node::File(bytes)) => bytes,
            other => panic!("{path}: {other:?}"),
        }
    }
}

/// Validates an EROFS image and reads all of it; content from the flat image.
pub(crate) fn tree(
    erofs: &[u8],
    flat: &[u8],
    meta_blocks: u32,
    devices: &[u32],
    kind: ImageKind,
) -> BTreeMap<String, Node> {
    validate(&erofs, Bounds { meta_blocks, devices, kind }).unwrap();
    let image = ErofsImage::open(erofs).unwrap();
    assert_eq!(image.flat_blocks() as usize * BLOCK, flat.len());
    let mut nodes = BTreeMap::new();
    let mut directories = vec![(String::new(), image.root().unwrap())];
    while let Some((path, directory)) = directories.pop() {
        let mut entries = image.read_dir(&directory, 0).unwrap();
        while let Some(entry) = entries.next_entry().unwrap() {
            if entry.name == b"." || entry.name == b".." {
                continue;
            }
            let path = format!("{path}{}", std::str::from_utf8(entry.name).unwrap());
            let inode = image.inode(entry.nid).unwrap();
            let node = match inode.file_type() {
                FileType::Directory => {
                    directories.push((format!("{path}/"), inode));
                    Node::Directory
                }
                FileType::Symlink => Node::Symlink(image.read_link(&inode).unwrap()),
                FileType::Regular => {
                    let mut bytes = Vec::new();
                    while let Some(extent) = image.map(&inode, bytes.len() as u64).unwrap() {
                        match extent.flat {
                            Some(at) => bytes.extend_from_slice(&flat[at as usize..][..extent.len as usize]),
                            None => bytes.resize(bytes.len() + extent.len as usize, 0),
                        }
                    }
                    Node::File(bytes)
                }
                _ => Node::Other,
            };
            nodes.insert(path, node);
        }
    }
    nodes
}
