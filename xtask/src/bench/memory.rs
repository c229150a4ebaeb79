//! Peak memory and temporary space of conversions, and the size of metadata.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::convert::arguments;
use super::timing::time;
use super::{BenchTask, extend, name_of, picked};
use crate::corpus::layout::{CorpusLayout, decompress};
use crate::dimsum::Dimsum;

/// Every image, and a tree of a million files unless images are named.
pub fn run(task: BenchTask<'_>) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("dimsum-bench-").tempdir_in("/var/tmp")?;
    let dimsum = Dimsum::new(&scratch.path().join("store"))?;
    let mut log = task.log("memory")?;
    let mut sources = Vec::new();
    for directory in task.images(&[])? {
        sources.push((name_of(&directory)?.to_owned(), CorpusLayout::open(&directory, None)?.reference()));
    }
    if task.names.is_empty() {
        let million = scratch.path().join("million");
        make_files(&million, 1_000_000)?;
        sources.push(("dir of 1,000,000 files".to_owned(), format!("dir:{}", million.display())));
    }
    for (name, source) in sources {
        let (taken, printed) = time(&dimsum.command(&arguments(&source, &scratch.path().join("out"))))?;
        let summary: Value = serde_json::from_slice(&printed)?;
        let mut line = json!({"image": name});
        extend(&mut line, picked(&summary, &["inodes", "content_bytes", "temp_bytes", "stored_bytes", "bytes_in"]));
        extend(&mut line, taken.line());
        log.shown(&line)?;
        fs::remove_dir_all(scratch.path().join("out"))?;
    }
    Ok(())
}

fn make_files(root: &Path, count: u32) -> Result<()> {
    for number in 0..count {
        let directory = root.join(format!("d{:04}", number / 1000));
        if number % 1000 == 0 {
            fs::create_dir_all(&directory)?;
        }
        fs::write(directory.join(format!("file-{number:07}")), format!("content of file {number}\n"))?;
    }
    Ok(())
}

/// EROFS bytes per 20,000 entries, raw and compressed.
pub fn meta(task: BenchTask<'_>) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("dimsum-bench-").tempdir_in("/var/tmp")?;
    let dimsum = Dimsum::new(&scratch.path().join("store"))?;
    let mut log = task.log("meta")?;
    for directory in task.images(&["express:v3", "python:v2"])? {
        let name = name_of(&directory)?;
        let source = CorpusLayout::open(&directory, None)?;
        dimsum.ok(&arguments(&source.reference(), &scratch.path().join(name)))?;
        let converted = CorpusLayout::open(&scratch.path().join(name), Some("image"))?;
        let inspected: Value =
            serde_json::from_str(&dimsum.ok(&["inspect", &converted.reference(), "--format", "json"])?)?;
        let meta = scratch.path().join("meta");
        decompress(converted.layers().last().context("a meta")?, &meta)?;
        let bytes = fs::read(&meta)?;
        let footer = bytes.len() - 64;
        let blocks = u32::from_le_bytes(bytes[footer + 16..footer + 20].try_into()?);
        fs::write(&meta, &bytes[..blocks as usize * 4096])?;
        crate::dimsum::tool("zstd", &["-q", "-f", "-3", &meta.to_string_lossy()])?;
        let compressed = fs::metadata(scratch.path().join("meta.zst"))?.len();
        let entries = inspected["inodes"]["names"].as_u64().context("inspect has no inodes.names")?;
        let scale = |bytes: u64| bytes as f64 * 20_000.0 / entries as f64 / 1e6;
        let line = json!({"image": name, "entries": entries, "erofs_bytes": u64::from(blocks) * 4096, "zstd_3_bytes": compressed,
            "mb_per_20000": scale(u64::from(blocks) * 4096), "zstd_3_mb_per_20000": scale(compressed)});
        log.shown(&line)?;
    }
    Ok(())
}
