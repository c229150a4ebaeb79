//! The figures of an estimate, for people.

use std::io::{self, Write};

use dimsum_engine::estimate::{
    DimsumSize, EstimateLink, ImageEstimate, InTarget, OnNode, OrdinarySize, Ready, Touched,
};

use super::sharing_text::write_sharing;
use crate::output::{Name, Report, Size};
use crate::views::count::Count;

impl Report for ImageEstimate {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "image      {} {}", self.image, self.source_manifest)?;
        write_sizes(self, out)?;
        if let Some(sharing) = &self.sharing {
            write_sharing(sharing, out)?;
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
            write_run(self, run, out)?;
        }
        for Ready { link, lazy_seconds, pull_seconds } in &self.ready {
            let EstimateLink { mbit, rtt_ms, .. } = link;
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

fn write_sizes(estimate: &ImageEstimate, out: &mut dyn Write) -> io::Result<()> {
    let DimsumSize { manifest, packs, stored_bytes, meta_bytes, inodes } = &estimate.dimsum;
    let (stored, meta) = (Size(*stored_bytes), Size(*meta_bytes));
    if let Some(OrdinarySize { layers, stored_bytes: before, tar_bytes, convert_seconds }) = &estimate.ordinary {
        writeln!(out, "now        {} in {layers} layers, {} uncompressed", Size(*before), Size(*tar_bytes))?;
        let percent = *stored_bytes as f64 * 100.0 / (*before).max(1) as f64;
        writeln!(out, "converted  {stored} ({percent:.1} %) in {packs} packs and a meta of {meta}, {inodes} inodes")?;
        writeln!(out, "           {manifest}, made in {convert_seconds:.1} s")?;
    } else {
        writeln!(
            out,
            "stored     {stored} in {packs} packs and a meta of {meta}, {inodes} inodes: it is a Dimsum image already"
        )?;
    }
    Ok(())
}

fn write_run(estimate: &ImageEstimate, run: &Touched, out: &mut dyn Write) -> io::Result<()> {
    let Touched { command, exit_status, fetched_bytes, requests, chunks, read_bytes, seconds } = run;
    let percent = *fetched_bytes as f64 * 100.0 / estimate.dimsum.stored_bytes.max(1) as f64;
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
