//! Reads an image without trusting it.
//!
//! [`ErofsImage`] asks its [`MetaRead`] for the few bytes that an operation needs, and keeps only the superblock. So
//! an operation can fail with the source's error (a driver's "not here yet") and be repeated. All numbers of
//! the image are checked before use. For any bytes, an operation ends with a result or an [`ErofsError`], in bounded
//! time and memory.
//!
//! A file system call starts with [`ErofsImage::inode`], one read of 64 bytes. It gives an [`ErofsInode`], a plain value
//! for the other operations.

mod data;
mod dir;
mod image;
mod inode;
mod meta;
mod to_tree;
mod xattr;

pub use data::DataExtent;
pub use dir::{ErofsDirEntry, ReadDir};
pub use image::ErofsImage;
pub use inode::{Data, ErofsInode};
pub use meta::{MetaRead, OutOfRange};
pub use to_tree::{ToTreeError, to_tree};

pub(crate) use dir::RawEntry;
pub(crate) use xattr::FoundXattr;

use crate::error::ErofsError;

/// The result of reading through `M`.
pub type ReadResult<T, M> = std::result::Result<T, ErofsError<<M as MetaRead>::Error>>;
