//! Rules of the house that no compiler checks: crate arrows, import circles, type names, line budgets, long
//! sentences.
//!
//! Each rule returns its findings as lines. No line means that the rule holds.

mod arrows;
mod circles;
mod edges;
mod lines;
mod names;
mod rust;
mod words;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::dimsum::workspace;

/// A rule: its name on the command line, the check, and one line that says what holds when nothing is found.
type Rule = (&'static str, fn() -> Result<Vec<String>>, &'static str);

const RULES: &[Rule] = &[
    ("edges", edges::check, "crates use only crates that the table of arrows allows"),
    ("circles", circles::check, "no import circle is larger than allowed"),
    ("names", names::check, "no two types have one name"),
    ("lines", lines::check, "files and crates stay within their lines"),
    ("words", words::check, "no crate has more long sentences in comments than it may"),
];

/// Checks the rule of this name, or all of them.
pub fn run(only: Option<&str>) -> Result<()> {
    let mut broken = 0;
    for (name, check, holds) in RULES.iter().filter(|rule| only.is_none_or(|only| only == rule.0)) {
        let findings = check().with_context(|| format!("cannot check the rule {name}"))?;
        broken += findings.len();
        for finding in &findings {
            println!("{name}: {finding}");
        }
        if findings.is_empty() {
            println!("{name}: {holds}");
        }
    }
    if broken > 0 {
        bail!("{broken} rules of the house are broken");
    }
    Ok(())
}

/// The source directories that the rules read, with the names of their crates: everything that is shipped, and xtask.
fn crates() -> Result<Vec<(String, PathBuf)>> {
    let root = workspace();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root.join("crates"))? {
        let directory = entry?.path();
        if directory.join("src").is_dir() {
            let name = directory.file_name().context("a crate's directory has a name")?;
            found.push((name.to_string_lossy().into_owned(), directory.join("src")));
        }
    }
    found.push(("xtask".to_owned(), root.join("xtask/src")));
    found.sort();
    Ok(found)
}

/// A path as it is written in the repository.
fn shown(path: &Path) -> String {
    path.strip_prefix(workspace()).unwrap_or(path).display().to_string()
}
