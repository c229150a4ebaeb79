//! What a check reports.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use dimsum_format::{Blake3, Digest, FormatError};

/// The kinds of files in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Object {
    /// A blob in `packs/`.
    Pack,
    /// An image's manifest.
    Manifest,
    /// An image's config.
    Config,
    /// An image's index of the meta.
    MetaIndex,
    /// An image's meta.
    Meta,
    /// Decoded data of a device.
    Data,
    /// Chaining values of a device.
    State,
    /// A conversion record.
    Record,
    /// A file that is none of the store's.
    Foreign,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pack => "pack",
            Self::Manifest => "manifest",
            Self::Config => "config",
            Self::MetaIndex => "index of a meta",
            Self::Meta => "meta",
            Self::Data => "device data",
            Self::State => "device state",
            Self::Record => "conversion record",
            Self::Foreign => "foreign file",
        })
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is wrong; something is left over, or could not be judged.
    Note,
    /// Bytes do not match what they must be; exit status 3.
    Damage,
}

/// What was found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Cause {
    /// The bytes do not have the digest that names them.
    Digest {
        /// Digest of the bytes.
        is: Digest,
        /// Digest they must have.
        must: Digest,
    },
    /// A 16 KiB group does not have its proven hash.
    Group {
        /// The chunk, in a device.
        chunk: Option<u32>,
        /// The group in the chunk or meta.
        group: u64,
    },
    /// Chaining values do not combine to the digest of their chunk.
    ChainingValues {
        /// The chunk.
        chunk: u32,
        /// The digest that they must combine to.
        must: Blake3,
    },
    /// A frame of a pack that came piece by piece does not decode to its chunk.
    Frame {
        /// The chunk.
        chunk: u32,
    },
    /// Proven bytes, or an index, do not have their form.
    Format {
        /// Why.
        error: Arc<FormatError>,
    },
    /// A header says something else than where the file lies.
    Header,
    /// It states a false length.
    Length {
        /// What it says.
        is: u64,
        /// The length of what it speaks of.
        must: u64,
    },
    /// The record does not verify under the node key.
    Authenticator,
    /// The operating system does not let it be read, or it is no regular file.
    Unreadable {
        /// The system's word.
        kind: io::ErrorKind,
    },
    /// A part is not there; it is fetched when it is needed.
    Missing,
    /// Device bytes without chaining values (after a power loss): they are fetched again when they are read.
    Orphan {
        /// The chunk.
        chunk: u32,
    },
    /// No image in the store has this device or map, so nothing says what the bytes must be.
    Unnamed,
    /// Records can be checked with the node key only.
    NoKey,
    /// A name that the store does not give.
    Name,
    /// Left over from a program that was killed while writing.
    LeftOver,
    /// More entries in one directory than a store has.
    TooManyEntries,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest { is, must } => write!(f, "digest is {is}, must be {must}"),
            Self::Group { chunk: Some(chunk), group } => write!(f, "group {group} of chunk {chunk} has another hash"),
            Self::Group { chunk: None, group } => write!(f, "group {group} has another hash"),
            Self::ChainingValues { chunk, must } => {
                write!(f, "chaining values of chunk {chunk} do not combine to {must}")
            }
            Self::Frame { chunk } => {
                write!(f, "frame does not decode to chunk {chunk}; it is fetched again when needed")
            }
            Self::Format { error } => write!(f, "{error}"),
            Self::Header => f.write_str("its header is that of another file"),
            Self::Length { is, must } => write!(f, "says {is} bytes, but there are {must}"),
            Self::Authenticator => f.write_str("does not verify under the node key; the image is converted again"),
            Self::Unreadable { kind } => write!(f, "cannot be read: {kind}"),
            Self::Missing => f.write_str("not there; it is fetched when it is needed"),
            Self::Orphan { chunk } => {
                write!(f, "bytes of chunk {chunk} without chaining values; they are fetched again when needed")
            }
            Self::Unnamed => f.write_str("no image in the store says what it must be"),
            Self::NoKey => f.write_str("not checked: the node key was not given"),
            Self::Name => f.write_str("not a name of the store"),
            Self::LeftOver => f.write_str("left over from an interrupted write; it can be removed"),
            Self::TooManyEntries => f.write_str("more entries than a store has; the rest was not looked at"),
        }
    }
}

/// One finding.
#[derive(Debug, Clone)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of file.
    pub object: Object,
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// What is wrong.
    pub cause: Cause,
}

/// How far a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckProgress {
    /// Files looked at.
    pub files: u64,
    /// Bytes read and hashed.
    pub bytes: u64,
}

/// The result of a check.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What was found, at most [`crate::limits::MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    /// Findings that are not listed.
    pub more: u64,
    /// Files looked at.
    pub files: u64,
    /// Bytes read and hashed.
    pub bytes: u64,
    pub(crate) damaged: bool,
}

impl Report {
    /// Says whether anything is damaged (exit status 3).
    #[must_use]
    pub const fn is_damaged(&self) -> bool {
        self.damaged
    }
}
