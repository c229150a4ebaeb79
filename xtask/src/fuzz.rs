//! The fuzz targets, built and run for a short while each.
//!
//! They are built in the workspace as the tests are, so that dependencies are not built again. `fuzz/instrument` stands
//! before the compiler and instruments the code that reads strangers' bytes.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::dimsum::{SOME_EXAMPLE, target_directory, workspace};

/// Packages besides ours that `fuzz/instrument` instruments.
const INSTRUMENTED: &[&str] = &["serde_json", "tar-core"];
/// A setting of instrumented packages that tests do not have: so both are kept side by side.
const APART: &str = "debug=false";
/// Seconds for one input: a parser that takes longer has no limit where it needs one.
const INPUT_SECONDS: u32 = 10;
/// Memory of one target in MiB: a parser that takes more believes a length that it was told.
const MEMORY: u32 = 1024;
/// Largest input: seeds are smaller, and larger ones find little in a short run.
const MAX_INPUT: usize = 64 << 10;

/// Runs the targets of these names, or all, for so many seconds each; as many at a time as there are processors.
pub fn run(seconds: u64, names: &[&str]) -> Result<()> {
    let all = targets()?;
    let known = |name: &&str| all.iter().any(|target| target == name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        bail!("there is no fuzz target {unknown}; there are {}", all.join(", "));
    }
    let chosen: Vec<&String> = all.iter().filter(|name| names.is_empty() || names.contains(&name.as_str())).collect();
    let binaries = build(&all)?;
    let scratch = tempfile::Builder::new().prefix("dimsum-fuzz-").tempdir_in("/var/tmp")?;
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let workers = std::thread::available_parallelism()?.get();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(name) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = fuzz(&binaries.join(name), name, seconds, scratch.path());
                    match outcome {
                        Ok(summary) => println!("fuzz {name}: {summary}"),
                        Err(error) => {
                            println!("fuzz {name}: FAILED: {error:#}");
                            failed.lock().expect("no thread panics with it").push((*name).clone());
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner()?;
    ensure!(failed.is_empty(), "fuzz targets failed: {}; their inputs lie in fuzz/artifacts", failed.join(", "));
    println!("{} fuzz targets ran {seconds} s each", chosen.len());
    Ok(())
}

/// The names of the targets. Each has a file, an entry in `fuzz/Cargo.toml` and seeds, or this is an error.
fn targets() -> Result<Vec<String>> {
    let fuzz = workspace().join("fuzz");
    let files = stems(&fuzz.join("fuzz_targets"))?;
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml"))?;
    let binaries = manifest.split("[[bin]]").skip(1).filter_map(|section| section.split('"').nth(1));
    let binaries: BTreeSet<String> = binaries.map(str::to_owned).collect();
    let seeds = stems(&fuzz.join("corpus"))?;
    ensure!(files == binaries, "fuzz/fuzz_targets has {files:?}, fuzz/Cargo.toml has {binaries:?}");
    ensure!(files == seeds, "fuzz/fuzz_targets has {files:?}, fuzz/corpus has {seeds:?}");
    Ok(files.into_iter().collect())
}

/// The names in a directory, without extensions.
fn stems(directory: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        found.insert(path.file_stem().context("a name")?.to_string_lossy().into_owned());
    }
    Ok(found)
}

/// Builds these targets; returns the directory of their binaries.
fn build(names: &[String]) -> Result<PathBuf> {
    let root = workspace();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--workspace", "--locked", "--quiet", "--features", "dimsum-fuzz-targets/libfuzzer"]);
    // An example among what is built gives dependencies the features that tests give them.
    command.args(["--example", SOME_EXAMPLE]).current_dir(&root);
    for name in names {
        command.args(["--bin", name]);
    }
    for package in instrumented()? {
        command.arg("--config").arg(format!("profile.dev.package.{package}.{APART}"));
    }
    let status = command.env("RUSTC_WRAPPER", root.join("fuzz/instrument")).status().context("cargo build")?;
    ensure!(status.success(), "cannot build the fuzz targets: {status}");
    Ok(target_directory().join("debug"))
}

/// The packages that are instrumented.
fn instrumented() -> Result<BTreeSet<String>> {
    let mut packages = stems(&workspace().join("crates"))?;
    packages.extend(INSTRUMENTED.iter().map(|name| (*name).to_owned()));
    Ok(packages)
}

/// Runs one target from its seeds. What it learns goes to scratch, what breaks it to `fuzz/artifacts`.
fn fuzz(binary: &Path, name: &str, seconds: u64, scratch: &Path) -> Result<String> {
    let fuzz = workspace().join("fuzz");
    let learned = scratch.join(name);
    let artifacts = fuzz.join("artifacts").join(name);
    fs::create_dir_all(&learned)?;
    fs::create_dir_all(&artifacts)?;
    let log_file = scratch.join(format!("{name}.log"));
    let log = File::create(&log_file)?;
    let mut child = Command::new(binary)
        .arg(&learned)
        .arg(fuzz.join("corpus").join(name))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={INPUT_SECONDS}"))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .arg(format!("-max_len={MAX_INPUT}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(["-print_final_stats=1", "-verbosity=1"])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| binary.display().to_string())?;
    let ended = ends_within(&mut child, Duration::from_secs(2 * seconds + 60))?;
    let text = String::from_utf8_lossy(&fs::read(&log_file)?).into_owned();
    let tail: Vec<_> = text.lines().rev().take(30).collect();
    let tail: Vec<_> = tail.into_iter().rev().collect();
    ensure!(ended, "it did not end in time\n{}", tail.join("\n"));
    let runs = text.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let coverage = text.lines().rev().find_map(|line| line.split(" cov: ").nth(1)?.split(' ').next());
    Ok(format!("{} runs, {} edges", runs.unwrap_or("?").trim(), coverage.unwrap_or("?")))
}

/// Whether the child ends well within this time; it is ended if it does not.
fn ends_within(child: &mut Child, limit: Duration) -> Result<bool> {
    let start = std::time::Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if start.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
