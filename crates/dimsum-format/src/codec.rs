//! zstd frames with exact lengths.
//!
//! Compressed bytes are canonical per *encoder id*, so every parameter that changes them is fixed here. The
//! caller's buffer bounds decompression before it starts, so a decompression bomb costs nothing.

use zstd_safe::{CCtx, CParameter, DCtx, ResetDirective};

use crate::error::FormatError;
use crate::limits::MAX_FRAME_BYTES;

/// The default compression level of images that are pushed: chosen from the corpus (`docs/format.md`, section
/// 11). An image is compressed once, stored and fetched many times, and decoded at the same speed whatever the
/// level was.
pub const DEFAULT_LEVEL: i32 = 9;
/// The level for a conversion that a user waits for and whose result stays on this node: an ordinary image on its way
/// in.
pub const FAST_LEVEL: i32 = 3;
/// The level of a meta whose packs are compressed at [`DEFAULT_LEVEL`] or above. Every node fetches the whole meta
/// before its first byte of data, so its bytes are time to ready. Levels 10 to 13 gain nothing for frames of this size,
/// 14 gains 10 to 14 %. Above it only the time grows (`docs/format.md`, section 11).
const META_LEVEL: i32 = 14;
/// Levels that `--level` takes: above 19 the window of a frame would exceed the chunk for nothing.
pub const LEVELS: std::ops::RangeInclusive<i32> = 1..=19;

/// Returns the encoder id (`zstd-<libzstd version>-<level>`): equal ids give equal compressed bytes.
#[must_use]
pub fn encoder_id(level: i32) -> String {
    format!("zstd-{}-{level}", zstd_safe::version_string())
}

/// Returns the level of the meta of an image whose packs have the given one.
#[must_use]
pub const fn meta_level(level: i32) -> i32 {
    if level >= DEFAULT_LEVEL && level < META_LEVEL { META_LEVEL } else { level }
}

/// A reusable compressor; one per thread.
pub struct Compressor {
    context: CCtx<'static>,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl Compressor {
    /// Makes a compressor of the given level.
    ///
    /// # Errors
    /// If zstd refuses the level.
    pub fn new(level: i32) -> Result<Self, FormatError> {
        let mut context = CCtx::create();
        for parameter in [
            CParameter::CompressionLevel(level),
            CParameter::ContentSizeFlag(true),
            CParameter::ChecksumFlag(false),
            CParameter::DictIdFlag(false),
        ] {
            context.set_parameter(parameter).map_err(frame_error)?;
        }
        Ok(Self { context })
    }

    /// Appends one frame with `bytes` to `frame`.
    ///
    /// # Errors
    /// If zstd fails, which it does only without memory.
    pub fn compress(&mut self, bytes: &[u8], frame: &mut Vec<u8>) -> Result<usize, FormatError> {
        let bound = zstd_safe::compress_bound(bytes.len());
        let start = frame.len();
        // zstd writes from the start of its buffer, so a frame behind other bytes is made apart.
        if start == 0 {
            frame.reserve(bound);
            self.context.compress2(frame, bytes).map_err(frame_error)
        } else {
            let mut apart = Vec::with_capacity(bound);
            let length = self.context.compress2(&mut apart, bytes).map_err(frame_error)?;
            frame.extend_from_slice(&apart);
            Ok(length)
        }
    }
}

/// A reusable decompressor; one per thread.
pub struct Decompressor {
    context: DCtx<'static>,
}

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}

impl Default for Decompressor {
    fn default() -> Self {
        Self { context: DCtx::create() }
    }
}

impl Decompressor {
    /// Decodes the one frame in `frame` into exactly `length` bytes.
    ///
    /// # Errors
    /// If `frame` is not exactly one frame, or its content is longer or shorter than `length`.
    pub fn decompress(&mut self, frame: &[u8], length: usize) -> Result<Vec<u8>, FormatError> {
        if frame.len() > MAX_FRAME_BYTES as usize {
            return Err(FormatError::Limit {
                part: "zstd frame",
                value: frame.len() as u64,
                limit: u64::from(MAX_FRAME_BYTES),
            });
        }
        match zstd_safe::get_frame_content_size(frame) {
            Ok(Some(size)) if size == length as u64 => {}
            Ok(_) => {
                return Err(FormatError::Frame { reason: "the content size in its header is not the chunk's length" });
            }
            Err(_) => return Err(FormatError::Frame { reason: "this is not a zstd frame" }),
        }
        if zstd_safe::find_frame_compressed_size(frame).map_err(frame_error)? != frame.len() {
            return Err(FormatError::Frame { reason: "bytes behind the end of the frame" });
        }
        let mut bytes = Vec::with_capacity(length);
        self.context.reset(ResetDirective::SessionOnly).map_err(frame_error)?;
        let got = self.context.decompress(&mut bytes, frame).map_err(frame_error)?;
        if got != length {
            return Err(FormatError::Frame { reason: "its content is shorter than its header says" });
        }
        Ok(bytes)
    }
}

fn frame_error(code: usize) -> FormatError {
    FormatError::Frame { reason: zstd_safe::get_error_name(code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_decodes_to_exactly_its_bytes_or_not_at_all() {
        let bytes: Vec<u8> = (0..200_000u32).map(|i| (i / 3) as u8).collect();
        let mut frame = Vec::new();
        Compressor::new(DEFAULT_LEVEL).unwrap().compress(&bytes, &mut frame).unwrap();
        let mut decoder = Decompressor::default();
        assert_eq!(decoder.decompress(&frame, bytes.len()).unwrap(), bytes);
        assert!(decoder.decompress(&frame, bytes.len() - 1).is_err());
        assert!(decoder.decompress(&frame, bytes.len() + 1).is_err());
        assert!(decoder.decompress(&frame[..frame.len() - 1], bytes.len()).is_err());
        frame.push(0);
        assert!(decoder.decompress(&frame, bytes.len()).is_err());
    }

    #[test]
    fn a_context_gives_the_same_frame_again() {
        let bytes = vec![7; 100_000];
        let mut compressor = Compressor::new(DEFAULT_LEVEL).unwrap();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        compressor.compress(&bytes, &mut first).unwrap();
        compressor.compress(b"something else", &mut Vec::new()).unwrap();
        compressor.compress(&bytes, &mut second).unwrap();
        assert_eq!(first, second);
    }
}
