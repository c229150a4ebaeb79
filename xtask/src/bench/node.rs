//! What a node fetches of an image whose chunks another image has brought already, in other packs.
//!
//! Each image is converted by itself, so that packs differ. A store is filled with the first image over a link. Then
//! the second is started lazily until it is ready. In another such store it is filled. "alone" is the same with an
//! empty store; "before" with a program that shares devices only, if `$DIMSUM_BEFORE` names one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::log::FigureLog;
use super::{BenchTask, extend, picked};
use crate::corpus::layout::CorpusLayout;
use crate::demo::drop_caches;
use crate::dimsum::Dimsum;
use crate::peers::{RegistryProcess, ShapedLink};

/// A link: Mbit/s and milliseconds of round trip.
const LINK: (u32, u32) = (100, 5);
/// What is on the node, and what comes then.
const PAIRS: [[&str; 2]; 6] = [
    ["debian-v1", "debian-v2"],
    ["debian-v1", "redis-v1"],
    ["express-v1", "express-v3"],
    ["flask-v2", "flask-v3"],
    ["nginx-v1", "nginx-v2"],
    ["python-v1", "python-v2"],
];
/// A program of before.
const BEFORE: &str = "DIMSUM_BEFORE";

pub fn run(task: BenchTask<'_>) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("dimsum-node-").tempdir_in("/var/tmp")?;
    let scratch = scratch.path();
    let dimsum = Dimsum::new(&scratch.join("store"))?;
    let registry = RegistryProcess::start(&scratch.join("registry"))?;
    let link = ShapedLink::start(&ShapedLink::build()?, &registry.address, LINK.0, LINK.1)?;
    let before = std::env::var_os(BEFORE).map(|binary| Dimsum { binary: binary.into(), store: dimsum.store.clone() });
    let mut log = task.log("node-sharing")?;
    // By the image that comes.
    let wanted = |second: &str| task.names.is_empty() || task.names.contains(&second.replacen('-', ":", 1).as_str());
    let pairs: Vec<[&str; 2]> = PAIRS.into_iter().filter(|[_, second]| wanted(second)).collect();
    let mut images: Vec<&str> = pairs.concat();
    images.sort_unstable();
    images.dedup();
    for image in images {
        let source = CorpusLayout::open(&task.corpus.join("images").join(image), None)?.reference();
        let target = format!("{}/{image}:latest", registry.address);
        dimsum.ok(&["convert", "--plain-http", "--reuse", "never", &source, &target])?;
    }
    for [first, second] in pairs {
        let bench = NodeBench { task, scratch, link: &link, first, second };
        bench.rows("alone", &dimsum, false, &mut log)?;
        bench.rows("shared", &dimsum, true, &mut log)?;
        if let Some(before) = &before {
            bench.rows("before", before, true, &mut log)?;
        }
    }
    Ok(())
}

/// One pair.
struct NodeBench<'a> {
    task: BenchTask<'a>,
    scratch: &'a Path,
    link: &'a ShapedLink,
    first: &'a str,
    second: &'a str,
}

impl NodeBench<'_> {
    /// Until ready and for a whole fill, each from a store with nothing or with the first image.
    fn rows(&self, what: &str, dimsum: &Dimsum, has_first: bool, log: &mut FigureLog) -> Result<()> {
        for way in ["ready", "fill"] {
            let store = tempfile::Builder::new().prefix("store-").tempdir_in(self.scratch)?;
            let dimsum = dimsum.with_store(store.path())?;
            if has_first {
                dimsum.ok(&["store", "fill", "--plain-http", &self.reference(self.first)])?;
            }
            drop_caches()?;
            self.link.take()?;
            let mut row = json!({"first": self.first, "image": self.second, "what": what, "way": way});
            let figures = if way == "fill" { self.fill(&dimsum)? } else { self.ready(&dimsum)? };
            let traffic = self.link.take()?;
            extend(&mut row, figures);
            extend(&mut row, json!({"link_bytes": traffic.down, "link_requests": traffic.requests}));
            log.shown(&row)?;
        }
        Ok(())
    }

    fn fill(&self, dimsum: &Dimsum) -> Result<Value> {
        let filled = dimsum.ok(&["store", "fill", "--plain-http", &self.reference(self.second), "--format", "json"])?;
        let filled: Value = serde_json::from_str(&filled)?;
        Ok(picked(&filled, &["total_bytes", "fetched_bytes", "shared_bytes", "seconds"]))
    }

    fn ready(&self, dimsum: &Dimsum) -> Result<Value> {
        let layout = CorpusLayout::open(&self.task.corpus.join("images").join(self.second), None)?;
        let command = layout.label("bench.cmd").context("label bench.cmd")?;
        let report: PathBuf = self.scratch.join("report.json");
        let option = format!("--report={}", report.display());
        dimsum.ok(&["run", "--plain-http", &option, &self.reference(self.second), "/bin/sh", "-c", command])?;
        let report: Value = serde_json::from_slice(&fs::read(&report)?)?;
        Ok(picked(&report, &["stored_bytes", "fetched_bytes", "shared_bytes", "shared_chunks", "seconds_to_exit"]))
    }

    fn reference(&self, image: &str) -> String {
        format!("{}/{image}:latest", self.link.address)
    }
}
