//! Trees to write, and flat images with data that can be foretold.

use std::io;

use dimsum_erofs::{BlockRun, ErofsLayout, ErofsOptions, ImageKind, Placements, WriteParams};
use dimsum_tree::{ContentId, DeviceNumber, InodeId, Metadata, NodeId, NodeKind, Timestamp, Tree, TreeBuilder, Xattr};

/// Slices of 256 KiB, the default of conversions.
pub(crate) const SLICE_BITS: u32 = 6;
/// Bytes of a block.
pub(crate) const BLOCK: u64 = 4096;

/// The runs of all files of a tree, by content handle.
#[derive(Default, Debug, Clone)]
pub(crate) struct Files {
    pub(crate) runs: Vec<Vec<BlockRun>>,
    /// Blocks of the data area that are in use.
    pub(crate) blocks: u64,
}

impl Files {
    /// Adds a file of these pieces: blocks, and whether there is data. Pieces of data do not lie together.
    pub(crate) fn add(&mut self, pieces: &[(u64, bool)]) -> ContentId {
        let runs = pieces.iter().map(|&(blocks, data)| {
            let start = data.then_some(self.blocks);
            self.blocks += if data { blocks + 1 } else { 0 };
            BlockRun { blocks, start, device: 0 }
        });
        let runs = runs.collect();
        self.runs.push(runs);
        ContentId::new(self.runs.len() as u32 - 1)
    }

    /// Adds a file of one run.
    pub(crate) fn plain(&mut self, size: u64) -> ContentId {
        self.add(&[(size.div_ceil(BLOCK), true)])
    }
}

/// The runs of a tree's files.
pub(crate) struct Placed<'t>(pub(crate) &'t Tree, pub(crate) &'t Files);

impl Placements for Placed<'_> {
    fn runs(&self, inode: InodeId, runs: &mut Vec<BlockRun>) -> io::Result<()> {
        let content = self.0.inode(inode).content().expect("only files are asked for");
        runs.extend_from_slice(&self.1.runs[content.get() as usize]);
        Ok(())
    }
}

/// An image without its data.
pub(crate) struct Written {
    pub(crate) meta: Vec<u8>,
    /// Blocks of the data area.
    pub(crate) data_blocks: u32,
}

impl Written {
    /// Blocks of the EROFS image, which is all of the meta in these tests.
    pub(crate) fn meta_blocks(&self) -> u32 {
        self.meta.len() as u32 / BLOCK as u32
    }

    /// The flat image: every block of data begins with its address.
    pub(crate) fn flat(&self) -> Vec<u8> {
        let mut flat = self.meta.clone();
        for block in 0..u64::from(self.data_blocks) {
            flat.extend_from_slice(&data_block(block + u64::from(self.meta_blocks())));
        }
        flat
    }
}

/// What stands in a block of data.
pub(crate) fn data_block(block: u64) -> Vec<u8> {
    let word = block.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    word.to_le_bytes().repeat(BLOCK as usize / 8)
}

pub(crate) fn layout<'t>(tree: &'t Tree, files: &Files, kind: ImageKind) -> ErofsLayout<'t> {
    ErofsLayout::plan(tree, &Placed(tree, files), ErofsOptions { slice_blocks_log2: SLICE_BITS, kind })
        .expect("the tree fits")
}

pub(crate) fn write(tree: &Tree, files: &Files, kind: ImageKind) -> Written {
    let layout = layout(tree, files, kind);
    let data_blocks = u32::try_from(files.blocks).unwrap();
    let params = WriteParams {
        data_base: layout.blocks(),
        total_blocks: layout.blocks() + data_blocks,
        uuid: *b"0123456\x889\x80abcdef",
        checksum: true,
    };
    let mut meta = Vec::new();
    layout.write(&Placed(tree, files), &params, &mut meta).expect("memory takes all");
    assert_eq!(meta.len() as u64, u64::from(layout.blocks()) * BLOCK, "the plan foretells the length");
    Written { meta, data_blocks }
}

