//! The tree's answers over metas that come late, and over images that no conversion makes.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::io;

use dimsum_erofs::{
    BlockRun, ErofsImage as Erofs, ErofsLayout, ErofsOptions, ImageKind, MetaRead, Placements, WriteParams,
};
use dimsum_fuse::{Errno, ROOT_NODE, Whence};
use dimsum_store::{Extent, MetaError};
use dimsum_tree::{ContentId, DeviceNumber, InodeId, Metadata, NodeId, NodeKind, Timestamp, TreeBuilder, Xattr};

use super::tree::{ImageTree, Question, TreeAnswer, TreeFailure};

const GROUP: u64 = 16 << 10;
const BLOCK: u64 = 4096;
/// Names in one directory: enough for a directory of several groups.
const NAMES: u32 = 900;

/// A meta whose groups have to be asked for twice.
struct LateMeta {
    bytes: Vec<u8>,
    here: RefCell<HashSet<u64>>,
}

impl MetaRead for LateMeta {
    type Error = MetaError;

    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), MetaError> {
        for group in offset / GROUP..=(offset + buf.len() as u64 - 1) / GROUP {
            if self.here.borrow_mut().insert(group) {
                return Err(MetaError::Pending { group });
            }
        }
        self.bytes.as_slice().read_at(offset, buf).map_err(|_| MetaError::OutOfRange { range: 0..0, length: 0 })
    }
}

impl LateMeta {
    fn everything_here(&self) {
        self.here.borrow_mut().extend(0..=self.len() / GROUP);
    }
}

/// Every file has data, a hole and data again, each of a slice.
struct Sparse;

const SLICE_BLOCKS: u64 = 64;
const FILE_SIZE: u64 = 3 * SLICE_BLOCKS * BLOCK - 100;

impl Placements for Sparse {
    fn runs(&self, _: InodeId, runs: &mut Vec<BlockRun>) -> io::Result<()> {
        for start in [Some(0), None, Some(2 * SLICE_BLOCKS)] {
            runs.push(BlockRun { blocks: SLICE_BLOCKS, start, device: 0 });
        }
        Ok(())
    }
}

fn metadata(xattrs: &[Xattr]) -> Metadata<'_> {
    let mtime = Timestamp { seconds: -7, nanoseconds: 5 };
    Metadata { permissions: 0o644, uid: 1, gid: 70_000, mtime, xattrs }
}

/// Writes a tree and opens it; `data_start` of `None` is the true one.
fn open(kind: ImageKind, data_start: Option<u64>, fill: impl FnOnce(&mut TreeBuilder)) -> ImageTree<LateMeta> {
    let mut builder = TreeBuilder::new();
    fill(&mut builder);
    let tree = builder.finish().unwrap();
    let layout = ErofsLayout::plan(&tree, &Sparse, ErofsOptions { slice_blocks_log2: 6, kind }).unwrap();
    let params = WriteParams {
        data_base: layout.blocks(),
        total_blocks: layout.blocks() + 4 * SLICE_BLOCKS as u32,
        uuid: [0; 16],
        checksum: true,
    };
    let mut bytes = Vec::new();
    layout.write(&Sparse, &params, &mut bytes).unwrap();
    let start = data_start.unwrap_or(bytes.len() as u64);
    let late = LateMeta { bytes, here: RefCell::default() };
    late.everything_here();
    ImageTree::new(Erofs::open(late).unwrap(), start)
}

fn file(builder: &mut TreeBuilder, parent: NodeId, name: &[u8], xattrs: &[Xattr]) -> NodeId {
    let kind = NodeKind::Regular { size: FILE_SIZE, content: ContentId::new(0) };
    builder.insert(parent, name, kind, &metadata(xattrs)).unwrap()
}

fn xattr(name: &[u8], value: &[u8]) -> Xattr {
    Xattr { name: name.into(), value: value.into() }
}

