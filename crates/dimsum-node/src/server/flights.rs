//! The list of what is on its way, for those who ask why a read hangs.

use dimsum_store::{FlightStage, Store};

use crate::wire::WireResponse;
use crate::{FlightReport, FlightState};

/// Lists the flights of a store.
pub(super) fn list(store: &Store) -> WireResponse {
    let list = store.flights();
    let flights = list.flights.into_iter().map(|flight| FlightReport {
        flight: flight.flight,
        image: flight.image,
        object: flight.object.id(),
        state: state(flight.stage),
        source: flight.source,
        attempts: flight.attempts,
        waiters: flight.waiters,
        seconds: flight.age.as_secs(),
    });
    WireResponse::Flights { flights: flights.collect(), total: list.total }
}

const fn state(stage: FlightStage) -> FlightState {
    match stage {
        FlightStage::Another => FlightState::Another,
        FlightStage::Disk => FlightState::Disk,
        FlightStage::Arriving => FlightState::Arriving,
        FlightStage::Queued => FlightState::Queued,
        FlightStage::Source => FlightState::Source,
        FlightStage::Writing => FlightState::Writing,
        FlightStage::Failed => FlightState::Failed,
        _ => FlightState::Unknown,
    }
}
