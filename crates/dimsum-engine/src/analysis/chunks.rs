//! Where the bytes of an image lie: for each pack its chunks, what the tree uses of them, and which other images have them.

use dimsum_format::manifest::Blob;
use dimsum_format::{BLOCK_U64, Blake3, DeviceId, Digest, media};
use dimsum_source::Source;
use serde::Serialize;

use super::sharing::{ChunkOwners, ChunkSum, ImageChunk, chunks, on_node};
use super::usage::{Bill, ChunkUse, Usage, WatchFiles, usage};
use crate::Engine;
use crate::EngineError;
use crate::image::fs::ImageFs;
use crate::image::{self, Opened};
use crate::text::total;

/// Directories that the bill lists.
const BILLS: usize = 25;

/// What a chunk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChunkKind {
    /// A slice of one large file.
    Slice,
    /// Several small files.
    Bundle,
    /// Nothing that the tree uses tells.
    Unknown,
}

/// One chunk.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ChunkRow {
    /// The digest of its bytes.
    pub digest: Blake3,
    /// Its blocks.
    pub blocks: u32,
    /// Of these, used by the tree.
    pub used_blocks: u32,
    /// Bytes of its frame.
    pub stored: u64,
    /// What it holds.
    pub kind: ChunkKind,
    /// The other images that have it: bit n is `with[n]`.
    pub shared_with: u32,
}

impl ChunkRow {
    /// Stored bytes of the blocks that the tree uses, pro rata.
    #[must_use]
    pub fn used_stored(&self) -> u64 {
        match self.blocks {
            0 => 0,
            blocks => self.stored.saturating_mul(u64::from(self.used_blocks)) / u64::from(blocks),
        }
    }
}

/// What the stored bytes of an image, or of a pack, are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct StoredParts {
    /// Used by the tree, in chunks that none of the other images has.
    pub own: u64,
    /// Used by the tree, in chunks that another image has too.
    pub shared: u64,
    /// Bytes that are not used, in chunks that are used, so that they are fetched along. A layer above deleted or
    /// replaced them, or only the image that the pack was made for uses them.
    pub beside: u64,
    /// Chunks of which the tree uses nothing: no read fetches them, only a fill does.
    pub dead: u64,
    /// What packs say of themselves, for converters: no read fetches it, only a fill does.
    pub layer_metas: u64,
    /// The tree and the maps.
    pub meta: u64,
}

impl StoredParts {
    fn add_chunk(&mut self, row: &ChunkRow) {
        if row.used_blocks == 0 {
            self.dead = self.dead.saturating_add(row.stored);
            return;
        }
        let used = row.used_stored();
        let part = if row.shared_with == 0 { &mut self.own } else { &mut self.shared };
        *part = part.saturating_add(used);
        self.beside = self.beside.saturating_add(row.stored.saturating_sub(used));
    }

