//! A comparison with the source: the tree that an image has beside the tree that its source has.

use std::io::Read;
use std::path::Path;

use dimsum_erofs::{ErofsImage, ErofsInode};
use dimsum_format::Digest;
use dimsum_format::manifest::Descriptor;
use dimsum_source::{Prefer, with_causes};
use dimsum_tree::{ContentId, InodeId, LayerDecoder, OverlayEntries, Policy, Tree, merge, read_directory, read_layer};
use sha2::{Digest as _, Sha256};

use super::blobs::Checked;
use super::chunks::PackChunks;
use super::compare::{Comparison, compare};
use super::fault::AgainstError;
use super::fingerprint::{Fingerprint, FingerprintSink, Hasher};
use crate::image::{Resolved, parse, resolve};
use crate::{Engine, EngineError};

/// Reads the source and compares.
///
/// Overlayfs' own entries in the source are left out on both sides: an image never has them.
///
/// # Errors
/// If one of the two cannot be read.
pub(super) fn against(
    engine: &Engine,
    resolved: &Resolved,
    checked: &Checked,
    text: &str,
    list: usize,
) -> Result<Comparison, EngineError> {
    let failed = |source| EngineError::Against { object: text.to_owned(), source: Box::new(source) };
    let mut sink = FingerprintSink::default();
    let reference = engine
        .schemes()
        .parse(text)
        .map_err(|source| EngineError::Source { object: text.to_owned(), source: Box::new(source) })?;
    let source = match reference.tree() {
        Some(path) => directory(path, &mut sink).map_err(failed)?,
        None => {
            let source = resolve(engine, &parse(engine, text)?, Prefer::Original)?;
            if source.manifest.is_dimsum() {
                return Err(failed(AgainstError::IsDimsum));
            }
            layers(&source, &mut sink)?
        }
    };
    let chunks = PackChunks::new(&checked.manifest, &checked.maps, resolved, engine.runtime()?);
    let mut contents = ImageContents { chunks, files: Vec::new() };
    let erofs =
        ErofsImage::open(checked.erofs()).map_err(|error| failed(AgainstError::Image { reason: error.to_string() }))?;
    let image = dimsum_erofs::to_tree(&erofs, |inode| {
        let id = ContentId::new(u32::try_from(contents.files.len()).unwrap_or(u32::MAX));
        contents.files.push(*inode);
        id
    });
    let image = image.map_err(|error| failed(AgainstError::Image { reason: with_causes(&error) }))?;
    let both = |a: InodeId, b: InodeId| -> Result<(Fingerprint, Fingerprint), AgainstError> {
        let empty = blake3::hash(b"");
        let left = source.inode(a).content().and_then(|content| sink.get(content)).unwrap_or(empty);
        let right = image.inode(b).content().map(|content| contents.fingerprint(&erofs, content)).transpose()?;
        Ok((left, right.unwrap_or(empty)))
    };
    compare(&source, &image, list, both).map_err(failed)
}

const POLICY: Policy = Policy { overlay_entries: OverlayEntries::Drop };

fn directory(path: &Path, sink: &mut FingerprintSink) -> Result<Tree, AgainstError> {
    let layer = read_directory(path, sink, POLICY).map_err(|source| AgainstError::Directory { source })?;
    layer.tree.into_base().map_err(|source| AgainstError::Merge { source })
}

/// Reads and merges all layers of an ordinary image.
fn layers(resolved: &Resolved, sink: &mut FingerprintSink) -> Result<Tree, EngineError> {
    let object = resolved.reference.to_string();
    let mut merged: Option<Tree> = None;
    for descriptor in &resolved.manifest.layers {
        let blob = resolved.place.open(descriptor.digest);
        let blob = blob.map_err(|source| EngineError::Source { object: object.clone(), source: Box::new(source) })?;
        let read = layer(blob, descriptor, merged.as_ref(), sink);
        let tree = read.map_err(|source| EngineError::Against { object: object.clone(), source: Box::new(source) })?;
        let over = match merged {
            None => tree.into_base(),
            Some(lower) => merge(lower, &tree),
        };
        let merge_failed =
            |source| EngineError::Against { object: object.clone(), source: Box::new(AgainstError::Merge { source }) };
        merged = Some(over.map_err(merge_failed)?);
    }
    let nothing = || EngineError::Against { object: object.clone(), source: Box::new(AgainstError::NoLayers) };
    merged.ok_or_else(nothing)
}

fn layer(
    blob: Box<dyn Read + Send>,
    descriptor: &Descriptor,
    lower: Option<&Tree>,
    sink: &mut FingerprintSink,
) -> Result<Tree, AgainstError> {
    let digest = descriptor.digest;
    let hashing = HashingLayer { inner: blob, hasher: Sha256::new() };
    let mut decoder =
        LayerDecoder::new(hashing, None).map_err(|source| AgainstError::Decode { layer: digest, source })?;
    let layer = read_layer(&mut decoder, lower, sink, POLICY);
    let layer = layer.map_err(|source| AgainstError::Layer { layer: digest, source })?;
    let is = Digest::new(decoder.into_inner().hasher.finalize().into());
    if is == digest { Ok(layer.tree) } else { Err(AgainstError::Digest { is, must: digest }) }
}

/// ImageContents of the image's files.
struct ImageContents<'i> {
    chunks: PackChunks<'i>,
    /// By content handle.
    files: Vec<ErofsInode>,
}

impl ImageContents<'_> {
    fn fingerprint(&mut self, erofs: &ErofsImage<&[u8]>, content: ContentId) -> Result<Fingerprint, AgainstError> {
        let mut hasher = Hasher::default();
        let Some(&inode) = self.files.get(content.get() as usize) else { return Ok(hasher.finish()) };
        let mut offset = 0;
        let unreadable = |error: &dyn std::error::Error| AgainstError::Image { reason: with_causes(error) };
        while let Some(extent) = erofs.map(&inode, offset).map_err(|error| unreadable(&error))? {
            match extent.flat {
                Some(flat) => self
                    .chunks
                    .read(flat, extent.len, |bytes| hasher.data(bytes))
                    .map_err(|source| AgainstError::Chunk { source })?,
                None => hasher.zeros(extent.len),
            }
            offset = offset.saturating_add(extent.len);
        }
        Ok(hasher.finish())
    }
}

/// Hashes what is read.
struct HashingLayer<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> Read for HashingLayer<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}
