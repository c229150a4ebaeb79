//! Skips that somebody sees.
//!
//! A test that cannot run on this machine ends without a failure, and the test harness counts it as passed. So each
//! skip writes one line, `TEST: REASON`, to the file that the variable `DIMSUM_SKIPS` names. The command that runs all
//! tests prints them last, with their number. With `CI=true` a skip is a failure: there every test must run.

use std::env;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

/// The variable that names the file of skips.
pub const SKIPS_VARIABLE: &str = "DIMSUM_SKIPS";

/// Skips the calling test, which returns right after: `needs` says what this machine lacks.
///
/// # Panics
/// With `CI=true`, or if the file of skips cannot be written.
#[track_caller]
pub fn skip(needs: &str) {
    let test = test_name();
    assert!(env::var_os("CI").is_none_or(|value| value != "true"), "{test}: CI must have {needs}");
    skip_anywhere(needs);
}

/// Skips the calling test on every machine, CI too: what it needs is not there to be had everywhere.
///
/// # Panics
/// If the file of skips cannot be written.
pub fn skip_anywhere(needs: &str) {
    println!("skipped: needs {needs}");
    if let Some(file) = env::var_os(SKIPS_VARIABLE) {
        record(Path::new(&file), &test_name(), needs).expect("the file of skips can be written");
    }
}

/// Returns whether this process is root; skips the calling test if not.
#[must_use]
#[track_caller]
pub fn root_or_skip() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip("root");
    }
    root
}

/// Returns whether a program starts with the argument `--version`, whatever it answers; skips the calling test if not.
#[must_use]
#[track_caller]
pub fn program_or_skip(program: &str) -> bool {
    let started = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !started {
        skip(program);
    }
    started
}

/// Returns whether a file, directory or device is there; skips the calling test if not.
#[must_use]
#[track_caller]
pub fn path_or_skip(path: impl AsRef<Path>) -> bool {
    let path = path.as_ref();
    let exists = path.exists();
    if !exists {
        skip(&path.display().to_string());
    }
    exists
}

/// Appends one line. Tests of several processes write to the same file: a line is one `write` at its end.
fn record(file: &Path, test: &str, needs: &str) -> io::Result<()> {
    let line = format!("{test}: needs {}\n", needs.replace('\n', " "));
    OpenOptions::new().append(true).create(true).open(file)?.write_all(line.as_bytes())
}

/// Returns the name of the calling test: its program, and its thread, which the test harness names.
fn test_name() -> String {
    let program = env::current_exe().ok();
    let program = program.as_deref().and_then(Path::file_stem).unwrap_or_default().to_string_lossy().into_owned();
    // Cargo appends a hash.
    let program = program.rsplit_once('-').map_or(&*program, |(name, _hash)| name);
    format!("{program} {}", thread::current().name().unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_skip_is_one_line_with_the_tests_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("skips");
        record(&file, &test_name(), "root").unwrap();
        record(&file, "other", "two\nlines").unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let expected = "dimsum_testing skips::tests::each_skip_is_one_line_with_the_tests_name: needs root\nother: needs two lines\n";
        assert_eq!(text, expected);
    }
}
