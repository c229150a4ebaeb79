//! A source as one image uses it: what it costs, and whether it lately kept its word.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dimsum_source::{ErrorKind, Source, SourceError, SourceFault};
use parking_lot::{Mutex, RwLock};

use crate::fetch::link::LinkEstimate;
use crate::limits::{DEMOTION, MAX_BRIDGE, MAX_DEMOTION, MAX_ORIGINS};
use crate::services::Joining;

/// A source with its standing.
#[derive(Debug)]
pub(crate) struct OriginState {
    /// Its name, for those who look at flights.
    pub(crate) label: Arc<str>,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) link: LinkEstimate,
    standing: Mutex<Standing>,
}

#[derive(Debug, Default)]
struct Standing {
    /// Failures since the last right answer.
    failures: u32,
    /// Asked after the others until then.
    demoted: Option<Instant>,
}

impl OriginState {
    pub(crate) fn new(source: Arc<dyn Source>) -> Arc<Self> {
        let label = source.name().into();
        Arc::new(Self { label, source, link: LinkEstimate::default(), standing: Mutex::default() })
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

    fn failed_lately(&self) -> bool {
        self.standing.lock().failures > 0
    }

    fn is_demoted(&self) -> bool {
        self.standing.lock().demoted.is_some_and(|until| Instant::now() < until)
    }
}

/// Says whether two sources are the same place.
pub(crate) fn is_equal(a: &Arc<dyn Source>, b: &Arc<dyn Source>) -> bool {
    Arc::ptr_eq(a, b) || (a.name() == b.name() && a.is_remote() == b.is_remote())
}

/// The sources of an image, in the order in which they were named.
#[derive(Debug)]
pub(crate) struct Origins(RwLock<Arc<[Arc<OriginState>]>>);

impl Origins {
    pub(crate) fn new(sources: &[Arc<dyn Source>]) -> Arc<Self> {
        let origins = Self(RwLock::new(Arc::new([])));
        origins.add(sources);
        Arc::new(origins)
    }

    /// Returns them as they are now.
    pub(crate) fn list(&self) -> Arc<[Arc<OriginState>]> {
        Arc::clone(&self.0.read())
    }

    /// Adds those that are not among them, up to [`MAX_ORIGINS`]. One that is, and failed lately, is replaced: who names it anew may
    /// have the credentials that were missing.
    pub(crate) fn add(&self, sources: &[Arc<dyn Source>]) {
        let mut origins = self.0.write();
        let mut list = origins.to_vec();
        for source in sources {
            let has_room = list.len() < MAX_ORIGINS;
            match list.iter_mut().find(|origin| is_equal(&origin.source, source)) {
                Some(known) if known.failed_lately() && !Arc::ptr_eq(&known.source, source) => {
                    *known = OriginState::new(Arc::clone(source));
                }
                Some(_) => {}
                None if has_room => list.push(OriginState::new(Arc::clone(source))),
                None => {}
            }
        }
        *origins = list.into();
    }

    /// A number that is equal for images that ask the same source first; nothing without sources.
    pub(crate) fn place(&self) -> Option<u64> {
        let list = self.0.read();
        let first = list.first()?;
        let mut hasher = DefaultHasher::new();
        (first.is_remote(), &*first.label).hash(&mut hasher);
        Some(hasher.finish())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.read().is_empty()
    }

    /// Says whether bytes of some of them cost a network.
    pub(crate) fn has_remote(&self) -> bool {
        self.0.read().iter().any(|origin| origin.is_remote())
    }
}

/// Returns the places of origins in the order in which to ask: as they were named, those that failed lately last.
pub(crate) fn order(origins: &[Arc<OriginState>]) -> Vec<usize> {
    let mut order: Vec<(bool, usize)> =
        origins.iter().enumerate().map(|(place, origin)| (origin.is_demoted(), place)).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, place)| place).collect()
}

/// Returns the pause after `failures` failures in a row: doubled each time, up to a bound.
pub(crate) fn backed_off(first: Duration, failures: u32, most: Duration) -> Duration {
    first.saturating_mul(2u32.saturating_pow(failures.min(16))).min(most)
}

/// Says whether a source may well give right bytes a moment later: its network, its disk or the machine behind it is in
/// trouble. Its words about the blob itself, or about the user, stay true.
pub(crate) fn may_pass(error: &SourceError) -> bool {
    error.is_passing() || matches!(error.detail(), Some(SourceFault::Io { .. }))
}

/// Says whether a source gives nothing at all now, so that there is no use in asking it for something else.
pub(crate) fn is_shut(error: &SourceError) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Denied | ErrorKind::Unavailable) || may_pass(error)
}
