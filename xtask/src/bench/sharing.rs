//! What a registry stores of many images: each by itself, with what its repository has already, with what any image has.
//!
//! Every image is converted into one registry, repository by repository, tags in order. A repository's versions go to one tag, which moves as a
//! deployment's does: `--dedup-with auto` looks at what the target tag named before. Stored bytes are those of the registry's own directory, each
//! blob once; the ordinary images' are those of their layers, each once.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::log::FigureLog;
use super::timing::time;
use super::{BenchTask, extend, name_of, shared};
use crate::corpus::layout::CorpusLayout;
use crate::dimsum::Dimsum;
use crate::peers::RegistryProcess;

/// Images that show rules, not sizes.
const LEFT_OUT: [&str; 2] = ["nasty-v1", "hugesparse-v1"];
/// Two versions that are looked at apart: a base with its upgrade, twice, and files added, removed and added again.
const PAIRS: [[&str; 2]; 3] = [["debian-v1", "debian-v2"], ["server-v1", "server-v2"], ["seed-v1", "seed-v3"]];
/// Images that one conversion is told of: more than the corpus has, fewer than the program takes.
const MOST_NAMED: usize = 64;
/// With what an image may share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SharingMode {
    /// Only within itself.
    None,
    /// With its repository.
    Auto,
    /// With all images before it.
    All,
}

pub fn run(task: BenchTask<'_>) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("dimsum-sharing-").tempdir_in("/var/tmp")?;
    let dimsum = Dimsum::new(&scratch.path().join("store"))?;
    let mut log = task.log("sharing")?;
    let mut images = task.images(&[])?;
    images.retain(|image| name_of(image).is_ok_and(|name| !LEFT_OUT.contains(&name)));
    let mut failed = 0;
    for mode in [SharingMode::None, SharingMode::Auto, SharingMode::All] {
        failed += series(&dimsum, mode, &images, "all", &scratch.path().join("registry"), &mut log)?;
    }
    for pair in PAIRS {
        let of = |name: &&str| images.iter().find(|image| image.ends_with(name)).cloned();
        let Some(images) = pair.iter().map(of).collect::<Option<Vec<_>>>() else { continue };
        for mode in [SharingMode::None, SharingMode::Auto] {
            failed += series(&dimsum, mode, &images, &pair.join(" "), &scratch.path().join("registry"), &mut log)?;
        }
    }
    ensure!(failed == 0, "{failed} conversions failed");
    Ok(())
}

/// Converts images into an empty registry; returns how many failed.
fn series(
    dimsum: &Dimsum,
    mode: SharingMode,
    images: &[PathBuf],
    what: &str,
    directory: &Path,
    log: &mut FigureLog,
) -> Result<usize> {
    let registry = RegistryProcess::start(directory)?;
    let (mut converted, mut failed) = (Vec::new(), 0);
    let (mut gzip, mut stored) = (BTreeMap::new(), 0);
    let mut seconds = 0.0;
    for image in images {
        let layout = CorpusLayout::open(image, None)?;
        let gzip_before: u64 = gzip.values().sum();
        for (digest, file) in layout.layer_digests().into_iter().zip(layout.layers()) {
            gzip.insert(digest, file.metadata()?.len());
        }
        let repository = repository(&registry, image)?;
        let mut row = json!({"image": name_of(image)?, "series": what, "mode": mode.name()});
        match convert(dimsum, mode, &layout, &repository, &converted) {
            Ok(figures) => {
                seconds += figures["wall_s"].as_f64().unwrap_or(0.0);
                converted.push(format!("{repository}@{}", figures["manifest"].as_str().context("a manifest")?));
                extend(&mut row, figures);
            }
            Err(error) => {
                failed += 1;
                row["failed"] = json!(format!("{error:#}"));
            }
        }
        let now: u64 = registry.blobs()?.values().sum();
        extend(
            &mut row,
            json!({"new_bytes": now - stored, "new_gzip_bytes": gzip.values().sum::<u64>() - gzip_before, "stored_so_far": now}),
        );
        stored = now;
        log.shown(&row)?;
    }
    let gzip: u64 = gzip.values().sum();
    log.shown(
        &json!({"series": what, "mode": mode.name(), "images": images.len(), "failed": failed, "gzip_bytes": gzip,
        "stored_bytes": stored, "ratio": stored as f64 / gzip as f64, "seconds": seconds}),
    )?;
    drop(registry);
    fs::remove_dir_all(directory)?;
    Ok(failed)
}

fn convert(
    dimsum: &Dimsum,
    mode: SharingMode,
    source: &CorpusLayout,
    repository: &str,
    before: &[String],
) -> Result<Value> {
    let target = format!("{repository}:latest");
    let source = source.reference();
    let mut words = vec!["convert", &source, &target, "--format", "json"];
    match mode {
        SharingMode::None => words.extend(["--reuse", "never"]),
        SharingMode::Auto => words.extend(["--dedup-with", "auto"]),
        SharingMode::All => {
            words.extend(before.iter().rev().take(MOST_NAMED).flat_map(|image| ["--dedup-with", image]))
        }
    }
    let (taken, printed) = time(&dimsum.command(&words))?;
    let summary: Value = serde_json::from_slice(&printed).context("summary of convert")?;
    let mut figures = shared(&summary);
    figures["manifest"] = summary["manifest"].clone();
    extend(&mut figures, taken.line());
    Ok(figures)
}

/// The repository of an image: `redis` of `redis-v1`.
fn repository(registry: &RegistryProcess, image: &Path) -> Result<String> {
    let (name, _) = name_of(image)?.split_once('-').context("NAME-TAG")?;
    Ok(format!("{}/{name}", registry.address))
}

impl SharingMode {
    const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Auto => "auto",
            Self::All => "all",
        }
    }
}
