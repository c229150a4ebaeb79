//! How often the same thing may be written to the log.
//!
//! A source that is gone makes thousands of equal lines a minute. They would push the first of them, which names the
//! cause, out of a bounded log. So the same event about the same object passes [`SAME_BURST`] times per [`WINDOW`]. All
//! events of one type about one mount or image pass [`SCOPE_BURST`] times. The rest is counted, and the count is
//! written.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use crate::Event;

/// The time that a burst is counted over. An operator who looks sees within a minute that it still happens.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);
/// Equal lines in one window: enough to see that it was not once.
const SAME_BURST: u32 = 3;
/// Lines of one type for one mount or image in one window; with 500 bytes each below a twentieth of the log.
const SCOPE_BURST: u32 = 100;
/// Windows that are kept. When there are more, the oldest is closed early.
const MAX_WINDOWS: usize = 1024;

/// The windows that are open.
#[derive(Debug, Default)]
pub(crate) struct RateLimit {
    windows: HashMap<u64, Window>,
    /// Counts of windows that were closed early.
    closed: Vec<Suppressed>,
}

#[derive(Debug)]
struct Window {
    start: Instant,
    passed: u32,
    held: u64,
    /// The line that came last.
    last: String,
}

/// Lines that were not written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Suppressed {
    /// How many.
    pub(crate) count: u64,
    /// One of them.
    pub(crate) example: String,
}

impl RateLimit {
    /// Says whether an event is to be written now.
    pub(crate) fn passes_event(&mut self, event: &Event, now: Instant) -> bool {
        let scope = hash(&("scope", event.kind, event.mount, event.image));
        let same = hash(event);
        // Looked at first: a storm over many objects must not fill the table with a window for each of them.
        let is_full = |window: &Window| now.duration_since(window.start) < WINDOW && window.passed >= SCOPE_BURST;
        if self.windows.get(&scope).is_some_and(is_full) {
            return self.passes(scope, SCOPE_BURST, now, || event.to_string());
        }
        // An event that is held as an equal one does not count against its type.
        self.passes(same, SAME_BURST, now, || event.to_string())
            && self.passes(scope, SCOPE_BURST, now, || event.to_string())
    }

    /// Says whether a text is to be written now.
    pub(crate) fn passes_text(&mut self, text: &str, now: Instant) -> bool {
        self.passes(hash(&("text", text)), SAME_BURST, now, || text.to_owned())
    }

    /// Closes all windows that are over, or all; returns their held events.
    pub(crate) fn close(&mut self, now: Option<Instant>) -> Vec<Suppressed> {
        let mut suppressed = std::mem::take(&mut self.closed);
        self.windows.retain(|_, window| {
            let is_open = now.is_some_and(|now| now.duration_since(window.start) < WINDOW);
            if !is_open {
                suppressed.extend(window.suppressed());
            }
            is_open
        });
        suppressed
    }

    fn passes(&mut self, key: u64, burst: u32, now: Instant, text: impl Fn() -> String) -> bool {
        if !self.windows.contains_key(&key) {
            self.make_room(now);
        }
        let window = self.windows.entry(key).or_insert_with(|| Window::new(now));
        if now.duration_since(window.start) >= WINDOW {
            self.closed.extend(window.suppressed());
            *window = Window::new(now);
        }
        if window.passed < burst {
            window.passed += 1;
            return true;
        }
        window.held += 1;
        window.last = text();
        false
    }

    fn make_room(&mut self, now: Instant) {
        if self.windows.len() < MAX_WINDOWS {
            return;
        }
        let closed = self.close(Some(now));
        self.closed = closed;
        let oldest = self.windows.iter().min_by_key(|(_, window)| window.start).map(|(&key, _)| key);
        if self.windows.len() >= MAX_WINDOWS
            && let Some(mut window) = oldest.and_then(|key| self.windows.remove(&key))
        {
            self.closed.extend(window.suppressed());
        }
    }
}

impl Window {
    const fn new(start: Instant) -> Self {
        Self { start, passed: 0, held: 0, last: String::new() }
    }

    fn suppressed(&mut self) -> Option<Suppressed> {
        let count = std::mem::take(&mut self.held);
        (count > 0).then(|| Suppressed { count, example: std::mem::take(&mut self.last) })
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventKind, FileRef};

    fn failed(inode: u64) -> Event {
        Event::new(EventKind::ReadFailed).mount(1, "/mnt").file(FileRef { inode, path: None }).reason("gone")
    }

    #[test]
    fn equal_events_pass_a_few_times_and_are_counted_then() {
        let (mut limit, now) = (RateLimit::default(), Instant::now());
        let passed = (0..1500).filter(|_| limit.passes_event(&failed(42), now)).count();
        assert_eq!(passed, 3);
        assert_eq!(limit.close(Some(now)), []);
        let [suppressed] = <[Suppressed; 1]>::try_from(limit.close(Some(now + WINDOW))).unwrap();
        assert_eq!(suppressed.count, 1497);
        assert!(limit.passes_event(&failed(42), now + WINDOW));
    }

    #[test]
    fn events_about_many_objects_of_one_mount_are_limited_together() {
        let (mut limit, now) = (RateLimit::default(), Instant::now());
        let passed = (0..1500).filter(|&inode| limit.passes_event(&failed(inode), now)).count();
        assert_eq!(passed, 100);
        let held: u64 = limit.close(None).iter().map(|suppressed| suppressed.count).sum();
        assert_eq!(held, 1400);
    }

    #[test]
    fn the_table_is_bounded_and_loses_no_count() {
        let (mut limit, now) = (RateLimit::default(), Instant::now());
        let mut passed = 0;
        for number in 0..5000 {
            for _ in 0..5 {
                passed += u64::from(limit.passes_text(&number.to_string(), now));
            }
            assert!(limit.windows.len() <= MAX_WINDOWS);
        }
        let held: u64 = limit.close(None).iter().map(|suppressed| suppressed.count).sum();
        assert_eq!((passed, held), (15_000, 10_000));
    }
}
