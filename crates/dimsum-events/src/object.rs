//! The part of an image that an event or an error is about.

use std::fmt;

use dimsum_format::{DeviceId, Digest, MetaRoot};
use serde::{Serialize, Serializer};

/// The part of an image that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReadObject {
    /// A manifest or config.
    Document {
        /// Which: `manifest` or `config`.
        object: &'static str,
        /// Its digest.
        digest: Digest,
    },
    /// A chunk of a device.
    Chunk {
        /// The device.
        device: DeviceId,
        /// Index of the chunk.
        chunk: u32,
    },
    /// A frame of a meta.
    MetaFrame {
        /// Root of the meta.
        root: MetaRoot,
        /// Index of the frame.
        frame: u32,
    },
    /// The index of a meta.
    MetaIndex {
        /// Root of the meta.
        root: MetaRoot,
    },
}

impl ReadObject {
    /// Returns the object's id in events: `chunk:DEVICE/N`, `meta:ROOT/N`, `meta-index:ROOT`, `manifest:DIGEST`.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Self::Document { object, digest } => format!("{object}:{digest}"),
            Self::Chunk { device, chunk } => format!("chunk:{device}/{chunk}"),
            Self::MetaFrame { root, frame } => format!("meta:{root}/{frame}"),
            Self::MetaIndex { root } => format!("meta-index:{root}"),
        }
    }
}

impl fmt::Display for ReadObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Document { object, digest } => write!(f, "{object} {digest}"),
            Self::Chunk { device, chunk } => write!(f, "chunk {chunk} of device {device}"),
            Self::MetaFrame { root, frame } => write!(f, "frame {frame} of meta {root}"),
            Self::MetaIndex { root } => write!(f, "index of meta {root}"),
        }
    }
}

impl Serialize for ReadObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.id())
    }
}
