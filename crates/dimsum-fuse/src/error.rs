//! The errors: one type for sessions and mounts, one for the bytes of a request.

use std::io;

use rustix::io::Errno;

use crate::InitReply;

/// An error of a session, the pool or a mount.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call on a FUSE device failed.
    #[error("cannot {action} the FUSE device")]
    Device {
        /// The attempted action, as a verb.
        action: &'static str,
        /// The kernel's error.
        source: Errno,
    },
    /// A step of making or attaching a mount failed.
    #[error("cannot mount {source_name}: {step} failed")]
    Mount {
        /// The source name of the mount.
        source_name: String,
        /// The step: the system call and its parameter.
        step: &'static str,
        /// The kernel's error.
        source: Errno,
    },
    /// The pool could not be set up.
    #[error("cannot set up the FUSE thread pool")]
    Pool {
        /// The kernel's error.
        source: io::Error,
    },
    /// Stored bytes are no INIT reply.
    #[error(
        "stored INIT reply is damaged: {length} bytes where {} are expected, or another protocol",
        InitReply::LENGTH
    )]
    BadInitReply {
        /// How many bytes there were.
        length: usize,
    },
    /// A predecessor agreed on larger requests than this server can read.
    #[error("held session may send requests of {max_write} bytes, this server reads at most {limit}")]
    Incompatible {
        /// The predecessor's agreement.
        max_write: u32,
        /// The limit of this server.
        limit: u32,
    },
    /// The kernel cannot send requests again (before Linux 6.9).
    #[error("the kernel cannot send requests in flight again (needs Linux 6.9)")]
    NoResend,
    /// A name in a directory listing is empty, too long, or holds NUL or `/`.
    #[error("not a file name: {} bytes", name.len())]
    BadName {
        /// The name.
        name: Vec<u8>,
    },
}

/// Bytes that are not a request of the FUSE protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Fewer bytes than a request header has; it cannot be answered.
    #[error("{length} bytes are no request header")]
    NoHeader {
        /// How many bytes there are.
        length: usize,
    },
    /// The header's length is not the number of bytes.
    #[error("request {unique}: header says {announced} bytes, {length} came")]
    WrongLength {
        /// Id of the request.
        unique: u64,
        /// The value in the header.
        announced: u32,
        /// How many bytes there are.
        length: usize,
    },
    /// The arguments are shorter than the operation's.
    #[error("request {unique}, opcode {opcode}: arguments are cut off")]
    Truncated {
        /// Id of the request.
        unique: u64,
        /// Its operation.
        opcode: u32,
    },
    /// A name is empty, not ended by NUL, holds `/` where it may not, or is followed by more bytes.
    #[error("request {unique}, opcode {opcode}: bad name")]
    BadName {
        /// Id of the request.
        unique: u64,
        /// Its operation.
        opcode: u32,
    },
    /// A name is longer than [`crate::MAX_NAME`].
    #[error("request {unique}, opcode {opcode}: name of {length} bytes")]
    NameTooLong {
        /// Id of the request.
        unique: u64,
        /// Its operation.
        opcode: u32,
        /// Length of the name.
        length: usize,
    },
    /// The answer may be larger than any that Linux asks for.
    #[error("request {unique}, opcode {opcode}: asks for {size} bytes")]
    TooLarge {
        /// Id of the request.
        unique: u64,
        /// Its operation.
        opcode: u32,
        /// Bytes of the answer that it asks for.
        size: u32,
    },
    /// An argument has a value that the protocol does not know.
    #[error("request {unique}, opcode {opcode}: unknown argument {value}")]
    BadArgument {
        /// Id of the request.
        unique: u64,
        /// Its operation.
        opcode: u32,
        /// The value.
        value: u64,
    },
}

impl DecodeError {
    /// Returns the id under which the request can be refused, if its header was readable.
    #[must_use]
    pub fn unique(&self) -> Option<u64> {
        match *self {
            Self::NoHeader { .. } => None,
            Self::WrongLength { unique, .. }
            | Self::Truncated { unique, .. }
            | Self::BadName { unique, .. }
            | Self::NameTooLong { unique, .. }
            | Self::TooLarge { unique, .. }
            | Self::BadArgument { unique, .. } => Some(unique),
        }
    }

    /// Returns what the caller of the refused operation sees.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Self::NameTooLong { .. } => Errno::NAMETOOLONG,
            Self::BadName { .. } | Self::BadArgument { .. } => Errno::INVAL,
            _ => Errno::IO,
        }
    }
}
