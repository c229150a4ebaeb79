//! Converts the layers of an image one after the other.
//!
//! A layer is read while the bundles of the one before are compressed. Packs and meta are written when all
//! layers have been read.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use dimsum_format::Digest;
use dimsum_format::codec::Decompressor;
use dimsum_format::manifest::ImageConfig;
use dimsum_recipe::temporary::TemporaryFiles;
use dimsum_source::Source;
use dimsum_tree::{Tree, TreeBuilder, merge};
use tracing::{debug, debug_span};

use crate::assemble::{Assembler, LaidOut};
use crate::content::{self, ContentTable, SliceId};
use crate::error::ConvertError;
use crate::known::{FETCHES, ForeignPacks, Promised, describe, load, refuse};
use crate::layer::{
    Expected, LayerDevice, LayerReader, ReadLayer, SpooledContent, bundle, read_directory, read_image_layer,
};
use crate::manifest::{self, SourceLayer};
use crate::ordered_tasks::with_workers;
use crate::original::Keeping;
use crate::outcome::{Converted, LayerSummary};
use crate::progress::ConversionPhase;
use crate::publish::Publication;
use crate::reuse::Reusable;
use crate::sharing::{PackReuse, Refusals};
use crate::task::ConvertTask;
use crate::trusted;
use crate::worker_pool::WorkerPool;

/// A conversion under way.
pub(crate) struct Conversion<'a> {
    task: ConvertTask<'a>,
    /// Layers of the source.
    count: usize,
    temporaries: TemporaryFiles,
    pool: WorkerPool,
    contents: ContentTable,
    foreign: ForeignPacks<'a>,
    /// The layers so far, merged.
    tree: Option<Arc<Tree>>,
    /// The layers so far, each if it has data of its own.
    laid: Vec<Option<LaidOut<'a>>>,
    layers: Vec<SourceLayer>,
    summaries: Vec<LayerSummary>,
    refused: &'a mut Refusals,
    /// Whether a pack was taken unseen: then nothing here proves what a layer becomes.
    unseen: bool,
    /// The records for recipes, if the original is kept.
    keeping: Option<Keeping<'a>>,
}

/// Prepares for an image of `count` layers, and lets `body` convert it. `keeping` collects the records for recipes.
pub(crate) fn run<'a>(
    task: ConvertTask<'a>,
    count: usize,
    refused: &'a mut Refusals,
    keeping: Option<Keeping<'a>>,
    body: impl FnOnce(Conversion<'a>) -> Result<Converted, ConvertError>,
) -> Result<Converted, ConvertError> {
    let ConvertTask { options, sharing, .. } = task;
    let temporaries = TemporaryFiles::new(options.temp_dir.clone());
    let contents = ContentTable::new(&temporaries, options.slice_size)?;
    let frames = temporaries.create()?;
    let foreign = load(&sharing.with, &temporaries, refused)?;
    let foreign = ForeignPacks::new(foreign, count, sharing.reuse != PackReuse::Trust);
    thread::scope(|scope| {
        body(Conversion {
            task,
            count,
            temporaries,
            pool: WorkerPool::start(scope, options.jobs, options.level, frames),
            contents,
            foreign,
            tree: None,
            laid: Vec::new(),
            layers: Vec::new(),
            summaries: Vec::new(),
            refused,
            unseen: false,
            keeping,
        })
    })
}

impl<'a> Conversion<'a> {
    /// Reads a directory as the only layer.
    pub(crate) fn directory(&mut self, path: &Path) -> Result<(), ConvertError> {
        self.task.progress.phase(ConversionPhase::Layer { index: 0, count: 1, digest: None, size: None });
        let origin = path.display().to_string();
        debug!("reads the directory");
        let read = read_directory(self.reader(&origin, self.foreign.promised()), path)?;
        self.layers.push(SourceLayer::default());
        let summary = LayerSummary { tar_bytes: read.taken.counts.bytes, ..LayerSummary::default() };
        self.lay_out(read, summary, origin, None)
    }

