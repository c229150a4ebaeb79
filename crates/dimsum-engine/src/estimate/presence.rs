//! What of an image is there already: in the repository it would go to, and in this node's store.

use dimsum_format::Digest;
use dimsum_format::manifest::{Blob, DimsumManifest};
use dimsum_source::{Place, Prefer, Source, SourceError};
use serde::Serialize;

use super::scratch::Scratch;
use crate::analysis::sharing::{self, ChunkSum, CommonChunks, common};
use crate::image::{self, Opened};
use crate::text::total;
use crate::{Engine, EngineError, ErrorKind};

/// What a repository has.
#[derive(Debug, Serialize)]
pub struct InTarget {
    /// As the user wrote it.
    pub target: String,
    /// Bytes of the image's blobs that are there.
    pub present_bytes: u64,
    /// Bytes that a push would move.
    pub push_bytes: u64,
    /// The Dimsum image that the tag names now; none if it names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<ImageBefore>,
}

/// The image that a tag names now.
#[derive(Debug, Serialize)]
pub struct ImageBefore {
    /// Its manifest.
    pub manifest: Digest,
    /// What it has in common with the image that is looked at: `a` is the one that is there.
    pub chunks: CommonChunks,
}

/// What a node has.
#[derive(Debug, Serialize)]
pub struct OnNode {
    /// Packs that lie in the store whole.
    pub packs: u64,
    /// Bytes of them.
    pub present_bytes: u64,
    /// Chunks that need not be fetched: in these packs, fetched before of others, or in any other image of the store.
    pub chunks: ChunkSum,
    /// Stored bytes of all chunks.
    pub all_bytes: u64,
}

/// Asks the repository for each blob, and compares with what its tag names. Nothing is written there.
///
/// # Errors
/// If it cannot be asked. Not being there is no error: then it has nothing.
pub(super) fn in_target(scratch: &Scratch, opened: &Opened, target: &str) -> Result<InTarget, EngineError> {
    let engine = scratch.engine();
    let reference = image::parse(engine, target)?;
    let failed = |source| EngineError::Source { object: target.to_owned(), source: Box::new(source) };
    let place = match image::open_place(engine, &reference) {
        Ok(place) => Some(place),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let blobs = blobs(opened.image.manifest());
    let present = match &place {
        Some(place) => present(&**place, &blobs).map_err(failed)?,
        None => 0,
    };
    let all = total(blobs.iter().map(|blob| blob.size));
    let before = match image::resolve(engine, &reference, Prefer::Dimsum) {
        Ok(resolved) if resolved.manifest.is_dimsum() => {
            let before = image::open_resolved(engine, resolved)?;
            let chunks = common(before.image.maps(), opened.image.maps());
            Some(ImageBefore { manifest: before.located.digest, chunks })
        }
        Ok(_) => None,
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let push_bytes = all.saturating_sub(present);
    Ok(InTarget { target: target.to_owned(), present_bytes: present, push_bytes, before })
}

fn blobs(manifest: &DimsumManifest) -> Vec<Blob> {
    let mut blobs = manifest.packs.clone();
    blobs.extend([manifest.meta, manifest.config]);
    // A layer may occur twice, and is stored once.
    blobs.sort_by_key(|blob| blob.digest);
    blobs.dedup();
    blobs
}

fn present(place: &dyn Place, blobs: &[Blob]) -> Result<u64, SourceError> {
    let mut bytes = 0_u64;
    for blob in blobs {
        if place.size(blob.digest)? == Some(blob.size) {
            bytes = bytes.saturating_add(blob.size);
        }
    }
    Ok(bytes)
}

/// Asks this node's store, if there is one, which packs it has whole, and which chunks in any form.
///
/// # Errors
/// If this user may not look into it.
pub(super) fn on_node(engine: &Engine, opened: &Opened) -> Result<Option<OnNode>, EngineError> {
    // Asking must not make a store where there is none.
    if !engine.config().store.join("version").exists() {
        return Ok(None);
    }
    let store = engine.store()?.clone();
    let packs = store.source();
    let (manifest, maps) = (opened.image.manifest(), opened.image.maps());
    let whole: Vec<bool> = manifest.packs.iter().map(|pack| is_whole(&*packs, *pack)).collect();
    let all_bytes = total(maps.devices.iter().map(|device| device.frames.length()));
    let mut node = OnNode { packs: 0, present_bytes: 0, chunks: ChunkSum::default(), all_bytes };
    for (pack, _) in manifest.packs.iter().zip(&whole).filter(|(_, whole)| **whole) {
        node.packs = node.packs.saturating_add(1);
        node.present_bytes = node.present_bytes.saturating_add(pack.size);
    }
    let here = sharing::on_node(&store, maps, |device| whole.get(device) == Some(&true));
    here.into_iter().for_each(|sum| node.chunks.add_all(sum));
    Ok(Some(node))
}

/// Whether a store has a whole pack. What it cannot read it does not have.
fn is_whole(store: &dyn Source, pack: Blob) -> bool {
    matches!(store.size(pack.digest), Ok(Some(size)) if size == pack.size)
}
