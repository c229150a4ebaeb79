//! The price of an image before it is paid: bytes, requests and time, found out in a scratch directory.
//!
//! ```text
//! image ─→ converted into a layout in the scratch directory, ─┬─→ presence: bytes that target repository and node have already
//!          in rehearsal of the target where it is to share      │
//!                                                             ├─→ a lazy run from an empty store, by the caller ─→ bytes, requests, time here
//!                                                             └─→ model: bytes, requests, time here + a link ─→ time to ready
//! ```

mod figures;
mod model;
mod presence;
mod rehearsal;
mod scratch;

use std::path::PathBuf;
use std::time::Instant;

use dimsum_convert::{ConvertOptions, Converted};
use dimsum_source::Prefer;

pub use self::figures::{DimsumSize, ImageEstimate, OrdinarySize, Ready, Touched};
pub use self::model::{ANSWER_MS, EstimateLink, MeasuredRun};
pub use self::presence::{ImageBefore, InTarget, OnNode};

use self::model::{OrdinaryImage, full_pull, lazy};
use self::presence::{in_target, on_node};
use self::scratch::{Scratch, SharedInRehearsal};
use crate::conversion::{SharingRequest, SharingSummary};
use crate::image::{self, Opened, Resolved, open_resolved, parse, resolve};
use crate::text::total;
use crate::{Engine, EngineError, RequestFault};

/// An image whose price is asked for.
#[derive(Debug, Clone, Default)]
pub struct EstimateRequest {
    /// The image, ordinary or a Dimsum image.
    pub image: String,
    /// The repository and tag that it would be pushed to. It is only read.
    pub target: Option<String>,
    /// How it would be converted.
    pub options: ConvertOptions,
    /// The images that it would share with.
    pub sharing: SharingRequest,
    /// Whether the caller will run a command in the image: then all of its packs are brought into the scratch directory.
    pub run: bool,
}

impl EstimateRequest {
    /// Refuses wishes that could not do anything.
    ///
    /// # Errors
    /// [`EngineError::Request`] if there are such wishes.
    pub fn check(&self) -> Result<(), EngineError> {
        if self.target.is_none() { self.sharing.check_without_target() } else { Ok(()) }
    }
}

/// An estimate under way, with the scratch directory, which is removed when this is dropped.
#[derive(Debug)]
pub struct Estimation {
    estimate: ImageEstimate,
    // Dropped before the directory that it lies in.
    opened: Opened,
    scratch: Scratch,
}

/// A run in the image, from an empty store and without a network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrialRun {
    /// Its time and its requests.
    pub run: MeasuredRun,
    /// How the command ended.
    pub exit_status: u64,
    /// Chunks that were fetched.
    pub chunks: u64,
    /// Bytes that the command read, uncompressed.
    pub read_bytes: u64,
}

impl Engine {
    /// Estimates what an image costs as a Dimsum image: stored, pushed, and on this node. It is converted into a scratch
    /// directory; nothing is written to a target or to this node's store.
    ///
    /// # Errors
    /// If the image cannot be read or converted, the target cannot be asked, or a wish could not do anything.
    pub fn estimate(&self, request: &EstimateRequest) -> Result<Estimation, EngineError> {
        request.check()?;
        // The original, where there are both: the question is what the Dimsum image costs beside it.
        let resolved = resolve(self, &parse(self, &request.image)?, Prefer::Original)?;
        let source_manifest = resolved.digest;
        let scratch = Scratch::create(self)?;
        let (opened, ordinary, sharing) = prepare(self, &scratch, request, resolved)?;
        self.cancel().check()?;
        let target = request.target.as_deref();
        let mut target = target.map(|target| in_target(&scratch, &opened, target)).transpose()?;
        if let (Some(target), Some(sharing)) = (&mut target, &sharing) {
            // Not there yet, but a registry makes them visible without moving them.
            target.push_bytes = target.push_bytes.saturating_sub(sharing.mounted_bytes);
        }
        let estimate = ImageEstimate {
            image: request.image.clone(),
            source_manifest,
            ordinary,
            node: on_node(self, &opened)?,
            dimsum: dimsum_size(&opened)?,
            sharing,
            target,
            run: None,
            ready: Vec::new(),
        };
        Ok(Estimation { estimate, opened, scratch })
    }
}

