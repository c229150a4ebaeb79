//! The kinds of errors of the whole system, in one enum.
//!
//! Every crate keeps an error type of its own, which knows the object and the cause. Its method `kind()` maps it to a
//! kind. All that a caller outside decides by comes from the kind. That is the word in texts and JSON, the exit status,
//! whether to try again, and later the status of an RPC.

use std::fmt;
use std::io;

use dimsum_format::FormatError;

/// What kind of failure an error is: what a program has to know to react.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request makes no sense: a malformed reference, options that exclude each other, a target named by a digest.
    /// Nothing but another request helps. Exit status 2.
    Invalid,
    /// A named object does not exist: an image, a tag, a platform, a blob, a file. Exit status 1.
    NotFound,
    /// This user may not do it: permissions of files, a read-only file system, credentials that are missing or do not
    /// suffice. Exit status 1.
    Denied,
    /// Bytes do not have the digest that they must have. Exit status 3.
    Integrity,
    /// A document is not in its form: a manifest, a config, an answer of a registry. Its digest may well be right. Exit
    /// status 1.
    Malformed,
    /// A source does not answer, or says that it is in trouble. The same request may succeed later. Exit status 1.
    Unavailable,
    /// The object is right, and this program, this kernel or this target cannot handle it. Exit status 1.
    Unsupported,
    /// A size, count or length is above a named limit. Exit status 1.
    Limit,
    /// Somebody else uses the object, or as many requests wait as may. The same request may succeed later. Exit status 1.
    Busy,
    /// The operation was ended by a signal, a cancel token or a shutdown. Exit status 1.
    Cancelled,
    /// Local input or output failed: a disk that is full or broken. Exit status 1. A read-only file system is
    /// [`Denied`](Self::Denied).
    Storage,
    /// Anything else. Exit status 1.
    Internal,
}

impl ErrorKind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 12] = [
        Self::Invalid,
        Self::NotFound,
        Self::Denied,
        Self::Integrity,
        Self::Malformed,
        Self::Unavailable,
        Self::Unsupported,
        Self::Limit,
        Self::Busy,
        Self::Cancelled,
        Self::Storage,
        Self::Internal,
    ];

    /// Returns the name of the kind: lower-case ASCII, the same for ever. JSON and wire protocols carry it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not-found",
            Self::Denied => "denied",
            Self::Integrity => "integrity",
            Self::Malformed => "malformed",
            Self::Unavailable => "unavailable",
            Self::Unsupported => "unsupported",
            Self::Limit => "limit",
            Self::Busy => "busy",
            Self::Cancelled => "cancelled",
            Self::Storage => "storage",
            Self::Internal => "internal",
        }
    }

    /// Returns the kind of a [`name`](Self::name); none if it is not known here.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Returns the exit status of a command that failed so: 2 for a request that makes no sense, 3 for wrong bytes, else 1.
    #[must_use]
    pub const fn exit_status(self) -> u8 {
        match self {
            Self::Invalid => 2,
            Self::Integrity => 3,
            _ => 1,
        }
    }

    /// Says whether the same request may succeed later, with nothing changed on this side.
    #[must_use]
    pub const fn is_passing(self) -> bool {
        matches!(self, Self::Unavailable | Self::Busy)
    }

    /// Returns the kind of an error of the operating system. An error of this system inside of it is not looked at.
    #[must_use]
    pub fn of_io(error: &io::Error) -> Self {
        use io::ErrorKind as E;
        match error.kind() {
            E::NotFound | E::NotADirectory => Self::NotFound,
            E::PermissionDenied | E::ReadOnlyFilesystem => Self::Denied,
            E::ResourceBusy | E::ExecutableFileBusy | E::WouldBlock => Self::Busy,
            E::Unsupported => Self::Unsupported,
            E::InvalidData => Self::Malformed,
            _ => Self::Storage,
        }
    }

    /// Returns the kind of a document that is not in its form.
    #[must_use]
    pub const fn of_format(error: &FormatError) -> Self {
        match error {
            FormatError::Digest { .. } => Self::Integrity,
            FormatError::Limit { .. } => Self::Limit,
            _ => Self::Malformed,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own_that_leads_back_to_it() {
        for kind in ErrorKind::ALL {
            assert_eq!(ErrorKind::from_name(kind.name()), Some(kind));
            assert!(kind.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{kind}");
        }
        assert_eq!(ErrorKind::from_name("no such kind"), None);
    }
}
