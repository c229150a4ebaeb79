//! Each rule of what a reader refuses (`docs/format.md`, section 6.7), broken once.

use dimsum_erofs::ondisk::{BLOCK_LEN, ErofsDirent, InodeCompact, InodeExtended, SUPERBLOCK_OFFSET, Superblock};
use dimsum_erofs::{ErofsError, ErofsImage, ImageKind, OutOfRange, PlanError};
use dimsum_tree::{Metadata, NodeKind, TreeBuilder};
use zerocopy::FromBytes;

use crate::common::{Files, Written, plain_metadata, write, xattr};
use crate::hostile::{check, fix_checksum, small};

/// A small image to be damaged.
struct Target {
    written: Written,
    meta: Vec<u8>,
}

impl Target {
    fn new() -> Self {
        let (tree, files) = small();
        let written = write(&tree, &files, ImageKind::Image);
        Self { meta: written.meta.clone(), written }
    }

    fn nid(&self, path: &str) -> u64 {
        let image = ErofsImage::open(&*self.written.meta).unwrap();
        let root = image.root_nid();
        path.split('/')
            .filter(|name| !name.is_empty())
            .fold(root, |dir, name| image.lookup(&image.inode(dir).unwrap(), name.as_bytes()).unwrap().unwrap())
    }

    fn at(&mut self, nid: u64) -> &mut [u8] {
        &mut self.meta[nid as usize * 32..]
    }

    fn compact(&mut self, path: &str) -> &mut InodeCompact {
        let nid = self.nid(path);
        InodeCompact::mut_from_prefix(self.at(nid)).unwrap().0
    }

    fn extended(&mut self, path: &str) -> &mut InodeExtended {
        let nid = self.nid(path);
        InodeExtended::mut_from_prefix(self.at(nid)).unwrap().0
    }

    fn superblock(&mut self) -> &mut Superblock {
        Superblock::mut_from_prefix(&mut self.meta[SUPERBLOCK_OFFSET..]).unwrap().0
    }

    /// The dirent of a name in the root, which is extended (it is older), inline and without attributes.
    fn dirent(&mut self, index: usize) -> &mut ErofsDirent {
        let nid = self.nid("");
        ErofsDirent::mut_from_prefix(&mut self.at(nid)[64 + 12 * index..]).unwrap().0
    }

    /// Replaces the first occurrence of these bytes.
    fn replace(&mut self, old: &[u8], new: &[u8]) {
        let place = self.meta.windows(old.len()).position(|window| window == old).unwrap();
        self.meta[place..place + new.len()].copy_from_slice(new);
    }

    fn map_entry(&mut self, index: usize) -> &mut [u8; 4] {
        let nid = self.nid("map");
        self.at(nid)[32 + 4 * index..].first_chunk_mut().unwrap()
    }

    fn verdict(&mut self) -> Result<dimsum_erofs::ValidationSummary, ErofsError<OutOfRange>> {
        fix_checksum(&mut self.meta);
        check(&self.meta, &self.written)
    }
}

/// Names of the root in order, to find their dirents.
const ROOT: [&str; 10] = [".", "..", "dir", "empty", "large", "link", "longlink", "map", "null", "plain2"];

fn row(name: &str) -> usize {
    ROOT.iter().position(|other| *other == name).unwrap()
}

type Damage = fn(&mut Target);

