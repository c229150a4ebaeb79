//! The figures of a copy, for people.

use std::io::{self, Write};

use dimsum_engine::copy::{CopySummary, ReferrerCopied, ReferrerLeftBehind};

use crate::output::{Name, Report, Size, total};
use crate::views::count::Count;

/// Referrers that the text lists; JSON has all.
const LISTED: usize = 20;

impl Report for CopySummary {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "manifest   {} ({} manifests)", self.digest, self.manifests)?;
        writeln!(out, "moved      {} blobs, {}", self.blobs_moved, Size(self.bytes_moved))?;
        writeln!(out, "present    {} blobs, {}", self.blobs_present, Size(self.bytes_present))?;
        writeln!(out, "mounted    {} blobs, {}", self.blobs_mounted, Size(self.bytes_mounted))?;
        if self.blobs_left > 0 {
            writeln!(out, "left       {} layers that lie elsewhere", self.blobs_left)?;
        }
        write_referrers(self, out)?;
        writeln!(out, "time       {:.2} s", self.seconds)
    }
}

fn write_referrers(copy: &CopySummary, out: &mut dyn Write) -> io::Result<()> {
    if !copy.referrers.is_empty() {
        let bytes = total(copy.referrers.iter().map(|referrer| referrer.bytes));
        writeln!(out, "with       {}, {}", Count(copy.referrers.len() as u64, "referrer"), Size(bytes))?;
    }
    for ReferrerCopied { digest, artifact_type, bytes, .. } in copy.referrers.iter().take(LISTED) {
        writeln!(out, "           {digest} {}, {}", Name(artifact_type.as_bytes()), Size(*bytes))?;
    }
    if !copy.referrers_left.is_empty() {
        writeln!(out, "without    {}", Count(copy.referrers_left.len() as u64, "referrer"))?;
    }
    for ReferrerLeftBehind { digest, reason, .. } in copy.referrers_left.iter().take(LISTED) {
        writeln!(out, "           {digest}: {reason}")?;
    }
    Ok(())
}
