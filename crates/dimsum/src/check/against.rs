//! `check --against`: the tree that an image has beside the tree that its source has.

use std::convert::Infallible;
use std::io::Read;
use std::path::Path;

use dimsum_erofs::{Image, Inode};
use dimsum_format::Digest;
use dimsum_format::manifest::Descriptor;
use dimsum_source::{Prefer, Reference};
use dimsum_tree::{
    ContentId, InodeId, LayerDecoder, OverlayEntries, Policy, ReadError, Tree, merge, read_directory, read_layer,
};
use sha2::{Digest as _, Sha256};

use super::blobs::Checked;
use super::chunks::{ChunkError, Chunks};
use super::compare::{Comparison, compare};
use super::fingerprint::{Fingerprint, FingerprintSink, Hasher};
use crate::context::Context;
use crate::error::Error;
use dimsum_engine::EngineError;
use dimsum_engine::chain;
use dimsum_engine::image::{Resolved, parse, resolve};

/// Why a comparison could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgainstError {
    /// A layer of the source cannot be read.
    #[error("layer {layer} cannot be read")]
    Layer {
        /// Its digest.
        layer: Digest,
        /// Why.
        source: ReadError<Infallible>,
    },
    /// A layer of the source cannot be decompressed.
    #[error("layer {layer} cannot be decompressed")]
    Decode {
        /// Its digest.
        layer: Digest,
        /// Why.
        source: std::io::Error,
    },
    /// A layer of the source does not have its digest.
    #[error("layer {must} has the digest {is}")]
    Digest {
        /// Digest of the bytes.
        is: Digest,
        /// Digest in the manifest.
        must: Digest,
    },
    /// The directory cannot be read.
    #[error("the directory cannot be read")]
    Directory {
        /// Why.
        source: ReadError<Infallible>,
    },
    /// The trees cannot be merged.
    #[error("the layers cannot be merged")]
    Merge {
        /// Why.
        source: dimsum_tree::Error,
    },
    /// The image's own tree cannot be read.
    #[error("the image's file system cannot be read: {reason}")]
    Image {
        /// Why.
        reason: String,
    },
    /// A file of the image cannot be read.
    #[error("a file of the image cannot be read")]
    Chunk {
        /// Why.
        source: Box<ChunkError>,
    },
}

/// Reads the source and compares.
///
/// Overlayfs' own entries in the source are left out on both sides: an image never has them.
///
/// # Errors
/// If one of the two cannot be read.
pub fn against(
    context: &Context,
    resolved: &Resolved,
    checked: &Checked,
    text: &str,
    list: usize,
) -> Result<Comparison, Error> {
    let failed = |source| Error::Against { object: text.to_owned(), source: Box::new(source) };
    let mut sink = FingerprintSink::default();
    let reference = Reference::parse(text)
        .map_err(|source| EngineError::Source { object: text.to_owned(), source: Box::new(source) })?;
    let source = match reference {
        Reference::Directory { path } => directory(&path, &mut sink).map_err(failed)?,
        _ => {
            let source = resolve(&context.engine, &parse(text)?, Prefer::Original)?;
            if source.manifest.is_dimsum() {
                return Err(Error::Usage {
                    object: text.to_owned(),
                    reason: "this is a Dimsum image itself".to_owned(),
                    hint: "compare with the ordinary image or the directory that it was made from",
                });
            }
            layers(&source, &mut sink)?
        }
    };
    let chunks = Chunks::new(&checked.manifest, &checked.maps, resolved, context.engine.network()?.runtime());
    let mut contents = Contents { chunks, files: Vec::new() };
    let erofs =
        Image::open(checked.erofs()).map_err(|error| failed(AgainstError::Image { reason: error.to_string() }))?;
    let image = dimsum_erofs::to_tree(&erofs, |inode| {
        let id = ContentId::new(u32::try_from(contents.files.len()).unwrap_or(u32::MAX));
        contents.files.push(*inode);
        id
    });
    let image = image.map_err(|error| failed(AgainstError::Image { reason: chain(&error) }))?;
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
fn layers(resolved: &Resolved, sink: &mut FingerprintSink) -> Result<Tree, Error> {
    let object = resolved.reference.to_string();
    let mut merged: Option<Tree> = None;
    for descriptor in &resolved.manifest.layers {
        let blob = resolved.place.open(descriptor.digest);
        let blob = blob.map_err(|source| EngineError::Source { object: object.clone(), source: Box::new(source) })?;
        let read = layer(blob, descriptor, merged.as_ref(), sink);
        let tree = read.map_err(|source| Error::Against { object: object.clone(), source: Box::new(source) })?;
        let over = match merged {
            None => tree.into_base(),
            Some(lower) => merge(lower, &tree),
        };
        let merge_failed =
            |source| Error::Against { object: object.clone(), source: Box::new(AgainstError::Merge { source }) };
        merged = Some(over.map_err(merge_failed)?);
    }
    let nothing = || Error::Usage {
        object: object.clone(),
        reason: "the image has no layers".to_owned(),
        hint: "name an image with files",
    };
    merged.ok_or_else(nothing)
}

fn layer(
    blob: Box<dyn Read + Send>,
    descriptor: &Descriptor,
    lower: Option<&Tree>,
    sink: &mut FingerprintSink,
) -> Result<Tree, AgainstError> {
    let digest = descriptor.digest;
    let hashing = Hashing { inner: blob, hasher: Sha256::new() };
    let mut decoder =
        LayerDecoder::new(hashing, None).map_err(|source| AgainstError::Decode { layer: digest, source })?;
    let layer = read_layer(&mut decoder, lower, sink, POLICY);
    let layer = layer.map_err(|source| AgainstError::Layer { layer: digest, source })?;
    let is = Digest::new(decoder.into_inner().hasher.finalize().into());
    if is == digest { Ok(layer.tree) } else { Err(AgainstError::Digest { is, must: digest }) }
}

/// Contents of the image's files.
struct Contents<'i> {
    chunks: Chunks<'i>,
    /// By content handle.
    files: Vec<Inode>,
}

impl Contents<'_> {
    fn fingerprint(&mut self, erofs: &Image<&[u8]>, content: ContentId) -> Result<Fingerprint, AgainstError> {
        let mut hasher = Hasher::default();
        let Some(&inode) = self.files.get(content.get() as usize) else { return Ok(hasher.finish()) };
        let mut offset = 0;
        let unreadable = |error: &dyn std::error::Error| AgainstError::Image { reason: chain(error) };
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
struct Hashing<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}
