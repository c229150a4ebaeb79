//! The faults of an image, and the properties of a tree that no image can hold.

use std::io;

use dimsum_tree::{InodeId, PathName};

use crate::limits;

/// Why something could not be read from an image, or why the image is refused. `E` is the error of the
/// [`MetaRead`](crate::MetaRead) and passes through untouched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErofsError<E: std::error::Error + 'static> {
    /// The bytes could not be had.
    #[error("cannot read {length} bytes at {offset} of the meta")]
    Read {
        /// First byte asked for.
        offset: u64,
        /// Bytes asked for.
        length: usize,
        /// The error of the source of the bytes.
        #[source]
        source: E,
    },
    /// The image as a whole is not one of ours.
    #[error("not an EROFS image of this format")]
    Superblock {
        /// The fault.
        #[source]
        fault: SuperblockFault,
    },
    /// An inode, or what belongs to it, is wrong.
    #[error("inode {nid}{}", shown(path.as_ref()))]
    Inode {
        /// The inode.
        nid: u64,
        /// A path that leads to it, where one is known (by the validator).
        path: Option<PathName>,
        /// The fault.
        #[source]
        fault: ErofsFault,
    },
}

fn shown(path: Option<&PathName>) -> String {
    path.map_or_else(String::new, |path| format!(" ({path})"))
}

impl<E: std::error::Error + 'static> ErofsError<E> {
    /// Returns the refusal of one inode.
    pub(crate) fn inode(nid: u64, fault: ErofsFault) -> Self {
        Self::Inode { nid, path: None, fault }
    }
}

/// The faults of a superblock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SuperblockFault {
    /// There is no room for one.
    #[error("{length} bytes are no image")]
    TooShort {
        /// Bytes there are.
        length: u64,
    },
    /// The image is not whole blocks or beyond [`limits::MAX_EROFS_BLOCKS`].
    #[error("a length of {length} bytes is not whole blocks, or too large")]
    Length {
        /// Bytes there are.
        length: u64,
    },
    /// The magic number is another.
    #[error("the magic number is {found:#010x}")]
    Magic {
        /// The value found.
        found: u32,
    },
    /// The checksum is another.
    #[error("the checksum is {found:#010x} and should be {computed:#010x}")]
    Checksum {
        /// The value found.
        found: u32,
        /// The expected value.
        computed: u32,
    },
    /// Feature bits we do not know.
    #[error("the features are {compat:#x} (compatible) and {incompat:#x} (incompatible)")]
    Features {
        /// `feature_compat`.
        compat: u32,
        /// `feature_incompat`.
        incompat: u32,
    },
    /// Blocks are not of 4 KiB.
    #[error("blocks of 2^{bits} bytes")]
    BlockSize {
        /// log2 of the block size.
        bits: u8,
    },
    /// A time with 10^9 nanoseconds or more.
    #[error("a time with {nanoseconds} nanoseconds")]
    Time {
        /// The claimed value.
        nanoseconds: u32,
    },
    /// `blocks` is not the length of the flat image.
    #[error("{found} blocks; meta and devices have {expected}")]
    Blocks {
        /// The value found.
        found: u64,
        /// The expected value.
        expected: u64,
    },
    /// `inos` is not the number of inodes.
    #[error("{found} inodes are announced; there are {expected}, and {} are the limit", limits::MAX_INODES)]
    Inodes {
        /// The value found.
        found: u64,
        /// The expected value.
        expected: u64,
    },
    /// The shared attributes do not lie where they can.
    #[error("the shared attributes start at block {block}")]
    XattrArea {
        /// `xattr_blkaddr`.
        block: u32,
    },
    /// A field of a feature that is not used is not zero.
    #[error("a field that must be zero is not")]
    Reserved,
}

