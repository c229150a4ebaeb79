//! The store's files: names, and how they are read, proven and written. Nothing here knows of sources or readers.

pub(crate) mod cache;
pub(crate) mod device;
pub(crate) mod frames;
pub(crate) mod guest;
pub(crate) mod handles;
pub(crate) mod layout;
pub(crate) mod meta_file;
pub(crate) mod packs;
pub(crate) mod proven;
pub(crate) mod values;
