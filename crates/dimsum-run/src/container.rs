//! Starting the runtime, passing signals on, and the command's exit status.
//!
//! The runtime forwards the signals that it gets to the container. A signal that reaches *us* has to reach the
//! container exactly once. With a terminal, the runtime stays in our process group, where the terminal's own signals
//! reach it directly. Then only signals that other processes send to us are passed on. Without a terminal, the runtime
//! leads a session of its own and everything is passed on.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};

use dimsum_sys::child::ChildSetup;
use dimsum_sys::signal::Received;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::dirs::RunDir;
use crate::signals::SignalFeed;
use crate::{RUNC, RunError};

/// File of a run's directory where the runtime logs.
pub(crate) const RUNTIME_LOG: &str = "runc.log";

/// Added to the number of the signal that ended a command, as shells do.
const SIGNAL_STATUS: i32 = 128;

/// Passes signals on to a container.
#[derive(Debug)]
pub(crate) struct Forwarder<'a> {
    /// The signals of this process.
    pub(crate) signals: &'a dyn SignalFeed,
    /// What the image wants to get where we get `TERM`.
    pub(crate) stop: Signal,
    /// Whether the runtime sits at our terminal.
    pub(crate) terminal: bool,
}

impl Forwarder<'_> {
    /// Runs the container of a bundle until its command ends.
    ///
    /// # Errors
    /// If the runtime cannot be started or waited for.
    pub(crate) fn run(&self, run: &RunDir) -> Result<ExitStatus, RunError> {
        let mut command = Command::new(RUNC);
        command.arg("--root").arg(run.state()).arg("--log").arg(run.file(RUNTIME_LOG));
        command.args(["--log-format", "json", "run", "--bundle"]).arg(run.bundle()).arg(run.id());
        // The runtime passes TERM on to the container before it ends, so a killed client asks the command to end. The
        // next run sweeps a command that does not.
        let mut setup = ChildSetup::new().parent_death_signal(Signal::TERM);
        if !self.terminal {
            setup = setup.new_session();
        }
        setup.apply(&mut command);
        let child = command.spawn().map_err(|source| RunError::Runtime { program: RUNC, source })?;
        self.wait(child)
    }

    fn wait(&self, mut child: Child) -> Result<ExitStatus, RunError> {
        let failed = |source| RunError::io("wait for", Path::new(RUNC), source);
        let pid = Pid::from_child(&child);
        let end = pidfd_open(pid, PidfdFlags::empty()).map_err(|source| failed(source.into()))?;
        loop {
            let mut fds = [PollFd::new(&end, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
            // The container may run for as long as it likes: no deadline.
            retry_on_intr(|| poll(&mut fds, None)).map_err(|source| failed(source.into()))?;
            let [ended, signalled] = fds.map(|fd| !fd.revents().is_empty());
            if ended {
                return child.wait().map_err(failed);
            }
            if signalled {
                let Some(received) = self.signals.next().map_err(failed)? else { return child.wait().map_err(failed) };
                self.pass_on(received, pid);
            }
        }
    }

    fn pass_on(&self, received: Received, runtime: Pid) {
        let from_terminal = received.pid == 0;
        if received.signal == Signal::CHILD || (self.terminal && from_terminal) {
            return;
        }
        let signal = if received.signal == Signal::TERM { self.stop } else { received.signal };
        // It may have ended just now; the next turn notices.
        let _ended = kill_process(runtime, signal);
    }
}

/// Returns the exit status of the command as a shell would show it.
#[must_use]
pub(crate) fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| SIGNAL_STATUS + signal)).unwrap_or(1);
    // A status has eight bits.
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// Returns the exit status for a command that the runtime could not start, as shells have it; none if it was started.
///
/// The runtime has told the user already; what it calls its own status (1) could be the command's.
pub(crate) fn start_failure(log: &Path) -> Option<u8> {
    /// A shell's status for a command that is not there.
    const NOT_FOUND: u8 = 127;
    /// A shell's status for a command that may not be executed.
    const NOT_EXECUTABLE: u8 = 126;
    let log = fs::read_to_string(log).ok()?;
    let errors = log.lines().filter(|line| line.contains(r#""level":"error""#)).collect::<String>();
    if !errors.contains("unable to start container process") {
        return None;
    }
    let unusable = ["permission denied", "exec format error", "input/output error"];
    if unusable.iter().any(|reason| errors.contains(reason)) {
        return Some(NOT_EXECUTABLE);
    }
    let missing = errors.contains("executable file not found") || errors.contains("no such file or directory");
    missing.then_some(NOT_FOUND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_the_commands_own_or_128_and_the_signal() {
        assert_eq!(exit_code(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(exit_code(ExitStatus::from_raw(15)), 143);
    }

    #[test]
    fn a_command_that_cannot_start_has_a_shells_status() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("log");
        let status = |line: &str| {
            fs::write(&file, line).unwrap();
            start_failure(&file)
        };
        let error = |text: &str| {
            format!(
                r#"{{"level":"error","msg":"runc run failed: unable to start container process: exec: \"x\": {text}"}}"#
            )
        };
        assert_eq!(status(&error("executable file not found in $PATH")), Some(127));
        assert_eq!(status(&error("stat /x: no such file or directory")), Some(127));
        assert_eq!(status(&error("permission denied")), Some(126));
        assert_eq!(status(r#"{"level":"warning","msg":"permission denied"}"#), None);
        assert_eq!(start_failure(Path::new("/nonexistent")), None);
    }
}