/// The faults of an inode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErofsFault {
    /// It, or what belongs to it, lies outside the image.
    #[error("{length} bytes at {offset} are outside the image")]
    OutOfImage {
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
    },
    /// It lies in front of the inode area or behind it.
    #[error("not inside the inode area")]
    OutOfInodeArea,
    /// Two things share bytes of the image.
    #[error("shares bytes with another inode")]
    Overlap,
    /// Unknown bits in `i_format`, or a data layout that the type cannot have.
    #[error("the format {format:#x} is not of this file type")]
    Format {
        /// `i_format`.
        format: u16,
    },
    /// `i_mode` holds no file type.
    #[error("the mode {mode:06o} has no file type")]
    Mode {
        /// `i_mode`.
        mode: u16,
    },
    /// A field that must be zero is not.
    #[error("a reserved field is not zero")]
    Reserved,
    /// A time with 10^9 nanoseconds or more.
    #[error("a time with {nanoseconds} nanoseconds")]
    Time {
        /// The claimed value.
        nanoseconds: u32,
    },
    /// A user or group id that means "none" to the kernel.
    #[error("the owner {uid}:{gid} is not one")]
    Owner {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
    },
    /// A size that the type cannot have.
    #[error("a size of {size} bytes")]
    Size {
        /// `i_size`.
        size: u64,
    },
    /// `nlink` is not the number of names, or of subdirectories + 2.
    #[error("nlink is {nlink}, and {names} names were found")]
    Links {
        /// The value found.
        nlink: u32,
        /// The value found.
        names: u32,
    },
    /// The root is not a directory.
    #[error("not a directory")]
    NotADirectory,
    /// It is not a symbolic link.
    #[error("not a symbolic link")]
    NotASymlink,
    /// It is not a regular file.
    #[error("not a regular file")]
    NotAFile,
    /// A directory has two parents, or is its own ancestor.
    #[error("a directory with two parents")]
    TwoParents,
    /// More components than [`limits::MAX_DEPTH`].
    #[error("more than {} directories deep", limits::MAX_DEPTH)]
    TooDeep,
    /// A directory block does not hold together.
    #[error("block {block} of the directory is not well-formed")]
    DirectoryBlock {
        /// Which block of the directory.
        block: u64,
    },
    /// A name is empty, too long, or holds a slash or NUL.
    #[error("the name {name} is not one")]
    Name {
        /// The name.
        name: PathName,
    },
    /// Names are not sorted, or one is there twice.
    #[error("the name {name} is not behind the one before it")]
    Order {
        /// The name.
        name: PathName,
    },
    /// The type a name announces is not that of its inode.
    #[error("the name {name} announces file type {file_type}, which its inode is not")]
    EntryType {
        /// The name.
        name: PathName,
        /// The value found.
        file_type: u8,
    },
    /// `.` or `..` is missing or leads elsewhere.
    #[error("`.` or `..` is missing or leads elsewhere")]
    Dots,
    /// A symbolic link's target holds NUL.
    #[error("the target holds NUL")]
    Target,
    /// The xattr body does not hold together.
    #[error("the extended attributes are not well-formed")]
    Xattrs,
    /// An attribute's name is of no prefix we know.
    #[error("an extended attribute with the unknown prefix {index}")]
    XattrPrefix {
        /// The prefix's number.
        index: u8,
    },
    /// An attribute is there twice.
    #[error("the extended attribute {name} is there twice")]
    XattrTwice {
        /// The attribute.
        name: PathName,
    },
    /// An attribute that overlayfs keeps for itself.
    #[error("the extended attribute {name} belongs to overlayfs")]
    OverlayXattr {
        /// The attribute.
        name: PathName,
    },
    /// A whiteout, where there is nothing to hide.
    #[error("a whiteout (character device 0:0)")]
    Whiteout,
    /// File data is not wholly inside one device.
    #[error("{blocks} blocks of data at block {block} are not inside one device")]
    OutOfDevice {
        /// First block, in the flat image.
        block: u64,
        /// Number of blocks.
        blocks: u64,
    },
    /// A block map beyond [`limits::MAX_MAP_ENTRIES`], or of a format we do not know.
    #[error("a block map of {entries} entries with the format {format:#x}")]
    Map {
        /// `i_u`.
        format: u32,
        /// Entries it would have.
        entries: u64,
    },
}

/// Why a tree cannot be laid out. A tree within the limits and rules of `dimsum-tree` causes none of these. They are
/// limits of addresses and mistakes of the caller.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The EROFS image would be beyond [`limits::MAX_EROFS_BLOCKS`].
    #[error("metadata of {blocks} blocks; the limit is {}", limits::MAX_EROFS_BLOCKS)]
    TooLarge {
        /// Blocks it would take.
        blocks: u64,
    },
    /// The runs could not be had.
    #[error("cannot get where the data of inode {} lies", inode.index())]
    Placements {
        /// The file.
        inode: InodeId,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The runs of a file do not describe it.
    #[error("the data of inode {} is placed wrongly", inode.index())]
    Runs {
        /// The file.
        inode: InodeId,
        /// The fault.
        #[source]
        fault: RunFault,
    },
    /// An extended attribute has a name that EROFS has no number for. `dimsum-tree` refuses such names, for the
    /// same list.
    #[error("inode {} has the extended attribute {name}, which EROFS cannot hold", inode.index())]
    XattrName {
        /// The inode.
        inode: InodeId,
        /// The attribute.
        name: PathName,
    },
    /// A whiteout, an opaque directory or an overlayfs attribute where there must be none.
    #[error("inode {} has a mark of overlayfs that does not belong into this tree", inode.index())]
    Overlay {
        /// The inode.
        inode: InodeId,
    },
}

/// The faults of the runs of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RunFault {
    /// They cover more or fewer blocks than the file has.
    #[error("{covered} blocks are placed, the file has {blocks}")]
    Length {
        /// Blocks of the runs.
        covered: u64,
        /// Blocks of the file.
        blocks: u64,
    },
    /// A run ends between two multiples of the slice size.
    #[error("a run ends at block {block} of the file, inside a slice")]
    Unaligned {
        /// Where.
        block: u64,
    },
    /// The map would be beyond [`limits::MAX_MAP_ENTRIES`].
    #[error("a block map of {entries} entries; the limit is {}", limits::MAX_MAP_ENTRIES)]
    TooManyEntries {
        /// Entries it would have.
        entries: u64,
    },
    /// An address beyond [`limits::MAX_BLOCKS`].
    #[error("data at block {block}; the limit is {}", limits::MAX_BLOCKS)]
    Address {
        /// The block.
        block: u64,
    },
}
