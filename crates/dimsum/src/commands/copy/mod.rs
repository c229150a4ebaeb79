//! `dimsum copy`.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Instant;

use clap::Args;
use dimsum_format::Digest;
use dimsum_format::manifest::Blob;
use dimsum_registry::{Copied, CopyProgress, Outcome, Selection, SourceError, Tally, copy_image};
use serde::Serialize;

use crate::context::Context;
use crate::error::Error;
use crate::image::{create_target, open_place, parse};
use crate::output::{Report, Size};
use crate::progress::{Group, Phase, Progress, note};
use crate::signals::Interrupts;

/// Copy an image, Dimsum or ordinary, between registries, layouts and archives
///
/// Blobs that the target has do not move, nor those that another repository of the same registry has. What was interrupted goes
/// on where it stopped. An index is copied with all its images unless --platform picks some. Every digest is checked on the way.
#[derive(Debug, Args)]
pub struct Copy {
    /// The source: [HOST/]REPO[:TAG], oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE
    source: String,
    /// The target: [HOST/]REPO:TAG, oci:DIR:TAG, oci-archive:FILE; for ordinary images docker-archive:FILE too
    target: String,
}

impl Copy {
    /// Copies and prints what moved.
    ///
    /// # Errors
    /// If the source cannot be read, or the target not written.
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let started = Instant::now();
        let (context, _interrupts) = context.with_interrupts()?;
        let source = open_place(&context, &parse(&self.source)?)?;
        let target = create_target(&context, &self.target)?;
        let selection = match &*context.platforms {
            [] => Selection::All,
            platforms => Selection::Platforms(platforms.to_vec()),
        };
        let shown = Shown::new(&context);
        let copied = copy_image(&*source, &*target, &selection, &shown);
        let copied = copied.map_err(|error| shown.error(&self, error))?;
        drop(shown);
        let seconds = started.elapsed().as_secs_f64();
        context.output.write(&Summary::new(&self, &copied, seconds))
    }
}

/// Shows a copy, a bar for each blob, and stops it when a signal asks for it.
#[derive(Debug)]
struct Shown {
    progress: Progress,
    group: Group,
    blobs: Mutex<HashMap<Digest, (Phase, u64)>>,
    interrupts: Option<Interrupts>,
    /// The signal that came, 0 for none.
    signal: AtomicI32,
    moved: AtomicU64,
}

impl Shown {
    fn new(context: &Context) -> Self {
        Self {
            progress: context.progress,
            group: context.progress.group(),
            blobs: Mutex::default(),
            interrupts: context.interrupts.clone(),
            signal: AtomicI32::new(0),
            moved: AtomicU64::new(0),
        }
    }

    fn error(&self, command: &Copy, source: SourceError) -> Error {
        match (&source, self.signal.load(Ordering::Relaxed)) {
            (SourceError::Cancelled { .. }, signal) if signal != 0 => Error::Interrupted { signal },
            _ => {
                Error::Copy { object: command.source.clone(), target: command.target.clone(), source: Box::new(source) }
            }
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

    fn cancelled(&self) -> bool {
        if let Some(signal) = self.interrupts.as_ref().and_then(Interrupts::ending) {
            self.signal.store(signal.as_raw(), Ordering::Relaxed);
        }
        self.signal.load(Ordering::Relaxed) != 0
    }
}

/// Enough of a digest for people.
fn short(digest: Digest) -> String {
    digest.to_string().chars().take("sha256:".len() + 12).collect()
}

#[derive(Serialize)]
struct Summary<'a> {
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
    seconds: f64,
}

impl<'a> Summary<'a> {
    fn new(command: &'a Copy, copied: &'a Copied, seconds: f64) -> Self {
        let Tally { moved, moved_bytes, present, present_bytes, mounted, mounted_bytes, skipped } = copied.blobs;
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
            seconds,
        }
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
        writeln!(out, "time       {:.2} s", self.seconds)
    }
}
