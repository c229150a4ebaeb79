//! Packs of other images: content that they hold need not be stored again.
//!
//! ```text
//!   images named ─▸ load ─▸ describe each pack (maps, file table) ─▸ KnownPacks: digest → pack, row
//!   layer read: slices of known digest are not compressed (promised)
//!   layer laid out: wanted ─▸ choose (a quarter of a pack, few packs) ─▸ prove (file tables) ─▸ places in foreign devices
//! ```
//!
//! If a layer does not take a promised slice after all, the slice is fetched from the pack that promised it.

mod choose;
mod describe;
mod load;
mod packs;
mod prove;

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

use dimsum_format::codec::Decompressor;
use dimsum_format::limits::{MAX_PACKS, MAX_SOURCE_LAYERS};
use dimsum_format::{BLOCK_U64, Blake3, FormatError};
use dimsum_recipe::temporary::TemporaryFile;
use dimsum_source::Source;
use dimsum_tree::Tree;

use self::choose::{MAX_FOREIGN, WantedRow, choose};
pub(crate) use self::describe::{DescribedPack, describe};
pub(crate) use self::load::{list, load, refuse, without};
use self::packs::PackRow;
pub(crate) use self::packs::{KnownPack, KnownPacks};
use self::prove::{fetch, proves};
use crate::content::{self, ContentPiece, ContentPlace, ContentTable, FileContent, SliceId, SmallId};
use crate::error::ConvertError;
use crate::ordered_tasks::with_workers;
use crate::sharing::RefusedPack;

/// Devices below this number are those of layers; above it those of packs of other images.
const FIRST_FOREIGN: u16 = MAX_SOURCE_LAYERS as u16;
/// Bundles fetched at the same time: as many as fill a link whose round trip is that of a registry.
pub(crate) const FETCHES: NonZeroUsize = NonZeroUsize::new(8).expect("8 is not 0");

/// Slices that need not be compressed, because a pack has them.
#[derive(Clone, Debug, Default)]
pub(crate) enum Promised {
    #[default]
    Nothing,
    /// Packs of other images.
    Packs(Arc<KnownPacks>),
    /// The pack that the layer may turn out to be.
    Pack(Arc<HashSet<Blake3>>),
}

impl Promised {
    pub(crate) fn holds(&self, slice: Blake3) -> bool {
        match self {
            Self::Nothing => false,
            Self::Packs(known) => known.slices(slice).next().is_some(),
            Self::Pack(chunks) => chunks.contains(&slice),
        }
    }
}

/// The packs of other images in a conversion.
#[derive(Debug, Default)]
pub(crate) struct ForeignPacks<'s> {
    known: Arc<KnownPacks>,
    /// Where each pack is.
    sources: Vec<&'s dyn Source>,
    /// Packs that are referred to, in the order in which layers came to need them.
    accepted: Vec<u16>,
    /// Packs whose file tables lied.
    distrusted: HashSet<u16>,
    /// Bundles whose files are where the file table says.
    proven: HashSet<(u16, u32)>,
    limit: usize,
    verify: bool,
    /// Bytes of content that lie in them.
    pub(crate) content_bytes: u64,
    pub(crate) refused: Vec<RefusedPack>,
}

/// A piece of content that has no place yet.
#[derive(Clone, Copy)]
enum UnplacedContent {
    Slice(SliceId),
    Small(SmallId),
}

