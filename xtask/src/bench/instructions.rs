//! Instructions of hot functions, counted by valgrind and held against a recorded baseline.
//!
//! Time on a shared machine says little about one commit; a count is the same in every run. What grows by more than
//! [`TOLERANCE`] fails. `--bless` records new counts: commit them with the reason.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::dimsum::{SOME_EXAMPLE, target_directory, tool, workspace};

/// The functions and their counts, one a line.
const BASELINE: &str = "benchmarks/instructions.txt";
/// Part of a count by which it may grow: hash tables with random seeds and other versions of libc need some.
const TOLERANCE: f64 = 0.04;
/// The function of `dimsum-bench` in which instructions are counted.
const COUNTED: &str = "*dimsum_bench*measured*";

/// How our own code is built.
const AS_RELEASED: &[&str] = &["opt-level=3", "codegen-units=1", "debug-assertions=false", "overflow-checks=false"];

type InstructionCounts = BTreeMap<String, u64>;

pub fn run(bless: bool) -> Result<()> {
    let binary = build()?;
    let mut counts = InstructionCounts::new();
    for name in tool::<&str>(&binary.to_string_lossy(), &[])?.lines() {
        counts.insert(name.to_owned(), count(&binary, name).with_context(|| format!("counting {name}"))?);
    }
    let file = workspace().join(BASELINE);
    if bless {
        return Ok(fs::write(&file, written(&counts))?);
    }
    let (lines, worse) = compared(&counts, &parsed(&fs::read_to_string(&file)?)?);
    print!("{lines}");
    if worse > 0 {
        bail!("{worse} functions execute more than they did; next: make them cheaper, or `bench instructions --bless`");
    }
    Ok(())
}

/// Builds the functions as a release has them, with the dependencies that tests have: these are optimised as well.
fn build() -> Result<PathBuf> {
    let root = workspace();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--workspace", "--locked", "--quiet", "--bin", "dimsum-bench"]).current_dir(&root);
    // An example among what is built gives dependencies the features that tests give them.
    command.args(["--example", SOME_EXAMPLE]);
    for entry in fs::read_dir(root.join("crates"))? {
        let package = entry?.file_name().to_string_lossy().into_owned();
        for setting in AS_RELEASED {
            command.arg("--config").arg(format!("profile.dev.package.{package}.{setting}"));
        }
    }
    let status = command.status().context("cargo build")?;
    ensure!(status.success(), "cargo build: {status}");
    Ok(target_directory().join("debug/dimsum-bench"))
}

fn count(binary: &Path, name: &str) -> Result<u64> {
    let toggle = format!("--toggle-collect={COUNTED}");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no", &toggle])
        .arg(binary)
        .arg(name)
        .output()
        .context("valgrind")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind: {}\n{text}", output.status);
    let collected = text.lines().find_map(|line| line.split("Collected :").nth(1)).context("no count in its output")?;
    let count = collected.trim().parse()?;
    ensure!(count > 0, "nothing was counted: the function is not called what it was");
    Ok(count)
}

fn written(counts: &InstructionCounts) -> String {
    let mut text =
        "# Instructions of hot functions: `cargo xtask bench instructions`, recorded with --bless.\n".to_owned();
    for (name, count) in counts {
        text.push_str(&format!("{name} {count}\n"));
    }
    text
}

fn parsed(text: &str) -> Result<InstructionCounts> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, count) = line.split_once(' ').with_context(|| format!("{BASELINE}: {line:?}"))?;
            Ok((name.to_owned(), count.parse()?))
        })
        .collect()
}

/// A line for each function, and how many execute more than they may.
fn compared(counts: &InstructionCounts, baseline: &InstructionCounts) -> (String, usize) {
    let (mut lines, mut worse) = (String::new(), 0);
    for (name, count) in counts {
        let verdict = match baseline.get(name) {
            None => {
                worse += 1;
                "not in the baseline".to_owned()
            }
            Some(before) => {
                let change = *count as f64 / *before as f64 - 1.0;
                let is_worse = change > TOLERANCE;
                worse += usize::from(is_worse);
                let note = match change {
                    _ if is_worse => ": TOO MANY",
                    _ if change < -TOLERANCE => ": record them with --bless",
                    _ => "",
                };
                format!("{:+.1} %{note}", change * 100.0)
            }
        };
        lines.push_str(&format!("{name:20} {count:>12} instructions, {verdict}\n"));
    }
    (lines, worse)
}

#[cfg(test)]
mod tests {
    use super::{InstructionCounts, compared, parsed, written};

    fn counts(rows: &[(&str, u64)]) -> InstructionCounts {
        rows.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn counts_are_read_as_they_were_written() {
        let counts = counts(&[("a", 5), ("b", 7)]);
        assert_eq!(parsed(&written(&counts)).expect("our own file"), counts);
    }

    #[test]
    fn what_grows_beyond_the_tolerance_fails_and_so_does_what_is_new() {
        let before = counts(&[("same", 1000), ("better", 1000), ("worse", 1000)]);
        let now = counts(&[("same", 1030), ("better", 800), ("worse", 1050), ("new", 1)]);
        let (lines, worse) = compared(&now, &before);
        assert_eq!(worse, 2, "{lines}");
        assert!(lines.contains("+5.0 %: TOO MANY") && lines.contains("--bless"), "{lines}");
    }
}
