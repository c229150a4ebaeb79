//! From the bytes of a request to an [`Operation`].
//!
//! Pure and bounded: nothing is allocated, names and lists stay slices of the buffer, every length is checked against
//! the bytes that are there. The bytes come from the kernel and are checked all the same. The build that serves a held
//! session may know less of the protocol than the kernel.

use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::opcode::{Class, Opcode};
use crate::wire::{self, UNIQUE_RESEND};
use crate::{DecodeError, InitRequest, MAX_NAME, MAX_READ, MAX_XATTR};

/// A decoded request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Request<'a> {
    /// The caller and the node.
    pub header: Header,
    /// The operation.
    pub operation: Operation<'a>,
}

/// The part that all requests have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// Id of the request, answered with; bit 63 marks one that was handed out before.
    pub unique: u64,
    /// The node of the operation.
    pub node: u64,
    /// User of the caller.
    pub uid: u32,
    /// Group of the caller.
    pub gid: u32,
    /// Thread id of the caller, 0 for the kernel's own read-ahead or a foreign namespace.
    pub pid: u32,
}

/// The operation. Handles are what OPEN or OPENDIR answered, 0 where those are not supported.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Operation<'a> {
    /// Starts the session; answered by the session.
    Init(InitRequest),
    /// Finds a name in the directory; `.` and `..` come for file handles (NFS, `open_by_handle_at`) only.
    Lookup {
        /// The name: 1 to 255 bytes without NUL and `/`.
        name: &'a [u8],
    },
    /// Drops references to the node. Has no answer.
    Forget {
        /// How many.
        lookups: u64,
    },
    /// Drops references to many nodes. Has no answer.
    BatchForget(ForgetList<'a>),
    /// Asks for attributes.
    GetAttr {
        /// The open file, if `fstat` was called.
        handle: Option<u64>,
    },
    /// Asks for attributes with a birth time.
    Statx {
        /// The open file, if there is one.
        handle: Option<u64>,
        /// Which fields are wanted (`STATX_*`).
        mask: u32,
    },
    /// Asks for the target of a symbolic link.
    ReadLink,
    /// Opens a file.
    Open {
        /// Flags of `open(2)`.
        flags: u32,
    },
    /// Reads from a file.
    Read {
        /// The open file.
        handle: u64,
        /// First byte.
        offset: u64,
        /// Number of bytes, at most [`MAX_READ`].
        size: u32,
    },
    /// Closes the last use of an open file.
    Release {
        /// The open file.
        handle: u64,
    },
    /// Asks for figures of the file system.
    StatFs,
    /// A descriptor of an open file was closed.
    Flush {
        /// The open file.
        handle: u64,
    },
    /// Writes back an open file.
    Fsync {
        /// The open file.
        handle: u64,
        /// Data only.
        data_only: bool,
    },
    /// Asks for the value of an xattr.
    GetXattr {
        /// The full name, for example `user.mime`.
        name: &'a [u8],
        /// Room for the value; 0 asks for its length.
        size: u32,
    },
    /// Asks for the names of the xattrs.
    ListXattr {
        /// Room for the names; 0 asks for their length.
        size: u32,
    },
    /// Opens a directory.
    OpenDir {
        /// Flags of `open(2)`.
        flags: u32,
    },
    /// Lists a directory.
    ReadDir {
        /// The open directory.
        handle: u64,
        /// Where to go on: 0 or the position of the last entry seen.
        offset: u64,
        /// Room in bytes, at most [`MAX_READ`].
        size: u32,
    },
    /// Lists a directory with attributes.
    ReadDirPlus {
        /// The open directory.
        handle: u64,
        /// Where to go on: 0 or the position of the last entry seen.
        offset: u64,
        /// Room in bytes, at most [`MAX_READ`].
        size: u32,
    },
    /// Closes the last use of an open directory.
    ReleaseDir {
        /// The open directory.
        handle: u64,
    },
    /// Writes back an open directory.
    FsyncDir {
        /// The open directory.
        handle: u64,
        /// Data only.
        data_only: bool,
    },
    /// Asks whether the caller may access the node.
    Access {
        /// `R_OK`, `W_OK`, `X_OK`.
        mask: u32,
    },
    /// Looks for data or a hole.
    Lseek {
        /// The open file.
        handle: u64,
        /// Where to start.
        offset: u64,
        /// The kind of position.
        whence: Whence,
    },
    /// The caller of another request got a signal. Has no answer.
    Interrupt {
        /// Id of that request, without the resend mark.
        unique: u64,
    },
    /// Ends the session.
    Destroy,
    /// A device control.
    Ioctl {
        /// The open file.
        handle: u64,
        /// Its number.
        command: u32,
    },
    /// Would change the file system.
    Change {
        /// Which operation.
        opcode: Opcode,
    },
    /// Not offered by a read-only server, or unknown.
    NotOffered {
        /// Number of the operation.
        opcode: u32,
    },
}

/// The position that an LSEEK looks for; the kernel answers other kinds by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whence {
    /// The next byte that is not in a hole.
    Data,
    /// The next hole; the end of the file is one.
    Hole,
}

