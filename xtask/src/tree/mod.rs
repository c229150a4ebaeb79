//! A file tree as sorted lines of JSON, the common tongue of all readers that are compared.

mod directory;
mod erofs;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use directory::{from_directory, sha256_of};
pub use erofs::from_erofs;

/// One path. Bytes that are not printable ASCII are written `%XX`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedEntry {
    pub path: String,
    /// `f d l c b p s`, as find(1) has it.
    pub kind: char,
    /// Permission bits, octal.
    pub mode: String,
    pub uid: u32,
    pub gid: u32,
    /// Bytes of a regular file or of a symlink's target, else 0.
    pub size: u64,
    /// `major:minor`, empty for all but devices.
    pub rdev: String,
    /// Names of the inode; 0 for directories (file systems differ).
    pub nlink: u64,
    /// Seconds, a dot, nine digits.
    pub mtime: String,
    /// Value in hex, by full name.
    pub xattrs: BTreeMap<String, String>,
    /// SHA-256 of a regular file.
    pub sha256: String,
    /// Of a symlink.
    pub target: String,
    /// First path of the same inode, if it has several.
    pub same_as: String,
}

pub fn print(entries: &[ListedEntry]) -> Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for entry in entries {
        serde_json::to_writer(&mut out, entry)?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

pub fn read(text: &str) -> Result<Vec<ListedEntry>> {
    let mut entries: Vec<ListedEntry> =
        text.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("a tree listing")?;
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

pub fn diff_files(a: &Path, b: &Path) -> Result<()> {
    let differences = diff(&read(&fs::read_to_string(a)?)?, &read(&fs::read_to_string(b)?)?);
    for line in differences.iter().take(50) {
        println!("{line}");
    }
    if !differences.is_empty() {
        bail!("{} differences", differences.len());
    }
    Ok(())
}

/// Returns one line per path that is not equal in both.
pub fn diff(a: &[ListedEntry], b: &[ListedEntry]) -> Vec<String> {
    let (a, b) = (by_path(a), by_path(b));
    let mut lines = Vec::new();
    for (path, left) in &a {
        match b.get(path) {
            None => lines.push(format!("- {path}")),
            Some(right) if left != right => lines.push(format!("! {path}: {}", changes(left, right))),
            Some(_) => {}
        }
    }
    lines.extend(b.keys().filter(|path| !a.contains_key(*path)).map(|path| format!("+ {path}")));
    lines
}

fn by_path(entries: &[ListedEntry]) -> BTreeMap<&str, &ListedEntry> {
    entries.iter().map(|entry| (entry.path.as_str(), entry)).collect()
}

fn changes(left: &ListedEntry, right: &ListedEntry) -> String {
    let fields = |entry: &ListedEntry| serde_json::to_value(entry).unwrap_or_default();
    let (left, right) = (fields(left), fields(right));
    let mut text = String::new();
    for (name, value) in left.as_object().into_iter().flatten() {
        if right.get(name) != Some(value) {
            text += &format!("{name} {value} != {} ", right.get(name).unwrap_or(&serde_json::Value::Null));
        }
    }
    text
}

/// Writes the bytes of a name as text that no reader can take for another name.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'%' | 0..=0x20 | 0x7f.. => text += &format!("%{byte:02X}"),
            _ => text.push(char::from(*byte)),
        }
    }
    text
}

/// The opposite of [`escape`].
pub fn unescape(text: &str) -> Vec<u8> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at(2.min(part.len()));
        bytes.push(u8::from_str_radix(code, 16).unwrap_or(b'%'));
        bytes.extend_from_slice(rest.as_bytes());
    }
    bytes
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of a file's bytes, whatever reads them.
fn hash(mut file: impl Read) -> Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            length => hasher.update(&buffer[..length]),
        }
    }
}

/// Fills in `same_as` from inode numbers and sorts by path.
fn finish(mut entries: Vec<(ListedEntry, u64)>) -> Vec<ListedEntry> {
    entries.sort_by(|a, b| a.0.path.cmp(&b.0.path));
    let mut first: BTreeMap<u64, String> = BTreeMap::new();
    for (entry, inode) in &mut entries {
        if entry.kind != 'd' && entry.nlink > 1 {
            entry.same_as = first.entry(*inode).or_insert_with(|| entry.path.clone()).clone();
        }
    }
    entries.into_iter().map(|(entry, _)| entry).collect()
}
