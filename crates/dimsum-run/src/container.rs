//! Starting the runtime, passing signals on, and the command's exit status.
//!
//! The runtime forwards what it gets to the container. What reaches *us* has to reach it exactly once: with a terminal
//! it stays in our process group, where the terminal's own signals reach it directly, and only what other processes send
//! to us is passed on; without one it leads a session of its own and everything is passed on.

use std::fmt::Debug;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};

use dimsum_sys::child::ChildSetup;
use dimsum_sys::signal::Received;
use rustix::process::{Pid, Signal, kill_process};

use crate::dirs::RunDir;
use crate::{RUNC, RunError};

/// File of a run's directory where the runtime logs.
pub const RUNTIME_LOG: &str = "runc.log";

/// Added to the number of the signal that ended a command, as shells do.
const SIGNAL_STATUS: i32 = 128;

/// Where the signals of this process come from.
///
/// They must be blocked in all threads, `CHLD` among them: the end of the runtime is noticed by it.
pub trait SignalFeed: Debug {
    /// Waits for the next signal and takes it.
    ///
    /// # Errors
    /// What the kernel says.
    fn next(&self) -> io::Result<Received>;
}

/// Passes signals on to a container.
#[derive(Debug)]
pub struct Forwarder<'a> {
    /// The signals of this process.
    pub signals: &'a dyn SignalFeed,
    /// What the image wants to get where we get `TERM`.
    pub stop: Signal,
    /// Whether the runtime sits at our terminal.
    pub terminal: bool,
}

impl Forwarder<'_> {
    /// Runs the container of a bundle until its command ends.
    ///
    /// # Errors
    /// If the runtime cannot be started or waited for.
    pub fn run(&self, run: &RunDir) -> Result<ExitStatus, RunError> {
        let mut command = Command::new(RUNC);
        command.arg("--root").arg(run.state()).arg("--log").arg(run.file(RUNTIME_LOG));
        command.args(["--log-format", "json", "run", "--bundle"]).arg(run.bundle()).arg(run.id());
        // The runtime passes TERM on to the container before it ends, so a killed client asks the command to end; what
        // does not is swept by the next run.
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
        loop {
            let received = self.signals.next().map_err(failed)?;
            if received.signal == Signal::CHILD {
                if let Some(status) = child.try_wait().map_err(failed)? {
                    return Ok(status);
                }
                continue;
            }
            let from_terminal = received.pid == 0;
            if self.terminal && from_terminal {
                continue;
            }
            let signal = if received.signal == Signal::TERM { self.stop } else { received.signal };
            // It may have ended just now; its CHLD is on the way.
            let _ended = kill_process(pid, signal);
        }
    }
}

/// Returns the exit status of the command as a shell would show it.
#[must_use]
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| SIGNAL_STATUS + signal)).unwrap_or(1);
    // A status has eight bits.
    u8::try_from(code).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_the_commands_own_or_128_and_the_signal() {
        assert_eq!(exit_code(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(exit_code(ExitStatus::from_raw(15)), 143);
    }
}
