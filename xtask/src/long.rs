//! Checks that take longer than every change may wait: run by hand, and before a release. CI runs a small slice of each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::dimsum::{target_directory, workspace};
use crate::{bench, corpus, faults, fuzz};

/// The version of cargo-deny that reads `deny.toml`.
const CARGO_DENY: &str = "0.20.2";
/// Seconds for each fuzz target: the whole takes about an hour and a half on two processors.
const FUZZ_SECONDS: u64 = 600;
/// The image that faults are made in.
const FAULTS_IMAGE: &str = "redis:v1";

/// A long check: its name, what it does and how long it takes on two processors, and the check.
type LongCheck = (&'static str, &'static str, fn(&Path) -> Result<()>);

const CHECKS: &[LongCheck] = &[
    ("fuzz", "every fuzz target for 10 minutes (80 minutes)", |_| fuzz::run(FUZZ_SECONDS, &[])),
    ("corpus", "the 17 images of the small corpus through every reader (30 minutes)", |out| {
        through_readers(out, "small")
    }),
    ("corpus-full", "all images of the corpus through every reader (3 hours, 60 GB)", |out| {
        through_readers(out, "full")
    }),
    ("faults", "damage to every kind of file, and kill -9 of the server (20 minutes)", |out| {
        let corpus = corpus_of(&[FAULTS_IMAGE])?;
        faults::run(&corpus.join("images").join(FAULTS_IMAGE.replace(':', "-")), out)
    }),
    ("network", "time to ready over shaped links (30 minutes)", |out| {
        bench::run("network", &corpus_of(&["small"])?, out, &[])
    }),
    ("deny", "cargo-deny with its advisories: installs it, and needs the network (10 minutes)", |_| cargo_deny()),
];

/// Runs the check of this name, or lists all.
pub fn run(name: Option<&str>) -> Result<()> {
    let Some(name) = name else {
        for (name, what, _) in CHECKS {
            println!("{name:12} {what}");
        }
        return Ok(());
    };
    let Some((_, _, check)) = CHECKS.iter().find(|(known, ..)| *known == name) else {
        bail!("there is no long check {name}; next: `cargo xtask long` lists them");
    };
    let out = target_directory().join("long").join(name);
    fs::create_dir_all(&out)?;
    check(&out)?;
    println!("{name}: done; figures, if any, lie in {}", out.display());
    Ok(())
}

fn through_readers(out: &Path, set: &str) -> Result<()> {
    corpus::run(&corpus_of(&[set])?, out, &[])
}

/// Makes these images of the corpus where they are not there yet.
fn corpus_of(names: &[&str]) -> Result<PathBuf> {
    let corpus = corpus_directory();
    let status = Command::new("bash")
        .arg(workspace().join("corpus/corpus.sh"))
        .arg(&corpus)
        .args(names)
        .status()
        .context("bash")?;
    ensure!(status.success(), "cannot make the images {}: {status}", names.join(", "));
    Ok(corpus)
}

/// Where images are made: `$DIMSUM_CORPUS`, or beside what the build makes.
pub fn corpus_directory() -> PathBuf {
    std::env::var_os("DIMSUM_CORPUS").map_or_else(|| target_directory().join("corpus"), PathBuf::from)
}

/// Licences, bans, sources and, where their database can be reached, advisories.
fn cargo_deny() -> Result<()> {
    let root = target_directory().join("tools");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut install = Command::new(&cargo);
    install.args(["install", "cargo-deny", "--locked", "--version", CARGO_DENY, "--root"]).arg(&root);
    ensure!(install.status()?.success(), "cannot install cargo-deny {CARGO_DENY}");
    let check = |what: &[&str]| -> Result<bool> {
        let mut command = Command::new(root.join("bin/cargo-deny"));
        Ok(command.arg("check").args(what).current_dir(workspace()).status()?.success())
    };
    ensure!(
        check(&["licenses", "bans", "sources"])?,
        "cargo-deny found licences, bans or sources that are not allowed"
    );
    ensure!(check(&["advisories"])?, "cargo-deny found advisories, or cannot reach their database");
    Ok(())
}
