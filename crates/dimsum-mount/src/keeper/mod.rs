//! The keeper: the tiny process that holds every mount, so that the server can be replaced under them.
//!
//! A FUSE session lives as long as somebody has its descriptor open. The server reads what others wrote, decompresses
//! it and talks to networks: it may crash, be killed or be upgraded. The keeper does none of that, so it has no reason
//! to. It is one thread in one loop:
//!
//! ```text
//!  client ── starts ──► keeper ── starts, and starts again ──► server
//!                        │ lock, listening socket                │ store, FUSE threads, clients
//!                        │ session fds + INIT replies + records  │
//!                        └────────── socket: open, list … ───────┘
//! ```
//!
//! It has the privileges to mount; the server has none. It makes detached mounts on request and parses nothing but the
//! packets of [`message`]. The listening socket is its own too: while a server is being started again, clients
//! wait in the backlog instead of being refused.
//!
//! It ends when the server ended by itself (status 0: nobody needs it) and nothing is held.

mod held;
mod link;
mod message;
mod place;
mod process;

use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use dimsum_events::log::{LogFile, LogSettings};
use dimsum_source::with_causes;
use dimsum_sys::fd::take_inherited;
use dimsum_sys::signal::Signals;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Resource, Signal, chdir, getrlimit, setrlimit};

use crate::Error;
use held::{KeptMounts, PacketOutcome};
use place::KeeperPlace;
use process::Process;

pub use held::{HeldDescriptor, HeldMount, MAX_DESCRIPTORS, MAX_HELD, ROLE_FUSE};
pub use link::{Held, Inherited, Link, OpenOptions, Opened};
#[doc(hidden)]
pub use message::packet_again;
pub use message::{MAX_RECORD, VERSION};
pub use place::connect_to;
pub use process::Program;

/// The argument behind which the server finds the numbers of its inherited descriptors, for [`Inherited::take`].
pub const INHERITED_FLAG: &str = "--inherited";

/// The argument behind which a client names the pipe that [`Config::ready`] is.
pub const READY_FLAG: &str = "--ready-fd";

/// What the keeper writes to [`Config::ready`] when the server answers clients; anything else is why it does not.
pub const READY: &[u8] = b"ready";

/// A server that never became ready is given up after this many starts, if nobody's mount depends on it.
const MAX_FAILURES: u32 = 3;

/// How to run a keeper.
#[derive(Debug)]
pub struct Config {
    /// The store; must exist.
    pub store: PathBuf,
    /// The server. [`INHERITED_FLAG`] and its value are appended to the arguments.
    pub server: Program,
    /// Number of an inherited pipe on which a client waits for [`READY`].
    pub ready: Option<RawFd>,
    /// The keeper was started by a user who waits for it: it does not wait for another keeper to end.
    pub foreground: bool,
    /// What is written to the log, and how.
    pub log: LogSettings,
    /// Gets a handle of the log when it is open: a program installs what writes its traces there.
    pub trace: fn(LogSettings, LogFile),
}

/// Runs a keeper until it is not needed any more. Must be called before the process has other threads.
///
/// # Errors
/// [`Error::Locked`] if the store has one, [`Error::GaveUp`] if the server cannot be started, or what the kernel says.
/// The client that waits at [`Config::ready`] is told too.
pub fn run(config: Config) -> Result<(), Error> {
    let mut ready =
        ReadyPipe { pipe: config.ready.map(take_inherited).transpose().map_err(Error::system("take the pipe"))? };
    let result = run_with(config, &mut ready);
    if let Err(error) = &result {
        ready.say(with_causes(error).as_bytes());
    }
    result
}

fn run_with(config: Config, ready: &mut ReadyPipe) -> Result<(), Error> {
    close_inherited();
    // Started by way of `/proc/self/exe`, it would be called `exe`. Only for those who look at processes.
    drop(rustix::thread::set_name(c"dimsum-keeper").map_err(std::io::Error::from));
    let store = std::fs::canonicalize(&config.store).map_err(|source| Error::Store {
        path: config.store.clone(),
        action: "open",
        source,
    })?;
    // A working directory would keep a mount busy, perhaps one of ours.
    chdir("/").map_err(Error::system("change the directory"))?;
    raise_descriptor_limit();
    let place = KeeperPlace::take(&store, !config.foreground)?;
    let log = LogFile::open(&store, "keeper", config.log)?;
    (config.trace)(config.log, LogFile::open(&store, "keeper", config.log)?);
    let signals = Signals::block(&[Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT])
        .map_err(Error::system("block signals"))?;
    let listener = place.listen()?;
    let mut keeper = Keeper {
        process: Process::new(config.server),
        sessions: KeptMounts::default(),
        signals,
        listener,
        place,
        log,
        stopping: false,
    };
    let result = keeper.run(ready);
    keeper.place.leave();
    match &result {
        Ok(()) => keeper.log.line("not needed any more"),
        Err(error) => keeper.log.line(with_causes(error)),
    }
    result
}

