//! A read that waits for flights.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::buf::{ReadBuf, ReadRun};
use crate::error::ReadError;
use crate::fetch::fetcher::Fetcher;
use crate::fetch::traffic::Waiter;
use crate::stats::add;

/// Takes the result of a read.
pub(crate) type ReadDone = Box<dyn FnOnce(Result<ReadBuf, ReadError>) + Send>;

/// What is here already, and how much is still to come. Ends with the last part, or with the first error.
pub(crate) struct Parked {
    fetcher: Arc<Fetcher>,
    /// What it is charged while it waits.
    cost: u64,
    state: Mutex<ParkedState>,
}

struct ParkedState {
    runs: Vec<ReadRun>,
    missing: usize,
    /// Taken when it is called.
    done: Option<ReadDone>,
}

impl Parked {
    pub(crate) fn new(
        fetcher: &Arc<Fetcher>,
        runs: Vec<ReadRun>,
        (missing, cost): (usize, u64),
        done: ReadDone,
    ) -> Arc<Self> {
        let state = Mutex::new(ParkedState { runs, missing, done: Some(done) });
        Arc::new(Self { fetcher: Arc::clone(fetcher), cost, state })
    }

    /// Makes the waiter that takes `range` of a unit into its slot.
    pub(crate) fn waiter(self: &Arc<Self>, slot: usize, range: Range<u64>) -> Waiter {
        let parked = Arc::clone(self);
        Box::new(move |unit| {
            let run = unit.and_then(|unit| cut(&unit, range));
            parked.arrived(slot, run.map(ReadRun::Bytes));
        })
    }

    /// Takes one part.
    pub(crate) fn arrived(&self, slot: usize, part: Result<ReadRun, ReadError>) {
        let finished = {
            let mut state = self.state.lock();
            state.missing = state.missing.saturating_sub(1);
            match part {
                Ok(run) => {
                    if let Some(place) = state.runs.get_mut(slot) {
                        *place = run;
                    }
                    if state.missing > 0 {
                        return;
                    }
                    let runs = std::mem::take(&mut state.runs);
                    state.done.take().map(|done| (done, Ok(ReadBuf::new(runs))))
                }
                Err(error) => state.done.take().map(|done| (done, Err(error))),
            }
        };
        let Some((done, result)) = finished else { return };
        self.fetcher.services().budgets().reads.leave(self.fetcher.id(), self.cost);
        if result.is_err() {
            add(&self.fetcher.counters().read_errors, 1);
        }
        done(result);
    }
}

/// Takes a part of a unit: as it lies if that keeps at most twice as many bytes in memory, else a copy. A read of many small parts
/// of long chunks would hold gigabytes otherwise.
fn cut(unit: &Bytes, range: Range<u64>) -> Result<Bytes, ReadError> {
    let length = unit.len() as u64;
    match (usize::try_from(range.start), usize::try_from(range.end)) {
        (Ok(start), Ok(end)) if start <= end && end <= unit.len() => {
            let part = unit.slice(start..end);
            Ok(if part.len() >= unit.len() / 2 { part } else { Bytes::copy_from_slice(&part) })
        }
        _ => Err(ReadError::OutOfRange { range, length }),
    }
}
