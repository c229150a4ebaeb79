//! The bytes on `/dev/fuse`: structures of protocol 7.31 to 7.45 as the kernel lays them out.
//!
//! All are in host byte order, padded to 8 bytes by explicit fields, and used only inside this crate: above it
//! there are domain types. Field names follow the kernel's header.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The protocol's major version; the kernel refuses every other.
pub(crate) const MAJOR: u32 = 7;
/// The newest minor version whose structures are written down here.
pub(crate) const MINOR: u32 = 45;
/// The oldest minor version served (Linux 5.4): from 7.28 on max_pages and cached symlinks exist, and 5.4 is
/// older than any kernel the drivers support.
pub(crate) const MIN_MINOR: u32 = 31;
/// The kernel reads no request into a smaller buffer.
pub(crate) const MIN_READ_BUFFER: usize = 8192;
/// Marks a request that was handed out before, to this server or a predecessor.
pub(crate) const UNIQUE_RESEND: u64 = 1 << 63;
/// Asks the kernel to queue again everything that is handed out and unanswered.
pub(crate) const NOTIFY_RESEND: i32 = 7;
/// `getattr_flags`: the handle field holds a file handle.
pub(crate) const GETATTR_FH: u32 = 1;
/// `fsync_flags`: data only.
pub(crate) const FSYNC_FDATASYNC: u32 = 1;

