//! The node's verified chunk store: the one gate through which every byte of an image passes.
//!
//! ```text
//! Image::read ── present ──> pread of the covering 16 KiB groups ── hash = proven value ──> done, on the calling thread
//!      │ absent or wrong
//!      └─> flight of the chunk ─> queue ─> joined range request ─> decode pool: bounded zstd, BLAKE3 = the map's digest
//!                 ▲                              │ next source           ├─> readers, from memory
//!                 └── other readers join         └─ on bad bytes         └─> device files (data, then chaining values)
//! ```
//!
//! Nothing on disk is trusted: manifest, config and meta are proven from the manifest digest that the caller pins, chunks from
//! the maps in the meta, and every `pread` is hashed whatever was verified before. Memory of this process is trusted.
//! Whatever is missing, damaged, foreign or unwritable costs a fetch, never a wrong byte.

#![forbid(unsafe_code)]

mod buf;
mod cache;
mod check;
mod device;
mod error;
mod feed;
mod fetch;
mod image;
mod index;
mod layout;
pub mod limits;
mod load;
mod local;
mod meta;
mod parked;
mod pool;
mod records;
mod request;
mod stats;
mod store;
mod target;

pub use buf::ReadBuf;
pub use check::{Cause, CheckProgress, Finding, Object, Report, Severity};
pub use error::{FailureReason, MetaError, ReadError, ReadObject, SourceFailure, StoreError};
pub use image::{Extent, Image};
pub use meta::Meta;
pub use records::{NodeKey, Record};
pub use stats::{Event, EventSink, Stats};
pub use store::{Options, Store};
pub use target::StoreTarget;