impl<'s> ForeignPacks<'s> {
    /// Prepares for an image of so many layers.
    pub(crate) fn new(packs: Vec<(KnownPack, &'s dyn Source)>, layers: usize, verify: bool) -> Self {
        let limit = MAX_FOREIGN.min(MAX_PACKS.saturating_sub(layers));
        let (packs, sources) = packs.into_iter().unzip();
        Self { known: Arc::new(KnownPacks::new(packs)), sources, limit, verify, ..Self::default() }
    }

    /// Returns the slices that are in one of the packs.
    pub(crate) fn promised(&self) -> Promised {
        if self.known.is_empty() { Promised::Nothing } else { Promised::Packs(Arc::clone(&self.known)) }
    }

    /// Gives content of a layer that has no place yet, and that packs worth a reference have, its place there.
    /// `spool` has the layer's small files.
    pub(crate) fn place(
        &mut self,
        tree: &Tree,
        contents: &mut ContentTable,
        spool: &TemporaryFile,
    ) -> Result<(), ConvertError> {
        if self.known.is_empty() {
            return Ok(());
        }
        let accepted = self.accepted.clone();
        loop {
            let (pieces, wanted) = self.wanted(tree, contents)?;
            self.accepted.clone_from(&accepted);
            let blocks: Vec<u32> = self.known.packs().iter().map(|pack| pack.map.blocks()).collect();
            let chosen = choose(&wanted, &blocks, &mut self.accepted, self.limit);
            let taken: Vec<(UnplacedContent, PackRow)> =
                pieces.into_iter().zip(chosen).filter_map(|(piece, row)| Some((piece, row?))).collect();
            // A pack that turns out to lie is out, and everything is chosen anew: at most once per pack.
            if self.verify && !self.prove(&taken, contents, spool)? {
                continue;
            }
            for (piece, row) in taken {
                self.set(piece, row, contents)?;
            }
            return Ok(());
        }
    }

    /// Returns what the layer has that has no place yet and is in a pack, in path order.
    fn wanted(
        &self,
        tree: &Tree,
        contents: &ContentTable,
    ) -> Result<(Vec<UnplacedContent>, Vec<WantedRow>), ConvertError> {
        let (mut pieces, mut wanted) = (Vec::new(), Vec::new());
        let (mut slices, mut files) = (HashSet::new(), HashSet::new());
        let table = content::read(&contents.slices);
        let mut add = |piece, blocks, rows: Vec<PackRow>| {
            if !rows.is_empty() {
                pieces.push(piece);
                wanted.push(WantedRow { blocks, rows });
            }
        };
        for id in tree.ids() {
            let inode = tree.inode(id);
            match inode.content().map(FileContent::of) {
                Some(FileContent::Large(file)) => {
                    for piece in contents.large.pieces(file, inode.size(), &table) {
                        let ContentPiece::Slice { id, .. } = piece else { continue };
                        let slice = table.slice(id);
                        if slice.place.is_none() && slices.insert(id) {
                            add(
                                UnplacedContent::Slice(id),
                                slice.blocks,
                                one_per_pack(self.known.slices(slice.digest)),
                            );
                        }
                    }
                }
                Some(FileContent::Small(id)) if contents.small.place(id).is_none() && files.insert(id) => {
                    let record = contents.small.record(id)?;
                    let trusted =
                        |row: &PackRow| !self.distrusted.contains(&row.pack) && self.fits(*row, record.length);
                    let rows = one_per_pack(self.known.files(record.digest).filter(trusted));
                    add(UnplacedContent::Small(id), record.length.div_ceil(BLOCK_U64 as u32), rows);
                }
                _ => {}
            }
        }
        Ok((pieces, wanted))
    }

    /// A row with the digest of a file, but another length, is a lie.
    fn fits(&self, row: PackRow, length: u32) -> bool {
        self.known.file(row).is_some_and(|file| file.length == length)
    }

    /// Proves the bundles that hold small files which were chosen. False if one is not what its file table says.
    fn prove(
        &mut self,
        taken: &[(UnplacedContent, PackRow)],
        contents: &ContentTable,
        spool: &TemporaryFile,
    ) -> Result<bool, ConvertError> {
        let mut bundles = Vec::new();
        let mut seen = HashSet::new();
        for &(piece, row) in taken {
            let UnplacedContent::Small(_) = piece else { continue };
            let Some((pack, file)) = self.known.pack(row.pack).zip(self.known.file(row)) else { continue };
            let Some(chunk) = pack.map.chunk_of_block(file.block) else { continue };
            let bundle = (row.pack, chunk);
            if !self.proven.contains(&bundle) && seen.insert(bundle) {
                bundles.push(bundle);
            }
        }
        let bytes_of = |digest| bytes_at_hand(digest, contents, spool);
        let work = |decompressor: &mut Decompressor, (number, chunk): (u16, u32)| {
            let proof = match self.pack(number) {
                Some((pack, source)) => proves(pack, source, chunk, decompressor, &bytes_of),
                None => Ok(false),
            };
            (number, chunk, proof)
        };
        let proofs = with_workers(FETCHES, Decompressor::default, work, |ordered| {
            let mut proofs: Vec<_> = bundles.into_iter().filter_map(|bundle| ordered.submit(bundle)).collect();
            proofs.extend(std::iter::from_fn(|| ordered.take()));
            proofs
        });
        let mut all = true;
        for (number, chunk, proof) in proofs {
            let name = || self.known.pack(number).map(KnownPack::name).unwrap_or_default();
            if proof.map_err(|error| without(name(), error))? {
                self.proven.insert((number, chunk));
            } else {
                all = false;
                self.distrust(number, chunk);
            }
        }
        Ok(all)
    }

    fn distrust(&mut self, number: u16, chunk: u32) {
        let Some(pack) = self.known.pack(number) else { return };
        if self.distrusted.insert(number) {
            let what = format!("files of pack {} in {}", pack.blob.digest, pack.source_name);
            self.refused
                .push(RefusedPack { what, reason: format!("chunk {chunk} does not hold what the file table says") });
        }
    }

    fn set(&mut self, piece: UnplacedContent, row: PackRow, contents: &mut ContentTable) -> Result<(), ConvertError> {
        let device = FIRST_FOREIGN + row.pack;
        let Some(pack) = self.known.pack(row.pack) else { return Ok(()) };
        match piece {
            UnplacedContent::Slice(id) => {
                let Some(blocks) = pack.map.chunk_blocks(row.row) else { return Ok(()) };
                self.content_bytes += blocks.len() as u64 * BLOCK_U64;
                content::write(&contents.slices).set_place(id, ContentPlace { device, block: blocks.start });
            }
            UnplacedContent::Small(id) => {
                let Some(file) = self.known.file(row) else { return Ok(()) };
                self.content_bytes += u64::from(file.length);
                contents.small.set_place(id, ContentPlace { device, block: file.block });
            }
        }
        Ok(())
    }

    /// Returns the pack whose device has this number, and where it is.
    pub(crate) fn pack_of(&self, device: u16) -> Option<(&KnownPack, &'s dyn Source)> {
        self.pack(device.checked_sub(FIRST_FOREIGN)?)
    }

    fn pack(&self, number: u16) -> Option<(&KnownPack, &'s dyn Source)> {
        self.known.pack(number).zip(self.sources.get(usize::from(number)).copied())
    }

    /// Returns the numbers of the devices that are referred to, in the order of the packs.
    pub(crate) fn devices(&self) -> Vec<u16> {
        let mut devices: Vec<u16> = self.accepted.iter().map(|pack| FIRST_FOREIGN + pack).collect();
        devices.sort_unstable();
        devices
    }

    /// Fetches a slice that was promised and is to be stored after all.
    pub(crate) fn fetch(&self, digest: Blake3, decompressor: &mut Decompressor) -> Result<Vec<u8>, ConvertError> {
        let mut last = None;
        for row in self.known.slices(digest) {
            let Some((pack, source)) = self.pack(row.pack) else { continue };
            match fetch(pack, source, row.row, decompressor) {
                Ok(Some(bytes)) => return Ok(bytes),
                Ok(None) => {
                    let reason = "a chunk is not what its device map says".to_owned();
                    last = Some(ConvertError::Reuse { what: pack.name(), reason });
                }
                Err(error) => last = Some(without(pack.name(), error)),
            }
        }
        let nowhere =
            || ConvertError::format("image", FormatError::Frame { reason: "no pack has a slice that was promised" });
        Err(last.unwrap_or_else(nowhere))
    }
}

/// Keeps the first row in each pack.
fn one_per_pack(rows: impl Iterator<Item = PackRow>) -> Vec<PackRow> {
    let mut rows: Vec<PackRow> = rows.collect();
    rows.dedup_by_key(|row| row.pack);
    rows
}

/// Returns the bytes of a small file that this layer brought.
fn bytes_at_hand(
    digest: Blake3,
    contents: &ContentTable,
    spool: &TemporaryFile,
) -> Result<Option<Vec<u8>>, ConvertError> {
    let Some(id) = contents.small.find(digest)?.filter(|&id| contents.small.place(id).is_none()) else {
        return Ok(None);
    };
    let record = contents.small.record(id)?;
    let mut bytes = vec![0; record.length as usize];
    spool.read(record.offset, &mut bytes)?;
    Ok(Some(bytes))
}
