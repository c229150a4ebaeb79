//! The parts of an image: digests, packs, meta, file system, options.

use dimsum_format::{BLOCK_U64, DeviceId, Digest, MetaRoot, media};
use serde::Serialize;

use crate::EngineError;
use crate::image::{Opened, validate};
use crate::text::total;

/// The parts of an image. Texts are annotations, which may say anything.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// Its name.
    pub image: String,
    /// The Dimsum manifest.
    pub manifest: Digest,
    /// The ordinary image that it was converted from on the way in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub converted_from: Option<Digest>,
    /// The meta root.
    pub root: MetaRoot,
    /// The config.
    pub config: Digest,
    /// The options of its conversion.
    pub options: Option<String>,
    /// The encoder of its frames.
    pub encoder: Option<String>,
    /// The manifest of its source.
    pub source_manifest: Option<String>,
    /// Its packs.
    pub packs: Vec<InspectedPack>,
    /// Its meta.
    pub meta: InspectedMeta,
    /// Its inodes.
    pub inodes: InodeCounts,
    /// Bytes of the uncompressed files, holes included.
    pub file_bytes: u64,
    /// Bytes of the flat image.
    pub flat_bytes: u64,
    /// Bytes of all layers as stored.
    pub stored_bytes: u64,
}

/// One pack.
#[derive(Debug, Clone, Serialize)]
pub struct InspectedPack {
    /// The blob.
    pub digest: Digest,
    /// Its length.
    pub bytes: u64,
    /// The device in it.
    pub device: DeviceId,
    /// Chunks of the device.
    pub chunks: u64,
    /// Blocks of the device.
    pub blocks: u32,
    /// The layer that it was made of.
    pub source_diff_id: Option<String>,
    /// The image that it was made for, if that is another one.
    pub foreign: Option<String>,
}

/// The meta.
#[derive(Debug, Clone, Serialize)]
pub struct InspectedMeta {
    /// The blob.
    pub digest: Digest,
    /// Its length.
    pub bytes: u64,
    /// Bytes of it uncompressed.
    pub uncompressed_bytes: u64,
    /// Of these, the EROFS file system.
    pub erofs_bytes: u64,
}

/// Inodes by their types.
#[derive(Debug, Clone, Serialize)]
pub struct InodeCounts {
    /// All.
    pub all: u64,
    /// Directories.
    pub directories: u64,
    /// Regular files.
    pub files: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Devices, pipes and sockets.
    pub specials: u64,
    /// Names of inodes.
    pub names: u64,
}

impl Opened {
    /// Returns the parts of the image, whose file system is validated as a whole.
    ///
    /// # Errors
    /// If the file system cannot be read or is not valid.
    pub fn inspect(&self) -> Result<Inspection, EngineError> {
        let Self { located, image } = self;
        let (parsed, maps) = (image.manifest(), image.maps());
        let document = located.document.as_ref();
        let annotation = |key: &str| document.and_then(|document| document.annotations.get(key).cloned());
        let of_layer = |index: usize, key: &str| {
            document.and_then(|document| document.layers.get(index)?.annotations.get(key).cloned())
        };
        let packs = parsed.packs.iter().zip(&maps.devices).enumerate();
        let packs: Vec<InspectedPack> = packs
            .map(|(index, (pack, device))| InspectedPack {
                digest: pack.digest,
                bytes: pack.size,
                device: device.id,
                chunks: device.map.chunks(),
                blocks: device.map.blocks(),
                source_diff_id: of_layer(index, media::ANNOTATION_SOURCE_DIFF_ID),
                foreign: of_layer(index, media::ANNOTATION_FOREIGN),
            })
            .collect();
        let erofs = validate(self)?;
        let stored = total(packs.iter().map(|pack| pack.bytes).chain([parsed.meta.size]));
        Ok(Inspection {
            image: located.name(),
            manifest: located.digest,
            converted_from: located.converted_from,
            root: parsed.root,
            config: parsed.config.digest,
            options: annotation(media::ANNOTATION_OPTIONS),
            encoder: annotation(media::ANNOTATION_ENCODER),
            source_manifest: annotation(media::ANNOTATION_SOURCE_MANIFEST),
            meta: InspectedMeta {
                digest: parsed.meta.digest,
                bytes: parsed.meta.size,
                uncompressed_bytes: u64::from(maps.meta_blocks) * BLOCK_U64,
                erofs_bytes: u64::from(maps.erofs_blocks) * BLOCK_U64,
            },
            inodes: InodeCounts {
                all: erofs.inodes,
                directories: erofs.directories,
                files: erofs.files,
                symlinks: erofs.symlinks,
                specials: erofs.specials,
                names: erofs.names,
            },
            file_bytes: erofs.bytes,
            flat_bytes: u64::from(maps.flat_blocks()) * BLOCK_U64,
            stored_bytes: stored,
            packs,
        })
    }
}