/// Attributes of most test inodes.
pub(crate) fn plain_metadata() -> Metadata<'static> {
    let mtime = Timestamp { seconds: 1_700_000_000, nanoseconds: 5 };
    Metadata { permissions: 0o644, uid: 0, gid: 0, mtime, xattrs: &[] }
}

pub(crate) fn xattr(name: &str, value: &[u8]) -> Xattr {
    Xattr { name: name.as_bytes().into(), value: value.into() }
}

/// The bytes of an ACL with one named user, as the kernel keeps it.
pub(crate) fn acl(user: u32) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in
        [(1u16, 6u16, u32::MAX), (2, 4, user), (4, 4, u32::MAX), (0x10, 4, u32::MAX), (0x20, 0, u32::MAX)]
    {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

/// A tree with one of everything.
pub(crate) fn zoo() -> (Tree, Files) {
    let mut tree = TreeBuilder::new();
    let mut files = Files::default();
    let root = TreeBuilder::ROOT;
    types(&mut tree, &mut files, root);
    attributes(&mut tree, &mut files, root);
    names(&mut tree, root);
    data(&mut tree, &mut files, root);
    links(&mut tree, &mut files, root);
    (tree.finish().expect("the zoo is a tree"), files)
}

fn directory(tree: &mut TreeBuilder, parent: NodeId, name: &[u8]) -> NodeId {
    tree.insert(parent, name, NodeKind::Directory, &Metadata { permissions: 0o755, ..plain_metadata() }).unwrap()
}

fn types(tree: &mut TreeBuilder, files: &mut Files, root: NodeId) {
    let dir = directory(tree, root, b"types");
    directory(tree, dir, b"empty");
    let mut add = |name: &[u8], kind: NodeKind<'_>| tree.insert(dir, name, kind, &plain_metadata()).unwrap();
    add(b"regular", NodeKind::Regular { size: 5, content: files.plain(5) });
    add(b"nothing", NodeKind::Regular { size: 0, content: files.add(&[]) });
    add(b"link", NodeKind::Symlink { target: b"../types/regular" });
    add(b"fifo", NodeKind::Fifo);
    add(b"socket", NodeKind::Socket);
    add(b"null", NodeKind::CharDevice(DeviceNumber { major: 1, minor: 3 }));
    add(b"sda", NodeKind::BlockDevice(DeviceNumber { major: 8, minor: 0 }));
    add(b"zero-block", NodeKind::BlockDevice(DeviceNumber { major: 0, minor: 0 }));
    add(b"big-major", NodeKind::CharDevice(DeviceNumber { major: 4095, minor: 1 }));
    add(b"big-minor", NodeKind::BlockDevice(DeviceNumber { major: 1, minor: 1_048_575 }));
    add(b"big-both", NodeKind::CharDevice(DeviceNumber { major: 0xabc, minor: 0x12345 }));
}

fn attributes(tree: &mut TreeBuilder, files: &mut Files, root: NodeId) {
    let dir = directory(tree, root, b"attributes");
    let base = plain_metadata();
    let time = |seconds, nanoseconds| Timestamp { seconds, nanoseconds };
    let mut add = |name: &str, metadata: Metadata<'_>| {
        let kind = NodeKind::Regular { size: 5, content: files.plain(5) };
        tree.insert(dir, name.as_bytes(), kind, &metadata).unwrap();
    };
    add("uid-16", Metadata { uid: 65_535, gid: 65_535, ..base });
    add("uid-17", Metadata { uid: 65_536, ..base });
    add("gid-32", Metadata { gid: 4_294_967_294, ..base });
    add("suid", Metadata { permissions: 0o7777, ..base });
    add("no-mode", Metadata { permissions: 0, ..base });
    add("nanoseconds", Metadata { mtime: time(1_700_000_000, 999_999_999), ..base });
    add("before-1970", Metadata { mtime: time(-1, 999_999_999), ..base });
    add("long-ago", Metadata { mtime: time(-5_000_000_000, 1), ..base });
    add("far", Metadata { mtime: time(1 << 33, 7), ..base });
    let many: Vec<_> =
        (0..30).map(|n| xattr(&format!("user.many{n}"), format!("value {}", n % 7).as_bytes())).collect();
    let fewer: Vec<_> = many.iter().step_by(2).cloned().chain([xattr("user.own", b"x")]).collect();
    let long = [xattr("user.long", &[7; 60_000]), xattr("user.a", b"")];
    add("xattr-one", Metadata { xattrs: &[xattr("user.one", b"1")], ..base });
    add("xattr-30", Metadata { xattrs: &many, ..base });
    add("xattr-15-of-them", Metadata { xattrs: &fewer, ..base });
    add("xattr-long", Metadata { xattrs: &long, ..base });
    add(
        "xattr-same-1",
        Metadata { xattrs: &[xattr("user.mime_type", b"text/plain"), xattr("user.empty", b"")], ..base },
    );
    add(
        "xattr-same-2",
        Metadata { xattrs: &[xattr("user.mime_type", b"text/plain"), xattr("user.empty", b"")], ..base },
    );
    add("capability", Metadata { xattrs: &[xattr("security.capability", &hex_capability())], ..base });
    add("capability-2", Metadata { xattrs: &[xattr("security.capability", &hex_capability())], ..base });
    add("trusted", Metadata { xattrs: &[xattr("trusted.x", b"\0\xff\n")], ..base });
    add("acl", Metadata { xattrs: &[xattr("system.posix_acl_access", &acl(1000))], ..base });
    let name = format!("user.{}", "n".repeat(250));
    add("long-name", Metadata { xattrs: &[xattr(&name, b"v"), xattr("user.0", b"w")], ..base });
    let acls =
        [xattr("system.posix_acl_access", &acl(1)), xattr("system.posix_acl_default", &acl(2)), xattr("user.d", b"d")];
    let kind = NodeKind::Directory;
    tree.insert(dir, b"acl-dir", kind, &Metadata { permissions: 0o755, xattrs: &acls, ..base }).unwrap();
    let target = NodeKind::Symlink { target: b"nowhere" };
    tree.insert(dir, b"xattr-link", target, &Metadata { xattrs: &[xattr("trusted.link", b"l")], ..base }).unwrap();
}

