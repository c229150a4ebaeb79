//! Packs of other images and their content, found by digest.
//!
//! The tables are shared with the threads that compress. The sources of the packs are kept apart from them.

use dimsum_format::manifest::Blob;
use dimsum_format::map::{DeviceMap, FrameMap};
use dimsum_format::pack::FileRow;
use dimsum_format::{Blake3, DeviceId, Digest};

use super::describe::DescribedPack;

/// A pack of another image.
#[derive(Debug)]
pub(crate) struct KnownPack {
    /// Where it is, for messages.
    pub(crate) source_name: String,
    /// The manifest that lists it.
    pub(crate) image: Digest,
    pub(crate) blob: Blob,
    /// The SHA-256 of the device by that image's config: for containerd, not for us.
    pub(crate) diff_id: Digest,
    /// Source layer and chain id that it was made of, if the manifest says.
    pub(crate) of: Option<(Digest, Digest)>,
    pub(crate) id: DeviceId,
    pub(crate) map: DeviceMap,
    pub(crate) frames: FrameMap,
    pub(crate) files: Vec<FileRow>,
}

/// A place in one of the packs: which, and the row of its device map or file table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackRow {
    pub(crate) pack: u16,
    pub(crate) row: u32,
}

/// All packs, and two indexes over their contents.
#[derive(Debug, Default)]
pub(crate) struct KnownPacks {
    packs: Vec<KnownPack>,
    /// Chunks and small files, each by digest, then by pack and row: so the order of what is found is that of
    /// the packs.
    slices: Vec<PackRow>,
    files: Vec<PackRow>,
}

impl KnownPack {
    pub(crate) fn new(
        source_name: String,
        image: Digest,
        blob: Blob,
        diff_id: Digest,
        of: Option<(Digest, Digest)>,
        described: DescribedPack,
    ) -> Self {
        let DescribedPack { id, map, frames, files, .. } = described;
        Self { source_name, image, blob, diff_id, of, id, map, frames, files }
    }

    /// Returns what it is called in messages, and when it is refused.
    pub(crate) fn name(&self) -> String {
        format!("pack {} of {} {}", self.blob.digest, self.source_name, self.image)
    }

    /// Rows in memory.
    pub(crate) fn rows(&self) -> u64 {
        self.map.chunks() + self.files.len() as u64
    }

    /// The rows of the file table that lie in a chunk, with the number of the first.
    pub(super) fn files_of(&self, chunk: u32) -> (usize, &[FileRow]) {
        let blocks = self.map.chunk_blocks(chunk).unwrap_or_default();
        let start = self.files.partition_point(|file| file.block < blocks.start);
        let end = self.files.partition_point(|file| file.block < blocks.end);
        (start, self.files.get(start..end).unwrap_or_default())
    }
}

impl KnownPacks {
    /// Makes the indexes.
    pub(crate) fn new(packs: Vec<KnownPack>) -> Self {
        let (mut slices, mut files) = (Vec::new(), Vec::new());
        for (pack, number) in packs.iter().zip(0u16..) {
            // Chunks before the first small file are slices.
            let bundles = pack.files.first().and_then(|file| pack.map.chunk_of_block(file.block));
            let count = bundles.unwrap_or_else(|| u32::try_from(pack.map.chunks()).unwrap_or(u32::MAX));
            slices.extend((0..count).map(|row| PackRow { pack: number, row }));
            files.extend((0..).zip(&pack.files).map(|(row, _)| PackRow { pack: number, row }));
        }
        let mut known = Self { packs, slices: Vec::new(), files: Vec::new() };
        slices.sort_by_key(|&row| (known.slice_digest(row), row.pack, row.row));
        files.sort_by_key(|&row| (known.file_digest(row), row.pack, row.row));
        (known.slices, known.files) = (slices, files);
        known
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }

    pub(crate) fn packs(&self) -> &[KnownPack] {
        &self.packs
    }

    pub(crate) fn pack(&self, number: u16) -> Option<&KnownPack> {
        self.packs.get(usize::from(number))
    }

    /// Where a slice is, in the order of the packs.
    pub(crate) fn slices(&self, digest: Blake3) -> impl Iterator<Item = PackRow> {
        let start = self.slices.partition_point(|&row| self.slice_digest(row) < Some(digest));
        let rest = self.slices.get(start..).unwrap_or_default().iter().copied();
        rest.take_while(move |&row| self.slice_digest(row) == Some(digest))
    }

    /// Where a small file is.
    pub(crate) fn files(&self, digest: Blake3) -> impl Iterator<Item = PackRow> {
        let start = self.files.partition_point(|&row| self.file_digest(row) < Some(digest));
        let rest = self.files.get(start..).unwrap_or_default().iter().copied();
        rest.take_while(move |&row| self.file_digest(row) == Some(digest))
    }

    pub(crate) fn file(&self, row: PackRow) -> Option<FileRow> {
        self.pack(row.pack)?.files.get(row.row as usize).copied()
    }

    fn slice_digest(&self, row: PackRow) -> Option<Blake3> {
        self.pack(row.pack)?.map.digest(row.row)
    }

    fn file_digest(&self, row: PackRow) -> Option<Blake3> {
        self.file(row).map(|file| file.digest)
    }
}
