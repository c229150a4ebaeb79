//! `dimsum store`: what can be done with this node's store.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use dimsum_engine::Digest;
use dimsum_engine::FillProgress;
use serde::Serialize;

use super::image_arg::ImageArg;
use crate::context::Context;
use crate::error::Error;
use crate::output::{Report, Size, total};
use dimsum_engine::image;

/// How often a fill is looked at, and whether a signal came.
const LOOK: Duration = Duration::from_millis(50);

/// Work on this node's store
#[derive(Debug, Args)]
pub struct Store {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Fetch the rest of an image, so that it no longer needs its registry
    ///
    /// What comes is kept as it is and proven when it is read; what other images of this node have is copied. A fill that was ended goes on where it stopped.
    Fill(ImageArg),
}

impl Store {
    /// Does it.
    ///
    /// # Errors
    /// If it cannot be done.
    pub fn run(self, context: &Context) -> Result<(), Error> {
        match self.command {
            StoreCommand::Fill(image) => fill(context, &image.image),
        }
    }
}

fn fill(context: &Context, text: &str) -> Result<(), Error> {
    let started = Instant::now();
    let (context, interrupts) = context.with_interrupts()?;
    let opened = image::open(&context.engine, text)?;
    let total = total(opened.located.manifest.packs.iter().map(|pack| pack.size));
    let phase = Arc::new(context.progress.phase(&format!("filling the store with {text}"), Some(total)));
    let shown = Arc::clone(&phase);
    let fill = opened.image.fill(move |progress| shown.set(progress.done));
    let outcome = loop {
        if let Some(outcome) = fill.outcome() {
            break outcome;
        }
        interrupts.check()?;
        std::thread::sleep(LOOK);
    };
    outcome.map_err(|source| Error::Fill { object: text.to_owned(), source })?;
    drop(phase);
    let (FillProgress { done, total }, stats) = (fill.progress(), opened.image.stats());
    context.output.write(&Filled {
        image: text,
        digest: opened.located.digest,
        bytes: done,
        total_bytes: total,
        fetched_bytes: stats.bytes_fetched.saturating_add(stats.bytes_filled),
        shared_bytes: stats.bytes_shared,
        requests: stats.source_requests.saturating_add(stats.fill_requests),
        seconds: started.elapsed().as_secs_f64(),
    })
}

#[derive(Serialize)]
struct Filled<'a> {
    image: &'a str,
    digest: Digest,
    /// Bytes of its packs that are in the store.
    bytes: u64,
    total_bytes: u64,
    /// Bytes that came now.
    fetched_bytes: u64,
    /// Bytes that did not have to come: other images of this node had the chunks.
    shared_bytes: u64,
    requests: u64,
    seconds: f64,
}

impl Report for Filled<'_> {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let (bytes, total, fetched) = (Size(self.bytes), Size(self.total_bytes), Size(self.fetched_bytes));
        let shared = Size(self.shared_bytes);
        writeln!(
            out,
            "{} {}: {bytes} of {total} here, {fetched} fetched, {shared} from other images",
            self.image, self.digest
        )?;
        writeln!(out, "{} requests, {:.2} s", self.requests, self.seconds)
    }
}
