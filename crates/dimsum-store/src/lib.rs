//! The node's verified chunk store: the one gate through which every byte of an image passes.
//!
//! ```text
//! Image::read ── present ──> pread of the covering 16 KiB groups ── hash = proven value ──> done, on the calling thread
//!      │ absent or wrong
//!      └─> flight of the chunk ─> frame in the store's pack files? ─────────────┬─> decode pool: bounded zstd, BLAKE3 = the map's digest
//!                 ▲                    │ no                                     │        ├─> readers, from memory
//!                 │             the chunk in another device of this store? ─────┤        │
//!                 └── other readers    └─ no, or wrong ─> queue ─> request joined by cost ─────┤        ├─> device files (data, then chaining values)
//!                     join                            │ next origin             │        └─> pack file, if a network gave it
//! Image::fill ─> large ranges, behind the readers ────┴─> what nobody waits for goes into the pack file as it came
//! ```
//!
//! Nothing on disk is trusted. Manifest, config and meta are proven from the manifest digest that the caller pins, and
//! chunks from the maps in the meta. Every `pread` is hashed, whatever was verified before. Memory of this process is
//! trusted. Whatever is missing, damaged, foreign or unwritable costs a fetch, never a wrong byte.

#![forbid(unsafe_code)]

mod budget;
mod buf;
mod check;
mod core;
mod disk;
mod error;
mod fetch;
mod flights;
mod image;
mod images;
pub mod limits;
mod load;
mod meta;
mod parked;
mod pool;
mod read;
mod records;
mod role;
mod services;
mod siblings;
mod stats;
mod store;
mod target;

pub use budget::{StoreBudget, StoreUse};
pub use buf::ReadBuf;
pub use check::{Cause, CheckProgress, Finding, Object, Report, Severity};
pub use error::{FailureReason, FillError, MetaError, ReadError, ReadObject, SourceFailure, StoreError};
pub use fetch::fill::Fill;
pub use fetch::progress::{FillPolicy, FillProgress, FillState};
pub use flights::{FlightInfo, FlightList, FlightStage};
pub use image::Image;
pub use meta::Meta;
pub use read::Extent;
pub use records::{NodeKey, Record};
pub use role::StoreRole;
pub use services::Joining;
pub use stats::{Event, EventSink, ImageStats};
pub use store::{Store, StoreOptions};
pub use target::StoreTarget;
