//! Trees as tars: read back the same, by us and by GNU tar.

use std::ops::Range;
use std::process::{Command, Stdio};

use dimsum_tree::{
    ContentId, ContentSource, DeviceNumber, Metadata, NodeKind, Omission, OmittedEntries, Policy, TarForm, TarOptions,
    Timestamp, Tree, TreeBuilder, WriteError, Xattr, read_directory, read_layer, to_tar,
};
use proptest::prelude::*;

use crate::memory_sink::MemorySink;
use crate::{need, random};

const PLAIN: Metadata<'static> = Metadata {
    permissions: 0o640,
    uid: 1,
    gid: 2,
    mtime: Timestamp { seconds: 1_000_000_000, nanoseconds: 0 },
    xattrs: &[],
};

fn regular(sink: &mut MemorySink, bytes: &[u8]) -> NodeKind<'static> {
    sink.files.push(bytes.to_vec());
    let content = ContentId::new(u32::try_from(sink.files.len() - 1).unwrap());
    NodeKind::Regular { size: bytes.len() as u64, content }
}

fn written(tree: &Tree, contents: &mut MemorySink, options: TarOptions) -> (Vec<u8>, OmittedEntries) {
    let mut tar = Vec::new();
    let left_out = to_tar(tree, contents, &mut tar, options).unwrap();
    (tar, left_out)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_tree_reads_back_the_same((root, names) in random::names(), sparse in any::<bool>()) {
        let mut sink = MemorySink::default();
        let tree = random::build(&root, &names, &mut sink);
        let options = TarOptions { sparse_from: sparse.then_some(1), ..TarOptions::default() };
        let (tar, left_out) = written(&tree, &mut sink, options);
        prop_assert_eq!(left_out, OmittedEntries::default());
        let mut copies = MemorySink::default();
        let again = read_layer(&tar[..], None, &mut copies, Policy::default()).unwrap().tree;
        prop_assert_eq!(copies.lines(&again), sink.lines(&tree));
        prop_assert_eq!(written(&again, &mut copies, options).0, tar, "equal trees are equal tars");
    }
}

