//! Assembles the image when all layers have been read.
//!
//! It finds the devices that the image uses, and so the packs to list. Packs that do not exist yet are written,
//! several of them and the meta at the same time.

use std::num::NonZeroUsize;
use std::sync::Arc;

use dimsum_format::{BLOCK_U64, DeviceId, Digest};
use dimsum_recipe::temporary::{TemporaryFile, TemporaryFiles};
use dimsum_source::Source;
use dimsum_tree::Tree;

use crate::blob::BlobOut;
use crate::content::{ContentTable, SmallRows};
use crate::error::ConvertError;
use crate::image::{self, WrittenMeta};
use crate::known::ForeignPacks;
use crate::layer::{
    Bundling, LayerChunks, LayerDevice, Maps, PackContent, PackContext, Packed, verify_pack, write_pack,
};
use crate::manifest::{ListedPack, SourceLayer};
use crate::ordered_tasks::with_workers;
use crate::original::{Keeping, Kept};
use crate::outcome::LayerSummary;
use crate::progress::ConversionPhase;
use crate::reuse::Reusable;
use crate::task::ConvertTask;

/// A layer whose content has its places.
pub(crate) enum LaidOut<'a> {
    /// It was read, and its bundles are with the pool.
    Own {
        device: Arc<LayerDevice>,
        tree: Arc<Tree>,
        rows: SmallRows,
        bundling: Bundling,
        origin: String,
        /// The pack that it may turn out to be.
        reusable: Option<Reusable<'a>>,
    },
    /// It is what this pack says, unseen.
    Trusted(Reusable<'a>),
}

/// All blobs of data, written but not visible yet, or elsewhere.
pub(crate) struct Assembled<'t> {
    /// In the order of the image.
    pub(crate) packs: Vec<Assembly<'t>>,
    /// Packs of which the image uses nothing, and recipes do.
    pub(crate) unlisted: Vec<Assembly<'t>>,
    pub(crate) meta: WrittenMeta<'t>,
    /// The recipes.
    pub(crate) kept: Option<Kept<'t>>,
}

/// A pack of the image.
pub(crate) struct Assembly<'t> {
    pub(crate) listed: ListedPack,
    /// The layer that it stands for; none if it is another image's.
    pub(crate) layer: Option<usize>,
    pub(crate) from: PackOrigin<'t>,
    /// Whether a tag is to say that it is the layer's pack: it was made here, or found elsewhere and proven.
    pub(crate) to_tag: bool,
}

/// Where a pack comes from.
pub(crate) enum PackOrigin<'t> {
    /// It was written.
    Written(Packed<'t>),
    /// It is there already.
    Source { source: &'t dyn Source, what: String },
}

/// A device that the image lists.
struct ListedDevice<'t> {
    number: u16,
    id: DeviceId,
    layer: Option<usize>,
    pack: PackPlan<'t>,
}