    /// Reads the next layer.
    pub(crate) fn layer(&mut self, source: &dyn Source, layer: &Expected, index: usize) -> Result<(), ConvertError> {
        let (digest, size) = (Some(layer.digest), Some(layer.size));
        self.task.progress.phase(ConversionPhase::Layer { index, count: self.count, digest, size });
        let origin = format!("layer {}", layer.digest);
        let _entered = debug_span!("layer", layer = index, blob = %layer.digest).entered();
        let below = self.layers.last().and_then(|below| below.source).map(|(_, chain_id)| chain_id);
        let chain_id = manifest::chain_id(below, layer.diff_id);
        let summary = LayerSummary {
            source: digest,
            diff_id: Some(layer.diff_id),
            blob_bytes: layer.size,
            ..LayerSummary::default()
        };
        let reusable = self.reusable(chain_id)?;
        self.layers.push(SourceLayer { source: Some((layer.diff_id, chain_id)), pack: None });
        let reusable = match reusable {
            Some(reusable) if self.is_trusted() => {
                debug!("takes an existing pack unread");
                return self.trust(reusable, summary);
            }
            reusable => reusable,
        };
        let promised = reusable.as_ref().map_or_else(|| self.foreign.promised(), Reusable::promised);
        debug!(size = layer.size, "reads the layer");
        let blob = source.open(layer.digest)?;
        let lower = self.tree.clone();
        let mut read = read_image_layer(self.reader(&origin, promised), blob, layer, lower.as_deref())?;
        drop(lower);
        debug!(tar_bytes = read.tar_bytes, "the layer is read");
        if let (Some(keeping), Some(recorded)) = (&mut self.keeping, read.recorded.take()) {
            keeping.layer(layer, read.tar_bytes, recorded);
        }
        let summary = LayerSummary { tar_bytes: read.tar_bytes, ..summary };
        self.lay_out(read, summary, origin, reusable)
    }

    /// Writes the packs and what belongs to the image as a whole, and makes everything visible. `source` is the
    /// manifest that was converted, if it was one.
    pub(crate) fn finish(self, config: ImageConfig, source: Option<Digest>) -> Result<Converted, ConvertError> {
        self.pool.wait_for_batches()?;
        let Self { task, temporaries, pool, contents, mut foreign, tree, laid, layers, mut summaries, .. } = self;
        let (refused, unseen) = (self.refused, self.unseen);
        let tree = match tree {
            Some(tree) => tree,
            // An image may have no layers at all.
            None => Arc::new(
                TreeBuilder::new()
                    .finish()
                    .map_err(|source| ConvertError::Tree { origin: "image".to_owned(), source })?,
            ),
        };
        let assembler = Assembler {
            task,
            contents: &contents,
            frames: pool.frames(),
            temporaries: &temporaries,
            foreign: &foreign,
            layers: &layers,
        };
        debug!(layers = layers.len(), "writes the packs and the meta");
        let assembled = assembler.assemble(&tree, laid, self.keeping, &mut summaries)?;
        let (inodes, shared_bytes) = (tree.len() as u64, foreign.content_bytes);
        let publication =
            Publication { task, layers, summaries, unseen, temporaries: &temporaries, inodes, shared_bytes };
        debug!("writes config and manifest");
        let mut converted = publication.publish(assembled, config, source)?;
        debug!("everything is visible");
        foreign.refused.drain(..).for_each(|refusal| refused.add(refusal));
        converted.shared.refused = std::mem::take(&mut refused.list);
        Ok(converted)
    }

