//! The counters of an image, and the events that it reports; both are of `dimsum-events`.

use dimsum_format::Digest;

pub(crate) use dimsum_events::counters::add;
pub use dimsum_events::{Event, EventSink, ImageStats};
pub(crate) use dimsum_events::{EventKind, ImageCounters as Counters};

use crate::error::{ReadObject, SourceFailure};

/// Returns the event of a source that gave wrong bytes, none, or none in time.
pub(crate) fn source_failed(image: Digest, object: ReadObject, failure: &SourceFailure) -> Event {
    let kind = if failure.is_integrity() { EventKind::SourceLied } else { EventKind::SourceFailed };
    Event::new(kind).image(image).object(object).source(&failure.source_name).reason(&failure.reason)
}