fn ordinary(builder: &mut TreeBuilder) {
    let xattrs = [xattr(b"trusted.large", &[7; 5000]), xattr(b"user.mime", b"text/plain")];
    let sparse = file(builder, TreeBuilder::ROOT, b"file", &xattrs);
    builder.link(TreeBuilder::ROOT, b"other name", sparse).unwrap();
    file(builder, TreeBuilder::ROOT, b"shares", &xattrs[1..]);
    let link = NodeKind::Symlink { target: b"file" };
    builder.insert(TreeBuilder::ROOT, b"link", link, &metadata(&[])).unwrap();
    let device = NodeKind::CharDevice(DeviceNumber { major: 1, minor: 3 });
    builder.insert(TreeBuilder::ROOT, b"null", device, &metadata(&[])).unwrap();
    let many = builder.insert(TreeBuilder::ROOT, b"many", NodeKind::Directory, &metadata(&[])).unwrap();
    for number in 0..NAMES {
        let name = format!("{number:05}{}", "x".repeat(40));
        builder.insert(many, name.as_bytes(), NodeKind::Fifo, &metadata(&[])).unwrap();
    }
}

fn lookup(tree: &ImageTree<LateMeta>, parent: u64, name: &[u8]) -> Result<u64, TreeFailure> {
    match tree.answer(parent, &Question::Lookup { name: name.into() })? {
        TreeAnswer::Entry(entry) => Ok(entry.node),
        other => panic!("{other:?}"),
    }
}

/// Asks until the answer is not "later"; says how often it was.
fn ask(tree: &ImageTree<LateMeta>, node: u64, question: &Question<'_>) -> (String, u32) {
    for later in 0..100 {
        match tree.answer(node, question) {
            Err(TreeFailure::Pending { .. }) => {}
            answer => return (format!("{answer:?}"), later),
        }
    }
    panic!("{question:?} has no end");
}

#[test]
fn an_answer_is_the_same_when_the_meta_comes_late() {
    let tree = open(ImageKind::Image, None, ordinary);
    let mut nodes = vec![ROOT_NODE, 5, 1 << 40];
    for name in [&b"file"[..], b"link", b"null", b"many", b"shares"] {
        nodes.push(lookup(&tree, ROOT_NODE, name).unwrap());
    }
    let name = |name: &'static [u8]| name.into();
    let questions = [
        Question::Lookup { name: name(b"file") },
        Question::Lookup { name: name(b"none") },
        Question::Lookup { name: name(b".") },
        Question::Lookup { name: name(b"..") },
        Question::GetAttr,
        Question::ReadLink,
        Question::Read { offset: 100, size: 1 << 20 },
        Question::Read { offset: FILE_SIZE, size: 4096 },
        Question::GetXattr { name: name(b"user.mime") },
        Question::GetXattr { name: name(b"user.none") },
        Question::ListXattr,
        Question::StatFs,
        Question::Lseek { offset: 0, whence: Whence::Hole },
        Question::Lseek { offset: SLICE_BLOCKS * BLOCK, whence: Whence::Data },
        Question::Lseek { offset: FILE_SIZE, whence: Whence::Data },
    ];
    let mut waited = 0;
    for &node in &nodes {
        for question in &questions {
            tree.erofs.meta().everything_here();
            let (wanted, later) = ask(&tree, node, question);
            assert_eq!(later, 0);
            tree.erofs.meta().here.borrow_mut().clear();
            let (answer, later) = ask(&tree, node, &question.clone().into_owned());
            assert_eq!(answer, wanted, "{node} {question:?}");
            waited += later;
        }
    }
    assert!(waited > 50, "{waited}");
}

#[test]
fn a_listing_is_complete_however_the_meta_comes() {
    let tree = open(ImageKind::Image, None, ordinary);
    let many = lookup(&tree, ROOT_NODE, b"many").unwrap();
    for size in [256, 4096, 1 << 20] {
        tree.erofs.meta().here.borrow_mut().clear();
        let mut names = BTreeMap::new();
        let mut offset = 0;
        loop {
            let answer = match tree.answer(many, &Question::ReadDir { offset, size }) {
                Err(TreeFailure::Pending { .. }) => continue,
                answer => answer.unwrap(),
            };
            let TreeAnswer::Directory(buffer) = answer else { panic!("{answer:?}") };
            if buffer.as_bytes().is_empty() {
                break;
            }
            assert!(buffer.as_bytes().len() <= size as usize);
            offset = records(buffer.as_bytes(), &mut names);
        }
        assert_eq!(names.len(), NAMES as usize + 2);
        assert_eq!(names.get(&b"."[..]), Some(&many));
        assert_eq!(names.get(&b".."[..]), Some(&tree.erofs.root_nid()));
    }
    // With attributes, a part of a listing is one too.
    tree.erofs.meta().here.borrow_mut().clear();
    let mut parts = 0;
    for _ in 0..10 {
        parts += u32::from(matches!(
            tree.answer(many, &Question::ReadDirPlus { offset: 0, size: 1 << 20 }),
            Ok(TreeAnswer::DirectoryPlus(buffer)) if !buffer.as_bytes().is_empty()
        ));
    }
    assert!(parts > 5, "{parts}");
}

