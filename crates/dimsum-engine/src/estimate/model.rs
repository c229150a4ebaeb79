//! When a command is ready over a given link: arithmetic on what was measured here.
//!
//! **Lazy**: a command reads, waits for the answer, reads on, so requests follow one another:
//! `time here + (setup + requests) × (round trip + answer) + bytes / bandwidth`. "Time here" is the same run from a
//! disk, so it holds decoding, verifying, mounting and the command's own work. "Answer" is the time that a registry
//! needs beyond the round trip. Requests that overlap, and a fill behind the readers, make it shorter; a slow disk and
//! cold files of the host make it longer. The answer is fitted to the lazy runs in `benchmarks/network.jsonl`, with the
//! best of three runs here. The images redis, node, python and nginx come out within 7 %, at 1000 and at 100 Mbit/s.
//! The image debian, which is ready in half a second, comes out 26 and 10 % too soon.
//!
//! **Full pull**: what containerd does with the ordinary image:
//! `fixed + setup × round trip + bytes / bandwidth + uncompressed bytes / speed + files × cost +
//! time of the command here`. It fetches while it unpacks only within a layer, so the terms add up. The three
//! constants are fitted to 13 images pulled by containerd 2.4 over 1 Gbit/s and 5 ms on the machine of `BENCHMARKS.md`.
//! There the formula is off by up to 29 %, in the mean by 9 %.

use serde::Serialize;

/// Round trips before the first request for data: a connection, its encryption, the name, and the connections beside
/// the first one. Those are made at the same time.
const LAZY_SETUP: f64 = 4.0;
/// Milliseconds that a registry takes to answer a request, without the round trip, where nobody says. It was measured
/// with a registry behind a shaped link on a machine with two processors.
pub const ANSWER_MS: f64 = 4.5;
/// Round trips of a pull: a connection, its encryption, the name, manifest, config, first byte of the layers.
const PULL_SETUP: f64 = 6.0;
/// Seconds of a pull that depend on nothing.
const PULL_FIXED: f64 = 0.5;
/// Uncompressed bytes that are unpacked in a second.
const UNPACK_BYTES: f64 = 125e6;
/// Seconds that a file costs beyond its bytes.
const UNPACK_FILE: f64 = 0.12e-3;

/// A link.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct EstimateLink {
    /// 10^6 bits in a second.
    pub mbit: f64,
    /// Milliseconds of a round trip.
    pub rtt_ms: f64,
    /// Milliseconds that the registry takes to answer.
    pub answer_ms: f64,
}

impl EstimateLink {
    fn seconds(self, round_trips: f64, bytes: u64) -> f64 {
        round_trips * self.rtt_ms / 1e3 + bytes as f64 * 8.0 / (self.mbit * 1e6)
    }
}

/// A lazy run that was measured without a network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MeasuredRun {
    /// Until the command had ended.
    pub seconds: f64,
    /// Of these, until the command started.
    pub seconds_to_exec: f64,
    /// Requests for manifest, config, meta and data.
    pub requests: u64,
    /// Compressed bytes of the answers.
    pub bytes: u64,
}

/// An ordinary image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct OrdinaryImage {
    /// Bytes of its blobs.
    pub bytes: u64,
    /// Bytes of its tars.
    pub tar_bytes: u64,
    /// Files in it.
    pub files: u64,
}

/// Returns the seconds until the command of a lazy run has ended.
pub(super) fn lazy(run: MeasuredRun, link: EstimateLink) -> f64 {
    let requests = LAZY_SETUP + run.requests as f64;
    run.seconds + link.seconds(requests, run.bytes) + requests * link.answer_ms / 1e3
}

/// Returns the seconds until the same command of the ordinary image has ended, pulled before.
pub(super) fn full_pull(image: OrdinaryImage, run: MeasuredRun, link: EstimateLink) -> f64 {
    let unpack = image.tar_bytes as f64 / UNPACK_BYTES + image.files as f64 * UNPACK_FILE;
    let command = (run.seconds - run.seconds_to_exec).max(0.0);
    PULL_FIXED + link.seconds(PULL_SETUP, image.bytes) + unpack + command
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: MeasuredRun = MeasuredRun { seconds: 0.4, seconds_to_exec: 0.2, requests: 96, bytes: 12_500_000 };

    #[test]
    fn requests_cost_round_trips_and_bytes_cost_bandwidth() {
        let near = |is: f64, must: f64| assert!((is - must).abs() < 1e-9, "{is} is not {must}");
        near(lazy(RUN, EstimateLink { mbit: 1000.0, rtt_ms: 3.0, answer_ms: 2.0 }), 0.4 + 0.5 + 0.1);
        near(lazy(RUN, EstimateLink { mbit: 100.0, rtt_ms: 0.0, answer_ms: 0.0 }), 0.4 + 1.0);
        let image = OrdinaryImage { bytes: 125_000_000, tar_bytes: 250_000_000, files: 10_000 };
        near(
            full_pull(image, RUN, EstimateLink { mbit: 1000.0, rtt_ms: 50.0, answer_ms: 9.0 }),
            0.5 + 0.3 + 1.0 + 2.0 + 1.2 + 0.2,
        );
    }
}
