//! The EROFS image: on-disk structs, writer, reader, validator.
//!
//! The file tree of a Dimsum image is a plain EROFS file system, laid out by `docs/format.md`, section 6. This
//! crate knows only these bytes: it does no I/O and knows nothing of packs, registries or mounts.
//!
//! ```text
//!   Tree + Placements → Layout::plan → Layout::write → bytes
//!   bytes → MetaRead → validate (once) → Image (lookup, read_dir, map, …)
//! ```
//!
//! The writer streams: it keeps four bytes per inode beside the tree. The reader keeps nothing: each operation
//! asks for the bytes that it needs, and can be repeated if they are not there yet.

#![forbid(unsafe_code)]

mod error;
pub mod limits;
pub mod ondisk;
mod prefix;
mod read;
mod validate;
mod write;

pub use error::{ErofsError, ErofsFault, PlanError, RunFault, SuperblockFault};
pub use read::{
    Data, DataExtent, ErofsDirEntry, ErofsImage, ErofsInode, MetaRead, OutOfRange, ReadDir, ReadResult, ToTreeError,
    to_tree,
};
pub use validate::{Bounds, ValidationSummary, validate};
pub use write::{BlockRun, ErofsLayout, ErofsOptions, ImageKind, Placements, WriteParams};
