//! Records of flights and requests. `docs/design/0010-tracing.md` has the names of their fields.
//!
//! A flight carries the span of the reader that started it; here it goes over to the tasks and threads that work for the
//! flight. Without a subscriber nothing here does more than ask for that.

use std::ops::Range;

use tracing::{Span, debug, debug_span};

use crate::core::{RequestBatch, Ticket};
use crate::error::FailureReason;
use crate::fetch::answer::RangeAnswer;
use crate::fetch::fetcher::Fetcher;
use crate::fetch::origin::OriginState;
use crate::fetch::traffic::ReadCargo;

/// Makes the span of a request, within that of the reader that waits for its first chunk. It follows those of the others.
pub(crate) fn request(fetcher: &Fetcher, feed: usize, batch: &RequestBatch<ReadCargo>) -> Span {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return Span::none();
    }
    let traffic = fetcher.services().traffic();
    let causes: Vec<Span> = batch.routes.iter().map(|(ticket, _)| traffic.cause(*ticket)).collect();
    let flights: Vec<String> = batch.routes.iter().map(|(ticket, _)| ticket.number().to_string()).collect();
    let (image, blob) = (fetcher.image(), fetcher.feed(feed).map(|feed| feed.blob().digest.to_string()));
    let span = debug_span!(
        parent: causes.first().and_then(Span::id),
        "request",
        request = batch.number,
        %image,
        blob,
        flights = flights.join(",")
    );
    for cause in causes.iter().skip(1) {
        span.follows_from(cause);
    }
    span
}

/// Records what becomes of a flight, in the span of a reader.
pub(crate) fn flight(fetcher: &Fetcher, ticket: Ticket, cause: &Span, text: &str) {
    if cause.is_disabled() {
        return;
    }
    let feed = fetcher.index_of(ticket.feed).and_then(|index| fetcher.feed(index));
    let object = feed.map(|feed| feed.object(ticket.unit).id());
    debug!(parent: cause, flight = ticket.number(), object, "{text}");
}

/// Records what becomes of a flight, in the span of the reader that started it.
pub(crate) fn of_flight(fetcher: &Fetcher, ticket: Ticket, text: &str) {
    if tracing::enabled!(tracing::Level::DEBUG) {
        flight(fetcher, ticket, &fetcher.services().traffic().cause(ticket), text);
    }
}

/// Records that an origin is asked for a range, and makes the span of that.
pub(crate) fn attempt(number: u32, origin: &OriginState, first: &Range<u64>, last: &Range<u64>) -> Span {
    let span = debug_span!("attempt", attempt = number, source = &*origin.label, from = first.start, to = last.end);
    debug!(parent: &span, "asks a source");
    span
}

/// Records how that went.
pub(crate) fn answered(span: &Span, answer: &RangeAnswer<'_>, outcome: &Result<(), FailureReason>) {
    if span.is_disabled() {
        return;
    }
    let (after, bytes) = answer.so_far();
    let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    match outcome {
        Ok(()) => debug!(parent: span, bytes, millis, "the source has answered"),
        Err(reason) => debug!(parent: span, bytes, millis, %reason, "the source has failed"),
    }
}
