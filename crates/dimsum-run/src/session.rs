//! One run from the mounted image to the exit status, and all mounts taken away again.

use std::os::fd::BorrowedFd;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;
use std::time::SystemTime;

use crate::bundle::write_bundle;
use crate::container::{Forwarder, RUNTIME_LOG, exit_code, start_failure};
use crate::dirs::RunDir;
use crate::exec_time::{EXEC_TIME, noted_exec_time};
use crate::process::stop_signal;
use crate::request::ContainerRequest;
use crate::signals::SignalFeed;
use crate::{RunError, rootfs};

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainerEnd {
    /// The command's exit status, or 128 and the signal that ended it; 126 or 127 if it could not be started.
    pub exit_status: u8,
    /// When the command was about to start; none without a hook, or if it did not come so far.
    pub exec_time: Option<SystemTime>,
}

/// Runs a container on a detached mount of an image, and returns when its command has ended.
///
/// The image is attached in a mount namespace of this run's own, so nobody else sees its mounts. `dir` can be closed
/// afterwards. The caller's descriptor keeps the mount itself alive, for example until its figures are read.
///
/// # Errors
/// If it cannot be started, or a signal asked to end before it was.
pub fn run_container(
    request: &ContainerRequest,
    dir: &RunDir,
    image: BorrowedFd<'_>,
    signals: &dyn SignalFeed,
) -> Result<ContainerEnd, RunError> {
    request.check()?;
    thread::scope(|scope| {
        // A namespace belongs to a thread. This one lives as long as the container: the runtime ends with it.
        let thread = thread::Builder::new().name("container".to_owned());
        let thread = thread.spawn_scoped(scope, || run_in_namespace(request, dir, image, signals));
        let thread = thread.map_err(|source| RunError::io("start a thread for", Path::new("the container"), source))?;
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

fn run_in_namespace(
    request: &ContainerRequest,
    dir: &RunDir,
    image: BorrowedFd<'_>,
    signals: &dyn SignalFeed,
) -> Result<ContainerEnd, RunError> {
    rootfs::leave_mount_namespace()?;
    rootfs::attach_image(image, dir)?;
    let exit_status = start(request, dir, signals);
    rootfs::unmount_all(dir);
    Ok(ContainerEnd { exit_status: exit_status?, exec_time: noted_exec_time(&dir.file(EXEC_TIME)) })
}

/// Starts the container and returns the command's exit status.
fn start(request: &ContainerRequest, dir: &RunDir, signals: &dyn SignalFeed) -> Result<u8, RunError> {
    write_bundle(request, dir)?;
    rootfs::mount_overlay(dir)?;
    if let Some(signal) = signals.ending() {
        return Err(RunError::Interrupted { signal: signal.as_raw() });
    }
    let forwarder = Forwarder { signals, stop: stop_signal(&request.config), terminal: request.overrides.terminal };
    let status = exit_code(forwarder.run(dir)?);
    let not_started = (status != 0).then(|| start_failure(&dir.file(RUNTIME_LOG))).flatten();
    Ok(not_started.unwrap_or(status))
}
