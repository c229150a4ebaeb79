//! What can go wrong, and with which entry.

use std::fmt;

/// A path inside a tree as an error shows it: any bytes, escaped where they are not printable.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PathName(Box<[u8]>);

impl PathName {
    /// Returns the path's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for PathName {
    fn from(path: &[u8]) -> Self {
        Self(path.into())
    }
}

impl From<Vec<u8>> for PathName {
    fn from(path: Vec<u8>) -> Self {
        Self(path.into())
    }
}

impl fmt::Display for PathName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            f.write_str("/")
        } else {
            write!(f, "{}", self.0.escape_ascii())
        }
    }
}

impl fmt::Debug for PathName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Why a tree could not be built or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// One entry of the source is refused.
    #[error("{path}: {fault}")]
    Entry {
        /// The entry as the source names it.
        path: PathName,
        /// What is wrong with it.
        #[source]
        fault: Fault,
    },
}

impl Error {
    /// Returns the refusal of one entry.
    pub(crate) fn entry(path: impl Into<PathName>, fault: impl Into<Fault>) -> Self {
        Self::Entry {
            path: path.into(),
            fault: fault.into(),
        }
    }
}

/// What is wrong with one entry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The name is empty, `.`, `..`, or holds a slash or NUL.
    #[error("not a file name")]
    InvalidName,
    /// A name is beyond [`MAX_NAME`](crate::limits::MAX_NAME).
    #[error("a name of {length} bytes; the limit is {}", crate::limits::MAX_NAME)]
    NameTooLong {
        /// Bytes of the name.
        length: usize,
    },
    /// The path is beyond [`MAX_PATH`](crate::limits::MAX_PATH).
    #[error("a path of {length} bytes; the limit is {}", crate::limits::MAX_PATH)]
    PathTooLong {
        /// Bytes of the path.
        length: usize,
    },
    /// The path is beyond [`MAX_DEPTH`](crate::limits::MAX_DEPTH).
    #[error("more than {} directories deep", crate::limits::MAX_DEPTH)]
    TooDeep,
    /// The name is there already.
    #[error("the name exists already")]
    Exists,
    /// What should hold the entry is not a directory.
    #[error("the parent is not a directory")]
    NotADirectory,
    /// Only files can have two names.
    #[error("a hard link to a directory")]
    LinkToDirectory,
    /// A symbolic link without a target, beyond [`MAX_SYMLINK_TARGET`](crate::limits::MAX_SYMLINK_TARGET), or with NUL in it.
    #[error(
        "a symbolic link's target of {length} bytes, or with NUL in it; 1 to {} are possible",
        crate::limits::MAX_SYMLINK_TARGET
    )]
    SymlinkTarget {
        /// Bytes of the target.
        length: usize,
    },
    /// A file beyond [`MAX_FILE_SIZE`](crate::limits::MAX_FILE_SIZE).
    #[error(
        "a size of {size} bytes; the limit is {}",
        crate::limits::MAX_FILE_SIZE
    )]
    FileTooLarge {
        /// The size it claims.
        size: u64,
    },
    /// A user or group id beyond [`MAX_ID`](crate::limits::MAX_ID).
    #[error("a user or group id beyond {}", crate::limits::MAX_ID)]
    Id,
    /// More than the 12 bits of permissions.
    #[error("permissions {mode:o} of more than 12 bits")]
    Permissions {
        /// What it claims.
        mode: u16,
    },
    /// Nanoseconds of a whole second or more.
    #[error("a time with {nanoseconds} nanoseconds")]
    Time {
        /// What it claims.
        nanoseconds: u32,
    },
    /// A device number Linux does not have.
    #[error("the device number {major}:{minor} is beyond 12 and 20 bits")]
    DeviceNumber {
        /// The major number.
        major: u32,
        /// The minor number.
        minor: u32,
    },
    /// The character device 0:0.
    #[error("a character device 0:0, which overlayfs takes for a deleted file")]
    DeviceZero,
    /// An xattr name that is empty, holds NUL, or is beyond [`MAX_XATTR_NAME`](crate::limits::MAX_XATTR_NAME).
    #[error(
        "an extended attribute's name of {length} bytes, or with NUL in it; 1 to {} are possible",
        crate::limits::MAX_XATTR_NAME
    )]
    XattrName {
        /// Bytes of the name.
        length: usize,
    },
    /// An xattr value beyond [`MAX_XATTR_VALUE`](crate::limits::MAX_XATTR_VALUE).
    #[error(
        "the extended attribute {name} has {length} bytes; the limit is {}",
        crate::limits::MAX_XATTR_VALUE
    )]
    XattrValue {
        /// The attribute.
        name: PathName,
        /// Bytes of the value.
        length: usize,
    },
    /// Two xattrs of one name.
    #[error("the extended attribute {name} is there twice")]
    XattrTwice {
        /// The attribute.
        name: PathName,
    },
    /// All xattrs together are beyond [`MAX_XATTR_BYTES`](crate::limits::MAX_XATTR_BYTES) or
    /// [`MAX_XATTR_LIST`](crate::limits::MAX_XATTR_LIST).
    #[error(
        "{bytes} bytes of extended attributes; the limit is {}",
        crate::limits::MAX_XATTR_BYTES
    )]
    XattrBytes {
        /// Their sum.
        bytes: usize,
    },
    /// The whole tree is beyond one of the limits of counts.
    #[error("more than {limit} {what} in one tree")]
    TreeTooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}
