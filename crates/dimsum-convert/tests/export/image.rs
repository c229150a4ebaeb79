//! A Dimsum image in an OCI layout, for the export to read: each chunk is proven when it is read.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use dimsum_convert::export::{ExportImage, ExportOptions, Exported, ReadFailure, export};
use dimsum_convert::{ConversionProgress, ConvertError};
use dimsum_format::codec::Decompressor;
use dimsum_format::manifest::{DimsumManifest, Manifest};
use dimsum_format::meta::{MetaFooter, MetaMaps};
use dimsum_format::pack::META_FOOTER_BYTES;
use dimsum_format::{BLOCK_U64, Blake3, Digest};
use dimsum_layout::OciLayout;
use dimsum_source::ImageName;

#[derive(Debug)]
pub(crate) struct Layout {
    path: PathBuf,
    manifest: Vec<u8>,
    config: Vec<u8>,
    meta: Vec<u8>,
    pub(crate) maps: MetaMaps,
    pub(crate) dimsum: DimsumManifest,
    chunks: Mutex<HashMap<(usize, u32), Vec<u8>>>,
}

pub(crate) fn blob_path(layout: &Path, digest: Digest) -> PathBuf {
    layout.join("blobs/sha256").join(digest.hex())
}

pub(crate) fn blob(layout: &Path, digest: Digest) -> Vec<u8> {
    let bytes = std::fs::read(blob_path(layout, digest)).unwrap();
    assert_eq!(Digest::of(&bytes), digest);
    bytes
}

impl Layout {
    pub(crate) fn open(path: &Path, digest: Digest) -> Self {
        let manifest = blob(path, digest);
        let dimsum = DimsumManifest::new(&Manifest::parse(&manifest).unwrap()).unwrap();
        let meta = zstd::stream::decode_all(&blob(path, dimsum.meta.digest)[..]).unwrap();
        assert_eq!(*Blake3::of(&meta).as_bytes(), *dimsum.root.as_bytes());
        let footer = MetaFooter::parse(&meta[meta.len() - META_FOOTER_BYTES..], meta.len() as u64).unwrap();
        let range = footer.maps_range();
        let maps = MetaMaps::parse(&footer, &meta[range.start as usize..range.end as usize]).unwrap();
        let config = blob(path, dimsum.config.digest);
        Self { path: path.into(), manifest, config, meta, maps, dimsum, chunks: Mutex::default() }
    }

    fn chunk(&self, device: usize, chunk: u32) -> Result<Vec<u8>, ReadFailure> {
        let maps = &self.maps.devices[device];
        let (frame, bytes) = (maps.frames.frame(chunk).unwrap(), maps.map.chunk_bytes(chunk).unwrap());
        let file = File::open(blob_path(&self.path, self.dimsum.packs[device].digest)).unwrap();
        let mut compressed = vec![0; (frame.end - frame.start) as usize];
        file.read_exact_at(&mut compressed, frame.start).map_err(|error| ReadFailure::Unreadable(error.into()))?;
        let decoded = Decompressor::default().decompress(&compressed, (bytes.end - bytes.start) as usize);
        let decoded = decoded.map_err(|error| ReadFailure::Damaged(error.into()))?;
        if Some(Blake3::of(&decoded)) != maps.map.digest(chunk) {
            return Err(ReadFailure::Damaged(format!("chunk {chunk} has another digest").into()));
        }
        Ok(decoded)
    }
}

impl ExportImage for Layout {
    fn name(&self) -> &str {
        "the image"
    }

    fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn maps(&self) -> &MetaMaps {
        &self.maps
    }

    fn read_meta(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadFailure> {
        buffer.copy_from_slice(&self.meta[offset as usize..][..buffer.len()]);
        Ok(())
    }

    fn read(&self, mut flat: u64, mut buffer: &mut [u8]) -> Result<(), ReadFailure> {
        let (first, _) = self.maps.locate((flat / BLOCK_U64) as u32).unwrap();
        while !buffer.is_empty() {
            let (device, block) = self.maps.locate((flat / BLOCK_U64) as u32).unwrap();
            assert_eq!(device, first, "a range lies in one device");
            let map = &self.maps.devices[device].map;
            let chunk = map.chunk_of_block(block).unwrap();
            let inside = u64::from(block) * BLOCK_U64 + flat % BLOCK_U64 - map.chunk_bytes(chunk).unwrap().start;
            let mut chunks = self.chunks.lock().unwrap();
            if chunks.len() > 100 {
                chunks.clear();
            }
            let bytes = match chunks.entry((device, chunk)) {
                std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::hash_map::Entry::Vacant(empty) => empty.insert(self.chunk(device, chunk)?),
            };
            let bytes = &bytes[inside as usize..];
            let count = bytes.len().min(buffer.len());
            let (now, later) = buffer.split_at_mut(count);
            now.copy_from_slice(&bytes[..count]);
            buffer = later;
            flat += count as u64;
        }
        Ok(())
    }

    fn pack(&self, index: usize) -> Result<Box<dyn Read + Send + '_>, ReadFailure> {
        match File::open(blob_path(&self.path, self.dimsum.packs[index].digest)) {
            Ok(file) => Ok(Box::new(file)),
            Err(error) => Err(ReadFailure::Unreadable(error.into())),
        }
    }
}

/// Exports into a new layout under the tag `out`.
pub(crate) fn export_to(
    image: &Layout,
    target: &Path,
    options: &ExportOptions,
    progress: &dyn ConversionProgress,
) -> Result<Exported, ConvertError> {
    let target = OciLayout::create(target, Some(ImageName::Tag("out".into()))).unwrap();
    export(image, &target, options, progress)
}
