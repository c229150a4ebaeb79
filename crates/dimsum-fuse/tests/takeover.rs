//! A serving process is killed with reads in flight; a successor on the held descriptor answers them.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of any test function")]

#[expect(dead_code, reason = "each test file uses its part")]
mod support;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use dimsum_fuse::mount::MountOptions;
use dimsum_fuse::{Error, InitReply, Pool, Session, SessionOptions};
use dimsum_sys::child::ChildSetup;
use support::{FIRST_FILE, Memory, Mounted, PATIENCE, Reads, can_mount, content, read_all, reading};

/// Number of the inherited descriptor; set for the child process only.
const CHILD_FD: &str = "DIMSUM_FUSE_TEST_CHILD_FD";
/// What the child does: serve with parked reads, or only take INIT and hang.
const CHILD_MODE: &str = "DIMSUM_FUSE_TEST_CHILD_MODE";
const FILES: u64 = 16;

/// Not a test but the child process of the tests below, which run this file again with it as the only test.
#[test]
fn child_process() {
    let Ok(number) = std::env::var(CHILD_FD) else {
        return;
    };
    let fd = dimsum_sys::fd::take_inherited(number.parse().unwrap()).unwrap();
    if std::env::var(CHILD_MODE).unwrap() == "take-init" {
        let mut request = [0; 8192];
        let mut ready = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut ready, None).unwrap();
        let length = rustix::io::read(&fd, &mut request).unwrap();
        say(&format!("took {length}"));
        thread::park();
    }
    let (queue, parked) = channel();
    let (memory, _ended, agreed) = Memory::new(FILES, Reads::Parked(queue));
    let pool = Pool::with_threads(2).unwrap();
    let session = Session::new(fd, SessionOptions::default(), memory);
    pool.serve(&session).unwrap();
    let hex: String = agreed.recv().unwrap().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    say(&format!("init {hex}"));
    // Held until the kill: dropped, they would be answered.
    let mut held = Vec::new();
    while let Ok(request) = parked.recv() {
        say(&format!("parked {}", request.node));
        held.push(request);
    }
}

/// Prints a line for the parent; the harness of the child prints others.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n@{line}").unwrap();
    out.flush().unwrap();
}

struct Server {
    child: Child,
    lines: Box<dyn Iterator<Item = String>>,
}

impl Server {
    fn start(fd: OwnedFd, mode: &str) -> Self {
        let mut setup = ChildSetup::new().new_session();
        let number = setup.inherit(fd);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["child_process", "--exact", "--nocapture"])
            .env(CHILD_FD, number.to_string())
            .env(CHILD_MODE, mode)
            .stdout(Stdio::piped());
        setup.apply(&mut command);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix('@').map(str::to_owned));
        Self { child, lines: Box::new(lines) }
    }

    fn next(&mut self, prefix: &str) -> String {
        let line = self.lines.next().expect("the child ended early");
        line.strip_prefix(prefix).unwrap_or_else(|| panic!("{line}")).trim().to_owned()
    }

    /// `kill -9`.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn privileged_reads_in_flight_survive_a_killed_server() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new(&MountOptions::new("memory"));
    let mut server = Server::start(mounted.handed_out(), "park");
    let hex = server.next("init");
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    let agreed = InitReply::from_bytes(&bytes).unwrap();

    let readers: Vec<_> = (0..FILES)
        .map(|number| {
            let path = mounted.file(number);
            reading(move || {
                let mut data = vec![0; 1 << 20];
                File::open(path).unwrap().read_exact_at(&mut data, 0).unwrap();
                data
            })
        })
        .collect();
    let mut files = std::collections::BTreeSet::new();
    while files.len() < FILES as usize {
        files.insert(server.next("parked"));
    }
    server.kill();
    assert!(readers.iter().all(|reader| reader.try_recv().is_err()));

    let (memory, ended, _agreed) = Memory::new(FILES, Reads::Answered);
    let pool = Pool::with_threads(2).unwrap();
    let session = Session::adopt(mounted.handed_out(), Some(agreed), SessionOptions::default(), memory).unwrap();
    pool.serve(&session).unwrap();
    for (number, reader) in (0..).zip(readers) {
        assert!(reader.recv_timeout(PATIENCE).unwrap() == content(FIRST_FILE + number, 0, 1 << 20));
    }
    assert!(session.counters().resent >= FILES, "{:?}", session.counters());
    assert!(read_all(mounted.file(1)).unwrap() == content(FIRST_FILE + 1, 0, usize::MAX));
    assert_eq!(session.negotiated(), Some(agreed));
    drop(mounted);
    ended.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn privileged_a_server_killed_before_it_answered_init_is_succeeded() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new(&MountOptions::new("memory"));
    let mut server = Server::start(mounted.handed_out(), "take-init");
    assert!(server.next("took").parse::<usize>().unwrap() >= 56);
    server.kill();

    let (memory, _ended, agreed) = Memory::new(1, Reads::Answered);
    let pool = Pool::with_threads(2).unwrap();
    let session = Session::adopt(mounted.handed_out(), None, SessionOptions::default(), memory).unwrap();
    pool.serve(&session).unwrap();
    assert!(read_all(mounted.file(0)).unwrap() == content(FIRST_FILE, 0, usize::MAX));
    assert_eq!(session.negotiated(), Some(agreed.recv_timeout(PATIENCE).unwrap()));
    assert_eq!(session.counters().resent, 1);
}

