//! What a copy moved.

use std::io::{self, Write};

use dimsum_format::Digest;
use dimsum_source::{Copied, Tally};
use serde::Serialize;

use super::Copy;
use crate::output::{Name, Report, Size, total};
use crate::views::count::Count;

/// Referrers that the text lists; JSON has all.
const LISTED: usize = 20;

#[derive(Serialize)]
pub(super) struct Summary<'a> {
    source: &'a str,
    target: &'a str,
    digest: Digest,
    media_type: &'a str,
    manifests: usize,
    blobs_moved: u64,
    bytes_moved: u64,
    blobs_present: u64,
    bytes_present: u64,
    blobs_mounted: u64,
    bytes_mounted: u64,
    blobs_left: u64,
    /// What refers to the images and came along.
    referrers: Vec<Referrer<'a>>,
    /// What refers to them and did not.
    referrers_left: Vec<Left>,
    seconds: f64,
}

#[derive(Serialize)]
struct Referrer<'a> {
    digest: Digest,
    subject: Digest,
    artifact_type: &'a str,
    /// Bytes of its blobs.
    bytes: u64,
}

#[derive(Serialize)]
struct Left {
    digest: Digest,
    subject: Digest,
    reason: &'static str,
}

impl<'a> Summary<'a> {
    pub(super) fn new(command: &'a Copy, copied: &'a Copied, seconds: f64) -> Self {
        let Tally { moved, moved_bytes, present, present_bytes, mounted, mounted_bytes, skipped } = copied.blobs;
        let referrers = copied.referrers.iter().map(|referrer| Referrer {
            digest: referrer.digest,
            subject: referrer.subject,
            artifact_type: &referrer.artifact_type,
            bytes: referrer.bytes,
        });
        let left = copied.referrers_left.iter();
        let left = left.map(|left| Left { digest: left.digest, subject: left.subject, reason: left.reason });
        Self {
            source: &command.source,
            target: &command.target,
            digest: copied.root.digest,
            media_type: &copied.root.media_type,
            manifests: copied.manifests,
            blobs_moved: moved,
            bytes_moved: moved_bytes,
            blobs_present: present,
            bytes_present: present_bytes,
            blobs_mounted: mounted,
            bytes_mounted: mounted_bytes,
            blobs_left: skipped,
            referrers: referrers.collect(),
            referrers_left: left.collect(),
            seconds,
        }
    }

    fn referrers(&self, out: &mut dyn Write) -> io::Result<()> {
        if !self.referrers.is_empty() {
            let bytes = total(self.referrers.iter().map(|referrer| referrer.bytes));
            writeln!(out, "with       {}, {}", Count(self.referrers.len() as u64, "referrer"), Size(bytes))?;
        }
        for Referrer { digest, artifact_type, bytes, .. } in self.referrers.iter().take(LISTED) {
            writeln!(out, "           {digest} {}, {}", Name(artifact_type.as_bytes()), Size(*bytes))?;
        }
        if !self.referrers_left.is_empty() {
            writeln!(out, "without    {}", Count(self.referrers_left.len() as u64, "referrer"))?;
        }
        for Left { digest, reason, .. } in self.referrers_left.iter().take(LISTED) {
            writeln!(out, "           {digest}: {reason}")?;
        }
        Ok(())
    }
}

impl Report for Summary<'_> {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "manifest   {} ({} manifests)", self.digest, self.manifests)?;
        writeln!(out, "moved      {} blobs, {}", self.blobs_moved, Size(self.bytes_moved))?;
        writeln!(out, "present    {} blobs, {}", self.blobs_present, Size(self.bytes_present))?;
        writeln!(out, "mounted    {} blobs, {}", self.blobs_mounted, Size(self.bytes_mounted))?;
        if self.blobs_left > 0 {
            writeln!(out, "left       {} layers that lie elsewhere", self.blobs_left)?;
        }
        self.referrers(out)?;
        writeln!(out, "time       {:.2} s", self.seconds)
    }
}
