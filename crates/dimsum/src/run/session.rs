//! One run: the server mounts the image, the container runs on it, and the figures are read before the mount ends.

use std::os::fd::{AsFd as _, BorrowedFd};

use dimsum_engine::ImageConfig;
use dimsum_engine::container::{ContainerRequest, RunDir, RunError, run_container};
use dimsum_engine::{CancelReason, EngineError};
use dimsum_node::{Client, MountHandle};

use super::report::{Clock, RunReport};
use crate::context::Context;
use crate::error::Error;
use crate::node::mount;
use crate::signals::Interrupts;

/// What is run, and how.
#[expect(missing_debug_implementations, reason = "it holds a closure and lives for one call")]
pub struct Session<'a> {
    /// The surroundings of the command.
    pub context: &'a Context,
    /// The image, as the user names it.
    pub image: &'a str,
    /// Makes the container of the image's config.
    pub container: &'a dyn Fn(&ImageConfig) -> Result<ContainerRequest, RunError>,
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
        // It keeps the mount alive until its figures are read.
        let mounted = mount(self.context, client, self.image, &dir.image(), self.fill)?;
        self.interrupts.check()?;
        let mut report = RunReport::new(self.image, &mounted, clock);
        report.image_bytes = image_bytes(mounted.as_fd());
        let ended = self.container(&mounted).and_then(|request| {
            let ended = run_container(&request, dir, mounted.as_fd(), self.interrupts.feed());
            ended.map_err(|source| self.failed(source))
        });
        report.seconds_to_exit = clock.seconds();
        if let Ok(Some(info)) = client.mount_info(mounted.id()) {
            report.count(&info.stats);
        }
        match (ended, report.integrity()) {
            (Ok(end), _) => {
                report.exit_status = end.exit_status;
                report.seconds_to_exec = end.exec_time.and_then(|moment| clock.until(moment));
                Ok(report)
            }
            (Err(error), Some(figures)) => {
                Err(Error::Unproven { object: self.image.to_owned(), figures, source: Box::new(error) })
            }
            (Err(error), None) => Err(error),
        }
    }

    fn container(&self, mounted: &MountHandle) -> Result<ContainerRequest, Error> {
        let config = ImageConfig::parse(mounted.image().config.as_bytes());
        let config =
            config.map_err(|source| EngineError::Format { object: self.image.to_owned(), source: Box::new(source) })?;
        (self.container)(&config).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: RunError) -> Error {
        match source {
            RunError::Interrupted { signal } => EngineError::Cancelled { reason: CancelReason::Signal(signal) }.into(),
            source => Error::Run { object: self.image.to_owned(), source: Box::new(source) },
        }
    }
}

/// Returns the bytes of the flat image, as the mount says.
fn image_bytes(image: BorrowedFd<'_>) -> u64 {
    rustix::fs::fstatvfs(image).map_or(0, |stat| stat.f_blocks.saturating_mul(stat.f_frsize))
}
