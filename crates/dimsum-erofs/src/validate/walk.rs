//! Follows every name of an image and enters each directory once.

use std::collections::HashMap;

use dimsum_tree::{FileType, PathName};

use super::bitmap::BlockBitmap;
use super::cache::Cached;
use super::check::ImageChecker;
use super::{Bounds, ValidationSummary};
use crate::error::{ErofsError, ErofsFault, SuperblockFault};
use crate::limits::{MAX_DEPTH, MAX_INODES};
use crate::ondisk::BLOCK_LEN;
use crate::read::{ErofsImage, ErofsInode, MetaRead, RawEntry, ReadResult};
use crate::write::type_number;

/// Both names that every directory has.
const BOTH_DOTS: u8 = 0b11;

/// A walk in progress.
pub(super) struct ValidationWalk<'a, M: MetaRead> {
    image: &'a ErofsImage<Cached<'a, M>>,
    checker: ImageChecker<'a, M>,
    starts: BlockBitmap,
    /// Hard-linked inodes: how many of their names are still to be found.
    missing_names: HashMap<u64, u32>,
    /// The directories from the root to where the walk is.
    levels: Vec<ValidationLevel>,
    /// The object under check, for errors.
    path: Vec<u8>,
    summary: ValidationSummary,
}

/// A directory that the walk is in.
struct ValidationLevel {
    inode: ErofsInode,
    parent: u64,
    /// Bytes of the path that lead here.
    path_len: usize,
    /// The next name: block, and place in it.
    block: u64,
    row: usize,
    last_name: Vec<u8>,
    subdirectories: u32,
    dots: u8,
}

/// The inode that the next name of a directory leads to.
enum ValidationStep {
    /// Nothing more to do for this name.
    Next,
    /// A directory to go into.
    Down(ErofsInode),
    /// The directory is at its end.
    Up,
}

impl<'a, M: MetaRead> ValidationWalk<'a, M> {
    pub(super) fn new(image: &'a ErofsImage<Cached<'a, M>>, bounds: &Bounds<'_>) -> Self {
        Self {
            image,
            checker: ImageChecker::new(image, bounds),
            starts: BlockBitmap::new(image.meta().len()),
            missing_names: HashMap::new(),
            levels: Vec::new(),
            path: Vec::new(),
            summary: ValidationSummary::default(),
        }
    }

    /// Walks to the end.
    pub(super) fn run(mut self) -> ReadResult<ValidationSummary, M> {
        match self.walk() {
            Ok(()) => self.finish(),
            Err(ErofsError::Inode { nid, path: None, fault }) => {
                Err(ErofsError::Inode { nid, path: Some(PathName::from(self.path)), fault })
            }
            Err(error) => Err(error),
        }
    }

    fn walk(&mut self) -> ReadResult<(), M> {
        let root = self.image.root()?;
        self.starts.take(root.position(), root.position() + 1);
        self.enter(root)?;
        let mut buf = [0; BLOCK_LEN];
        let mut loaded = None;
        while !self.levels.is_empty() {
            match self.step(&mut buf, &mut loaded)? {
                ValidationStep::Next => {}
                ValidationStep::Down(inode) => self.enter(inode)?,
                ValidationStep::Up => self.leave()?,
            }
        }
        Ok(())
    }

    /// Checks a directory's inode and goes into it.
    fn enter(&mut self, inode: ErofsInode) -> ReadResult<(), M> {
        self.count(&inode)?;
        self.checker.check(&inode)?;
        // The root is its own parent.
        let parent = self.levels.last().map_or_else(|| inode.nid(), |level| level.inode.nid());
        let last_name = Vec::new();
        let path_len = self.path.len();
        self.levels.push(ValidationLevel {
            inode,
            parent,
            path_len,
            block: 0,
            row: 0,
            last_name,
            subdirectories: 0,
            dots: 0,
        });
        Ok(())
    }

    /// Goes back up from a directory, all of whose names were seen.
    fn leave(&mut self) -> ReadResult<(), M> {
        let Some(level) = self.levels.pop() else { return Ok(()) };
        let directory = level.inode;
        if level.dots != BOTH_DOTS {
            return Err(ErofsError::inode(directory.nid(), ErofsFault::Dots));
        }
        let names = level.subdirectories.saturating_add(2);
        if directory.nlink() != names {
            return Err(ErofsError::inode(directory.nid(), ErofsFault::Links { nlink: directory.nlink(), names }));
        }
        Ok(())
    }

    /// Looks at the next name of the directory the walk is in.
    fn step(&mut self, buf: &mut [u8; BLOCK_LEN], loaded: &mut Option<(u64, u64)>) -> ReadResult<ValidationStep, M> {
        let Some(level) = self.levels.last_mut() else { return Ok(ValidationStep::Up) };
        self.path.truncate(level.path_len);
        let directory = level.inode;
        if level.block >= directory.size_in_blocks() {
            return Ok(ValidationStep::Up);
        }
        let here = (directory.nid(), level.block);
        let block = match loaded {
            Some(there) if *there == here => self.image.loaded_dir_block(&directory, level.block, buf)?,
            _ => self.image.dir_block(&directory, level.block, buf)?,
        };
        *loaded = Some(here);
        if level.row >= block.count() {
            level.block += 1;
            level.row = 0;
            return Ok(ValidationStep::Next);
        }
        let Some(entry) = block.entry(level.row) else {
            return Err(ErofsError::inode(directory.nid(), ErofsFault::DirectoryBlock { block: level.block }));
        };
        level.row += 1;
        check_name(level, &entry).map_err(|fault| ErofsError::inode(directory.nid(), fault))?;
        level.last_name.clear();
        level.last_name.extend_from_slice(entry.name);
        match entry.name {
            b"." | b".." => self.dot(&entry),
            _ => self.follow(&entry),
        }
    }

