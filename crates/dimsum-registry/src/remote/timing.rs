//! How long we wait and how often we try.
//!
//! Defaults are for people and for containers that wait for a page. They are long enough for a slow link, and short
//! enough that a dead one is an error and not a riddle. Tests make them small.

use std::time::Duration;

/// Times and counts of all requests of a [`Network`](crate::Network).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Time for a connection, name and TLS included. TCP asks again after 1, 3 and 7 s, so three lost packets are survived.
    pub connect: Duration,
    /// Time in which an answer must begin, and in which its bytes must go on. A registry that looks a blob up in an
    /// object store needs seconds, not half a minute.
    pub idle: Duration,
    /// Bytes that must come in each `idle` of waiting, so that a trickle is not a connection: the slowest modem gives more.
    pub least: u64,
    /// Time for one small request or one range, with everything that it takes: redirects, tokens, tries. Ranges get more
    /// by their length, see [`Timing::range`].
    pub total: Duration,
    /// Time for a registry to take a finished blob: some read it once more, from an object store.
    pub commit: Duration,
    /// How often a request is sent, the first included. With the pauses below that is about 4 s of trouble.
    pub tries: u32,
    /// The first pause. Each further one is twice as long, and all are shortened at random, so that a thousand nodes do
    /// not come back at once.
    pub pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// The longest `Retry-After` that is waited for; a registry that wants more gets its way, and the caller the error.
    pub longest_retry_after: Duration,
    /// Time for a credential helper: some ask a cloud, some a person for a passphrase.
    pub helper: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            least: 16 << 10,
            total: Duration::from_secs(120),
            commit: Duration::from_secs(300),
            tries: 5,
            pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(4),
            longest_retry_after: Duration::from_secs(30),
            helper: Duration::from_secs(30),
        }
    }
}

impl Timing {
    /// Returns the time for a range of `length` bytes: `total`, and what the slowest accepted connection needs.
    #[must_use]
    pub fn range(&self, length: u64) -> Duration {
        let pieces = length.checked_div(self.least).and_then(|pieces| u32::try_from(pieces).ok()).unwrap_or(u32::MAX);
        self.total.saturating_add(self.idle.saturating_mul(pieces))
    }

    /// Returns the pause before try number `next` (the first is 1): between half of it and all of it.
    pub(super) fn pause_before(&self, next: u32) -> Duration {
        let doubled = self.pause.saturating_mul(1u32.checked_shl(next.saturating_sub(2)).unwrap_or(u32::MAX));
        let whole = doubled.min(self.longest_pause);
        whole / 2 + (whole / 2).mul_f64(random_fraction())
    }
}

/// A number from 0 to 1. Nothing depends on its quality.
fn random_fraction() -> f64 {
    let mut bytes = [0; 4];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(_) => f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        let timing = Timing::default();
        for (next, longest) in [(2, 250), (3, 500), (4, 1000), (20, 4000), (u32::MAX, 4000)] {
            let (pause, longest) = (timing.pause_before(next), Duration::from_millis(longest));
            assert!(pause <= longest && pause >= longest / 2, "{next}: {pause:?}");
        }
    }
}
