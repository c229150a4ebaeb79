//! Walks through an image's meta.

use std::hint::black_box;
use std::io;

use dimsum_erofs::{BlockRun, ErofsImage, ErofsLayout, ErofsOptions, ImageKind, Placements, WriteParams};
use dimsum_tree::{ContentId, InodeId, NodeKind, Tree, TreeBuilder};

use crate::{METADATA, Work};

/// Files of the one directory: it fills several blocks.
const FILES: u64 = 2000;

/// Files follow one another, two blocks each.
struct InOrder;

impl Placements for InOrder {
    fn runs(&self, inode: InodeId, runs: &mut Vec<BlockRun>) -> io::Result<()> {
        let start = inode.index() as u64 * 2;
        runs.push(BlockRun { blocks: 2, start: Some(start), device: 0 });
        Ok(())
    }
}

fn tree() -> Tree {
    let mut tree = TreeBuilder::new();
    for number in 0..FILES {
        let kind = NodeKind::Regular { size: 5000, content: ContentId::new(0) };
        let name = format!("some-file-name-{number:04}.py");
        tree.insert(TreeBuilder::ROOT, name.as_bytes(), kind, &METADATA).expect("names are different");
    }
    tree.finish().expect("the tree is shallow")
}

fn image() -> ErofsImage<Vec<u8>> {
    let tree = tree();
    let options = ErofsOptions { slice_blocks_log2: 6, kind: ImageKind::Image };
    let layout = ErofsLayout::plan(&tree, &InOrder, options).expect("a small tree");
    let blocks = layout.blocks();
    let params = WriteParams { data_base: blocks, total_blocks: blocks + 10_000, uuid: [1; 16], checksum: true };
    let mut meta = Vec::new();
    layout.write(&InOrder, &params, &mut meta).expect("memory is there");
    ErofsImage::open(meta).expect("our own image")
}

/// One name in a large directory.
pub(crate) fn lookup() -> Work {
    let image = image();
    let root = image.root().expect("our own image");
    Box::new(move || {
        let found = image.lookup(&root, black_box(b"some-file-name-1234.py")).expect("our own image");
        assert!(found.is_some());
    })
}

/// A large directory from the first name to the last.
pub(crate) fn read_dir() -> Work {
    let image = image();
    let root = image.root().expect("our own image");
    Box::new(move || {
        let mut entries = image.read_dir(black_box(&root), 0).expect("our own image");
        let mut count = 0;
        while entries.next_entry().expect("our own image").is_some() {
            count += 1;
        }
        assert_eq!(count, FILES + 2);
    })
}

/// A file's inode, and where its bytes are.
pub(crate) fn map_file() -> Work {
    let image = image();
    let root = image.root().expect("our own image");
    let nid = image.lookup(&root, b"some-file-name-1234.py").expect("our own image").expect("the name is there");
    Box::new(move || {
        let inode = image.inode(black_box(nid)).expect("our own image");
        assert!(image.map(&inode, 0).expect("our own image").is_some());
    })
}
