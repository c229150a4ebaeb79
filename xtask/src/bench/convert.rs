//! Conversion beside `zstd -3 -T2` of the same bytes, and beside Nydus where it is there ([`Nydus`]).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::nydus::Nydus;
use super::timing::{MeasuredTimes, median, time};
use super::{BenchTask, RUNS, extend, name_of, picked};
use crate::corpus::layout::{CorpusLayout, decompress};
use crate::demo::files;
use crate::dimsum::Dimsum;

/// Images of different kinds: a base with a service, Python wheels, many small JavaScript files, one large binary.
const IMAGES: &[&str] = &["redis:v1", "flask:v2", "express:v3", "seed:v1"];
/// The contestant that the others are measured by.
const ZSTD: &str = "zstd -3 -T2 of the tars";

pub fn run(task: BenchTask<'_>) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("dimsum-bench-").tempdir_in("/var/tmp")?;
    let dimsum = Dimsum::new(&scratch.path().join("store"))?;
    let nydus = Nydus::from_env()?;
    let mut log = task.log("convert")?;
    for directory in task.images(IMAGES)? {
        let name = name_of(&directory)?;
        let work = scratch.path().join(name);
        fs::create_dir_all(&work)?;
        let inputs = Inputs::new(CorpusLayout::open(&directory, None)?, &work)?;
        let mut runs: BTreeMap<&str, Vec<(MeasuredTimes, Value)>> = BTreeMap::new();
        for run in 0..RUNS {
            for what in [ZSTD, "plain tar", "gzip layers", "dir"].into_iter().chain(nydus.contestants()) {
                let out = work.join("out");
                fs::create_dir_all(&out)?;
                let (taken, summary) = match what {
                    ZSTD => inputs.zstd(&out)?,
                    "plain tar" => inputs.convert(&dimsum, &inputs.plain.reference(), &out)?,
                    "gzip layers" => inputs.convert(&dimsum, &inputs.gzip.reference(), &out)?,
                    "dir" => inputs.convert(&dimsum, &format!("dir:{}", inputs.tree.display()), &out)?,
                    peer => match nydus.run(peer, &inputs, &out) {
                        Ok(taken) => (taken, Value::Null),
                        // What another program cannot do is a row, not the end.
                        Err(error) => {
                            log.shown(
                                &json!({"image": name, "run": run, "what": peer, "failed": format!("{error:#}")}),
                            )?;
                            fs::remove_dir_all(&out)?;
                            continue;
                        }
                    },
                };
                let mut line = json!({"image": name, "run": run, "what": what, "output_bytes": bytes_in(&out)?});
                extend(
                    &mut line,
                    picked(&summary, &["temp_bytes", "stored_bytes", "shared_bytes", "null_bytes", "content_bytes"]),
                );
                extend(&mut line, taken.line());
                log.row(&line)?;
                runs.entry(what).or_default().push((taken, line));
                fs::remove_dir_all(&out)?;
            }
        }
        log.shown(&medians(name, fs::metadata(&inputs.tar)?.len(), &runs))?;
        fs::remove_dir_all(&work)?;
    }
    Ok(())
}

/// One image in the forms that converters read.
#[derive(Debug)]
pub struct Inputs {
    /// As it is in the corpus.
    pub gzip: CorpusLayout,
    /// With layers that are not compressed.
    pub plain: CorpusLayout,
    /// All layers' tars, one behind the other.
    pub tar: PathBuf,
    /// All layers unpacked over one another, without whiteouts.
    pub tree: PathBuf,
}

impl Inputs {
    fn new(gzip: CorpusLayout, work: &Path) -> Result<Self> {
        let (tar, plain) = plain(&gzip, work)?;
        let tree = work.join("tree");
        fs::create_dir_all(&tree)?;
        let words = ["-xpf".as_ref(), tar.as_os_str(), "-C".as_ref(), tree.as_os_str()];
        let words = [&words[..], &["--exclude=.wh.*".as_ref(), "--ignore-zeros".as_ref()]].concat();
        crate::dimsum::tool("tar", &words).context("unpacking for dir:")?;
        Ok(Self { gzip, plain, tar, tree })
    }

    fn zstd(&self, out: &Path) -> Result<(MeasuredTimes, Value)> {
        let mut zstd = Command::new("zstd");
        zstd.args(["-q", "-f", "-3", "-T2"]).arg(&self.tar).arg("-o").arg(out.join("peer.zst"));
        Ok((time(&zstd)?.0, Value::Null))
    }

    fn convert(&self, dimsum: &Dimsum, source: &str, out: &Path) -> Result<(MeasuredTimes, Value)> {
        let (taken, printed) = time(&dimsum.command(&at_the_level_of_zstd(source, &out.join("image"))))?;
        Ok((taken, serde_json::from_slice(&printed).context("summary of convert")?))
    }
}

/// As [`arguments`], with the level of the peer instead of the default.
pub fn at_the_level_of_zstd(source: &str, out: &Path) -> Vec<String> {
    [&arguments(source, out)[..], &["--level".to_owned(), "3".to_owned()]].concat()
}

/// The arguments for a conversion into the layout `out`.
pub fn arguments(source: &str, out: &Path) -> [String; 5] {
    ["convert", source, &format!("oci:{}:image", out.display()), "--format", "json"].map(str::to_owned)
}

fn bytes_in(directory: &Path) -> Result<u64> {
    files(directory)?.iter().map(|path| Ok(path.metadata()?.len())).sum()
}

/// The layers' tars, one behind the other in a file and as an image of plain layers.
fn plain(gzip: &CorpusLayout, work: &Path) -> Result<(PathBuf, CorpusLayout)> {
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
fn medians(name: &str, tar_bytes: u64, runs: &BTreeMap<&str, Vec<(MeasuredTimes, Value)>>) -> Value {
    let speed = |taken: &MeasuredTimes, bytes: f64| bytes / 1e6 / taken.wall;
    let peer = runs
        .get(ZSTD)
        .map_or(f64::NAN, |runs| median(runs.iter().map(|(taken, _)| speed(taken, tar_bytes as f64)).collect()));
    let mut line = json!({"image": name, "median of": RUNS, "tar_bytes": tar_bytes});
    for (what, runs) in runs {
        let of = |field: fn(&MeasuredTimes) -> f64| median(runs.iter().map(|(taken, _)| field(taken)).collect());
        let skipped = |summary: &Value| {
            summary["shared_bytes"].as_f64().unwrap_or(0.0) + summary["null_bytes"].as_f64().unwrap_or(0.0)
        };
        let bytes = |summary: &Value| {
            if summary["content_bytes"].is_null() {
                tar_bytes as f64
            } else {
                summary["content_bytes"].as_f64().unwrap_or(0.0) - skipped(summary)
            }
        };
        let speeds = median(runs.iter().map(|(taken, summary)| speed(taken, bytes(summary))).collect());
        line[*what] = json!({"wall_s": of(|taken| taken.wall), "cpu_s": of(|taken| taken.cpu), "peak_kib": of(|taken| taken.peak_kib as f64),
            "temp_bytes": runs[0].1["temp_bytes"], "output_bytes": runs[0].1["output_bytes"], "mb_per_s": speeds, "of_zstd": speeds / peer});
    }
    line
}
