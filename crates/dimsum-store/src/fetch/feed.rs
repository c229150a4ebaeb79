//! What can be fetched for an image: the chunks of its devices and the frames of its meta.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use dimsum_format::manifest::Blob;
use dimsum_format::map::FrameMap;

use crate::budget::OpenMaps;
use crate::core::LaneId;
use crate::disk::device::{ChunkProof, DeviceFiles, WriteFailure};
use crate::disk::frames::LocalFrames;
use crate::disk::meta_file::MetaFile;
use crate::disk::values::StoredValues;
use crate::error::{FailureReason, ReadObject};
use crate::limits::TAIL_PART;

/// Feed 0 of an image.
pub(crate) const META: usize = 0;

/// Units that lie as zstd frames in one blob, one after the other.
#[derive(Debug)]
pub(crate) enum Feed {
    /// Frames of the meta. Feed 0: data cannot be asked for before the tree was read.
    Meta(Arc<MetaFile>),
    /// Chunks of a device, from the pack that this image names.
    Device(DeviceFeed),
}

/// A device as one image gets it. The device is shared between images; blob and frames are this image's word for where it is.
#[derive(Debug)]
pub(crate) struct DeviceFeed {
    pub(crate) device: Arc<DeviceFiles>,
    pub(crate) blob: Blob,
    pub(crate) maps: Arc<OpenMaps>,
    pub(crate) index: usize,
    pub(crate) local: LocalFrames,
}

impl DeviceFeed {
    fn frames(&self) -> Option<&FrameMap> {
        self.maps.devices.get(self.index).map(|device| &device.frames)
    }
}

/// A unit whose bytes were proven.
pub(crate) enum UnitProof {
    /// Of the meta: its groups are in the cache already.
    Meta,
    /// Of a device.
    Chunk(ChunkProof),
}

/// Where the frames of a feed lie, as they were known when this was taken.
#[derive(Debug, Clone)]
pub(crate) enum FeedFrames {
    /// Of a meta.
    Meta(Arc<FrameMap>),
    /// Of a device of an image.
    Device(Arc<OpenMaps>, usize),
}

impl FeedFrames {
    /// Where the frame of a unit lies; an empty range if there is none.
    pub(crate) fn range(&self, unit: u32) -> Range<u64> {
        match self {
            Self::Meta(frames) => frames.frame(unit),
            Self::Device(maps, index) => maps.devices.get(*index).and_then(|device| device.frames.frame(unit)),
        }
        .unwrap_or(0..0)
    }
}

impl Feed {
    /// The units that it leads to; nothing if nobody else names them.
    pub(crate) fn lane(&self) -> Option<LaneId> {
        match self {
            Self::Meta(_) => None,
            Self::Device(feed) => Some(feed.device.lane()),
        }
    }

    /// Where its frames lie.
    pub(crate) fn table(&self) -> FeedFrames {
        match self {
            Self::Meta(meta) => FeedFrames::Meta(meta.frames()),
            Self::Device(feed) => FeedFrames::Device(Arc::clone(&feed.maps), feed.index),
        }
    }

    /// The blob that holds the frames.
    pub(crate) fn blob(&self) -> Blob {
        match self {
            Self::Meta(meta) => meta.blob(),
            Self::Device(feed) => feed.blob,
        }
    }

    /// Where the frame of a unit lies; an empty range if there is none.
    pub(crate) fn frame(&self, unit: u32) -> Range<u64> {
        match self {
            Self::Meta(meta) => meta.frame(unit),
            Self::Device(feed) => feed.frames().and_then(|frames| frames.frame(unit)),
        }
        .unwrap_or(0..0)
    }

    /// Number of parts of the blob: its frames, and pieces of what stands behind them.
    pub(crate) fn parts(&self) -> u32 {
        let behind = self.blob().size.saturating_sub(self.frames_end()).div_ceil(TAIL_PART);
        self.frames().saturating_add(u32::try_from(behind).unwrap_or(u32::MAX))
    }

    /// Where a part of the blob lies.
    pub(crate) fn part(&self, part: u32) -> Range<u64> {
        let Some(behind) = part.checked_sub(self.frames()) else { return self.frame(part) };
        let size = self.blob().size;
        let start = self.frames_end().saturating_add(u64::from(behind).saturating_mul(TAIL_PART)).min(size);
        start..start.saturating_add(TAIL_PART).min(size)
    }

    fn frames_end(&self) -> u64 {
        self.frames().checked_sub(1).map_or(0, |last| self.frame(last).end)
    }

    /// Number of frames.
    pub(crate) fn frames(&self) -> u32 {
        let frames = match self {
            Self::Meta(meta) => u64::from(meta.frame_count()),
            Self::Device(feed) => feed.frames().map_or(0, FrameMap::frames),
        };
        u32::try_from(frames).unwrap_or(u32::MAX)
    }

    /// The frames on this disk.
    pub(crate) fn local(&self) -> &LocalFrames {
        match self {
            Self::Meta(meta) => meta.local(),
            Self::Device(feed) => &feed.local,
        }
    }

    /// Whether frames are kept as they come, so that those that nobody asked for are not wasted.
    pub(crate) const fn keeps_frames(&self) -> bool {
        matches!(self, Self::Device(_))
    }

    /// Length of the unit when decoded.
    pub(crate) fn length(&self, unit: u32) -> usize {
        let range = match self {
            Self::Meta(meta) => meta.frame_content(unit),
            Self::Device(feed) => feed.device.map().chunk_bytes(unit).unwrap_or(0..0),
        };
        usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0)
    }

    /// Says whether a chunk lies decoded in its device file.
    pub(crate) fn is_decoded(&self, unit: u32) -> bool {
        matches!(self, Self::Device(feed) if matches!(feed.device.known(unit), StoredValues::Proven(_)))
    }

    /// Its name for messages.
    pub(crate) fn object(&self, unit: u32) -> ReadObject {
        match self {
            Self::Meta(meta) => ReadObject::MetaFrame { root: meta.root(), frame: unit },
            Self::Device(feed) => ReadObject::Chunk { device: feed.device.id(), chunk: unit },
        }
    }

    /// Grows with each unit that becomes readable without a fetch.
    pub(crate) fn fills(&self) -> u64 {
        match self {
            Self::Meta(meta) => meta.fills(),
            Self::Device(feed) => feed.device.fills(),
        }
    }

    /// Proves decoded bytes.
    pub(crate) fn prove(&self, unit: u32, bytes: &[u8]) -> Result<UnitProof, FailureReason> {
        match self {
            Self::Meta(meta) => meta.accept(unit, bytes).map(|()| UnitProof::Meta),
            Self::Device(feed) => feed.device.prove(unit, bytes).map(UnitProof::Chunk),
        }
    }

    /// Writes proven bytes to the store.
    pub(crate) fn keep(&self, unit: u32, bytes: &Bytes, proof: &UnitProof) -> Result<(), WriteFailure> {
        match (self, proof) {
            (Self::Meta(meta), UnitProof::Meta) => meta.keep(unit, bytes),
            (Self::Device(feed), UnitProof::Chunk(proof)) => feed.device.fill(unit, bytes, proof),
            _ => Ok(()),
        }
    }
}
