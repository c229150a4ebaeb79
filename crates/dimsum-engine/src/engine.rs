//! The engine itself: the places of a node, and what its parts share.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use dimsum_convert::ConvertOptions;
use dimsum_format::Digest;
use dimsum_format::manifest::Platform;
use dimsum_mount::fuse::FuseDriver;
use dimsum_registry::Access;
use dimsum_source::{Runtime, Schemes, Transports, host_platform};
use dimsum_store::{Image, Store, StoreOptions};

use crate::image::convert_in::ConvertProgress;
use crate::image::{self, Opened, TryOpened, make_store_directory};
use crate::progress::Quiet;
use crate::transports::{TransportTables, schemes};
use crate::{CallerSettings, CancelToken, EngineConfig, EngineError, ImageOrigin, Progress};

/// The way from references to images. Cheap to clone; clones share connections, tokens, the store and its caches.
#[derive(Debug, Clone)]
pub struct Engine {
    config: Arc<EngineConfig>,
    transports: Arc<TransportTables>,
    /// Opened at the first use: most commands that only ask a registry need none.
    store: Arc<OnceLock<Store>>,
    /// Started by the first mount.
    driver: Arc<OnceLock<Arc<FuseDriver>>>,
    progress: Arc<dyn Progress>,
    cancel: CancelToken,
}

impl Engine {
    /// Returns an engine. Nothing is opened, made or started before it is needed.
    #[must_use]
    pub fn new(config: EngineConfig) -> Self {
        Self {
            transports: Arc::new(TransportTables::new(config.timing)),
            config: Arc::new(config),
            store: Arc::default(),
            driver: Arc::default(),
            progress: Arc::new(Quiet),
            cancel: CancelToken::new(),
        }
    }

    /// Returns the same engine with somebody who hears how work goes on.
    #[must_use]
    pub fn with_progress(&self, progress: Arc<dyn Progress>) -> Self {
        Self { progress, ..self.clone() }
    }

    /// Returns the same engine with a token that ends its work.
    #[must_use]
    pub fn with_cancel(&self, cancel: CancelToken) -> Self {
        Self { cancel, ..self.clone() }
    }

    /// Returns an engine with another configuration and a store of its own. It shares runtime, connections and tokens.
    #[must_use]
    pub fn reconfigured(&self, change: impl FnOnce(&mut EngineConfig)) -> Self {
        let mut config = (*self.config).clone();
        change(&mut config);
        Self { config: Arc::new(config), store: Arc::default(), ..self.clone() }
    }

    /// Returns the same engine for the work of one caller. It shares store, caches, runtime, and the connections and
    /// tokens of callers with the same access.
    #[must_use]
    pub fn for_caller(&self, caller: CallerSettings) -> Self {
        let mut config = (*self.config).clone();
        let CallerSettings { access, platforms, require_digest } = caller;
        (config.access, config.platforms, config.require_digest) = (access, platforms, require_digest);
        Self { config: Arc::new(config), ..self.clone() }
    }

    /// Returns the configuration.
    #[must_use]
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// Returns the token that ends its work.
    #[must_use]
    pub const fn cancel(&self) -> &CancelToken {
        &self.cancel
    }

    /// Returns who hears how work goes on.
    #[must_use]
    pub fn progress(&self) -> &dyn Progress {
        &*self.progress
    }

    /// Returns the driver of mounts of this process, whose threads start with the first.
    pub(crate) fn driver(&self) -> Result<Arc<FuseDriver>, dimsum_mount::Error> {
        if let Some(driver) = self.driver.get() {
            return Ok(Arc::clone(driver));
        }
        let driver = Arc::new(FuseDriver::start()?);
        Ok(Arc::clone(self.driver.get_or_init(|| driver)))
    }

    pub(crate) fn shared_progress(&self) -> Arc<dyn Progress> {
        Arc::clone(&self.progress)
    }

