//! Opens whatever a reference names.

use std::sync::Arc;

use dimsum_layout::{Archive, ArchiveTarget, OciLayout};
use dimsum_source::{Place, Reference, Runtime, SourceError, Target};

use crate::access::Access;
use crate::remote::{Hub, RemoteRepository, Timing};

/// All transports behind one door, with what they share: the runtime, connections, tokens.
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

    /// Opens a reference for reading, blocking.
    ///
    /// # Errors
    /// If there is nothing of the kind, or it is a file tree.
    pub fn open(&self, reference: &Reference) -> Result<Arc<dyn Place>, SourceError> {
        match reference {
            Reference::Registry { repository, name } => {
                Ok(Arc::new(RemoteRepository::open(&self.hub, &self.runtime, repository, name)))
            }
            Reference::OciLayout { dir, name } => Ok(Arc::new(OciLayout::open(dir, name.clone())?)),
            Reference::OciArchive { file, name } => Ok(Arc::new(Archive::open_oci(file, name.clone())?)),
            Reference::DockerArchive { file, name } => Ok(Arc::new(Archive::open_docker(file, name.clone())?)),
            _ => Err(not_here(reference)),
        }
    }

    /// Opens a reference for writing, blocking; what can be made is made.
    ///
    /// # Errors
    /// If it cannot be written, or is named by a digest.
    pub fn create(&self, reference: &Reference) -> Result<Box<dyn Target>, SourceError> {
        match reference {
            Reference::Registry { repository, name } => {
                Ok(Box::new(RemoteRepository::create(&self.hub, &self.runtime, repository, name)?))
            }
            Reference::OciLayout { dir, name } => Ok(Box::new(OciLayout::create(dir, name.clone())?)),
            Reference::OciArchive { file, name } => Ok(Box::new(ArchiveTarget::oci(file, name.clone())?)),
            Reference::DockerArchive { file, name } => Ok(Box::new(ArchiveTarget::docker(file, name.clone())?)),
            _ => Err(not_here(reference)),
        }
    }
}

fn not_here(reference: &Reference) -> SourceError {
    SourceError::Name {
        source_name: reference.to_string(),
        reason: "this kind of reference holds no images".to_owned(),
    }
}