/// Names of a tar in its order, by GNU tar.
fn listed(tar: &[u8]) -> String {
    let output = gnu_tar(&["-t", "--quoting-style=escape"], tar);
    String::from_utf8(output).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn gnu_tar(arguments: &[&str], tar: &[u8]) -> Vec<u8> {
    let archive = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(archive.path(), tar).unwrap();
    let output = Command::new("tar").args(arguments).arg("-f").arg(archive.path()).stdin(Stdio::null()).output();
    let output = output.unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn names_stand_in_path_order_and_marks_before_them() {
    let mut sink = MemorySink::default();
    let mut builder = TreeBuilder::new();
    let d = builder.insert(TreeBuilder::ROOT, b"d", NodeKind::Directory, &PLAIN).unwrap();
    let z = builder.insert(d, b"z", regular(&mut sink, b"content"), &PLAIN).unwrap();
    builder.insert(d, b"gone", NodeKind::Whiteout, &PLAIN).unwrap();
    builder.insert(d, b"a", NodeKind::Fifo, &PLAIN).unwrap();
    builder.insert(TreeBuilder::ROOT, b"d.c", NodeKind::Directory, &PLAIN).unwrap();
    builder.insert(TreeBuilder::ROOT, b"y", NodeKind::Whiteout, &PLAIN).unwrap();
    builder.link(TreeBuilder::ROOT, b"b", z).unwrap();
    builder.set_opaque(d, true);
    builder.set_opaque(TreeBuilder::ROOT, true);
    let tree = builder.finish().unwrap();
    let (tar, _) = written(&tree, &mut sink, TarOptions::default());
    assert_eq!(listed(&tar), "./ .wh..wh..opq .wh.y b d/ d/.wh..wh..opq d/.wh.gone d/a d/z d.c/");
    let error = to_tar(&tree, &mut sink, &mut Vec::new(), TarOptions { form: TarForm::Archive, sparse_from: None });
    assert!(error.unwrap_err().to_string().contains("whole tree"));
}

#[test]
fn what_a_tar_cannot_hold_is_reported_or_refused() {
    let mut sink = MemorySink::default();
    let mut builder = TreeBuilder::new();
    let xattrs = [
        Xattr { name: (*b"user.a=b").into(), value: (*b"1").into() },
        Xattr { name: (*b"user.c").into(), value: (*b"2").into() },
    ];
    let socket = builder.insert(TreeBuilder::ROOT, b"s", NodeKind::Socket, &PLAIN).unwrap();
    builder.link(TreeBuilder::ROOT, b"t", socket).unwrap();
    let f = Metadata { xattrs: &xattrs, ..PLAIN };
    builder.insert(TreeBuilder::ROOT, b"f", regular(&mut sink, b"x"), &f).unwrap();
    let tree = builder.finish().unwrap();
    let (tar, left_out) = written(&tree, &mut sink, TarOptions::default());
    let what = |path: &[u8], what| (path.into(), what);
    let xattr = Omission::Xattr { name: (&b"user.a=b"[..]).into() };
    let first = vec![what(b"f", xattr), what(b"s", Omission::Socket), what(b"t", Omission::Socket)];
    assert_eq!(left_out, OmittedEntries { count: 3, first });
    assert_eq!(listed(&tar), "./ f");

    let mut builder = TreeBuilder::new();
    builder.insert(TreeBuilder::ROOT, b".wh.x", NodeKind::Directory, &PLAIN).unwrap();
    let tree = builder.finish().unwrap();
    let error = to_tar(&tree, &mut sink, &mut Vec::new(), TarOptions::default()).unwrap_err();
    assert!(error.to_string().starts_with(".wh.x/: its name begins with .wh."), "{error}");
    let archive = TarOptions { form: TarForm::Archive, ..TarOptions::default() };
    assert_eq!(listed(&written(&tree, &mut sink, archive).0), "./ .wh.x/");
}

/// Content that is not as long as the tree says, or cannot be had.
struct Wrong(Result<u64, std::fmt::Error>);

impl ContentSource for Wrong {
    type Error = std::fmt::Error;

    fn next_data(&mut self, _content: ContentId, from: u64) -> Result<Option<Range<u64>>, Self::Error> {
        Ok(Some(from..u64::MAX))
    }

    fn read(&mut self, _content: ContentId, offset: u64, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        let left = self.0?.saturating_sub(offset);
        Ok(usize::try_from(left).unwrap().min(buffer.len()))
    }
}

#[test]
fn content_of_another_length_is_an_error_and_never_padded() {
    let mut builder = TreeBuilder::new();
    let kind = NodeKind::Regular { size: 600_000, content: ContentId::new(0) };
    builder.insert(TreeBuilder::ROOT, b"file", kind, &PLAIN).unwrap();
    let tree = builder.finish().unwrap();
    for sparse_from in [None, Some(0)] {
        let options = TarOptions { sparse_from, ..TarOptions::default() };
        let attempt = |length| to_tar(&tree, &mut Wrong(length), &mut Vec::new(), options);
        attempt(Ok(600_000)).unwrap();
        for (length, found) in [(0, "0"), (599_999, "599999"), (600_001, "600001")] {
            let error = attempt(Ok(length)).unwrap_err().to_string();
            assert_eq!(error, format!("file: its content ends at byte {found}, its size is 600000"));
        }
        let error = attempt(Err(std::fmt::Error)).unwrap_err();
        assert!(matches!(error, WriteError::Content { .. }), "{error}");
    }
    let mut full = [0u8; 2000];
    let error = to_tar(&tree, &mut Wrong(Ok(600_000)), &mut &mut full[..], TarOptions::default()).unwrap_err();
    assert!(matches!(error, WriteError::Output { .. }), "{error}");
}

/// 8 TiB with a byte here and there.
struct Vast;

const VAST: u64 = 8 << 40;
const BYTES: [u64; 4] = [0, 5_000_000, 7 << 40, (7 << 40) + 4096];

impl ContentSource for Vast {
    type Error = std::convert::Infallible;

    fn next_data(&mut self, _content: ContentId, from: u64) -> Result<Option<Range<u64>>, Self::Error> {
        let next = BYTES.iter().find(|&&at| at >= from / 4096 * 4096);
        Ok(next.map(|at| at / 4096 * 4096..(at / 4096 + 1) * 4096))
    }

    fn read(&mut self, _content: ContentId, offset: u64, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        let count = usize::try_from(VAST - offset).unwrap_or(usize::MAX).min(buffer.len());
        for (at, byte) in (offset..).zip(&mut buffer[..count]) {
            *byte = u8::from(BYTES.contains(&at));
        }
        Ok(count)
    }
}

/// Notes where data is.
#[derive(Default)]
struct Noting {
    size: u64,
    at: u64,
    data: Vec<u64>,
}

impl dimsum_tree::ContentSink for Noting {
    type Error = std::convert::Infallible;
    fn begin(&mut self, size: u64) -> Result<(), Self::Error> {
        self.size = size;
        Ok(())
    }
    fn data(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        self.data.extend((self.at..).zip(bytes).filter(|(_, byte)| **byte == 1).map(|(at, _)| at));
        self.at += bytes.len() as u64;
        Ok(())
    }
    fn hole(&mut self, length: u64) -> Result<(), Self::Error> {
        self.at += length;
        Ok(())
    }
    fn end(&mut self) -> Result<ContentId, Self::Error> {
        Ok(ContentId::new(0))
    }
}

#[test]
fn terabytes_of_holes_are_a_small_tar() {
    let mut builder = TreeBuilder::new();
    let kind = NodeKind::Regular { size: VAST, content: ContentId::new(0) };
    let long = vec![b'n'; 200];
    builder.insert(TreeBuilder::ROOT, &long, kind, &PLAIN).unwrap();
    let tree = builder.finish().unwrap();
    let mut tar = Vec::new();
    to_tar(&tree, &mut Vast, &mut tar, TarOptions::default()).unwrap();
    assert!(tar.len() < 30_000, "{}", tar.len());
    let mut noting = Noting::default();
    let again = read_layer(&tar[..], None, &mut noting, Policy::default()).unwrap().tree;
    assert_eq!((noting.size, noting.at, &noting.data[..]), (VAST, VAST, &BYTES[..]));
    assert_eq!(again.inode(again.lookup_path(&long).unwrap()).size(), VAST);

    let place = tempfile::tempdir().unwrap();
    gnu_tar(&["-x", "-C", place.path().to_str().unwrap()], &tar);
    let unpacked = std::fs::File::open(place.path().join(std::str::from_utf8(&long).unwrap())).unwrap();
    assert_eq!(unpacked.metadata().unwrap().len(), VAST);
    for at in BYTES {
        let mut byte = [0; 2];
        std::os::unix::fs::FileExt::read_exact_at(&unpacked, &mut byte, at).unwrap();
        assert_eq!(byte, [1, 0]);
    }
}

#[test]
fn holes_below_the_bound_are_written_out() {
    let mut sink = MemorySink::default();
    let mut builder = TreeBuilder::new();
    let holes = [&[1u8; 4096][..], &[0; 1 << 20], &[2; 5]].concat();
    builder.insert(TreeBuilder::ROOT, b"f", regular(&mut sink, &holes), &PLAIN).unwrap();
    let tree = builder.finish().unwrap();
    let mut length =
        |sparse_from| written(&tree, &mut sink, TarOptions { sparse_from, ..TarOptions::default() }).0.len();
    assert!(length(None) > 1 << 20);
    assert!(length(Some((1 << 20) + 1)) > 1 << 20);
    assert!(length(Some(1 << 20)) < 10_000);
}

/// Everything a file system of Linux can hold.
pub(crate) fn everything(sink: &mut MemorySink) -> Tree {
    let mut builder = TreeBuilder::new();
    let xattrs = [
        Xattr {
            name: (*b"security.capability").into(),
            value: (*b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0").into(),
        },
        Xattr { name: (*b"trusted.t").into(), value: (*b"\0\xff\n=").into() },
        Xattr { name: (*b"user.u").into(), value: (*b"1").into() },
    ];
    let time = |seconds, nanoseconds| Timestamp { seconds, nanoseconds };
    let big = Metadata { uid: 3_000_000, gid: u32::MAX - 1, mtime: time(-5, 123_456_789), ..PLAIN };
    builder.set_metadata(TreeBuilder::ROOT, &Metadata { permissions: 0o1777, ..big }).unwrap();
    let closed = Metadata { permissions: 0, mtime: time(7, 1), xattrs: &xattrs[2..], ..PLAIN };
    let d = builder.insert(TreeBuilder::ROOT, b"closed", NodeKind::Directory, &closed).unwrap();
    let content = regular(sink, &[b'x'; 300_000]);
    let tool = builder.insert(d, b"tool", content, &Metadata { permissions: 0o4711, xattrs: &xattrs, ..big }).unwrap();
    builder.insert(d, b"null", NodeKind::CharDevice(DeviceNumber { major: 1, minor: 3 }), &PLAIN).unwrap();
    builder.insert(d, b"disk", NodeKind::BlockDevice(DeviceNumber { major: 4095, minor: 1_048_575 }), &big).unwrap();
    builder
        .insert(d, b"pipe", NodeKind::Fifo, &Metadata { permissions: 0o622, xattrs: &xattrs[1..2], ..PLAIN })
        .unwrap();
    let link = builder.insert(d, b"link", NodeKind::Symlink { target: b"../nowhere" }, &big).unwrap();
    builder.link(TreeBuilder::ROOT, b"zz link again", link).unwrap();
    builder.insert(d, b"up", NodeKind::Symlink { target: &[b't'; 3000] }, &PLAIN).unwrap();
    let mut deep = TreeBuilder::ROOT;
    for _ in 0..100 {
        deep = builder.insert(deep, b"deep down below", NodeKind::Directory, &PLAIN).unwrap();
    }
    builder.link(deep, b"tool\n\xff\xfe", tool).unwrap();
    let holes = [&[0u8; 1 << 20][..], b"middle", &[0; 3 << 20]].concat();
    builder.insert(deep, &[b'n'; 255], regular(sink, &holes), &PLAIN).unwrap();
    builder.insert(TreeBuilder::ROOT, b"only hole", regular(sink, &[0; 100_000]), &PLAIN).unwrap();
    builder.insert(TreeBuilder::ROOT, b"empty", regular(sink, b""), &big).unwrap();
    builder.finish().unwrap()
}

#[test]
fn privileged_gnu_tar_unpacks_the_same_tree() {
    if !need::root() {
        return;
    }
    let mut sink = MemorySink::default();
    let tree = everything(&mut sink);
    for sparse_from in [None, Some(1)] {
        let options = TarOptions { form: TarForm::Archive, sparse_from };
        let (tar, left_out) = written(&tree, &mut sink, options);
        assert_eq!(left_out, OmittedEntries::default());
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().to_str().unwrap();
        let arguments = ["-xp", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--warning=no-timestamp", "-C"];
        gnu_tar(&[&arguments[..], &[directory]].concat(), &tar);
        let mut copies = MemorySink::default();
        let unpacked = read_directory(place.path(), &mut copies, Policy::default()).unwrap().tree;
        let (got, want) = (copies.lines(&unpacked), sink.lines(&tree));
        for (got, want) in got.iter().zip(&want) {
            assert_eq!(got, want, "{sparse_from:?}");
        }
        assert_eq!(got.len(), want.len());
    }
}
