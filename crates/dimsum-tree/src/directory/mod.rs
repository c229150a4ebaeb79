//! Reads a directory on disk into a tree: each file once, in path order.
//!
//! Nothing is opened by a path of more than one name. Every step goes from an open directory and follows no
//! symbolic link, and the opened file must be the file that was looked at before. If the directory changes
//! meanwhile, the result is an error that names the changed entry, not a tree that never existed. The number of
//! open directories is bounded: directories high above are closed and found again through `..`, which must lead
//! back to the same inode.

mod content;
mod xattrs;

use std::collections::HashMap;
use std::io;
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{self, AtFlags, Dir, Mode, OFlags, Stat};

use crate::builder::{NodeId, TreeBuilder};
use crate::error::{EntryFault, LayerReadError, TreeError};
use crate::layer::LayerTree;
use crate::limits::{MAX_DEPTH, MAX_ENTRIES, MAX_PATH};
use crate::policy::{LayerReport, Policy};
use crate::sink::ContentSink;
use crate::types::{DeviceNumber, FileType, Metadata, NodeKind, Timestamp, Xattr};

/// Directories held open at a time: far below the usual limit of 1,024 files for a process.
const MAX_OPEN: usize = 64;

/// Reads a directory and all below it. The result has no whiteouts; a character device 0:0 or an xattr of
/// overlayfs is treated as `policy` says.
///
/// Xattrs `trusted.*` are seen by root only. Mounts below are crossed.
///
/// # Errors
///
/// Something cannot be read, is refused, or changes meanwhile (the error names it), or the sink fails.
pub fn read_directory<S: ContentSink>(
    path: &Path,
    sink: &mut S,
    policy: Policy,
) -> Result<LayerTree, LayerReadError<S::Error>> {
    let mut reader = DirectoryReader {
        builder: TreeBuilder::new(),
        sink,
        policy,
        report: LayerReport::default(),
        path: Vec::new(),
        links: HashMap::new(),
        content: content::FileCopier::new(),
    };
    let root = fs::open(path, DIRECTORY, Mode::empty()).map_err(|error| reader.io(error))?;
    reader.root(root)?;
    let tree = reader.builder.finish()?;
    Ok(LayerTree { tree, report: reader.report })
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

/// A directory on the way down.
struct ReadLevel {
    /// None while too many are open.
    fd: Option<OwnedFd>,
    stat: Stat,
    node: NodeId,
    /// Names still to read, the next one last.
    names: Vec<Vec<u8>>,
    /// Length of the path up to here.
    path_length: usize,
}

struct DirectoryReader<'s, S> {
    builder: TreeBuilder,
    sink: &'s mut S,
    policy: Policy,
    report: LayerReport,
    /// Of what is being read.
    path: Vec<u8>,
    /// Files with more than one name, by device and inode.
    links: HashMap<(u64, u64), NodeId>,
    content: content::FileCopier,
}

