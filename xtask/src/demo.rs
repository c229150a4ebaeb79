//! The demo: the whole product on one real image, without a server.
//!
//! Convert the image and run it lazily. Flip bytes in the store: reads stay right. Flip bytes in the source too: reads
//! fail, and none is wrong. What every file must hold is known from GNU tar, which unpacks the source image.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::corpus::layout::CorpusLayout;
use crate::corpus::unpack;
use crate::dimsum::{Dimsum, workspace};
use crate::faults::{FuseMount, Reading, read_all};
use crate::long::corpus_directory;

/// The image of the demo when none is named.
const DEMO_IMAGE: &str = "redis:v1";
/// One byte is flipped in each so many bytes of data.
const FLIP_EVERY: u64 = 64 << 10;
/// Lines and columns of what a check prints that are shown.
const MAX_SHOWN: usize = 4;
const MAX_COLUMNS: usize = 110;

pub fn run(image: Option<&str>) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("dimsum-demo-").tempdir_in("/var/tmp")?;
    let source = source(image)?;
    let dimsum = Dimsum::new(&scratch.path().join("store"))?;
    let command = source.label("bench.cmd").unwrap_or("true").to_owned();

    step("1. Convert the image into a local OCI layout");
    let layout = scratch.path().join("layout");
    let target = format!("oci:{}:demo", layout.display());
    run_shown(dimsum.command(&["convert", &source.reference(), &target]))?;

    step("2. Run a container from it: what is read is fetched and verified, nothing else");
    let report_file = scratch.path().join("report.json");
    let lazy = workload(&dimsum, &target, &command, &report_file)?;
    say(&usage(&lazy));

    step("3. Flip bytes in the store, run it again, and compare every file with what GNU tar unpacks");
    let flipped = flip(&devices(&dimsum.store)?)?;
    drop_caches()?;
    say(&format!("flipped {flipped} bytes, one in each 64 KiB of data in the store"));
    let again = workload(&dimsum, &target, &command, &report_file)?;
    let reference = unpack::gnu_tar(&source, &scratch.path().join("unpacked"))?;
    let mounted = FuseMount::by_name(&dimsum, &target, &scratch.path().join("mount"))?;
    let reading = read_all(&mounted.path, &reference);
    let repaired = repairs(&again) + repairs(&dimsum.mount_info(&mounted.path)?["stats"]);
    drop(mounted);
    say(&format!("repaired {repaired} damaged chunks; files: {}", counts(&reading)));
    ensure!(repaired > 0, "no damage was noticed");
    ensure!(reading.wrong + reading.refused == 0, "a file could not be read right though its source is whole");

    step("4. Flip bytes again and ask for a check: it names the damage and exits with status 3");
    flip(&devices(&dimsum.store)?)?;
    let output = dimsum.output(&["check", &target, "--store"])?;
    first_lines(&output.stdout, &output.stderr);
    ensure!(output.status.code() == Some(3), "check --store found nothing: {}", output.status);

    step("5. Flip bytes in the source too: reads fail with an error, none is wrong");
    let fresh = dimsum.with_store(&scratch.path().join("fresh-store"))?;
    flip(&packs(&layout)?)?;
    let mounted = FuseMount::by_name(&fresh, &target, &scratch.path().join("mount"))?;
    let refused = read_all(&mounted.path, &reference);
    drop(mounted);
    say(&format!("files: {}", counts(&refused)));
    ensure!(refused.refused > 0 && refused.wrong == 0, "damaged sources were not noticed");
    let output = fresh.output(&["check", &target, "--data"])?;
    first_lines(&output.stdout, &output.stderr);
    ensure!(output.status.code() == Some(3), "check did not find the damaged packs: {}", output.status);

    println!("\n{}", sentence(&source, &lazy, flipped, repaired, reading.wrong + refused.wrong));
    Ok(())
}

/// The demo in one sentence.
fn sentence(source: &CorpusLayout, lazy: &Value, flipped: u64, repaired: u64, wrong: u64) -> String {
    let name = source.label("bench.name").unwrap_or("the command");
    let name = name.split(':').next().unwrap_or(name);
    let done = if source.label("bench.kind") == Some("server") { "answered" } else { "was done" };
    format!(
        "{name} {done} {}; {flipped} bytes flipped, {repaired} chunks with them repaired, {wrong} wrong",
        usage(lazy)
    )
}

