//! Licences and bans, from `cargo tree` alone: works without a network and without another tool.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::dimsum::workspace;

/// Licences that ask for nothing but notice. A package needs one of them in each of its AND parts.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates that must not come in, and why.
const BANNED: &[(&str, &str)] = &[
    ("openssl", "rustls with aws-lc-rs"),
    ("openssl-sys", "rustls with aws-lc-rs"),
    ("native-tls", "rustls with aws-lc-rs"),
    ("ring", "one crypto provider: aws-lc-rs"),
    ("tar", "tar-core parses without I/O and with limits"),
    ("tokio-tar", "unmaintained"),
    ("lazy_static", "a context is passed"),
    ("ruzstd", "100 times slower than libzstd"),
];

pub fn run() -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // The tree has what is built; the lock file and its metadata also name packages that no feature turns on.
    let output = Command::new(cargo)
        .args([
            "tree",
            "--workspace",
            "--locked",
            "--target",
            "x86_64-unknown-linux-gnu",
            "--edges",
            "normal,build,dev",
        ])
        .args(["--prefix", "none", "--no-dedupe", "--format", "{p}|{l}"])
        .current_dir(workspace())
        .output()?;
    ensure!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let output = String::from_utf8(output.stdout)?;
    let packages: BTreeSet<_> = output.lines().filter(|line| !line.is_empty()).collect();
    let mut problems = Vec::new();
    for package in &packages {
        let (package, licence) = package.rsplit_once('|').context("a line without a licence")?;
        let name = package.split(' ').next().unwrap_or_default();
        if let Some((_, instead)) = BANNED.iter().find(|(banned, _)| *banned == name) {
            problems.push(format!("{name} is banned: {instead}"));
        }
        if !allowed(licence) {
            problems.push(format!("{name}: licence {licence:?}"));
        }
    }
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    println!("{} packages: licences allowed, none banned", packages.len());
    Ok(())
}

/// `A OR B` needs one, `A AND B` each; one level of parentheses, as crates write it.
fn allowed(expression: &str) -> bool {
    let plain = expression.replace('/', " OR ");
    split(&plain, " AND ").iter().all(|part| {
        let part = part.trim();
        let inner = part.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        match inner {
            Some(inner) => allowed(inner),
            None => split(part, " OR ").iter().any(|word| {
                let word = word.trim();
                word.strip_prefix('(')
                    .and_then(|rest| rest.strip_suffix(')'))
                    .map_or_else(|| ALLOWED.contains(&word), allowed)
            }),
        }
    })
}

/// Splits outside parentheses.
fn split<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ if depth == 0 && at >= start && text[at..].starts_with(separator) => {
                parts.push(&text[start..at]);
                start = at + separator.len();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn each_part_of_a_licence_needs_an_allowed_word() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "GPL-2.0 OR MIT",
            "MIT OR (Apache-2.0 AND ISC)",
        ] {
            assert!(allowed(good), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "none", "(MIT OR ISC) AND MPL-2.0"] {
            assert!(!allowed(bad), "{bad}");
        }
    }
}
