//! Decodes a layer blob to its tar: plain, gzip or zstd, never more than a limit.
//!
//! The tar ends with the input. Gzip members and zstd frames may follow one another. Bytes that are neither are
//! an error, as they are to container runtimes. So a caller that digests the input below this reader has seen
//! all of it.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use crate::limits::{MAX_LAYER_SIZE, MAX_ZSTD_WINDOW_LOG};

/// Bytes of the blob read at a time.
const BUFFER: usize = 128 * 1024;

/// How a layer blob is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// Not at all.
    Plain,
    /// One or more gzip members.
    Gzip,
    /// One or more zstd frames, skippable ones among them.
    Zstd,
}

impl Compression {
    /// Tells by the first four bytes of a blob.
    #[must_use]
    pub const fn sniff(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A frame, or a skippable frame, which may come first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

/// A layer grew beyond the limit while it was decompressed. Comes inside an [`io::Error`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the layer is larger than {limit} bytes when decompressed")]
pub struct LayerTooLarge {
    /// The limit.
    pub limit: u64,
}

/// Reads the tar out of a layer blob.
pub struct LayerDecoder<R: Read> {
    decoder: Decoder<R>,
    compression: Compression,
    limit: u64,
    left: u64,
}

enum Decoder<R: Read> {
    Plain(BufReader<R>),
    Gzip(Box<MultiGzDecoder<BufReader<R>>>),
    Zstd(zstd::stream::read::Decoder<'static, BufReader<R>>),
}

impl<R: Read> LayerDecoder<R> {
    /// Reads a blob that is compressed as its media type says; none looks at its first bytes.
    ///
    /// # Errors
    ///
    /// The blob cannot be read.
    pub fn new(blob: R, compression: Option<Compression>) -> io::Result<Self> {
        Self::with_limit(blob, compression, MAX_LAYER_SIZE)
    }

    /// As [`new`](Self::new), with another limit of the decompressed bytes.
    ///
    /// # Errors
    ///
    /// The blob cannot be read.
    pub fn with_limit(blob: R, compression: Option<Compression>, limit: u64) -> io::Result<Self> {
        let mut input = BufReader::with_capacity(BUFFER, blob);
        let compression = match compression {
            Some(compression) => compression,
            None => Compression::sniff(input.fill_buf()?),
        };
        let decoder = match compression {
            Compression::Plain => Decoder::Plain(input),
            Compression::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(input))),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
                decoder.window_log_max(MAX_ZSTD_WINDOW_LOG)?;
                Decoder::Zstd(decoder)
            }
        };
        Ok(Self { decoder, compression, limit, left: limit })
    }

    /// Returns how the blob is compressed.
    #[must_use]
    pub const fn compression(&self) -> Compression {
        self.compression
    }

    /// Returns the wrapped reader. All of it has been read when reading came to its end.
    pub fn into_inner(self) -> R {
        match self.decoder {
            Decoder::Plain(input) => input.into_inner(),
            Decoder::Gzip(decoder) => decoder.into_inner().into_inner(),
            Decoder::Zstd(decoder) => decoder.finish().into_inner(),
        }
    }
}

impl<R: Read> Read for LayerDecoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match &mut self.decoder {
            Decoder::Plain(input) => input.read(buffer),
            Decoder::Gzip(decoder) => decoder.read(buffer),
            Decoder::Zstd(decoder) => decoder.read(buffer),
        }?;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::new(io::ErrorKind::InvalidData, LayerTooLarge { limit: self.limit })),
        }
        Ok(count)
    }
}

impl<R: Read> fmt::Debug for LayerDecoder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerDecoder")
            .field("compression", &self.compression)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(bytes, 1).unwrap()
    }

    fn decode(blob: &[u8]) -> io::Result<Vec<u8>> {
        let mut decoder = LayerDecoder::new(blob, None)?;
        let mut bytes = Vec::new();
        decoder.read_to_end(&mut bytes)?;
        assert!(decoder.into_inner().is_empty(), "the blob is read to its end");
        Ok(bytes)
    }

    #[test]
    fn every_compression_and_sequences_of_it_are_read_to_the_end() {
        let skippable = b"\x5a\x2a\x4d\x18\x03\0\0\0xyz";
        for blob in [
            b"onetwo".to_vec(),
            gzip(b"onetwo"),
            [gzip(b"one"), gzip(b""), gzip(b"two")].concat(),
            zstd(b"onetwo"),
            [&skippable[..], &zstd(b"one"), skippable, &zstd(b"two"), skippable].concat(),
        ] {
            assert_eq!(decode(&blob).unwrap(), b"onetwo");
        }
        assert_eq!(decode(b"").unwrap(), b"");
    }

    #[test]
    fn garbage_behind_the_end_and_a_missing_end_are_errors() {
        let long: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        for blob in [gzip(&long), zstd(&long)] {
            decode(&[&blob[..], b"garbage behind the end"].concat()).unwrap_err();
            for cut in [blob.len() - 1, blob.len() / 2, 5] {
                decode(&blob[..cut]).unwrap_err();
            }
        }
    }

    #[test]
    fn a_bomb_ends_at_the_limit() {
        for blob in [gzip(&[0; 10_000]), zstd(&[0; 10_000]), vec![0; 10_000]] {
            let mut at_limit = LayerDecoder::with_limit(&blob[..], None, 10_000).unwrap();
            assert_eq!(io::copy(&mut at_limit, &mut io::sink()).unwrap(), 10_000);
            let mut beyond = LayerDecoder::with_limit(&blob[..], None, 9_999).unwrap();
            let error = io::copy(&mut beyond, &mut io::sink()).unwrap_err();
            assert!(error.get_ref().is_some_and(|inner| inner.is::<LayerTooLarge>()));
        }
    }
}