/// Gives the derives that every structure has.
macro_rules! wire {
    ($($(#[$doc:meta])* struct $name:ident { $($field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub(crate) struct $name { $(pub(crate) $field: $type,)* }
    )*};
}

wire! {
    struct InHeader {
        len: u32,
        opcode: u32,
        unique: u64,
        nodeid: u64,
        uid: u32,
        gid: u32,
        pid: u32,
        total_extlen: u16,
        padding: u16,
    }
    struct OutHeader {
        len: u32,
        error: i32,
        unique: u64,
    }
    /// The part of INIT that every served kernel sends.
    struct InitIn {
        major: u32,
        minor: u32,
        max_readahead: u32,
        flags: u32,
    }
    /// The bytes behind [`InitIn`] from 7.36 on; the rest is reserved.
    struct InitInExt {
        flags2: u32,
    }
    struct InitOut {
        major: u32,
        minor: u32,
        max_readahead: u32,
        flags: u32,
        max_background: u16,
        congestion_threshold: u16,
        max_write: u32,
        time_gran: u32,
        max_pages: u16,
        map_alignment: u16,
        flags2: u32,
        max_stack_depth: u32,
        request_timeout: u16,
        unused: [u16; 11],
    }
    struct AttrBody {
        ino: u64,
        size: u64,
        blocks: u64,
        atime: u64,
        mtime: u64,
        ctime: u64,
        atimensec: u32,
        mtimensec: u32,
        ctimensec: u32,
        mode: u32,
        nlink: u32,
        uid: u32,
        gid: u32,
        rdev: u32,
        blksize: u32,
        flags: u32,
    }
    struct EntryOut {
        nodeid: u64,
        generation: u64,
        entry_valid: u64,
        attr_valid: u64,
        entry_valid_nsec: u32,
        attr_valid_nsec: u32,
        attr: AttrBody,
    }
    struct AttrOut {
        attr_valid: u64,
        attr_valid_nsec: u32,
        dummy: u32,
        attr: AttrBody,
    }
    struct SxTime {
        sec: i64,
        nsec: u32,
        reserved: i32,
    }
    struct StatxBody {
        mask: u32,
        blksize: u32,
        attributes: u64,
        nlink: u32,
        uid: u32,
        gid: u32,
        mode: u16,
        spare0: u16,
        ino: u64,
        size: u64,
        blocks: u64,
        attributes_mask: u64,
        atime: SxTime,
        btime: SxTime,
        ctime: SxTime,
        mtime: SxTime,
        rdev_major: u32,
        rdev_minor: u32,
        dev_major: u32,
        dev_minor: u32,
        spare2: [u64; 14],
    }
    struct StatxOut {
        attr_valid: u64,
        attr_valid_nsec: u32,
        flags: u32,
        spare: [u64; 2],
        stat: StatxBody,
    }
    struct StatfsOut {
        blocks: u64,
        bfree: u64,
        bavail: u64,
        files: u64,
        ffree: u64,
        bsize: u32,
        namelen: u32,
        frsize: u32,
        padding: u32,
        spare: [u32; 6],
    }
    struct ForgetIn {
        nlookup: u64,
    }
    struct BatchForgetIn {
        count: u32,
        dummy: u32,
    }
    struct ForgetOne {
        nodeid: u64,
        nlookup: u64,
    }
    struct GetattrIn {
        getattr_flags: u32,
        dummy: u32,
        fh: u64,
    }
    struct StatxIn {
        getattr_flags: u32,
        reserved: u32,
        fh: u64,
        sx_flags: u32,
        sx_mask: u32,
    }
    struct OpenIn {
        flags: u32,
        open_flags: u32,
    }
    struct OpenOut {
        fh: u64,
        open_flags: u32,
        padding: u32,
    }
    struct ReadIn {
        fh: u64,
        offset: u64,
        size: u32,
        read_flags: u32,
        lock_owner: u64,
        flags: u32,
        padding: u32,
    }
    struct ReleaseIn {
        fh: u64,
        flags: u32,
        release_flags: u32,
        lock_owner: u64,
    }
    struct FlushIn {
        fh: u64,
        unused: u32,
        padding: u32,
        lock_owner: u64,
    }
    struct FsyncIn {
        fh: u64,
        fsync_flags: u32,
        padding: u32,
    }
    struct GetxattrIn {
        size: u32,
        padding: u32,
    }
    struct GetxattrOut {
        size: u32,
        padding: u32,
    }
    struct AccessIn {
        mask: u32,
        padding: u32,
    }
    struct InterruptIn {
        unique: u64,
    }
    struct IoctlIn {
        fh: u64,
        flags: u32,
        cmd: u32,
        arg: u64,
        in_size: u32,
        out_size: u32,
    }
    struct LseekIn {
        fh: u64,
        offset: u64,
        whence: u32,
        padding: u32,
    }
    struct LseekOut {
        offset: u64,
    }
    /// The head of a directory entry; the name follows, padded to 8 bytes.
    struct Dirent {
        ino: u64,
        off: u64,
        namelen: u32,
        kind: u32,
    }
}

/// Bits of the 64-bit INIT flags (`flags | flags2 << 32`) that this server speaks of.
pub(crate) mod flag {
    pub(crate) const ASYNC_READ: u64 = 1 << 0;
    pub(crate) const EXPORT_SUPPORT: u64 = 1 << 4;
    pub(crate) const DO_READDIRPLUS: u64 = 1 << 13;
    pub(crate) const READDIRPLUS_AUTO: u64 = 1 << 14;
    pub(crate) const ASYNC_DIO: u64 = 1 << 15;
    pub(crate) const NO_OPEN_SUPPORT: u64 = 1 << 17;
    pub(crate) const PARALLEL_DIROPS: u64 = 1 << 18;
    pub(crate) const POSIX_ACL: u64 = 1 << 20;
    pub(crate) const MAX_PAGES: u64 = 1 << 22;
    pub(crate) const CACHE_SYMLINKS: u64 = 1 << 23;
    pub(crate) const NO_OPENDIR_SUPPORT: u64 = 1 << 24;
    pub(crate) const INIT_EXT: u64 = 1 << 30;
    pub(crate) const NO_EXPORT_SUPPORT: u64 = 1 << 38;
    pub(crate) const HAS_RESEND: u64 = 1 << 39;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_sizes_of_the_kernel_header() {
        let sizes = [
            (size_of::<InHeader>(), 40),
            (size_of::<OutHeader>(), 16),
            (size_of::<InitIn>(), 16),
            (size_of::<InitOut>(), 64),
            (size_of::<AttrBody>(), 88),
            (size_of::<EntryOut>(), 128),
            (size_of::<AttrOut>(), 104),
            (size_of::<StatxBody>(), 256),
            (size_of::<StatxOut>(), 288),
            (size_of::<StatfsOut>(), 80),
            (size_of::<ReadIn>(), 40),
            (size_of::<ReleaseIn>(), 24),
            (size_of::<LseekIn>(), 24),
            (size_of::<IoctlIn>(), 32),
            (size_of::<Dirent>(), 24),
        ];
        for (index, (ours, kernel)) in sizes.into_iter().enumerate() {
            assert_eq!(ours, kernel, "row {index}");
        }
    }
}