    /// Looks for a pack that a layer may turn out to be.
    fn reusable(&mut self, chain_id: Digest) -> Result<Option<Reusable<'a>>, ConvertError> {
        while let Some(candidate) = self.task.candidates.find(chain_id, self.refused)? {
            match describe(candidate.source, candidate.blob, &self.temporaries) {
                Ok(described) => return Ok(Some(Reusable { candidate, described })),
                Err(error) => self.refused.add(refuse(candidate.what, error)?),
            }
        }
        Ok(None)
    }

    /// Says whether packs are taken unseen, here: the ids of devices below must be known, which those of layers
    /// that were read are only later.
    fn is_trusted(&self) -> bool {
        let read = |laid: &Option<LaidOut<'_>>| matches!(laid, Some(LaidOut::Own { .. }));
        // A recipe is made of the recorded reads.
        self.task.sharing.reuse == PackReuse::Trust && self.keeping.is_none() && !self.laid.iter().any(read)
    }

    /// Takes a layer as its pack says.
    fn trust(&mut self, reusable: Reusable<'a>, summary: LayerSummary) -> Result<(), ConvertError> {
        let number = self.number();
        let lower = self.laid.iter().zip(0..).filter_map(|(laid, number)| match laid {
            Some(LaidOut::Trusted(below)) => Some((number, below.described.id, below.described.map.blocks())),
            _ => None,
        });
        let lower: Vec<_> = lower.collect();
        let origin = reusable.candidate.what.clone();
        let (contents, options) = (&mut self.contents, self.task.options);
        let tree = trusted::read(&reusable.described, number, &lower, contents, options, &origin);
        let tree = tree.map_err(|error| match error {
            // Trust covers the claims of a pack, not malformed bytes.
            ConvertError::Malformed { source, .. } => reusable.differs(&source.to_string()),
            error => error,
        })?;
        self.contents.forget_unplaced();
        self.summaries.push(summary);
        self.unseen = true;
        self.tree = Some(self.merge(&Arc::new(tree), &origin)?);
        self.laid.push(Some(LaidOut::Trusted(reusable)));
        Ok(())
    }

    /// Returns the number of the next layer.
    fn number(&self) -> u16 {
        u16::try_from(self.laid.len()).expect("a source has at most 512 layers")
    }

    fn reader<'r>(&'r mut self, origin: &'r str, promised: Promised) -> LayerReader<'r> {
        LayerReader {
            contents: &mut self.contents,
            pool: &self.pool,
            promised,
            temporaries: &self.temporaries,
            options: self.task.options,
            progress: self.task.progress,
            origin,
        }
    }

    /// Gives the content of a layer that has been read its places, hands its bundles to the pool, and merges its tree.
    fn lay_out(
        &mut self,
        read: ReadLayer,
        mut summary: LayerSummary,
        origin: String,
        reusable: Option<Reusable<'a>>,
    ) -> Result<(), ConvertError> {
        let ReadLayer { layer, taken: SpooledContent { counts, arrived, small }, .. } = read;
        self.foreign.place(&layer.tree, &mut self.contents, &small)?;
        let (number, half) = (self.number(), self.task.options.bundle_half());
        let device = LayerDevice::lay_out(&layer.tree, &mut self.contents, number, half, &origin)?;
        self.contents.forget_unplaced();
        if self.laid.len() + 1 == self.count {
            self.contents.small.end_lookups();
        }
        summary.content_bytes = counts.bytes;
        summary.null_bytes = counts.null;
        summary.shared_bytes = counts.shared;
        summary.report = layer.report;
        self.summaries.push(summary);
        let tree = Arc::new(layer.tree);
        self.tree = Some(self.merge(&tree, &origin)?);
        if device.is_empty() {
            self.laid.push(None);
            return Ok(());
        }
        if reusable.is_none() {
            self.fetch_promised(&device)?;
        }
        // At most two layers have their small files in temporary files: this one, and that which is read meanwhile.
        self.pool.wait_for_batches()?;
        let (device, rows) = (Arc::new(device), self.contents.small.rows()?);
        let framed = reusable.is_none();
        let bundling = bundle(&self.pool, &device, &self.contents.slices, arrived, rows.clone(), small, framed);
        self.laid.push(Some(LaidOut::Own { device, tree, rows, bundling, origin, reusable }));
        Ok(())
    }

    /// Fetches and compresses what packs of other images promised and the layer stores after all.
    fn fetch_promised(&self, device: &LayerDevice) -> Result<(), ConvertError> {
        let table = content::read(&self.contents.slices);
        let promised = device.slices().iter().copied().filter(|&id| table.slice(id).frame_length == 0);
        let promised: Vec<SliceId> = promised.collect();
        drop(table);
        let fetch = |decompressor: &mut Decompressor, id: SliceId| {
            let digest = content::read(&self.contents.slices).slice(id).digest;
            (id, self.foreign.fetch(digest, decompressor))
        };
        let store = |(id, bytes): (SliceId, Result<Vec<u8>, ConvertError>)| {
            let (bytes, table) = (bytes?, Arc::clone(&self.contents.slices));
            self.pool.slice(move |encoder| {
                let stored = encoder.store(&bytes)?;
                content::write(&table).set_frame(id, stored.offset, stored.length);
                Ok(())
            })
        };
        with_workers(FETCHES, Decompressor::default, fetch, |ordered| {
            for id in promised {
                ordered.submit(id).map_or(Ok(()), store)?;
            }
            std::iter::from_fn(|| ordered.take()).try_for_each(store)
        })?;
        self.pool.wait_for_slices()
    }

    /// Merges a layer over those below. The tree of a lowest layer that hides nothing is the merged one too,
    /// and not copied.
    fn merge(&mut self, layer: &Arc<Tree>, origin: &str) -> Result<Arc<Tree>, ConvertError> {
        let merged = match self.tree.take() {
            None if layer.ids().all(|id| !layer.inode(id).is_whiteout() && !layer.inode(id).is_opaque()) => {
                return Ok(Arc::clone(layer));
            }
            None => Tree::clone(layer).into_base(),
            Some(lower) => merge(Arc::unwrap_or_clone(lower), layer),
        };
        merged.map(Arc::new).map_err(|source| ConvertError::Tree { origin: origin.to_owned(), source })
    }
}
