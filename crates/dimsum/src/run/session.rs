//! One run: the server mounts the image, the container runs on it, and the figures are read before the mount ends.

use std::os::fd::{AsFd as _, BorrowedFd};

use dimsum_engine::image::Located;
use dimsum_engine::{CancelReason, EngineError};
use dimsum_node::Client;
use dimsum_run::{ContainerRequest, RunDir, RunError, run_container};

use super::report::{Clock, RunReport};
use crate::commands::mount::mount;
use crate::error::Error;
use crate::signals::Interrupts;

/// What is run, and how.
#[derive(Debug)]
pub struct Session<'a> {
    /// The image.
    pub located: &'a Located,
    /// The container on it.
    pub request: ContainerRequest,
    /// Whether the rest of the image is fetched behind the readers.
    pub fill: bool,
    /// The signals of this process.
    pub interrupts: &'a Interrupts,
}

impl Session<'_> {
    /// Runs the container.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn run(&self, client: &Client, clock: &Clock) -> Result<RunReport, Error> {
        let dir = RunDir::create(client.store()).map_err(|source| self.failed(source))?;
        let done = self.run_in(&dir, client, clock);
        dir.close();
        done
    }

    fn run_in(&self, dir: &RunDir, client: &Client, clock: &Clock) -> Result<RunReport, Error> {
        let mut report = RunReport::new(self.located, clock);
        // It keeps the mount alive until its figures are read.
        let (mounted, id) = mount(client, self.located, &dir.image(), self.fill)?;
        let image = mounted.as_fd();
        report.seconds_to_mount = clock.seconds();
        report.image_bytes = image_bytes(image);
        let ended = run_container(&self.request, dir, image, self.interrupts.feed());
        report.seconds_to_exit = clock.seconds();
        if let Ok(Some(info)) = client.mount_info(id) {
            report.count(&info.stats);
        }
        match (ended, report.integrity()) {
            (Ok(end), _) => {
                report.exit_status = end.exit_status;
                report.seconds_to_exec = end.exec_time.and_then(|moment| clock.until(moment));
                Ok(report)
            }
            (Err(source), Some(figures)) => {
                let source = Box::new(self.failed(source));
                Err(Error::Unproven { object: self.located.name(), figures, source })
            }
            (Err(source), None) => Err(self.failed(source)),
        }
    }

    fn failed(&self, source: RunError) -> Error {
        match source {
            RunError::Interrupted { signal } => EngineError::Cancelled { reason: CancelReason::Signal(signal) }.into(),
            source => Error::Run { object: self.located.name(), source: Box::new(source) },
        }
    }
}

/// Returns the bytes of the flat image, as the mount says.
fn image_bytes(image: BorrowedFd<'_>) -> u64 {
    rustix::fs::fstatvfs(image).map_or(0, |stat| stat.f_blocks.saturating_mul(stat.f_frsize))
}
