//! The EROFS image: on-disk structs, writer, reader, validator.
//!
//! A Dimsum image's file tree is a plain EROFS file system, laid out by the rules of `docs/format.md`, section 6. This
//! crate knows those bytes and nothing else: it does no I/O of its own and knows nothing of packs, registries or mounts.
//!
//! ```text
//!   Tree + Placements → Layout::plan → Layout::write → bytes
//!   bytes → MetaRead → validate (once) → Image (lookup, read_dir, map, …)
//! ```
//!
//! The writer streams: it keeps four bytes per inode beside the tree. The reader keeps nothing: each operation asks for
//! the bytes it needs and can be done again when they are not there yet.

#![forbid(unsafe_code)]

mod error;
pub mod limits;
pub mod ondisk;
mod prefix;
mod read;
mod validate;
mod write;

pub use error::{Error, Fault, PlanError, RunFault, SuperblockFault};
pub use read::{Data, DirEntry, Extent, Image, Inode, MetaRead, OutOfRange, ReadDir, Result, ToTreeError, to_tree};
pub use validate::{Bounds, Summary, validate};
pub use write::{ImageKind, Layout, Options, Placements, Run, WriteParams};
