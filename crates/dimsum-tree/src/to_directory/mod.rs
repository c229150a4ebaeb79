//! From a tree to files on disk.
//!
//! There are two walks. The first makes every name. The second gives directories their attributes from the leaves up. A
//! read-only directory could not be filled, and each new name changes the time of its directory.
//!
//! The target must be empty. Everything is made in directories that this walk has made itself. Each is opened from the
//! one above by one name, and no symbolic link is followed. So no tree can touch a file outside the target. Until the
//! second walk only the owner can enter them.

mod attributes;
mod walk;

use std::collections::HashMap;
use std::fs::File as StdFile;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{self, AtFlags, CWD, Dir, FileType as NodeType, Mode, OFlags};
use rustix::io::Errno;

use self::attributes::Attributes;
use self::walk::{DIRECTORY, Visit, open_below, walk};
use crate::contents::{ContentCopier, ContentFile, ContentSource};
use crate::error::{EntryFault, TreeError, WriteError};
use crate::to_tar::{Omission, OmittedEntries};
use crate::tree::Tree;
use crate::types::{FileType, InodeId};

/// Only we: until its attributes are set.
const PRIVATE: Mode = Mode::RWXU;

/// Who owns the files.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Owners {
    /// Those that the tree names. Takes the rights of root, or a tree with files of the caller's only.
    #[default]
    Keep,
    /// The caller. Set-user-id and set-group-id bits of files are dropped with the owners they meant. Device nodes and
    /// xattrs that only root may set are left out and reported.
    Mine,
}

/// Writes a merged tree into an empty directory, which is made if it is not there, and returns the left-out entries.
///
/// Holes stay holes. Nothing is synced. After an error the directory holds the files made so far, and only its owner
/// can enter it.
///
/// # Errors
///
/// If the directory is not empty. If content cannot be read or has another length than in the tree. If the tree hides a
/// name of a lower one. If a name cannot be written or given to its owner; the error has the name.
pub fn to_directory<C: ContentSource>(
    tree: &Tree,
    contents: &mut C,
    path: &Path,
    owners: Owners,
) -> Result<OmittedEntries, WriteError<C::Error>> {
    let root = prepare(path)?;
    let mut writer = DirectoryWriter {
        tree,
        contents,
        root: &root,
        copier: ContentCopier::new(),
        links: HashMap::new(),
        attributes: Attributes { tree, owners, left_out: OmittedEntries::default() },
    };
    if tree.inode(InodeId::ROOT).is_opaque() {
        return Err(TreeError::entry(&[][..], EntryFault::NotMerged).into());
    }
    walk(tree, &root, |visit| match visit {
        Visit::Name { directory, name, id, path } => writer.make(directory, name, id, path),
        Visit::Done { .. } => Ok(()),
    })?;
    let mut attributes = writer.attributes;
    walk(tree, &root, |visit| match visit {
        Visit::Name { .. } => Ok(()),
        Visit::Done { directory, id, path } => attributes.of_fd(directory, id, path),
    })?;
    Ok(attributes.left_out)
}

/// Opens the target, which must be empty.
fn prepare(path: &Path) -> Result<OwnedFd, TreeError> {
    let failed = |error| TreeError::File { path: (&[][..]).into(), source: io::Error::from(error) };
    match fs::mkdirat(CWD, path, PRIVATE) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(failed(error)),
    }
    let root = fs::open(path, DIRECTORY, Mode::empty()).map_err(failed)?;
    for entry in Dir::read_from(&root).map_err(failed)? {
        if !matches!(entry.map_err(failed)?.file_name().to_bytes(), b"." | b"..") {
            return Err(TreeError::entry(&[][..], EntryFault::NotEmpty));
        }
    }
    fs::fchmod(&root, PRIVATE).map_err(failed)?;
    Ok(root)
}

struct DirectoryWriter<'w, C> {
    tree: &'w Tree,
    contents: &'w mut C,
    root: &'w OwnedFd,
    copier: ContentCopier,
    /// First paths of files with more names than one.
    links: HashMap<InodeId, Vec<u8>>,
    attributes: Attributes<'w>,
}

impl<C: ContentSource> DirectoryWriter<'_, C> {
    /// Makes one name.
    fn make(&mut self, directory: &OwnedFd, name: &[u8], id: InodeId, path: &[u8]) -> Result<(), WriteError<C::Error>> {
        let failed = |error| output(path, error);
        let tree = self.tree;
        let inode = tree.inode(id);
        if inode.is_whiteout() || inode.is_opaque() {
            return Err(TreeError::entry(path, EntryFault::NotMerged).into());
        }
        if let Some(first) = self.links.get(&id) {
            return self.link(first, directory, name).map_err(failed);
        }
        let node = match inode.file_type() {
            FileType::Directory => return fs::mkdirat(directory, name, PRIVATE).map_err(failed),
            FileType::Regular => {
                self.file(directory, name, id, path)?;
                None
            }
            FileType::Symlink => {
                fs::symlinkat(tree.symlink_target(id), directory, name).map_err(failed)?;
                self.attributes.of_name(directory, name, id, path)?;
                None
            }
            FileType::CharDevice => Some(NodeType::CharacterDevice),
            FileType::BlockDevice => Some(NodeType::BlockDevice),
            FileType::Fifo => Some(NodeType::Fifo),
            FileType::Socket => Some(NodeType::Socket),
        };
        if let Some(node) = node {
            let device = fs::makedev(inode.rdev().major, inode.rdev().minor);
            match fs::mknodat(directory, name, node, PRIVATE, device) {
                Ok(()) => self.attributes.of_name(directory, name, id, path)?,
                Err(Errno::PERM) if self.attributes.owners == Owners::Mine => {
                    self.attributes.left_out.add(path, Omission::Device);
                    return Ok(());
                }
                Err(error) => return Err(failed(error)),
            }
        }
        if inode.nlink() > 1 {
            self.links.insert(id, path.to_vec());
        }
        Ok(())
    }

    /// Makes one more name of what `first` is.
    fn link(&self, first: &[u8], directory: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
        let (parent, last) = match first.iter().rposition(|&byte| byte == b'/') {
            Some(at) => (first.get(..at).unwrap_or_default(), first.get(at + 1..).unwrap_or_default()),
            None => (&[][..], first),
        };
        // Not the symbolic link's target, but the link itself.
        fs::linkat(open_below(self.root, parent)?, last, directory, name, AtFlags::empty())
    }

    fn file(&mut self, directory: &OwnedFd, name: &[u8], id: InodeId, path: &[u8]) -> Result<(), WriteError<C::Error>> {
        let failed = |source| WriteError::Output { path: path.into(), source };
        let inode = self.tree.inode(id);
        let Some(content) = inode.content() else { return Ok(()) };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR).map_err(|error| output(path, error))?;
        let disk = StdFile::from(fd);
        let file = ContentFile { path, content, size: inode.size() };
        let mut end = 0;
        while let Some(data) = file.next_data(self.contents, end)? {
            let mut at = data.start;
            end = data.end;
            self.copier.copy(self.contents, &file, data, |bytes| {
                disk.write_all_at(bytes, at).map_err(failed)?;
                at += bytes.len() as u64;
                Ok(())
            })?;
        }
        self.copier.end(self.contents, &file)?;
        if end < file.size {
            disk.set_len(file.size).map_err(failed)?;
        }
        self.attributes.of_fd(&OwnedFd::from(disk), id, path)
    }
}

fn output<E>(path: &[u8], error: Errno) -> WriteError<E> {
    WriteError::Output { path: path.into(), source: io::Error::from(error) }
}