/// The work for a pack.
enum PackPlan<'t> {
    /// It is written, or compared with one that may take its place.
    Make(Box<PackContent>, Option<Box<Reusable<'t>>>),
    /// It is taken as it is.
    Take { pack: ListedPack, source: &'t dyn Source, what: String },
}

/// The state when all layers have been read and the pool is done.
#[derive(Clone, Copy)]
pub(crate) struct Assembler<'i, 'a> {
    pub(crate) task: ConvertTask<'a>,
    pub(crate) contents: &'i ContentTable,
    /// The spool of frames.
    pub(crate) frames: &'i TemporaryFile,
    pub(crate) temporaries: &'i TemporaryFiles,
    pub(crate) foreign: &'i ForeignPacks<'a>,
    pub(crate) layers: &'i [SourceLayer],
}

impl<'a> Assembler<'_, 'a> {
    /// Writes packs and meta of the image, whose tree this is, and completes the summaries of its layers.
    pub(crate) fn assemble(
        self,
        tree: &Tree,
        laid: Vec<Option<LaidOut<'a>>>,
        keeping: Option<Keeping<'a>>,
        summaries: &mut [LayerSummary],
    ) -> Result<Assembled<'a>, ConvertError> {
        let live = image::live(tree, self.contents)?;
        let PlannedPacks { listed, maps, mut unlisted, devices } =
            self.plan(&live, laid, keeping.is_some(), summaries)?;
        let keeping = keeping.map(|keeping| {
            let ConvertTask { options, progress, .. } = self.task;
            keeping.make_recipes(self.contents, &devices, options, self.temporaries, progress)
        });
        let kept = keeping.transpose()?;
        let needed = kept.as_ref().map(Kept::devices).unwrap_or_default();
        unlisted.retain(|(pack, _)| needed.contains(&pack.id));
        let count = listed.iter().filter(|listed| matches!(listed.pack, PackPlan::Make(..))).count();
        let ConvertTask { target, options, progress, .. } = self.task;
        let threads = options.jobs.get().min(count).max(1);
        let common = PackContext {
            contents: self.contents,
            frames: self.frames,
            devices: &devices,
            options,
            jobs: NonZeroUsize::new(options.jobs.get() / threads).unwrap_or(NonZeroUsize::MIN),
            temporaries: self.temporaries,
        };
        let count = self.layers.len();
        let work = |(): &mut (), (listed, maps): (&ListedDevice<'a>, &Maps)| {
            let layer = listed.layer;
            if let (Some(index), PackPlan::Make(..)) = (layer, &listed.pack) {
                progress.phase(ConversionPhase::Pack { index, count });
            }
            let (listed, from, to_tag) = match &listed.pack {
                PackPlan::Make(plan, None) => {
                    let packed = write_pack(plan, maps, common, BlobOut::new(target, progress)?)?;
                    let listed = ListedPack { blob: packed.blob.blob, diff_id: packed.diff_id, foreign: None };
                    (listed, PackOrigin::Written(packed), true)
                }
                PackPlan::Make(plan, Some(reusable)) => {
                    let candidate = &reusable.candidate;
                    verify_pack(plan, maps, common, reusable, progress)?;
                    let from = PackOrigin::Source { source: candidate.source, what: candidate.what.clone() };
                    (candidate.listed(), from, !candidate.tagged)
                }
                PackPlan::Take { pack, source, what } => {
                    (*pack, PackOrigin::Source { source: *source, what: what.clone() }, false)
                }
            };
            Ok::<_, ConvertError>(Assembly { listed, layer, from, to_tag })
        };
        let threads = NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN);
        with_workers(
            threads,
            || (),
            work,
            |ordered| {
                let mut packs = Vec::new();
                let beside = unlisted.iter().map(|(pack, maps)| (pack, maps));
                for task in listed.iter().zip(&maps).chain(beside) {
                    if let Some(pack) = ordered.submit(task) {
                        packs.push(pack?);
                    }
                }
                progress.phase(ConversionPhase::Meta);
                let out = BlobOut::new(target, progress)?;
                let devices: Vec<_> = listed.iter().map(|listed| (listed.number, listed.id)).collect();
                let meta = image::write_meta(tree, self.contents, &devices, &maps, options, out)?;
                while let Some(pack) = ordered.take() {
                    packs.push(pack?);
                }
                let unlisted = packs.split_off(listed.len());
                Ok(Assembled { packs, unlisted, meta, kept })
            },
        )
    }

    /// Names all devices, with the work for each listed one: packs of other images first, then the layers in their
    /// order. Devices of which the image uses nothing are returned beside these if recipes may need them.
    fn plan(
        self,
        live: &[bool],
        laid: Vec<Option<LaidOut<'a>>>,
        keeping: bool,
        summaries: &mut [LayerSummary],
    ) -> Result<PlannedPacks<'a>, ConvertError> {
        let is_live = |number: u16| live.get(usize::from(number)) == Some(&true);
        let mut planned = PlannedPacks::default();
        let mut foreign = Vec::new();
        for number in self.foreign.devices() {
            let Some((known, source)) = self.foreign.pack_of(number) else { continue };
            planned.name(number, known.id, known.map.blocks());
            if !is_live(number) && !keeping {
                continue;
            }
            let pack = ListedPack { blob: known.blob, diff_id: known.diff_id, foreign: Some(known.image) };
            let pack = PackPlan::Take { pack, source, what: known.name() };
            let maps = (known.map.clone(), known.frames.clone());
            let chain_id = known.of.map(|(_, chain_id)| chain_id);
            let pack = (ListedDevice { number, id: known.id, layer: None, pack }, maps);
            if is_live(number) {
                foreign.push((chain_id, pack));
            } else {
                planned.unlisted.push(pack);
            }
        }
        let mut own = Vec::new();
        for (layer, laid) in laid.into_iter().enumerate() {
            let number = u16::try_from(layer).expect("a source has at most 512 layers");
            let Some(laid) = laid else {
                own.extend(self.stands_for(layer, &mut foreign));
                continue;
            };
            let (id, maps, pack) = prepare(number, laid)?;
            let blocks = maps.0.blocks();
            planned.name(number, id, blocks);
            if let Some(summary) = summaries.get_mut(layer) {
                summary.device = Some(id);
                summary.device_bytes = u64::from(blocks) * BLOCK_U64;
                summary.chunks = maps.0.chunks();
            }
            if is_live(number) {
                own.push((ListedDevice { number, id, layer: Some(layer), pack }, maps));
            } else if keeping {
                planned.unlisted.push((ListedDevice { number, id, layer: Some(layer), pack }, maps));
            }
        }
        (planned.listed, planned.maps) = foreign.into_iter().map(|(_, listed)| listed).chain(own).unzip();
        Ok(planned)
    }

    /// Returns the pack of another image that was made of the same layers, if this one stores nothing of its own.
    fn stands_for(
        self,
        layer: usize,
        foreign: &mut Vec<(Option<Digest>, (ListedDevice<'a>, Maps))>,
    ) -> Option<(ListedDevice<'a>, Maps)> {
        let (_, chain_id) = self.layers.get(layer)?.source?;
        let found = foreign.iter().position(|(of, _)| *of == Some(chain_id))?;
        let (_, (listed, maps)) = foreign.remove(found);
        Some((ListedDevice { layer: Some(layer), ..listed }, maps))
    }
}

/// Takes the chunks of a layer together.
fn prepare(number: u16, laid: LaidOut<'_>) -> Result<(DeviceId, Maps, PackPlan<'_>), ConvertError> {
    match laid {
        LaidOut::Own { device, tree, rows, bundling, origin, reusable } => {
            let LayerChunks { maps: (map, frames), offsets, hasher, .. } = bundling.finish(&origin)?;
            let id = map.id();
            let frames = match &reusable {
                None => frames,
                Some(reusable) => reusable.frames_of(id)?,
            };
            let plan = PackContent { number, id, offsets, hasher, device, tree, rows, origin };
            Ok((id, (map, frames), PackPlan::Make(Box::new(plan), reusable.map(Box::new))))
        }
        LaidOut::Trusted(Reusable { candidate, described }) => {
            let (pack, source) = (candidate.listed(), candidate.source);
            let pack = PackPlan::Take { pack, source, what: candidate.what };
            Ok((described.id, (described.map, described.frames), pack))
        }
    }
}

/// The state before packs are written.
#[derive(Default)]
struct PlannedPacks<'t> {
    /// In the order of the image.
    listed: Vec<ListedDevice<'t>>,
    /// Of each that is listed.
    maps: Vec<Maps>,
    /// Devices of which the image uses nothing, if their packs may be needed all the same.
    unlisted: Vec<(ListedDevice<'t>, Maps)>,
    /// Id and blocks of each device, by its number.
    devices: Vec<Option<(DeviceId, u32)>>,
}

impl PlannedPacks<'_> {
    fn name(&mut self, number: u16, id: DeviceId, blocks: u32) {
        let index = usize::from(number);
        if self.devices.len() <= index {
            self.devices.resize(index + 1, None);
        }
        if let Some(device) = self.devices.get_mut(index) {
            *device = Some((id, blocks));
        }
    }
}
