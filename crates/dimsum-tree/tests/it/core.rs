//! What a finished tree promises, whatever the order it was built in.

use dimsum_tree::limits::{MAX_DEPTH, MAX_XATTR_VALUE};
use dimsum_tree::{
    ContentId, DeviceNumber, EntryFault, FileType, InodeId, Metadata, NodeKind, Timestamp, Tree, TreeBuilder,
    TreeError, Xattr,
};

const PLAIN: Metadata<'static> =
    Metadata { permissions: 0o644, uid: 1, gid: 2, mtime: Timestamp { seconds: -1, nanoseconds: 5 }, xattrs: &[] };

fn file(size: u64) -> NodeKind<'static> {
    NodeKind::Regular { size, content: ContentId::new(7) }
}

fn names(tree: &Tree, directory: InodeId) -> Vec<&[u8]> {
    tree.entries(directory).map(|entry| entry.name).collect()
}

#[test]
fn ids_follow_path_order_and_links_are_counted() {
    let mut builder = TreeBuilder::new();
    let z = builder.insert(TreeBuilder::ROOT, b"z", file(3), &PLAIN).unwrap();
    let b = builder.insert(TreeBuilder::ROOT, b"b", NodeKind::Directory, &PLAIN).unwrap();
    builder.insert(b, b"sub", NodeKind::Directory, &PLAIN).unwrap();
    builder.link(b, b"also-z", z).unwrap();
    // '.' sorts before '/': whole paths and components are ordered differently.
    builder.insert(TreeBuilder::ROOT, b"b.c", file(1), &PLAIN).unwrap();
    builder.insert(TreeBuilder::ROOT, b"gone", NodeKind::Directory, &PLAIN).unwrap();
    builder.remove(TreeBuilder::ROOT, b"gone").unwrap();
    let tree = builder.finish().unwrap();

    let walked: Vec<_> = tree.walk().map(|e| (e.name.to_vec(), e.inode.index(), e.depth, e.first)).collect();
    let expected: Vec<(&[u8], usize, usize, bool)> = vec![
        (b"b", 1, 1, true),
        (b"also-z", 2, 2, true),
        (b"sub", 3, 2, true),
        (b"b.c", 4, 1, true),
        (b"z", 2, 1, false),
    ];
    assert_eq!(walked.len(), expected.len());
    for (got, want) in walked.iter().zip(expected) {
        assert_eq!((&got.0[..], got.1, got.2, got.3), want);
    }
    assert_eq!(tree.len(), 5);
    assert_eq!(tree.inode(InodeId::ROOT).nlink(), 3);
    assert_eq!(tree.inode(tree.lookup_path(b"b").unwrap()).nlink(), 3);
    let z = tree.lookup_path(b"/b/./also-z").unwrap();
    assert_eq!((tree.inode(z).nlink(), tree.inode(z).size(), tree.inode(z).content()), (2, 3, Some(ContentId::new(7))));
    assert_eq!(tree.inode(z).mtime(), PLAIN.mtime);
    assert_eq!(tree.lookup(InodeId::ROOT, b"gone"), None);
    assert_eq!(names(&tree, InodeId::ROOT), [&b"b"[..], b"b.c", b"z"]);
    assert_eq!(names(&tree, z), [&b""[..]; 0]);
}

#[test]
fn a_tree_thawed_and_finished_again_is_the_same() {
    let mut builder = TreeBuilder::new();
    let xattrs = [
        Xattr { name: (*b"user.b").into(), value: (*b"").into() },
        Xattr { name: (*b"user.a").into(), value: (*b"\0\xff").into() },
    ];
    let d =
        builder.insert(TreeBuilder::ROOT, b"d", NodeKind::Directory, &Metadata { xattrs: &xattrs, ..PLAIN }).unwrap();
    builder.insert(d, b"link", NodeKind::Symlink { target: b"../\xff" }, &PLAIN).unwrap();
    builder.insert(d, b"block", NodeKind::BlockDevice(DeviceNumber { major: 8, minor: 1 }), &PLAIN).unwrap();
    builder.insert(d, b"pipe", NodeKind::Fifo, &PLAIN).unwrap();
    builder.insert(d, b"gone", NodeKind::Whiteout, &PLAIN).unwrap();
    builder.set_opaque(d, true);
    let tree = builder.finish().unwrap();
    let lines = |tree: &Tree| tree.dump().map(|entry| entry.to_string()).collect::<Vec<_>>();
    let first = lines(&tree);
    assert_eq!(first[1], r"/d #1 040644 1:2 links=2 mtime=-1+5 opaque user.a=\x00\xff user.b=");
    assert_eq!(first[3], "/d/gone #3 020000 0:0 links=1 mtime=0+0 whiteout");
    let again = TreeBuilder::from_tree(tree).finish().unwrap();
    assert_eq!(lines(&again), first);
}

