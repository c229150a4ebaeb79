//! What an estimate says.

use std::io::{self, Write};

use dimsum_format::Digest;
use serde::Serialize;

use super::model::Link;
use super::presence::{InTarget, OnNode};
use crate::commands::sharing_summary::SharingSummary;
use crate::output::{Name, Report, Size};
use crate::views::count::Count;

/// The whole of it.
#[derive(Debug, Serialize)]
pub struct Estimate {
    /// As the user wrote it.
    pub image: String,
    /// The manifest that was found there.
    pub source_manifest: Digest,
    /// The ordinary image; none if it is a Dimsum image already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ordinary: Option<OrdinarySize>,
    /// What it is as a Dimsum image.
    pub dimsum: DimsumSize,
    /// What it would take from other images; none if it was not asked to share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sharing: Option<SharingSummary>,
    /// What the target repository has already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<InTarget>,
    /// What this node's store has already; none if there is no store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<OnNode>,
    /// What a run touched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<Touched>,
    /// When it is ready.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ready: Vec<Ready>,
}

/// An ordinary image.
#[derive(Debug, Serialize)]
pub struct OrdinarySize {
    /// Layers.
    pub layers: usize,
    /// Bytes of the layers as stored.
    pub stored_bytes: u64,
    /// Bytes of their tars.
    pub tar_bytes: u64,
    /// How long the conversion took here.
    pub convert_seconds: f64,
}

/// A Dimsum image.
#[derive(Debug, Serialize)]
pub struct DimsumSize {
    /// Its manifest.
    pub manifest: Digest,
    /// Packs.
    pub packs: usize,
    /// Bytes of packs and meta.
    pub stored_bytes: u64,
    /// Of these, the meta.
    pub meta_bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

/// What a run touched.
#[derive(Debug, Serialize)]
pub struct Touched {
    /// The command.
    pub command: Vec<String>,
    /// How it ended.
    pub exit_status: u64,
    /// Bytes that were fetched.
    pub fetched_bytes: u64,
    /// Requests for them.
    pub requests: u64,
    /// Chunks.
    pub chunks: u64,
    /// Bytes that it read.
    pub read_bytes: u64,
    /// How long it took here, without a network.
    pub seconds: f64,
}

/// When a command is ready over a link.
#[derive(Debug, Serialize)]
pub struct Ready {
    /// The link.
    #[serde(flatten)]
    pub link: Link,
    /// Lazily, from an empty store.
    pub lazy_seconds: f64,
    /// From the ordinary image, pulled before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_seconds: Option<f64>,
}

impl Report for Estimate {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "image      {} {}", self.image, self.source_manifest)?;
        self.write_sizes(out)?;
        if let Some(sharing) = &self.sharing {
            sharing.text(out)?;
        }
        if let Some(target) = &self.target {
            write_target(target, out)?;
        }
        match &self.node {
            None => writeln!(out, "node       no store here")?,
            Some(OnNode { packs, present_bytes, chunks, all_bytes }) => {
                let (present, of) = (Size(*present_bytes), self.dimsum.packs);
                writeln!(out, "node       {packs} of {of} packs, {present}, are in this node's store, whole")?;
                let (count, here, all) = (Count(chunks.chunks, "chunk"), Size(chunks.stored), Size(*all_bytes));
                writeln!(out, "           {count}, {here} of {all}, need not be fetched: some image here has them")?;
            }
        }
        if let Some(run) = &self.run {
            self.write_run(run, out)?;
        }
        for Ready { link, lazy_seconds, pull_seconds } in &self.ready {
            let Link { mbit, rtt_ms, .. } = link;
            write!(out, "ready      {lazy_seconds:.2} s at {mbit} Mbit/s and {rtt_ms} ms")?;
            match pull_seconds {
                Some(pull) => writeln!(out, "; {pull:.2} s if the ordinary image is pulled first")?,
                None => writeln!(out)?,
            }
        }
        if !self.ready.is_empty() {
            writeln!(out, "           expected, not measured: see `dimsum estimate --help` for how")?;
        }
        Ok(())
    }
}

impl Estimate {
    fn write_sizes(&self, out: &mut dyn Write) -> io::Result<()> {
        let DimsumSize { manifest, packs, stored_bytes, meta_bytes, inodes } = &self.dimsum;
        let (stored, meta) = (Size(*stored_bytes), Size(*meta_bytes));
        if let Some(OrdinarySize { layers, stored_bytes: before, tar_bytes, convert_seconds }) = &self.ordinary {
            writeln!(out, "now        {} in {layers} layers, {} uncompressed", Size(*before), Size(*tar_bytes))?;
            let percent = *stored_bytes as f64 * 100.0 / (*before).max(1) as f64;
            writeln!(
                out,
                "converted  {stored} ({percent:.1} %) in {packs} packs and a meta of {meta}, {inodes} inodes"
            )?;
            writeln!(out, "           {manifest}, made in {convert_seconds:.1} s")?;
        } else {
            writeln!(
                out,
                "stored     {stored} in {packs} packs and a meta of {meta}, {inodes} inodes: it is a Dimsum image already"
            )?;
        }
        Ok(())
    }

    fn write_run(&self, run: &Touched, out: &mut dyn Write) -> io::Result<()> {
        let Touched { command, exit_status, fetched_bytes, requests, chunks, read_bytes, seconds } = run;
        let percent = *fetched_bytes as f64 * 100.0 / self.dimsum.stored_bytes.max(1) as f64;
        writeln!(out, "run        {}", Name(command.join(" ").as_bytes()))?;
        let (fetched, read) = (Size(*fetched_bytes), Size(*read_bytes));
        let (requests, chunks) = (Count(*requests, "request"), Count(*chunks, "chunk"));
        writeln!(out, "           touched {fetched} ({percent:.1} %): {requests}, {chunks}; it read {read}")?;
        writeln!(out, "           took {seconds:.2} s here, without a network")?;
        if *exit_status != 0 {
            writeln!(out, "           ended with status {exit_status}: is that what it does when it is ready?")?;
        }
        Ok(())
    }
}

fn write_target(target: &InTarget, out: &mut dyn Write) -> io::Result<()> {
    let InTarget { target, present_bytes, push_bytes, before } = target;
    writeln!(out, "target     {target} has {} of it; a push moves {}", Size(*present_bytes), Size(*push_bytes))?;
    let Some(before) = before else {
        return writeln!(out, "           its tag names no Dimsum image now");
    };
    let shared = &before.chunks;
    writeln!(out, "           of the image that its tag names now, {}:", before.manifest)?;
    for (what, sum) in
        [("in the same packs", shared.same_pack), ("in other packs", shared.other_pack), ("new", shared.only_b)]
    {
        writeln!(out, "           {} chunks {what}, stored {}", sum.chunks, Size(sum.stored))?;
    }
    Ok(())
}
