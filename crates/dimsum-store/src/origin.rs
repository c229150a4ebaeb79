//! A source as one image uses it: what it costs, and whether it lately kept its word.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dimsum_source::{Source, SourceError};
use parking_lot::Mutex;

use crate::limits::{DEMOTION, MAX_BRIDGE, MAX_DEMOTION};
use crate::link::Link;
use crate::store::Joining;

/// A source with its standing.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) link: Link,
    standing: Mutex<Standing>,
}

#[derive(Debug, Default)]
struct Standing {
    /// Failures since the last right answer.
    failures: u32,
    /// Asked after the others until then.
    demoted: Option<Instant>,
}

impl Origin {
    pub(crate) fn new(source: Arc<dyn Source>) -> Arc<Self> {
        Arc::new(Self { source, link: Link::default(), standing: Mutex::default() })
    }

    /// Whether its bytes cost a network.
    pub(crate) fn is_remote(&self) -> bool {
        self.source.is_remote()
    }

    /// Unwanted bytes between two frames that are fetched to save a request. On the same disk a request costs next to nothing.
    pub(crate) fn gap(&self, joining: Joining) -> u64 {
        match joining {
            _ if !self.is_remote() => 0,
            Joining::Off => 0,
            Joining::ByCost => self.link.gap(),
            Joining::Within(bytes) => bytes.min(MAX_BRIDGE),
        }
    }

    /// It gave right bytes.
    pub(crate) fn keeps_its_word(&self) {
        *self.standing.lock() = Standing::default();
    }

    /// It failed: for a while others are asked first. It is still asked when they fail, so nothing is refused for its sake.
    pub(crate) fn demote(&self) {
        let mut standing = self.standing.lock();
        if standing.demoted.is_some_and(|until| Instant::now() < until) {
            // One broken answer fails many units; it counts once.
            return;
        }
        let pause = backed_off(DEMOTION, standing.failures, MAX_DEMOTION);
        standing.failures = standing.failures.saturating_add(1);
        standing.demoted = Instant::now().checked_add(pause);
    }

    fn is_demoted(&self) -> bool {
        self.standing.lock().demoted.is_some_and(|until| Instant::now() < until)
    }
}

/// Returns the places of origins in the order in which to ask: as they were named, those that failed lately last.
pub(crate) fn order(origins: &[Arc<Origin>]) -> Vec<usize> {
    let mut order: Vec<(bool, usize)> =
        origins.iter().enumerate().map(|(place, origin)| (origin.is_demoted(), place)).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, place)| place).collect()
}

/// Returns the pause after `failures` failures in a row: doubled each time, up to a bound.
pub(crate) fn backed_off(first: Duration, failures: u32, most: Duration) -> Duration {
    first.saturating_mul(2u32.saturating_pow(failures.min(16))).min(most)
}

/// Says whether a source may well give right bytes a moment later: its network or the machine behind it is in trouble. What it said
/// about the blob itself, or about who asks, stays true.
pub(crate) fn may_pass(error: &SourceError) -> bool {
    // Without a network no name is known.
    error.is_transient() || matches!(error.innermost(), SourceError::UnknownHost { .. } | SourceError::Io { .. })
}

/// Says whether a source gives nothing at all now, so that there is no use in asking it for something else.
pub(crate) fn is_shut(error: &SourceError) -> bool {
    let refuses = matches!(
        error.innermost(),
        SourceError::NotFound { .. }
            | SourceError::AuthNeeded { .. }
            | SourceError::AuthDenied { .. }
            | SourceError::Credentials { .. }
            | SourceError::Tls { .. }
    );
    refuses || may_pass(error)
}
