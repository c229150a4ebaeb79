//! A base that ten images share: what the first and each next conversion into one repository takes and writes.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::generated::{GeneratedContent, GeneratedTar};
use super::timing::{median, time};
use super::{BenchTask, extend, name_of, shared};
use crate::corpus::draft::{Draft, Packing};
use crate::corpus::layout::CorpusLayout;
use crate::dimsum::Dimsum;
use crate::peers::RegistryProcess;

/// Images over the base.
const IMAGES: u64 = 10;
/// How packs are used again.
const MODES: [&str; 3] = ["verify", "trust", "never"];
/// Files of an image's own layer, and the size below which each is: a small program.
const FILES: u64 = 40;
const FILE_BYTES: usize = 60_000;

pub fn run(task: BenchTask<'_>) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("dimsum-base-").tempdir_in("/var/tmp")?;
    let dimsum = Dimsum::new(&scratch.path().join("store"))?;
    let mut log = task.log("base")?;
    for directory in task.images(&["debian:v1"])? {
        let name = name_of(&directory)?;
        let base = CorpusLayout::open(&directory, None)?;
        let work = scratch.path().join(name);
        let images: Vec<_> = (1..=IMAGES).map(|number| over(&base, number, &work)).collect::<Result<_>>()?;
        let mut rows: Vec<Value> = Vec::new();
        // Image by image through all modes, so that a slow minute of the machine hits all.
        let registries: Vec<_> =
            MODES.iter().map(|mode| RegistryProcess::start(&work.join(mode))).collect::<Result<_>>()?;
        for (number, (image, layer_bytes)) in (1..).zip(&images) {
            for (mode, registry) in MODES.iter().zip(&registries) {
                let before: u64 = registry.blobs()?.values().sum();
                let target = format!("{}/app:v{number}", registry.address);
                let words = ["convert", &image.reference(), &target, "--reuse", mode, "--format", "json"];
                let (taken, printed) = time(&dimsum.command(&words))?;
                let summary: Value = serde_json::from_slice(&printed).context("summary of convert")?;
                let mut row = json!({"image": name, "mode": mode, "number": number, "own_gzip_bytes": layer_bytes,
                    "new_bytes": registry.blobs()?.values().sum::<u64>() - before});
                extend(&mut row, taken.line());
                extend(&mut row, shared(&summary));
                log.row(&row)?;
                rows.push(row);
            }
        }
        let base_bytes: u64 = base.layers().iter().map(|layer| Ok(layer.metadata()?.len())).sum::<Result<_>>()?;
        for mode in MODES {
            let of = |first: bool, field: &str| {
                let wanted = |row: &&Value| row["mode"] == mode && (row["number"] == 1) == first;
                median(rows.iter().filter(wanted).filter_map(|row| row[field].as_f64()).collect())
            };
            let side = |first| json!({"wall_s": of(first, "wall_s"), "cpu_s": of(first, "cpu_s"), "new_bytes": of(first, "new_bytes")});
            log.shown(&json!({"image": name, "mode": mode, "base_gzip_bytes": base_bytes, "own_gzip_bytes": images[1].1, "first": side(true),
                "median of 2nd to 10th": side(false)}))?;
        }
        drop(registries);
        fs::remove_dir_all(&work)?;
    }
    Ok(())
}

/// An image of the base and a layer of its own; returns the layer's gzip bytes, too.
fn over(base: &CorpusLayout, number: u64, work: &Path) -> Result<(CorpusLayout, u64)> {
    let directory = work.join(format!("app-{number}"));
    let mut draft = Draft::new(&directory, base.config.clone())?;
    for index in 0..base.layers().len() {
        draft.same(base, index)?;
    }
    let path = directory.join("layer.tar");
    let mut out = fs::File::create(&path)?;
    let (mut tar, mut content, mut buffer) = (GeneratedTar(&mut out), GeneratedContent::new(number), Vec::new());
    tar.directory("app/")?;
    for file in 0..FILES {
        let length = 1 + content.below(FILE_BYTES);
        content.fill(&mut buffer, length);
        tar.file(&format!("app/file-{file}"), &buffer)?;
    }
    tar.end()?;
    let bytes = draft.tar(path, Packing::Gzip)?;
    Ok((draft.finish("app")?, bytes))
}
