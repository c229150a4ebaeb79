//! Read amplification: random small files of an image in a registry, cold, by several readers at once.
//!
//! Fetched pack bytes over bytes asked, with joining off and on, at 0 and 20 ms of round trip. The files are picked by a generator with
//! a fixed seed, so every run asks for the same ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::timing::median;
use super::{BenchTask, name_of};
use crate::corpus::layout::CorpusLayout;
use crate::demo::{drop_caches, files};
use crate::dimsum::Dimsum;
use crate::faults::FuseMount;
use crate::peers::{RegistryProcess, ShapedLink};

/// Files that are read.
const FILES: usize = 300;
/// A small file is below this.
const SMALL: u64 = 64 << 10;
/// Readers at the same time: a program that starts reads one file after the other, a few of them at once.
const READERS: usize = 8;
/// Runs of each kind.
const RUNS: usize = 3;
/// Start of the generator that picks the files.
const SEED: u64 = 20_261_125;
/// Round trips in milliseconds.
const ROUND_TRIPS: [u32; 2] = [0, 20];
/// Images, as far as the corpus has them.
const IMAGES: [&str; 4] = ["flask:v3", "express:v3", "tensorflow:v1", "redis:v1"];

pub fn run(task: BenchTask<'_>) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("dimsum-amplification-").tempdir_in("/var/tmp")?;
    let dimsum = Dimsum::new(&scratch.path().join("store"))?;
    let netshape = ShapedLink::build()?;
    let registry = RegistryProcess::start(&scratch.path().join("registry"))?;
    let mut log = task.log("amplification")?;
    let in_corpus = |name: &&&str| task.corpus.join("images").join(name.replacen(':', "-", 1)).exists();
    let usual: Vec<_> = IMAGES.iter().filter(in_corpus).copied().collect();
    for directory in task.images(&usual)? {
        let name = name_of(&directory)?;
        let layout = CorpusLayout::open(&directory, None)?;
        dimsum.ok(&["convert", &layout.reference(), &format!("{}/{name}:dimsum", registry.address)])?;
        for round_trip in ROUND_TRIPS {
            let link = ShapedLink::start(&netshape, &registry.address, 0, round_trip)?;
            let image = format!("{}/{name}:dimsum", link.address);
            let mut runs: Vec<(bool, Value)> = Vec::new();
            for run in 0..RUNS {
                for joining in [false, true] {
                    let store = tempfile::Builder::new().prefix("cold-").tempdir_in(scratch.path())?;
                    let cold = dimsum.with_store(store.path())?;
                    let mut line = measure(&cold, &image, &scratch.path().join("mount"), joining)?;
                    line["image"] = json!(name);
                    line["rtt_ms"] = json!(round_trip);
                    line["run"] = json!(run);
                    log.row(&line)?;
                    runs.push((joining, line));
                }
            }
            let mut line = json!({"median of": RUNS, "image": name, "rtt_ms": round_trip});
            for (what, joining) in [("joining off", false), ("joining on", true)] {
                let of = |field: &str| {
                    median(runs.iter().filter(|run| run.0 == joining).filter_map(|run| run.1[field].as_f64()).collect())
                };
                line[what] = json!({"amplification": of("amplification"), "seconds": of("seconds"),
                    "requests": of("requests"), "fetched_bytes": of("fetched_bytes")});
            }
            log.shown(&line)?;
        }
    }
    Ok(())
}

/// Reads the files of an image, cold.
pub fn measure(dimsum: &Dimsum, image: &str, mount: &Path, joining: bool) -> Result<Value> {
    let _server = CountingServer::start(dimsum, joining)?;
    let mounted = FuseMount::by_name(dimsum, image, mount)?;
    let picked = pick(&mounted.path)?;
    let asked: u64 = picked.iter().map(|(_, size)| size).sum();
    drop_caches()?;
    let before = dimsum.mount_info(&mounted.path)?;
    let start = Instant::now();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|number| {
                let (mut mine, root) = (picked.iter().skip(number).step_by(READERS), &mounted.path);
                scope.spawn(move || {
                    mine.try_for_each(|(path, size)| {
                        let bytes = fs::read(root.join(path)).with_context(|| path.display().to_string())?;
                        ensure!(bytes.len() as u64 == *size, "{}: another length", path.display());
                        Ok(())
                    })
                })
            })
            .collect();
        readers.into_iter().try_for_each(|reader| reader.join().expect("a reader panicked"))
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let after = dimsum.mount_info(&mounted.path)?;
    let counted = |field: &str| {
        let of = |info: &Value| info["stats"][field].as_u64().unwrap_or(0);
        of(&after).saturating_sub(of(&before))
    };
    let (fetched, requests, bridged) = (counted("bytes_fetched"), counted("source_requests"), counted("bytes_bridged"));
    Ok(json!({"joining": joining, "files": picked.len(), "asked_bytes": asked, "fetched_bytes": fetched,
        "bridged_bytes": bridged, "requests": requests, "seconds": seconds, "amplification": fetched as f64 / asked as f64}))
}

/// Picks the files: from the names in order, so that every run picks the same.
fn pick(root: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut small = Vec::new();
    for path in files(root)? {
        let metadata = path.symlink_metadata()?;
        if metadata.is_file() && (1..SMALL).contains(&metadata.len()) {
            small.push((path.strip_prefix(root)?.to_owned(), metadata.len()));
        }
    }
    let mut state = SEED;
    // A shuffle of the front, with the generator of Knuth's MMIX.
    for index in 0..FILES.min(small.len()) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let other = index + (state >> 33) as usize % (small.len() - index);
        small.swap(index, other);
    }
    small.truncate(FILES);
    Ok(small)
}

/// A server of a store in the foreground, so that it can be told not to join.
struct CountingServer(Child);

impl CountingServer {
    fn start(dimsum: &Dimsum, joining: bool) -> Result<Self> {
        let mut words = vec!["serve", "--idle", "60"];
        if !joining {
            words.push("--no-joining");
        }
        let child = dimsum.command(&words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let server = Self(child);
        let start = Instant::now();
        while dimsum.info()?["server"].is_null() {
            ensure!(start.elapsed() < Duration::from_secs(30), "the server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }
}

impl Drop for CountingServer {
    fn drop(&mut self) {
        // The keeper ends its server with it.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
