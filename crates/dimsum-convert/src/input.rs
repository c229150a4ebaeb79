//! The input of a conversion.

use std::path::Path;

use dimsum_format::Digest;
use dimsum_source::Source;

/// The input of a conversion.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// An ordinary container image, OCI or Docker.
    Image {
        /// Where its blobs are.
        source: &'a dyn Source,
        /// Digest of the manifest (of one platform).
        manifest: Digest,
    },
    /// A file tree on disk, which becomes an image of one layer.
    Directory {
        /// Its root.
        path: &'a Path,
    },
}
