//! Lines: a file can be read at a sitting, and the command line holds no product.

use std::fs;

use anyhow::Result;

use super::shown;
use crate::demo::files;
use crate::dimsum::workspace;

/// Lines of a Rust file, tests included: more are two files.
const MAX_FILE: usize = 800;

/// Lines of the command line without its views: arguments, text, exit status. Logic belongs into the engine.
const MAX_COMMAND_LINE: usize = 5_000;
/// HTML and SVG pages of the command line: text of its own, which does not count.
const VIEWS: &str = "crates/dimsum/src/views/";

pub fn check() -> Result<Vec<String>> {
    let mut findings = Vec::new();
    let mut command_line = 0;
    for directory in ["crates", "xtask/src", "fuzz/fuzz_targets"] {
        for file in files(&workspace().join(directory))? {
            if file.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let (name, lines) = (shown(&file), fs::read_to_string(&file)?.lines().count());
            if lines > MAX_FILE {
                findings.push(format!("{name} has {lines} lines, more than {MAX_FILE}"));
            }
            if name.starts_with("crates/dimsum/src/") && !name.starts_with(VIEWS) {
                command_line += lines;
            }
        }
    }
    if command_line > MAX_COMMAND_LINE {
        findings.push(format!("the command line has {command_line} lines without views, more than {MAX_COMMAND_LINE}"));
    }
    Ok(findings)
}
