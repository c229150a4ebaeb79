//! Proving an image where it lies, without the store, or what the store has of it.
//!
//! ```text
//! place ─→ blobs (SHA-256) ─→ meta (frames, groups, root) ─→ maps, EROFS validator
//!                                        └─→ chunks (frame, BLAKE3) ─→ contents ─→ compare with the source's tree
//! ```
//!
//! Everything is read from where the image lies and nowhere else: what the store could repair must still be seen here. A
//! part that is wrong becomes a [`Finding`] that names the blob and the offset. The check goes on as far as it can.

mod against;
mod blobs;
mod chunks;
mod compare;
pub mod fault;
mod finding;
mod fingerprint;

use dimsum_format::Digest;
use dimsum_source::Prefer;
use dimsum_store::{CheckProgress, NodeKey, Severity};
use serde::Serialize;

use self::against::against;
use self::blobs::{BlobCheck, blob_name};
use crate::image::{self, Held, find_in_store, parse, resolve};
use crate::text::total;
use crate::{Engine, EngineError};

pub use self::compare::{Comparison, Difference};
pub use self::fault::{AgainstError, ChunkError, ChunkFault};
pub use self::finding::{Finding, Findings};

/// What is checked beside the blobs and the file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct CheckRequest<'a> {
    /// Whether every chunk of every pack is decoded and proven.
    pub data: bool,
    /// An ordinary image, or a directory as `dir:PATH`, with which the image's tree is compared.
    pub against: Option<&'a str>,
    /// Differences to list; all of them are counted.
    pub list: usize,
}

/// What a check found.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct ImageCheck {
    /// The image as the user wrote it, with absolute paths.
    pub image: String,
    /// Digest of its manifest.
    pub digest: Digest,
    /// Bytes that were read.
    pub bytes: u64,
    /// Chunks that were decoded and proven.
    pub chunks: u64,
    /// What is wrong.
    pub findings: Findings,
    /// What the comparison with the source gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
}

impl ImageCheck {
    /// Returns how many things are wrong: findings and differences.
    #[must_use]
    pub fn problems(&self) -> u64 {
        let differences = self.comparison.as_ref().map_or(0, |comparison| comparison.differences);
        self.findings.count.saturating_add(differences)
    }
}

/// Proves a Dimsum image where it lies.
///
/// # Errors
/// If the check cannot be made. What is wrong with the image is no error but a finding.
pub fn check_image(engine: &Engine, text: &str, request: CheckRequest<'_>) -> Result<ImageCheck, EngineError> {
    let resolved = resolve(engine, &parse(engine, text)?, Prefer::Dimsum)?;
    if !resolved.manifest.is_dimsum() {
        return Err(EngineError::Ordinary { object: resolved.reference.to_string() });
    }
    let mut findings = Findings::default();
    let total = total(resolved.manifest.layers.iter().map(|layer| layer.size));
    let phase = engine.progress().phase(&format!("checking {}", resolved.reference), Some(total));
    let mut check = BlobCheck::new(&resolved, request.data, &mut findings);
    let checked = check.run(|bytes| phase.set(bytes));
    let (bytes, chunks) = (check.bytes, check.chunks);
    if let Some(checked) = &checked
        && let Err(error) = image::validate_erofs(checked.erofs(), &checked.maps)
    {
        findings.add(blob_name(&resolved.reference, checked.manifest.meta.digest), None, error);
    }
    drop(phase);
    let comparison = match (request.against, &checked) {
        (Some(source), Some(checked)) => {
            let _phase = engine.progress().phase(&format!("comparing with {source}"), None);
            Some(against(engine, &resolved, checked, source, request.list)?)
        }
        _ => None,
    };
    let image = resolved.reference.to_string();
    Ok(ImageCheck { image, digest: resolved.digest, bytes, chunks, findings, comparison })
}

/// Proves every file that the store has of an image.
///
/// # Errors
/// If the store does not have the image.
pub fn check_stored_image(engine: &Engine, text: &str) -> Result<ImageCheck, EngineError> {
    // Not opened, which would mend what is to be found.
    let Held { reference, digest, store } = find_in_store(engine, text)?;
    let key = NodeKey::open(&engine.config().node_key).ok();
    let phase = engine.progress().phase(&format!("checking the store {}", engine.config().store.display()), None);
    let report = store.check(key.as_ref(), &mut |progress: CheckProgress| phase.set(progress.bytes));
    drop(phase);
    let mut findings = Findings::default();
    for finding in report.findings.iter().filter(|finding| finding.severity == Severity::Damage) {
        let what = format!("{}: {}", finding.object, finding.cause);
        findings.add(finding.path.display().to_string(), Some(finding.offset), what);
    }
    findings.count = findings.count.saturating_add(report.more);
    let image = reference.to_string();
    Ok(ImageCheck { image, digest, bytes: report.bytes, chunks: 0, findings, comparison: None })
}
