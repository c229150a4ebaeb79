//! The client of a server: finds the one of a store, or starts it.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dimsum_engine::{CancelToken, Engine, Progress};
use dimsum_events::log::{LogFile, LogFormat, last_lines};
use dimsum_format::Digest;
use dimsum_mount::keeper::{Program, READY, READY_FLAG, connect_to};
use dimsum_mount::passing::receive;
use dimsum_sys::child::ChildSetup;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::notes::pass_on;
use crate::wire::{MAX_RESPONSE, WireRequest, WireResponse, receive_message, send_message};
use crate::{Error, FlightReport, MountHandle, MountInfo, MountRequest, ServerFailure, ServerInfo};

/// Held by a client that starts a keeper, so that there is one start at a time.
const START_LOCK: &str = "start.lock";

/// How long a keeper may take until its server answers. It reads no network before.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// How long another client's start is waited for: longer than that client waits itself.
const LOCK_DEADLINE: Duration = Duration::from_secs(60);

/// How often a wait looks whether it was cancelled. A person does not notice it.
const LOOK: Duration = Duration::from_millis(50);

/// How often an image is converted before its tag counts as one that never stands still.
const MAX_CONVERSIONS: u32 = 3;

/// How often a request that got no answer is asked again: a server may be killed more than once, a keeper may be
/// just ending.
const MAX_ATTEMPTS: u32 = 8;

/// Lines of the server's log that an error shows.
const LOG_LINES: usize = 5;

/// What a keeper says at most when it cannot start.
const MAX_REASON: usize = 4096;

/// The way to the server of one store. Cheap; holds no connection.
#[derive(Clone, Debug)]
pub struct Client {
    store: PathBuf,
    keeper: Program,
    cancel: CancelToken,
}

/// What a server says to a request for a mount.
#[derive(Debug)]
pub enum MountAnswer {
    /// The mount.
    Mounted(MountHandle),
    /// An ordinary image with this digest, which must be converted into the store first.
    NeedsConversion(Digest),
}

impl Client {
    /// Returns a client of the store, which must exist. `keeper` is started where none is: it must lead to
    /// [`dimsum_mount::keeper::run`] with [`READY_FLAG`] and its value, which are appended to the arguments.
    ///
    /// # Errors
    /// [`Error::System`] if the store cannot be found.
    pub fn new(store: &Path, keeper: Program) -> Result<Self, Error> {
        let store = store.canonicalize().map_err(Error::system("find the store"))?;
        Ok(Self { store, keeper, cancel: CancelToken::new() })
    }

    /// Returns a client whose waits end when the token is cancelled.
    #[must_use]
    pub fn with_cancel(self, cancel: CancelToken) -> Self {
        Self { cancel, ..self }
    }

    /// Returns the store, as an absolute path.
    #[must_use]
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// Makes sure that a server answers, and starts one if not.
    ///
    /// # Errors
    /// [`Error::NotStarted`] with the last lines of its log, or what the kernel says.
    pub fn connect_or_start(&self) -> Result<(), Error> {
        self.connect(true).map(drop)
    }

    /// Mounts an image by its name. When this returns, its root could be read. It is not attached anywhere yet.
    ///
    /// The server opens it. An ordinary image is converted into the store first, once: by `engine`, in this process,
    /// so that the server unpacks nothing that others made.
    ///
    /// # Errors
    /// [`Error::NotStarted`], [`Error::Server`] with the server's reason, [`Error::Engine`] if it cannot be converted,
    /// [`Error::FirstLookup`].
    pub fn mount(&self, engine: &Engine, request: &MountRequest) -> Result<MountHandle, Error> {
        for _ in 0..MAX_CONVERSIONS {
            match self.ask_mount(request, engine.progress())? {
                MountAnswer::Mounted(handle) => return Ok(handle),
                // Closed at once: its reader would keep the server from writing in the store.
                MountAnswer::NeedsConversion(_) => drop(engine.open(&request.reference)?),
            }
        }
        Err(Error::KeepsMoving { reference: request.reference.clone() })
    }

    /// Asks once for a mount, and converts nothing. What the server notes on the way is passed on.
    ///
    /// # Errors
    /// As [`Client::mount`].
    pub fn ask_mount(&self, request: &MountRequest, progress: &dyn Progress) -> Result<MountAnswer, Error> {
        match self.call(&WireRequest::Mount(request.clone()), true)? {
            Some((WireResponse::Mounted { id, image, notes }, Some(mount))) => {
                pass_on(&notes, progress);
                let handle = MountHandle::new(id, mount, self.store.clone(), image);
                handle.first_lookup().map_err(|source| self.unreadable(&handle, source))?;
                Ok(MountAnswer::Mounted(handle))
            }
            Some((WireResponse::NeedsConversion { digest, notes }, _)) => {
                pass_on(&notes, progress);
                Ok(MountAnswer::NeedsConversion(digest))
            }
            _ => Err(Error::WrongAnswer),
        }
    }