/// `SEEK_DATA`
const SEEK_DATA: u32 = 3;
/// `SEEK_HOLE`
const SEEK_HOLE: u32 = 4;

/// Nodes and how many references to each are dropped.
#[derive(Clone, Debug)]
pub struct ForgetList<'a> {
    /// Whole records; kept as bytes, since nothing says that the buffer is aligned.
    records: &'a [u8],
}

impl ForgetList<'_> {
    /// Returns `(node, lookups)` of each item.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.records
            .chunks_exact(size_of::<wire::ForgetOne>())
            .filter_map(|record| wire::ForgetOne::read_from_bytes(record).ok())
            .map(|record| (record.nodeid, record.nlookup))
    }
}

impl Header {
    /// Returns whether the request was handed out before, to this server or to a predecessor.
    #[must_use]
    pub fn is_resent(&self) -> bool {
        self.unique & UNIQUE_RESEND != 0
    }
}

impl<'a> Request<'a> {
    /// Decodes one request as read from the device.
    ///
    /// # Errors
    /// [`DecodeError`]; if it has a [`DecodeError::unique`], the request can be refused with its errno.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let Ok((raw, body)) = wire::InHeader::read_from_prefix(bytes) else {
            return Err(DecodeError::NoHeader { length: bytes.len() });
        };
        if usize::try_from(raw.len) != Ok(bytes.len()) {
            return Err(DecodeError::WrongLength { unique: raw.unique, announced: raw.len, length: bytes.len() });
        }
        let mut arguments = Arguments { unique: raw.unique, opcode: raw.opcode, rest: body };
        arguments.drop_extensions(raw.total_extlen)?;
        Ok(Self {
            header: Header { unique: raw.unique, node: raw.nodeid, uid: raw.uid, gid: raw.gid, pid: raw.pid },
            operation: arguments.operation()?,
        })
    }
}

/// The bytes after the header.
struct Arguments<'a> {
    unique: u64,
    opcode: u32,
    rest: &'a [u8],
}

impl<'a> Arguments<'a> {
    /// Cuts off extension records, which lie behind the arguments, in units of 8 bytes.
    fn drop_extensions(&mut self, units: u16) -> Result<(), DecodeError> {
        let kept = self.rest.len().checked_sub(usize::from(units) * 8);
        let kept = kept.and_then(|kept| self.rest.get(..kept));
        self.rest = kept.ok_or_else(|| self.truncated())?;
        Ok(())
    }

