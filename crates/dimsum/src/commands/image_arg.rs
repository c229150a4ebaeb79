//! The argument that names an image.

use clap::Args;

/// Names an image.
#[derive(Debug, Clone, Args)]
pub struct ImageArg {
    /// The image: oci:DIR[:TAG], or oci:DIR@sha256:… to pin the digest of its manifest
    pub image: String,
}
