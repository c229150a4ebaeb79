//! The table of operations: number, name, and what a read-only server does with each.

/// The treatment of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Decoded and answered, by the session itself or by the [`crate::Filesystem`].
    Served,
    /// Would change the file system: answered `EROFS`.
    Changes,
    /// Offered by no read-only server: answered `ENOSYS`, after which the kernel does not ask again or does
    /// the thing by itself.
    NotOffered,
}

macro_rules! opcodes {
    ($($name:ident = $number:literal $class:ident,)*) => {
        /// An operation of the FUSE protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the names are the protocol's own")]
        #[non_exhaustive]
        pub enum Opcode {
            $($name = $number,)*
        }

        impl Opcode {
            /// Every operation of the table.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Returns the operation with this number, if it is in the table.
            #[must_use]
            pub const fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Returns the number on the wire.
            #[must_use]
            pub const fn number(self) -> u32 {
                match self {
                    $(Self::$name => $number,)*
                }
            }

            /// Returns what becomes of the operation.
            #[must_use]
            pub const fn class(self) -> Class {
                match self {
                    $(Self::$name => Class::$class,)*
                }
            }
        }
    };
}

opcodes! {
    Lookup = 1 Served,
    Forget = 2 Served,
    GetAttr = 3 Served,
    SetAttr = 4 Changes,
    ReadLink = 5 Served,
    Symlink = 6 Changes,
    MkNod = 8 Changes,
    MkDir = 9 Changes,
    Unlink = 10 Changes,
    RmDir = 11 Changes,
    Rename = 12 Changes,
    Link = 13 Changes,
    Open = 14 Served,
    Read = 15 Served,
    Write = 16 Changes,
    StatFs = 17 Served,
    Release = 18 Served,
    Fsync = 20 Served,
    SetXattr = 21 Changes,
    GetXattr = 22 Served,
    ListXattr = 23 Served,
    RemoveXattr = 24 Changes,
    Flush = 25 Served,
    Init = 26 Served,
    OpenDir = 27 Served,
    ReadDir = 28 Served,
    ReleaseDir = 29 Served,
    FsyncDir = 30 Served,
    GetLk = 31 NotOffered,
    SetLk = 32 NotOffered,
    SetLkW = 33 NotOffered,
    Access = 34 Served,
    Create = 35 Changes,
    Interrupt = 36 Served,
    Bmap = 37 NotOffered,
    Destroy = 38 Served,
    Ioctl = 39 Served,
    Poll = 40 NotOffered,
    NotifyReply = 41 NotOffered,
    BatchForget = 42 Served,
    Fallocate = 43 Changes,
    ReadDirPlus = 44 Served,
    Rename2 = 45 Changes,
    Lseek = 46 Served,
    CopyFileRange = 47 Changes,
    SetupMapping = 48 NotOffered,
    RemoveMapping = 49 NotOffered,
    SyncFs = 50 NotOffered,
    TmpFile = 51 Changes,
    Statx = 52 Served,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_agree() {
        for &opcode in Opcode::ALL {
            assert_eq!(Opcode::from_number(opcode.number()), Some(opcode));
        }
        assert_eq!(Opcode::from_number(0), None);
        assert_eq!(Opcode::from_number(4096), None);
    }
}
