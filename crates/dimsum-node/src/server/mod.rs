//! The server: the one process per store that fetches, verifies and answers reads.
//!
//! ```text
//! main thread      poll: listener ─► a thread per client (bounded)      answers quick questions
//!                                        └─► queue of opens (bounded)  opens images, asks the keeper for mounts
//!                  poll: mounts that ended ─► forget them, tell the keeper
//!                  poll: the keeper's end ─► mount nothing more
//! driver           fixed pool; never waits
//! store threads    fixed; fetch, decode, verify, complete parked requests
//! ```
//!
//! It has no capabilities: mounts are made by the keeper, attached by clients, and the store is its own. It ends when
//! nothing is mounted and nobody asked for a while. If it is killed, the keeper starts another, which takes over every
//! session with the requests in flight ([`takeover`]).

mod clients;
mod fill;
mod flights;
mod hub;
mod mounts;
mod opens;
mod takeover;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dimsum_engine::{Engine, EngineConfig};
use dimsum_events::log::{LogFile, LogSettings};
use dimsum_events::{EventKind, EventSink, LogHandle, LogWriter};
use dimsum_mount::fuse::FuseDriver;
use dimsum_mount::keeper::{Inherited, Link};
use dimsum_mount::{Driver, DriverKind};
use dimsum_sys::privilege::drop_all_capabilities;
use dimsum_sys::signal::Signals;
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::error::with_causes;
use crate::notes::LogNotes;
use crate::{Error, mountinfo};
use fill::CHECK_EVERY;
use hub::ServerHub;
use mounts::MountTable;
use opens::OpenQueue;

pub use fill::FIRST_PAUSE;

/// Clients that are talked to at the same time; more wait in the socket's backlog. One that waits for its image is not
/// among them.
const MAX_CLIENTS: usize = 64;

/// How long a server without mounts waits for somebody to ask, unless told otherwise.
pub const DEFAULT_IDLE: Duration = Duration::from_secs(30);

/// How to run a server.
#[derive(Debug)]
pub struct Config {
    /// Store, node key and transports. Events of the store go to the log unless it says otherwise; settings of access
    /// are those of each client.
    pub engine: EngineConfig,
    /// The value of [`dimsum_mount::keeper::INHERITED_FLAG`].
    pub inherited: String,
    /// How long to stay when nothing is mounted and nobody asks; `None` for ever.
    pub idle: Option<Duration>,
    /// What is written to the log, and how.
    pub log: LogSettings,
    /// Gets a handle of the log when it is open: a program installs what writes its traces there.
    pub trace: fn(LogSettings, LogHandle),
    /// The pause before a fill that stopped is taken up again, normally [`FIRST_PAUSE`].
    pub fill_pause: Duration,
}

/// Runs the server until nobody needs it. Must be called before the process has other threads.
///
/// # Errors
/// If the store cannot be used or what the keeper gave is not there. Nothing that a client says ends it.
pub fn run(config: Config) -> Result<(), Error> {
    // As for the keeper. Threads that are not named have it, too.
    drop(rustix::thread::set_name(c"dimsum-server").map_err(std::io::Error::from));
    // Taken first: if anything below fails, the keeper sees the socket's end.
    let inherited = Inherited::take(&config.inherited)?;
    let file = LogFile::open(&config.engine.store, "server", config.log)?;
    if let Err(error) = confine(&config.engine.store) {
        file.line(with_causes(&error));
        return Err(error);
    }
    let log = LogWriter::start(file)?;
    (config.trace)(config.log, log.handle());
    let result = Server::start(config, inherited.link, log.handle()).and_then(|server| {
        takeover::adopt_held(&server)?;
        server.hub.link.ready()?;
        server.run(&inherited.listener)
    });
    if let Err(error) = &result {
        log.handle().line(with_causes(error));
    }
    drop(log);
    // Held up to here: while this process serves, no other server may.
    drop(inherited.lock);
    result
}

/// What all threads of the server share.
struct Server {
    engine: Engine,
    drivers: Vec<Box<dyn Driver>>,
    opens: OpenQueue,
    fill_pause: Duration,
    /// What mounts may hold on to.
    hub: Arc<ServerHub>,
    mounts: MountTable,
    idle: Option<Duration>,
    started: Instant,
    /// Mount nothing more, end when nothing is mounted.
    closing: AtomicBool,
    /// Connections.
    clients: AtomicUsize,
    /// Connections since the start, for records.
    came: AtomicU64,
    /// Of the connections, those that a thread talks to.
    talking: AtomicUsize,
    last_asked: Mutex<Instant>,
}

