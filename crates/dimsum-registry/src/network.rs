//! Registries as a transport: the scheme `docker:`, and what all repositories share.

use std::sync::Arc;

use dimsum_source::{
    ImageName, Place, Reference, Repository, Runtime, Scheme, SourceError, SourceFault, Target, Transport,
};

use crate::access::Access;
use crate::remote::{Hub, RemoteRepository, Timing};
use crate::scheme::REGISTRY;

/// All registries behind one door, with what they share: the runtime, connections, tokens. Clones share it too.
#[derive(Debug, Clone)]
pub struct Network {
    runtime: Runtime,
    access: Arc<Access>,
    hub: Arc<Hub>,
}

impl Network {
    /// Prepares; nothing is connected or read yet.
    #[must_use]
    pub fn new(access: Access, runtime: &Runtime) -> Self {
        Self::with_timing(access, runtime, Timing::default())
    }

    /// As [`Network::new`], with other times to wait.
    #[must_use]
    pub fn with_timing(access: Access, runtime: &Runtime, timing: Timing) -> Self {
        let access = Arc::new(access);
        let hub = Arc::new(Hub::new(Arc::clone(&access), timing));
        Self { runtime: runtime.clone(), access, hub }
    }

    /// Returns the runtime.
    #[must_use]
    pub const fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Returns the settings.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Opens a repository for reading; nothing is connected yet.
    ///
    /// # Errors
    /// If the reference names no image of a registry.
    pub fn open(&self, reference: &Reference) -> Result<Arc<dyn Place>, SourceError> {
        let (repository, name) = parts(reference)?;
        Ok(Arc::new(RemoteRepository::open(&self.hub, &self.runtime, repository, name)))
    }

    /// Opens a repository for writing; nothing is connected yet.
    ///
    /// # Errors
    /// If the reference names no image of a registry, or names it by a digest.
    pub fn create(&self, reference: &Reference) -> Result<Box<dyn Target>, SourceError> {
        let (repository, name) = parts(reference)?;
        Ok(Box::new(RemoteRepository::create(&self.hub, &self.runtime, repository, name)?))
    }
}

impl Transport for Network {
    fn scheme(&self) -> Scheme {
        REGISTRY
    }

    fn open(&self, reference: &Reference) -> Result<Arc<dyn Place>, SourceError> {
        self.open(reference)
    }

    fn create(&self, reference: &Reference) -> Result<Box<dyn Target>, SourceError> {
        self.create(reference)
    }
}

fn parts(reference: &Reference) -> Result<(&Repository, &ImageName), SourceError> {
    let parts = reference.repository().zip(reference.name());
    let reason = "it names no image of a registry";
    parts.ok_or_else(|| SourceFault::Reference { reason: reason.into() }.at(reference.to_string()))
}
