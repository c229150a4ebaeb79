//! Writes a tree as the blob of a layer: a tar that is hashed, cut into blocks, compressed on all processors
//! and written in order.
//!
//! Each block is a gzip member or a zstd frame of its own. Both formats allow any number of these, and every
//! reader of layers accepts them. The price is less than one percent of size. In return the bytes do not depend
//! on the number of threads.

use std::io::Write as _;

use dimsum_format::codec::{Compressor, FAST_LEVEL, LEVELS};
use dimsum_format::manifest::Blob;
use dimsum_format::{Digest, FormatError};
use dimsum_tree::{OmittedEntries, TarForm, TarOptions, Tree, to_tar};
use flate2::write::GzEncoder;

use super::contents::{ExportContents, failed_writing};
use super::{ExportOptions, ExportedLayer, LayerCompression, Reached};
use crate::blob::{BlobOut, WholeBlob};
use crate::chunked::{BlockSink, Chunked, Ended};
use crate::error::ConvertError;
use crate::ordered_tasks::{OrderedTasks, with_workers};

/// Bytes of the tar that are compressed together.
const BLOCK: usize = 1 << 20;

/// Levels of gzip, and the one that is usual.
const GZIP_LEVELS: std::ops::RangeInclusive<u32> = 1..=9;
const GZIP_DEFAULT: u32 = 6;

/// A layer that is written but not visible yet.
pub(super) struct WrittenLayer<'t> {
    pub(super) blob: WholeBlob<'t>,
    pub(super) diff_id: Digest,
    tar_bytes: u64,
}

impl WrittenLayer<'_> {
    pub(super) fn describe(&self, pack: Option<Digest>, reached: Reached) -> ExportedLayer {
        let blob: Blob = self.blob.blob;
        ExportedLayer { blob, diff_id: self.diff_id, tar_bytes: self.tar_bytes, pack, reached }
    }
}

/// Makes sure that the level is one of the compression's.
pub(super) fn check_level(options: &ExportOptions) -> Result<(), ConvertError> {
    let fits = |level: u32| match options.compression {
        LayerCompression::None => true,
        LayerCompression::Gzip => GZIP_LEVELS.contains(&level),
        LayerCompression::Zstd => i32::try_from(level).is_ok_and(|level| LEVELS.contains(&level)),
    };
    let reason = "must be from 1 to 9 for gzip, from 1 to 19 for zstd";
    if options.level.is_none_or(fits) { Ok(()) } else { Err(ConvertError::Option { option: "level", reason }) }
}

/// Writes one layer.
pub(super) fn write_layer<'t>(
    tree: &Tree,
    contents: &mut ExportContents<'_>,
    options: &ExportOptions,
    out: BlobOut<'t>,
) -> Result<(WrittenLayer<'t>, OmittedEntries), ConvertError> {
    compress(options, out, |stream| {
        let tar = TarOptions { form: TarForm::Layer, sparse_from: options.sparse_from };
        let written = to_tar(tree, contents, stream, tar);
        // The tar writer sees any failure of the stream as "stopped".
        if let Some(error) = stream.take_error() {
            return Err(error);
        }
        written.map_err(|error| failed_writing(error, "layer"))
    })
}

/// Writes a layer of what `tar` gives.
pub(super) fn compress<'t, O>(
    options: &ExportOptions,
    out: BlobOut<'t>,
    tar: impl FnOnce(&mut Stream<'_, 't>) -> Result<O, ConvertError>,
) -> Result<(WrittenLayer<'t>, O), ConvertError> {
    let encoder = || BlockEncoder::new(options);
    with_workers(options.jobs, encoder, BlockEncoder::encode, |ordered| {
        let mut stream = Chunked::new(BLOCK, EncodedBlocks { ordered, out });
        let output = tar(&mut stream)?;
        Ok((finish(stream)?, output))
    })
}

/// Compresses blocks, one after the other.
enum BlockEncoder {
    Plain,
    Gzip(flate2::Compression),
    Zstd(Result<Compressor, FormatError>),
}

impl BlockEncoder {
    fn new(options: &ExportOptions) -> Self {
        match options.compression {
            LayerCompression::None => Self::Plain,
            LayerCompression::Gzip => Self::Gzip(flate2::Compression::new(options.level.unwrap_or(GZIP_DEFAULT))),
            LayerCompression::Zstd => {
                let level = options.level.and_then(|level| i32::try_from(level).ok());
                Self::Zstd(Compressor::new(level.unwrap_or(FAST_LEVEL)))
            }
        }
    }

    fn encode(&mut self, block: Vec<u8>) -> Result<Vec<u8>, FormatError> {
        match self {
            Self::Plain => Ok(block),
            Self::Gzip(level) => {
                // The header has no time and no name.
                let mut encoder = GzEncoder::new(Vec::with_capacity(block.len() / 2), *level);
                let written = encoder.write_all(&block).and_then(|()| encoder.finish());
                Ok(written.expect("memory takes everything"))
            }
            Self::Zstd(Ok(compressor)) => {
                let mut frame = Vec::new();
                compressor.compress(&block, &mut frame)?;
                Ok(frame)
            }
            Self::Zstd(Err(_)) => Err(FormatError::Frame { reason: "zstd could not be started" }),
        }
    }
}

/// Takes the tar.
pub(super) type Stream<'o, 't> = Chunked<EncodedBlocks<'o, 't>>;

/// Has blocks compressed and writes them, in order.
pub(super) struct EncodedBlocks<'o, 't> {
    ordered: &'o mut OrderedTasks<Vec<u8>, Result<Vec<u8>, FormatError>>,
    out: BlobOut<'t>,
}

impl BlockSink for EncodedBlocks<'_, '_> {
    fn block(&mut self, bytes: Vec<u8>) -> Result<(), ConvertError> {
        match self.ordered.submit(bytes) {
            Some(encoded) => self.forward(encoded),
            None => Ok(()),
        }
    }
}

impl EncodedBlocks<'_, '_> {
    fn forward(&mut self, encoded: Result<Vec<u8>, FormatError>) -> Result<(), ConvertError> {
        let bytes = encoded.map_err(|source| ConvertError::format("layer", source))?;
        self.out.put(&bytes)
    }
}

fn finish<'t>(stream: Stream<'_, 't>) -> Result<WrittenLayer<'t>, ConvertError> {
    let Ended { sink: mut blocks, digest: diff_id, length: tar_bytes } = stream.finish()?;
    while let Some(encoded) = blocks.ordered.take() {
        blocks.forward(encoded)?;
    }
    Ok(WrittenLayer { blob: blocks.out.finish(), diff_id, tar_bytes })
}
