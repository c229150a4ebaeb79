//! One inode in 48 bytes, and one name in 16.
//!
//! A tree of a million files must fit beside all other memory of a conversion. So types share a field for
//! values that only one of them has. Names, targets and xattrs lie elsewhere and are numbers here.

use crate::types::{ContentId, DeviceNumber, FileType, Timestamp};

/// One inode, by value: everything but names, targets and xattrs, which the [`Tree`](crate::Tree) holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    pub(crate) mtime_seconds: i64,
    /// Regular: size. Symlink: bytes of the target. Directory: number of entries. Device: major, minor.
    pub(crate) data: u64,
    /// Regular: content. Symlink: where the target starts. Directory: first entry.
    pub(crate) reference: u32,
    pub(crate) mtime_nanoseconds: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) nlink: u32,
    /// Row of the table of xattr sets; 0 is the empty set.
    pub(crate) xattrs: u32,
    pub(crate) permissions: u16,
    pub(crate) file_type: FileType,
    /// Directory: hides the lower one. Character device: is a whiteout.
    pub(crate) hides: bool,
}

/// One name in a directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordSlot {
    /// The directory.
    pub(crate) parent: u32,
    /// The inode that the name stands for.
    pub(crate) inode: u32,
    /// Where the name starts in the text.
    pub(crate) name: u32,
    /// Bytes of the name; a name has at most 255.
    pub(crate) name_length: u8,
}

impl Inode {
    /// Returns what the inode is.
    #[must_use]
    pub const fn file_type(&self) -> FileType {
        self.file_type
    }

    /// Returns the lower 12 bits of `st_mode`: permissions, setuid, setgid, sticky.
    #[must_use]
    pub const fn permissions(&self) -> u16 {
        self.permissions
    }

    /// Returns the owner.
    #[must_use]
    pub const fn uid(&self) -> u32 {
        self.uid
    }

    /// Returns the group.
    #[must_use]
    pub const fn gid(&self) -> u32 {
        self.gid
    }

    /// Returns the last change of the content.
    #[must_use]
    pub const fn mtime(&self) -> Timestamp {
        Timestamp { seconds: self.mtime_seconds, nanoseconds: self.mtime_nanoseconds }
    }

    /// Returns the number of names; for a directory 2 and one for each subdirectory.
    #[must_use]
    pub const fn nlink(&self) -> u32 {
        self.nlink
    }

    /// Returns a file's length, a symbolic link's target's length, 0 for all else.
    #[must_use]
    pub const fn size(&self) -> u64 {
        match self.file_type {
            FileType::Regular | FileType::Symlink => self.data,
            _ => 0,
        }
    }

    /// Returns the device a device node stands for, 0:0 for all else.
    #[must_use]
    pub const fn rdev(&self) -> DeviceNumber {
        match self.file_type {
            FileType::CharDevice | FileType::BlockDevice => {
                DeviceNumber { major: (self.data >> 32) as u32, minor: self.data as u32 }
            }
            _ => DeviceNumber { major: 0, minor: 0 },
        }
    }

    /// Returns the handle of a regular file's content.
    #[must_use]
    pub const fn content(&self) -> Option<ContentId> {
        match self.file_type {
            FileType::Regular => Some(ContentId::new(self.reference)),
            _ => None,
        }
    }

    /// Returns whether this is a directory of a layer that hides the directory of that name in the layers below.
    #[must_use]
    pub const fn is_opaque(&self) -> bool {
        self.hides && matches!(self.file_type, FileType::Directory)
    }

    /// Returns whether this stands in a layer tree for "the name is not there any more"; its type is then a
    /// character device.
    #[must_use]
    pub const fn is_whiteout(&self) -> bool {
        self.hides && matches!(self.file_type, FileType::CharDevice)
    }

    /// Returns a regular file of nobody's from 1970, as which whiteouts are written into a tar.
    pub(crate) const fn mark() -> Self {
        Self {
            mtime_seconds: 0,
            data: 0,
            reference: 0,
            mtime_nanoseconds: 0,
            uid: 0,
            gid: 0,
            nlink: 1,
            xattrs: 0,
            permissions: 0,
            file_type: FileType::Regular,
            hides: false,
        }
    }

    /// Returns whether this is a directory.
    #[must_use]
    pub const fn is_directory(&self) -> bool {
        matches!(self.file_type, FileType::Directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inode_takes_48_bytes_and_a_name_16() {
        assert_eq!(size_of::<Inode>(), 48);
        assert_eq!(size_of::<RecordSlot>(), 16);
    }
}
