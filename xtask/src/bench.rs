//! Measurements of BENCHMARKS.md: ratios against a peer in the same run, alternating, medians of [`RUNS`].
//!
//! Raw figures go to `OUT/<name>.jsonl`, one line per run and a last line with the medians.

mod amplification;
mod base;
mod convert;
mod defaults;
mod generated;
mod hung;
pub mod instructions;
mod log;
mod memory;
mod network;
mod node;
mod nydus;
mod read;
mod scale;
mod sharing;
mod timing;
mod update;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};

use crate::corpus::images;
use log::FigureLog;

/// Runs of each contestant; alternating, so that a slow minute of the machine hits all.
pub const RUNS: usize = 5;

/// What a measurement is given.
#[derive(Debug, Clone, Copy)]
pub struct BenchTask<'a> {
    corpus: &'a Path,
    out: &'a Path,
    /// Images (as `redis:v1`) to measure instead of the usual ones.
    names: &'a [&'a str],
}

pub fn run(what: &str, corpus: &Path, out: &Path, names: &[&str]) -> Result<()> {
    fs::create_dir_all(out)?;
    let task = BenchTask { corpus, out, names };
    match what {
        "amplification" => amplification::run(task),
        "base" => base::run(task),
        "convert" => convert::run(task),
        "defaults" => defaults::run(task),
        "hung" => hung::run(task),
        "memory" => memory::run(task),
        "meta" => memory::meta(task),
        "network" => network::run(task),
        "node" => node::run(task),
        "read" => read::run(task),
        "scale" => scale::run(task),
        "sharing" => sharing::run(task),
        "update" => update::run(task),
        _ => bail!(
            "bench amplification|base|convert|defaults|hung|memory|meta|network|node|read|scale|sharing|update DIR OUT [IMAGE…]"
        ),
    }
}

impl BenchTask<'_> {
    /// The directories of the images to measure: the named ones, else `usual`, else all of the corpus.
    fn images(&self, usual: &[&str]) -> Result<Vec<PathBuf>> {
        images(self.corpus, if self.names.is_empty() { usual } else { self.names })
    }

    /// The one image to measure.
    fn image(&self, usual: &str) -> Result<PathBuf> {
        self.images(&[usual])?.into_iter().next().context("an image")
    }

    /// The file for raw figures.
    fn log(&self, name: &str) -> Result<FigureLog> {
        FigureLog::open(&self.out.join(format!("{name}.jsonl")), self.names)
    }
}

/// The name of an image's directory, for example `redis-v1`.
fn name_of(directory: &Path) -> Result<&str> {
    directory.file_name().and_then(|name| name.to_str()).context("name of an image")
}

/// Adds the fields of `more` to a row.
fn extend(row: &mut Value, more: Value) {
    if let (Some(row), Value::Object(more)) = (row.as_object_mut(), more) {
        row.extend(more);
    }
}

/// What a conversion's summary says of bytes, and of packs that were not made anew; the packs are counted.
fn shared(summary: &Value) -> Value {
    let mut shared = picked(
        summary,
        &[
            "stored_bytes",
            "written_bytes",
            "mounted_bytes",
            "copied_bytes",
            "shared_bytes",
            "foreign_content_bytes",
            "temp_bytes",
            "refused",
        ],
    );
    for field in ["foreign_packs", "reused_packs"] {
        shared[field] = summary[field].as_array().map(Vec::len).into();
    }
    let foreign = summary["foreign_packs"].as_array().into_iter().flatten();
    shared["foreign_pack_bytes"] = foreign.filter_map(|pack| pack["bytes"].as_u64()).sum::<u64>().into();
    shared
}

/// The fields of `from` with these names, as far as it has them.
fn picked(from: &Value, fields: &[&str]) -> Value {
    let has = |field: &&&str| from.get(**field).is_some();
    Value::Object(
        fields.iter().filter(has).map(|field| ((*field).to_owned(), from[*field].clone())).collect::<Map<_, _>>(),
    )
}
