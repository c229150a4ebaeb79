//! What an engine works with. Nothing of it is read from the environment.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dimsum_format::manifest::Platform;
use dimsum_registry::{Access, Timing};
use dimsum_source::Transport;
use dimsum_store::StoreOptions;

/// The default of [`EngineConfig::known_deadline`]. A registry that works answers within a second or two. One that
/// hangs should not hold up a restart for the two minutes of a request.
const KNOWN_DEADLINE: Duration = Duration::from_secs(10);

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
    /// How long registries may take.
    pub timing: Timing,
    /// How long a registry may take to say what a tag stands for, if the node has an image for it.
    pub known_deadline: Duration,
    /// Platforms that are wanted. None means this machine's, or all where several can be.
    pub platforms: Vec<Platform>,
    /// Refuses images that are named by a tag: only a digest says which bytes are meant.
    pub require_digest: bool,
    /// Transports beside the built-in ones, one for each scheme; one of a built-in scheme takes its place.
    pub more_transports: Vec<Arc<dyn Transport>>,
    /// How the store works. The runtime in it is replaced by the engine's.
    pub store_options: StoreOptions,
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
            timing: Timing::default(),
            known_deadline: KNOWN_DEADLINE,
            platforms: Vec::new(),
            require_digest: false,
            more_transports: Vec::new(),
            store_options: StoreOptions::default(),
        }
    }
}

/// What the callers of one shared engine may set, each for its own work: a server has many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallerSettings {
    /// How registries are reached.
    pub access: Access,
    /// Platforms that are wanted, as [`EngineConfig::platforms`].
    pub platforms: Vec<Platform>,
    /// Refuses images that are named by a tag, as [`EngineConfig::require_digest`].
    pub require_digest: bool,
}