    fn unreadable(&self, handle: &MountHandle, source: io::Error) -> Error {
        // Without an answer, the lines that are there must do.
        drop(self.flush_log());
        Error::FirstLookup { image: handle.image().digest, source, log: last_lines(&self.store, LOG_LINES) }
    }

    /// Lets the server write what waits for its log, for two seconds at most; nothing if none runs.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub fn flush_log(&self) -> Result<(), Error> {
        match self.call(&WireRequest::FlushLog, false)? {
            None | Some((WireResponse::Flushed, _)) => Ok(()),
            Some(_) => Err(Error::WrongAnswer),
        }
    }

    /// Asks for a mount and does not wait for it. Whoever drops the connection gets none.
    ///
    /// # Errors
    /// [`Error::NotStarted`], or if the server cannot be asked.
    #[doc(hidden)]
    pub fn send_mount(&self, request: &MountRequest) -> Result<OwnedFd, Error> {
        let socket = self.connect(true)?.ok_or(Error::WrongAnswer)?;
        send_message(socket.as_fd(), &WireRequest::Mount(request.clone()), None)?;
        Ok(socket)
    }

    /// Returns what is mounted; nothing if no server runs.
    ///
    /// # Errors
    /// If the server cannot be asked.
    pub fn mounts(&self) -> Result<Vec<MountInfo>, Error> {
        match self.call(&WireRequest::List, false)? {
            None => Ok(Vec::new()),
            Some((WireResponse::Mounts { mounts }, _)) => Ok(mounts),
            Some(_) => Err(Error::WrongAnswer),
        }
    }

    /// Returns one mount with its figures.
    ///
    /// # Errors
    /// [`Error::Server`] if there is none (any more), or if the server cannot be asked.
    pub fn mount_info(&self, id: u64) -> Result<Option<MountInfo>, Error> {
        match self.call(&WireRequest::Stats { id }, false)? {
            None => Ok(None),
            Some((WireResponse::Mounts { mut mounts }, _)) => Ok(mounts.pop()),
            Some(_) => Err(Error::WrongAnswer),
        }
    }

    /// Returns what the server says of itself; nothing if none runs.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub fn info(&self) -> Result<Option<ServerInfo>, Error> {
        match self.call(&WireRequest::Info, false)? {
            None => Ok(None),
            Some((WireResponse::Info(info), _)) => Ok(Some(info)),
            Some(_) => Err(Error::WrongAnswer),
        }
    }

    /// Returns the oldest chunks that are on their way, and how many there are; nothing if no server runs.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub fn flights(&self) -> Result<(Vec<FlightReport>, usize), Error> {
        match self.call(&WireRequest::Flights, false)? {
            None => Ok((Vec::new(), 0)),
            Some((WireResponse::Flights { flights, total }, _)) => Ok((flights, total)),
            Some(_) => Err(Error::WrongAnswer),
        }
    }

    /// Asks the server to end as soon as nothing is mounted, and to mount nothing until then. Returns how many mounts
    /// it still serves; nothing if none runs.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub fn shutdown(&self) -> Result<Option<usize>, Error> {
        match self.call(&WireRequest::Shutdown, false)? {
            None => Ok(None),
            Some((WireResponse::Closing { mounts }, _)) => Ok(Some(mounts)),
            Some(_) => Err(Error::WrongAnswer),
        }
    }

    /// Asks until there is an answer. Without `start`, no server is no answer.
    fn call(&self, request: &WireRequest, start: bool) -> Result<Option<(WireResponse, Option<OwnedFd>)>, Error> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let Some(socket) = self.connect(start)? else {
                return Ok(None);
            };
            let sent = send_message(socket.as_fd(), request, None);
            let answered = sent.and_then(|()| self.wait_for(&socket));
            match answered.and_then(|()| receive_message(&socket, MAX_RESPONSE)) {
                Ok((WireResponse::Failed(failure), _)) => return Err(ServerFailure::from(failure).into()),
                Ok(answer) => {
                    // The server closes the connection behind its own descriptor of a mount, which would keep it busy.
                    drop(receive(&socket, &mut [0; 1]).map_err(io::Error::from));
                    return Ok(Some(answer));
                }
                // The server ended with our request: the next one answers it.
                Err(Error::Connection { source: Errno::CONNRESET | Errno::PIPE, .. }) if attempt < MAX_ATTEMPTS => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until the socket has something to say, or the token is cancelled. A server answers whatever its registries
    /// do: each of its own waits has a deadline.
    fn wait_for(&self, socket: &OwnedFd) -> Result<(), Error> {
        let look = Timespec::try_from(LOOK).map_err(|_| Error::WrongAnswer)?;
        loop {
            self.cancel.check()?;
            match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&look)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(Error::system("wait for the server")(error)),
            }
        }
    }

    fn connect(&self, start: bool) -> Result<Option<OwnedFd>, Error> {
        if let Some(socket) = self.try_connect()? {
            return Ok(Some(socket));
        }
        if !start {
            return Ok(None);
        }
        let _starting = self.lock_start()?;
        // Another client may have started one while this one waited for the lock.
        if let Some(socket) = self.try_connect()? {
            return Ok(Some(socket));
        }
        self.start()?;
        self.try_connect()
    }

    /// Connects if a keeper listens.
    fn try_connect(&self) -> Result<Option<OwnedFd>, Error> {
        match connect_to(&self.store) {
            Ok(socket) => Ok(Some(socket)),
            Err(dimsum_mount::Error::Store { source, .. })
                if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the lock for a start; released when dropped.
    fn lock_start(&self) -> Result<std::fs::File, Error> {
        let path = self.store.join(START_LOCK);
        let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        let lock = lock.map_err(Error::system("open the lock for starting a server"))?;
        let started = Instant::now();
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(lock),
                Err(Errno::WOULDBLOCK) if started.elapsed() < LOCK_DEADLINE => drop(self.cancel.wait(LOOK)),
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::system("lock the start of a server")(error)),
            }
            self.cancel.check()?;
        }
    }

    /// Starts a keeper and waits until its server answers.
    fn start(&self) -> Result<(), Error> {
        let not_started = |reason: String| Error::NotStarted {
            store: self.store.clone(),
            reason,
            log: last_lines(&self.store, LOG_LINES),
        };
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(Error::system("make a pipe"))?;
        let log = LogFile::open(&self.store, "client", LogFormat::Text)?;
        let stream = || log.duplicate().map(Stdio::from).map_err(Error::system("duplicate the log"));
        let mut setup = ChildSetup::new().new_session();
        let number = setup.inherit(writer);
        let mut command = Command::new(&self.keeper.path);
        command
            .args(&self.keeper.arguments)
            .arg(READY_FLAG)
            .arg(number.to_string())
            .stdin(Stdio::null())
            .stdout(stream()?)
            .stderr(stream()?);
        setup.apply(&mut command);
        let child = command.spawn().map_err(|error| not_started(format!("{}: {error}", self.keeper.path.display())))?;
        // Closes our end of what the child inherited: the pipe ends when the keeper does.
        drop(command);
        match wait_for_answer(&reader) {
            Ok(answer) if answer == READY => {
                reap(child);
                Ok(())
            }
            Ok(answer) if answer.is_empty() => {
                let status = end(child);
                Err(not_started(format!("the keeper ended without a word ({status})")))
            }
            Ok(answer) => {
                end(child);
                Err(not_started(String::from_utf8_lossy(&answer).into_owned()))
            }
            Err(error) => {
                end(child);
                Err(not_started(error.to_string()))
            }
        }
    }
}

