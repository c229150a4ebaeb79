//! The file tree, from OCI layer tars and from directories.
//!
//! An image's files come in many shapes (a tar dialect, a compression, a directory on disk) and leave in one: a [`Tree`],
//! small in memory, checked against [`limits`], numbered in path order whatever order the source had. Content never
//! stays here; it is handed on as it streams by and the tree keeps the handle ([`ContentId`]) that came back.
//!
//! ```text
//!   directory ─┐                     ┌─ merge (layer over layer) ─┐
//!   layer tar ─┴→ TreeBuilder → Tree ┴────────────────────────────┴→ Tree → writers
//! ```
//!
//! A tree read from one layer is a *layer tree*: it may say what it hides of the layers below, by whiteouts and opaque
//! directories. A merged tree says nothing of the kind.

#![forbid(unsafe_code)]

mod builder;
mod dump;
mod error;
mod freeze;
pub mod limits;
mod record;
mod text;
mod tree;
mod types;
mod walk;
mod xattrs;

pub use builder::{NodeId, TreeBuilder};
pub use dump::{Dump, DumpEntry};
pub use error::{Error, Fault, PathName};
pub use record::Inode;
pub use tree::{Entries, Entry, Tree};
pub use types::{ContentId, Device, FileType, InodeId, Kind, Metadata, Timestamp, Xattr};
pub use walk::{Walk, WalkEntry};
