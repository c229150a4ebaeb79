//! The demo: the whole product on one real image, without a server.
//!
//! convert → run lazily → flip bytes in the store → reads stay right → flip the same bytes in every source → reads fail, never lie.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::corpus::layout::Layout;
use crate::dimsum::{Dimsum, workspace};

const DEMO_IMAGE: &str = "redis:v1";

pub fn run(image: Option<&str>) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("dimsum-demo-").tempdir_in("/var/tmp")?;
    let dimsum = Dimsum::new(&scratch.path().join("store"))?;
    let source = source(image, scratch.path())?;
    let command = source.label("bench.cmd").unwrap_or("true").to_owned();

    step("1. convert to a local OCI layout");
    let layout = scratch.path().join("layout");
    let target = format!("oci:{}:demo", layout.display());
    run_shown(dimsum.command(&["convert", &source.reference(), &target]))?;

    step("2. run a container from it, lazily, every byte verified");
    let report_file = scratch.path().join("report.json");
    let report = workload(&dimsum, &target, &command, &report_file)?;
    print_report(&report);

    step("3. flip a byte in every 64 KiB of every cached device, then run again: the store heals");
    let flipped = flip(&devices(&dimsum.store)?)?;
    drop_caches()?;
    println!("   flipped {flipped} bytes");
    let healed = workload(&dimsum, &target, &command, &report_file)?;
    println!("   the workload succeeded again; repairs: {}", healed["repairs"]);
    ensure!(healed["repairs"].as_u64().unwrap_or(0) > 0, "no damage was noticed");

    step("4. flip bytes in the store again and ask for a check: exit status 3, objects named");
    flip(&devices(&dimsum.store)?)?;
    let output = dimsum.output(&["check", &target, "--store"])?;
    first_lines(&output.stdout, &output.stderr);
    ensure!(output.status.code() == Some(3), "check --store found nothing: {}", output.status);

    step("5. damage the packs of the source too: reads fail with EIO, they never lie");
    let fresh = dimsum.with_store(&scratch.path().join("fresh-store"))?;
    flip(&packs(&layout)?)?;
    let output = fresh.output(&["run", &target, "/bin/sh", "-c", &command])?;
    println!("   exit status {}", output.status.code().unwrap_or(-1));
    first_lines(&output.stdout, &output.stderr);
    ensure!(!output.status.success(), "a container ran from damaged bytes");
    let output = fresh.output(&["check", &target, "--data"])?;
    first_lines(&output.stdout, &output.stderr);
    ensure!(output.status.code() == Some(3), "check did not find the damaged packs: {}", output.status);

    println!("\nDone. Summary of the lazy run:");
    print_report(&report);
    Ok(())
}

/// The image given, or redis made from Debian packages.
fn source(image: Option<&str>, scratch: &Path) -> Result<Layout> {
    let Some(image) = image else {
        step("0. make a real image from Debian packages: base, redis-server, an entry point");
        let script = workspace().join("corpus/corpus.sh");
        let corpus = scratch.join("corpus");
        let mut command = Command::new("bash");
        command.arg(script).args(["-p".as_ref(), corpus.as_os_str(), DEMO_IMAGE.as_ref()]);
        run_shown(command)?;
        return Layout::open(&corpus.join("images/redis-v1"), None);
    };
    let rest = image.strip_prefix("oci:").context("the demo takes oci:DIR:TAG")?;
    let (directory, tag) = match rest.split_once(':') {
        Some((directory, tag)) => (directory, Some(tag)),
        None => (rest, None),
    };
    Layout::open(Path::new(directory), tag)
}

fn workload(dimsum: &Dimsum, image: &str, command: &str, report: &Path) -> Result<Value> {
    let started = Instant::now();
    let option = format!("--report={}", report.display());
    run_shown(dimsum.command(&["run", &option, image, "/bin/sh", "-c", command]))?;
    println!("   exit status 0 after {:.2} s", started.elapsed().as_secs_f64());
    serde_json::from_slice(&fs::read(report)?).context("report of run")
}

fn print_report(report: &Value) {
    for (name, value) in report.as_object().into_iter().flatten() {
        println!("   {name}: {value}");
    }
}

fn devices(store: &Path) -> Result<Vec<PathBuf>> {
    Ok(files(&store.join("devices"))?.into_iter().filter(|path| path.ends_with("data")).collect())
}

fn packs(layout: &Path) -> Result<Vec<PathBuf>> {
    let mut layers = Layout::open(layout, None)?.layers();
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
        for at in (777..length).step_by(64 << 10) {
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

pub fn drop_caches() -> Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").context("dropping the page cache needs root")
}

fn step(text: &str) {
    println!("\n\x1b[1m{text}\x1b[0m");
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
        for line in String::from_utf8_lossy(text).lines().take(5) {
            println!("   | {line}");
        }
    }
}
