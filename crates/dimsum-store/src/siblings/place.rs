//! A place where a chunk may lie, and reading it there.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use dimsum_format::manifest::Blob;
use dimsum_format::{BLOCK_U64, DeviceId, Digest};

use crate::disk::device::{DATA, STATE};
use crate::disk::frames::LocalFrames;
use crate::disk::layout::{self, Layout};
use crate::disk::values::{VALUE, slot};

/// A device, and one pack of it as one image maps that.
#[derive(Debug)]
pub(crate) struct SiblingPlace {
    pub(super) device: DeviceId,
    pub(super) blob: Blob,
    /// The name of the map in the name of the sparse file.
    pub(super) map: String,
}

impl SiblingPlace {
    /// What tells it from others for those who have this pack themselves.
    pub(super) const fn name(&self) -> (DeviceId, Digest) {
        (self.device, self.blob.digest)
    }
}

/// A chunk that may have the digest that was looked for.
#[derive(Debug)]
pub(crate) struct Sibling {
    pub(super) place: Arc<SiblingPlace>,
    pub(super) chunk: u32,
    pub(super) first_block: u32,
    /// Its frame in the pack.
    pub(super) frame: Range<u64>,
}

impl Sibling {
    pub(crate) fn device(&self) -> DeviceId {
        self.place.device
    }

    /// Length of its frame.
    pub(crate) const fn frame_length(&self) -> u64 {
        self.frame.end.saturating_sub(self.frame.start)
    }

    /// Says whether something lies there: a few bytes of three files at most, on the calling thread.
    pub(crate) fn is_here(&self, layout: &Layout) -> bool {
        self.is_decoded(layout) || self.frames(layout).open().has(&self.frame)
    }

    /// Reads what should be the chunk's decoded bytes; `None` if nothing says that they are there.
    pub(crate) fn decoded(&self, layout: &Layout, length: usize) -> Option<Vec<u8>> {
        if !self.is_decoded(layout) {
            return None;
        }
        let data = layout::open_regular(&layout.device(self.place.device).join(DATA), false).ok()??;
        let bytes = layout::read_at(&data, length, u64::from(self.first_block) * BLOCK_U64).ok()?;
        (bytes.len() == length).then_some(bytes)
    }

    /// Reads what should be the chunk's frame, from the sparse file and from the whole pack.
    pub(crate) fn read_frames(&self, layout: &Layout) -> impl Iterator<Item = Bytes> {
        self.frames(layout).read(&self.frame).into_iter().flatten()
    }

    /// Says whether the state file has a chaining value of the chunk.
    fn is_decoded(&self, layout: &Layout) -> bool {
        let state = layout::open_regular(&layout.device(self.place.device).join(STATE), false).ok().flatten();
        let length = usize::try_from(VALUE).unwrap_or(0);
        let value = state.and_then(|state| layout::read_at(&state, length, slot(self.first_block, self.chunk)).ok());
        value.is_some_and(|value| value.iter().any(|byte| *byte != 0))
    }

    fn frames(&self, layout: &Layout) -> LocalFrames {
        LocalFrames::named(layout, self.place.blob, &self.place.map)
    }
}