#[test]
fn what_is_beyond_the_limits_is_refused() {
    let mut builder = TreeBuilder::new();
    let long = [b'x'; 256];
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0"] {
        assert!(
            matches!(builder.insert(TreeBuilder::ROOT, name, file(0), &PLAIN), Err(EntryFault::InvalidName)),
            "{name:?}"
        );
    }
    assert!(matches!(
        builder.insert(TreeBuilder::ROOT, &long, file(0), &PLAIN),
        Err(EntryFault::NameTooLong { length: 256 })
    ));
    builder.insert(TreeBuilder::ROOT, &long[..255], file(0), &PLAIN).unwrap();
    let refused: [(NodeKind<'_>, &str); 6] = [
        (file(1 << 45), "size"),
        (NodeKind::Symlink { target: b"" }, "target"),
        (NodeKind::Symlink { target: &[b'a'; 4096] }, "target"),
        (NodeKind::CharDevice(DeviceNumber { major: 0, minor: 0 }), "0:0"),
        (NodeKind::CharDevice(DeviceNumber { major: 4096, minor: 0 }), "12"),
        (NodeKind::BlockDevice(DeviceNumber { major: 0, minor: 1 << 20 }), "20"),
    ];
    for (kind, word) in refused {
        let fault = builder.insert(TreeBuilder::ROOT, b"n", kind, &PLAIN).unwrap_err().to_string();
        assert!(fault.contains(word), "{fault}");
    }
    let xattr = |name: &[u8], length: usize| Xattr { name: name.into(), value: vec![0; length].into() };
    for set in [
        vec![xattr(b"", 1)],
        vec![xattr(b"user.", 1)],
        vec![xattr(b"com.apple.x", 1)],
        vec![xattr(&long, 1)],
        vec![xattr(b"user.big", MAX_XATTR_VALUE + 1)],
        vec![xattr(b"user.a", 1), xattr(b"user.a", 1)],
        vec![xattr(b"user.a", 65_535), xattr(b"user.b", 65_535)],
    ] {
        builder.insert(TreeBuilder::ROOT, b"n", file(0), &Metadata { xattrs: &set, ..PLAIN }).unwrap_err();
    }
    builder.insert(TreeBuilder::ROOT, b"n", file(0), &Metadata { uid: u32::MAX, ..PLAIN }).unwrap_err();
    let f = builder.insert(TreeBuilder::ROOT, b"f", file(0), &PLAIN).unwrap();
    assert!(matches!(builder.insert(TreeBuilder::ROOT, b"f", file(0), &PLAIN), Err(EntryFault::Exists)));
    assert!(matches!(builder.insert(f, b"x", file(0), &PLAIN), Err(EntryFault::NotADirectory)));
    let d = builder.insert(TreeBuilder::ROOT, b"d", NodeKind::Directory, &PLAIN).unwrap();
    assert!(matches!(builder.link(TreeBuilder::ROOT, b"e", d), Err(EntryFault::LinkToDirectory)));
}

#[test]
fn a_path_too_deep_or_too_long_is_refused_by_name() {
    for (name, depth, fine) in [
        (&b"a"[..], MAX_DEPTH, true),
        (b"a", MAX_DEPTH + 1, false),
        (&[b'n'; 255], 15, true),
        (&[b'n'; 255], 17, false),
    ] {
        let mut builder = TreeBuilder::new();
        let mut directory = TreeBuilder::ROOT;
        for _ in 0..depth {
            directory = builder.insert(directory, name, NodeKind::Directory, &PLAIN).unwrap();
        }
        match builder.finish() {
            Ok(tree) => assert!(fine && tree.len() == depth + 1),
            Err(TreeError::Entry { path, .. }) => assert!(!fine && path.as_bytes().starts_with(name)),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_million_files_take_less_than_100_bytes_each() {
    let mut builder = TreeBuilder::new();
    let mut directory = TreeBuilder::ROOT;
    for number in 0..1_000_000u32 {
        if number % 1000 == 0 {
            directory = builder
                .insert(TreeBuilder::ROOT, format!("directory-{number:07}").as_bytes(), NodeKind::Directory, &PLAIN)
                .unwrap();
        }
        builder.insert(directory, format!("file-{number:07}").as_bytes(), file(1), &PLAIN).unwrap();
    }
    let tree = builder.finish().unwrap();
    assert_eq!(tree.len(), 1_001_001);
    assert!(tree.memory() / 1_000_000 < 100, "{} bytes", tree.memory());
}

#[test]
fn file_types_and_mode_bits_agree() {
    for file_type in [
        FileType::Regular,
        FileType::Directory,
        FileType::Symlink,
        FileType::CharDevice,
        FileType::BlockDevice,
        FileType::Fifo,
        FileType::Socket,
    ] {
        assert_eq!(FileType::from_mode(u32::from(file_type.mode_bits()) | 0o7777), Some(file_type));
    }
    assert_eq!(FileType::from_mode(0), None);
}
