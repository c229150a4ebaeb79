//! The server as a child process: started, watched, started again.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use dimsum_events::log::LogFile;
use dimsum_sys::child::ChildSetup;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::INHERITED_FLAG;
use crate::Error;

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The program. `/proc/self/exe` stays the keeper's own program, even after an upgrade replaced the file.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// Starts at once allowed per [`WINDOW`]; a server that was ready is started again at once as long as this holds.
const MAX_STARTS: usize = 100;
/// See [`MAX_STARTS`].
const WINDOW: Duration = Duration::from_secs(60);
/// The wait before the second start of a server that was never ready; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest wait between two starts: readers are waiting.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The server's process, or the time of its next start.
#[derive(Debug)]
pub(super) struct Process {
    program: Program,
    running: Option<Running>,
    /// Starts in the last [`WINDOW`].
    starts: Vec<Instant>,
    /// Starts since a server was last ready.
    failures: u32,
    not_before: Option<Instant>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    /// Readable when the child has ended. A signal would tell it too, but to any thread of the process.
    end: OwnedFd,
    socket: OwnedFd,
    /// Nothing comes from it any more.
    silent: bool,
}

impl Process {
    pub(super) fn new(program: Program) -> Self {
        Self { program, running: None, starts: Vec::new(), failures: 0, not_before: None }
    }

    /// Returns the socket to the running server, as long as something may come from it.
    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.running.as_ref().filter(|running| !running.silent).map(|running| running.socket.as_fd())
    }

    /// Returns what is readable when the running server has ended.
    pub(super) fn end(&self) -> Option<BorrowedFd<'_>> {
        self.running.as_ref().map(|running| running.end.as_fd())
    }

    /// Listens to the server no more.
    pub(super) fn hang_up(&mut self) {
        if let Some(running) = &mut self.running {
            running.silent = true;
        }
    }

    /// Returns how often in a row it ended before it was ready.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Notes that the server answers clients.
    pub(super) fn ready(&mut self) {
        self.failures = 0;
    }

    /// Returns how long to wait before [`Self::start`]; `None` if it runs.
    pub(super) fn pause(&self) -> Option<Duration> {
        match (&self.running, self.not_before) {
            (Some(_), _) => None,
            (None, Some(time)) => Some(time.saturating_duration_since(Instant::now())),
            (None, None) => Some(Duration::ZERO),
        }
    }

    /// Starts the server. It inherits its end of a socket, the listening socket and the store's lock.
    pub(super) fn start(&mut self, listener: BorrowedFd<'_>, lock: BorrowedFd<'_>, log: &LogFile) -> Result<(), Error> {
        let (here, there) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(Error::system("make a socket pair"))?;
        let mut setup = ChildSetup::new();
        let duplicate = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().map_err(Error::system("duplicate a descriptor"));
        let numbers = [setup.inherit(there), setup.inherit(duplicate(listener)?), setup.inherit(duplicate(lock)?)];
        let stream = || log.duplicate().map(Stdio::from).map_err(Error::system("duplicate the log"));
        let mut command = Command::new(&self.program.path);
        command
            .args(&self.program.arguments)
            .arg(INHERITED_FLAG)
            .arg(numbers.map(|number| number.to_string()).join(","))
            .stdin(Stdio::null())
            .stdout(stream()?)
            .stderr(stream()?);
        setup.apply(&mut command);
        let child = command.spawn().map_err(|source| Error::Start { program: self.program.path.clone(), source })?;
        let end = pid_of(&child)
            .ok_or(Errno::SRCH)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
            .map_err(Error::system("watch the server"))?;
        log.line(format_args!("server {} started", child.id()));
        let now = Instant::now();
        self.starts.retain(|&start| now.duration_since(start) < WINDOW);
        self.starts.push(now);
        self.failures += 1;
        self.running = Some(Running { child, end, socket: here, silent: false });
        Ok(())
    }

    /// Returns how the server ended, if it did, and when it may be started again. Its socket is returned too: what it
    /// sent before is still in there.
    pub(super) fn ended(&mut self) -> Result<Option<(ExitStatus, OwnedFd)>, Error> {
        let Some(running) = &mut self.running else {
            return Ok(None);
        };
        let status = running.child.try_wait().map_err(Error::system("wait for the server"))?;
        let Some(status) = status else {
            return Ok(None);
        };
        let now = Instant::now();
        let recent = self.starts.iter().filter(|&&start| now.duration_since(start) < WINDOW);
        let oldest = recent.clone().min().copied();
        let crowded = recent.count() >= MAX_STARTS;
        self.not_before = match (self.failures, oldest) {
            (0, Some(oldest)) if crowded => Some(oldest + WINDOW),
            (0, _) => None,
            (failures, _) => {
                let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
                Some(now + doubled.min(LONGEST_PAUSE))
            }
        };
        Ok(self.running.take().map(|running| (status, running.socket)))
    }

    /// Asks the server to end.
    pub(super) fn terminate(&self) {
        if let Some(running) = &self.running {
            // A server that ended already needs no signal.
            drop(pidfd_send_signal(&running.end, Signal::TERM).map_err(std::io::Error::from));
        }
    }
}

fn pid_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}
