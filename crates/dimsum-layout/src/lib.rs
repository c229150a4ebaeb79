//! Images in files: OCI image layouts and archives.
//!
//! Each is a [`Place`](dimsum_source::Place) for reading and a [`Target`](dimsum_source::Target) for writing. [`register`] puts
//! their schemes into a table of [`Transports`](dimsum_source::Transports).

#![forbid(unsafe_code)]

mod archive;
mod layout;
mod schemes;
mod transport;

pub use archive::{Archive, ArchiveFault, ArchiveTarget, Members};
pub use layout::OciLayout;
pub use schemes::{DIRECTORY, DOCKER_ARCHIVE, OCI_ARCHIVE, OCI_LAYOUT, add_schemes};
pub use transport::register;
