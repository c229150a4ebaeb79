//! Conversion beside `zstd -3 -T2` of the same bytes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::RUNS;
use super::timing::{Taken, median, time};
use crate::corpus::layout::{Layout, decompress};
use crate::dimsum::Dimsum;

/// Images of different kinds: a base with a service, Python wheels, many small JavaScript files, one large binary.
const IMAGES: &[&str] = &["redis-v1", "flask-v2", "express-v3", "seed-v1"];

pub fn run(corpus: &Path, out: &Path) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("dimsum-bench-").tempdir_in("/var/tmp")?;
    let dimsum = Dimsum::new(&scratch.path().join("store"))?;
    let mut log = File::create(out.join("convert.jsonl"))?;
    for name in IMAGES {
        let work = scratch.path().join(name);
        fs::create_dir_all(&work)?;
        let gzip = Layout::open(&corpus.join("images").join(name), None)?;
        let (tar, plain) = plain(&gzip, &work)?;
        let tree = work.join("tree");
        fs::create_dir_all(&tree)?;
        crate::dimsum::tool(
            "tar",
            &[
                "-xpf".as_ref(),
                tar.as_os_str(),
                "-C".as_ref(),
                tree.as_os_str(),
                "--exclude=.wh.*".as_ref(),
                "--ignore-zeros".as_ref(),
            ],
        )
        .context("unpacking for dir:")?;
        let mut runs: BTreeMap<&str, Vec<(Taken, Value)>> = BTreeMap::new();
        for run in 0..RUNS {
            let mut zstd = Command::new("zstd");
            zstd.args(["-q", "-f", "-3", "-T2"]).arg(&tar).arg("-o").arg(work.join("peer.zst"));
            let contestants: [(&str, Command); 4] = [
                ("zstd -3 -T2 of the tars", zstd),
                ("plain tar", dimsum.command(&arguments(&plain.reference(), &work, "plain"))),
                ("gzip layers", dimsum.command(&arguments(&gzip.reference(), &work, "gzip"))),
                ("dir", dimsum.command(&arguments(&format!("dir:{}", tree.display()), &work, "dir"))),
            ];
            for (what, command) in contestants {
                let (taken, printed) = time(&command)?;
                let summary: Value = serde_json::from_slice(&printed).unwrap_or(Value::Null);
                let mut line = json!({"image": name, "run": run, "what": what, "temp_bytes": summary["temp_bytes"],
                    "stored_bytes": summary["stored_bytes"], "shared_bytes": summary["shared_bytes"], "content_bytes": summary["content_bytes"]});
                merge(&mut line, taken.line());
                writeln!(log, "{line}")?;
                runs.entry(what).or_default().push((taken, summary));
                for form in ["plain", "gzip", "dir"] {
                    fs::remove_dir_all(work.join(form)).ok();
                }
            }
        }
        let line = medians(name, fs::metadata(&tar)?.len(), &runs);
        println!("{line}");
        writeln!(log, "{line}")?;
        fs::remove_dir_all(&work)?;
    }
    Ok(())
}

fn arguments(source: &str, work: &Path, form: &str) -> Vec<String> {
    let target = format!("oci:{}:image", work.join(form).display());
    ["convert", source, &target, "--format", "json"].map(str::to_owned).to_vec()
}

/// The layers' tars, one behind the other in a file and as an image of plain layers.
fn plain(gzip: &Layout, work: &Path) -> Result<(PathBuf, Layout)> {
    let all = work.join("all.tar");
    let mut out = File::create(&all)?;
    for layer in gzip.layers() {
        let one = work.join("one.tar");
        decompress(&layer, &one)?;
        std::io::copy(&mut File::open(&one)?, &mut out)?;
    }
    fs::remove_file(work.join("one.tar"))?;
    Ok((all, gzip.rewrite_plain(&work.join("plain-source"))?))
}

/// MB/s of each, the deduplicated and null bytes left out of the numerator: what need not be compressed is no speed.
fn medians(name: &str, tar_bytes: u64, runs: &BTreeMap<&str, Vec<(Taken, Value)>>) -> Value {
    let speed = |taken: &Taken, bytes: f64| bytes / 1e6 / taken.wall;
    let peer = runs
        .get("zstd -3 -T2 of the tars")
        .map_or(f64::NAN, |runs| median(runs.iter().map(|(taken, _)| speed(taken, tar_bytes as f64)).collect()));
    let mut line = json!({"image": name, "median of": RUNS, "tar_bytes": tar_bytes});
    for (what, runs) in runs {
        let of = |field: fn(&Taken) -> f64| median(runs.iter().map(|(taken, _)| field(taken)).collect());
        let skipped = |summary: &Value| {
            summary["shared_bytes"].as_f64().unwrap_or(0.0) + summary["null_bytes"].as_f64().unwrap_or(0.0)
        };
        let bytes = |summary: &Value| {
            if summary.is_null() {
                tar_bytes as f64
            } else {
                summary["content_bytes"].as_f64().unwrap_or(0.0) - skipped(summary)
            }
        };
        let speeds = median(runs.iter().map(|(taken, summary)| speed(taken, bytes(summary))).collect());
        line[*what] = json!({"wall_s": of(|taken| taken.wall), "cpu_s": of(|taken| taken.cpu), "peak_kib": of(|taken| taken.peak_kib as f64),
            "temp_bytes": runs[0].1["temp_bytes"], "mb_per_s": speeds, "of_zstd": speeds / peer});
    }
    line
}

/// Peak memory and temporary space of every image, and of a tree of a million files.
pub fn memory(corpus: &Path, out: &Path) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("dimsum-bench-").tempdir_in("/var/tmp")?;
    let dimsum = Dimsum::new(&scratch.path().join("store"))?;
    let mut log = File::create(out.join("memory.jsonl"))?;
    let million = scratch.path().join("million");
    make_files(&million, 1_000_000)?;
    let mut sources = vec![("z: dir of 1,000,000 files".to_owned(), format!("dir:{}", million.display()))];
    for entry in fs::read_dir(corpus.join("images"))? {
        let path = entry?.path();
        sources.push((
            path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            Layout::open(&path, None)?.reference(),
        ));
    }
    sources.sort();
    for (name, source) in sources {
        let (taken, printed) = time(&dimsum.command(&arguments(&source, scratch.path(), "out")))?;
        let summary: Value = serde_json::from_slice(&printed)?;
        let mut line = json!({"source": name, "inodes": summary["inodes"], "content_bytes": summary["content_bytes"],
            "temp_bytes": summary["temp_bytes"], "stored_bytes": summary["stored_bytes"], "bytes_in": summary["bytes_in"]});
        merge(&mut line, taken.line());
        println!("{line}");
        writeln!(log, "{line}")?;
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
pub fn meta(corpus: &Path, out: &Path) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("dimsum-bench-").tempdir_in("/var/tmp")?;
    let dimsum = Dimsum::new(&scratch.path().join("store"))?;
    let mut log = File::create(out.join("meta.jsonl"))?;
    for name in ["express-v3", "python-v2"] {
        let source = Layout::open(&corpus.join("images").join(name), None)?;
        dimsum.ok(&arguments(&source.reference(), scratch.path(), name))?;
        let converted = Layout::open(&scratch.path().join(name), Some("image"))?;
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
        println!("{line}");
        writeln!(log, "{line}")?;
    }
    Ok(())
}

fn merge(line: &mut Value, more: Value) {
    if let (Some(line), Value::Object(more)) = (line.as_object_mut(), more) {
        line.extend(more);
    }
}
