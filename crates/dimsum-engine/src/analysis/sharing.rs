//! What images have in common, by the digests of their chunks: the maps alone tell, no data is read.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use dimsum_format::meta::MetaMaps;
use dimsum_format::{BLOCK_U64, Blake3, DeviceId};
use dimsum_store::Store;
use serde::Serialize;

/// A number of chunks and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ChunkSum {
    /// How many.
    pub chunks: u64,
    /// Bytes of them in the device.
    pub bytes: u64,
    /// Bytes of them as stored: what fetching them costs.
    pub stored: u64,
}

impl ChunkSum {
    /// Adds a chunk.
    pub const fn add(&mut self, bytes: u64, stored: u64) {
        self.chunks = self.chunks.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        self.stored = self.stored.saturating_add(stored);
    }

    /// Adds chunks.
    pub const fn add_all(&mut self, other: Self) {
        self.chunks = self.chunks.saturating_add(other.chunks);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.stored = self.stored.saturating_add(other.stored);
    }
}

/// A chunk of an image.
#[derive(Debug, Clone, Copy)]
pub struct ImageChunk {
    /// Number of its device in the image.
    pub device: usize,
    /// Its number in the device.
    pub number: u32,
    /// The digest of its bytes.
    pub digest: Blake3,
    /// First block in the device.
    pub first_block: u32,
    /// Blocks.
    pub blocks: u32,
    /// Bytes of its frame.
    pub stored: u64,
}

impl ImageChunk {
    /// Bytes in the device.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        u64::from(self.blocks) * BLOCK_U64
    }
}

/// Returns all chunks of an image in the order of the flat image.
pub fn chunks(maps: &MetaMaps) -> impl Iterator<Item = ImageChunk> + '_ {
    maps.devices.iter().enumerate().flat_map(|(index, device)| {
        let count = u32::try_from(device.map.chunks()).unwrap_or(u32::MAX);
        (0..count).filter_map(move |number| {
            let blocks = device.map.chunk_blocks(number)?;
            let frame = device.frames.frame(number)?;
            Some(ImageChunk {
                device: index,
                number,
                digest: device.map.digest(number)?,
                first_block: blocks.start,
                blocks: blocks.end.saturating_sub(blocks.start),
                stored: frame.end.saturating_sub(frame.start),
            })
        })
    })
}

/// What two images have in common. Each digest counts once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CommonChunks {
    /// Chunks that only the first has.
    pub only_a: ChunkSum,
    /// Chunks that only the second has.
    pub only_b: ChunkSum,
    /// Chunks of both in devices of both: a node that has them for one image has them for the other.
    pub same_pack: ChunkSum,
    /// Chunks of both that lie in different devices: a node that has one takes the other from it. Stored bytes are those of the second.
    pub other_pack: ChunkSum,
}

/// Compares the chunks of two images.
#[must_use]
pub fn common(a: &MetaMaps, b: &MetaMaps) -> CommonChunks {
    /// A chunk of the first image: its bytes, and whether the second has it too.
    struct Seen {
        bytes: u64,
        stored: u64,
        in_both: bool,
    }
    let devices: Vec<DeviceId> = a.devices.iter().map(|device| device.id).collect();
    let mut seen: HashMap<Blake3, Option<Seen>> = HashMap::new();
    for chunk in chunks(a) {
        let new = || Some(Seen { bytes: chunk.bytes(), stored: chunk.stored, in_both: false });
        seen.entry(chunk.digest).or_insert_with(new);
    }
    let mut common = CommonChunks::default();
    for chunk in chunks(b) {
        let (bytes, stored) = (chunk.bytes(), chunk.stored);
        match seen.entry(chunk.digest) {
            Entry::Vacant(entry) => {
                common.only_b.add(bytes, stored);
                // Only to count it once.
                entry.insert(None);
            }
            Entry::Occupied(mut entry) => {
                let Some(first) = entry.get_mut() else { continue };
                if std::mem::replace(&mut first.in_both, true) {
                    continue;
                }
                let shared = b.devices.get(chunk.device).is_some_and(|device| devices.contains(&device.id));
                let sum = if shared { &mut common.same_pack } else { &mut common.other_pack };
                sum.add(bytes, stored);
            }
        }
    }
    for first in seen.values().flatten().filter(|first| !first.in_both) {
        common.only_a.add(first.bytes, first.stored);
    }
    common
}

/// Returns how much of each device of an image lies on this node. Of a pack that is whole there, all chunks count. Of
/// others, those chunks count that were fetched or that any other image has.
#[must_use]
pub fn on_node(store: &Store, maps: &MetaMaps, is_whole: impl Fn(usize) -> bool) -> Vec<ChunkSum> {
    let digests: Vec<Blake3> = chunks(maps).map(|chunk| chunk.digest).collect();
    let mut here = vec![ChunkSum::default(); maps.devices.len()];
    for (chunk, has) in chunks(maps).zip(store.has_chunks(&digests)) {
        if let Some(sum) = here.get_mut(chunk.device).filter(|_| has || is_whole(chunk.device)) {
            sum.add(chunk.bytes(), chunk.stored);
        }
    }
    here
}

