//! Proven groups of a meta in memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;

use crate::limits::META_CACHE_GROUPS;

/// The groups used last, at most [`META_CACHE_GROUPS`]. Any group can take any place: a reader that goes back and forth between
/// two groups finds both, even when the disk takes no writes and the cache is all there is.
#[derive(Debug, Default)]
pub(crate) struct GroupCache {
    groups: RwLock<HashMap<u64, Entry>>,
    clock: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    bytes: Bytes,
    used: AtomicU64,
}

impl GroupCache {
    pub(crate) fn get(&self, group: u64) -> Option<Bytes> {
        let groups = self.groups.read();
        let entry = groups.get(&group)?;
        entry.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Some(entry.bytes.clone())
    }

    /// Takes a group that was proven.
    pub(crate) fn put(&self, group: u64, bytes: Bytes) {
        let used = AtomicU64::new(self.clock.fetch_add(1, Ordering::Relaxed));
        let mut groups = self.groups.write();
        if groups.len() >= META_CACHE_GROUPS && !groups.contains_key(&group) {
            // A look at 512 entries costs less than the hash of the group that comes in.
            let oldest = groups.iter().min_by_key(|(_, entry)| entry.used.load(Ordering::Relaxed)).map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                groups.remove(&oldest);
            }
        }
        groups.insert(group, Entry { bytes, used });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_bounded_and_forgets_what_was_not_used() {
        let cache = GroupCache::default();
        for group in 0..META_CACHE_GROUPS as u64 * 2 {
            cache.put(group, Bytes::new());
            assert!(cache.get(0).is_some());
        }
        assert_eq!(cache.groups.read().len(), META_CACHE_GROUPS);
        assert!(cache.get(1).is_none());
    }
}
