//! The file tree, from OCI layer tars and from directories.
//!
//! The files of an image come in many forms: a tar dialect, a compression, a directory on disk. They become one
//! [`Tree`], which is small in memory, checked against [`limits`], and numbered in path order for any order of
//! the source. Content is not kept here. It streams to a sink, and the tree keeps the handle ([`ContentId`])
//! that the sink returns.
//!
//! ```text
//!   directory ─┐                     ┌─ merge (layer over layer) ─┐
//!   layer tar ─┴→ TreeBuilder → Tree ┴────────────────────────────┴→ Tree → to_tar, to_directory, other crates' writers
//! ```
//!
//! A tree read from one layer is a *layer tree*: whiteouts and opaque directories hide entries of the layers
//! below. A merged tree has neither.

#![forbid(unsafe_code)]

mod builder;
mod contents;
mod decode;
mod difference;
mod directory;
mod dump;
mod error;
mod freeze;
mod layer;
pub mod limits;
mod merge;
mod policy;
mod record;
mod sink;
mod tar;
mod text;
mod to_directory;
mod to_tar;
mod tree;
mod types;
mod walk;
mod xattrs;

pub use builder::{NodeId, TreeBuilder};
pub use contents::ContentSource;
pub use decode::{Compression, LayerDecoder, LayerTooLarge};
pub use difference::difference;
pub use directory::read_directory;
pub use dump::{Dump, DumpEntry};
pub use error::{EntryFault, LayerReadError, PathName, TreeError, WriteError};
pub use layer::{LayerTree, read_buffered_layer, read_layer};
pub use merge::merge;
pub use policy::{Dropped, LayerReport, OverlayEntries, Policy, What};
pub use record::Inode;
pub use sink::{ContentSink, NullSink};
pub use to_directory::{Owners, to_directory};
pub use to_tar::{Omission, OmittedEntries, TarForm, TarOptions, to_tar};
pub use tree::{Entries, Tree, TreeEntry};
pub use types::{ContentId, DeviceNumber, FileType, InodeId, Metadata, NodeKind, Timestamp, Xattr};
pub use walk::{TreeWalk, WalkEntry};