/// Images whose chunks are compared with one image's: a chunk says in 32 bits which of them have it.
pub const MAX_IMAGES: usize = 31;

/// Which of several images have which chunk; image 0 is the one that is looked at.
#[derive(Debug, Default)]
pub struct ChunkOwners {
    images: usize,
    chunks: HashMap<Blake3, OwnedChunk>,
}

#[derive(Debug, Clone, Copy)]
struct OwnedChunk {
    images: u32,
    bytes: u64,
    stored: u64,
}

impl ChunkOwners {
    /// Adds an image; at most [`MAX_IMAGES`] and one, more are not looked at.
    pub fn add(&mut self, maps: &MetaMaps) {
        let Some(bit) = u32::try_from(self.images).ok().and_then(|number| 1_u32.checked_shl(number)) else { return };
        self.images = self.images.saturating_add(1);
        for chunk in chunks(maps) {
            let new = OwnedChunk { images: 0, bytes: chunk.bytes(), stored: chunk.stored };
            self.chunks.entry(chunk.digest).or_insert(new).images |= bit;
        }
    }

    /// Returns the images that have a chunk, one bit each.
    #[must_use]
    pub fn of(&self, digest: Blake3) -> u32 {
        self.chunks.get(&digest).map_or(0, |owned| owned.images)
    }

    /// Returns what each two images have in common; on the diagonal, what an image has. Each digest counts once.
    #[must_use]
    pub fn matrix(&self) -> Vec<Vec<ChunkSum>> {
        let mut matrix = vec![vec![ChunkSum::default(); self.images]; self.images];
        for owned in self.chunks.values() {
            let has = |image: usize| owned.images >> image & 1 == 1;
            for (a, row) in matrix.iter_mut().enumerate().filter(|(a, _)| has(*a)) {
                for (b, sum) in row.iter_mut().enumerate() {
                    if a == b || has(b) {
                        sum.add(owned.bytes, owned.stored);
                    }
                }
            }
        }
        matrix
    }
}

#[cfg(test)]
mod tests {
    use dimsum_format::map::{DeviceMap, FrameMap};
    use dimsum_format::meta::MappedDevice;

    use super::*;

    /// An image of devices of chunks: each has (number + 1) blocks and a frame of 100 + number bytes.
    fn image(devices: &[&[u8]]) -> MetaMaps {
        let devices = devices.iter().map(|chunks| {
            let (mut map, mut frames) = (DeviceMap::default(), FrameMap::default());
            for &number in *chunks {
                map.push(u32::from(number) + 1, Blake3::new([number; 32])).unwrap();
                frames.push(100 + u32::from(number)).unwrap();
            }
            MappedDevice { id: map.id(), map, frames, first_block: 0 }
        });
        MetaMaps { erofs_blocks: 1, meta_blocks: 1, devices: devices.collect() }
    }

    fn sum(chunks: &[u64]) -> ChunkSum {
        let mut sum = ChunkSum::default();
        chunks.iter().for_each(|number| sum.add((number + 1) * BLOCK_U64, 100 + number));
        sum
    }

    #[test]
    fn two_images_share_chunks_in_one_pack_or_in_two() {
        let (a, b) = (image(&[&[1, 2], &[3, 4, 4]]), image(&[&[1, 2], &[4, 5], &[5, 4]]));
        let found = common(&a, &b);
        assert_eq!(found.only_a, sum(&[3]));
        assert_eq!(found.only_b, sum(&[5]));
        assert_eq!(found.same_pack, sum(&[1, 2]));
        assert_eq!(found.other_pack, sum(&[4]));
        let same = common(&a, &a);
        assert_eq!((same.only_a, same.only_b, same.other_pack), Default::default());
    }

    #[test]
    fn the_matrix_is_symmetric_and_its_diagonal_is_the_image() {
        let mut owners = ChunkOwners::default();
        for maps in [image(&[&[1, 2]]), image(&[&[2, 3]]), image(&[&[9]])] {
            owners.add(&maps);
        }
        let matrix = owners.matrix();
        assert_eq!(matrix[0], [sum(&[1, 2]), sum(&[2]), sum(&[])]);
        assert_eq!(matrix[1], [sum(&[2]), sum(&[2, 3]), sum(&[])]);
        assert_eq!(matrix[2], [sum(&[]), sum(&[]), sum(&[9])]);
        assert_eq!(owners.of(Blake3::new([2; 32])), 0b11);
    }
}
