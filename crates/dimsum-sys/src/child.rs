//! Starting a child process whose session, life and descriptors are chosen by its parent.
//!
//! [`ChildSetup`] collects the settings of a child and applies them to a [`Command`]. Descriptors keep their numbers in
//! the child, so the parent can name them in the arguments before the start. No `dup2` can hit a descriptor that the
//! standard library needs between `fork` and `exec`. The child becomes their owner with [`crate::fd::take_inherited`].

#![expect(unsafe_code, reason = "pre_exec runs between fork and exec")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::Errno;
use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal, setsid};

use crate::fd::make_inheritable;
use crate::signal::unblock_all;

/// The settings of a child process that [`Command`] does not have.
///
/// The child always starts with no signal blocked, whatever its parent blocks.
#[derive(Debug, Default)]
pub struct ChildSetup {
    new_session: bool,
    parent_death_signal: Option<Signal>,
    inherited: Vec<OwnedFd>,
}

impl ChildSetup {
    /// Returns a setup that changes nothing but the signal mask.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the child the leader of a new session, so signals of the parent's terminal do not reach it.
    #[must_use]
    pub fn new_session(mut self) -> Self {
        self.new_session = true;
        self
    }

    /// Sends `signal` to the child when its parent ends.
    ///
    /// The kernel watches the *thread* that starts the child, not the process: start it from a thread that
    /// lives as long as the process does. A parent that is gone before the child could ask makes the start fail.
    #[must_use]
    pub fn parent_death_signal(mut self, signal: Signal) -> Self {
        self.parent_death_signal = Some(signal);
        self
    }

    /// Lets the child inherit `fd` and returns the number it has there (the same as here).
    ///
    /// Pass a duplicate if the parent goes on using the descriptor: the setup keeps this one as long as the
    /// [`Command`] lives. In the parent it stays close-on-exec.
    pub fn inherit(&mut self, fd: OwnedFd) -> RawFd {
        let number = fd.as_raw_fd();
        self.inherited.push(fd);
        number
    }

    /// Lays this setup over `command`; it holds for each child the command starts.
    pub fn apply(self, command: &mut Command) {
        let parent = getpid();
        let setup = move || -> io::Result<()> {
            unblock_all()?;
            if self.new_session {
                setsid()?;
            }
            if let Some(signal) = self.parent_death_signal {
                set_parent_process_death_signal(Some(signal))?;
                // The parent may have ended before the line above took hold.
                if getppid() != Some(parent) {
                    return Err(Errno::SRCH.into());
                }
            }
            for fd in &self.inherited {
                make_inheritable(fd)?;
            }
            Ok(())
        };
        // SAFETY: between fork and exec the closure only makes system calls (sigprocmask, setsid, prctl, getppid,
        // fcntl), which are async-signal-safe. It allocates nothing and takes no lock (an io::Error made of an errno is
        // a plain value). It changes no memory that the parent sees.
        unsafe {
            command.pre_exec(setup);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::process::Stdio;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    #[test]
    fn an_inherited_fd_has_the_announced_number() {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut setup = ChildSetup::new();
        let number = setup.inherit(writer);
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("echo through >/proc/self/fd/{number}"));
        setup.apply(&mut command);
        assert!(command.status().unwrap().success());
        drop(command);
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).unwrap();
        assert_eq!(text, "through\n");
    }

    #[test]
    fn a_child_can_lead_its_own_session_and_starts_with_no_signal_blocked() {
        // The mask belongs to the thread: block in one of our own, so other tests keep theirs.
        let out = std::thread::spawn(|| {
            let _signals = crate::signal::Signals::block(&[Signal::TERM, Signal::CHILD]).unwrap();
            let mut command = Command::new("sh");
            command.arg("-c").arg("cut -d' ' -f6 /proc/$$/stat; echo $$; grep SigBlk /proc/self/status");
            ChildSetup::new().new_session().apply(&mut command);
            command.output().unwrap()
        })
        .join()
        .unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert_eq!(lines[0], lines[1], "session id is not the child's pid: {text}");
        assert!(lines[2].ends_with("0000000000000000"), "{text}");
    }

    #[test]
    fn a_child_ends_with_its_parent() {
        // The thread that starts `cat` ends at once, and the thread is what the kernel watches.
        let mut child = std::thread::spawn(|| {
            let mut command = Command::new("cat");
            command.stdin(Stdio::piped()).stdout(Stdio::null());
            ChildSetup::new().parent_death_signal(Signal::KILL).apply(&mut command);
            command.spawn().unwrap()
        })
        .join()
        .unwrap();
        // Held open, so no end of input but only the signal can end it. (A write to it proves nothing: a process that
        // another thread is starting may hold a copy of the reading end for a moment.)
        let _input = child.stdin.take().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    }
}
