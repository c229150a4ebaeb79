//! A container on an image that this process mounts, without a server.
//!
//! ```text
//!   Opened ─→ detached FUSE mount ─→ dimsum-run: namespace, overlay, runc ─→ exit status
//! ```

use std::os::fd::AsFd as _;

pub use dimsum_run::config::ProcessConfig;
pub use dimsum_run::process::Overrides;
pub use dimsum_run::signals::{SignalReceiver, SignalSender, channel as signal_channel};
pub use dimsum_run::{
    Bind, ContainerEnd, ContainerRequest, ProcessSignals, RUNC, RunDir, RunError, SignalFeed, check_privileges,
    note_exec_time, run_container,
};
pub use dimsum_sys::signal::Received;

use crate::image::Opened;
use crate::{CancelReason, Engine, EngineError};

impl Opened {
    /// Returns the container that the image's config describes. Its fields may be changed before it runs.
    ///
    /// # Errors
    /// [`EngineError::Run`] if the config describes none.
    pub fn container(&self) -> Result<ContainerRequest, EngineError> {
        ContainerRequest::new(&self.located.config).map_err(|source| failed(self, source))
    }
}

impl Engine {
    /// Runs a container on an image and returns when its command has ended. Only what it touches is fetched, and every
    /// byte is verified. Mounts and written files are gone then, even if this process is killed. `signals` is where the
    /// container's signals come from. Needs root and runc.
    ///
    /// # Errors
    /// [`EngineError::Run`] if it cannot be started, [`EngineError::Mount`] if the image cannot be mounted, and
    /// [`EngineError::Cancelled`] if a signal asked to end before.
    pub fn run(
        &self,
        opened: &Opened,
        request: &ContainerRequest,
        signals: &dyn SignalFeed,
    ) -> Result<ContainerEnd, EngineError> {
        request.check().map_err(|source| failed(opened, source))?;
        self.cancel().check()?;
        let dir = RunDir::create(&self.config().store).map_err(|source| failed(opened, source))?;
        let ended = self.mount_detached(opened, &dir.image()).and_then(|mounted| {
            let ended = run_container(request, &dir, mounted.as_fd(), signals);
            ended.map_err(|source| failed(opened, source))
        });
        dir.close();
        ended
    }
}

fn failed(opened: &Opened, source: RunError) -> EngineError {
    match source {
        RunError::Interrupted { signal } => EngineError::Cancelled { reason: CancelReason::Signal(signal) },
        source => EngineError::Run { object: opened.located.name(), source: Box::new(source) },
    }
}
