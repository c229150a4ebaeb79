//! Mounts without a place, and how sessions end.

#[expect(dead_code, reason = "each test file uses its part")]
mod support;

use std::fs::{self, File};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use dimsum_fuse::mount::{self, MountOptions};
use dimsum_fuse::{Errno, Error, Pool, Session, SessionOptions};
use support::{FIRST_FILE, Memory, PATIENCE, Reads, can_mount, content, read_all, serve};

#[test]
fn privileged_a_detached_mount_is_attached_and_detached() {
    if !can_mount() {
        return;
    }
    let (memory, ended, _agreed) = Memory::new(1, Reads::Answered);
    let pool = Pool::new().unwrap();
    let made = mount::open_detached(&MountOptions::new("an image")).unwrap();
    let session = Session::new(made.session, SessionOptions::default(), memory);
    pool.serve(&session).unwrap();
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);

    mount::attach(&made.mount, directory.path()).unwrap();
    drop(made.mount);
    assert!(read_all(directory.path().join("f0")).unwrap() == content(FIRST_FILE, 0, usize::MAX));
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table.lines().find(|line| line.contains(directory.path().to_str().unwrap())).unwrap();
    assert!(line.contains("ro,nosuid,nodev") && line.contains("fuse.dimsum an\\040image"), "{line}");

    let busy = File::open(directory.path().join("f0")).unwrap();
    let error = mount::detach(directory.path(), false).unwrap_err();
    assert!(matches!(error, Error::Mount { source: Errno::BUSY, .. }), "{error:?}");
    drop(busy);
    mount::detach(directory.path(), false).unwrap();
    ended.recv_timeout(PATIENCE).unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn privileged_unmounting_ends_a_session_exactly_once() {
    if !can_mount() {
        return;
    }
    let (first, first_ended, _agreed) = Memory::new(1, Reads::Answered);
    let (second, second_ended, _agreed) = Memory::new(1, Reads::Answered);
    let pool = Pool::with_threads(4).unwrap();
    let (first_mount, session) = serve(&pool, first);
    let (second_mount, _second) = serve(&pool, second);
    read_all(first_mount.file(0)).unwrap();

    // Held open, a lazy unmount does not end the session.
    let open = File::open(first_mount.file(0)).unwrap();
    mount::detach(first_mount.path(), true).unwrap();
    read_all(second_mount.file(0)).unwrap();
    assert!(!session.has_ended());
    let mut text = vec![0; 100];
    std::os::unix::fs::FileExt::read_exact_at(&open, &mut text, 50).unwrap();
    drop(open);
    first_ended.recv_timeout(PATIENCE).unwrap();
    assert!(session.has_ended());

    // The other one goes on; the descriptor that the keeper still holds does not bring the first one back.
    assert!(read_all(second_mount.file(0)).unwrap() == content(FIRST_FILE, 0, usize::MAX));
    assert_eq!(pool.sessions(), 1);
    drop(second_mount);
    second_ended.recv_timeout(PATIENCE).unwrap();
    drop(pool);
    let none = first_ended.recv_timeout(Duration::ZERO);
    assert_eq!(none, Err(RecvTimeoutError::Timeout), "destroyed twice");
}

#[test]
fn privileged_a_mount_that_is_never_attached_ends_with_its_descriptor() {
    if !can_mount() {
        return;
    }
    let (memory, ended, agreed) = Memory::new(1, Reads::Answered);
    let pool = Pool::new().unwrap();
    let made = mount::open_detached(&MountOptions::new("nowhere")).unwrap();
    let session = Session::new(made.session, SessionOptions::default(), memory);
    pool.serve(&session).unwrap();
    agreed.recv_timeout(PATIENCE).unwrap();
    drop(made.mount);
    ended.recv_timeout(PATIENCE).unwrap();
}
