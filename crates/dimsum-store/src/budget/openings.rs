//! Turns of openings that fetch a meta: who comes when enough are under way waits, and sources take turns.
//!
//! Each such opening is a thread that waits, and up to a whole meta in memory. Images that are here already need no turn: a source that
//! hangs does not delay them.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::core::Admission;

/// The source that an image asks first, as a number.
type PlaceId = Option<u64>;

/// Whoever waits for a turn, and where it would ask.
type QueuedOpening = (PlaceId, SyncSender<()>);

/// The account of openings.
#[derive(Debug)]
pub(crate) struct OpeningRoom {
    limit: usize,
    account: Mutex<Admission<PlaceId, QueuedOpening>>,
}

/// One opening that goes on; another may when this is dropped.
#[derive(Debug)]
pub(crate) struct OpeningPermit {
    room: Arc<OpeningRoom>,
    place: PlaceId,
}

impl OpeningRoom {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, account: Mutex::new(Admission::new(limit as u64)) })
    }

    /// How many may be under way.
    pub(crate) const fn limit(&self) -> usize {
        self.limit
    }

    /// How many are under way, and how many wait.
    pub(crate) fn usage(&self) -> (u64, usize) {
        let account = self.account.lock();
        (account.used(), account.waiting())
    }

    /// Waits for a turn, for at most `deadline`; blocking.
    pub(crate) fn enter(self: &Arc<Self>, place: PlaceId, deadline: Duration) -> Option<OpeningPermit> {
        let turn = {
            let mut account = self.account.lock();
            if account.enter(place, 1) {
                return Some(self.permit(place));
            }
            // Room for the turn, so that nobody waits for this thread.
            let (give, turn) = mpsc::sync_channel(1);
            account.wait(place, 1, Instant::now(), (place, give));
            turn
        };
        match turn.recv_timeout(deadline) {
            Ok(()) => Some(self.permit(place)),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                // Under the lock a turn is either here by now, or will find nobody.
                let account = self.account.lock();
                let is_late = turn.try_recv().is_ok();
                drop(turn);
                drop(account);
                is_late.then(|| self.permit(place))
            }
        }
    }

    fn permit(self: &Arc<Self>, place: PlaceId) -> OpeningPermit {
        OpeningPermit { room: Arc::clone(self), place }
    }

    fn leave(&self, place: PlaceId) {
        let (mut account, mut free) = (self.account.lock(), vec![place]);
        while let Some(place) = free.pop() {
            // The turn of one that has gone is free again.
            let entered = account.leave(place, 1).into_iter();
            free.extend(entered.filter(|(_, turn)| turn.try_send(()).is_err()).map(|(place, _)| place));
        }
    }
}

impl Drop for OpeningPermit {
    fn drop(&mut self) {
        self.room.leave(self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opening_without_a_turn_in_time_is_refused_and_its_turn_goes_to_the_next() {
        let (room, long) = (OpeningRoom::new(1), Duration::from_secs(60));
        let first = room.enter(Some(1), long).unwrap();
        assert!(room.enter(Some(1), Duration::ZERO).is_none());
        let next = std::thread::spawn({
            let room = Arc::clone(&room);
            move || room.enter(Some(1), long).is_some()
        });
        while room.usage() != (1, 2) {
            std::thread::yield_now();
        }
        // The first in line has gone.
        drop(first);
        assert!(next.join().unwrap());
        assert_eq!(room.usage(), (0, 0));
        assert!(room.enter(Some(2), Duration::ZERO).is_some());
    }
}