impl Estimation {
    /// Returns the engine of the scratch directory: its store is empty, and it opens [`image`](Self::image).
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        self.scratch.engine()
    }

    /// Returns the name of the image whose run is to be measured.
    #[must_use]
    pub fn image(&self) -> String {
        self.opened.located.name()
    }

    /// Returns a path in the scratch directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    /// Adds a run of a command, and when the command is ready over each of these links.
    pub fn add_run(&mut self, command: Vec<String>, seen: TrialRun, links: impl IntoIterator<Item = EstimateLink>) {
        let TrialRun { run, exit_status, chunks, read_bytes } = seen;
        let (files, ordinary) = (self.estimate.dimsum.inodes, self.estimate.ordinary.as_ref());
        let ordinary =
            ordinary.map(|size| OrdinaryImage { bytes: size.stored_bytes, tar_bytes: size.tar_bytes, files });
        let ready = links.into_iter().map(|link| Ready {
            link,
            lazy_seconds: lazy(run, link),
            pull_seconds: ordinary.map(|ordinary| full_pull(ordinary, run, link)),
        });
        self.estimate.ready = ready.collect();
        self.estimate.run = Some(Touched {
            command,
            exit_status,
            fetched_bytes: run.bytes,
            requests: run.requests,
            chunks,
            read_bytes,
            seconds: run.seconds,
        });
    }

    /// Removes the scratch directory and returns the figures.
    #[must_use]
    pub fn finish(self) -> ImageEstimate {
        self.estimate
    }
}

type Prepared = (Opened, Option<OrdinarySize>, Option<SharingSummary>);

/// Opens the image as it would be, in the scratch directory.
fn prepare(
    engine: &Engine,
    scratch: &Scratch,
    request: &EstimateRequest,
    resolved: Resolved,
) -> Result<Prepared, EngineError> {
    if resolved.manifest.is_dimsum() {
        if request.sharing.is_given() {
            let object = resolved.reference.to_string();
            return Err(EngineError::Request { object, fault: RequestFault::SharingIsOver });
        }
        let opened = if request.run && resolved.place.is_remote() {
            scratch.copy(engine, &resolved)?;
            scratch.open()?
        } else {
            open_resolved(scratch.engine(), resolved)?
        };
        return Ok((opened, None, None));
    }
    let started = Instant::now();
    let (converted, sharing) = if request.sharing.is_given() {
        let (others, target) = (request.sharing.open(engine)?, request.target.as_deref());
        let shared = SharedInRehearsal { target, others: &others, fetch: request.run };
        let converted = scratch.rehearse(engine, &resolved, &request.options, shared)?;
        let sharing = SharingSummary::new(&converted.shared);
        (converted, Some(sharing))
    } else {
        (scratch.convert(engine, &resolved, &request.options)?, None)
    };
    let ordinary = ordinary_size(&resolved, &converted, started.elapsed().as_secs_f64());
    Ok((scratch.open()?, Some(ordinary), sharing))
}

fn ordinary_size(resolved: &Resolved, converted: &Converted, convert_seconds: f64) -> OrdinarySize {
    OrdinarySize {
        layers: resolved.manifest.layers.len(),
        stored_bytes: total(resolved.manifest.layers.iter().map(|layer| layer.size)),
        tar_bytes: total(converted.layers.iter().map(|layer| layer.tar_bytes)),
        convert_seconds,
    }
}

fn dimsum_size(opened: &Opened) -> Result<DimsumSize, EngineError> {
    let manifest = opened.image.manifest();
    let sizes = manifest.packs.iter().chain([&manifest.meta]).map(|blob| blob.size);
    Ok(DimsumSize {
        manifest: opened.located.digest,
        packs: manifest.packs.len(),
        stored_bytes: total(sizes),
        meta_bytes: manifest.meta.size,
        inodes: image::validate(opened)?.inodes,
    })
}
