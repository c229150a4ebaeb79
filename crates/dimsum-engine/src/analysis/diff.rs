//! Two trees side by side, in path order, with what differs of each name.

use std::cmp::Ordering;

use dimsum_tree::FileType;
use serde::Serialize;

use super::content::{DiffSide, Sameness, by_bytes, by_maps};
use super::walk::{ImageWalk, order};
use crate::EngineError;
use crate::image::fs::Found;

/// What can differ between two files of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Aspect {
    /// Type: all else follows from that.
    Type,
    /// Bytes of a file.
    Content,
    /// Bytes of a file that would have to be read to know.
    Unknown,
    /// Permissions.
    Mode,
    /// User or group.
    Owner,
    /// Time of the last change.
    Mtime,
    /// Extended attributes.
    Xattrs,
    /// Number of names, of anything but a directory.
    Links,
    /// Device number.
    Device,
    /// Target of a symbolic link.
    Target,
}

impl Aspect {
    /// The word in texts.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Mtime => "mtime",
            Self::Xattrs => "xattrs",
            Self::Links => "links",
            Self::Device => "device",
            Self::Target => "target",
            Self::Content => "content",
            Self::Unknown => "content unknown",
        }
    }
}

/// A name that is not the same in both.
#[derive(Debug)]
pub struct Change {
    /// In the first image; none if the second has it alone.
    pub a: Option<Found>,
    /// In the second image; none if the first has it alone.
    pub b: Option<Found>,
    /// What differs; empty if only one has it.
    pub aspects: Vec<Aspect>,
    /// Of a directory that only one has: names below it that are not given by themselves.
    pub names_below: u64,
    /// Bytes of the files among these.
    pub bytes_below: u64,
}

impl Change {
    const fn new(a: Option<Found>, b: Option<Found>, aspects: Vec<Aspect>) -> Self {
        Self { a, b, aspects, names_below: 0, bytes_below: 0 }
    }

    /// Returns what only one of the images has.
    const fn lone(&self) -> Option<&Found> {
        match (&self.a, &self.b) {
            (Some(only), None) | (None, Some(only)) => Some(only),
            _ => None,
        }
    }

    /// Takes a change into this one, if that is of a directory and the other one of something below it.
    fn fold(&mut self, other: &Self) -> bool {
        let (Some(directory), Some(below)) = (self.lone(), other.lone()) else { return false };
        let inside = below.path.strip_prefix(&*directory.path).is_some_and(|rest| rest.starts_with(b"/"));
        if !inside || self.a.is_some() != other.a.is_some() {
            return false;
        }
        self.names_below = self.names_below.saturating_add(1);
        self.bytes_below = self.bytes_below.saturating_add(file_bytes(Some(below)));
        true
    }

    /// Returns the path.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        self.a.as_ref().or(self.b.as_ref()).map_or(b"", |found| &*found.path)
    }
}

/// How many names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Names that only the second has.
    pub added: u64,
    /// Names that only the first has.
    pub removed: u64,
    /// Names of both that differ.
    pub changed: u64,
    /// Of these, files whose bytes differ.
    pub content_changed: u64,
    /// Names of both that differ in nothing, or in nothing that was asked for.
    pub same: u64,
    /// Files of both whose bytes were not compared, for they would have had to be read.
    pub unknown: u64,
    /// Bytes of the files that only the second has.
    pub added_bytes: u64,
    /// Bytes of the files that only the first has.
    pub removed_bytes: u64,
    /// Bytes of files whose content differs, in the second image.
    pub changed_bytes: u64,
    /// Files that were read in both to compare them.
    pub files_read: u64,
    /// Bytes of each image that were read for that.
    pub bytes_read: u64,
}

/// How two trees are compared.
#[derive(Debug, Clone, Copy)]
pub struct Comparer<'i> {
    /// The first image.
    pub a: DiffSide<'i>,
    /// The second image.
    pub b: DiffSide<'i>,
    /// Whether files are read where maps do not tell.
    pub read: bool,
    /// What is not looked at.
    pub ignore: &'i [Aspect],
    /// Whether a directory that only one image has stands for all that is below it.
    pub fold: bool,
}

