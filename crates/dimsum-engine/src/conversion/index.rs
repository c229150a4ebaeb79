//! The figures of the conversion of an index.

use dimsum_convert::{ConvertedRoot, SkipReason, SkippedImage};
use dimsum_format::Digest;
use dimsum_source::platform_text;
use serde::Serialize;

use super::ConvertRequest;
use super::summary::ConversionSummary;

/// A converted index.
#[derive(Debug, Clone, Serialize)]
pub struct IndexSummary {
    /// As the caller wrote it.
    pub source: String,
    /// As the caller wrote it.
    pub target: String,
    /// The new index.
    pub index: Digest,
    /// Its Dimsum images.
    pub images: Vec<IndexedConversion>,
    /// Entries of the source's index that are not in the new one.
    pub left_out: Vec<LeftOutImage>,
    /// Bytes that were made or copied for all of them.
    pub written_bytes: u64,
    /// Time of the whole conversion.
    pub seconds: f64,
}

/// One image of the index.
#[derive(Debug, Clone, Serialize)]
pub struct IndexedConversion {
    /// Its platform as the index says it, which may say anything.
    pub platform: Option<String>,
    /// The ordinary image.
    pub original: Digest,
    /// The figures of its conversion.
    #[serde(flatten)]
    pub summary: ConversionSummary,
}

/// An entry of the source's index that was not converted.
#[derive(Debug, Clone, Serialize)]
pub struct LeftOutImage {
    /// Its manifest.
    pub digest: Digest,
    /// Its platform as the index says it, which may say anything.
    pub platform: Option<String>,
    /// Why not.
    pub reason: &'static str,
}

impl IndexSummary {
    pub(super) fn new(request: &ConvertRequest, converted: &ConvertedRoot, written_bytes: u64, seconds: f64) -> Self {
        let images = converted.images.iter().map(|image| IndexedConversion {
            platform: image.platform.as_ref().map(platform_text),
            original: image.source,
            summary: ConversionSummary::new(request, &image.converted, written_bytes, seconds),
        });
        Self {
            source: request.source.clone(),
            target: request.target.clone(),
            index: converted.root.digest,
            images: images.collect(),
            left_out: converted.left_out.iter().map(LeftOutImage::new).collect(),
            written_bytes,
            seconds,
        }
    }
}

impl LeftOutImage {
    fn new(left: &SkippedImage) -> Self {
        let reason = match left.reason {
            SkipReason::Platform => "its platform was not asked for",
            SkipReason::NoImage => "it is no image",
            SkipReason::Dimsum => "it is a Dimsum image already",
            SkipReason::Windows => "it is for Windows",
            _ => "it cannot be converted",
        };
        Self { digest: left.digest, platform: left.platform.as_ref().map(platform_text), reason }
    }
}
