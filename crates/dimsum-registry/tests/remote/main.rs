//! The client against real registries that the tests start, and against one that lies.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests panic")]

mod auth;
mod certificates;
mod content;
mod hostile;
mod interop;
mod lies;
mod real;
mod redirects;
mod referrers;
mod roundtrip;
mod slow;
mod tls;
mod tokens;
