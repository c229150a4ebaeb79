//! Maps of open images: they stay in memory as long as the image is open, so one that finds no room is refused.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dimsum_format::meta::MetaMaps;

/// Maps up to this size are taken while there is any room: those of an image of 10 GB have some 2 MiB.
const SMALL_MAPS: u64 = 8 << 20;
/// Bytes in memory for a byte of maps in a meta. Vectors may have grown to twice their length, and the bytes that were
/// read are there until they were parsed.
const IN_MEMORY: u64 = 2;

/// The account of all maps.
#[derive(Debug)]
pub(crate) struct MapsAccount {
    limit: u64,
    used: AtomicU64,
}

/// Room that maps have.
#[derive(Debug)]
pub(crate) struct MapsCharge {
    account: Arc<MapsAccount>,
    bytes: u64,
}

/// Maps of an open image, with the room that they have.
#[derive(Debug)]
pub(crate) struct OpenMaps {
    maps: MetaMaps,
    _charge: MapsCharge,
}

impl MapsAccount {
    pub(crate) const fn new(limit: u64) -> Self {
        Self { limit, used: AtomicU64::new(0) }
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes room for maps of so many bytes in a meta, or says how much is free. Long ones get at most half of what is free, so that
    /// no image takes the room of all others.
    pub(crate) fn charge(self: &Arc<Self>, length: u64) -> Result<MapsCharge, u64> {
        let bytes = length.saturating_mul(IN_MEMORY);
        let take = |used: u64| {
            let free = self.limit.saturating_sub(used);
            let room = if bytes <= SMALL_MAPS { free } else { free / 2 };
            (bytes <= room).then(|| used.saturating_add(bytes))
        };
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => Ok(MapsCharge { account: Arc::clone(self), bytes }),
            Err(used) => Err(self.limit.saturating_sub(used)),
        }
    }
}

impl Drop for MapsCharge {
    fn drop(&mut self) {
        self.account.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl OpenMaps {
    pub(crate) const fn new(maps: MetaMaps, charge: MapsCharge) -> Self {
        Self { maps, _charge: charge }
    }
}

impl Deref for OpenMaps {
    type Target = MetaMaps;

    fn deref(&self) -> &MetaMaps {
        &self.maps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_maps_leave_room_for_short_ones_and_give_theirs_back() {
        let account = Arc::new(MapsAccount::new(1 << 30));
        let mut long = Vec::new();
        for _ in 0..4 {
            let half = (account.limit - account.used()) / 2;
            assert!(account.charge(half / IN_MEMORY + 1).is_err());
            long.push(account.charge(half / IN_MEMORY).unwrap());
        }
        assert!(account.charge(SMALL_MAPS / IN_MEMORY).is_ok());
        drop(long);
        assert_eq!(account.used(), 0);
    }
}
