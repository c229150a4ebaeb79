//! Sizes of bundles and slices, and levels of compression: what each costs in storage and time, and what readers fetch.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::amplification;
use super::timing::time;
use super::{BenchTask, extend, name_of, picked};
use crate::corpus::layout::CorpusLayout;
use crate::dimsum::Dimsum;

/// Bundle and slice sizes in KiB, and levels, as they are tried together. A bundle is never larger than a slice.
const SETTINGS: &[(u32, u32, u32)] = &[
    (64, 128, 3),
    (64, 256, 3),
    (64, 512, 3),
    (128, 128, 3),
    (128, 256, 3),
    (128, 512, 3),
    (256, 256, 3),
    (256, 512, 3),
    (128, 256, 6),
    (128, 256, 9),
];
/// The level at which reading is measured: bytes fetched at another differ only as the stored ones do.
const LEVEL: u32 = 3;
/// The images of `corpus.sh small`.
const IMAGES: &[&str] = &[
    "debian:v1",
    "debian:v2",
    "debian:v3",
    "express:v1",
    "express:v2",
    "express:v3",
    "flask:v2",
    "flask:v3",
    "nasty:v1",
    "nginx:v1",
    "node:v1",
    "python:v2",
    "redis:v1",
    "redis:v2",
    "seed:v1",
    "seed:v2",
    "seed:v3",
];
/// What is summed over all images.
const SUMS: [&str; 9] = [
    "bytes_in",
    "stored_bytes",
    "meta_stored_bytes",
    "device_bytes",
    "flat_bytes",
    "wall_s",
    "cpu_s",
    "ready_fetched_bytes",
    "ready_requests",
];
/// Images whose small files are read at random.
const READ: [&str; 2] = ["flask-v3", "express-v3"];

pub fn run(task: BenchTask<'_>) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("dimsum-defaults-").tempdir_in("/var/tmp")?;
    let dimsum = Dimsum::new(&scratch.path().join("store"))?;
    let mut log = task.log("defaults")?;
    let mut all: BTreeMap<usize, Vec<Value>> = BTreeMap::new();
    for directory in task.images(IMAGES)? {
        let name = name_of(&directory)?;
        let source = CorpusLayout::open(&directory, None)?;
        for (index, (bundle, slice, level)) in SETTINGS.iter().enumerate() {
            let work = tempfile::Builder::new().prefix("setting-").tempdir_in(scratch.path())?;
            let mut row = json!({"image": name, "bundle_kib": bundle, "slice_kib": slice, "level": level});
            let image = convert(&dimsum, &source, (*bundle, *slice, *level), work.path(), &mut row)?;
            if *level == LEVEL {
                extend(&mut row, until_ready(&dimsum, &source, &image, work.path())?);
                if READ.contains(&name) {
                    let store = dimsum.with_store(&work.path().join("store"))?;
                    row["small_files"] = amplification::measure(&store, &image, &work.path().join("mount"), false)?;
                }
            }
            log.shown(&row)?;
            all.entry(index).or_default().push(row);
        }
    }
    for (index, rows) in all {
        let (bundle, slice, level) = SETTINGS[index];
        let mut line =
            json!({"summary": true, "images": rows.len(), "bundle_kib": bundle, "slice_kib": slice, "level": level});
        for field in SUMS {
            let values: Vec<f64> = rows.iter().filter_map(|row| row[field].as_f64()).collect();
            if !values.is_empty() {
                line[field] = json!(values.iter().sum::<f64>());
            }
        }
        for row in rows.iter().filter(|row| !row["small_files"].is_null()) {
            line[format!("amplification {}", row["image"].as_str().unwrap_or_default())] =
                row["small_files"]["amplification"].clone();
        }
        log.shown(&line)?;
    }
    Ok(())
}

/// Converts into a layout; returns its name.
fn convert(
    dimsum: &Dimsum,
    source: &CorpusLayout,
    setting: (u32, u32, u32),
    work: &Path,
    row: &mut Value,
) -> Result<String> {
    let (bundle, slice, level) = setting;
    let image = format!("oci:{}:image", work.join("image").display());
    let (bundle, slice, level) = (format!("{bundle}K"), format!("{slice}K"), level.to_string());
    let sizes = ["--bundle-size", &bundle, "--slice-size", &slice, "--level", &level];
    let reference = source.reference();
    let words = [&["convert", &reference, &image, "--format", "json"], &sizes[..]].concat();
    let (taken, printed) = time(&dimsum.command(&words))?;
    let summary: Value = serde_json::from_slice(&printed).context("summary of convert")?;
    let layers = summary["layers"].as_array().into_iter().flatten();
    row["device_bytes"] = json!(layers.filter_map(|layer| layer["device_bytes"].as_u64()).sum::<u64>());
    extend(row, picked(&summary, &["stored_bytes", "meta_stored_bytes", "flat_bytes", "content_bytes", "bytes_in"]));
    extend(row, taken.line());
    Ok(image)
}

/// What the image's own workload fetches, lazily from an empty store.
fn until_ready(dimsum: &Dimsum, source: &CorpusLayout, image: &str, work: &Path) -> Result<Value> {
    let Some(command) = source.label("bench.cmd") else { return Ok(Value::Null) };
    let store = tempfile::Builder::new().prefix("cold-").tempdir_in(work)?;
    let report = work.join("report.json");
    let option = format!("--report={}", report.display());
    let cold = dimsum.with_store(store.path())?;
    let output = cold.command(&["run", &option, image, "/bin/sh", "-c", command]).stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{image}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&fs::read(&report)?).context("report of run")?;
    Ok(json!({"ready_fetched_bytes": report["fetched_bytes"], "ready_requests": report["source_requests"],
        "ready_read_bytes": report["read_bytes"], "ready_s": report["seconds_to_exit"]}))
}
