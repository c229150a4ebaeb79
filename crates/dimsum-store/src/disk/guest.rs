//! Chunks that a guest keeps in memory, since another process writes the files.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::RwLock;

use crate::budget::{PotMember, SharedPot};

/// Proven chunks of one device.
#[derive(Debug)]
pub(crate) struct GuestChunks {
    chunks: RwLock<HashMap<u32, Bytes>>,
    /// An owner never looks further.
    is_used: AtomicBool,
    pot: Arc<SharedPot>,
}

impl GuestChunks {
    pub(crate) fn new(pot: &Arc<SharedPot>) -> Arc<Self> {
        let chunks = Self { chunks: RwLock::default(), is_used: AtomicBool::new(false), pot: Arc::clone(pot) };
        let chunks = Arc::new(chunks);
        pot.join(Arc::downgrade(&chunks) as Weak<dyn PotMember>);
        chunks
    }

    /// Returns a part of a chunk.
    pub(crate) fn get(&self, chunk: u32, range: &Range<u64>) -> Option<Bytes> {
        if !self.is_used.load(Ordering::Relaxed) {
            return None;
        }
        let range = usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?;
        let bytes = self.chunks.read().get(&chunk).cloned()?;
        (range.start <= range.end && range.end <= bytes.len()).then(|| bytes.slice(range))
    }

    /// Keeps a chunk that was proven.
    pub(crate) fn put(&self, chunk: u32, bytes: &Bytes) {
        self.is_used.store(true, Ordering::Relaxed);
        let before = self.chunks.write().insert(chunk, bytes.clone());
        self.pot.sub(before.map_or(0, |before| before.len() as u64));
        self.pot.add(bytes.len() as u64);
    }
}

fn length(chunks: &HashMap<u32, Bytes>) -> u64 {
    chunks.values().map(|bytes| bytes.len() as u64).sum()
}

impl PotMember for GuestChunks {
    fn weight(&self) -> u64 {
        length(&self.chunks.read())
    }

    fn give_up(&self) {
        let chunks = std::mem::take(&mut *self.chunks.write());
        self.pot.sub(length(&chunks));
    }
}

impl Drop for GuestChunks {
    fn drop(&mut self) {
        self.pot.sub(length(self.chunks.get_mut()));
    }
}
