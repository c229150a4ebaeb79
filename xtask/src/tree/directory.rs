//! Listing through the kernel: whatever is mounted.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};

use super::{ListedEntry, escape, finish, hash, hex, unescape};

pub fn from_directory(root: &Path) -> Result<Vec<ListedEntry>> {
    let mut entries = Vec::new();
    let mut pending = vec![Vec::new()];
    while let Some(relative) = pending.pop() {
        let path = root.join(OsStr::from_bytes(&relative));
        let metadata = fs::symlink_metadata(&path).with_context(|| path.display().to_string())?;
        if metadata.is_dir() {
            for child in fs::read_dir(&path).with_context(|| path.display().to_string())? {
                let name = child?.file_name();
                let slash: &[u8] = if relative.is_empty() { b"" } else { b"/" };
                pending.push([&relative, slash, name.as_bytes()].concat());
            }
        }
        let entry = entry(&path, &relative, &metadata).with_context(|| path.display().to_string())?;
        entries.push((entry, metadata.ino()));
    }
    Ok(finish(entries))
}

fn entry(path: &Path, relative: &[u8], metadata: &Metadata) -> Result<ListedEntry> {
    let kind = kind(metadata);
    let device = matches!(kind, 'c' | 'b');
    let rdev = metadata.rdev();
    let target = if kind == 'l' { escape(fs::read_link(path)?.as_os_str().as_bytes()) } else { String::new() };
    Ok(ListedEntry {
        path: escape(relative),
        kind,
        mode: format!("{:04o}", metadata.mode() & 0o7777),
        uid: metadata.uid(),
        gid: metadata.gid(),
        size: if matches!(kind, 'f' | 'l') { metadata.size() } else { 0 },
        rdev: if device { format!("{}:{}", rustix::fs::major(rdev), rustix::fs::minor(rdev)) } else { String::new() },
        nlink: if kind == 'd' { 0 } else { metadata.nlink() },
        mtime: format!("{}.{:09}", metadata.mtime(), metadata.mtime_nsec()),
        xattrs: xattrs(path)?,
        sha256: if kind == 'f' { sha256(path)? } else { String::new() },
        target,
        same_as: String::new(),
    })
}

fn kind(metadata: &Metadata) -> char {
    let file_type = metadata.file_type();
    match () {
        () if file_type.is_file() => 'f',
        () if file_type.is_dir() => 'd',
        () if file_type.is_symlink() => 'l',
        () if file_type.is_char_device() => 'c',
        () if file_type.is_block_device() => 'b',
        () if file_type.is_fifo() => 'p',
        () => 's',
    }
}

fn xattrs(path: &Path) -> Result<BTreeMap<String, String>> {
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(path, names.as_mut_slice())?;
    let mut xattrs = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice())?;
        xattrs.insert(escape(name), hex(&value[..length]));
    }
    Ok(xattrs)
}

/// Hashes one file of a listing.
pub fn sha256_of(root: &Path, escaped: &str) -> Result<String> {
    sha256(&root.join(OsStr::from_bytes(&unescape(escaped))))
}

fn sha256(path: &Path) -> Result<String> {
    hash(fs::File::open(path)?)
}
