//! What is run, and how: the image's word, and the user's wishes beside it.

use dimsum_format::manifest::ImageConfig;
use dimsum_sys::privilege::may_mount;

use crate::RunError;
use crate::bind::Bind;
use crate::config::ProcessConfig;
use crate::process::{Overrides, command_line};

/// A container to start. All fields but the first are wishes that may stay at their defaults.
#[derive(Debug, Clone, Default)]
pub struct ContainerRequest {
    /// What the image's config says.
    pub config: ProcessConfig,
    /// Command line, environment, directory and terminal.
    pub overrides: Overrides,
    /// Another `USER[:GROUP]` than the image's.
    pub user: Option<String>,
    /// Whether the container may only read its root file system.
    pub read_only: bool,
    /// Whether it has a network of its own, with nothing but loopback.
    pub own_network: bool,
    /// Directories and files of the host.
    pub binds: Vec<Bind>,
    /// A program and its first arguments. The runtime calls it right before the command starts, with one more
    /// argument: the file for [`crate::note_exec_time`].
    pub exec_hook: Option<Vec<String>>,
}

impl ContainerRequest {
    /// Returns the container that an image's config describes.
    ///
    /// # Errors
    /// [`RunError::Config`].
    pub fn new(config: &ImageConfig) -> Result<Self, RunError> {
        let config = ProcessConfig::from_config(config).map_err(|source| RunError::Config { source })?;
        Ok(Self { config, ..Self::default() })
    }

    /// Checks what can be checked before anything is mounted.
    ///
    /// # Errors
    /// [`RunError::NoCommand`], [`RunError::Privileges`].
    pub fn check(&self) -> Result<(), RunError> {
        command_line(&self.config, &self.overrides)?;
        check_privileges()
    }
}

/// Checks that this process may make the mounts of a container.
///
/// # Errors
/// [`RunError::Privileges`].
pub fn check_privileges() -> Result<(), RunError> {
    if may_mount() {
        return Ok(());
    }
    Err(RunError::Privileges { source: std::io::ErrorKind::PermissionDenied.into() })
}
