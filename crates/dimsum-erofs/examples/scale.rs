//! Writes, validates and reads a synthetic tree, and prints what that took.
//!
//! ```text
//! cargo run --release -p dimsum-erofs --example scale -- 1000000
//! ```

use std::io::{self, Write};
use std::time::Instant;

use dimsum_erofs::{
    BlockRun, Bounds, ErofsImage, ErofsLayout, ErofsOptions, ImageKind, Placements, WriteParams, to_tree, validate,
};
use dimsum_tree::{ContentId, InodeId, Metadata, NodeKind, Timestamp, Tree, TreeBuilder, Xattr};

/// Blocks of a slice.
const SLICE: u64 = 64;

/// The content handle of files that lie in two places; all others are small.
const IN_TWO_PLACES: ContentId = ContentId::new(1);

/// Small files follow one another, two blocks each.
struct Synthetic<'t>(&'t Tree);

impl Placements for Synthetic<'_> {
    fn runs(&self, inode: InodeId, runs: &mut Vec<BlockRun>) -> io::Result<()> {
        let start = inode.index() as u64 * 2;
        if self.0.inode(inode).content() == Some(IN_TWO_PLACES) {
            runs.extend([start, start + 1000].map(|start| BlockRun { blocks: SLICE, start: Some(start), device: 0 }));
        } else {
            runs.push(BlockRun { blocks: 2, start: Some(start), device: 0 });
        }
        Ok(())
    }
}

/// Ten files to a directory, names of a usual length, a few hundred different times, some capabilities.
fn tree(inodes: usize) -> Result<Tree, dimsum_tree::EntryFault> {
    let mut tree = TreeBuilder::new();
    let capability = [Xattr { name: b"security.capability".as_slice().into(), value: [1; 20].as_slice().into() }];
    let mut parents = vec![TreeBuilder::ROOT];
    for number in 1..inodes {
        let parent = parents.get(number / 11).copied().unwrap_or(TreeBuilder::ROOT);
        let age = if number.is_multiple_of(3) { number / 5000 } else { 0 };
        let metadata = Metadata {
            permissions: 0o644,
            uid: 0,
            gid: 0,
            mtime: Timestamp { seconds: 1_700_000_000 - age as i64, nanoseconds: 0 },
            xattrs: if number.is_multiple_of(500) { &capability } else { &[] },
        };
        let name = format!("some-file-name-{number}.py");
        let kind = match number {
            _ if number.is_multiple_of(11) => NodeKind::Directory,
            _ if number.is_multiple_of(100) => NodeKind::Regular { size: 2 * SLICE * 4096, content: IN_TWO_PLACES },
            _ => NodeKind::Regular { size: 5000, content: ContentId::new(0) },
        };
        let node = tree.insert(parent, name.as_bytes(), kind, &metadata)?;
        if kind == NodeKind::Directory {
            parents.push(node);
        }
    }
    Ok(tree.finish().expect("the tree is shallow"))
}

/// Returns the peak of the resident memory so far, as the kernel says it.
fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM unknown").to_owned()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let inodes = std::env::args().nth(1).map_or(Ok(1_000_000), |argument| argument.parse())?;
    let mut out = io::stdout().lock();
    let tree = tree(inodes)?;
    writeln!(out, "tree of {} inodes: {} bytes; {}", tree.len(), tree.memory(), peak_memory())?;

    let placements = Synthetic(&tree);
    let start = Instant::now();
    let layout = ErofsLayout::plan(&tree, &placements, ErofsOptions { slice_blocks_log2: 6, kind: ImageKind::Image })?;
    writeln!(out, "plan: {:?}; {}", start.elapsed(), peak_memory())?;

    let data_blocks = u32::try_from(inodes)? * 2 + 2000;
    let total_blocks = layout.blocks() + data_blocks;
    let params = WriteParams { data_base: layout.blocks(), total_blocks, uuid: [1; 16], checksum: true };
    let start = Instant::now();
    layout.write(&placements, &params, &mut io::sink())?;
    writeln!(out, "write: {:?}; {}", start.elapsed(), peak_memory())?;

    let mut meta = Vec::new();
    layout.write(&placements, &params, &mut meta)?;
    writeln!(out, "image: {} bytes, {} per 20,000 names", meta.len(), meta.len() * 20_000 / tree.entry_count().max(1))?;

    let start = Instant::now();
    let bounds = Bounds { meta_blocks: layout.blocks(), devices: &[data_blocks], kind: ImageKind::Image };
    let summary = validate(&meta, bounds)?;
    writeln!(out, "validate: {:?}, {summary:?}", start.elapsed())?;

    let start = Instant::now();
    let again = to_tree(&ErofsImage::open(&meta)?, |_| ContentId::new(0))?;
    writeln!(out, "to_tree: {:?}, {} inodes", start.elapsed(), again.len())?;
    Ok(())
}
