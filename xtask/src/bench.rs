//! Measurements of BENCHMARKS.md: ratios against a peer in the same run, alternating, medians of [`RUNS`].
//!
//! Raw figures go to `OUT/<name>.jsonl`, one line per run and a last line with the medians.

mod amplification;
mod convert;
mod hung;
mod network;
mod read;
mod timing;

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

/// Runs of each contestant; alternating, so that a slow minute of the machine hits all.
pub const RUNS: usize = 5;

pub fn run(what: &str, directory: &Path, out: &Path) -> Result<()> {
    fs::create_dir_all(out)?;
    match what {
        "convert" => convert::run(directory, out),
        "memory" => convert::memory(directory, out),
        "meta" => convert::meta(directory, out),
        "read" => read::run(directory, out),
        "hung" => hung::run(directory, out),
        "network" => network::run(directory, out),
        "amplification" => amplification::run(directory, out),
        _ => bail!("bench convert|memory|meta|read|hung|network|amplification"),
    }
}
