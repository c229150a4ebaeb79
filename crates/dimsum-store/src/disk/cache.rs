//! Proven groups of a meta in memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::RwLock;

use crate::budget::{PotMember, SharedPot};
use crate::limits::META_CACHE_GROUPS;

/// The groups used last, at most [`META_CACHE_GROUPS`]. Any group can take any place. So a reader that alternates
/// between two groups finds both, even when the disk takes no writes and the cache is all there is.
#[derive(Debug)]
pub(crate) struct GroupCache {
    groups: RwLock<HashMap<u64, CachedGroup>>,
    clock: AtomicU64,
    pot: Arc<SharedPot>,
}

#[derive(Debug)]
struct CachedGroup {
    bytes: Bytes,
    used: AtomicU64,
}

impl GroupCache {
    pub(crate) fn new(pot: &Arc<SharedPot>) -> Arc<Self> {
        let cache = Self { groups: RwLock::default(), clock: AtomicU64::new(0), pot: Arc::clone(pot) };
        let cache = Arc::new(cache);
        pot.join(Arc::downgrade(&cache) as Weak<dyn PotMember>);
        cache
    }

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
        let mut evicted = None;
        if groups.len() >= META_CACHE_GROUPS && !groups.contains_key(&group) {
            // A look at 512 entries costs less than the hash of the group that comes in.
            let oldest = groups.iter().min_by_key(|(_, entry)| entry.used.load(Ordering::Relaxed)).map(|(key, _)| *key);
            evicted = oldest.and_then(|oldest| groups.remove(&oldest));
        }
        let length = bytes.len() as u64;
        let replaced = groups.insert(group, CachedGroup { bytes, used });
        let less = [evicted, replaced].into_iter().flatten().map(|group| group.bytes.len() as u64).sum();
        drop(groups);
        self.pot.sub(less);
        self.pot.add(length);
    }
}

fn length(groups: &HashMap<u64, CachedGroup>) -> u64 {
    groups.values().map(|group| group.bytes.len() as u64).sum()
}

impl PotMember for GroupCache {
    fn weight(&self) -> u64 {
        length(&self.groups.read())
    }

    fn give_up(&self) {
        let groups = std::mem::take(&mut *self.groups.write());
        self.pot.sub(length(&groups));
    }
}

impl Drop for GroupCache {
    fn drop(&mut self) {
        self.pot.sub(length(self.groups.get_mut()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_bounded_and_forgets_what_was_not_used() {
        let cache = GroupCache::new(&SharedPot::new(u64::MAX));
        for group in 0..META_CACHE_GROUPS as u64 * 2 {
            cache.put(group, Bytes::new());
            assert!(cache.get(0).is_some());
        }
        assert_eq!(cache.groups.read().len(), META_CACHE_GROUPS);
        assert!(cache.get(1).is_none());
    }
}
