//! A writer that hashes a stream and cuts it into blocks of one size.

use std::io::{self, Write};

use dimsum_format::Digest;
use sha2::{Digest as _, Sha256};

use crate::error::ConvertError;

/// Takes the blocks of a stream, in order.
pub(crate) trait BlockSink {
    /// Takes the next block. All but the last have the same size; none is empty.
    fn block(&mut self, bytes: Vec<u8>) -> Result<(), ConvertError>;
}

/// Cuts written bytes into blocks for a sink.
pub(crate) struct Chunked<S> {
    sink: S,
    /// Bytes of a block.
    size: usize,
    buffer: Vec<u8>,
    hasher: Sha256,
    /// Bytes handed to the sink.
    length: u64,
    /// The sink's error. [`Write`] can only say that there is one.
    error: Option<ConvertError>,
}

/// A stream that has ended.
pub(crate) struct Ended<S> {
    pub(crate) sink: S,
    /// SHA-256 of the whole stream.
    pub(crate) digest: Digest,
    /// Bytes of the whole stream.
    pub(crate) length: u64,
}

impl<S: BlockSink> Chunked<S> {
    /// Starts a stream that is cut every `size` bytes.
    pub(crate) fn new(size: usize, sink: S) -> Self {
        Self { sink, size, buffer: Vec::with_capacity(size), hasher: Sha256::new(), length: 0, error: None }
    }

    /// Writes all bytes; fails with the sink's error.
    pub(crate) fn put(&mut self, mut bytes: &[u8]) -> Result<(), ConvertError> {
        while !bytes.is_empty() {
            bytes = bytes.get(self.take(bytes)?..).unwrap_or_default();
        }
        Ok(())
    }

    /// Returns the sink's error, if it stopped a [`Write`].
    pub(crate) const fn take_error(&mut self) -> Option<ConvertError> {
        self.error.take()
    }

    /// Hands over the last block.
    pub(crate) fn finish(mut self) -> Result<Ended<S>, ConvertError> {
        if !self.buffer.is_empty() {
            self.submit()?;
        }
        Ok(Ended { sink: self.sink, digest: Digest::new(self.hasher.finalize().into()), length: self.length })
    }

    /// Takes bytes up to the end of the block and returns how many.
    fn take(&mut self, bytes: &[u8]) -> Result<usize, ConvertError> {
        let (now, _) = bytes.split_at(bytes.len().min(self.size - self.buffer.len()));
        self.buffer.extend_from_slice(now);
        if self.buffer.len() == self.size {
            self.submit()?;
        }
        Ok(now.len())
    }

    fn submit(&mut self) -> Result<(), ConvertError> {
        let block = std::mem::replace(&mut self.buffer, Vec::with_capacity(self.size));
        self.hasher.update(&block);
        self.length += block.len() as u64;
        self.sink.block(block)
    }
}

impl<S: BlockSink> Write for Chunked<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.take(bytes).map_err(|error| {
            self.error = Some(error);
            io::Error::other("stopped")
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct List(Vec<Vec<u8>>);

    impl BlockSink for List {
        fn block(&mut self, bytes: Vec<u8>) -> Result<(), ConvertError> {
            self.0.push(bytes);
            if self.0.len() > 9 { Err(ConvertError::Cancelled) } else { Ok(()) }
        }
    }

    #[test]
    fn a_stream_is_cut_wherever_the_writer_pauses() {
        let all: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for piece in [1, 7, 128, 300, 1000] {
            let mut stream = Chunked::new(128, List::default());
            for (number, bytes) in all.chunks(piece).enumerate() {
                if number % 2 == 0 {
                    stream.put(bytes).unwrap();
                } else {
                    stream.write_all(bytes).unwrap();
                }
            }
            let ended = stream.finish().unwrap();
            assert_eq!(ended.sink.0, all.chunks(128).collect::<Vec<_>>());
            assert_eq!((ended.digest, ended.length), (Digest::of(&all), 1000));
        }
    }

    #[test]
    fn the_error_of_the_sink_is_told_behind_a_writer() {
        let mut stream = Chunked::new(1, List::default());
        assert!(stream.write_all(&[0; 11]).is_err());
        assert!(matches!(stream.take_error(), Some(ConvertError::Cancelled)));
        let mut stream = Chunked::new(1, List::default());
        assert!(matches!(stream.put(&[0; 11]), Err(ConvertError::Cancelled)));
    }
}
