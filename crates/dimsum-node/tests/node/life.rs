//! How server and keeper come and go, and who is in the way.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;

use dimsum_engine::{CancelReason, CancelToken, ErrorKind, Quiet};
use dimsum_format::Digest;
use dimsum_node::{Error, Holder, MountAnswer, MountRequest, Use, umount};

use crate::support::{HANG, Node, TestImage, can_mount, parent_of, request, watch};

fn one_file(node: &Node) -> TestImage {
    node.image("image", |tree| fs::write(tree.join("file"), "content").unwrap())
}

#[test]
fn privileged_keeper_and_server_end_when_nothing_is_mounted() {
    if !can_mount() {
        return;
    }
    let node = Node::new();
    let image = one_file(&node);
    let mounted = node.mount(&image, "mnt");
    assert_eq!(fs::read(mounted.place.join("file")).unwrap(), b"content");
    let server = node.server();
    let (server, keeper) = (watch(server), watch(parent_of(server)));
    umount(&mounted.place, false).unwrap();
    server.wait();
    keeper.wait();
    assert!(!node.client.store().join("socket").exists());
    assert!(node.client.info().unwrap().is_none());
    // And the next one starts all anew.
    let again = node.mount(&image, "mnt");
    assert_eq!(fs::read(again.place.join("file")).unwrap(), b"content");
}

#[test]
fn privileged_a_busy_mount_says_who_uses_it() {
    if !can_mount() {
        return;
    }
    let node = Node::new();
    let mounted = node.mount(&one_file(&node), "mnt");
    let file = File::open(mounted.place.join("file")).unwrap();
    let error = umount(&mounted.place, false).unwrap_err();
    let Error::Busy { holders, .. } = &error else {
        panic!("{error}");
    };
    let by_this = |holder: &Holder| {
        matches!(holder, Holder::Process { pid, by: Use::File(path), .. }
            if *pid == std::process::id() && path.ends_with("mnt/file"))
    };
    assert!(holders.iter().any(by_this), "{error}");
    // Lazily it goes, and what is open stays readable.
    umount(&mounted.place, true).unwrap();
    assert!(!mounted.place.join("file").exists());
    let mut text = String::new();
    (&file).read_to_string(&mut text).unwrap();
    assert_eq!(text, "content");
    assert_eq!(node.client.mounts().unwrap().len(), 1);
    drop(file);
    node.wait_until_nothing_is_mounted();
}

#[test]
fn privileged_many_mounts_leave_nothing_behind() {
    if !can_mount() {
        return;
    }
    let node = Node::new();
    let image = one_file(&node);
    // One stays, so that the server does too.
    let stays = node.mount(&image, "stays");
    let server = node.server();
    let count = |pid: u32| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let round = |number: u32| {
        let mounted = node.mount(&image, "mnt");
        assert_eq!(fs::read(mounted.place.join("file")).unwrap(), b"content", "round {number}");
        umount(&mounted.place, false).unwrap();
    };
    let settled = || {
        while node.client.mounts().unwrap().len() > 1 {
            std::thread::yield_now();
        }
        // A list answers before the keeper has its note; a mount that is asked for after it does not.
        drop(node.ask(&request(&image)).unwrap());
        while node.client.mounts().unwrap().len() > 1 {
            std::thread::yield_now();
        }
        [count(server), count(parent_of(server))]
    };
    round(0);
    let before = settled();
    for number in 1..=100 {
        round(number);
    }
    let after = settled();
    // The note of the last release may still be under way.
    assert!(after[0] <= before[0] + 1 && after[1] <= before[1] + 1, "{before:?} {after:?}");
    assert_eq!(node.server(), server, "{}", node.log());
    umount(&stays.place, false).unwrap();
}

#[test]
fn privileged_what_cannot_be_had_is_not_mounted() {
    if !can_mount() {
        return;
    }
    let node = Node::new();
    let mut image = one_file(&node);
    image.digest = Digest::of(b"another");
    let error = node.ask(&request(&image)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let Error::Server(failure) = &error else { panic!("{error:?}") };
    assert!(failure.object.contains(&image.digest.to_string()), "{failure:?}");
    assert_eq!(node.client.mounts().unwrap(), []);
}

#[test]
fn privileged_senseless_clients_change_nothing() {
    if !can_mount() {
        return;
    }
    let node = Node::new();
    let image = one_file(&node);
    let mounted = node.mount(&image, "mnt");
    let server = node.server();
    for bytes in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", &[0xff; 64], &[2, 0, 0, 0, b'{', b'}'], &[0; 4]] {
        let mut socket = UnixStream::connect(node.client.store().join("socket")).unwrap();
        std::io::Write::write_all(&mut socket, bytes).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // It answers why, or is gone; both are fine.
        drop(socket.read_to_end(&mut answer));
    }
    assert_eq!(node.server(), server);
    assert_eq!(fs::read(mounted.place.join("file")).unwrap(), b"content");
}

