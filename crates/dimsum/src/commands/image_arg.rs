//! The argument that names an image.

use clap::Args;

/// Names an image.
#[derive(Debug, Clone, Args)]
pub struct ImageArg {
    /// The image: [HOST/]REPO[:TAG], oci:DIR[:TAG], oci-archive:FILE; with @sha256:… the digest of its manifest is pinned
    pub image: String,
}
