//! Listing an EROFS image through the `erofs-rs` crate: a reader that shares no code with ours.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use erofs_rs::EroFS;
use erofs_rs::backend::SliceImage;
use erofs_rs::types::Inode;

use super::{ListedEntry, escape, finish, hash, hex};

pub fn from_erofs(file: &Path) -> Result<Vec<ListedEntry>> {
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    let image = EroFS::new(SliceImage::new(&bytes))?;
    let root = image.get_inode(image.super_block().root_inode_id())?;
    let mut entries = vec![(entry(&image, root, b"")?, root.id())];
    for found in image.walk_dir("/")? {
        let found = found?;
        let path = found.dir_entry.path();
        let path = path.as_bytes();
        let relative = path.strip_prefix(b"/").unwrap_or(path);
        entries.push((entry(&image, found.inode, relative)?, found.inode.id()));
    }
    Ok(finish(entries))
}

fn entry(image: &EroFS<SliceImage<'_>>, inode: Inode, relative: &[u8]) -> Result<ListedEntry> {
    let text = format!("{:?}", inode.file_type());
    let kind = match text.as_str() {
        "RegularFile" | "File" => 'f',
        "Directory" => 'd',
        "Symlink" => 'l',
        "CharacterDevice" | "CharDevice" => 'c',
        "BlockDevice" => 'b',
        "Fifo" => 'p',
        "Socket" => 's',
        other => anyhow::bail!("unknown file type {other}"),
    };
    let target = if kind == 'l' { escape(image.read_link_inode(inode)?.as_bytes()) } else { String::new() };
    let xattrs: BTreeMap<String, String> =
        image.xattrs_inode(inode)?.iter().map(|(name, value)| (escape(name), hex(value))).collect();
    let (seconds, nanoseconds) = inode.modified_unix();
    Ok(ListedEntry {
        path: escape(relative),
        kind,
        mode: format!("{:04o}", inode.permissions().mode() & 0o7777),
        uid: inode.uid(),
        gid: inode.gid(),
        size: if matches!(kind, 'f' | 'l') { inode.data_size() } else { 0 },
        rdev: inode.device().map(|(major, minor)| format!("{major}:{minor}")).unwrap_or_default(),
        nlink: if kind == 'd' { 0 } else { inode.nlink().into() },
        mtime: format!("{seconds}.{nanoseconds:09}"),
        xattrs,
        sha256: if kind == 'f' { hash(image.open_inode_file(inode)?)? } else { String::new() },
        target,
        same_as: String::new(),
    })
}
