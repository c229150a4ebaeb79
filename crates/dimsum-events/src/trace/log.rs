//! The subscriber: a table of open spans, and a line for each record.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use parking_lot::Mutex;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_core::span::Current;

use super::fields::{TraceFields, TraceForm};
use super::{LogLevel, TraceWriter};
use crate::log::LogFormat;

/// Targets of our crates start with this. Libraries below have traces of their own, with headers and addresses in them that
/// must not be written.
const OURS: &str = "dimsum";

thread_local! {
    /// Spans that this thread is in, the innermost last.
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Writes a line for each record, with the fields of all spans around it.
///
/// A span lives as long as somebody holds it: a request of the kernel, a request to a source. Those are bounded, and so is
/// the table.
pub struct TraceLog {
    filter: LevelFilter,
    form: TraceForm,
    writer: Box<dyn TraceWriter>,
    spans: Mutex<HashMap<u64, OpenSpan>>,
    last: AtomicU64,
}

/// A span that somebody holds.
struct OpenSpan {
    metadata: &'static Metadata<'static>,
    parent: Option<u64>,
    fields: TraceFields,
    /// Handles and children.
    holders: usize,
}

impl TraceLog {
    /// Makes one that writes records of at least a level.
    #[must_use]
    pub fn new(level: LogLevel, format: LogFormat, process: &'static str, writer: impl TraceWriter) -> Self {
        Self {
            filter: level.filter(),
            form: TraceForm { process, format },
            writer: Box::new(writer),
            spans: Mutex::default(),
            last: AtomicU64::new(0),
        }
    }

    /// The span that a new span or a record belongs to: the one that was named, else the one that this thread is in.
    fn parent(named: Option<&Id>, is_contextual: bool) -> Option<u64> {
        named.map(Id::into_u64).or_else(|| is_contextual.then(innermost).flatten())
    }

    /// Adds one holder to a span.
    fn hold(spans: &mut HashMap<u64, OpenSpan>, id: u64) -> bool {
        spans.get_mut(&id).map(|span| span.holders += 1).is_some()
    }

    /// Collects the fields of a span and of those around it, outermost first.
    fn around(&self, mut at: Option<u64>) -> TraceFields {
        let spans = self.spans.lock();
        let mut chain = Vec::new();
        // A parent is older than its child, so this ends.
        while let Some(span) = at.and_then(|id| spans.get(&id)) {
            chain.push(&span.fields);
            at = span.parent;
        }
        let mut fields = TraceFields::default();
        chain.iter().rev().for_each(|outer| fields.extend(outer));
        fields
    }
}

fn innermost() -> Option<u64> {
    ENTERED.with_borrow(|entered| entered.last().copied())
}

impl Subscriber for TraceLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with(OURS) && *metadata.level() <= self.filter
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.filter)
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let mut fields = TraceFields::default();
        attributes.record(&mut fields);
        let parent = Self::parent(attributes.parent(), attributes.is_contextual());
        let mut spans = self.spans.lock();
        let parent = parent.filter(|parent| Self::hold(&mut spans, *parent));
        spans.insert(id, OpenSpan { metadata: attributes.metadata(), parent, fields, holders: 1 });
        Id::from_u64(id)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        if let Some(span) = self.spans.lock().get_mut(&span.into_u64()) {
            values.record(&mut span.fields);
        }
    }

    /// The records of the later span name the ids of all that it follows.
    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let at = Timestamp::now();
        let mut fields = self.around(Self::parent(event.parent(), event.is_contextual()));
        event.record(&mut fields);
        self.writer.write(self.form.line(at, event.metadata(), fields));
    }

    fn enter(&self, span: &Id) {
        ENTERED.with_borrow_mut(|entered| entered.push(span.into_u64()));
    }

    fn exit(&self, span: &Id) {
        ENTERED.with_borrow_mut(|entered| {
            if let Some(place) = entered.iter().rposition(|id| *id == span.into_u64()) {
                entered.remove(place);
            }
        });
    }

    fn clone_span(&self, span: &Id) -> Id {
        Self::hold(&mut self.spans.lock(), span.into_u64());
        span.clone()
    }

    fn try_close(&self, span: Id) -> bool {
        let mut spans = self.spans.lock();
        let (mut at, mut is_closed) = (Some(span.into_u64()), false);
        while let Some(id) = at.take() {
            let Some(span) = spans.get_mut(&id) else { break };
            span.holders = span.holders.saturating_sub(1);
            if span.holders == 0 {
                is_closed = true;
                at = spans.remove(&id).and_then(|span| span.parent);
            }
        }
        is_closed
    }

    fn current_span(&self) -> Current {
        let Some(id) = innermost() else { return Current::none() };
        let spans = self.spans.lock();
        spans.get(&id).map_or_else(Current::none, |span| Current::new(Id::from_u64(id), span.metadata))
    }
}

