//! What an engine works with. Nothing of it is read from the environment.

use std::path::PathBuf;
use std::sync::Arc;

use dimsum_format::manifest::Platform;
use dimsum_registry::Access;
use dimsum_source::Transport;
use dimsum_store::Options;

/// The places of a node and how registries are reached. All paths should be absolute: a server that mounts for a
/// client has another working directory.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EngineConfig {
    /// The store's directory; made at the first use, for its owner only.
    pub store: PathBuf,
    /// The file of the node key, with which records of conversions are authenticated; made at the first use.
    /// It must lie outside the store.
    pub node_key: PathBuf,
    /// Where temporary files go; they have no names there.
    pub temp_dir: PathBuf,
    /// How registries are reached: credentials, certificates, plain HTTP.
    pub access: Access,
    /// Platforms that are wanted. None means this machine's, or all where several can be.
    pub platforms: Vec<Platform>,
    /// Refuses images that are named by a tag: only a digest says which bytes are meant.
    pub require_digest: bool,
    /// Transports beside the built-in ones, one for each scheme; one of a built-in scheme takes its place.
    pub more_transports: Vec<Arc<dyn Transport>>,
    /// How the store works. The runtime in it is replaced by the engine's.
    pub store_options: Options,
}

impl EngineConfig {
    /// Returns the configuration of a node whose store and key lie there, with defaults for all else.
    #[must_use]
    pub fn new(store: impl Into<PathBuf>, node_key: impl Into<PathBuf>) -> Self {
        Self {
            store: store.into(),
            node_key: node_key.into(),
            temp_dir: PathBuf::from(dimsum_registry::DEFAULT_TEMP_DIR),
            access: Access::default(),
            platforms: Vec::new(),
            require_digest: false,
            more_transports: Vec::new(),
            store_options: Options::default(),
        }
    }
}