    fn operation(&mut self) -> Result<Operation<'a>, DecodeError> {
        let Some(opcode) = Opcode::from_number(self.opcode) else {
            return Ok(Operation::NotOffered { opcode: self.opcode });
        };
        match opcode.class() {
            Class::Served => self.served(opcode),
            Class::Changes => Ok(Operation::Change { opcode }),
            Class::NotOffered => Ok(Operation::NotOffered { opcode: self.opcode }),
        }
    }

    fn served(&mut self, opcode: Opcode) -> Result<Operation<'a>, DecodeError> {
        Ok(match opcode {
            Opcode::Init => self.init()?,
            Opcode::Lookup => Operation::Lookup { name: self.file_name()? },
            Opcode::Forget => Operation::Forget { lookups: self.take::<wire::ForgetIn>()?.nlookup },
            Opcode::BatchForget => self.batch_forget()?,
            Opcode::GetAttr => {
                let raw = self.take::<wire::GetattrIn>()?;
                Operation::GetAttr { handle: handle_of(raw.getattr_flags, raw.fh) }
            }
            Opcode::Statx => {
                let raw = self.take::<wire::StatxIn>()?;
                Operation::Statx { handle: handle_of(raw.getattr_flags, raw.fh), mask: raw.sx_mask }
            }
            Opcode::ReadLink => Operation::ReadLink,
            Opcode::Open => Operation::Open { flags: self.take::<wire::OpenIn>()?.flags },
            Opcode::Read | Opcode::ReadDir | Opcode::ReadDirPlus => self.read(opcode)?,
            Opcode::Release => Operation::Release { handle: self.take::<wire::ReleaseIn>()?.fh },
            Opcode::StatFs => Operation::StatFs,
            Opcode::Flush => Operation::Flush { handle: self.take::<wire::FlushIn>()?.fh },
            Opcode::Fsync | Opcode::FsyncDir => self.fsync(opcode)?,
            Opcode::GetXattr => {
                let size = self.xattr_size()?;
                Operation::GetXattr { name: self.name()?, size }
            }
            Opcode::ListXattr => Operation::ListXattr { size: self.xattr_size()? },
            Opcode::OpenDir => Operation::OpenDir { flags: self.take::<wire::OpenIn>()?.flags },
            Opcode::ReleaseDir => Operation::ReleaseDir { handle: self.take::<wire::ReleaseIn>()?.fh },
            Opcode::Access => Operation::Access { mask: self.take::<wire::AccessIn>()?.mask },
            Opcode::Lseek => self.lseek()?,
            Opcode::Interrupt => {
                Operation::Interrupt { unique: self.take::<wire::InterruptIn>()?.unique & !UNIQUE_RESEND }
            }
            Opcode::Destroy => Operation::Destroy,
            Opcode::Ioctl => {
                let raw = self.take::<wire::IoctlIn>()?;
                Operation::Ioctl { handle: raw.fh, command: raw.cmd }
            }
            // The table says of every other operation that it is not served.
            _ => Operation::NotOffered { opcode: self.opcode },
        })
    }

    fn init(&mut self) -> Result<Operation<'a>, DecodeError> {
        let raw = self.take::<wire::InitIn>()?;
        let mut flags = u64::from(raw.flags);
        if flags & wire::flag::INIT_EXT != 0 {
            flags |= u64::from(self.take::<wire::InitInExt>()?.flags2) << 32;
        }
        Ok(Operation::Init(InitRequest { major: raw.major, minor: raw.minor, max_readahead: raw.max_readahead, flags }))
    }

    fn batch_forget(&mut self) -> Result<Operation<'a>, DecodeError> {
        let count = self.take::<wire::BatchForgetIn>()?.count;
        let length = usize::try_from(count).ok().and_then(|count| count.checked_mul(size_of::<wire::ForgetOne>()));
        // The list borrows from the buffer, so its bytes bound `count`.
        let records = length.and_then(|length| self.rest.get(..length));
        Ok(Operation::BatchForget(ForgetList { records: records.ok_or_else(|| self.truncated())? }))
    }

    fn read(&mut self, opcode: Opcode) -> Result<Operation<'a>, DecodeError> {
        let raw = self.take::<wire::ReadIn>()?;
        let (handle, offset) = (raw.fh, raw.offset);
        let size = self.at_most(raw.size, MAX_READ)?;
        Ok(match opcode {
            Opcode::ReadDir => Operation::ReadDir { handle, offset, size },
            Opcode::ReadDirPlus => Operation::ReadDirPlus { handle, offset, size },
            _ => Operation::Read { handle, offset, size },
        })
    }

    fn fsync(&mut self, opcode: Opcode) -> Result<Operation<'a>, DecodeError> {
        let raw = self.take::<wire::FsyncIn>()?;
        let handle = raw.fh;
        let data_only = raw.fsync_flags & wire::FSYNC_FDATASYNC != 0;
        Ok(if opcode == Opcode::FsyncDir {
            Operation::FsyncDir { handle, data_only }
        } else {
            Operation::Fsync { handle, data_only }
        })
    }

    fn lseek(&mut self) -> Result<Operation<'a>, DecodeError> {
        let raw = self.take::<wire::LseekIn>()?;
        let whence = match raw.whence {
            SEEK_DATA => Whence::Data,
            SEEK_HOLE => Whence::Hole,
            other => {
                return Err(DecodeError::BadArgument {
                    unique: self.unique,
                    opcode: self.opcode,
                    value: u64::from(other),
                });
            }
        };
        Ok(Operation::Lseek { handle: raw.fh, offset: raw.offset, whence })
    }

    fn xattr_size(&mut self) -> Result<u32, DecodeError> {
        let size = self.take::<wire::GetxattrIn>()?.size;
        self.at_most(size, MAX_XATTR)
    }

    fn file_name(&mut self) -> Result<&'a [u8], DecodeError> {
        let name = self.name()?;
        if name.contains(&b'/') {
            return Err(self.bad_name());
        }
        Ok(name)
    }

    /// Takes a name up to its NUL, which must be the last byte.
    fn name(&mut self) -> Result<&'a [u8], DecodeError> {
        let Some((&0, name)) = self.rest.split_last() else {
            return Err(self.bad_name());
        };
        if name.is_empty() || name.contains(&0) {
            return Err(self.bad_name());
        }
        if name.len() > MAX_NAME {
            return Err(DecodeError::NameTooLong { unique: self.unique, opcode: self.opcode, length: name.len() });
        }
        self.rest = &[];
        Ok(name)
    }

    /// Takes a structure; a newer kernel may append fields to it, which are left.
    fn take<T: FromBytes + KnownLayout + Immutable>(&mut self) -> Result<T, DecodeError> {
        let (value, rest) = T::read_from_prefix(self.rest).map_err(|_| self.truncated())?;
        self.rest = rest;
        Ok(value)
    }

    fn at_most(&self, size: u32, limit: u32) -> Result<u32, DecodeError> {
        if size > limit {
            return Err(DecodeError::TooLarge { unique: self.unique, opcode: self.opcode, size });
        }
        Ok(size)
    }

    fn truncated(&self) -> DecodeError {
        DecodeError::Truncated { unique: self.unique, opcode: self.opcode }
    }

    fn bad_name(&self) -> DecodeError {
        DecodeError::BadName { unique: self.unique, opcode: self.opcode }
    }
}

fn handle_of(flags: u32, handle: u64) -> Option<u64> {
    (flags & wire::GETATTR_FH != 0).then_some(handle)
}