/// What is done, and the fault that must be found.
const RULES: &[(&str, &str, Damage)] = &[
    ("an unknown feature", "Features", |t| t.superblock().feature_incompat.set(0xC)),
    ("a missing feature", "Features", |t| t.superblock().feature_compat.set(1)),
    ("a device table", "Reserved", |t| t.superblock().extra_devices.set(1)),
    ("another magic number", "Magic", |t| t.superblock().magic.set(1)),
    ("another block size", "BlockSize", |t| t.superblock().blkszbits = 9),
    ("too many blocks", "Blocks", |t| t.superblock().blocks.set(1 << 20)),
    ("too few inodes", "Inodes", |t| t.superblock().inos.set(3)),
    ("too many inodes", "Inodes", |t| t.superblock().inos.set(300)),
    ("a bad common time", "Time", |t| t.superblock().build_time_nsec.set(1_000_000_000)),
    ("shared attributes behind the end", "XattrArea", |t| t.superblock().xattr_blkaddr.set(99)),
    ("shared attributes nowhere", "XattrPrefix", |t| t.superblock().xattr_blkaddr.set(0)),
    ("a root that is a file", "NotADirectory", |t| {
        let nid = t.nid("map");
        t.superblock().root_nid.set(nid as u16);
    }),
    ("names not sorted", "Order", |t| t.replace(b"linklonglink", b"zink")),
    ("a name twice", "Order", |t| t.replace(b"01nnn", b"00")),
    ("a slash in a name", "Name", |t| t.replace(b"linklonglink", b"l/nk")),
    ("NUL in a name", "Name", |t| t.replace(b"linklonglink", b"l\0nk")),
    ("a name of a wrong type", "EntryType", |t| t.dirent(row("map")).file_type = 2),
    ("a name of no type", "EntryType", |t| t.dirent(row("map")).file_type = 9),
    ("names that overlap", "DirectoryBlock", |t| t.dirent(row("map")).nameoff.set(1)),
    ("more dirents than bytes", "DirectoryBlock", |t| t.dirent(0).nameoff.set(4092)),
    (". elsewhere", "Dots", |t| {
        let nid = t.nid("dir");
        t.dirent(0).nid.set(nid);
    }),
    (".. elsewhere", "Dots", |t| {
        let nid = t.nid("dir");
        t.dirent(1).nid.set(nid);
    }),
    ("a directory with two parents", "TwoParents", |t| {
        let nid = t.nid("dir/sub");
        t.dirent(row("empty")).nid.set(nid);
        t.dirent(row("empty")).file_type = 2;
    }),
    ("a directory in itself", "TwoParents", |t| {
        let nid = t.nid("");
        t.dirent(row("empty")).nid.set(nid);
        t.dirent(row("empty")).file_type = 2;
    }),
    ("fewer names than nlink", "Links", |t| t.compact("map").nlink.set(2)),
    ("more names than nlink", "Links", |t| t.extended("dir/plain").nlink.set(1)),
    ("no names", "Links", |t| t.compact("map").nlink.set(0)),
    ("a directory's wrong nlink", "Links", |t| t.compact("dir").nlink.set(2)),
    ("an inode in front of the inode area", "OutOfInodeArea", |t| {
        let nid = t.nid("null");
        let inode = *t.at(nid).first_chunk::<32>().unwrap();
        t.meta[..32].copy_from_slice(&inode);
        t.dirent(row("null")).nid.set(0);
    }),
    ("an inode in the blocks of another", "Overlap", |t| {
        let nid = t.nid("null");
        let inode = *t.at(nid).first_chunk::<32>().unwrap();
        let place = t.compact("longlink").u.get() as usize * BLOCK_LEN + 3520;
        t.meta[place..place + 32].copy_from_slice(&inode);
        t.dirent(row("null")).nid.set(place as u64 / 32);
    }),
    ("an inode behind the inode area", "OutOfInodeArea", |t| {
        let nid = t.nid("null");
        let inode = *t.at(nid).first_chunk::<32>().unwrap();
        // Behind the shared attributes, in their block.
        let place = t.superblock().xattr_blkaddr.get() as usize * BLOCK_LEN + 4064;
        t.meta[place..place + 32].copy_from_slice(&inode);
        t.dirent(row("null")).nid.set(place as u64 / 32);
    }),
    ("an inode outside of the image", "OutOfImage", |t| t.dirent(row("null")).nid.set(1 << 40)),
    ("an inode at the end of all numbers", "OutOfImage", |t| t.dirent(row("null")).nid.set(u64::MAX)),
    ("data in the meta", "OutOfDevice", |t| t.extended("dir/plain").u.set(1)),
    ("data behind the end", "OutOfDevice", |t| t.extended("dir/plain").u.set(u32::MAX - 1)),
    ("a plain hole", "OutOfDevice", |t| t.extended("dir/plain").u.set(u32::MAX)),
    ("mapped data in the meta", "OutOfDevice", |t| *t.map_entry(2) = [0; 4]),
    ("mapped data behind the end", "OutOfDevice", |t| *t.map_entry(1) = [0xfe, 0xff, 0xff, 0xff]),
    ("inline file data", "Format", |t| t.compact("map").format.set(2 << 1)),
    ("compressed file data", "Format", |t| t.compact("map").format.set(1 << 1)),
    ("a mapped directory", "Format", |t| t.compact("large").format.set(4 << 1)),
    ("an unknown format", "Format", |t| t.compact("map").format.set(0x18)),
    ("no file type", "Mode", |t| t.compact("map").mode.set(0o644)),
    ("a map of an unknown format", "Map", |t| t.compact("map").u.set(0x26)),
    ("too long a map", "Map", |t| {
        t.extended("dir/plain").format.set(4 << 1 | 1);
        t.extended("dir/plain").size.set(1 << 44);
    }),
    ("too large a file", "Size", |t| t.extended("dir/plain").size.set((1 << 44) + 1)),
    ("a bad time", "Time", |t| t.extended("dir/plain").mtime_nsec.set(1_000_000_000)),
    ("no owner", "Owner", |t| t.extended("dir/plain").uid.set(u32::MAX)),
    ("an xattr of only a prefix", "Xattrs", |t| t.replace(b"\x03\x01\x01\0owno", b"\0\x01\x04")),
    ("a whiteout", "Whiteout", |t| t.compact("null").u.set(0)),
    ("a time offset", "Reserved", |t| t.compact("map").reserved.set(1)),
    ("a device with a size", "Size", |t| t.compact("null").size.set(1)),
    ("an empty symlink", "Size", |t| t.compact("link").size.set(0)),
    ("too long a symlink", "Size", |t| t.compact("longlink").size.set(4096)),
    ("NUL in a target", "Target", |t| t.replace(b"dir/plain", b"dir\0")),
    ("a directory without bytes", "Size", |t| t.compact("large").size.set(0)),
    ("a directory behind the end", "OutOfImage", |t| t.compact("large").u.set(1 << 30)),
    ("a symlink in a directory's block", "Overlap", |t| {
        let block = t.compact("large").u.get();
        t.compact("longlink").u.set(block);
    }),
    ("an unknown xattr prefix", "XattrPrefix", |t| t.replace(b"\x03\x01\x01\0owno", b"\x03\x09")),
    ("an xattr with too long a value", "Xattrs", |t| t.replace(b"\x03\x01\x01\0owno", b"\x03\x01\xff")),
    ("an xattr without room", "Xattrs", |t| t.extended("dir/plain").xattr_icount.set(3)),
];

