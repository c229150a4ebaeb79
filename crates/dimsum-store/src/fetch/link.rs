//! What asking a source costs: its round trip and its bandwidth, measured from its own answers.
//!
//! From the two follow how many unwanted bytes are cheaper than a second request, and how many bytes a fill asks for at once.

use std::time::Duration;

use parking_lot::Mutex;

use crate::limits::{FILL_RANGE, FILL_RANGE_TIME, MAX_BRIDGE, MIN_SOURCE_RATE};

/// Assumed until the first answer: a registry in the same region.
const FIRST_ROUND_TRIP: f64 = 0.010;
/// Assumed until the first long answer: 100 Mbit/s. Too low makes the first requests smaller than they could be, which costs less
/// than bridging gaps over a slow link.
const FIRST_BANDWIDTH: f64 = 12.5e6;
/// Weight of a new round trip, that of TCP's smoothed one (RFC 6298): a single late answer does not change the plan.
const ROUND_TRIP_WEIGHT: f64 = 0.125;
/// Weight of a new bandwidth: larger, since a connection that has just opened its window must be believed within a few requests.
const BANDWIDTH_WEIGHT: f64 = 0.25;
/// Bytes below which an answer says nothing of bandwidth: they arrive as one burst out of a socket's buffer.
const BANDWIDTH_SAMPLE: u64 = 64 << 10;
/// A round trip longer than this is a source in trouble, and no reason to fetch megabytes that nobody wants.
const MAX_ROUND_TRIP: f64 = 1.0;
/// Faster than any network here; keeps the products of both within their types.
const MAX_BANDWIDTH: f64 = 1e11;

/// When the bytes of one answer came.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Timing {
    /// From the question to the first piece.
    pub(crate) first: Duration,
    pub(crate) first_bytes: u64,
    /// From the first piece to the last.
    pub(crate) rest: Duration,
    pub(crate) rest_bytes: u64,
}

/// The estimate for one source.
#[derive(Debug)]
pub(crate) struct LinkEstimate(Mutex<LinkCost>);

#[derive(Debug, Clone, Copy)]
struct LinkCost {
    /// Seconds.
    round_trip: f64,
    /// Bytes per second.
    bandwidth: f64,
    knows_round_trip: bool,
    knows_bandwidth: bool,
}

impl Default for LinkEstimate {
    fn default() -> Self {
        let (round_trip, bandwidth) = (FIRST_ROUND_TRIP, FIRST_BANDWIDTH);
        Self(Mutex::new(LinkCost { round_trip, bandwidth, knows_round_trip: false, knows_bandwidth: false }))
    }
}

impl LinkEstimate {
    /// Learns from an answer, whole or broken off.
    pub(crate) fn observe(&self, timing: Timing) {
        let mut cost = self.0.lock();
        let first = timing.first.as_secs_f64();
        if timing.rest_bytes >= BANDWIDTH_SAMPLE && !timing.rest.is_zero() {
            cost.see_bandwidth(timing.rest_bytes as f64 / timing.rest.as_secs_f64());
        } else if timing.first_bytes >= BANDWIDTH_SAMPLE && first > cost.round_trip {
            // Long and in one piece, as from a source that does not stream: what is above the round trip were the bytes.
            let transfer = first - cost.round_trip;
            cost.see_bandwidth(timing.first_bytes as f64 / transfer);
            return;
        }
        if timing.first_bytes > 0 {
            cost.see_round_trip(first);
        }
    }

    /// Bytes that arrive within one round trip: fetching so many for nothing costs no more than asking again.
    pub(crate) fn gap(&self) -> u64 {
        let cost = *self.0.lock();
        // Both factors are bounded.
        ((cost.round_trip * cost.bandwidth) as u64).min(MAX_BRIDGE)
    }

    /// Bytes that a fill asks for at once.
    pub(crate) fn fill_range(&self) -> u64 {
        let bytes = self.0.lock().bandwidth * FILL_RANGE_TIME.as_secs_f64();
        (bytes as u64).clamp(*FILL_RANGE.start(), *FILL_RANGE.end())
    }
}