#[test]
fn privileged_a_server_that_ends_in_good_order_leaves_parked_requests_to_its_successor() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new(&MountOptions::new("memory"));
    let (queue, parked) = channel();
    let (memory, _ended, agreed) = Memory::new(1, Reads::Parked(queue));
    let pool = Pool::with_threads(2).unwrap();
    let session = Session::new(mounted.handed_out(), SessionOptions::default(), memory);
    pool.serve(&session).unwrap();
    let path = mounted.file(0);
    let reader = reading(move || std::fs::read(path).unwrap());
    let request = parked.recv_timeout(PATIENCE).unwrap();
    drop(pool);
    request.reply.abandon();
    parked.try_iter().for_each(|request| request.reply.abandon());
    assert_eq!(session.counters().parked, 0);

    let (memory, _ended, _agreed) = Memory::new(1, Reads::Answered);
    let pool = Pool::with_threads(2).unwrap();
    let agreed = agreed.recv_timeout(PATIENCE).unwrap();
    let session = Session::adopt(mounted.handed_out(), Some(agreed), SessionOptions::default(), memory).unwrap();
    pool.serve(&session).unwrap();
    assert!(reader.recv_timeout(PATIENCE).unwrap() == content(FIRST_FILE, 0, usize::MAX));
}

/// The byte and the bit of an INIT reply that say that the kernel can send requests again, as Linux 6.9 and later do.
const RESEND_AT: (usize, u8) = (32, 0x80);

#[test]
fn privileged_without_resend_new_reads_are_served_and_open_ones_wait_until_their_readers_are_killed() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new(&MountOptions::new("memory"));
    let mut server = Server::start(mounted.handed_out(), "park");
    let hex = server.next("init");
    let mut bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    // What a kernel before 6.9 agrees on.
    bytes[RESEND_AT.0] &= !RESEND_AT.1;
    let agreed = InitReply::from_bytes(&bytes).unwrap();
    assert!(!agreed.can_resend());
    let mut reader = Command::new("cat").arg(mounted.file(0)).stdout(Stdio::null()).spawn().unwrap();
    server.next("parked");
    server.kill();

    let (memory, _ended, _agreed) = Memory::new(FILES, Reads::Answered);
    let pool = Pool::with_threads(2).unwrap();
    let options = SessionOptions::default();
    let refused = Session::adopt(mounted.handed_out(), Some(agreed), options, Arc::<Memory>::clone(&memory));
    assert!(matches!(refused, Err(Error::NoResend)), "{refused:?}");
    let session = Session::adopt_without_resend(mounted.handed_out(), agreed, options, memory).unwrap();
    pool.serve(&session).unwrap();
    assert!(read_all(mounted.file(1)).unwrap() == content(FIRST_FILE + 1, 0, usize::MAX));
    assert_eq!(session.counters().resent, 0);
    // The read that the killed server had taken is lost: its reader waits, and can be killed. Its pages stay locked.
    assert!(reader.try_wait().unwrap().is_none());
    reader.kill().unwrap();
    assert!(!reader.wait().unwrap().success());
}
