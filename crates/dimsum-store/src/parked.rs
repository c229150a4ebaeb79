//! A read that waits for flights.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::buf::{ReadBuf, Run};
use crate::error::ReadError;
use crate::fetch::Fetcher;
use crate::queue::Waiter;
use crate::stats::add;

/// Takes the result of a read.
pub(crate) type Done = Box<dyn FnOnce(Result<ReadBuf, ReadError>) + Send>;

/// What is here already, and how much is still to come. Ends with the last part, or with the first error.
pub(crate) struct Parked {
    fetcher: Arc<Fetcher>,
    state: Mutex<State>,
}

struct State {
    runs: Vec<Run>,
    missing: usize,
    /// Taken when it is called.
    done: Option<Done>,
}

impl Parked {
    pub(crate) fn new(fetcher: &Arc<Fetcher>, runs: Vec<Run>, missing: usize, done: Done) -> Arc<Self> {
        let state = Mutex::new(State { runs, missing, done: Some(done) });
        Arc::new(Self { fetcher: Arc::clone(fetcher), state })
    }

    /// Makes the waiter that takes `range` of a unit into its slot.
    pub(crate) fn waiter(self: &Arc<Self>, slot: usize, range: Range<u64>) -> Waiter {
        let parked = Arc::clone(self);
        Box::new(move |unit| {
            let run = unit.and_then(|unit| cut(&unit, range));
            parked.arrived(slot, run.map(Run::Bytes));
        })
    }

    /// Takes one part.
    pub(crate) fn arrived(&self, slot: usize, part: Result<Run, ReadError>) {
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
        self.fetcher.parked.fetch_sub(1, Ordering::Relaxed);
        if result.is_err() {
            add(&self.fetcher.counters.read_errors, 1);
        }
        done(result);
    }
}

fn cut(unit: &Bytes, range: Range<u64>) -> Result<Bytes, ReadError> {
    let length = unit.len() as u64;
    match (usize::try_from(range.start), usize::try_from(range.end)) {
        (Ok(start), Ok(end)) if start <= end && end <= unit.len() => Ok(unit.slice(start..end)),
        _ => Err(ReadError::OutOfRange { range, length }),
    }
}
