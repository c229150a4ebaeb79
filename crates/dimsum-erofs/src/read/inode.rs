//! One inode, decoded.

use dimsum_tree::{DeviceNumber, FileType, Timestamp};
use zerocopy::FromBytes;

use crate::error::ErofsFault;
use crate::limits::NANOSECONDS;
use crate::ondisk::{self, BLOCK, InodeCompact, InodeExtended, Superblock, XattrEntry, XattrHeader};

/// The fields of an inode, by value. Its pointers are checked when they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErofsInode {
    nid: u64,
    position: u64,
    size: u64,
    mtime: Timestamp,
    number: u32,
    nlink: u32,
    uid: u32,
    gid: u32,
    xattr_len: u32,
    mode: u16,
    file_type: FileType,
    format: u16,
    reserved_is_zero: bool,
    data: Data,
}

/// Where the bytes of an inode are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// Nowhere: a device node (with its number, 0:0 for all else), a FIFO or a socket.
    None(DeviceNumber),
    /// In one run of blocks.
    Plain {
        /// The first of them; `None` for a hole.
        block: Option<u32>,
    },
    /// In one run of blocks, but the last, partial one lies behind the inode.
    Inline {
        /// The first of them.
        block: u32,
    },
    /// Where the block map behind the inode says.
    Map {
        /// log2 of the blocks each entry covers.
        bits: u32,
    },
}

impl ErofsInode {
    /// Decodes an inode from the bytes at its position, 64 of them unless the image ends before.
    pub(super) fn parse(nid: u64, position: u64, bytes: &[u8], superblock: &Superblock) -> Result<Self, ErofsFault> {
        let out = ErofsFault::OutOfImage { offset: position, length: 64 };
        let Ok((compact, _)) = InodeCompact::read_from_prefix(bytes) else { return Err(out) };
        let format = compact.format.get();
        if format & !ondisk::FORMAT_ALL != 0 {
            return Err(ErofsFault::Format { format });
        }
        let common = Timestamp {
            seconds: superblock.build_time.get().cast_signed(),
            nanoseconds: superblock.build_time_nsec.get(),
        };
        let mode = compact.mode.get();
        let file_type = FileType::from_mode(mode.into()).ok_or(ErofsFault::Mode { mode })?;
        let xattr_len = xattr_len(compact.xattr_icount.get());
        let base = Self {
            nid,
            position,
            size: compact.size.get().into(),
            mtime: common,
            number: compact.ino.get(),
            nlink: compact.nlink.get().into(),
            uid: compact.uid.get().into(),
            gid: compact.gid.get().into(),
            xattr_len,
            mode,
            file_type,
            format,
            reserved_is_zero: compact.reserved.get() == 0 && compact.reserved2.get() == 0,
            data: data(format, file_type, compact.u.get())?,
        };
        if format & ondisk::FORMAT_EXTENDED == 0 {
            return Ok(base);
        }
        let Ok((extended, _)) = InodeExtended::read_from_prefix(bytes) else { return Err(out) };
        let nanoseconds = extended.mtime_nsec.get();
        if nanoseconds >= NANOSECONDS {
            return Err(ErofsFault::Time { nanoseconds });
        }
        Ok(Self {
            size: extended.size.get(),
            mtime: Timestamp { seconds: extended.mtime.get().cast_signed(), nanoseconds },
            number: extended.ino.get(),
            nlink: extended.nlink.get(),
            uid: extended.uid.get(),
            gid: extended.gid.get(),
            reserved_is_zero: extended.reserved.get() == 0 && extended.reserved2 == [0; 16],
            data: data(format, file_type, extended.u.get())?,
            ..base
        })
    }

    /// Returns what names the inode in its image.
    #[must_use]
    pub const fn nid(&self) -> u64 {
        self.nid
    }

    /// Returns `i_ino`: the number in path order + 1 in our images.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Returns its type.
    #[must_use]
    pub const fn file_type(&self) -> FileType {
        self.file_type
    }

    /// Returns whether it is a directory.
    #[must_use]
    pub const fn is_directory(&self) -> bool {
        matches!(self.file_type, FileType::Directory)
    }

