//! Reads an image without trusting it.
//!
//! [`Image`] asks its [`MetaRead`] for the few bytes that an operation needs, and keeps only the superblock. So
//! an operation can fail with the source's error (a driver's "not here yet") and be repeated. All numbers of
//! the image are checked before use. For any bytes, an operation ends with a result or an [`Error`], in bounded
//! time and memory.
//!
//! A file system call starts with [`Image::inode`], one read of 64 bytes. It gives an [`Inode`], a plain value
//! for the other operations.

mod data;
mod dir;
mod image;
mod inode;
mod meta;
mod to_tree;
mod xattr;

pub use data::Extent;
pub use dir::{DirEntry, ReadDir};
pub use image::Image;
pub use inode::{Data, Inode};
pub use meta::{MetaRead, OutOfRange};
pub use to_tree::{ToTreeError, to_tree};

pub(crate) use dir::RawEntry;
pub(crate) use xattr::Found as FoundXattr;

use crate::error::Error;

/// What reading through `M` gives.
pub type Result<T, M> = std::result::Result<T, Error<<M as MetaRead>::Error>>;
