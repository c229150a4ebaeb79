//! Trees as files on disk.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use dimsum_tree::limits::MAX_DEPTH;
use dimsum_tree::{
    ContentId, Metadata, NodeKind, OmittedEntries, Owners, Policy, Timestamp, Tree, TreeBuilder, Xattr, merge,
    read_directory, read_layer, to_directory,
};

use crate::memory_sink::MemorySink;
use crate::need;
use crate::tar_writer::{dir, file, hard, of_type, symlink, tar};
use crate::to_tar::everything;

const PLAIN: Metadata<'static> = Metadata {
    permissions: 0o755,
    uid: 0,
    gid: 0,
    mtime: Timestamp { seconds: 1_000_000_000, nanoseconds: 5 },
    xattrs: &[],
};

fn read_back(path: &std::path::Path) -> Vec<String> {
    let mut sink = MemorySink::default();
    let tree = read_directory(path, &mut sink, Policy::default()).unwrap().tree;
    sink.lines(&tree)
}

#[test]
fn privileged_everything_is_on_disk_as_it_is_in_the_tree() {
    if !need::root() {
        return;
    }
    let mut sink = MemorySink::default();
    let tree = everything(&mut sink);
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("target");
    let left_out = to_directory(&tree, &mut sink, &target, Owners::Keep).unwrap();
    assert_eq!(left_out, OmittedEntries::default());
    let (got, want) = (read_back(&target), sink.lines(&tree));
    for (got, want) in got.iter().zip(&want) {
        assert_eq!(got, want);
    }
    assert_eq!(got.len(), want.len());
    let blocks = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(target.join("only hole")).unwrap());
    assert_eq!(blocks, 0, "a hole stays a hole");
    let error = to_directory(&tree, &mut sink, &target, Owners::Keep).unwrap_err();
    assert_eq!(error.to_string(), "/: the directory is not empty");
}