impl LinkEstimate {
    /// How long so many bytes take; nothing as long as the bandwidth was not measured.
    pub(crate) fn takes(&self, bytes: u64) -> Option<Duration> {
        let cost = *self.0.lock();
        // At least the slowest rate and at most all packs: a finite number of seconds.
        cost.knows_bandwidth.then(|| Duration::from_secs_f64(bytes as f64 / cost.bandwidth.max(MIN_SOURCE_RATE)))
    }
}

impl LinkCost {
    fn see_round_trip(&mut self, seconds: f64) {
        let weight = if self.knows_round_trip { ROUND_TRIP_WEIGHT } else { 1.0 };
        self.knows_round_trip = true;
        self.round_trip += weight * (seconds.min(MAX_ROUND_TRIP) - self.round_trip);
    }

    fn see_bandwidth(&mut self, rate: f64) {
        let weight = if self.knows_bandwidth { BANDWIDTH_WEIGHT } else { 1.0 };
        self.knows_bandwidth = true;
        self.bandwidth += weight * (rate.clamp(MIN_SOURCE_RATE, MAX_BANDWIDTH) - self.bandwidth);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(round_trip: f64, bandwidth: f64, bytes: u64) -> Timing {
        let first_bytes = bytes.min(16 << 10);
        let rest_bytes = bytes - first_bytes;
        Timing {
            first: Duration::from_secs_f64(round_trip),
            first_bytes,
            rest: Duration::from_secs_f64(rest_bytes as f64 / bandwidth),
            rest_bytes,
        }
    }

    #[test]
    fn how_long_bytes_take_is_known_once_it_was_measured() {
        let link = LinkEstimate::default();
        assert_eq!(link.takes(1 << 30), None);
        link.observe(answer(0.005, 12.5e6, 8 << 20));
        let seconds = link.takes(25_000_000).unwrap().as_secs_f64();
        assert!((1.9..2.1).contains(&seconds), "{seconds}");
    }

    #[test]
    fn the_gap_is_what_arrives_within_a_round_trip() {
        for (round_trip, bandwidth) in [(0.005, 12.5e6), (0.020, 12.5e6), (0.0005, 400e6)] {
            let link = LinkEstimate::default();
            link.observe(answer(round_trip, bandwidth, 1 << 20));
            let must = round_trip * bandwidth;
            assert!((link.gap() as f64 - must).abs() <= must / 100.0, "{} instead of {must}", link.gap());
        }
    }

    #[test]
    fn the_estimate_follows_a_link_that_changes_and_not_one_late_answer() {
        let link = LinkEstimate::default();
        for _ in 0..10 {
            link.observe(answer(0.005, 12.5e6, 1 << 20));
        }
        let before = link.gap();
        link.observe(answer(0.050, 12.5e6, 1 << 20));
        assert!(link.gap() < before * 3, "{} after {before}", link.gap());
        for _ in 0..40 {
            link.observe(answer(0.005, 1.25e6, 1 << 20));
        }
        assert!(link.gap() < before / 8, "{}", link.gap());
    }

    #[test]
    fn answers_in_one_piece_tell_bandwidth_too() {
        let link = LinkEstimate::default();
        link.observe(Timing { first: Duration::from_millis(2), first_bytes: 100, ..Timing::default() });
        for _ in 0..20 {
            let first = Duration::from_millis(2 + 100);
            link.observe(Timing { first, first_bytes: 10_000_000, ..Timing::default() });
        }
        let gap = link.gap();
        assert!((190_000..210_000).contains(&gap), "{gap}");
    }

    #[test]
    fn no_answer_makes_gap_or_range_unbounded() {
        let link = LinkEstimate::default();
        for timing in [
            Timing::default(),
            Timing {
                first: Duration::from_secs(9999),
                first_bytes: 1,
                rest: Duration::from_nanos(1),
                rest_bytes: 1 << 40,
            },
            Timing { first: Duration::from_secs(9999), first_bytes: 1 << 40, ..Timing::default() },
        ] {
            link.observe(timing);
            assert!(link.gap() <= MAX_BRIDGE);
            assert!(FILL_RANGE.contains(&link.fill_range()));
        }
        link.observe(Timing {
            first: Duration::ZERO,
            first_bytes: 1,
            rest: Duration::from_secs(9999),
            rest_bytes: 1 << 16,
        });
        assert!(FILL_RANGE.contains(&link.fill_range()));
    }
}
