//! What a fetcher does when the core says so.

use std::sync::Arc;

use dimsum_format::Digest;
use tracing::{Instrument as _, Span};

use crate::core::{FeedId, RequestBatch, Ticket};
use crate::error::ReadObject;
use crate::fetch::feed::META;
use crate::fetch::fetcher::Fetcher;
use crate::fetch::land;
use crate::fetch::request::ChunkRequest;
use crate::fetch::share;
use crate::fetch::trace;
use crate::fetch::traffic::{Crew, ReadCargo};
use crate::stats::{Event, EventKind, add};

impl Crew for Fetcher {
    /// Those whose frame is on this disk are decoded, others are looked for in other devices, or queued. A look at the disk is a few
    /// bytes of a file for each, which the reader's thread does itself.
    fn look(self: Arc<Self>, tickets: Vec<Ticket>) {
        let (mut absent, mut remote) = (Vec::new(), Vec::new());
        for run in tickets.chunk_by(|a, b| a.feed == b.feed) {
            let Some(index) = run.first().and_then(|first| self.index_of(first.feed)) else { continue };
            let Some(feed) = self.feed(index) else { continue };
            let here = feed.local().open();
            for ticket in run {
                // With no origin there is nothing to lose by looking once more at a frame that was wrong.
                let may = self.origins().is_empty()
                    || self.services().traffic().view(|core| core.trusts(ticket.feed, ticket.unit));
                if may && here.has(&feed.frame(ticket.unit)) {
                    land::local(&self, index, *ticket);
                } else if may && index != META {
                    absent.push((index, *ticket));
                } else {
                    // A wrong frame is fetched again whoever else has the chunk, so that the pack heals.
                    remote.push(*ticket);
                }
            }
        }
        self.queue(&remote);
        share::start(&self, absent);
    }

    fn ask(self: Arc<Self>, batch: RequestBatch<ReadCargo>) {
        let services = Arc::clone(self.services());
        match self.index_of(batch.feed) {
            Some(index) => {
                let span = trace::request(&self, index, &batch);
                services.spawn(ChunkRequest::new(self, index, batch).run().instrument(span));
            }
            None => self.release(batch.feed),
        }
    }

    fn joined(&self, ticket: Ticket, is_new: bool, cause: &Span) {
        let text = if is_new { "starts a flight" } else { "waits for a flight" };
        trace::flight(self, ticket, cause, text);
    }

    fn damaged(&self, feed: FeedId, unit: u32) {
        add(&self.counters().damage, 1);
        if let Some(feed) = self.index_of(feed).and_then(|index| self.feed(index)) {
            self.event(|| Event::new(EventKind::ChunkDamaged).image(self.image()).object(feed.object(unit)));
        }
    }

    fn name(&self, feed: FeedId, unit: u32) -> Option<(Digest, ReadObject)> {
        let feed = self.feed(self.index_of(feed)?)?;
        Some((self.image(), feed.object(unit)))
    }

    fn calm(&self) {
        if self.is_quiet() {
            self.quiet().notify_waiters();
        }
    }
}
