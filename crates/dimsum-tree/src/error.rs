//! The errors of trees, each with the entry that it concerns.

use std::{fmt, io};

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

impl From<u8> for PathName {
    fn from(byte: u8) -> Self {
        Self(Box::new([byte]))
    }
}

impl From<Vec<u8>> for PathName {
    fn from(path: Vec<u8>) -> Self {
        Self(path.into())
    }
}

impl fmt::Display for PathName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("/") } else { write!(f, "{}", self.0.escape_ascii()) }
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
pub enum TreeError {
    /// One entry of the source is refused.
    #[error("{path}: {fault}")]
    Entry {
        /// The entry as the source names it.
        path: PathName,
        /// The fault.
        #[source]
        fault: EntryFault,
    },
    /// The archive is broken, or says something that cannot be followed.
    #[error("at byte {offset} of the archive: {fault}")]
    Archive {
        /// Where, in the uncompressed archive.
        offset: u64,
        /// The fault.
        #[source]
        fault: EntryFault,
    },
    /// The source could not be read (or decompressed: see [`LayerDecoder`](crate::LayerDecoder)).
    #[error("cannot read the archive after byte {offset}")]
    Read {
        /// Bytes that could be read.
        offset: u64,
        /// Why not more.
        #[source]
        source: io::Error,
    },
    /// A file on disk cannot be read.
    #[error("cannot read {path}")]
    File {
        /// The file, from the directory being read.
        path: PathName,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl TreeError {
    /// Returns the refusal of one entry.
    pub(crate) fn entry(path: impl Into<PathName>, fault: impl Into<EntryFault>) -> Self {
        Self::Entry { path: path.into(), fault: fault.into() }
    }
}

/// Why a source could not be read: its own fault, or the sink's.
#[derive(Debug, thiserror::Error)]
pub enum LayerReadError<E> {
    /// The source.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The sink could not take the content of a file.
    #[error("cannot store the content of {path}")]
    Sink {
        /// The file as the source names it.
        path: PathName,
        /// The error of the sink.
        #[source]
        source: E,
    },
}

/// Why a tree could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError<E> {
    /// The tree itself.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The content of a file cannot be had.
    #[error("cannot read the content of {path}")]
    Content {
        /// The file.
        path: PathName,
        /// The error of the source.
        #[source]
        source: E,
    },
    /// Bytes, or a file, could not be written.
    #[error("cannot write {path}")]
    Output {
        /// The object that was being written.
        path: PathName,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// The fault of one entry, or at one position of an archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EntryFault {
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
    /// The parent of the entry is not a directory.
    #[error("the parent is not a directory")]
    NotADirectory,
    /// Only files can have two names.
    #[error("a hard link to a directory")]
    LinkToDirectory,
    /// A symbolic link without a target, beyond [`MAX_SYMLINK_TARGET`](crate::limits::MAX_SYMLINK_TARGET), or
    /// with NUL in it.
    #[error(
        "a symbolic link's target of {length} bytes, or with NUL in it; 1 to {} are possible",
        crate::limits::MAX_SYMLINK_TARGET
    )]
    SymlinkTarget {
        /// Bytes of the target.
        length: usize,
    },
    /// A file beyond [`MAX_FILE_SIZE`](crate::limits::MAX_FILE_SIZE).
    #[error("a size of {size} bytes; the limit is {}", crate::limits::MAX_FILE_SIZE)]
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
        /// The claimed value.
        mode: u16,
    },
    /// Nanoseconds of a whole second or more.
    #[error("a time with {nanoseconds} nanoseconds")]
    Time {
        /// The claimed value.
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
    /// An xattr name beyond [`MAX_XATTR_NAME`](crate::limits::MAX_XATTR_NAME), with NUL in it, or with a prefix
    /// that is not one of files.
    #[error("{name} is not a name of an extended attribute that files can have")]
    XattrName {
        /// The attribute.
        name: PathName,
    },
    /// An xattr value beyond [`MAX_XATTR_VALUE`](crate::limits::MAX_XATTR_VALUE).
    #[error("the extended attribute {name} has {length} bytes; the limit is {}", crate::limits::MAX_XATTR_VALUE)]
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
    #[error("{bytes} bytes of extended attributes; the limit is {}", crate::limits::MAX_XATTR_BYTES)]
    XattrBytes {
        /// Their sum.
        bytes: usize,
    },
    /// The whole tree is beyond one of the limits of counts.
    #[error("more than {limit} {what} in one tree")]
    TreeTooLarge {
        /// The counted object.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A header whose checksum is not that of its bytes.
    #[error("not a tar header: the checksum is wrong")]
    Checksum,
    /// One block of zeros in the middle of an archive.
    #[error("one block of zeros between entries; the end of an archive has two")]
    LoneZeroBlock,
    /// The archive ends before the announced bytes.
    #[error("the archive ends too early")]
    Truncated,
    /// A field that should hold a number.
    #[error("{field} is not a number in range")]
    Number {
        /// The field.
        field: &'static str,
    },
    /// An extended header beyond [`MAX_EXTENDED_HEADER`](crate::limits::MAX_EXTENDED_HEADER).
    #[error("extended headers of more than {} bytes", crate::limits::MAX_EXTENDED_HEADER)]
    ExtendedTooLarge,
    /// A record of an extended header that is not `LENGTH KEY=VALUE`.
    #[error("a malformed record in an extended header")]
    ExtendedRecord,
    /// Two extended headers of one kind before one entry.
    #[error("two extended headers of one kind for one entry")]
    ExtendedTwice,
    /// An extended header, and no entry behind it.
    #[error("an extended header without an entry")]
    ExtendedAlone,
    /// A global header that gives all entries one path or length.
    #[error("a global extended header sets {key}")]
    GlobalRecord {
        /// The record's key.
        key: PathName,
    },
    /// An entry of a type that is no file.
    #[error("entries of type {flag} are not known")]
    UnknownType {
        /// The type's letter.
        flag: PathName,
    },
    /// A sparse file's map is malformed, or does not fit the file.
    #[error("a malformed map of a sparse file")]
    SparseMap,
    /// A sparse file in too many pieces.
    #[error("a sparse file of more than {limit} pieces")]
    TooManySegments {
        /// The limit.
        limit: usize,
    },
    /// The name leads out of the root, or could.
    #[error("a name with .. in it")]
    DotDot,
    /// Something but a directory in the root's place.
    #[error("the root is not a directory")]
    Root,
    /// More symbolic links on the way to a parent than Linux follows.
    #[error("more than {limit} symbolic links on the way")]
    SymlinkLoop {
        /// The limit.
        limit: usize,
    },
    /// A hard link to a name that is neither in this layer so far nor below.
    #[error("a hard link to {target}, which is not there")]
    LinkTarget {
        /// The target as the source names it.
        target: PathName,
    },
    /// A whiteout that is a directory, or a name below one.
    #[error("a directory with the name of a whiteout")]
    WhiteoutDirectory,
    /// An xattr that overlayfs takes for its own.
    #[error("the extended attribute {name}, which overlayfs takes for its own")]
    OverlayXattr {
        /// The attribute.
        name: PathName,
    },
    /// A file or directory that was written to while it was read.
    #[error("it changed while it was read")]
    Changed,
    /// A file on disk of a type Linux does not have.
    #[error("a file of unknown type")]
    UnknownFileType,
    /// A file whose content is longer or shorter than the tree says.
    #[error("its content ends at byte {found}, its size is {size}")]
    ContentLength {
        /// The value in the tree.
        size: u64,
        /// How far content was given.
        found: u64,
    },
    /// A file of a layer whose name is that of a whiteout.
    #[error("its name begins with .wh., which in a layer says that something was deleted")]
    NamedLikeWhiteout,
    /// A whiteout or an opaque directory where a whole tree is wanted.
    #[error("it hides something of a lower layer, but this is to be a whole tree")]
    NotMerged,
    /// A directory to write into that holds something.
    #[error("the directory is not empty")]
    NotEmpty,
    /// A file that cannot be given to its owner.
    #[error("only root can give it to its owner {uid}:{gid}")]
    Owner {
        /// The owner.
        uid: u32,
        /// The group.
        gid: u32,
    },
}