    /// Returns the table that opens references: registries, layouts, archives, and what the configuration adds.
    ///
    /// # Errors
    /// If no thread can be made.
    pub fn transports(&self) -> Result<Transports, EngineError> {
        self.transports_with(&self.config.access)
    }

    /// Returns the table with another access to registries.
    pub(crate) fn transports_with(&self, access: &Access) -> Result<Transports, EngineError> {
        self.transports.table(access, &self.config.more_transports).map_err(no_threads)
    }

    /// Returns the schemes of [`Engine::transports`], which parse references. It starts nothing.
    #[must_use]
    pub fn schemes(&self) -> Schemes {
        schemes(&self.config.more_transports)
    }

    /// Returns the runtime on which requests wait.
    ///
    /// # Errors
    /// If no thread can be made.
    pub fn runtime(&self) -> Result<&Runtime, EngineError> {
        self.transports.runtime().map_err(no_threads)
    }

    /// Returns the node's store, which is made at the first use.
    ///
    /// # Errors
    /// If this user may not, or it is of another version.
    pub fn store(&self) -> Result<&Store, EngineError> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        make_store_directory(self)?;
        let runtime = Some(self.runtime()?.clone());
        let options = StoreOptions { runtime, ..self.config.store_options.clone() };
        let store = Store::open(&self.config.store, options).map_err(|source| EngineError::Store {
            action: "open store",
            object: self.config.store.display().to_string(),
            source: Box::new(source),
        })?;
        Ok(self.store.get_or_init(|| store))
    }

    /// Opens an image by its name, for reading in this process. An ordinary image is converted into the store first,
    /// once. An image that the store has opens whatever its registry answers.
    ///
    /// # Errors
    /// If the image is neither here nor there, cannot be converted, or does not prove.
    pub fn open(&self, name: &str) -> Result<Opened, EngineError> {
        image::open(self, name)
    }

    /// Opens an image as [`Engine::open`] does, but converts nothing: a server leaves conversions to its clients.
    ///
    /// # Errors
    /// If the image is neither here nor there, or does not prove.
    pub fn try_open(&self, name: &str) -> Result<TryOpened, EngineError> {
        image::try_open(self, name)
    }

    /// Opens the image of a digest again, from the store and from the places that its first opening found.
    ///
    /// # Errors
    /// If a part of the image cannot be had or does not prove.
    pub fn reopen(&self, digest: Digest, origins: &[ImageOrigin]) -> Result<Arc<Image>, EngineError> {
        image::reopen(self, digest, origins)
    }

    /// Makes a Dimsum image of a directory tree, with the usual options, and returns the digest of its manifest.
    ///
    /// # Errors
    /// If the tree cannot be read or is refused, or the target cannot be written.
    pub fn convert_directory(&self, tree: &Path, target: &str) -> Result<Digest, EngineError> {
        let name = tree.display().to_string();
        let target = image::create_target(self, target)?;
        let shown = ConvertProgress::new(self, &name);
        let input = dimsum_convert::Input::Directory { path: tree };
        let converted = dimsum_convert::convert(input, &*target, &self.convert_options(), &shown);
        converted.map(|converted| converted.manifest).map_err(|error| shown.error(error))
    }

    /// Returns the usual options of a conversion, with this engine's directory for temporary files.
    #[must_use]
    pub fn convert_options(&self) -> ConvertOptions {
        ConvertOptions { temp_dir: self.config.temp_dir.clone(), ..ConvertOptions::default() }
    }

    /// Returns the platform of which one image is wanted.
    ///
    /// # Errors
    /// If several were asked for.
    pub fn platform(&self) -> Result<Platform, EngineError> {
        match &*self.config.platforms {
            [] => Ok(host_platform()),
            [only] => Ok(only.clone()),
            several => Err(EngineError::Platforms { count: several.len() }),
        }
    }
}

fn no_threads(source: std::io::Error) -> EngineError {
    EngineError::io("start threads for", Path::new("the network"), source)
}
