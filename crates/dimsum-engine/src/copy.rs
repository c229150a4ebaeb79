//! Copies between registries, layouts and archives, with the manifests that refer to the images.

use std::time::Instant;

use dimsum_format::Digest;
use dimsum_format::manifest::Blob;
use dimsum_source::{CopyProgress, Outcome, Referrers, Selection, SourceError, Tally, copy_with_referrers};
use serde::Serialize;

use crate::image::{create_target, open_place, parse};
use crate::{CancelToken, Engine, EngineError, ErrorKind};

/// An image to copy.
#[derive(Debug, Clone)]
pub struct CopyRequest {
    /// The image, Dimsum or ordinary.
    pub source: String,
    /// Where it goes.
    pub target: String,
    /// Which manifests that refer to it come along.
    pub referrers: Referrers,
}

/// The figures of a copy.
#[derive(Debug, Clone, Serialize)]
pub struct CopySummary {
    /// As the caller wrote it.
    pub source: String,
    /// As the caller wrote it.
    pub target: String,
    /// The manifest or index.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Manifests that were written.
    pub manifests: usize,
    /// Blobs that moved.
    pub blobs_moved: u64,
    /// Bytes of these.
    pub bytes_moved: u64,
    /// Blobs that the target had.
    pub blobs_present: u64,
    /// Bytes of these.
    pub bytes_present: u64,
    /// Blobs that another repository of the same registry had.
    pub blobs_mounted: u64,
    /// Bytes of these.
    pub bytes_mounted: u64,
    /// Layers that lie elsewhere and stay there.
    pub blobs_left: u64,
    /// Manifests that refer to the images and came along.
    pub referrers: Vec<ReferrerCopied>,
    /// Manifests that refer to them and did not.
    pub referrers_left: Vec<ReferrerLeftBehind>,
    /// Time of the whole copy.
    pub seconds: f64,
}

/// A referrer that came along.
#[derive(Debug, Clone, Serialize)]
pub struct ReferrerCopied {
    /// Its manifest.
    pub digest: Digest,
    /// The manifest that it refers to.
    pub subject: Digest,
    /// Its type, which may be any text.
    pub artifact_type: String,
    /// Bytes of its blobs.
    pub bytes: u64,
}

/// A referrer that stayed behind.
#[derive(Debug, Clone, Serialize)]
pub struct ReferrerLeftBehind {
    /// Its manifest.
    pub digest: Digest,
    /// The manifest that it refers to.
    pub subject: Digest,
    /// Why.
    pub reason: &'static str,
}

impl Engine {
    /// Copies an image as it is. The platforms of the configuration pick images of an index; none takes all. Blobs that
    /// the target has do not move. `progress` hears of each blob; the engine's token ends the copy.
    ///
    /// # Errors
    /// If the source cannot be read, or the target cannot be written.
    pub fn copy(&self, request: &CopyRequest, progress: &dyn CopyProgress) -> Result<CopySummary, EngineError> {
        let started = Instant::now();
        let source = open_place(self, &parse(self, &request.source)?)?;
        let target = create_target(self, &request.target)?;
        let selection = match &*self.config().platforms {
            [] => Selection::All,
            platforms => Selection::Platforms(platforms.to_vec()),
        };
        let progress = CancellableCopy { progress, cancel: self.cancel() };
        let copied = copy_with_referrers(&*source, &*target, &selection, request.referrers, &progress);
        let copied = copied.map_err(|source| self.copy_error(request, source))?;
        let Tally { moved, moved_bytes, present, present_bytes, mounted, mounted_bytes, skipped } = copied.blobs;
        let referrers = copied.referrers.into_iter().map(|referrer| ReferrerCopied {
            digest: referrer.digest,
            subject: referrer.subject,
            artifact_type: referrer.artifact_type,
            bytes: referrer.bytes,
        });
        let left = copied.referrers_left.iter();
        let left =
            left.map(|left| ReferrerLeftBehind { digest: left.digest, subject: left.subject, reason: left.reason });
        Ok(CopySummary {
            source: request.source.clone(),
            target: request.target.clone(),
            digest: copied.root.digest,
            media_type: copied.root.media_type,
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
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    fn copy_error(&self, request: &CopyRequest, source: SourceError) -> EngineError {
        match (source.kind(), self.cancel().reason()) {
            (ErrorKind::Cancelled, Some(reason)) => EngineError::Cancelled { reason },
            _ => EngineError::Copy {
                object: request.source.clone(),
                target: request.target.clone(),
                source: Box::new(source),
            },
        }
    }
}

/// Tells the caller of a copy, and ends it when the engine's token or the caller says so.
struct CancellableCopy<'a> {
    progress: &'a dyn CopyProgress,
    cancel: &'a CancelToken,
}

impl CopyProgress for CancellableCopy<'_> {
    fn planned(&self, manifests: usize, blobs: usize, bytes: u64) {
        self.progress.planned(manifests, blobs, bytes);
    }

    fn blob_started(&self, blob: Blob) {
        self.progress.blob_started(blob);
    }

    fn blob_moved(&self, blob: Blob, count: u64) {
        self.progress.blob_moved(blob, count);
    }

    fn blob_done(&self, blob: Blob, outcome: Outcome) {
        self.progress.blob_done(blob, outcome);
    }

    fn cancelled(&self) -> bool {
        self.cancel.is_cancelled() || self.progress.cancelled()
    }
}
