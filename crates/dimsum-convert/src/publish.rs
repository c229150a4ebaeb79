//! The end of a conversion: writes config and manifest and makes everything visible, the manifest last.

use dimsum_format::limits::{MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES};
use dimsum_format::manifest::{Blob, Descriptor, ImageConfig};
use dimsum_format::{Digest, media};
use dimsum_recipe::temporary::TemporaryFiles;
use dimsum_source::Source;

use crate::assemble::{Assembled, Assembly, PackOrigin};
use crate::blob::{BlobOut, go_on, last_chance, unless_cancelled};
use crate::error::{ConvertError, limit};
use crate::known::without;
use crate::manifest::{self, ListedPack, ManifestOrigin, MetaLayer, SourceLayer};
use crate::outcome::{Converted, LayerSummary};
use crate::progress::ConversionPhase;
use crate::reuse::{TaggedPack, remember};
use crate::sharing::{ForeignPack, PackReuse, ReusedPack, SharedContent};
use crate::task::ConvertTask;

/// The state of an image whose data is written.
pub(crate) struct Publication<'p, 'a> {
    pub(crate) task: ConvertTask<'a>,
    pub(crate) layers: Vec<SourceLayer>,
    pub(crate) summaries: Vec<LayerSummary>,
    /// Whether a pack was taken unseen: then nothing here proves what a layer becomes, and no tag may say it.
    pub(crate) unseen: bool,
    pub(crate) temporaries: &'p TemporaryFiles,
    /// Inodes of the image.
    pub(crate) inodes: u64,
    /// Bytes of content that lie in packs of other images.
    pub(crate) shared_bytes: u64,
}

impl Publication<'_, '_> {
    /// Writes config and manifest, and makes everything visible. `source` is the manifest that was converted.
    pub(crate) fn publish(
        mut self,
        Assembled { packs, unlisted, meta, kept }: Assembled<'_>,
        mut config: ImageConfig,
        source: Option<Digest>,
    ) -> Result<Converted, ConvertError> {
        let ConvertTask { target, role, options, sharing, progress, .. } = self.task;
        let meta_layer = MetaLayer { blob: meta.blob.blob, diff_id: meta.diff_id, root: meta.root };
        let mut foreign: Vec<ListedPack> = Vec::new();
        for pack in &packs {
            let Some(number) = pack.layer else {
                foreign.push(pack.listed);
                continue;
            };
            if let (Some(layer), Some(summary)) = (self.layers.get_mut(number), self.summaries.get_mut(number)) {
                layer.pack = Some(pack.listed);
                summary.pack = Some(pack.listed.blob);
                if let PackOrigin::Written(packed) = &pack.from {
                    summary.layer_meta_bytes = packed.layer_meta_bytes;
                }
            }
        }
        manifest::adapt_config(&mut config, &foreign, &self.layers, &meta_layer);
        let mut config_out = BlobOut::new(target, progress)?;
        config_out.put(&config.to_bytes())?;
        let config_out = config_out.finish();
        let config = config_out.blob;
        let origin = ManifestOrigin { source, options, sharing };
        let manifest = manifest::new_manifest(config, &foreign, &self.layers, &meta_layer, origin).to_bytes();
        limit("config", config.size, MAX_CONFIG_BYTES)?;
        limit("manifest", manifest.len() as u64, MAX_MANIFEST_BYTES)?;
        if progress.cancelled() {
            return Err(ConvertError::Cancelled);
        }
        progress.phase(ConversionPhase::Publish);
        let mut shared = SharedContent {
            with: sharing.with.iter().map(|known| known.manifest).collect(),
            parent: sharing.parent,
            content_bytes: self.shared_bytes,
            ..SharedContent::default()
        };
        // Blobs of other images may be gone by now. It comes first, so that nothing is half done where all is done
        // again without it.
        for pack in packs.iter().chain(&unlisted) {
            if let PackOrigin::Source { source, what } = &pack.from {
                self.copy_pack(pack.listed.blob, *source, what, &mut shared)?;
            }
        }
        for Assembly { listed, from, .. } in &packs {
            let PackOrigin::Source { what, .. } = from else { continue };
            match listed.foreign {
                Some(image) => shared.foreign.push(ForeignPack { blob: listed.blob, image }),
                None => shared.reused.push(ReusedPack { blob: listed.blob, what: what.clone() }),
            }
        }
        let made: Vec<TaggedPack> = packs.iter().filter_map(|pack| self.to_tag(pack)).collect();
        let beside = unlisted.iter().map(|pack| pack.listed.blob).collect();
        for pack in packs.into_iter().chain(unlisted) {
            if let PackOrigin::Written(packed) = pack.from {
                packed.blob.commit()?;
            }
        }
        meta.blob.commit()?;
        config_out.commit()?;
        last_chance(target, progress)?;
        let manifest_bytes = manifest.len() as u64;
        let manifest = target.put_manifest(media::MANIFEST, &manifest, role)?;
        let subject = Descriptor::new(media::MANIFEST, Blob { digest: manifest, size: manifest_bytes });
        let original = kept.map(|kept| kept.publish(target, subject, beside, progress)).transpose()?;
        remember(target, &made, options, progress)?;
        Ok(Converted {
            manifest,
            manifest_bytes,
            config,
            meta: meta_layer.blob,
            root: meta.root,
            meta_bytes: meta.length,
            inodes: self.inodes,
            flat_blocks: meta.flat_blocks,
            layers: self.summaries,
            shared,
            temp_bytes: self.temporaries.peak(),
            original,
        })
    }

    /// Makes a pack that is elsewhere visible in the target.
    fn copy_pack(
        &self,
        blob: Blob,
        from: &dyn Source,
        what: &str,
        shared: &mut SharedContent,
    ) -> Result<(), ConvertError> {
        let ConvertTask { target, progress, .. } = self.task;
        if target.has(blob.digest, blob.size)? {
            return Ok(());
        }
        if let Some(repository) = from.repository()
            && target.mount_blob(blob, repository)?
        {
            shared.mounted_bytes += blob.size;
            return Ok(());
        }
        let copied = target.copy_blob(blob, from, &|count| {
            progress.bytes_out(count);
            go_on(progress)
        });
        copied.map_err(|error| without(what.to_owned(), unless_cancelled(error, progress)))?;
        shared.copied_bytes += blob.size;
        Ok(())
    }

    /// Returns what a tag may say of a pack: only in a registry, where others look for it.
    fn to_tag(&self, pack: &Assembly<'_>) -> Option<TaggedPack> {
        let ConvertTask { target, sharing, .. } = self.task;
        let wanted = sharing.reuse != PackReuse::Never && sharing.with.is_empty();
        let in_registry = target.place().is_some_and(|place| place.is_remote());
        if !(pack.to_tag && wanted && in_registry) || self.unseen {
            return None;
        }
        let (diff_id, chain_id) = self.layers.get(pack.layer?)?.source?;
        Some(TaggedPack { diff_id, chain_id, pack: pack.listed.blob, pack_diff_id: pack.listed.diff_id })
    }
}
