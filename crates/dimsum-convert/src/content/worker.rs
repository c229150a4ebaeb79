//! The work on the slices of a layer while it is read: digest, compare, compress.
//!
//! A frame is a function of the slice's bytes alone, so the order of the threads does not matter. Its place in
//! the pack is decided when the layer has been read. The pack's diff_id is a hash over the same bytes, and they
//! are in memory now. So they are hashed in the order of the source, which is the order of the device for most
//! sources.

use std::sync::Arc;

use dimsum_format::{BLOCK, Blake3};
use parking_lot::{Mutex, RwLockWriteGuard};
use sha2::{Digest as _, Sha256};

use super::large::{Slices, write};
use super::{SliceId, SliceTable};
use crate::error::ConvertError;
use crate::known::Promised;
use crate::ordered_sink::{InOrderSink, OrderedSink};
use crate::worker_pool::{FrameEncoder, WorkerPool};

/// Slices per thread that may be done before one that came earlier; with those that wait and are worked on, all
/// in memory.
const AHEAD_PER_JOB: usize = 2;

/// The way to the pool for the slices of one layer.
pub(crate) struct Workers<'p> {
    pool: &'p WorkerPool,
    layer: Arc<SlicesOfLayer>,
    sent: u64,
}

struct SlicesOfLayer {
    table: Slices,
    promised: Promised,
    arrival: OrderedSink<Arrival>,
    buffers: Arc<SliceBuffers>,
}

/// The slices that a layer brought, in the order in which it did.
#[derive(Debug)]
pub(crate) struct Arrived {
    order: Vec<SliceId>,
    hasher: Sha256,
}

impl<'p> Workers<'p> {
    /// Slices that are `promised` need not be compressed.
    pub(crate) fn new(pool: &'p WorkerPool, table: Slices, promised: Promised) -> Self {
        let buffers = Arc::<SliceBuffers>::default();
        let arrival = Arrival {
            arrived: Arrived { order: Vec::new(), hasher: Sha256::new() },
            seen: Vec::new(),
            buffers: Arc::clone(&buffers),
        };
        let arrival = OrderedSink::new(arrival, pool.jobs().get() * AHEAD_PER_JOB);
        Self { pool, layer: Arc::new(SlicesOfLayer { table, promised, arrival, buffers }), sent: 0 }
    }

    /// Returns the table of slices.
    pub(super) fn table(&self) -> RwLockWriteGuard<'_, SliceTable> {
        write(&self.layer.table)
    }

    /// Returns an empty buffer.
    pub(super) fn buffer(&self) -> Vec<u8> {
        self.layer.buffers.take()
    }

    /// Hands over the slice that a piece is; waits while all are busy.
    pub(super) fn send(&mut self, piece: u32, bytes: Vec<u8>) -> Result<(), ConvertError> {
        let (layer, number) = (Arc::clone(&self.layer), self.sent);
        self.sent += 1;
        self.pool.slice(move |encoder| layer.slice(number, piece, bytes, encoder))
    }

    /// Waits until all slices are done.
    pub(crate) fn finish(self) -> Result<Arrived, ConvertError> {
        self.pool.wait_for_slices()?;
        let arrival = self.layer.arrival.finish(self.sent);
        // One is missing only after an error or a panic, which ends the wait above.
        arrival.map(|arrival| arrival.arrived).ok_or(ConvertError::Cancelled)
    }
}

impl SlicesOfLayer {
    fn slice(
        &self,
        number: u64,
        piece: u32,
        mut bytes: Vec<u8>,
        encoder: &mut FrameEncoder,
    ) -> Result<(), ConvertError> {
        let slot = self.arrival.slot(number);
        let length = bytes.len() as u64;
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        let digest = Blake3::of(&bytes);
        let blocks = u32::try_from(bytes.len() / BLOCK).expect("a slice is at most 5 MiB");
        let (resolved, in_layer) = {
            let mut table = write(&self.table);
            let resolved = table.resolve(piece, digest, blocks, length)?;
            (resolved, table.number_in_layer(resolved.id))
        };
        if resolved.new && !self.promised.holds(digest) {
            let stored = encoder.store(&bytes)?;
            write(&self.table).set_frame(resolved.id, stored.offset, stored.length);
        }
        slot.put(SlicePiece { id: resolved.id, in_layer, bytes });
        Ok(())
    }
}

/// A slice in the order of the source, known or not.
#[derive(Debug)]
struct SlicePiece {
    id: SliceId,
    /// Its number among those of this layer.
    in_layer: Option<u32>,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Arrival {
    arrived: Arrived,
    /// Of each slice of this layer whether it has been there before.
    seen: Vec<bool>,
    buffers: Arc<SliceBuffers>,
}

impl InOrderSink for Arrival {
    type Item = SlicePiece;

    fn take(&mut self, SlicePiece { id, in_layer, bytes }: SlicePiece) {
        if let Some(number) = in_layer {
            let number = number as usize;
            if self.seen.len() <= number {
                self.seen.resize(number + 1, false);
            }
            let seen = self.seen.get_mut(number).expect("there is room for it");
            if !std::mem::replace(seen, true) {
                self.arrived.order.push(id);
                self.arrived.hasher.update(&bytes);
            }
        }
        self.buffers.give(bytes);
    }
}

impl Arrived {
    /// Returns the SHA-256 so far of a device that starts with these slices, if it does so in the order in
    /// which they came.
    pub(crate) fn hasher_of(self, slices: &[SliceId]) -> Option<Sha256> {
        (self.order == slices).then_some(self.hasher)
    }
}

/// Buffers that are free again.
#[derive(Debug, Default)]
struct SliceBuffers(Mutex<Vec<Vec<u8>>>);

impl SliceBuffers {
    fn take(&self) -> Vec<u8> {
        self.0.lock().pop().unwrap_or_default()
    }

    fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.0.lock().push(buffer);
    }
}
