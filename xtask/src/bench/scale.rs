//! The cost curve: one plain layer of so many small files, or of so many bytes, beside `zstd -3 -T2` of the same tar.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::convert::at_the_level_of_zstd;
use super::generated::{GeneratedContent, GeneratedTar};
use super::timing::{MeasuredTimes, median, time};
use super::{BenchTask, extend, picked};
use crate::corpus::draft::Draft;
use crate::corpus::layout::CorpusLayout;
use crate::dimsum::Dimsum;

/// What a layer has.
#[derive(Debug, Clone, Copy)]
enum Amount {
    /// Files of 24 bytes to [`SMALL`].
    Files(u64),
    /// Bytes, in files of [`SIZES`].
    Bytes(u64),
}

/// The points of the curve by name; names on the command line choose.
const POINTS: &[(&str, Amount)] = &[
    ("files-1k", Amount::Files(1000)),
    ("files-10k", Amount::Files(10_000)),
    ("files-100k", Amount::Files(100_000)),
    ("files-1M", Amount::Files(1_000_000)),
    ("bytes-10MB", Amount::Bytes(10_000_000)),
    ("bytes-100MB", Amount::Bytes(100_000_000)),
    ("bytes-1GB", Amount::Bytes(1_000_000_000)),
    ("bytes-5GB", Amount::Bytes(5_000_000_000)),
    ("bytes-10GB", Amount::Bytes(10_000_000_000)),
    ("bytes-20GB", Amount::Bytes(20_000_000_000)),
];
/// Points that are measured if none is named: what fits on most disks.
const USUAL: usize = 7;
/// Runs of a point, and of a large one (1 GB and more, a million files), which takes minutes.
const RUNS: usize = 3;
const RUNS_OF_LARGE: usize = 1;
/// Largest small file: with its header a kilobyte and a half, as the files of a source tree have it.
const SMALL: usize = 2000;
/// Sizes of files where bytes count, one after the other.
const SIZES: [usize; 6] = [3000, 20_000, 100_000, 300_000, 1_500_000, 12_000_000];
/// Files of a directory.
const PER_DIRECTORY: u64 = 500;
/// Disk space for a layer of one byte: itself and the compressed image.
const SPACE: f64 = 1.45;
/// And its new slices, compressed, as temporary files, if `TMPDIR` does not lead them elsewhere.
const TEMPORARY_SPACE: f64 = 0.45;

pub fn run(task: BenchTask<'_>) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("dimsum-scale-").tempdir_in("/var/tmp")?;
    let dimsum = Dimsum::new(&scratch.path().join("store"))?;
    let mut log = task.log("scale")?;
    let usual = POINTS[..USUAL].iter().map(|(name, _)| *name).collect::<Vec<_>>();
    for name in if task.names.is_empty() { &usual } else { task.names } {
        let point = POINTS.iter().find(|(point, _)| point == name);
        let (_, amount) = *point.with_context(|| format!("no point {name} of {POINTS:?}"))?;
        let work = scratch.path().join(name);
        let source = layer(&work, amount)?;
        let tar = source.layers().into_iter().next().context("a layer")?;
        let mut runs: Vec<(&str, MeasuredTimes)> = Vec::new();
        let mut summary = Value::Null;
        for run in 0..if amount.is_large() { RUNS_OF_LARGE } else { RUNS } {
            let mut zstd = Command::new("zstd");
            zstd.args(["-q", "-f", "-3", "-T2"]).arg(&tar).args(["-o", "/dev/null"]);
            let out = work.join("out");
            for (what, command) in
                [("zstd", zstd), ("dimsum", dimsum.command(&at_the_level_of_zstd(&source.reference(), &out)))]
            {
                let (taken, printed) = time(&command)?;
                let mut row = json!({"image": name, "run": run, "what": what});
                extend(&mut row, taken.line());
                if what == "dimsum" {
                    summary = serde_json::from_slice(&printed).context("summary of convert")?;
                    extend(&mut row, figures(&summary));
                    fs::remove_dir_all(&out)?;
                }
                log.row(&row)?;
                runs.push((what, taken));
            }
        }
        let mut row = json!({"image": name, "median of": runs.len() / 2, "tar_bytes": tar.metadata()?.len()});
        extend(&mut row, figures(&summary));
        for what in ["dimsum", "zstd"] {
            let of = |field: fn(&MeasuredTimes) -> f64| {
                median(runs.iter().filter(|run| run.0 == what).map(|(_, taken)| field(taken)).collect())
            };
            row[what] = json!({"wall_s": of(|taken| taken.wall), "cpu_s": of(|taken| taken.cpu), "peak_kib": of(|taken| taken.peak_kib as f64)});
        }
        log.shown(&row)?;
        fs::remove_dir_all(&work)?;
    }
    Ok(())
}

fn figures(summary: &Value) -> Value {
    picked(summary, &["inodes", "content_bytes", "stored_bytes", "meta_stored_bytes", "temp_bytes"])
}

impl Amount {
    const fn is_large(self) -> bool {
        match self {
            Self::Files(count) => count >= 1_000_000,
            Self::Bytes(bytes) => bytes >= 1_000_000_000,
        }
    }
}

/// An image of one layer.
fn layer(directory: &Path, amount: Amount) -> Result<CorpusLayout> {
    let bytes = match amount {
        Amount::Files(count) => count * 2048,
        Amount::Bytes(bytes) => bytes,
    };
    let parent = directory.parent().context("a directory")?;
    let file_system = rustix::fs::statvfs(parent)?;
    let temporary = std::env::var_os("TMPDIR").map(PathBuf::from);
    let elsewhere = temporary.is_some_and(|temporary| {
        temporary.metadata().is_ok_and(|other| parent.metadata().is_ok_and(|here| here.dev() != other.dev()))
    });
    let space = if elsewhere { SPACE } else { SPACE + TEMPORARY_SPACE };
    let (needed, free) = (bytes as f64 * space, (file_system.f_bavail * file_system.f_frsize) as f64);
    ensure!(needed < free, "{amount:?} needs {:.1} GB of disk, there are {:.1}", needed / 1e9, free / 1e9);
    let mut draft = Draft::empty(directory)?;
    draft.stream(|out| {
        let (mut tar, mut content, mut buffer) = (GeneratedTar(out), GeneratedContent::new(1), Vec::new());
        let (mut files, mut written) = (0, 0);
        while match amount {
            Amount::Files(count) => files < count,
            Amount::Bytes(bytes) => written < bytes,
        } {
            let length = match amount {
                Amount::Files(_) => 24 + content.below(SMALL - 24),
                Amount::Bytes(bytes) => SIZES[files as usize % SIZES.len()].min((bytes - written) as usize),
            };
            let parent = format!("d{:06}", files / PER_DIRECTORY);
            if files % PER_DIRECTORY == 0 {
                tar.directory(&format!("{parent}/"))?;
            }
            content.fill(&mut buffer, length);
            tar.file(&format!("{parent}/file-{files:07}"), &buffer)?;
            files += 1;
            written += length as u64;
        }
        tar.end()
    })?;
    draft.finish("scale")
}
