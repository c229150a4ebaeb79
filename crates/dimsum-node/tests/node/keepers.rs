//! Today's server with keepers of older programs, written here against the frozen bytes of the protocol alone.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use dimsum_fuse::mount::{MountOptions, open_detached};
use dimsum_mount::passing::{receive, send};
use dimsum_node::Program;
use dimsum_node::keeper::INHERITED_FLAG;
use dimsum_sys::child::ChildSetup;
use rustix::fs::{FlockOperation, flock};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with, socketpair};

use crate::support::{HANG, Node, can_mount, forget_pages, noise, watch};

/// While this file lies in the store, the keeper's kernel counts as one before Linux 6.9: what was agreed has no resend.
const NO_RESEND: &str = "no-resend";
/// Byte and bit of the agreement that say so.
const RESEND_AT: (usize, u8) = (32, 0x80);

/// A keeper of version 1.
pub(crate) struct KeeperOfVersion1 {
    store: std::path::PathBuf,
    held: BTreeMap<u64, Kept>,
    ready: Option<OwnedFd>,
    last_id: u64,
}

struct Kept {
    session: OwnedFd,
    negotiated: Vec<u8>,
    record: Vec<u8>,
}

impl KeeperOfVersion1 {
    pub(crate) fn run(store: &Path, ready: Option<OwnedFd>, server: &Program) {
        std::env::set_current_dir("/").unwrap();
        let lock = File::create(store.join("lock")).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let socket = store.join("socket");
        drop(fs::remove_file(&socket));
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        bind(&listener, &SocketAddrUnix::new(&socket).unwrap()).unwrap();
        listen(&listener, 256).unwrap();
        let mut keeper = Self { store: store.to_owned(), held: BTreeMap::new(), ready, last_id: 0 };
        loop {
            let (here, mut child) = start(server, listener.as_fd(), lock.as_fd());
            keeper.serve(&here);
            if child.wait().unwrap().success() && keeper.held.is_empty() {
                break;
            }
        }
        fs::remove_file(&socket).unwrap();
    }

    fn serve(&mut self, link: &OwnedFd) {
        let mut buffer = vec![0; 16 + 4096 + (48 << 10)];
        loop {
            let length = receive(link, &mut buffer).map_or(0, |received| received.length);
            if length == 0 {
                return;
            }
            self.answer(link, &buffer[..length]);
        }
    }

    fn answer(&mut self, link: &OwnedFd, packet: &[u8]) {
        let (kind, flags) = (packet[0], packet[1]);
        let first = usize::from(u16::from_le_bytes([packet[2], packet[3]]));
        let id = u64::from_le_bytes(packet[8..16].try_into().unwrap());
        let (first, rest) = packet[16..].split_at(first);
        match kind {
            1 => self.open(link, flags, first, rest),
            2 => {
                let mut negotiated = first.to_vec();
                if self.store.join(NO_RESEND).exists() {
                    negotiated[RESEND_AT.0] &= !RESEND_AT.1;
                }
                self.held.get_mut(&id).unwrap().negotiated = negotiated;
            }
            3 => drop(self.held.remove(&id)),
            4 => {
                for (&id, kept) in &self.held {
                    reply(link, 18, id, &kept.negotiated, &kept.record, &[kept.session.as_fd()]);
                }
                reply(link, 19, 0, b"", b"", &[]);
            }
            5 => {
                if let Some(pipe) = self.ready.take() {
                    rustix::io::write(&pipe, b"ready").unwrap();
                }
            }
            other => panic!("a keeper of version 1 does not know kind {other}"),
        }
    }

    fn open(&mut self, link: &OwnedFd, flags: u8, name: &[u8], record: &[u8]) {
        let mut options = MountOptions::new(String::from_utf8_lossy(name));
        options.nosuid = flags & 1 == 0;
        options.nodev = flags & 2 == 0;
        let made = open_detached(&options).unwrap();
        self.last_id += 1;
        reply(link, 16, self.last_id, b"", b"", &[made.session.as_fd(), made.mount.as_fd()]);
        drop(made.mount);
        let kept = Kept { session: made.session, negotiated: Vec::new(), record: record.to_vec() };
        self.held.insert(self.last_id, kept);
        reply(link, 19, self.last_id, b"", b"", &[]);
    }
}

fn start(server: &Program, listener: BorrowedFd<'_>, lock: BorrowedFd<'_>) -> (OwnedFd, Child) {
    let (here, there) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let mut setup = ChildSetup::new();
    let duplicate = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().unwrap();
    let numbers = [setup.inherit(there), setup.inherit(duplicate(listener)), setup.inherit(duplicate(lock))];
    let mut command = Command::new(&server.path);
    command.args(&server.arguments).arg(INHERITED_FLAG).arg(numbers.map(|number| number.to_string()).join(","));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    setup.apply(&mut command);
    (here, command.spawn().unwrap())
}

/// A packet of version 1: its head has four zero bytes between the length of the first string and the mount.
fn reply(link: &OwnedFd, kind: u8, id: u64, first: &[u8], rest: &[u8], fds: &[BorrowedFd<'_>]) {
    let length = u16::try_from(first.len()).unwrap().to_le_bytes();
    let head = [&[kind, 0][..], &length, &[0; 4], &id.to_le_bytes()].concat();
    send(link, &[&head[..], first, rest].concat(), fds).unwrap();
}

fn fill(tree: &Path) {
    for number in 0..4 {
        fs::write(tree.join(number.to_string()), noise(number + 1, 1 << 20)).unwrap();
    }
}

#[test]
fn privileged_a_server_of_today_works_with_a_keeper_of_version_1() {
    if !can_mount() {
        return;
    }
    let node = Node::with_keeper("keeper_of_version_1");
    let image = node.image("image", fill);
    let mounted = node.mount(&image, "mnt");
    assert_eq!(node.client.info().unwrap().unwrap().keeper_version, 1);
    assert!(fs::read(mounted.place.join("0")).unwrap() == noise(1, 1 << 20));
    // A read is in flight when the server is killed; the next one answers it.
    fs::write(image.layout.join(HANG), "").unwrap();
    let path = mounted.place.join("3");
    let reader = std::thread::spawn(move || fs::read(path));
    while node.info(mounted.id).stats.session.parked == 0 {
        std::thread::yield_now();
    }
    let server = watch(node.server());
    fs::remove_file(image.layout.join(HANG)).unwrap();
    server.kill();
    assert!(reader.join().unwrap().unwrap() == noise(4, 1 << 20));
    let second = node.mount(&image, "mnt2");
    assert!(fs::read(second.place.join("1")).unwrap() == noise(2, 1 << 20));
    drop((mounted, second));
    node.wait_until_nothing_is_mounted();
}

#[test]
fn privileged_a_mount_is_served_on_where_the_kernel_cannot_send_requests_again() {
    if !can_mount() {
        return;
    }
    let node = Node::with_keeper("keeper_of_version_1");
    fs::write(node.client.store().join(NO_RESEND), "").unwrap();
    let image = node.image("image", fill);
    let mounted = node.mount(&image, "mnt");
    let file = File::open(mounted.place.join("0")).unwrap();
    let server = watch(node.server());
    server.kill();
    server.wait();
    forget_pages(&file);
    let mut bytes = vec![0; 4096];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == noise(1, 1 << 20)[..4096]);
    assert_eq!(node.info(mounted.id).broken, None);
}
