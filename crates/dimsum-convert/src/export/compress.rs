//! A tree as the blob of a layer: a tar that is hashed, cut into blocks, compressed on all processors and written in order.
//!
//! Each block is a gzip member or zstd frame of its own; both formats are defined as sequences of these, and every reader of
//! layers takes them. It costs under a percent of size and makes the bytes independent of the number of threads.

use std::io::{self, Write};

use dimsum_format::codec::{Compressor, FAST_LEVEL, LEVELS};
use dimsum_format::manifest::Blob;
use dimsum_format::{Digest, FormatError};
use dimsum_tree::{LeftOut, TarForm, TarOptions, Tree, to_tar};
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

use super::contents::{Contents, failed_writing};
use super::{Compression, ExportedLayer, Options, Reached};
use crate::blob::{BlobOut, WholeBlob};
use crate::error::Error;
use crate::ordered::{Ordered, with_workers};

/// Bytes of the tar that are compressed together.
const BLOCK: usize = 1 << 20;

/// Levels of gzip, and the one that is usual.
const GZIP_LEVELS: std::ops::RangeInclusive<u32> = 1..=9;
const GZIP_DEFAULT: u32 = 6;

/// A layer that is written but not visible yet.
pub(super) struct Layer<'t> {
    pub(super) blob: WholeBlob<'t>,
    pub(super) diff_id: Digest,
    tar_bytes: u64,
}

impl Layer<'_> {
    pub(super) fn describe(&self, pack: Option<Digest>, reached: Reached) -> ExportedLayer {
        let blob: Blob = self.blob.blob;
        ExportedLayer { blob, diff_id: self.diff_id, tar_bytes: self.tar_bytes, pack, reached }
    }
}

/// Makes sure that the level is one of the compression's.
pub(super) fn check_level(options: &Options) -> Result<(), Error> {
    let fits = |level: u32| match options.compression {
        Compression::None => true,
        Compression::Gzip => GZIP_LEVELS.contains(&level),
        Compression::Zstd => i32::try_from(level).is_ok_and(|level| LEVELS.contains(&level)),
    };
    let reason = "must be from 1 to 9 for gzip, from 1 to 19 for zstd";
    if options.level.is_none_or(fits) { Ok(()) } else { Err(Error::Option { option: "level", reason }) }
}

/// Writes one layer.
pub(super) fn write_layer<'t>(
    tree: &Tree,
    contents: &mut Contents<'_>,
    options: &Options,
    out: BlobOut<'t>,
) -> Result<(Layer<'t>, LeftOut), Error> {
    compress(options, out, |stream| {
        let tar = TarOptions { form: TarForm::Layer, sparse_from: options.sparse_from };
        let written = to_tar(tree, contents, stream, tar);
        // What the stream fails with is only "stopped" to the tar writer.
        if let Some(error) = stream.error.take() {
            return Err(error);
        }
        written.map_err(|error| failed_writing(error, "layer"))
    })
}

/// Writes a layer of what `tar` gives.
pub(super) fn compress<'t, O>(
    options: &Options,
    out: BlobOut<'t>,
    tar: impl FnOnce(&mut Stream<'_, 't>) -> Result<O, Error>,
) -> Result<(Layer<'t>, O), Error> {
    let encoder = || Encoder::new(options);
    with_workers(options.jobs, encoder, Encoder::encode, |ordered| {
        let mut stream = Stream { ordered, out, buffer: Vec::new(), hasher: Sha256::new(), bytes: 0, error: None };
        let output = tar(&mut stream)?;
        Ok((stream.finish()?, output))
    })
}

/// Compresses blocks, one after the other.
enum Encoder {
    Plain,
    Gzip(flate2::Compression),
    Zstd(Result<Compressor, FormatError>),
}

impl Encoder {
    fn new(options: &Options) -> Self {
        match options.compression {
            Compression::None => Self::Plain,
            Compression::Gzip => Self::Gzip(flate2::Compression::new(options.level.unwrap_or(GZIP_DEFAULT))),
            Compression::Zstd => {
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
pub(super) struct Stream<'o, 't> {
    ordered: &'o mut Ordered<Vec<u8>, Result<Vec<u8>, FormatError>>,
    out: BlobOut<'t>,
    buffer: Vec<u8>,
    hasher: Sha256,
    bytes: u64,
    error: Option<Error>,
}

impl<'t> Stream<'_, 't> {
    /// Takes the next bytes.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let written = self.write_all(bytes);
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        written.expect("only an error that is kept stops it");
        Ok(())
    }

    fn submit(&mut self) -> Result<(), Error> {
        let block = std::mem::replace(&mut self.buffer, Vec::with_capacity(BLOCK));
        self.hasher.update(&block);
        self.bytes += block.len() as u64;
        match self.ordered.submit(block) {
            Some(encoded) => self.forward(encoded),
            None => Ok(()),
        }
    }

    fn forward(&mut self, encoded: Result<Vec<u8>, FormatError>) -> Result<(), Error> {
        let bytes = encoded.map_err(|source| Error::format("layer", source))?;
        self.out.put(&bytes)
    }

    fn finish(mut self) -> Result<Layer<'t>, Error> {
        if !self.buffer.is_empty() {
            self.submit()?;
        }
        while let Some(encoded) = self.ordered.take() {
            self.forward(encoded)?;
        }
        let diff_id = Digest::new(self.hasher.finalize().into());
        Ok(Layer { blob: self.out.finish(), diff_id, tar_bytes: self.bytes })
    }
}

impl Write for Stream<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (now, _) = bytes.split_at(bytes.len().min(BLOCK - self.buffer.len()));
        self.buffer.extend_from_slice(now);
        if self.buffer.len() == BLOCK
            && let Err(error) = self.submit()
        {
            self.error = Some(error);
            return Err(io::Error::other("stopped"));
        }
        Ok(now.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
