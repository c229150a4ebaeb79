//! Time to ready over a shaped link, cold: containerd's pull beside `dimsum run` of the ordinary and of the converted image.
//!
//! The workload is the image's own `bench.cmd`, which ends when it was really ready. Bytes and requests are counted by the link.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::log::FigureLog;
use super::{BenchTask, name_of};
use crate::corpus::layout::CorpusLayout;
use crate::demo::drop_caches;
use crate::dimsum::Dimsum;
use crate::peers::{Containerd, LinkTraffic, RegistryProcess, ShapedLink};

/// Links: Mbit/s and milliseconds of round trip.
const LINKS: [(u32, u32); 2] = [(1000, 5), (100, 5)];

/// Where a second containerd may be: a directory with `containerd`, `ctr` and `containerd-shim-runc-v2`.
const SECOND_CONTAINERD: &str = "DIMSUM_CONTAINERD";

pub fn run(task: BenchTask<'_>) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("dimsum-network-").tempdir_in("/var/tmp")?;
    let scratch = scratch.path();
    let dimsum = Dimsum::new(&scratch.join("store"))?;
    let netshape = ShapedLink::build()?;
    let registry = RegistryProcess::start(&scratch.join("registry"))?;
    let mut peers = Vec::new();
    if let Ok(containerd) = Containerd::start(None, &scratch.join("containerd")) {
        peers.push(containerd);
    }
    if let Some(programs) = std::env::var_os(SECOND_CONTAINERD) {
        peers.push(Containerd::start(Some(&PathBuf::from(programs)), &scratch.join("containerd-2"))?);
    }
    let mut log = task.log("network")?;
    let mut images = Vec::new();
    for directory in task.images(&[])? {
        let layout = CorpusLayout::open(&directory, None)?;
        let bytes: u64 =
            layout.layers().iter().filter_map(|layer| layer.metadata().ok()).map(|layer| layer.len()).sum();
        images.push((bytes, directory));
    }
    // Small ones first: a run that is ended early has most of them.
    images.sort();
    let stage = NetworkStage { scratch, dimsum: &dimsum, netshape: &netshape, registry: &registry, peers: &peers };
    let mut failed = 0;
    for (_, directory) in images {
        if let Err(error) = stage.image(&directory, &mut log) {
            eprintln!("{}: {error:#}", directory.display());
            failed += 1;
        }
    }
    ensure!(failed == 0, "{failed} images failed");
    Ok(())
}

/// What all images share.
struct NetworkStage<'a> {
    scratch: &'a Path,
    dimsum: &'a Dimsum,
    netshape: &'a Path,
    registry: &'a RegistryProcess,
    peers: &'a [Containerd],
}

impl NetworkStage<'_> {
    fn image(&self, directory: &Path, log: &mut FigureLog) -> Result<()> {
        let layout = CorpusLayout::open(directory, None)?;
        let name = name_of(directory)?;
        let command = layout.label("bench.cmd").context("label bench.cmd")?;
        self.registry.push(&layout.reference(), &format!("{name}:plain"))?;
        let tagged = |tag: &str| format!("{}/{name}:{tag}", self.registry.address);
        let converted = self.dimsum.ok(&["convert", &tagged("plain"), &tagged("dimsum"), "--format", "json"])?;
        let converted: Value = serde_json::from_str(&converted)?;
        for (rate, rtt) in LINKS {
            let link = ShapedLink::start(self.netshape, &self.registry.address, rate, rtt)?;
            let bench = NetworkBench { scratch: self.scratch, dimsum: self.dimsum, link: &link, name, command };
            let mut rows = Vec::new();
            for containerd in self.peers {
                rows.push(bench.containerd(containerd)?);
            }
            rows.push(bench.dimsum("ordinary", "plain", &[])?);
            rows.push(bench.dimsum("lazy", "dimsum", &[])?);
            rows.push(bench.dimsum("fill", "dimsum", &["--fill"])?);
            for row in rows {
                let line = json!({"image": name, "rate_mbit": rate, "rtt_ms": rtt, "stored_bytes": converted["stored_bytes"],
                    "gzip_bytes": converted["bytes_in"], "row": row});
                log.shown(&line)?;
            }
        }
        Ok(())
    }
}

/// One image over one link.
struct NetworkBench<'a> {
    scratch: &'a Path,
    dimsum: &'a Dimsum,
    link: &'a ShapedLink,
    name: &'a str,
    command: &'a str,
}

impl NetworkBench<'_> {
    fn reference(&self, tag: &str) -> String {
        format!("{}/{}:{tag}", self.link.address, self.name)
    }

    fn containerd(&self, containerd: &Containerd) -> Result<Value> {
        drop_caches()?;
        self.link.take()?;
        let what = format!("containerd {}", containerd.version);
        Ok(match containerd.pull_and_run(&self.reference("plain"), self.command) {
            Ok((pull, run)) => row(&what, pull + run, self.link.take()?, json!({"pull_s": pull})),
            // It cannot unpack some layers (GNU sparse files): no figure is one, too.
            Err(error) => json!({"what": what, "error": error.to_string().lines().last()}),
        })
    }

    fn dimsum(&self, what: &str, tag: &str, options: &[&str]) -> Result<Value> {
        // A new store each time; the server of the last one ends by itself.
        let store = tempfile::Builder::new().prefix("cold-").tempdir_in(self.scratch)?;
        let dimsum = self.dimsum.with_store(store.path())?;
        let report = self.scratch.join("report.json");
        drop_caches()?;
        self.link.take()?;
        let start = Instant::now();
        let report_option = format!("--report={}", report.display());
        let reference = self.reference(tag);
        let words =
            [&["run", "--plain-http", &report_option][..], options, &[&reference, "/bin/sh", "-c", self.command]]
                .concat();
        dimsum.ok(&words)?;
        let total = start.elapsed().as_secs_f64();
        let traffic = self.link.take()?;
        let report: Value = serde_json::from_slice(&fs::read(&report)?)?;
        Ok(row(&format!("dimsum {what}"), total, traffic, report))
    }
}

fn row(what: &str, seconds: f64, traffic: LinkTraffic, details: Value) -> Value {
    let LinkTraffic { down, connections, requests } = traffic;
    json!({"what": what, "ready_s": seconds, "bytes": down, "requests": requests, "connections": connections, "details": details})
}