#[test]
fn privileged_the_server_has_no_capabilities() {
    if !can_mount() {
        return;
    }
    let node = Node::new();
    let mounted = node.mount(&one_file(&node), "mnt");
    let server = node.server();
    for task in fs::read_dir(format!("/proc/{server}/task")).unwrap() {
        let task = task.unwrap().path();
        let name = fs::read_to_string(task.join("comm")).unwrap();
        let status = fs::read_to_string(task.join("status")).unwrap();
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
        // The test harness has a thread of its own, which was there before.
        let harness = task.ends_with(server.to_string());
        assert!(harness || effective == "0000000000000000", "{name}: {effective}");
    }
    drop(mounted);
}

#[test]
fn privileged_shutdown_waits_for_the_last_mount() {
    if !can_mount() {
        return;
    }
    let node = Node::new();
    let image = one_file(&node);
    let mounted = node.mount(&image, "mnt");
    let server = watch(node.server());
    assert_eq!(node.client.shutdown().unwrap(), Some(1));
    let refused = node.ask(&request(&image)).unwrap_err();
    assert!(matches!(refused, Error::Server(failure) if failure.kind == ErrorKind::Unavailable));
    assert_eq!(fs::read(mounted.place.join("file")).unwrap(), b"content");
    umount(&mounted.place, false).unwrap();
    server.wait();
}

#[test]
fn privileged_a_mount_does_not_hide_its_store() {
    if !can_mount() {
        return;
    }
    let node = Node::new();
    let handle = node.ask(&request(&one_file(&node))).unwrap();
    let error = handle.attach(node.client.store()).unwrap_err();
    assert!(matches!(error, Error::Target { .. }), "{error}");
    assert!(matches!(handle.attach(&node.directory.path().join("none")), Err(Error::Target { .. })));
    drop(handle);
    node.wait_until_nothing_is_mounted();
}

#[test]
fn privileged_an_ordinary_image_is_converted_by_its_client() {
    if !can_mount() {
        return;
    }
    let node = Node::new();
    let layout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/basic-source");
    let name = format!("oci:{}", layout.canonicalize().unwrap().display());
    let request = MountRequest::new(&node.engine, &name).unwrap();
    let answer = node.client.ask_mount(&request, &Quiet).unwrap();
    let MountAnswer::NeedsConversion(source) = answer else { panic!("the server converted it: {answer:?}") };
    let mounted = node.ask(&request).unwrap();
    assert_eq!(mounted.image().converted_from, Some(source));
    // The client let the store go: the server is the one that writes.
    let info = node.client.info().unwrap().unwrap();
    assert!(info.is_owner, "{info:?}");
    let again = node.client.ask_mount(&request, &Quiet).unwrap();
    assert!(matches!(again, MountAnswer::Mounted(_)), "it was converted before: {again:?}");
}

#[test]
fn privileged_a_relative_path_is_refused_by_the_server() {
    if !can_mount() {
        return;
    }
    let node = Node::new();
    let image = one_file(&node);
    let relative = MountRequest { reference: "oci:image".into(), ..request(&image) };
    let mut access = request(&image);
    access.access.ca_files = vec!["ca.pem".into()];
    for request in [relative, access] {
        let error = node.ask(&request).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
}

#[test]
fn privileged_a_client_that_is_cancelled_does_not_wait_for_a_source_that_hangs() {
    if !can_mount() {
        return;
    }
    let node = Node::new();
    let image = one_file(&node);
    node.client.connect_or_start().unwrap();
    fs::write(image.layout.join(HANG), "").unwrap();
    let cancel = CancelToken::new();
    let client = node.client.clone().with_cancel(cancel.clone());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| client.mount(&node.engine, &request(&image)));
        while node.client.info().unwrap().unwrap().opening == 0 {
            std::thread::yield_now();
        }
        cancel.cancel(CancelReason::Caller);
        let error = waiting.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
        fs::remove_file(image.layout.join(HANG)).unwrap();
    });
}
