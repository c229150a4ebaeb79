//! A token that ends work early: a caller sets it, and the work looks at it.
//!
//! Conversions, copies, exports and estimates look at it while they work. The opening of an image looks at it while it
//! waits for a registry, and while it converts an ordinary image. [`Engine::run`](crate::Engine::run) looks once, before
//! the container starts. Checking, comparing, inspecting, mounting, listing and reading do not look at it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::EngineError;

/// How often a wait looks at what the token watches or asks for its deadline. A person who presses Ctrl-C does not
/// notice a tenth of a second.
const LOOK: Duration = Duration::from_millis(100);

/// Why work was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CancelReason {
    /// The caller asked for it.
    Caller,
    /// A signal asked the process to end.
    Signal(i32),
    /// The deadline of the token passed.
    Deadline,
}

impl fmt::Display for CancelReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caller => f.write_str("cancelled by the caller"),
            Self::Signal(signal) => f.write_str(&dimsum_sys::signal::interruption(*signal)),
            Self::Deadline => f.write_str("cancelled at its deadline"),
        }
    }
}

/// Ends work early. Clones share one state: what one cancels is cancelled for all, and for good.
///
/// The head of this module names the work that looks at the token, between two pieces. Waiting on the network is bounded
/// by the deadlines of the sources. So such a call returns at the latest when the request under way ends.
#[derive(Clone, Default)]
pub struct CancelToken(Arc<Inner>);

#[derive(Default)]
struct Inner {
    reason: Mutex<Option<CancelReason>>,
    changed: Condvar,
    deadline: Option<Instant>,
    watch: Option<Watch>,
}

/// Returns the reason to cancel, if there is one now.
type Watch = Box<dyn Fn() -> Option<CancelReason> + Send + Sync>;

impl CancelToken {
    /// Returns a token that nobody has cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a token that cancels itself at a time.
    #[must_use]
    pub fn with_deadline(deadline: Instant) -> Self {
        Self(Arc::new(Inner { deadline: Some(deadline), ..Inner::default() }))
    }

    /// Returns a token that asks `watch` at each look: a signal descriptor, a connection whose client may have left.
    /// `watch` must not block. It is not asked again after it gave a reason.
    #[must_use]
    pub fn watching(watch: impl Fn() -> Option<CancelReason> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { watch: Some(Box::new(watch)), ..Inner::default() }))
    }

    /// Cancels. The first reason stays.
    pub fn cancel(&self, reason: CancelReason) {
        self.0.reason.lock().get_or_insert(reason);
        self.0.changed.notify_all();
    }

    /// Returns why it was cancelled, or nothing.
    #[must_use]
    pub fn reason(&self) -> Option<CancelReason> {
        // Held while `watch` looks: two callers at once would take two signals.
        self.look(&mut self.0.reason.lock())
    }

    fn look(&self, reason: &mut Option<CancelReason>) -> Option<CancelReason> {
        if reason.is_none() && self.0.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            *reason = Some(CancelReason::Deadline);
        }
        if reason.is_none()
            && let Some(watch) = &self.0.watch
        {
            *reason = watch();
        }
        *reason
    }

    /// Says whether it was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.reason().is_some()
    }

    /// Ends work that was cancelled.
    ///
    /// # Errors
    /// [`EngineError::Cancelled`] if so.
    pub fn check(&self) -> Result<(), EngineError> {
        self.reason().map_or(Ok(()), |reason| Err(EngineError::Cancelled { reason }))
    }

    /// Waits until it is cancelled, at most for `longest`. Returns the reason, or nothing if the time passed.
    #[must_use]
    pub fn wait(&self, longest: Duration) -> Option<CancelReason> {
        let end = Instant::now() + longest;
        let mut reason = self.0.reason.lock();
        loop {
            if let Some(reason) = self.look(&mut reason) {
                return Some(reason);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let passive = self.0.watch.is_none() && self.0.deadline.is_none();
            let pause = if passive { left } else { left.min(LOOK) };
            let _timed_out = self.0.changed.wait_for(&mut reason, pause);
        }
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken").field("reason", &*self.0.reason.lock()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays_for_all_clones() {
        let token = CancelToken::new();
        let clone = token.clone();
        assert!(clone.check().is_ok());
        token.cancel(CancelReason::Signal(15));
        token.cancel(CancelReason::Caller);
        assert_eq!(clone.reason(), Some(CancelReason::Signal(15)));
        assert!(matches!(clone.check(), Err(EngineError::Cancelled { reason: CancelReason::Signal(15) })));
    }

    #[test]
    fn a_wait_ends_when_another_thread_cancels() {
        let token = CancelToken::new();
        let other = token.clone();
        let thread = std::thread::spawn(move || other.wait(Duration::from_secs(60)));
        token.cancel(CancelReason::Caller);
        assert_eq!(thread.join().unwrap(), Some(CancelReason::Caller));
    }

    #[test]
    fn a_deadline_cancels() {
        assert!(!CancelToken::with_deadline(Instant::now() + Duration::from_secs(600)).is_cancelled());
        let token = CancelToken::with_deadline(Instant::now());
        assert_eq!(token.wait(Duration::from_secs(60)), Some(CancelReason::Deadline));
    }

    #[test]
    fn what_is_watched_is_asked_until_it_gives_a_reason() {
        let asked = Arc::new(Mutex::new(0));
        let count = Arc::clone(&asked);
        let token = CancelToken::watching(move || {
            *count.lock() += 1;
            (*count.lock() == 2).then_some(CancelReason::Signal(2))
        });
        assert_eq!(token.reason(), None);
        assert_eq!(token.reason(), Some(CancelReason::Signal(2)));
        assert_eq!(token.reason(), Some(CancelReason::Signal(2)));
        assert_eq!(*asked.lock(), 2);
    }
}
