//! The server as a child process: started, watched, started again.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use dimsum_sys::child::ChildSetup;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::INHERITED_FLAG;
use crate::Error;
use crate::log::Log;

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The program; `/proc/self/exe` stays right when the file is replaced by an upgrade.
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
    socket: OwnedFd,
}

impl Process {
    pub(super) fn new(program: Program) -> Self {
        Self { program, running: None, starts: Vec::new(), failures: 0, not_before: None }
    }

    /// Returns the socket to the running server.
    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.running.as_ref().map(|running| running.socket.as_fd())
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
    pub(super) fn start(&mut self, listener: BorrowedFd<'_>, lock: BorrowedFd<'_>, log: &Log) -> Result<(), Error> {
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
        log.line(format_args!("server {} started", child.id()));
        let now = Instant::now();
        self.starts.retain(|&start| now.duration_since(start) < WINDOW);
        self.starts.push(now);
        self.failures += 1;
        debug_assert!(here.as_raw_fd() >= 0);
        self.running = Some(Running { child, socket: here });
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
        if let Some(running) = &self.running
            && let Some(pid) = i32::try_from(running.child.id()).ok().and_then(rustix::process::Pid::from_raw)
        {
            // Not reaped yet, so the number is still its own; a server that ended already needs no signal.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }
}
