//! How the reader uses its source: few reads, and every operation can be done again.

use std::cell::RefCell;
use std::collections::HashSet;

use dimsum_erofs::{ErofsError, ErofsImage, ImageKind, MetaRead, OutOfRange};
use dimsum_tree::{FileType, NodeKind, TreeBuilder};

use crate::common::{Files, layout, plain_metadata, write, zoo};
use crate::validator::validated;

/// Remembers what was asked for.
struct Counted<'a> {
    meta: &'a [u8],
    reads: RefCell<Vec<(u64, usize)>>,
}

impl MetaRead for Counted<'_> {
    type Error = OutOfRange;

    fn len(&self) -> u64 {
        self.meta.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), OutOfRange> {
        self.reads.borrow_mut().push((offset, buf.len()));
        self.meta.read_at(offset, buf)
    }
}

/// A page that has to be fetched first.
#[derive(Debug, thiserror::Error)]
#[error("not here yet")]
struct NotYet;

/// Has each page only when it is asked for the second time.
struct Lazy<'a> {
    meta: &'a [u8],
    pages: RefCell<HashSet<u64>>,
}

impl MetaRead for Lazy<'_> {
    type Error = NotYet;

    fn len(&self) -> u64 {
        self.meta.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), NotYet> {
        let mut pages = self.pages.borrow_mut();
        let missing: Vec<_> =
            (offset / 4096..=(offset + buf.len() as u64 - 1) / 4096).filter(|page| pages.insert(*page)).collect();
        buf.fill(0xee);
        if !missing.is_empty() {
            return Err(NotYet);
        }
        self.meta.read_at(offset, buf).map_err(|OutOfRange| NotYet)
    }
}

/// Does an operation until the source has all it needs.
fn again<T>(mut operation: impl FnMut() -> Result<T, ErofsError<NotYet>>) -> T {
    for _ in 0..1000 {
        match operation() {
            Ok(result) => return result,
            Err(ErofsError::Read { source: NotYet, .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("never done")
}

#[test]
fn every_operation_can_be_done_again_when_bytes_were_missing() {
    let (tree, files) = zoo();
    let written = write(&tree, &files, ImageKind::Image);
    let planned = layout(&tree, &files, ImageKind::Image);
    let whole = ErofsImage::open(&*written.meta).unwrap();
    for id in tree.ids() {
        let nid = planned.nid(id);
        // A new source each time, so that each operation meets missing bytes.
        let source = Lazy { meta: &written.meta, pages: RefCell::default() };
        let image = again(|| ErofsImage::open(&source));
        let inode = again(|| image.inode(nid));
        assert_eq!(inode, whole.inode(nid).unwrap());
        assert_eq!(again(|| image.xattrs(&inode)), whole.xattrs(&inode).unwrap());
        match inode.file_type() {
            FileType::Regular => {
                assert_eq!(again(|| image.map(&inode, 300_000)), whole.map(&inode, 300_000).unwrap());
                assert_eq!(again(|| image.next_hole(&inode, 5)), whole.next_hole(&inode, 5).unwrap());
            }
            FileType::Symlink => assert_eq!(again(|| image.read_link(&inode)), whole.read_link(&inode).unwrap()),
            FileType::Directory => {
                assert_eq!(again(|| image.lookup(&inode, b"nothing")), whole.lookup(&inode, b"nothing").unwrap());
                let mut names = image.read_dir(&inode, 0).unwrap();
                let mut expected = whole.read_dir(&inode, 0).unwrap();
                while let Some(entry) = expected.next_entry().unwrap() {
                    let got = again(|| {
                        names.next_entry().map(|entry| entry.map(|entry| (entry.name.to_vec(), entry.nid, entry.next)))
                    });
                    assert_eq!(got, Some((entry.name.to_vec(), entry.nid, entry.next)));
                }
            }
            _ => {}
        }
    }
}

#[test]
fn hot_operations_read_once_or_not_at_all() {
    let (tree, files) = zoo();
    let written = write(&tree, &files, ImageKind::Image);
    let image = ErofsImage::open(Counted { meta: &written.meta, reads: RefCell::default() }).unwrap();
    let reads = || std::mem::take(&mut *image.meta().reads.borrow_mut());
    assert_eq!(reads(), [(0, 4096)], "open");
    let root = image.root().unwrap();
    assert_eq!(reads(), [(root.nid() * 32, 64)], "getattr");
    let nid = image.lookup(&root, b"data").unwrap().unwrap();
    assert_eq!(reads().len(), 1, "lookup in a directory of one block");
    let dir = image.inode(nid).unwrap();
    let find = |name: &str| image.inode(image.lookup(&dir, name.as_bytes()).unwrap().unwrap()).unwrap();
    let (plain, map) = (find("block-and-byte"), find("many-runs"));
    reads();
    image.map(&plain, 4096).unwrap().unwrap();
    assert_eq!(reads(), [], "map of a contiguous file");
    image.map(&map, 5_000_000).unwrap().unwrap();
    assert_eq!(reads().len(), 1, "map of a file with a block map");
    assert_eq!(image.xattr(&plain, b"user.x").unwrap(), None);
    assert_eq!(reads(), [], "xattrs of an inode without");
}

#[test]
fn a_name_among_100000_is_found_in_a_dozen_reads() {
    let mut tree = TreeBuilder::new();
    for n in 0..100_000 {
        tree.insert(TreeBuilder::ROOT, format!("name-{n}").as_bytes(), NodeKind::Fifo, &plain_metadata()).unwrap();
    }
    let tree = tree.finish().unwrap();
    let written = write(&tree, &Files::default(), ImageKind::Image);
    assert_eq!(validated(&written, ImageKind::Image).unwrap().names, 100_000);
    let image = ErofsImage::open(Counted { meta: &written.meta, reads: RefCell::default() }).unwrap();
    let root = image.root().unwrap();
    for name in ["name-0", "name-50000", "name-99999", "name-1234x", "a", "z"] {
        image.meta().reads.borrow_mut().clear();
        let nid = image.lookup(&root, name.as_bytes()).unwrap();
        assert_eq!(nid.is_some(), tree.lookup(dimsum_tree::InodeId::ROOT, name.as_bytes()).is_some());
        assert!(image.meta().reads.borrow().len() <= 12, "{name}");
    }
}
