//! Writes a tree as an image. The same tree always gives the same bytes.
//!
//! A directory holds the places of inodes behind it, so there are two steps. [`ErofsLayout::plan`] walks the tree
//! once and finds the place of each inode. [`ErofsLayout::write`] walks it again and streams the bytes. Only the
//! places (four bytes per inode) and the shared attributes are kept between the steps.
//!
//! ```text
//!   names (directories)  ─┐
//!   xattrs (shared, body) ─┼→ shape (of one inode) → layout (of all) → emit → sink
//!   runs (file data)     ─┘
//! ```

mod emit;
mod layout;
mod names;
mod runs;
mod shape;
mod sink;
mod xattrs;

pub use emit::WriteParams;
pub use layout::{ErofsLayout, ErofsOptions, ImageKind};
pub use runs::{BlockRun, Placements};

pub(crate) use names::type_number;