/// A tree of files of the caller's own.
fn own(build: impl FnOnce(&mut TreeBuilder, &mut MemorySink, &Metadata<'_>)) -> (Tree, MemorySink) {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let (mut builder, mut sink) = (TreeBuilder::new(), MemorySink::default());
    let own = Metadata { uid, gid, ..PLAIN };
    builder.set_metadata(TreeBuilder::ROOT, &own).unwrap();
    build(&mut builder, &mut sink, &own);
    (builder.finish().unwrap(), sink)
}

#[test]
fn directories_that_forbid_writing_are_filled_and_linked_from() {
    let (tree, mut sink) = own(|builder, sink, own| {
        sink.files.push(b"content".to_vec());
        let closed = Metadata { permissions: 0o555, ..*own };
        let a = builder.insert(TreeBuilder::ROOT, b"a", NodeKind::Directory, &closed).unwrap();
        let b = builder.insert(a, b"b", NodeKind::Directory, &closed).unwrap();
        let kind = NodeKind::Regular { size: 7, content: ContentId::new(0) };
        let f = builder.insert(b, b"f", kind, &Metadata { permissions: 0o444, ..*own }).unwrap();
        builder.link(TreeBuilder::ROOT, b"z", f).unwrap();
    });
    let place = tempfile::tempdir().unwrap();
    to_directory(&tree, &mut sink, place.path(), Owners::Keep).unwrap();
    assert_eq!(read_back(place.path()), sink.lines(&tree));
    for name in ["a", "a/b"] {
        fs::set_permissions(place.path().join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn depth_needs_no_more_open_files() {
    let (tree, mut sink) = own(|builder, _, own| {
        let mut directory = TreeBuilder::ROOT;
        for _ in 0..MAX_DEPTH - 1 {
            directory = builder.insert(directory, b"d", NodeKind::Directory, own).unwrap();
            builder.insert(directory, b"z", NodeKind::Fifo, own).unwrap();
        }
    });
    let place = tempfile::tempdir().unwrap();
    to_directory(&tree, &mut sink, place.path(), Owners::Keep).unwrap();
    assert_eq!(read_back(place.path()), sink.lines(&tree));
}

#[test]
fn a_layer_that_swaps_directories_for_links_writes_nothing_outside() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("victim"), "safe").unwrap();
    let out = outside.path().to_str().unwrap();
    let mut sink = MemorySink::default();
    let lower = [dir("d"), file("d/victim", "lower"), symlink("e", out), symlink("f", "..")];
    let lower = read_layer(&tar(&lower)[..], None, &mut sink, Policy::default()).unwrap().tree;
    // A link takes the directory's place, a name leads through a link, a link is linked to.
    let upper = [symlink("d", out), file("e/victim", "upper"), file("f/victim", "upper"), hard("g", "e")];
    let upper = read_layer(&tar(&upper)[..], Some(&lower), &mut sink, Policy::default()).unwrap().tree;
    let tree = merge(lower, &upper).unwrap();
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("target");
    to_directory(&tree, &mut sink, &target, Owners::Mine).unwrap();
    assert_eq!(fs::read_to_string(outside.path().join("victim")).unwrap(), "safe");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    assert_eq!(fs::read_link(target.join("g")).unwrap().to_str(), Some(out), "the link itself, not what it leads to");
}

#[test]
fn what_is_no_whole_tree_is_refused() {
    let lower = read_layer(&tar(&[dir("d"), file("d/a", "")])[..], None, &mut MemorySink::default(), Policy::default());
    let lower = lower.unwrap().tree;
    for mark in ["d/.wh.a", "d/.wh..wh..opq", ".wh..wh..opq"] {
        let mut sink = MemorySink::default();
        let layer = read_layer(&tar(&[of_type(mark, b'0')])[..], Some(&lower), &mut sink, Policy::default()).unwrap();
        let place = tempfile::tempdir().unwrap();
        let error = to_directory(&layer.tree, &mut sink, place.path(), Owners::Mine).unwrap_err();
        assert!(error.to_string().contains("whole tree"), "{error}");
    }
}

/// Runs in a thread of its own that gives up its rights; a thread has its own ids to the kernel.
#[test]
fn privileged_without_rights_owners_are_refused_or_on_request_forgotten() {
    if !need::root() {
        return;
    }
    const NOBODY: u32 = 65_534;
    let place = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(place.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let path = place.path().to_path_buf();
    let (mut sink, mut builder) = (MemorySink::default(), TreeBuilder::new());
    sink.files.push(b"content".to_vec());
    let xattrs = [
        Xattr { name: (*b"trusted.t").into(), value: (*b"1").into() },
        Xattr { name: (*b"user.u").into(), value: (*b"2").into() },
    ];
    let kind = NodeKind::Regular { size: 7, content: ContentId::new(0) };
    let suid = Metadata { permissions: 0o4755, xattrs: &xattrs, ..PLAIN };
    builder.insert(TreeBuilder::ROOT, b"f", kind, &suid).unwrap();
    let null = dimsum_tree::DeviceNumber { major: 1, minor: 3 };
    builder.insert(TreeBuilder::ROOT, b"null", NodeKind::CharDevice(null), &PLAIN).unwrap();
    let tree = builder.finish().unwrap();
    let attempt = move || {
        rustix::thread::set_thread_res_gid(gid(NOBODY), gid(NOBODY), gid(NOBODY)).unwrap();
        rustix::thread::set_thread_res_uid(uid(NOBODY), uid(NOBODY), uid(NOBODY)).unwrap();
        let kept = to_directory(&tree, &mut sink, &path.join("kept"), Owners::Keep).map_err(|error| error.to_string());
        let mine = to_directory(&tree, &mut sink, &path.join("mine"), Owners::Mine).map_err(|error| error.to_string());
        (kept, mine)
    };
    let (kept, mine) = std::thread::spawn(attempt).join().unwrap();
    assert_eq!(kept.unwrap_err(), "f: only root can give it to its owner 0:0");
    let left_out = mine.unwrap();
    assert_eq!(format!("{:?}", left_out.first), r#"[("f", Xattr { name: "trusted.t" }), ("null", Device)]"#);
    let lines = read_back(&place.path().join("mine"));
    assert!(
        lines[1].starts_with("/f #1 100755 65534:65534 links=1 mtime=1000000000+5 size=7 user.u=2"),
        "{}",
        lines[1]
    );
    assert_eq!(lines.len(), 2);
}

fn uid(id: u32) -> rustix::process::Uid {
    rustix::process::Uid::from_raw(id)
}

fn gid(id: u32) -> rustix::process::Gid {
    rustix::process::Gid::from_raw(id)
}
