//! Requests that are answered later, wrongly, or not at all: nobody else waits, and no reader gets short bytes.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of any test function")]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use dimsum_fuse::Pool;
use support::{FIRST_FILE, Memory, PATIENCE, Parked, Reads, can_mount, content, read_all, reading, serve};

/// Tests of this file count the threads of the process, so they run one after the other.
static ALONE: Mutex<()> = Mutex::new(());

/// Counts the threads of all pools in this process.
fn pool_threads() -> usize {
    fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok())
        .filter(|name| name.starts_with("fuse-"))
        .count()
}

#[test]
fn privileged_64_parked_requests_hold_no_thread_and_no_other_session() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !can_mount() {
        return;
    }
    let (queue, parked) = channel();
    let (hung, _ended, _agreed) = Memory::new(64, Reads::Parked(queue));
    let (lively, _ended, _agreed) = Memory::new(64, Reads::Answered);
    let pool = Pool::with_threads(2).unwrap();
    let (hung_mount, hung_session) = serve(&pool, hung);
    let (lively_mount, _session) = serve(&pool, lively);

    let readers: Vec<_> = (0..64)
        .map(|number| {
            let path = hung_mount.file(number);
            reading(move || {
                let mut data = vec![0; 4096];
                File::open(path).unwrap().read_exact_at(&mut data, 8192).unwrap();
                data
            })
        })
        .collect();
    // Read-ahead may ask more than once per file: wait until every file has a parked request.
    let mut waiting: Vec<Parked> = Vec::new();
    let mut files = std::collections::BTreeSet::new();
    while files.len() < 64 {
        let request = parked.recv_timeout(PATIENCE).unwrap();
        files.insert(request.node);
        waiting.push(request);
    }
    assert!(hung_session.counters().parked >= 64);
    assert_eq!((pool_threads(), pool.threads()), (2, 2));
    for number in 0..64 {
        let mut data = vec![0; 4096];
        File::open(lively_mount.file(number)).unwrap().read_exact_at(&mut data, 0).unwrap();
        assert!(data == content(FIRST_FILE + number, 0, 4096));
    }
    // Answered by threads that are none of the pool's, in reverse order.
    let answering = thread::spawn(move || {
        waiting.into_iter().rev().for_each(Parked::answer);
        while let Ok(request) = parked.recv() {
            request.answer();
        }
    });
    for (number, reader) in (0..).zip(readers) {
        assert!(reader.recv_timeout(PATIENCE).unwrap() == content(FIRST_FILE + number, 8192, 4096));
    }
    assert_eq!(pool_threads(), 2);
    drop(hung_mount);
    drop(lively_mount);
    drop(pool);
    drop(hung_session);
    answering.join().unwrap();
}

#[test]
fn privileged_a_request_without_a_whole_answer_fails_for_its_reader_only() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !can_mount() {
        return;
    }
    for reads in [Reads::Short, Reads::Dropped, Reads::Panic] {
        let (memory, _ended, _agreed) = Memory::new(2, reads);
        let pool = Pool::with_threads(1).unwrap();
        let (mounted, session) = serve(&pool, memory.clone());
        let error = read_all(mounted.file(0)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()), "{:?}", memory.reads);
        *memory.reads.lock().unwrap_or_else(PoisonError::into_inner) = Reads::Answered;
        assert!(read_all(mounted.file(0)).unwrap() == content(FIRST_FILE, 0, usize::MAX));
        assert_eq!(session.counters().parked, 0);
    }
}

#[test]
fn privileged_an_interrupted_reader_does_not_disturb_parked_requests() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !can_mount() {
        return;
    }
    let (queue, parked) = channel();
    let (memory, _ended, _agreed) = Memory::new(1, Reads::Parked(queue));
    let pool = Pool::with_threads(2).unwrap();
    let (mounted, session) = serve(&pool, memory);
    // A lookup is waited for by its caller, so the kernel tells of the signal by INTERRUPT.
    let mut child = std::process::Command::new("stat").arg(mounted.path().join("slow")).spawn().unwrap();
    let request = parked.recv_timeout(PATIENCE).unwrap();
    let before = session.counters().requests;
    child.kill().unwrap();
    while session.counters().requests == before {
        thread::yield_now();
    }
    request.reply.no_entry(Duration::ZERO);
    assert!(!child.wait().unwrap().success());

    // The kernel may read ahead, in several requests: answer all of them.
    let answering = thread::spawn(move || {
        while let Ok(request) = parked.recv() {
            request.answer();
        }
    });
    assert!(read_all(mounted.file(0)).unwrap() == content(FIRST_FILE, 0, usize::MAX));
    drop(mounted);
    drop(pool);
    drop(session);
    answering.join().unwrap();
}
