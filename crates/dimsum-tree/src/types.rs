//! The plain values of a tree: ids, file types, times, devices, extended attributes.

use std::fmt;

/// Names an inode of one [`Tree`](crate::Tree). Dense: `0..tree.len()`, in the order of each inode's first path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct InodeId(pub(crate) u32);

impl InodeId {
    /// The root directory.
    pub const ROOT: Self = Self(0);

    /// Returns the id as an index into a table with one row per inode.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Returns the id that [`index`](Self::index) came from.
    ///
    /// # Panics
    ///
    /// If the index is beyond 32 bits, which no tree reaches.
    #[must_use]
    pub fn from_index(index: usize) -> Self {
        Self(u32::try_from(index).expect("a tree has fewer than 2^32 inodes"))
    }
}

/// A handle of a regular file's content, given out by the code that stores the content; opaque to the tree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ContentId(u32);

impl ContentId {
    /// Wraps the storer's own number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Returns the storer's own number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// The type of an inode.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FileType {
    /// Bytes.
    Regular,
    /// Names.
    Directory,
    /// A path to follow.
    Symlink,
    /// A character device (in a layer tree also a whiteout, see [`Inode::is_whiteout`](crate::Inode::is_whiteout)).
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A bound Unix socket.
    Socket,
}

/// The bits of `st_mode` that hold the type.
const TYPE_MASK: u32 = 0o170_000;

impl FileType {
    /// Returns the type's bits of `st_mode` (`S_IFREG` and so on).
    #[must_use]
    pub const fn mode_bits(self) -> u16 {
        match self {
            Self::Regular => 0o100_000,
            Self::Directory => 0o040_000,
            Self::Symlink => 0o120_000,
            Self::CharDevice => 0o020_000,
            Self::BlockDevice => 0o060_000,
            Self::Fifo => 0o010_000,
            Self::Socket => 0o140_000,
        }
    }

    /// Returns the type that an `st_mode` holds, if it is one of Linux.
    #[must_use]
    pub const fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & TYPE_MASK {
            0o100_000 => Self::Regular,
            0o040_000 => Self::Directory,
            0o120_000 => Self::Symlink,
            0o020_000 => Self::CharDevice,
            0o060_000 => Self::BlockDevice,
            0o010_000 => Self::Fifo,
            0o140_000 => Self::Socket,
            _ => return None,
        })
    }
}

/// A point in time, before 1970 too: `seconds` is rounded down and `nanoseconds` (below 10^9) is added.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp {
    /// Whole seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds after that second.
    pub nanoseconds: u32,
}

/// A device number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct DeviceNumber {
    /// The driver, 12 bits.
    pub major: u32,
    /// The driver's instance, 20 bits.
    pub minor: u32,
}

/// One extended attribute.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xattr {
    /// The full name with its prefix, as in `user.mime_type`.
    pub name: Box<[u8]>,
    /// The value, which may be empty and may hold any byte.
    pub value: Box<[u8]>,
}

impl fmt::Debug for Xattr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name.escape_ascii(), self.value.escape_ascii())
    }
}

/// The attributes of every inode: mode, owner, time, and extended attributes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metadata<'a> {
    /// The lower 12 bits of `st_mode`: permissions, setuid, setgid, sticky.
    pub permissions: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Extended attributes in any order, each name once.
    pub xattrs: &'a [Xattr],
}

impl Metadata<'static> {
    /// The attributes of a directory without an entry in a source: mode 0755, owner 0:0, 1970, no xattrs.
    pub const IMPLICIT_DIRECTORY: Self =
        Self { permissions: 0o755, uid: 0, gid: 0, mtime: Timestamp { seconds: 0, nanoseconds: 0 }, xattrs: &[] };
}

/// The type of a new inode, with the values of that type alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeKind<'a> {
    /// A regular file.
    Regular {
        /// Length of the content in bytes.
        size: u64,
        /// Where the content is.
        content: ContentId,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// The path it points to, any bytes but NUL.
        target: &'a [u8],
    },
    /// A character device. 0:0 is refused: that is a whiteout.
    CharDevice(DeviceNumber),
    /// A block device.
    BlockDevice(DeviceNumber),
    /// A named pipe.
    Fifo,
    /// A bound Unix socket.
    Socket,
    /// In a layer tree: the name is not there any more.
    Whiteout,
}
