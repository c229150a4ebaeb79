//! Every image of the corpus through everything that must agree.
//!
//! Each image is converted twice, with 1 and 2 jobs, and from rewritten sources. GNU tar unpacks the source, and umoci
//! where it can. That tree is compared with the trees of our FUSE driver, the `erofs-rs` crate and the Python reader.
//! It is also compared with the kernel's EROFS, file-backed and on a loop device. `fsck.erofs` and `check --against`
//! follow, and the image's own workload from both forms. One JSON line per image goes to `OUT/corpus.jsonl`.

pub mod draft;
pub mod layout;
pub mod retar;
pub mod unpack;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::dimsum::{Dimsum, tool, workspace};
use crate::kernel::KernelMount;
use crate::tree::{self, ListedEntry};
use layout::CorpusLayout;

pub fn run(corpus: &Path, out: &Path, names: &[&str]) -> Result<()> {
    fs::create_dir_all(out)?;
    let scratch = tempfile::Builder::new().prefix("dimsum-corpus-").tempdir_in("/var/tmp")?;
    let mut log = fs::File::create(out.join("corpus.jsonl"))?;
    let mut failed = Vec::new();
    for directory in images(corpus, names)? {
        let name = directory.file_name().context("an image directory")?.to_string_lossy().into_owned();
        let work = scratch.path().join(&name);
        fs::create_dir_all(&work)?;
        let line = match image(&directory, &work) {
            Ok(figures) => figures,
            Err(error) => {
                failed.push(name.clone());
                json!({"image": name, "failed": format!("{error:#}")})
            }
        };
        println!("{line}");
        writeln!(log, "{line}")?;
        fs::remove_dir_all(&work).with_context(|| format!("cleaning up after {name}"))?;
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// The directories of the images with these names (`redis:v1`), else of all, in order.
pub fn images(corpus: &Path, names: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(corpus.join("images")).context("the corpus; make it with corpus/corpus.sh")? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().replacen('-', ":", 1);
        if path.join("index.json").exists() && (names.is_empty() || names.contains(&name.as_str())) {
            found.push(path);
        }
    }
    found.sort();
    if found.is_empty() || (!names.is_empty() && found.len() != names.len()) {
        bail!("{}: found {} of the images {names:?}", corpus.display(), found.len());
    }
    Ok(found)
}

/// Everything about one image; the first disagreement is an error.
fn image(directory: &Path, work: &Path) -> Result<Value> {
    let source = CorpusLayout::open(directory, None)?;
    let dimsum = Dimsum::new(&work.join("store"))?;
    let (converted, summary) = convert(&dimsum, &source, &work.join("jobs2"), "2")?;
    let canonical = canonical(&dimsum, &source, &converted, work)?;
    let reference = unpack::gnu_tar(&source, &work.join("unpacked"))?;
    let mut readers = readers(&dimsum, &converted, &reference, work)?;
    readers.push(match unpack::umoci(&source, &work.join("umoci")) {
        Ok(tree) => format!("umoci: {} differences", tree::diff(&reference, &tree).len()),
        Err(error) => format!("umoci cannot: {}", error.to_string().lines().last().unwrap_or_default().trim()),
    });
    let against = source.reference();
    dimsum.ok(&["check", &converted.reference(), "--data", "--against", &against])?;
    let workload = workload(&dimsum, &source, &converted, work)?;
    Ok(
        json!({"image": directory.file_name().unwrap_or_default().to_string_lossy(), "entries": reference.len(), "convert": summary,
        "canonical": canonical, "equal_trees": readers, "check_against": "ok", "workload": workload}),
    )
}

fn convert(dimsum: &Dimsum, source: &CorpusLayout, out: &Path, jobs: &str) -> Result<(CorpusLayout, Value)> {
    let target = format!("oci:{}:image", out.display());
    let text = dimsum.ok(&["convert", &source.reference(), &target, "--jobs", jobs, "--format", "json"])?;
    Ok((CorpusLayout::open(out, Some("image"))?, serde_json::from_str(&text).context("summary of convert")?))
}

/// Identical bytes with other jobs, other compression and another order of the tars.
fn canonical(dimsum: &Dimsum, source: &CorpusLayout, converted: &CorpusLayout, work: &Path) -> Result<Value> {
    let (again, _) = convert(dimsum, source, &work.join("jobs1"), "1")?;
    ensure!(again.manifest == converted.manifest, "1 and 2 jobs give different manifests");
    fs::remove_dir_all(work.join("jobs1"))?;
    let mut same = vec!["jobs 1"];
    for (what, reorder) in [("zstd layers", false), ("re-ordered tars", true)] {
        let directory = work.join("rewritten");
        let rewritten = source.rewrite(&directory, reorder)?;
        let (again, _) = convert(dimsum, &rewritten, &work.join("again"), "2")?;
        ensure!(again.layer_digests() == converted.layer_digests(), "{what}: other packs or another meta");
        fs::remove_dir_all(&directory)?;
        fs::remove_dir_all(work.join("again"))?;
        same.push(what);
    }
    Ok(json!(same))
}

/// Compares all readers with the reference; returns their names.
fn readers(dimsum: &Dimsum, converted: &CorpusLayout, reference: &[ListedEntry], work: &Path) -> Result<Vec<String>> {
    let flat = work.join("flat.erofs");
    flat_image(converted, &flat)?;
    tool("fsck.erofs", &[&flat])?;
    let mut names = vec!["fsck.erofs clean".to_owned()];
    let mut compare = |name: &str, listed: &[ListedEntry]| -> Result<()> {
        let differences = tree::diff(reference, listed);
        ensure!(
            differences.is_empty(),
            "{name}: {} differences, first: {:?}",
            differences.len(),
            &differences[..differences.len().min(5)]
        );
        names.push(name.to_owned());
        Ok(())
    };
    compare("erofs-rs", &tree::from_erofs(&flat)?)?;
    {
        let mounted = KernelMount::file_backed(&flat, &work.join("erofs-file"))?;
        compare("kernel EROFS, file-backed", &tree::from_directory(&mounted.path)?)?;
    }
    {
        let mounted = KernelMount::loop_device(&flat, &work.join("erofs-loop"))?;
        compare("kernel EROFS, loop device", &tree::from_directory(&mounted.path)?)?;
    }
    fs::remove_file(&flat)?;
    let mount = work.join("fuse");
    fs::create_dir_all(&mount)?;
    dimsum.ok(&["mount", &converted.reference(), &mount.to_string_lossy()])?;
    let listed = tree::from_directory(&mount);
    dimsum.ok(&["umount", &mount.to_string_lossy()])?;
    compare("dimsum FUSE", &listed?)?;
    let script = workspace().join("tests/reader/dimsum_reader.py");
    let text =
        tool("python3", &[script.as_os_str(), "tree".as_ref(), converted.directory.as_os_str(), "image".as_ref()])?;
    compare("Python reader", &tree::read(&text)?)?;
    Ok(names)
}

/// `zstd -dc meta packs…`: the two lines of the README, nothing of ours.
pub fn flat_image(converted: &CorpusLayout, out: &Path) -> Result<()> {
    let mut layers = converted.layers();
    let meta = layers.pop().context("an image has a meta")?;
    let status =
        Command::new("zstd").args(["-q", "-dc"]).arg(meta).args(layers).stdout(fs::File::create(out)?).status()?;
    ensure!(status.success(), "zstd -dc: {status}");
    Ok(())
}

/// Runs the image's own workload from both forms, each from an empty store.
fn workload(dimsum: &Dimsum, source: &CorpusLayout, converted: &CorpusLayout, work: &Path) -> Result<Value> {
    let Some(command) = source.label("bench.cmd") else { return Ok(Value::Null) };
    let mut figures = serde_json::Map::new();
    for (form, image) in [("converted", converted), ("ordinary", source)] {
        let dimsum = dimsum.with_store(&work.join(format!("store-{form}")))?;
        let report = work.join("report.json");
        let started = Instant::now();
        let arguments =
            ["run", &format!("--report={}", report.display()), &image.reference(), "/bin/sh", "-c", command];
        let output = dimsum.command(&arguments).stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "{form}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&fs::read(&report)?).context("report of run")?;
        figures
            .insert(form.to_owned(), json!({"exit": 0, "seconds": started.elapsed().as_secs_f64(), "report": report}));
    }
    Ok(Value::Object(figures))
}