/// How long a run took, and how much of the image it needed.
fn usage(report: &Value) -> String {
    let mebibytes = |field: &str| report[field].as_u64().unwrap_or(0) as f64 / f64::from(1 << 20);
    let seconds = report["seconds_to_exit"].as_f64().unwrap_or(0.0);
    format!("after {seconds:.2} s with {:.1} of {:.1} MiB", mebibytes("fetched_bytes"), mebibytes("stored_bytes"))
}

fn counts(reading: &Reading) -> String {
    format!("{} right, {} refused, {} wrong", reading.right, reading.refused, reading.wrong)
}

fn repairs(stats: &Value) -> u64 {
    stats["repairs"].as_u64().unwrap_or(0)
}

/// The image given, or redis made from Debian packages. It is made once and kept among what the build makes.
fn source(image: Option<&str>) -> Result<CorpusLayout> {
    let Some(image) = image else {
        let corpus = corpus_directory();
        let layout = corpus.join("images").join(DEMO_IMAGE.replace(':', "-"));
        if layout.join("index.json").exists() {
            step("0. A real image (redis on Debian) is there from an earlier run");
        } else {
            step("0. Make a real image from Debian packages: a base system and redis (once, about a minute)");
            let mut command = Command::new("bash");
            command.arg(workspace().join("corpus/corpus.sh"));
            command.args(["-p".as_ref(), corpus.as_os_str(), DEMO_IMAGE.as_ref()]);
            run_shown(command)?;
        }
        return CorpusLayout::open(&layout, None);
    };
    let rest = image.strip_prefix("oci:").context("the demo takes oci:DIR:TAG")?;
    let (directory, tag) = match rest.split_once(':') {
        Some((directory, tag)) => (directory, Some(tag)),
        None => (rest, None),
    };
    CorpusLayout::open(Path::new(directory), tag)
}

/// Runs the image's own workload, and returns what the run reports.
fn workload(dimsum: &Dimsum, image: &str, command: &str, report: &Path) -> Result<Value> {
    let option = format!("--report={}", report.display());
    run_shown(dimsum.command(&["run", &option, image, "/bin/sh", "-c", command]))?;
    serde_json::from_slice(&fs::read(report)?).context("report of run")
}

fn devices(store: &Path) -> Result<Vec<PathBuf>> {
    Ok(files(&store.join("devices"))?.into_iter().filter(|path| path.ends_with("data")).collect())
}

fn packs(layout: &Path) -> Result<Vec<PathBuf>> {
    let mut layers = CorpusLayout::open(layout, None)?.layers();
    layers.pop();
    Ok(layers)
}

pub fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let (mut pending, mut found) = (vec![directory.to_owned()], Vec::new());
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
            let path = entry?.path();
            if path.symlink_metadata()?.is_dir() { pending.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

/// Flips one bit in every 64 KiB that is not a hole; returns how many.
fn flip(files: &[PathBuf]) -> Result<u64> {
    let mut flipped = 0;
    for path in files {
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        let length = file.metadata()?.size();
        for at in (777..length).step_by(usize::try_from(FLIP_EVERY)?) {
            if !is_data(&file, at)? {
                continue;
            }
            let mut byte = [0];
            file.seek(SeekFrom::Start(at))?;
            file.read_exact(&mut byte)?;
            byte[0] ^= 0x10;
            file.seek(SeekFrom::Start(at))?;
            file.write_all(&byte)?;
            flipped += 1;
        }
    }
    Ok(flipped)
}

/// Whether this byte of a file was written; a hole was not.
fn is_data(file: &fs::File, at: u64) -> Result<bool> {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
        Ok(found) => Ok(found == at),
        Err(rustix::io::Errno::NXIO) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

pub fn drop_caches() -> Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").context("dropping the page cache needs root")
}

fn step(text: &str) {
    println!("\n\x1b[1m{text}\x1b[0m");
}

fn say(text: &str) {
    println!("   {text}");
}

fn run_shown(mut command: Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}

fn first_lines(out: &[u8], err: &[u8]) {
    for text in [out, err] {
        for line in String::from_utf8_lossy(text).lines().take(MAX_SHOWN) {
            let shown: String = line.chars().take(MAX_COLUMNS).collect();
            println!("   | {shown}{}", if shown.len() < line.len() { "…" } else { "" });
        }
    }
}
