//! Where an image's blobs come from besides the store.

use dimsum_registry::Access;
use serde::{Deserialize, Serialize};

/// A place that has blobs, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageOrigin {
    /// A reference; paths in it are absolute.
    pub reference: String,
    /// How registries are reached.
    #[serde(default)]
    pub access: Access,
}