impl<S: ContentSink> DirectoryReader<'_, S> {
    fn root(&mut self, fd: OwnedFd) -> Result<(), LayerReadError<S::Error>> {
        let stat = fs::fstat(&fd).map_err(|error| self.io(error))?;
        let xattrs =
            self.xattrs(FileType::Directory, |path| xattrs::of_fd(&fd).map_err(|error| io_error(path, error)))?;
        let metadata = metadata(&stat, &xattrs);
        self.builder.set_metadata(TreeBuilder::ROOT, &metadata).map_err(|fault| self.fault(fault))?;
        let mut levels = vec![self.level(fd, stat, TreeBuilder::ROOT)?];
        while let Some(level) = levels.last_mut() {
            self.path.truncate(level.path_length);
            let Some(name) = level.names.pop() else {
                self.leave(&mut levels)?;
                continue;
            };
            if let Some(below) = self.entry(level, &name)? {
                levels.push(below);
                if let Some(above) = levels.len().checked_sub(MAX_OPEN + 1).and_then(|row| levels.get_mut(row)) {
                    above.fd = None;
                }
            }
        }
        Ok(())
    }

    /// Starts a directory: its names in order.
    fn level(&self, fd: OwnedFd, stat: Stat, node: NodeId) -> Result<ReadLevel, TreeError> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&fd).map_err(|error| self.io(error))? {
            let entry = entry.map_err(|error| self.io(error))?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if names.len() >= MAX_ENTRIES {
                return Err(self.fault(EntryFault::TreeTooLarge { what: "names", limit: MAX_ENTRIES }));
            }
            names.push(name.to_vec());
        }
        names.sort_unstable_by(|a, b| b.cmp(a));
        Ok(ReadLevel { fd: Some(fd), stat, node, names, path_length: self.path.len() })
    }

    /// Ends the last directory: nothing may have changed in it, and the one above must be open again.
    fn leave(&self, levels: &mut Vec<ReadLevel>) -> Result<(), TreeError> {
        let Some(ReadLevel { fd: Some(fd), stat, .. }) = levels.pop() else { return Ok(()) };
        let now = fs::fstat(&fd).map_err(|error| self.io(error))?;
        if !same_state(&stat, &now) {
            return Err(self.fault(EntryFault::Changed));
        }
        if let Some(above) = levels.last_mut().filter(|above| above.fd.is_none()) {
            let found = fs::openat(&fd, c"..", DIRECTORY, Mode::empty()).map_err(|error| self.io(error))?;
            let now = fs::fstat(&found).map_err(|error| self.io(error))?;
            if !same_file(&above.stat, &now) {
                return Err(self.fault(EntryFault::Changed));
            }
            above.fd = Some(found);
        }
        Ok(())
    }

    /// Reads one name; returns the directory to go on with if it is one.
    fn entry(&mut self, level: &ReadLevel, name: &[u8]) -> Result<Option<ReadLevel>, LayerReadError<S::Error>> {
        let directory = level.fd.as_ref().expect("the last level is open");
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        self.report.entries += 1;
        if self.path.len() > MAX_PATH {
            return Err(self.fault(EntryFault::PathTooLong { length: self.path.len() }).into());
        }
        let stat = fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| self.io(error))?;
        let file_type = FileType::from_mode(stat.st_mode).ok_or_else(|| self.fault(EntryFault::UnknownFileType))?;
        if file_type != FileType::Directory
            && stat.st_nlink > 1
            && let Some(&node) = self.links.get(&(stat.st_dev, stat.st_ino))
        {
            self.builder.link(level.node, name, node).map_err(|fault| self.fault(fault))?;
            return Ok(None);
        }
        if file_type == FileType::CharDevice && stat.st_rdev == 0 {
            self.policy
                .device_zero(&self.path, &mut self.report)
                .map_err(|fault| TreeError::entry(self.path.as_slice(), fault))?;
            return Ok(None);
        }
        let opened = match file_type {
            FileType::Regular => Some(self.open(directory, name, &stat, OFlags::empty())?),
            FileType::Directory => Some(self.open(directory, name, &stat, OFlags::DIRECTORY)?),
            _ => None,
        };
        let xattrs = self.xattrs(file_type, |path| {
            match &opened {
                Some(fd) => xattrs::of_fd(fd),
                None => xattrs::of_name(directory, name),
            }
            .map_err(|error| io_error(path, error))
        })?;
        let metadata = metadata(&stat, &xattrs);
        let target;
        let kind = match (file_type, &opened) {
            (FileType::Regular, Some(fd)) => {
                let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
                let content = self.content.copy(fd, &stat, size, &self.path, self.sink)?;
                NodeKind::Regular { size, content }
            }
            (FileType::Symlink, _) => {
                target = fs::readlinkat(directory, name, Vec::new()).map_err(|error| self.io(error))?;
                NodeKind::Symlink { target: target.to_bytes() }
            }
            (FileType::CharDevice, _) => NodeKind::CharDevice(device(&stat)),
            (FileType::BlockDevice, _) => NodeKind::BlockDevice(device(&stat)),
            (FileType::Fifo, _) => NodeKind::Fifo,
            (FileType::Socket, _) => NodeKind::Socket,
            (FileType::Directory | FileType::Regular, _) => NodeKind::Directory,
        };
        let node = self
            .builder
            .insert(level.node, name, kind, &metadata)
            .map_err(|fault| TreeError::entry(self.path.as_slice(), fault))?;
        match opened.filter(|_| file_type == FileType::Directory) {
            Some(_) if self.path.iter().filter(|&&byte| byte == b'/').count() >= MAX_DEPTH => {
                Err(self.fault(EntryFault::TooDeep).into())
            }
            Some(fd) => Ok(Some(self.level(fd, stat, node)?)),
            None => {
                if file_type != FileType::Directory && stat.st_nlink > 1 {
                    self.links.insert((stat.st_dev, stat.st_ino), node);
                }
                Ok(None)
            }
        }
    }

    /// Opens what `stat` was looked up of, and nothing else.
    fn open(&self, directory: &OwnedFd, name: &[u8], stat: &Stat, flags: OFlags) -> Result<OwnedFd, TreeError> {
        // NONBLOCK: should a pipe stand there by now, opening it must not wait for a writer.
        let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = fs::openat(directory, name, flags, Mode::empty()).map_err(|error| self.io(error))?;
        let now = fs::fstat(&fd).map_err(|error| self.io(error))?;
        if same_file(stat, &now) && same_state(stat, &now) { Ok(fd) } else { Err(self.fault(EntryFault::Changed)) }
    }

    /// Reads extended attributes and leaves out what policy says.
    fn xattrs(
        &mut self,
        file_type: FileType,
        read: impl FnOnce(&[u8]) -> Result<Vec<Xattr>, TreeError>,
    ) -> Result<Vec<Xattr>, TreeError> {
        let mut xattrs = read(&self.path)?;
        self.policy
            .filter_xattrs(&self.path, file_type, &mut xattrs, &mut self.report)
            .map_err(|fault| self.fault(fault))?;
        Ok(xattrs)
    }

    fn io(&self, error: rustix::io::Errno) -> TreeError {
        io_error(&self.path, error)
    }

    fn fault(&self, fault: EntryFault) -> TreeError {
        TreeError::entry(self.path.as_slice(), fault)
    }
}

fn io_error(path: &[u8], error: rustix::io::Errno) -> TreeError {
    TreeError::File { path: path.into(), source: io::Error::from(error) }
}

/// Whether both are of one inode.
fn same_file(a: &Stat, b: &Stat) -> bool {
    (a.st_dev, a.st_ino, a.st_mode) == (b.st_dev, b.st_ino, b.st_mode)
}

/// Whether nothing was written or set between the two: every change sets the change time.
fn same_state(a: &Stat, b: &Stat) -> bool {
    let state = |s: &Stat| (s.st_size, s.st_mtime, s.st_mtime_nsec, s.st_ctime, s.st_ctime_nsec);
    state(a) == state(b)
}

fn metadata<'x>(stat: &Stat, xattrs: &'x [Xattr]) -> Metadata<'x> {
    Metadata {
        permissions: (stat.st_mode & 0o7777) as u16,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Timestamp { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 },
        xattrs,
    }
}

fn device(stat: &Stat) -> DeviceNumber {
    DeviceNumber { major: fs::major(stat.st_rdev), minor: fs::minor(stat.st_rdev) }
}
