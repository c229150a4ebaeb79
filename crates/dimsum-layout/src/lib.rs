//! Images in files: OCI image layouts and archives.
//!
//! Each is a [`Place`](dimsum_source::Place) for reading and a [`Target`](dimsum_source::Target) for writing.

#![forbid(unsafe_code)]

mod archive;
mod layout;

pub use archive::{Archive, ArchiveTarget, Members};
pub use layout::OciLayout;