/// What a keeper was woken for.
struct Happened {
    signal: bool,
    end: bool,
    packet: bool,
}

struct Keeper {
    process: Process,
    sessions: KeptMounts,
    signals: Signals,
    listener: OwnedFd,
    place: KeeperPlace,
    log: LogFile,
    /// Asked to end; done when nothing is held.
    stopping: bool,
}

impl Keeper {
    fn run(&mut self, ready: &mut ReadyPipe) -> Result<(), Error> {
        loop {
            if self.process.pause() == Some(Duration::ZERO) {
                self.process.start(self.listener.as_fd(), self.place.lock().as_fd(), &self.log)?;
            }
            let happened = self.wait()?;
            if happened.packet {
                self.take(ready);
            }
            if happened.signal {
                self.stop()?;
            }
            if happened.end
                && let Some(status) = self.ended(ready)?
                && self.is_over(status)?
            {
                return Ok(());
            }
            if self.stopping && self.sessions.is_empty() {
                self.process.terminate();
            }
        }
    }

    /// Waits for a signal, a packet, the server's end, or the time of its next start.
    fn wait(&self) -> Result<Happened, Error> {
        let pause = self.process.pause().and_then(|pause| Timespec::try_from(pause).ok());
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        let (end, socket) = (self.process.end(), self.process.socket());
        fds.extend(end.map(|end| PollFd::from_borrowed_fd(end, PollFlags::IN)));
        fds.extend(socket.map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN)));
        match poll(&mut fds, pause.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Error::system("wait")(error)),
        }
        // A socket is watched only beside the process at its other end.
        let is = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
        Ok(Happened { signal: is(0), end: is(1), packet: is(2) })
    }

    fn take(&mut self, ready: &mut ReadyPipe) {
        let Some(socket) = self.process.socket() else {
            return;
        };
        match self.sessions.take(socket, &self.log) {
            PacketOutcome::Ready => {
                self.process.ready();
                ready.say(READY);
            }
            PacketOutcome::Packet | PacketOutcome::Nothing => {}
            // It would stay readable at its end. What a server does that is ending is its own affair.
            PacketOutcome::End => self.process.hang_up(),
            PacketOutcome::Wrong => {
                self.process.hang_up();
                self.process.terminate();
            }
        }
    }

    /// Takes the signal that asks to end.
    fn stop(&mut self) -> Result<(), Error> {
        self.signals.next().map_err(Error::system("read a signal"))?;
        self.stopping = true;
        self.sessions.close("the server is being shut down");
        if !self.sessions.is_empty() {
            self.log.line(format_args!("asked to end: {} mounts are still in use", self.sessions.len()));
        }
        Ok(())
    }

    /// Returns how the server ended, if it did.
    fn ended(&mut self, ready: &mut ReadyPipe) -> Result<Option<ExitStatus>, Error> {
        let Some((status, socket)) = self.process.ended()? else {
            return Ok(None);
        };
        // What it sent before it ended counts: a release, or what was agreed with the kernel.
        loop {
            match self.sessions.take(socket.as_fd(), &self.log) {
                PacketOutcome::Ready => {
                    self.process.ready();
                    ready.say(READY);
                }
                PacketOutcome::Packet => {}
                PacketOutcome::Nothing | PacketOutcome::End | PacketOutcome::Wrong => break,
            }
        }
        self.log.line(format_args!("server ended: {}; {} mounts are held", ending(status), self.sessions.len()));
        Ok(Some(status))
    }

    /// Tells whether a client came while the server was ending.
    fn is_asked(&self) -> bool {
        let mut fds = [PollFd::new(&self.listener, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// Tells whether there is nothing left to do.
    fn is_over(&self, status: ExitStatus) -> Result<bool, Error> {
        if !self.sessions.is_empty() {
            return Ok(false);
        }
        if self.stopping || (status.success() && !self.is_asked()) {
            return Ok(true);
        }
        let starts = self.process.failures();
        if starts >= MAX_FAILURES { Err(Error::GaveUp { status, starts }) } else { Ok(false) }
    }
}

/// The client that waits at the start.
struct ReadyPipe {
    pipe: Option<OwnedFd>,
}

impl ReadyPipe {
    /// Says something, once; the pipe is closed then.
    fn say(&mut self, text: &[u8]) {
        if let Some(pipe) = self.pipe.take() {
            // A client that did not wait does not want to know.
            let _ = rustix::io::write(&pipe, text);
        }
    }
}

fn ending(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("signal {signal}"),
        None => status.to_string(),
    }
}

/// Closes what the starting process left open without wanting to (a shell's redirections): a keeper lives for days.
fn close_inherited() {
    let Ok(numbers) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    for number in numbers.flatten() {
        let number = number.file_name().to_str().and_then(|name| name.parse().ok());
        // Ours are close-on-exec, and refused here.
        drop(number.map(take_inherited));
    }
}

/// Allows as many descriptors as the hard limit does: one is needed for each mount.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // With the limit as it was, fewer images can be mounted; that is said when it happens.
    let _ = setrlimit(Resource::Nofile, limit);
}
