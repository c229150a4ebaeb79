//! What came out of converting an index.

use std::io::{self, Write};

use dimsum_convert::{ConvertedRoot, SkipReason, SkippedImage};
use dimsum_format::Digest;
use dimsum_source::platform_text;
use serde::Serialize;

use super::Convert;
use super::summary::Summary;
use crate::output::{Name, Report, Size};

/// What came out of an index.
#[derive(Serialize)]
pub(super) struct IndexSummary<'a> {
    source: &'a str,
    target: &'a str,
    index: Digest,
    images: Vec<Image<'a>>,
    left_out: Vec<Left>,
    written_bytes: u64,
    seconds: f64,
}

#[derive(Serialize)]
struct Image<'a> {
    platform: Option<String>,
    original: Digest,
    #[serde(flatten)]
    summary: Summary<'a>,
}

#[derive(Serialize)]
struct Left {
    digest: Digest,
    platform: Option<String>,
    reason: &'static str,
}

impl<'a> IndexSummary<'a> {
    pub(super) fn new(command: &'a Convert, converted: &ConvertedRoot, written_bytes: u64, seconds: f64) -> Self {
        let images = converted.images.iter().map(|image| Image {
            platform: image.platform.as_ref().map(platform_text),
            original: image.source,
            summary: Summary::new(command, &image.converted, written_bytes, seconds),
        });
        Self {
            source: &command.source,
            target: &command.target,
            index: converted.root.digest,
            images: images.collect(),
            left_out: converted.left_out.iter().map(Left::new).collect(),
            written_bytes,
            seconds,
        }
    }
}

impl Left {
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

impl Report for IndexSummary<'_> {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "index      {}", self.index)?;
        for Image { platform, original, summary } in &self.images {
            let platform = shown(platform.as_deref());
            let (manifest, stored, new) = (summary.manifest, Size(summary.stored_bytes), Size(summary.new_bytes));
            writeln!(out, "{platform:<10} {manifest} of {original}, stored {stored}, of this new {new}")?;
            summary.notes(out)?;
        }
        for Left { digest, platform, reason } in &self.left_out {
            writeln!(out, "left out   {digest} {}: {reason}", shown(platform.as_deref()))?;
        }
        writeln!(out, "time       {:.2} s", self.seconds)
    }
}

/// A platform as an index says it, which may say anything.
fn shown(platform: Option<&str>) -> String {
    Name(platform.unwrap_or("-").as_bytes()).to_string()
}
