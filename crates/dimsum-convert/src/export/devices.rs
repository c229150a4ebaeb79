//! Finds devices by their ids for recipes: listed devices through the image, others in packs that come with the
//! recipes.
//!
//! A recipe refers to the data of all layers, including files that a higher layer deletes. So it may need a
//! pack of which the image uses nothing. Such a pack is fetched as a whole. The device id proves its map, and
//! the map proves its chunks.

use std::io::Read as _;

use dimsum_format::codec::Decompressor;
use dimsum_format::limits::MAX_CHUNK_BLOCKS;
use dimsum_format::manifest::Blob;
use dimsum_format::map::{DeviceMap, FrameMap};
use dimsum_format::{BLOCK_U64, Blake3, DeviceId, FormatError};
use dimsum_source::Source;

use super::contents::from_failure;
use super::open::ExportImage;
use super::pack_maps;
use crate::error::ConvertError;
use dimsum_recipe::limits::max_decoded;
use dimsum_recipe::temporary::{TemporaryFile, TemporaryFiles};
use dimsum_recipe::{RecipeDevices, RecipeError};

/// Bytes of the largest chunk.
const MAX_CHUNK_BYTES: u64 = MAX_CHUNK_BLOCKS as u64 * BLOCK_U64;

/// All devices of an image's recipes.
pub(super) struct Shelf<'a> {
    image: &'a dyn ExportImage,
    source: &'a dyn Source,
    /// Packs that were not looked at yet.
    packs: Vec<Blob>,
    fetched: Vec<UnlistedPack>,
    temporaries: &'a TemporaryFiles,
}

/// A pack that the image does not list.
struct UnlistedPack {
    blob: Blob,
    id: DeviceId,
    map: DeviceMap,
    frames: FrameMap,
    file: TemporaryFile,
    decompressor: Decompressor,
    /// Bytes that may still be decoded: a recipe that goes to and fro would have chunks decoded for single bytes.
    left: u64,
    /// The chunk that was decoded last.
    last: Option<(u32, Vec<u8>)>,
}

impl<'a> Shelf<'a> {
    pub(super) fn new(
        image: &'a dyn ExportImage,
        source: &'a dyn Source,
        mut packs: Vec<Blob>,
        temporaries: &'a TemporaryFiles,
    ) -> Self {
        packs.reverse();
        Self { image, source, packs, fetched: Vec::new(), temporaries }
    }

    /// Finds a pack that holds a device, fetching more of them until it is there.
    fn pack(&mut self, device: DeviceId) -> Result<&mut UnlistedPack, ConvertError> {
        while !self.fetched.iter().any(|pack| pack.id == device) {
            let Some(blob) = self.packs.pop() else { return Err(RecipeError::NoDevice { device }.into()) };
            let file = fetch(self.source, blob, self.temporaries)?;
            let wrong = |source| RecipeError::Pack { pack: blob.digest, source: Box::new(source) };
            let (map, frames) = pack_maps::read(&file, self.temporaries)?.map_err(wrong)?;
            let id = map.id();
            let decompressor = Decompressor::default();
            let left = MAX_CHUNK_BYTES;
            self.fetched.push(UnlistedPack { blob, id, map, frames, file, decompressor, left, last: None });
        }
        let found = self.fetched.iter_mut().find(|pack| pack.id == device);
        Ok(found.ok_or(RecipeError::NoDevice { device })?)
    }
}

impl RecipeDevices for Shelf<'_> {
    type Error = ConvertError;

    fn read(&mut self, device: DeviceId, at: u64, buffer: &mut [u8]) -> Result<(), ConvertError> {
        let outside = RecipeError::Outside { device, offset: at, length: buffer.len() as u64 };
        let fits =
            |blocks: u32| at.checked_add(buffer.len() as u64).is_some_and(|end| end <= u64::from(blocks) * BLOCK_U64);
        let image = self.image;
        if let Some(listed) = image.maps().devices.iter().find(|listed| listed.id == device) {
            if !fits(listed.map.blocks()) {
                return Err(outside.into());
            }
            let flat = u64::from(listed.first_block) * BLOCK_U64 + at;
            return image.read(flat, buffer).map_err(|failure| from_failure(failure, image.name()));
        }
        let pack = self.pack(device)?;
        if !fits(pack.map.blocks()) {
            return Err(outside.into());
        }
        pack.read(at, buffer)
    }
}