#[test]
fn each_rule_of_the_format_is_enforced() {
    Target::new().verdict().expect("undamaged");
    let mut wrong = Vec::new();
    for (what, fault, damage) in RULES {
        let mut target = Target::new();
        damage(&mut target);
        let verdict = format!("{:?}", target.verdict());
        if !verdict.starts_with("Err") || !verdict.contains(fault) {
            wrong.push(format!("{what}: {verdict}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_bad_checksum_is_refused() {
    let mut target = Target::new();
    target.superblock().uuid[0] ^= 1;
    let error = check(&target.meta, &target.written).unwrap_err();
    assert!(format!("{error:?}").contains("Checksum"), "{error:?}");
}

#[test]
fn errors_name_the_path() {
    let mut target = Target::new();
    target.extended("dir/plain").u.set(1);
    assert!(target.verdict().unwrap_err().to_string().contains("(dir/plain)"));
    let mut target = Target::new();
    target.compact("dir").nlink.set(7);
    assert!(target.verdict().unwrap_err().to_string().contains("(dir)"));
}

#[test]
fn overlay_attributes_are_refused_in_images_and_all_but_one_in_layers() {
    let mut tree = TreeBuilder::new();
    let metadata = Metadata { xattrs: &[xattr("user.overlay-x", b"y")], ..plain_metadata() };
    tree.insert(TreeBuilder::ROOT, b"a", NodeKind::Fifo, &metadata).unwrap();
    let mut written = write(&tree.finish().unwrap(), &Files::default(), ImageKind::Image);
    let place = written.meta.windows(9).position(|window| window == b"overlay-x").unwrap();
    written.meta[place + 7] = b'.';
    fix_checksum(&mut written.meta);
    for kind in [ImageKind::Image, ImageKind::Layer] {
        let error = crate::validator::validated(&written, kind).unwrap_err();
        assert!(format!("{error:?}").contains("OverlayXattr"), "{error:?}");
    }
}

#[test]
fn trees_with_attributes_of_overlayfs_are_not_written() {
    for name in ["user.overlay.x", "trusted.overlay.opaque"] {
        let mut tree = TreeBuilder::new();
        let metadata = Metadata { xattrs: &[xattr(name, b"y")], ..plain_metadata() };
        tree.insert(TreeBuilder::ROOT, b"a", NodeKind::Fifo, &metadata).unwrap();
        let tree = tree.finish().unwrap();
        let options = dimsum_erofs::ErofsOptions { slice_blocks_log2: 6, kind: ImageKind::Layer };
        let error = dimsum_erofs::ErofsLayout::plan(&tree, &crate::common::Placed(&tree, &Files::default()), options)
            .unwrap_err();
        assert!(matches!(error, PlanError::Overlay { .. }), "{error:?}");
    }
}
