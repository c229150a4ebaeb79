//! Verified reads through the mount beside a plain `pread` of the device file: store warm, page cache cold, reader unpinned.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use rustix::fs::{Advice, fadvise};
use serde_json::{Value, json};

use super::timing::median;
use super::{BenchTask, RUNS, name_of};
use crate::corpus::layout::CorpusLayout;
use crate::demo::{drop_caches, files};
use crate::dimsum::Dimsum;
use crate::tree;

const RANDOM_READS: usize = 2000;
pub const SMALL: usize = 4096;
const LARGE: usize = 1 << 20;

pub fn run(task: BenchTask<'_>) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("dimsum-bench-").tempdir_in("/var/tmp")?;
    let dimsum = Dimsum::new(&scratch.path().join("store"))?;
    let mut log = task.log("read")?;
    let directory = task.image("node:v1")?;
    let (name, source) = (name_of(&directory)?, CorpusLayout::open(&directory, None)?);
    let layout = scratch.path().join("layout");
    dimsum.ok(&["convert", &source.reference(), &format!("oci:{}:image", layout.display())])?;
    let image = CorpusLayout::open(&layout, None)?;
    let mounted = crate::faults::FuseMount::new(&dimsum, &image, &scratch.path().join("mount"))?;
    let entries = tree::from_directory(&mounted.path)?;
    let largest = entries.iter().filter(|entry| entry.kind == 'f').max_by_key(|entry| entry.size).context("a file")?;
    let path = mounted.path.join(&largest.path);
    let device = largest_device(&dimsum.store)?;
    let mut runs: Vec<(&str, Value)> = Vec::new();
    for run in 0..RUNS {
        for (what, file) in [("verified", &path), ("pread", &device)] {
            let length = largest.size;
            drop_caches()?;
            let (mean, p50, p99) = random(file, length)?;
            drop_caches()?;
            let speed = sequential(file, length)?;
            let line = json!({"image": name, "run": run, "what": what, "file_bytes": length, "random_4k_mean_us": mean, "random_4k_p50_us": p50,
                "random_4k_p99_us": p99, "sequential_mb_per_s": speed});
            log.row(&line)?;
            runs.push((what, line));
        }
    }
    let mut line = json!({"image": name, "median of": RUNS, "file": largest.path, "bytes": largest.size});
    for what in ["verified", "pread"] {
        let of = |field: &str| {
            median(runs.iter().filter(|(name, _)| *name == what).filter_map(|(_, line)| line[field].as_f64()).collect())
        };
        line[what] = json!({"random_4k_mean_us": of("random_4k_mean_us"), "random_4k_p50_us": of("random_4k_p50_us"),
            "random_4k_p99_us": of("random_4k_p99_us"), "sequential_mb_per_s": of("sequential_mb_per_s")});
    }
    log.shown(&line)
}

fn largest_device(store: &Path) -> Result<PathBuf> {
    let devices = files(&store.join("devices"))?.into_iter().filter(|path| path.ends_with("data"));
    devices.max_by_key(|path| fs::metadata(path).map_or(0, |metadata| metadata.len())).context("a device")
}

/// Mean, median and 99th percentile in microseconds.
pub fn random(path: &Path, length: u64) -> Result<(f64, f64, f64)> {
    let file = File::open(path)?;
    fadvise(&file, 0, None, Advice::Random)?;
    let blocks = length / SMALL as u64;
    let (mut state, mut buffer, mut times) =
        (0x9E37_79B9_7F4A_7C15_u64, vec![0; SMALL], Vec::with_capacity(RANDOM_READS));
    for _ in 0..RANDOM_READS {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = (state >> 20) % blocks * SMALL as u64;
        let started = Instant::now();
        file.read_exact_at(&mut buffer, at)?;
        times.push(started.elapsed().as_secs_f64() * 1e6);
    }
    let mean = times.iter().sum::<f64>() / times.len() as f64;
    times.sort_by(f64::total_cmp);
    Ok((mean, times[times.len() / 2], times[times.len() * 99 / 100]))
}

fn sequential(path: &Path, length: u64) -> Result<f64> {
    let file = File::open(path)?;
    let (mut at, mut buffer) = (0, vec![0; LARGE]);
    let started = Instant::now();
    while at < length {
        let read = file.read_at(&mut buffer, at)?;
        if read == 0 {
            break;
        }
        at += read as u64;
    }
    Ok(at as f64 / 1e6 / started.elapsed().as_secs_f64())
}