impl UnlistedPack {
    fn read(&mut self, mut at: u64, mut buffer: &mut [u8]) -> Result<(), ConvertError> {
        let pack = self.blob.digest;
        let failed = |source: FormatError| RecipeError::Pack { pack, source: Box::new(source) };
        self.left = self.left.saturating_add(max_decoded(buffer.len() as u64));
        while !buffer.is_empty() {
            let block = u32::try_from(at / BLOCK_U64).unwrap_or(u32::MAX);
            let place = self.map.chunk_of_block(block).and_then(|chunk| Some((chunk, self.map.chunk_bytes(chunk)?)));
            let nothing = || failed(FormatError::Frame { reason: "a block is in no chunk" });
            let (chunk, range) = place.ok_or_else(nothing)?;
            if self.last.as_ref().is_none_or(|(last, _)| *last != chunk) {
                let (part, value, limit) = ("bytes decoded of a pack", range.end - range.start, self.left);
                self.left = limit.checked_sub(value).ok_or(RecipeError::Limit { part, value, limit })?;
                self.last = Some((chunk, self.decode(chunk)?.map_err(failed)?));
            }
            let bytes = self.last.as_ref().map(|(_, bytes)| bytes.as_slice()).unwrap_or_default();
            let inside = usize::try_from(at - range.start).unwrap_or(usize::MAX);
            let rest = bytes.get(inside..).filter(|rest| !rest.is_empty()).ok_or_else(nothing)?;
            let count = rest.len().min(buffer.len());
            let (now, later) = buffer.split_at_mut(count);
            now.copy_from_slice(rest.get(..count).unwrap_or_default());
            buffer = later;
            at += count as u64;
        }
        Ok(())
    }

    /// Decodes and proves a chunk; the inner error is its fault.
    fn decode(&mut self, chunk: u32) -> Result<Result<Vec<u8>, FormatError>, ConvertError> {
        let lengths = self.map.chunk_bytes(chunk).zip(self.frames.frame(chunk));
        let (Some((bytes, frame)), Some(must)) = (lengths, self.map.digest(chunk)) else {
            return Ok(Err(FormatError::Frame { reason: "a chunk has no frame" }));
        };
        let length = |range: std::ops::Range<u64>| usize::try_from(range.end - range.start).unwrap_or(0);
        let at = frame.start;
        let mut compressed = vec![0; length(frame)];
        self.file.read(at, &mut compressed)?;
        Ok(self.decompressor.decompress(&compressed, length(bytes)).and_then(|bytes| match Blake3::of(&bytes) {
            is if is == must => Ok(bytes),
            is => Err(FormatError::Digest { part: "chunk", is, must }),
        }))
    }
}

/// Copies a blob into a temporary file and checks its digest.
pub(super) fn fetch(
    source: &dyn Source,
    blob: Blob,
    temporaries: &TemporaryFiles,
) -> Result<TemporaryFile, RecipeError> {
    /// Bytes copied at a time.
    const BUFFER: usize = 256 << 10;
    let absent = |source: Box<dyn std::error::Error + Send + Sync>| RecipeError::Fetch { blob: blob.digest, source };
    let reader = source.open(blob.digest).map_err(|error| absent(error.into()))?;
    // One byte more tells a blob that is too long.
    let mut reader = crate::hashing::HashingReader::new(reader.take(blob.size.saturating_add(1)), &());
    let file = temporaries.create()?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(absent(error.into())),
        };
        if count == 0 {
            break;
        }
        file.append(buffer.get(..count).unwrap_or_default())?;
    }
    let (is, size) = reader.finish();
    if is != blob.digest {
        return Err(RecipeError::Digest { part: "blob", is, must: blob.digest });
    }
    if size != blob.size {
        let part = "bytes of the blob";
        return Err(RecipeError::Mismatch { part, said: blob.size, is: size });
    }
    Ok(file)
}
