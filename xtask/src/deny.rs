//! The licences and bans of `deny.toml`, by `cargo tree` alone: needs no network and no other tool.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use toml_edit::{Document, Item, Value};

use crate::dimsum::workspace;

/// What `cargo tree` writes behind a package whose dependencies stand above it already, `--no-dedupe` or not.
const CIRCLE: &str = " (*)";

/// What `deny.toml` says: cargo-deny reads the same file.
#[derive(Debug)]
struct Decisions {
    /// Licences; a package needs one of them in each of its AND parts.
    allowed: Vec<String>,
    /// Crates that must not come in, and why.
    banned: Vec<(String, String)>,
}

impl Decisions {
    fn parse(text: &str) -> Result<Self> {
        let document: Document<_> = Document::parse(text)?;
        let list = |table: &str, key: &str| {
            let found = document.get(table).and_then(|table| table.get(key)).and_then(Item::as_array).cloned();
            found.with_context(|| format!("deny.toml has no list {key} in [{table}]"))
        };
        let allowed = list("licenses", "allow")?.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let mut banned = Vec::new();
        for entry in &list("bans", "deny")? {
            let field = |name: &str| {
                let value = entry.as_inline_table().and_then(|table| table.get(name)).and_then(Value::as_str);
                value.map(str::to_owned).with_context(|| format!("a ban without {name}"))
            };
            banned.push((field("crate")?, field("reason")?));
        }
        Ok(Self { allowed, banned })
    }
}

pub fn run() -> Result<()> {
    let decisions = Decisions::parse(&std::fs::read_to_string(workspace().join("deny.toml"))?)?;
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
    let packages = packages(&output);
    let mut problems = Vec::new();
    for package in &packages {
        let (package, licence) = package.rsplit_once('|').context("a line without a licence")?;
        let name = package.split(' ').next().unwrap_or_default();
        if let Some((_, reason)) = decisions.banned.iter().find(|(banned, _)| *banned == name) {
            problems.push(format!("{name} is banned: {reason}"));
        }
        if !allowed(licence, &decisions.allowed) {
            problems.push(format!("{name}: licence {licence:?}"));
        }
    }
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    println!("{} packages: licences allowed, none banned", packages.len());
    Ok(())
}

/// Reads the lines of the tree. A crate that tests itself through another one stands there again, marked as a circle.
fn packages(tree: &str) -> BTreeSet<&str> {
    tree.lines().map(|line| line.strip_suffix(CIRCLE).unwrap_or(line)).filter(|line| !line.is_empty()).collect()
}

/// `A OR B` needs one, `A AND B` each; one level of parentheses, as crates write it.
fn allowed(expression: &str, words: &[String]) -> bool {
    let plain = expression.replace('/', " OR ");
    let inside = |part: &str| part.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).map(str::to_owned);
    split(&plain, " AND ").iter().all(|part| match inside(part.trim()) {
        Some(part) => allowed(&part, words),
        None => split(part, " OR ").iter().any(|word| match inside(word.trim()) {
            Some(word) => allowed(&word, words),
            None => words.iter().any(|allowed| allowed == word.trim()),
        }),
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
    use super::{Decisions, allowed, packages};

    #[test]
    fn a_package_that_stands_twice_is_read_once_and_its_licence_is_whole() {
        let tree = "a v1.0|Apache-2.0\n\nb v1.0|MIT OR ISC\na v1.0|Apache-2.0 (*)\n";
        assert_eq!(packages(tree).into_iter().collect::<Vec<_>>(), ["a v1.0|Apache-2.0", "b v1.0|MIT OR ISC"]);
    }

    #[test]
    fn each_part_of_a_licence_needs_an_allowed_word() {
        let words = ["MIT", "Apache-2.0", "Unicode-3.0", "ISC"].map(str::to_owned);
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "GPL-2.0 OR MIT",
            "MIT OR (Apache-2.0 AND ISC)",
        ] {
            assert!(allowed(good, &words), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "none", "(MIT OR ISC) AND MPL-2.0"] {
            assert!(!allowed(bad, &words), "{bad}");
        }
    }

    #[test]
    fn the_file_of_decisions_bans_other_tls() {
        let decisions = Decisions::parse(include_str!("../../deny.toml")).expect("our own file");
        for name in ["openssl", "native-tls"] {
            assert!(decisions.banned.iter().any(|(banned, _)| banned == name), "{name}");
        }
        assert!(!decisions.allowed.iter().any(|word| word.contains("GPL")));
    }
}