/// Waits for what the keeper says; nothing if it ends.
fn wait_for_answer(pipe: &OwnedFd) -> io::Result<Vec<u8>> {
    let deadline = Timespec::try_from(START_DEADLINE).map_err(|_| io::ErrorKind::InvalidInput)?;
    let ready = loop {
        match poll(&mut [PollFd::new(pipe, PollFlags::IN)], Some(&deadline)) {
            Err(Errno::INTR) => {}
            result => break result?,
        }
    };
    if ready == 0 {
        return Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("it did not answer within {START_DEADLINE:?}; another process may hold the store"),
        ));
    }
    let mut answer = vec![0; MAX_REASON];
    let length = rustix::io::read(pipe, &mut answer[..])?;
    answer.truncate(length);
    Ok(answer)
}

/// Takes note of the keeper's end whenever it comes, so that it does not stay as a zombie of a long-lived client.
fn reap(mut child: Child) {
    let waiting = std::thread::Builder::new().name("keeper-end".to_owned()).spawn(move || child.wait());
    // Without a thread, it stays until this process ends.
    drop(waiting);
}

/// Ends a keeper that did not start, and says how it ended.
fn end(mut child: Child) -> String {
    // It may have ended by itself.
    drop(child.kill());
    child.wait().map_or_else(|error| error.to_string(), |status| status.to_string())
}
