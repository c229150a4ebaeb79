//! Replies about nodes: attributes, entries, figures of the whole file system.

use std::time::Duration;

use crate::wire::{AttrBody, AttrOut, EntryOut, StatfsOut, StatxBody, StatxOut, SxTime};

/// A validity that does not end while a mount lives, for trees that never change.
///
/// 136 years: the kernel turns larger values into clock ticks with saturation, but not in every version.
pub const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

/// `STATX_BASIC_STATS`: everything that [`Attr`] holds.
const STATX_BASIC_STATS: u32 = 0x7ff;

/// A point in time; before 1970 the seconds are negative and the nanoseconds count forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamp {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds after that second, below one thousand million.
    pub nanoseconds: u32,
}

/// The attributes of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attr {
    /// Inode number as `stat` shows it; may differ from the node id.
    pub ino: u64,
    /// Length in bytes.
    pub size: u64,
    /// Allocated blocks of 512 bytes.
    pub blocks: u64,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of the node.
    pub ctime: Timestamp,
    /// File type and permission bits (`st_mode`).
    pub mode: u32,
    /// Number of hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node, made by [`encode_device`].
    pub rdev: u32,
    /// Preferred size of reads in bytes.
    pub block_size: u32,
}

/// A node under a name, as a lookup finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Node id, not 0; the kernel names the node by it from then on.
    pub node: u64,
    /// Tells apart nodes that had the same id at different times; 0 where ids are never used again.
    pub generation: u64,
    /// How long the name stays valid.
    pub entry_validity: Duration,
    /// How long the attributes stay valid.
    pub attr_validity: Duration,
    /// The attributes.
    pub attr: Attr,
}

/// Figures of the whole file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatFs {
    /// Size of a block in bytes.
    pub block_size: u32,
    /// Number of blocks; none is ever free.
    pub blocks: u64,
    /// Number of inodes; none is ever free.
    pub files: u64,
}

/// Returns a device number in the form that [`Attr::rdev`] holds (the kernel's 32-bit encoding).
#[must_use]
pub const fn encode_device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0x000f_ff00) << 12)
}

impl Attr {
    pub(crate) fn body(&self) -> AttrBody {
        AttrBody {
            ino: self.ino,
            size: self.size,
            blocks: self.blocks,
            // The kernel reads the field as a signed number again.
            atime: self.atime.seconds.cast_unsigned(),
            mtime: self.mtime.seconds.cast_unsigned(),
            ctime: self.ctime.seconds.cast_unsigned(),
            atimensec: self.atime.nanoseconds,
            mtimensec: self.mtime.nanoseconds,
            ctimensec: self.ctime.nanoseconds,
            mode: self.mode,
            nlink: self.nlink,
            uid: self.uid,
            gid: self.gid,
            rdev: self.rdev,
            blksize: self.block_size,
            flags: 0,
        }
    }

    pub(crate) fn out(&self, validity: Duration) -> AttrOut {
        AttrOut {
            attr_valid: validity.as_secs(),
            attr_valid_nsec: validity.subsec_nanos(),
            dummy: 0,
            attr: self.body(),
        }
    }

    pub(crate) fn statx_out(&self, validity: Duration) -> StatxOut {
        let (rdev_major, rdev_minor) = decode_device(self.rdev);
        StatxOut {
            attr_valid: validity.as_secs(),
            attr_valid_nsec: validity.subsec_nanos(),
            flags: 0,
            spare: [0; 2],
            stat: StatxBody {
                mask: STATX_BASIC_STATS,
                blksize: self.block_size,
                attributes: 0,
                nlink: self.nlink,
                uid: self.uid,
                gid: self.gid,
                // File type and permissions are the low 16 bits.
                mode: u16::try_from(self.mode & 0xffff).unwrap_or_default(),
                spare0: 0,
                ino: self.ino,
                size: self.size,
                blocks: self.blocks,
                attributes_mask: 0,
                atime: self.atime.statx(),
                btime: Timestamp::default().statx(),
                ctime: self.ctime.statx(),
                mtime: self.mtime.statx(),
                rdev_major,
                rdev_minor,
                dev_major: 0,
                dev_minor: 0,
                spare2: [0; 14],
            },
        }
    }
}

impl Entry {
    pub(crate) fn out(&self) -> EntryOut {
        EntryOut {
            nodeid: self.node,
            generation: self.generation,
            entry_valid: self.entry_validity.as_secs(),
            attr_valid: self.attr_validity.as_secs(),
            entry_valid_nsec: self.entry_validity.subsec_nanos(),
            attr_valid_nsec: self.attr_validity.subsec_nanos(),
            attr: self.attr.body(),
        }
    }

    /// Returns what says "no such name" for `validity`: node id 0.
    pub(crate) fn negative(validity: Duration) -> EntryOut {
        Self { node: 0, generation: 0, entry_validity: validity, attr_validity: Duration::ZERO, attr: Attr::default() }
            .out()
    }
}

impl StatFs {
    pub(crate) fn out(&self) -> StatfsOut {
        StatfsOut {
            blocks: self.blocks,
            bfree: 0,
            bavail: 0,
            files: self.files,
            ffree: 0,
            bsize: self.block_size,
            namelen: MAX_NAME_ON_WIRE,
            frsize: self.block_size,
            padding: 0,
            spare: [0; 6],
        }
    }
}

/// [`crate::MAX_NAME`] as the wire holds it.
const MAX_NAME_ON_WIRE: u32 = 255;

impl Timestamp {
    fn statx(self) -> SxTime {
        SxTime { sec: self.seconds, nsec: self.nanoseconds, reserved: 0 }
    }
}

fn decode_device(device: u32) -> (u32, u32) {
    ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0x000f_ff00))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_survive_the_encoding() {
        for (major, minor) in [(0, 0), (1, 3), (8, 255), (8, 256), (4095, 1_048_575)] {
            assert_eq!(decode_device(encode_device(major, minor)), (major, minor));
        }
        assert_eq!(encode_device(1, 3), 0x0103);
    }
}
