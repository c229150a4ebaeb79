//! `dimsum copy`.

mod text;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::{Args, ValueEnum};
use dimsum_engine::copy::CopyRequest;
use dimsum_engine::{Blob, CopyProgress, Digest, Outcome};

use crate::context::Context;
use crate::error::Error;
use crate::output::Size;
use crate::progress::{Group, Phase, Progress, note};

/// Copy an image, Dimsum or ordinary, between registries, layouts and archives
///
/// Only blobs that the target does not have move. Within one registry, blobs are mounted from the source repository
/// instead. An interrupted copy goes on where it stopped. An index is copied with all its images unless --platform
/// picks some. Every digest is checked on the way. Recipes of --keep-original come along, so that `export` gives the
/// original layers back from the copy too.
#[derive(Debug, Args)]
pub struct Copy {
    /// The source: [HOST/]REPO[:TAG], oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE
    source: String,
    /// The target: [HOST/]REPO:TAG, oci:DIR:TAG, oci-archive:FILE; for ordinary images docker-archive:FILE too
    target: String,
    /// Also copy manifests that refer to the images. Archives keep none, and the report says so
    // Ours by default: without them a copy silently loses what --keep-original promised. Those of others are as many as others like, and
    // a copy elsewhere may not be for them: who wants a signature there says so.
    #[arg(long, value_enum, value_name = "WHICH", default_value_t = Referrers::Ours)]
    referrers: Referrers,
}

/// As [`dimsum_engine::Referrers`].
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Referrers {
    /// Recipes for the original layers of Dimsum images.
    Ours,
    /// All, and what refers to them: signatures, lists of contents, attestations.
    All,
    /// None.
    None,
}

impl Copy {
    /// Copies and prints what moved.
    ///
    /// # Errors
    /// If the source cannot be read, or the target not written.
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let (context, _interrupts) = context.with_interrupts()?;
        let referrers = match self.referrers {
            Referrers::Ours => dimsum_engine::Referrers::Ours,
            Referrers::All => dimsum_engine::Referrers::All,
            Referrers::None => dimsum_engine::Referrers::None,
        };
        let request = CopyRequest { source: self.source, target: self.target, referrers };
        let shown = Shown::new(&context);
        let copied = context.engine.copy(&request, &shown)?;
        drop(shown);
        context.output.write(&copied)
    }
}

/// Shows a copy, a bar for each blob.
#[derive(Debug)]
struct Shown {
    progress: Progress,
    group: Group,
    blobs: Mutex<HashMap<Digest, (Phase, u64)>>,
    moved: AtomicU64,
}

impl Shown {
    fn new(context: &Context) -> Self {
        Self {
            progress: context.progress,
            group: context.progress.group(),
            blobs: Mutex::default(),
            moved: AtomicU64::new(0),
        }
    }
}

impl CopyProgress for Shown {
    fn planned(&self, manifests: usize, blobs: usize, bytes: u64) {
        if self.progress == Progress::Lines {
            note(&format!("copying {manifests} manifests and {blobs} blobs, {}", Size(bytes)));
        }
    }

    fn blob_started(&self, blob: Blob) {
        let phase = self.group.phase(&short(blob.digest), Some(blob.size));
        if let Ok(mut blobs) = self.blobs.lock() {
            blobs.insert(blob.digest, (phase, 0));
        }
    }

    fn blob_moved(&self, blob: Blob, count: u64) {
        self.moved.fetch_add(count, Ordering::Relaxed);
        if let Ok(mut blobs) = self.blobs.lock()
            && let Some((phase, done)) = blobs.get_mut(&blob.digest)
        {
            *done = done.saturating_add(count);
            phase.set(*done);
        }
    }

    fn blob_done(&self, blob: Blob, outcome: Outcome) {
        if let Ok(mut blobs) = self.blobs.lock() {
            blobs.remove(&blob.digest);
        }
        if self.progress != Progress::Silent {
            let what = match outcome {
                Outcome::Moved => "copied",
                Outcome::Present => "is there already",
                Outcome::Mounted => "taken over from another repository",
                _ => "left where it is",
            };
            self.group.line(&format!("{} {what}, {}", short(blob.digest), Size(blob.size)));
        }
    }
}

/// Enough of a digest for people.
fn short(digest: Digest) -> String {
    digest.to_string().chars().take("sha256:".len() + 12).collect()
}