impl Comparer<'_> {
    /// Compares, and gives each name that differs to `show`.
    ///
    /// # Errors
    /// If an image cannot be read, or what `show` says.
    pub fn run<E: From<EngineError>>(&self, mut show: impl FnMut(Change) -> Result<(), E>) -> Result<Counts, E> {
        let mut counts = Counts::default();
        // A directory that only one has: what is below it comes right behind.
        let mut held: Option<Change> = None;
        let (mut walk_a, mut walk_b) = (ImageWalk::new(self.a.fs), ImageWalk::new(self.b.fs));
        let (mut a, mut b) = (walk_a.advance()?, walk_b.advance()?);
        loop {
            let side = match (&a, &b) {
                (None, None) => {
                    held.map_or(Ok(()), show)?;
                    return Ok(counts);
                }
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(a), Some(b)) => order(&a.path, &b.path),
            };
            let change = match side {
                Ordering::Less => {
                    let found = std::mem::replace(&mut a, walk_a.advance()?);
                    counts.removed = counts.removed.saturating_add(1);
                    counts.removed_bytes = counts.removed_bytes.saturating_add(file_bytes(found.as_ref()));
                    Some(Change::new(found, None, Vec::new()))
                }
                Ordering::Greater => {
                    let found = std::mem::replace(&mut b, walk_b.advance()?);
                    counts.added = counts.added.saturating_add(1);
                    counts.added_bytes = counts.added_bytes.saturating_add(file_bytes(found.as_ref()));
                    Some(Change::new(None, found, Vec::new()))
                }
                Ordering::Equal => {
                    let left = std::mem::replace(&mut a, walk_a.advance()?);
                    let right = std::mem::replace(&mut b, walk_b.advance()?);
                    self.both(left, right, &mut counts)?
                }
            };
            let Some(change) = change else { continue };
            if held.as_mut().is_some_and(|held| held.fold(&change)) {
                continue;
            }
            if let Some(held) = held.take() {
                show(held)?;
            }
            if self.fold && change.lone().is_some_and(|found| found.inode.is_directory()) {
                held = Some(change);
            } else {
                show(change)?;
            }
        }
    }

    /// Compares a name that both have.
    fn both(&self, a: Option<Found>, b: Option<Found>, counts: &mut Counts) -> Result<Option<Change>, EngineError> {
        let (Some(left), Some(right)) = (&a, &b) else { return Ok(None) };
        let mut aspects = self.aspects(left, right, counts)?;
        aspects.retain(|aspect| !self.ignore.contains(aspect));
        if aspects.is_empty() {
            counts.same = counts.same.saturating_add(1);
            return Ok(None);
        }
        if aspects == [Aspect::Unknown] {
            // Nobody knows that it differs.
            return Ok(Some(Change::new(a, b, aspects)));
        }
        counts.changed = counts.changed.saturating_add(1);
        if aspects.contains(&Aspect::Content) {
            counts.content_changed = counts.content_changed.saturating_add(1);
            counts.changed_bytes = counts.changed_bytes.saturating_add(right.inode.size());
        }
        Ok(Some(Change::new(a, b, aspects)))
    }

    fn aspects(&self, a: &Found, b: &Found, counts: &mut Counts) -> Result<Vec<Aspect>, EngineError> {
        let (left, right) = (&a.inode, &b.inode);
        if left.file_type() != right.file_type() {
            return Ok(vec![Aspect::Type]);
        }
        let mut aspects = Vec::new();
        if left.file_type() == FileType::Regular && !self.ignore.contains(&Aspect::Content) {
            aspects.extend(self.content(a, b, counts)?);
        }
        let mut differ = |aspect, differs: bool| {
            if differs {
                aspects.push(aspect);
            }
        };
        differ(Aspect::Mode, left.permissions() != right.permissions());
        differ(Aspect::Owner, (left.uid(), left.gid()) != (right.uid(), right.gid()));
        differ(Aspect::Mtime, left.mtime() != right.mtime());
        // Of a directory it says how many directories it has, which the names say better.
        differ(Aspect::Links, !left.is_directory() && left.nlink() != right.nlink());
        differ(Aspect::Device, left.rdev() != right.rdev());
        differ(Aspect::Xattrs, self.xattrs(a, b)?);
        differ(Aspect::Target, left.file_type() == FileType::Symlink && self.targets(a, b)?);
        Ok(aspects)
    }

    fn content(&self, a: &Found, b: &Found, counts: &mut Counts) -> Result<Option<Aspect>, EngineError> {
        match by_maps(self.a, a, self.b, b)? {
            Sameness::Same => Ok(None),
            Sameness::Different => Ok(Some(Aspect::Content)),
            Sameness::Undecided if !self.read => {
                counts.unknown = counts.unknown.saturating_add(1);
                Ok(Some(Aspect::Unknown))
            }
            Sameness::Undecided => {
                counts.files_read = counts.files_read.saturating_add(1);
                let read = |bytes| counts.bytes_read = counts.bytes_read.saturating_add(bytes);
                Ok((!by_bytes(self.a, a, self.b, b, read)?).then_some(Aspect::Content))
            }
        }
    }

    fn xattrs(&self, a: &Found, b: &Found) -> Result<bool, EngineError> {
        if !a.inode.has_xattrs() && !b.inode.has_xattrs() {
            return Ok(false);
        }
        let all = |side: DiffSide<'_>, found: &Found| {
            let all = side.fs.erofs().xattrs(&found.inode).map_err(|source| side.fs.fail(&found.path, source));
            all.map(|mut all| {
                all.sort_by(|a, b| a.name.cmp(&b.name));
                all
            })
        };
        Ok(all(self.a, a)? != all(self.b, b)?)
    }

    fn targets(&self, a: &Found, b: &Found) -> Result<bool, EngineError> {
        let target = |side: DiffSide<'_>, found: &Found| {
            side.fs.erofs().read_link(&found.inode).map_err(|source| side.fs.fail(&found.path, source))
        };
        Ok(target(self.a, a)? != target(self.b, b)?)
    }
}

/// Bytes of a regular file.
fn file_bytes(found: Option<&Found>) -> u64 {
    let found = found.filter(|found| found.inode.file_type() == FileType::Regular);
    found.map_or(0, |found| found.inode.size())
}