/// CAP_NET_RAW, effective, as `setcap` stores it.
fn hex_capability() -> Vec<u8> {
    [0x0200_0001u32, 0x2000, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn names(tree: &mut TreeBuilder, root: NodeId) {
    let dir = directory(tree, root, b"names");
    let long = [b'x'; 255];
    let mut all: Vec<Vec<u8>> =
        vec![long.to_vec(), b"\xff\xfe\x80".to_vec(), b"\x01".to_vec(), b"-".to_vec(), b"...".to_vec()];
    all.extend([
        b"..a".to_vec(),
        b".-".to_vec(),
        b".a".to_vec(),
        b" ".to_vec(),
        b"new\nline".to_vec(),
        "ü".as_bytes().to_vec(),
    ]);
    for name in all {
        tree.insert(dir, &name, NodeKind::Fifo, &plain_metadata()).unwrap();
    }
    // Directories whose length is around what is inline, a block, and two.
    for count in [10usize, 14, 15, 16, 18, 19, 20, 21, 40] {
        let dir = directory(tree, root, format!("dir-{count}").as_bytes());
        for n in 0..count {
            let name = format!("{n:03}{}", "y".repeat(189));
            tree.insert(dir, name.as_bytes(), NodeKind::Fifo, &plain_metadata()).unwrap();
        }
    }
    // 12 + 1 and 12 + 2 for the dots, and 4069 bytes of others, make exactly a block.
    let dir = directory(tree, root, b"dir-exact");
    for n in 0..15 {
        tree.insert(dir, format!("{n:02}{}", "z".repeat(243)).as_bytes(), NodeKind::Fifo, &plain_metadata()).unwrap();
    }
    tree.insert(dir, "zz".repeat(86).as_bytes(), NodeKind::Fifo, &plain_metadata()).unwrap();
    tree.insert(dir, b"zz0", NodeKind::Fifo, &plain_metadata()).unwrap();
    let mut deep = root;
    for n in 0..60 {
        deep = directory(tree, deep, format!("deep{n}").as_bytes());
    }
}

fn data(tree: &mut TreeBuilder, files: &mut Files, root: NodeId) {
    let dir = directory(tree, root, b"data");
    let mut add = |name: &str, size: u64, pieces: &[(u64, bool)]| {
        let content = files.add(pieces);
        tree.insert(dir, name.as_bytes(), NodeKind::Regular { size, content }, &plain_metadata()).unwrap();
    };
    add("one-byte", 1, &[(1, true)]);
    add("block", 4096, &[(1, true)]);
    add("block-and-byte", 4097, &[(2, true)]);
    add("two-runs", 300_000, &[(64, true), (10, true)]);
    add("hole-in-the-middle", 3 * 262_144 - 100, &[(64, true), (64, false), (64, true)]);
    add("hole-first", 2 * 262_144, &[(64, false), (64, true)]);
    add("hole-last", 262_144 + 5, &[(64, true), (1, false)]);
    add("all-hole", 1_000_000, &[(245, false)]);
    add("small-hole", 1, &[(1, false)]);
    let many: Vec<_> = (0..300).map(|n| (64, n % 3 != 1)).collect();
    add("many-runs", 300 * 262_144, &many);
    add("five-gib", 5 << 30, &[(64, true), ((5 << 18) - 128, false), (64, true)]);
    add("four-gib-and-byte", (4 << 30) + 1, &[(1 << 20, false), (1, true)]);
    add("terabytes", 1 << 43, &[(1 << 31, false)]);
    let mut link = |name: &str, length: usize| {
        let target = "t".repeat(length);
        tree.insert(dir, name.as_bytes(), NodeKind::Symlink { target: target.as_bytes() }, &plain_metadata()).unwrap();
    };
    link("link-1", 1);
    link("link-3040", 3040);
    link("link-3041", 3041);
    link("link-4000", 4000);
    link("link-4095", 4095);
}

fn links(tree: &mut TreeBuilder, files: &mut Files, root: NodeId) {
    let dir = directory(tree, root, b"links");
    let other = directory(tree, root, b"a-links");
    let content = files.plain(10_000);
    let file = tree.insert(dir, b"first", NodeKind::Regular { size: 10_000, content }, &plain_metadata()).unwrap();
    tree.link(dir, b"second", file).unwrap();
    tree.link(other, b"third", file).unwrap();
    let fifo = tree.insert(dir, b"fifo", NodeKind::Fifo, &plain_metadata()).unwrap();
    tree.link(other, b"fifo2", fifo).unwrap();
    let link = tree.insert(dir, b"symlink", NodeKind::Symlink { target: b"x" }, &plain_metadata()).unwrap();
    tree.link(dir, b"symlink2", link).unwrap();
}

/// What a file holds at an offset, from its runs: at most `length` bytes, fewer at its end.
pub(crate) fn content(runs: &[BlockRun], size: u64, data_base: u64, offset: u64, length: u64) -> Vec<u8> {
    let end = size.min(offset + length);
    let mut bytes = Vec::new();
    for block in offset / BLOCK..end.div_ceil(BLOCK) {
        let mut first = 0;
        let run = runs.iter().find(|run| {
            let here = (first..first + run.blocks).contains(&block);
            first += if here { 0 } else { run.blocks };
            here
        });
        match run.unwrap().start {
            Some(start) => bytes.extend(data_block(start + (block - first) + data_base)),
            None => bytes.resize(bytes.len() + BLOCK as usize, 0),
        }
    }
    let skip = (offset % BLOCK) as usize;
    bytes.truncate(skip + (end.saturating_sub(offset)) as usize);
    bytes.split_off(skip)
}

/// Offsets worth reading at: around the start, the end, and every border of runs.
pub(crate) fn places(runs: &[BlockRun], size: u64) -> Vec<u64> {
    let mut border = 0;
    let mut places = vec![0, size.saturating_sub(5000)];
    for run in runs {
        border += run.blocks * BLOCK;
        places.extend([border.saturating_sub(100), border]);
    }
    places.retain(|&place| place < size);
    places
}

/// Says that a test cannot run here, and fails where it has to.
pub(crate) fn skip(lacks: &str) {
    dimsum_testing::skip(lacks);
}