    /// Returns `st_mode`: type and permissions.
    #[must_use]
    pub const fn mode(&self) -> u16 {
        self.mode
    }

    /// Returns the lower 12 bits of `st_mode`.
    #[must_use]
    pub const fn permissions(&self) -> u16 {
        self.mode & 0o7777
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
        self.mtime
    }

    /// Returns the number of names, for a directory 2 and one for each subdirectory.
    #[must_use]
    pub const fn nlink(&self) -> u32 {
        self.nlink
    }

    /// Returns the length in bytes: of a file, of a symbolic link's target, of a directory's entries as stored.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Returns the device a device node stands for, 0:0 for all else.
    #[must_use]
    pub const fn rdev(&self) -> DeviceNumber {
        match self.data {
            Data::None(device) => device,
            _ => DeviceNumber { major: 0, minor: 0 },
        }
    }

    /// Returns where its bytes are.
    #[must_use]
    pub const fn data(&self) -> Data {
        self.data
    }

    /// Returns whether it takes 64 bytes and has an mtime of its own.
    #[must_use]
    pub const fn is_extended(&self) -> bool {
        self.format & ondisk::FORMAT_EXTENDED != 0
    }

    /// Returns whether it has extended attributes.
    #[must_use]
    pub const fn has_xattrs(&self) -> bool {
        self.xattr_len != 0
    }

    /// Returns whether all fields without a meaning are zero.
    pub(crate) const fn reserved_is_zero(&self) -> bool {
        self.reserved_is_zero
    }

    /// Returns the data layout, which means nothing for an inode without data.
    pub(crate) const fn layout(&self) -> u16 {
        self.format >> ondisk::FORMAT_LAYOUT_SHIFT
    }

    /// Returns where it starts.
    pub(crate) const fn position(&self) -> u64 {
        self.position
    }

    /// Returns where its xattr body starts, and the length of that.
    pub(crate) const fn xattr_body(&self) -> (u64, u32) {
        let header = if self.is_extended() { 64 } else { 32 };
        (self.position.saturating_add(header), self.xattr_len)
    }

    /// Returns where the inline tail or the block map starts.
    pub(crate) const fn behind(&self) -> u64 {
        let (start, len) = self.xattr_body();
        start.saturating_add(len as u64)
    }

    /// Returns the number of blocks its bytes take, the last one perhaps partly.
    pub(crate) const fn size_in_blocks(&self) -> u64 {
        self.size.div_ceil(BLOCK)
    }
}

/// Returns the length of an xattr body from `i_xattr_icount`.
fn xattr_len(count: u16) -> u32 {
    match u32::from(count).checked_sub(1) {
        None => 0,
        Some(more) => size_of::<XattrHeader>() as u32 + more * size_of::<XattrEntry>() as u32,
    }
}

/// Decodes data layout and `i_u`.
fn data(format: u16, file_type: FileType, u: u32) -> Result<Data, ErofsFault> {
    let layout = format >> ondisk::FORMAT_LAYOUT_SHIFT;
    match (file_type, layout) {
        (FileType::CharDevice | FileType::BlockDevice, _) => {
            let (major, minor) = ondisk::decode_device(u);
            Ok(Data::None(DeviceNumber { major, minor }))
        }
        (FileType::Fifo | FileType::Socket, _) => Ok(Data::None(DeviceNumber::default())),
        (_, ondisk::LAYOUT_FLAT_PLAIN) => Ok(Data::Plain { block: (u != ondisk::NULL_ADDRESS).then_some(u) }),
        (_, ondisk::LAYOUT_FLAT_INLINE) => Ok(Data::Inline { block: u }),
        (FileType::Regular, ondisk::LAYOUT_CHUNK_BASED) if u & !ondisk::CHUNK_FORMAT_BITS == 0 => {
            Ok(Data::Map { bits: u })
        }
        (FileType::Regular, ondisk::LAYOUT_CHUNK_BASED) => Err(ErofsFault::Map { format: u, entries: 0 }),
        _ => Err(ErofsFault::Format { format }),
    }
}
