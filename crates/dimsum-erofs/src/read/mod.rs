//! Reads an image, trusting nothing in it.
//!
//! [`Image`] asks its [`MetaRead`] for the few bytes an operation needs and keeps nothing but the superblock, so any
//! operation can fail with the source's error (a driver's "not here yet") and simply be done again. All numbers from the
//! image are checked before use; whatever the bytes are, an operation ends with a result or an [`Error`], in bounded
//! time and memory. The order of a file system call: [`Image::inode`] (one read of 64 bytes) gives an [`Inode`], a plain
//! value that the other operations take.

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
