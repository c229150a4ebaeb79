//! Reference trees: images unpacked by programs that are not ours.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::layout::{self, CorpusLayout};
use crate::dimsum::tool;
use crate::tree::{self, ListedEntry};

/// The tree that GNU tar unpacks.
pub fn gnu_tar(source: &CorpusLayout, directory: &Path) -> Result<Vec<ListedEntry>> {
    unpack(source, directory)?;
    let entries = tree::from_directory(directory)?;
    fs::remove_dir_all(directory)?;
    Ok(entries)
}

/// Unpacks by GNU tar, layer by layer; deletions as the OCI image specification has them.
pub fn unpack(source: &CorpusLayout, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    let tar = directory.with_extension("tar");
    let mut root_is_named = false;
    for layer in source.layers() {
        layout::decompress(&layer, &tar)?;
        root_is_named |= apply_whiteouts(&tar, directory)?;
        let status = Command::new("tar")
            .args(["--numeric-owner", "--xattrs", "--xattrs-include=*", "--exclude=.wh.*", "-xpf"])
            .arg(&tar)
            .arg("-C")
            .arg(directory)
            .status()?;
        ensure!(status.success(), "tar {}: {status}", layer.display());
    }
    fs::remove_file(&tar)?;
    if !root_is_named {
        // An extractor leaves the root as it found it; the format says mtime 0.
        fs::File::open(directory)?.set_modified(std::time::UNIX_EPOCH)?;
    }
    Ok(())
}

/// Returns whether the tar has an entry for the root itself.
fn apply_whiteouts(tar: &Path, root: &Path) -> Result<bool> {
    let output = Command::new("tar").args(["--quoting-style=literal", "-tf"]).arg(tar).output()?;
    ensure!(output.status.success(), "tar -t: {}", String::from_utf8_lossy(&output.stderr));
    let mut names_root = false;
    for name in output.stdout.split(|byte| *byte == b'\n') {
        names_root |= name == b"./" || name == b".";
        let path = Path::new(OsStr::from_bytes(name));
        let (Some(last), Some(parent)) = (path.file_name(), path.parent()) else { continue };
        let Some(hidden) = last.as_bytes().strip_prefix(b".wh.") else {
            // tar does not replace a directory by something else unless it empties every directory that it meets.
            let over = root.join(path);
            if !name.ends_with(b"/") && over.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
                remove(&over)?;
            }
            continue;
        };
        let parent = root.join(parent);
        if hidden == b".wh..opq" {
            for child in fs::read_dir(&parent).into_iter().flatten() {
                remove(&child?.path())?;
            }
        } else {
            remove(&parent.join(OsString::from_vec(hidden.to_vec())))?;
        }
    }
    Ok(names_root)
}

fn remove(path: &Path) -> Result<()> {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    }
    .with_context(|| path.display().to_string())
}

/// umoci; it knows no GNU sparse entries.
pub fn umoci(source: &CorpusLayout, directory: &Path) -> Result<Vec<ListedEntry>> {
    let alias = source.alias(&directory.with_extension("layout"), "image")?;
    let image = format!("{}:{}", alias.directory.display(), alias.tag);
    let unpacked = tool("umoci", &["raw", "unpack", "--image", &image, &directory.to_string_lossy()]);
    fs::remove_dir_all(alias.directory)?;
    let entries = unpacked.and_then(|_| tree::from_directory(directory));
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    entries
}