impl fmt::Debug for TraceLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceLog").field("filter", &self.filter).field("form", &self.form).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};
    use tracing::{Span, debug, debug_span, info, trace};

    use super::*;

    #[derive(Debug, Clone, Default)]
    struct Lines(Arc<Mutex<String>>);

    impl TraceWriter for Lines {
        fn write(&self, line: String) {
            self.0.lock().push_str(&line);
        }
    }

    fn traced(level: LogLevel, format: LogFormat, work: impl FnOnce()) -> String {
        let lines = Lines::default();
        tracing::subscriber::with_default(TraceLog::new(level, format, "server", lines.clone()), work);
        lines.0.lock().clone()
    }

    fn objects(text: &str) -> Vec<Value> {
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_record_has_the_ids_of_all_spans_around_it() {
        let text = traced(LogLevel::Debug, LogFormat::Json, || {
            let read = debug_span!("fuse", mount = 3, unique = 42);
            let request = debug_span!(parent: &read, "request", request = 7, source = "a");
            drop(read);
            let _entered = request.enter();
            debug!(source = "b", bytes = 10, "asked");
        });
        let line = &objects(&text)[0];
        let ids = ["mount", "unique", "request", "source", "bytes"].map(|name| line[name].clone());
        assert_eq!(ids, [json!(3), json!(42), json!(7), json!("b"), json!(10)]);
        assert_eq!(
            (&line["severity"], &line["message"], &line["process"]),
            (&"debug".into(), &"asked".into(), &"server".into())
        );
    }

    #[test]
    fn a_span_goes_over_to_another_thread_by_hand_and_never_by_itself() {
        let lines = Lines::default();
        let log = tracing::Dispatch::new(TraceLog::new(LogLevel::Debug, LogFormat::Json, "server", lines.clone()));
        tracing::dispatcher::with_default(&log, || {
            let _entered = debug_span!("fuse", unique = 42).entered();
            let span = Span::current();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    tracing::dispatcher::with_default(&log, || {
                        debug!("a stranger");
                        span.in_scope(|| debug!("a follower"));
                    });
                });
            });
        });
        let lines = objects(&lines.0.lock());
        assert_eq!((lines[0].get("unique"), lines[1].get("unique")), (None, Some(&json!(42))));
    }

    #[test]
    fn spans_that_nobody_holds_are_forgotten() {
        let log = Arc::new(TraceLog::new(LogLevel::Debug, LogFormat::Text, "server", Lines::default()));
        tracing::subscriber::with_default(Arc::clone(&log), || {
            let outer = debug_span!("outer");
            let inner = debug_span!(parent: &outer, "inner");
            let again = inner.clone();
            drop((outer, inner));
            assert_eq!(log.spans.lock().len(), 2);
            again.in_scope(|| drop(Span::current()));
            drop(again);
            assert_eq!(log.spans.lock().len(), 0);
        });
    }

    #[test]
    fn less_important_records_and_those_of_other_libraries_are_not_written() {
        let text = traced(LogLevel::Info, LogFormat::Text, || {
            trace!("no");
            debug!("no");
            info!(target: "h2::codec", "no: authorization: Bearer");
            info!(target: "dimsum_store::read", image = "sha256:ab", "yes");
        });
        assert!(text.ends_with("info store: yes image=sha256:ab\n") && text.lines().count() == 1, "{text}");
    }

    #[test]
    fn a_text_from_outside_cannot_forge_a_line() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let text =
                traced(LogLevel::Info, format, || info!(source = "a\n2026 server[1]: all is well\x1b[2J", "asked"));
            assert!(text.lines().count() == 1 && !text.contains('\x1b'), "{text}");
        }
    }
}