impl Server {
    fn start(config: Config, link: Link, log: LogHandle) -> Result<Arc<Self>, Error> {
        let mut engine = config.engine;
        engine.store_options.events.get_or_insert_with(|| Arc::new(log.clone()));
        let engine = Engine::new(engine).with_progress(Arc::new(LogNotes(log.clone())));
        // A store that cannot be used is found out now, not by the first client.
        engine.store()?;
        Ok(Arc::new(Self {
            engine,
            drivers: vec![Box::new(FuseDriver::start()?)],
            opens: OpenQueue::default(),
            fill_pause: config.fill_pause,
            hub: Arc::new(ServerHub::new(link, log)?),
            mounts: MountTable::default(),
            idle: config.idle,
            started: Instant::now(),
            closing: AtomicBool::new(false),
            clients: AtomicUsize::new(0),
            came: AtomicU64::new(0),
            talking: AtomicUsize::new(0),
            last_asked: Mutex::new(Instant::now()),
        }))
    }

    /// Returns the driver of a kind.
    fn driver(&self, kind: DriverKind) -> Result<&dyn Driver, Error> {
        let driver = self.drivers.iter().find(|driver| driver.kind() == kind);
        driver.map(|driver| &**driver).ok_or(Error::NoDriver { kind })
    }

    fn run(self: &Arc<Self>, listener: &OwnedFd) -> Result<(), Error> {
        loop {
            self.forget_ended();
            self.mounts.check_fills();
            if self.is_over() {
                self.hub.log.line("nothing is mounted and nobody asks");
                return Ok(());
            }
            let [keeper_gone, woken, client] = self.wait(listener)?;
            if keeper_gone && !self.closing.swap(true, Ordering::AcqRel) {
                self.hub.log.line("the keeper has ended: what is mounted is served on, nothing more is mounted");
            }
            if woken {
                self.hub.silence();
            }
            if client {
                clients::accept(self, listener);
            }
        }
    }

    fn wait(&self, listener: &OwnedFd) -> Result<[bool; 3], Error> {
        let full = self.talking.load(Ordering::Acquire) >= MAX_CLIENTS;
        let closing = self.closing.load(Ordering::Acquire);
        let listening = if full { PollFlags::empty() } else { PollFlags::IN };
        // What is hung up stays so: it is looked at until it is known.
        let mut fds = vec![PollFd::new(&*self.hub, PollFlags::IN), PollFd::new(listener, listening)];
        if !closing {
            fds.push(PollFd::new(&self.hub.link, PollFlags::empty()));
        }
        let check = self.mounts.is_filling().then_some(CHECK_EVERY);
        let timeout = self.left().into_iter().chain(check).min().and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Error::system("wait")(error)),
        }
        let is = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
        Ok([is(2), is(0), is(1)])
    }

    /// Returns how long to wait for somebody to ask; `None` while there is something to do.
    fn left(&self) -> Option<Duration> {
        if self.mounts.len() > 0 || self.clients.load(Ordering::Acquire) > 0 {
            return None;
        }
        if self.closing.load(Ordering::Acquire) {
            return Some(Duration::ZERO);
        }
        self.idle.map(|idle| idle.saturating_sub(self.last_asked.lock().elapsed()))
    }

    fn is_over(&self) -> bool {
        self.left() == Some(Duration::ZERO)
    }

    /// Forgets mounts that the kernel released.
    fn forget_ended(&self) {
        for mount in self.hub.take_released().into_iter().filter_map(|id| self.mounts.remove(id)) {
            self.hub.log.event(mount.reporter().event(EventKind::MountEnded));
            if let Err(error) = self.hub.link.closed(mount.id()) {
                self.hub.log.line(with_causes(&error));
            }
            *self.last_asked.lock() = Instant::now();
        }
    }
}

/// Gives up what the server does not need. Before the first thread: masks and capabilities are inherited by threads.
fn confine(store: &Path) -> Result<(), Error> {
    // Signals of a terminal are for whoever started us in its foreground; they stay blocked.
    let terminal = [Signal::INT, Signal::HUP, Signal::QUIT, Signal::TSTP, Signal::TTIN, Signal::TTOU];
    drop(Signals::block(&terminal).map_err(Error::system("block signals"))?);
    refuse_own_mounts(store)?;
    drop_all_capabilities().map_err(Error::system("give up capabilities"))
}

/// Refuses a store or program that could only be read through the server itself.
fn refuse_own_mounts(store: &Path) -> Result<(), Error> {
    use std::os::unix::fs::MetadataExt;
    let ours: Vec<(u32, u32)> =
        mountinfo::mounts().into_iter().filter(mountinfo::MountPoint::is_ours).map(|mount| mount.device).collect();
    for path in [store, Path::new("/proc/self/exe")] {
        let device = std::fs::metadata(path).map_err(Error::system("look at the store"))?.dev();
        if ours.contains(&(rustix::fs::major(device), rustix::fs::minor(device))) {
            return Err(Error::OnOwnMount { path: path.to_owned() });
        }
    }
    Ok(())
}
