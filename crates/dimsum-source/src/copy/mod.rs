//! Copies images from any place to any target: what is there already does not move.
//!
//! ```text
//!   root ─→ Plan: manifests (parts first), blobs ─┬─→ blobs, some at a time: has? mount? copy ─→ manifests ─→ referrers ─→ root, last
//!                  └─ attached: what refers to them ┘
//! ```
//!
//! The shape is kept: an index stays an index, and manifests keep their bytes and so their digests. Only an index from
//! which platforms were left out is written anew. Nothing stands under the target's name before everything is there.

mod attached;
mod blobs;
mod plan;

use dimsum_format::Digest;
use dimsum_format::manifest::{Annotations, Blob, Descriptor, Platform};

use crate::error::{SourceError, SourceFault};
use crate::place::{Document, Place, Prefer, resolve};
use crate::source::Source;
use crate::target::{Role, Shape, Target};

use self::attached::Attached;
pub use self::attached::{CopiedReferrer, LeftReferrer, Referrers};
pub use self::plan::{Plan, Wanted};

/// What of a name is copied.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Selection {
    /// All that it stands for.
    All,
    /// Of an index, the images (twins too) for these platforms, with what is attached to them; the result is an index.
    Platforms(Vec<Platform>),
    /// One image for a platform; the result is its manifest.
    One(Platform, Prefer),
}

/// What happened to a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Its bytes were copied.
    Moved,
    /// It was in the target already.
    Present,
    /// It was made visible from another repository of the same registry.
    Mounted,
    /// It is a layer that lies elsewhere and may not be passed on (it has URLs); its descriptor is copied.
    Skipped,
}

/// Is told how a copy gets on; calls come from several threads and should return at once.
pub trait CopyProgress: Send + Sync {
    /// What is to be looked at, before anything moves.
    fn planned(&self, manifests: usize, blobs: usize, bytes: u64) {
        let _ = (manifests, blobs, bytes);
    }

    /// A blob begins.
    fn blob_started(&self, blob: Blob) {
        let _ = blob;
    }

    /// So many more bytes of a blob have moved. What an earlier attempt moved is not counted again.
    fn blob_moved(&self, blob: Blob, count: u64) {
        let (_, _) = (blob, count);
    }

    /// A blob is done.
    fn blob_done(&self, blob: Blob, outcome: Outcome) {
        let (_, _) = (blob, outcome);
    }

    /// Is asked often; once it says yes the copy ends with [`SourceFault::Cancelled`].
    fn cancelled(&self) -> bool {
        false
    }
}

/// Tells nobody.
impl CopyProgress for () {}

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copied {
    /// What the target's name stands for now.
    pub root: Descriptor,
    /// Manifests and indexes.
    pub manifests: usize,
    /// Blobs, those of referrers too, by what happened to them, and their bytes.
    pub blobs: Tally,
    /// What refers to the images and came along.
    pub referrers: Vec<CopiedReferrer>,
    /// What refers to the images, was wanted, and did not come along.
    pub referrers_left: Vec<LeftReferrer>,
}

/// Blobs and bytes by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Blobs that were copied.
    pub moved: u64,
    /// Bytes that were copied for this; less than the blobs' where an earlier attempt had begun.
    pub moved_bytes: u64,
    /// Blobs that were there.
    pub present: u64,
    /// Their bytes.
    pub present_bytes: u64,
    /// Blobs mounted from another repository.
    pub mounted: u64,
    /// Their bytes.
    pub mounted_bytes: u64,
    /// Layers that lie elsewhere.
    pub skipped: u64,
}

/// Copies what a name stands for, without what refers to it. Blocking.
///
/// # Errors
/// If something of it is missing, wrong or refused by the target, or the copy was cancelled. What has moved stays in the
/// target, which another attempt makes use of; its name stands for what it stood for before.
pub fn copy_image(
    from: &dyn Place,
    to: &dyn Target,
    selection: &Selection,
    progress: &dyn CopyProgress,
) -> Result<Copied, SourceError> {
    copy_with_referrers(from, to, selection, Referrers::None, progress)
}

/// Copies what a name stands for, and what refers to it. Blocking.
///
/// Referrers are there before the name stands for the copy. Those that the target cannot keep, or that are listed and not there, are
/// left and reported.
///
/// # Errors
/// As [`copy_image`]; also if referrers cannot be listed, or are more than anybody needs.
pub fn copy_with_referrers(
    from: &dyn Place,
    to: &dyn Target,
    selection: &Selection,
    referrers: Referrers,
    progress: &dyn CopyProgress,
) -> Result<Copied, SourceError> {
    let (root, platforms) = match selection {
        Selection::All => (from.root()?, None),
        Selection::Platforms(platforms) => (from.root()?, Some(&**platforms)),
        Selection::One(platform, prefer) => (resolve(from, platform, *prefer)?, None),
    };
    if let Some(reason) = to.refuses(Shape::of(&root)) {
        return Err(SourceFault::Target { reason }.at(to.name()));
    }
    let mut plan = Plan::chosen(from, root, platforms)?;
    let attached = attached::find(from, &plan, referrers, to.refuses_referrers())?;
    plan.add_blobs(&attached.blobs);
    carry_out(&plan, attached, from, to, Role::Root, progress)
}

/// Copies one manifest or index, with all that it names, as it is. Blocking.
///
/// # Errors
/// As [`copy_image`].
pub fn copy_manifest(
    from: &dyn Source,
    to: &dyn Target,
    manifest: Digest,
    role: Role,
    progress: &dyn CopyProgress,
) -> Result<Copied, SourceError> {
    let bytes = from.read_manifest(manifest)?;
    let format_error = |source| SourceFault::Format { source }.at(from.name());
    let document = Document::new(manifest, bytes).map_err(format_error)?;
    carry_out(&Plan::of(from, document)?, Attached::default(), from, to, role, progress)
}

fn carry_out(
    plan: &Plan,
    attached: Attached,
    from: &dyn Source,
    to: &dyn Target,
    role: Role,
    progress: &dyn CopyProgress,
) -> Result<Copied, SourceError> {
    let bytes = plan.blobs().iter().map(|wanted| wanted.blob.size).fold(0, u64::saturating_add);
    let manifests = plan.documents().count();
    progress.planned(manifests.saturating_add(attached.referrers.len()), plan.blobs().len(), bytes);
    let blobs = blobs::copy_all(plan.blobs(), from, to, progress)?;
    for part in plan.parts() {
        to.put_manifest(&part.descriptor.media_type, &part.bytes, Role::Part)?;
    }
    let mut referrers = Vec::new();
    for (document, referrer) in attached.referrers {
        to.put_referrer(&document.bytes)?;
        referrers.push(referrer);
    }
    let root = plan.root();
    to.put_manifest(&root.descriptor.media_type, &root.bytes, role)?;
    // What the source says of its name is not part of what was copied.
    let root = Descriptor { annotations: Annotations::new(), ..root.descriptor.clone() };
    Ok(Copied { root, manifests, blobs, referrers, referrers_left: attached.left })
}
