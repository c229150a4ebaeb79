//! Events, counters and the log: how the parts of Dimsum report to an operator.
//!
//! ```text
//! store, driver, server ──► EventSink (must not block) ──► LogWriter: bounded queue ──► one thread ──► server.log
//!                    └────► counters (atomics of one table) ──► snapshot ──► wire, JSON, text
//! ```
//!
//! - [`Event`] is one typed, versioned thing that happened; [`EventSink`] takes it;
//! - [`counters`] has every counter in one table, from which the atomics, the snapshot and its rows are made;
//! - [`log`] writes lines and events to a bounded, rotated file, on a thread of its own;
//! - [`trace`] writes records of `tracing` to the same file, or to standard error.
//!
//! Knows digests; does not know stores, mounts or networks.

#![forbid(unsafe_code)]

pub mod counters;
mod error;
mod event;
mod kind;
mod limit;
pub mod log;
mod object;
pub mod trace;
mod writer;

pub use counters::{
    CounterRow, DriverCounters, DriverStats, ImageCounters, ImageStats, SessionCounters, SessionStats, Unit,
};
pub use error::EventsError;
pub use event::{Event, EventSink, FileRef};
pub use kind::{EventKind, EventSeverity};
pub use object::ReadObject;
pub use writer::{LogHandle, LogWriter};