/// Takes the records of a READDIR apart; returns where to go on.
fn records(mut bytes: &[u8], names: &mut BTreeMap<Vec<u8>, u64>) -> u64 {
    let word = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let mut next = 0;
    while !bytes.is_empty() {
        let length = (word(bytes, 16) & 0xffff_ffff) as usize;
        let previous = names.insert(bytes[24..24 + length].to_vec(), word(bytes, 0));
        assert_eq!(previous, None, "a name twice");
        next = word(bytes, 8);
        bytes = &bytes[(24 + length).next_multiple_of(8)..];
    }
    next
}

#[test]
fn holes_take_no_space_and_a_read_is_cut_at_the_end() {
    let tree = open(ImageKind::Image, None, ordinary);
    let node = lookup(&tree, ROOT_NODE, b"file").unwrap();
    let Ok(TreeAnswer::Attr(attr)) = tree.answer(node, &Question::GetAttr) else { panic!() };
    assert_eq!((attr.size, attr.blocks), (FILE_SIZE, 2 * SLICE_BLOCKS * 8));
    assert_eq!((attr.mtime.seconds, attr.mtime.nanoseconds, attr.gid, attr.nlink), (-7, 5, 70_000, 2));
    let answer = tree.answer(node, &Question::Read { offset: SLICE_BLOCKS * BLOCK - 10, size: 1 << 20 }).unwrap();
    let TreeAnswer::Data { extents, length } = answer else { panic!() };
    assert_eq!(length as u64, FILE_SIZE - SLICE_BLOCKS * BLOCK + 10);
    let lengths: Vec<u64> = extents
        .iter()
        .map(|extent| match extent {
            Extent::Hole { length } => *length,
            Extent::Flat { range } => range.end - range.start,
        })
        .collect();
    assert_eq!(lengths, [10, SLICE_BLOCKS * BLOCK, SLICE_BLOCKS * BLOCK - 100]);
    assert!(matches!(extents[1], Extent::Hole { .. }));
}

#[test]
fn what_overlayfs_would_misunderstand_is_refused() {
    let tree = open(ImageKind::Layer, None, |builder| {
        builder.insert(TreeBuilder::ROOT, b"gone", NodeKind::Whiteout, &metadata(&[])).unwrap();
        let opaque = builder.insert(TreeBuilder::ROOT, b"opaque", NodeKind::Directory, &metadata(&[])).unwrap();
        builder.set_opaque(opaque, true);
    });
    assert!(matches!(lookup(&tree, ROOT_NODE, b"gone"), Err(TreeFailure::Forbidden(_))));
    let opaque = lookup(&tree, ROOT_NODE, b"opaque").unwrap();
    assert!(matches!(tree.answer(opaque, &Question::ListXattr), Err(TreeFailure::Forbidden(_))));
    let name = b"trusted.overlay.opaque"[..].into();
    let answer = tree.answer(opaque, &Question::GetXattr { name });
    assert!(matches!(answer, Err(TreeFailure::Errno(Errno::NODATA))), "{answer:?}");
}

#[test]
fn file_data_in_the_metadata_is_refused() {
    let tree = open(ImageKind::Image, Some(1 << 40), ordinary);
    let node = lookup(&tree, ROOT_NODE, b"file").unwrap();
    let answer = tree.answer(node, &Question::Read { offset: 0, size: 4096 });
    assert!(matches!(answer, Err(TreeFailure::Forbidden(_))), "{answer:?}");
}
