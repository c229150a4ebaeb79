//! Chaining values that this process has combined to their digests.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use dimsum_format::group::Groups;
use parking_lot::RwLock;

use crate::budget::{PotMember, SharedPot};
use crate::limits::MAX_PROVEN_GROUPS;

/// Bytes of a chaining value in memory.
const VALUE_BYTES: u64 = 32;

/// Values of one device, by chunk.
#[derive(Debug)]
pub(crate) struct ProvenValues {
    known: RwLock<KnownGroups>,
    pot: Arc<SharedPot>,
}

#[derive(Debug, Default)]
struct KnownGroups {
    chunks: HashMap<u32, Arc<Groups>>,
    groups: usize,
}

impl ProvenValues {
    pub(crate) fn new(pot: &Arc<SharedPot>) -> Arc<Self> {
        let values = Arc::new(Self { known: RwLock::default(), pot: Arc::clone(pot) });
        pot.join(Arc::downgrade(&values) as Weak<dyn PotMember>);
        values
    }

    pub(crate) fn get(&self, chunk: u32) -> Option<Arc<Groups>> {
        self.known.read().chunks.get(&chunk).map(Arc::clone)
    }

    /// Takes values that were combined to their digest.
    pub(crate) fn put(&self, chunk: u32, groups: &Arc<Groups>) {
        let mut known = self.known.write();
        if known.groups.saturating_add(groups.len()) > MAX_PROVEN_GROUPS {
            // Proving again costs a microsecond per chunk: forgetting all is cheaper than keeping an order of use.
            self.pot.sub(std::mem::take(&mut *known).bytes());
        }
        let is_new = known.chunks.insert(chunk, Arc::clone(groups)).is_none();
        if is_new {
            known.groups += groups.len();
        }
        drop(known);
        if is_new {
            self.pot.add(groups.len() as u64 * VALUE_BYTES);
        }
    }

    /// Forgets the values of a chunk.
    pub(crate) fn forget(&self, chunk: u32) {
        let mut known = self.known.write();
        if let Some(groups) = known.chunks.remove(&chunk) {
            known.groups = known.groups.saturating_sub(groups.len());
            self.pot.sub(groups.len() as u64 * VALUE_BYTES);
        }
    }
}

impl KnownGroups {
    const fn bytes(&self) -> u64 {
        self.groups as u64 * VALUE_BYTES
    }
}

impl PotMember for ProvenValues {
    fn weight(&self) -> u64 {
        self.known.read().bytes()
    }

    fn give_up(&self) {
        let known = std::mem::take(&mut *self.known.write());
        self.pot.sub(known.bytes());
    }
}

impl Drop for ProvenValues {
    fn drop(&mut self) {
        self.pot.sub(self.known.get_mut().bytes());
    }
}