    /// Checks `.` or `..`.
    fn dot(&mut self, entry: &RawEntry<'_>) -> ReadResult<ValidationStep, M> {
        let Some(level) = self.levels.last_mut() else { return Ok(ValidationStep::Up) };
        let (target, bit) = if entry.name == b"." { (level.inode.nid(), 1) } else { (level.parent, 2) };
        if entry.nid != target || entry.file_type != type_number(FileType::Directory) {
            return Err(ErofsError::inode(level.inode.nid(), ErofsFault::Dots));
        }
        level.dots |= bit;
        Ok(ValidationStep::Next)
    }

    /// Checks what any other name leads to.
    fn follow(&mut self, entry: &RawEntry<'_>) -> ReadResult<ValidationStep, M> {
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(entry.name);
        self.summary.names += 1;
        let refuse = |fault| Err(ErofsError::inode(entry.nid, fault));
        if self.levels.len() > MAX_DEPTH {
            return refuse(ErofsFault::TooDeep);
        }
        let inode = self.image.inode(entry.nid)?;
        if entry.file_type != type_number(inode.file_type()) {
            return refuse(ErofsFault::EntryType { name: PathName::from(entry.name), file_type: entry.file_type });
        }
        let first = self.starts.take(inode.position(), inode.position() + 1);
        if inode.is_directory() {
            if let Some(level) = self.levels.last_mut() {
                level.subdirectories += 1;
            }
            return if first { Ok(ValidationStep::Down(inode)) } else { refuse(ErofsFault::TwoParents) };
        }
        if first {
            self.count(&inode)?;
            self.checker.check(&inode)?;
        }
        self.name_found(&inode, first)?;
        Ok(ValidationStep::Next)
    }

    /// Counts the names of inodes that are not directories.
    fn name_found(&mut self, inode: &ErofsInode, first: bool) -> ReadResult<(), M> {
        let nlink = inode.nlink();
        let missing = if first { Some(nlink) } else { self.missing_names.get(&inode.nid()).copied() };
        match missing.and_then(|missing| missing.checked_sub(1)) {
            Some(0) => {
                self.missing_names.remove(&inode.nid());
            }
            Some(missing) => {
                self.missing_names.insert(inode.nid(), missing);
            }
            None => {
                return Err(ErofsError::inode(
                    inode.nid(),
                    ErofsFault::Links { nlink, names: nlink.saturating_add(1) },
                ));
            }
        }
        Ok(())
    }

    fn count(&mut self, inode: &ErofsInode) -> ReadResult<(), M> {
        let summary = &mut self.summary;
        summary.inodes += 1;
        match inode.file_type() {
            FileType::Directory => summary.directories += 1,
            FileType::Regular => {
                summary.files += 1;
                summary.bytes = summary.bytes.saturating_add(inode.size());
            }
            FileType::Symlink => summary.symlinks += 1,
            _ => summary.specials += 1,
        }
        let (found, expected) = (self.image.inode_count(), summary.inodes);
        if expected > found || expected > MAX_INODES as u64 {
            return Err(ErofsError::Superblock { fault: SuperblockFault::Inodes { found, expected } });
        }
        Ok(())
    }

    /// Checks what can only be known at the end.
    fn finish(self) -> ReadResult<ValidationSummary, M> {
        // The smallest, so that equal images give equal errors.
        if let Some(&nid) = self.missing_names.keys().min() {
            let nlink = self.image.inode(nid)?.nlink();
            let missing = self.missing_names.get(&nid).copied().unwrap_or_default();
            return Err(ErofsError::inode(nid, ErofsFault::Links { nlink, names: nlink.saturating_sub(missing) }));
        }
        let (found, expected) = (self.image.inode_count(), self.summary.inodes);
        if found != expected {
            return Err(ErofsError::Superblock { fault: SuperblockFault::Inodes { found, expected } });
        }
        self.checker.finish()?;
        Ok(self.summary)
    }
}

/// Checks a name against the characters it may have, and against the one before it.
fn check_name(level: &ValidationLevel, entry: &RawEntry<'_>) -> std::result::Result<(), ErofsFault> {
    let name = || PathName::from(entry.name);
    if entry.name.iter().any(|byte| matches!(byte, 0 | b'/')) {
        return Err(ErofsFault::Name { name: name() });
    }
    if *entry.name <= *level.last_name {
        return Err(ErofsFault::Order { name: name() });
    }
    if entry.reserved != 0 { Err(ErofsFault::Reserved) } else { Ok(()) }
}