    fn add(&mut self, other: &Self) {
        for (sum, more) in [
            (&mut self.own, other.own),
            (&mut self.shared, other.shared),
            (&mut self.beside, other.beside),
            (&mut self.dead, other.dead),
            (&mut self.layer_metas, other.layer_metas),
            (&mut self.meta, other.meta),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}

/// One pack.
#[derive(Debug, Serialize)]
pub struct PackMap {
    /// The blob.
    pub digest: Digest,
    /// Its length.
    pub bytes: u64,
    /// The device in it.
    pub device: DeviceId,
    /// Bytes of the device.
    pub device_bytes: u64,
    /// Of these, used by the tree.
    pub used_bytes: u64,
    /// The layer it was made from, as the manifest says.
    pub source_diff_id: Option<String>,
    /// The image that it was made for, if that is another one.
    pub foreign: Option<String>,
    /// Whether the whole pack lies in this node's store.
    pub on_node: bool,
    /// Its chunks that lie on this node, in this pack or in any image that was opened there.
    pub node: ChunkSum,
    /// What its stored bytes are.
    pub parts: StoredParts,
    /// Chunks with a slice.
    pub slices: u64,
    /// Chunks with small files.
    pub bundles: u64,
    /// Chunks of which the tree uses nothing.
    pub dead: ChunkSum,
    /// What each of the other images has of it.
    pub shared_with: Vec<ChunkSum>,
    /// Its chunks, in the order of the device.
    pub chunks: Vec<ChunkRow>,
}

/// An image that is compared with.
#[derive(Debug, Serialize)]
pub struct OtherImage {
    /// As the user wrote it.
    pub image: String,
    /// Its manifest.
    pub manifest: Digest,
}

/// The whole picture.
#[derive(Debug, Serialize)]
pub struct ChunkMap {
    /// The image, as the user wrote it.
    pub image: String,
    /// Its manifest.
    pub manifest: Digest,
    /// The images it is compared with.
    pub with: Vec<OtherImage>,
    /// Bytes of packs and meta.
    pub stored_bytes: u64,
    /// What they are.
    pub parts: StoredParts,
    /// Names of regular files.
    pub files: u64,
    /// Its packs.
    pub packs: Vec<PackMap>,
    /// What each two images have in common, this one first; on the diagonal, all of an image's chunks.
    pub matrix: Vec<Vec<ChunkSum>>,
    /// The directories that cost most.
    pub directories: Vec<Bill>,
}

impl ChunkMap {
    /// Looks at an image. `watch` is told which file lies in which chunk.
    ///
    /// # Errors
    /// If its tree is not valid or cannot be read.
    pub fn new(
        engine: &Engine,
        opened: &Opened,
        with: &[Opened],
        watch: &mut dyn WatchFiles,
    ) -> Result<Self, EngineError> {
        image::validate(opened)?;
        let name = opened.located.name();
        let fs = ImageFs::open(&opened.image, &name)?;
        let limit = small_limit(opened);
        let usage = usage(opened, &fs, limit.unwrap_or(0), BILLS, watch)?;
        let mut owners = ChunkOwners::default();
        for each in std::iter::once(opened).chain(with) {
            owners.add(each.image.maps());
        }
        let store = engine.store()?.clone();
        let mut packs = packs(opened, with.len(), &*store.source());
        let whole: Vec<bool> = packs.iter().map(|pack| pack.on_node).collect();
        let here = on_node(&store, opened.image.maps(), |device| whole.get(device) == Some(&true));
        packs.iter_mut().zip(here).for_each(|(pack, here)| pack.node = here);
        fill(&mut packs, opened, &usage, &owners, limit.is_some());
        let mut parts = StoredParts { meta: opened.image.manifest().meta.size, ..StoredParts::default() };
        packs.iter().for_each(|pack| parts.add(&pack.parts));
        let other = |each: &Opened| OtherImage { image: each.located.name(), manifest: each.located.digest };
        let packs_bytes = total(packs.iter().map(|pack| pack.bytes));
        Ok(Self {
            image: name.clone(),
            manifest: opened.located.digest,
            with: with.iter().map(other).collect(),
            stored_bytes: packs_bytes.saturating_add(parts.meta),
            parts,
            files: usage.files,
            packs,
            matrix: owners.matrix(),
            directories: usage.directories,
        })
    }
}

/// Returns the packs without their chunks.
fn packs(opened: &Opened, others: usize, here: &dyn Source) -> Vec<PackMap> {
    let document = opened.located.document.as_ref();
    let of_layer = |index: usize, key: &str| {
        document.and_then(|document| document.layers.get(index)?.annotations.get(key).cloned())
    };
    let whole = |pack: &Blob| matches!(here.size(pack.digest), Ok(Some(size)) if size == pack.size);
    let all = opened.image.manifest().packs.iter().zip(&opened.image.maps().devices).enumerate();
    all.map(|(index, (pack, device))| PackMap {
        digest: pack.digest,
        bytes: pack.size,
        device: device.id,
        device_bytes: u64::from(device.map.blocks()) * BLOCK_U64,
        used_bytes: 0,
        source_diff_id: of_layer(index, media::ANNOTATION_SOURCE_DIFF_ID),
        foreign: of_layer(index, media::ANNOTATION_FOREIGN),
        on_node: whole(pack),
        node: ChunkSum::default(),
        parts: StoredParts { layer_metas: pack.size.saturating_sub(device.frames.length()), ..StoredParts::default() },
        slices: 0,
        bundles: 0,
        dead: ChunkSum::default(),
        shared_with: vec![ChunkSum::default(); others],
        chunks: Vec::with_capacity(usize::try_from(device.map.chunks()).unwrap_or(0)),
    })
    .collect()
}

/// Adds the chunks to their packs.
fn fill(packs: &mut [PackMap], opened: &Opened, usage: &Usage, owners: &ChunkOwners, kinds: bool) {
    for chunk in chunks(opened.image.maps()) {
        let Some(pack) = packs.get_mut(chunk.device) else { continue };
        let used = usage.devices.get(chunk.device).and_then(|chunks| chunks.get(chunk.number as usize));
        let used = used.copied().unwrap_or_default();
        let kind = if kinds { kind(used) } else { ChunkKind::Unknown };
        // Bit 0 is this image itself.
        pack.push(&chunk, used.used, kind, owners.of(chunk.digest) >> 1);
    }
    packs.iter_mut().for_each(PackMap::name_dead);
}

impl PackMap {
    fn push(&mut self, chunk: &ImageChunk, used_blocks: u32, kind: ChunkKind, shared_with: u32) {
        let ImageChunk { digest, blocks, stored, .. } = *chunk;
        let row = ChunkRow { digest, blocks, used_blocks, stored, kind, shared_with };
        self.used_bytes = self.used_bytes.saturating_add(u64::from(used_blocks) * BLOCK_U64);
        self.parts.add_chunk(&row);
        if used_blocks == 0 {
            self.dead.add(chunk.bytes(), stored);
        }
        for (number, sum) in self.shared_with.iter_mut().enumerate() {
            if shared_with >> number & 1 == 1 {
                sum.add(chunk.bytes(), stored);
            }
        }
        self.chunks.push(row);
    }

    /// Gives chunks that no file uses their kind, as far as it follows from the others: a device has slices first, bundles behind.
    fn name_dead(&mut self) {
        let last_slice = self.chunks.iter().rposition(|row| row.kind == ChunkKind::Slice);
        let first_bundle = self.chunks.iter().position(|row| row.kind == ChunkKind::Bundle);
        for (at, row) in self.chunks.iter_mut().enumerate() {
            if row.kind == ChunkKind::Unknown {
                if last_slice.is_some_and(|last| at < last) {
                    row.kind = ChunkKind::Slice;
                } else if first_bundle.is_some_and(|first| at > first) {
                    row.kind = ChunkKind::Bundle;
                }
            }
            match row.kind {
                ChunkKind::Slice => self.slices = self.slices.saturating_add(1),
                ChunkKind::Bundle => self.bundles = self.bundles.saturating_add(1),
                ChunkKind::Unknown => {}
            }
        }
    }
}

const fn kind(used: ChunkUse) -> ChunkKind {
    match (used.small, used.large) {
        (true, false) => ChunkKind::Bundle,
        (false, true) => ChunkKind::Slice,
        // Both: not by our rules.
        _ => ChunkKind::Unknown,
    }
}

/// Returns the length up to which files are bundled: half a bundle, which the manifest says. An image that was converted on the way in
/// has the options of this program.
fn small_limit(opened: &Opened) -> Option<u64> {
    let Some(document) = &opened.located.document else {
        let defaults = dimsum_convert::ConvertOptions::default();
        return opened.located.converted_from.map(|_| u64::from(defaults.bundle_size / 2));
    };
    let options = document.annotations.get(media::ANNOTATION_OPTIONS)?;
    let bundle = options.split(',').find_map(|option| option.strip_prefix("bundle="))?;
    bundle.parse::<u64>().ok().map(|bundle| bundle / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(used_blocks: u32, kind: ChunkKind, shared_with: u32) -> ChunkRow {
        ChunkRow { digest: Blake3::new([0; 32]), blocks: 4, used_blocks, stored: 1000, kind, shared_with }
    }

    #[test]
    fn every_stored_byte_of_a_chunk_is_one_part() {
        let mut parts = StoredParts::default();
        for row in [row(4, ChunkKind::Slice, 0), row(1, ChunkKind::Bundle, 0b10), row(0, ChunkKind::Unknown, 1)] {
            parts.add_chunk(&row);
        }
        assert_eq!(parts, StoredParts { own: 1000, shared: 250, beside: 750, dead: 1000, ..StoredParts::default() });
    }

    #[test]
    fn a_dead_chunk_between_slices_is_one() {
        let mut pack = PackMap {
            digest: Digest::of(b""),
            bytes: 0,
            device: DeviceId::new([0; 32]),
            device_bytes: 0,
            used_bytes: 0,
            source_diff_id: None,
            foreign: None,
            on_node: false,
            node: ChunkSum::default(),
            parts: StoredParts::default(),
            slices: 0,
            bundles: 0,
            dead: ChunkSum::default(),
            shared_with: Vec::new(),
            chunks: [ChunkKind::Unknown, ChunkKind::Slice, ChunkKind::Unknown, ChunkKind::Bundle, ChunkKind::Unknown]
                .map(|kind| row(1, kind, 0))
                .into(),
        };
        pack.name_dead();
        let kinds: Vec<ChunkKind> = pack.chunks.iter().map(|row| row.kind).collect();
        assert_eq!(
            kinds,
            [ChunkKind::Slice, ChunkKind::Slice, ChunkKind::Unknown, ChunkKind::Bundle, ChunkKind::Bundle]
        );
        assert_eq!((pack.slices, pack.bundles), (2, 2));
    }
}
