//! Writes a tree as an image, the same bytes for the same tree wherever and however often.
//!
//! In two steps, because a directory holds the places of inodes that stand behind it: [`Layout::plan`] goes through the
//! tree once and finds each inode's place, [`Layout::write`] goes through it again and streams the bytes. Only the
//! places (four bytes per inode) and the shared attributes are kept between; all else is worked out again.
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
pub use layout::{ImageKind, Layout, Options};
pub use runs::{Placements, Run};

pub(crate) use names::type_number;
