//! The validator accepts what the writer writes.

use crate::common::{Files, Written, plain_metadata, write, zoo};
use dimsum_erofs::{Bounds, ImageKind, ValidationSummary, validate};
use dimsum_tree::{NodeKind, TreeBuilder};

pub(crate) fn validated(
    written: &Written,
    kind: ImageKind,
) -> Result<ValidationSummary, dimsum_erofs::ErofsError<dimsum_erofs::OutOfRange>> {
    // Two devices, the first of which ends where the data of a file does not go on.
    let devices = [written.data_blocks.min(1), written.data_blocks - written.data_blocks.min(1)];
    validate(&written.meta, Bounds { meta_blocks: written.meta_blocks(), devices: &devices, kind })
}

#[test]
fn the_validator_accepts_the_zoo_and_counts_it() {
    let (tree, files) = zoo();
    let written = write(&tree, &files, ImageKind::Image);
    let devices = [written.data_blocks];
    let bounds = Bounds { meta_blocks: written.meta_blocks(), devices: &devices, kind: ImageKind::Image };
    let summary = validate(&written.meta, bounds).unwrap();
    assert_eq!(summary.inodes, tree.len() as u64);
    assert_eq!(summary.names, tree.entry_count() as u64);
    assert_eq!(summary.inodes, summary.directories + summary.files + summary.symlinks + summary.specials);
}

#[test]
fn the_validator_refuses_data_across_devices() {
    let (tree, files) = zoo();
    let written = write(&tree, &files, ImageKind::Image);
    let with = |devices: &[u32]| {
        validate(&written.meta, Bounds { meta_blocks: written.meta_blocks(), devices, kind: ImageKind::Image })
    };
    let inside = files.runs.iter().flatten().find(|run| run.blocks > 1 && run.start.is_some()).unwrap();
    let border = inside.start.unwrap() as u32 + 1;
    let error = with(&[border, written.data_blocks - border]).unwrap_err();
    assert!(error.to_string().starts_with("inode "), "{error}");
    assert!(with(&[written.data_blocks - 1]).is_err());
    assert!(with(&[written.data_blocks + 1]).is_err());
}

#[test]
fn marks_of_overlayfs_are_for_layers_only() {
    let mut tree = TreeBuilder::new();
    tree.insert(TreeBuilder::ROOT, b"gone", NodeKind::Whiteout, &plain_metadata()).unwrap();
    let whiteout = write(&tree.finish().unwrap(), &Files::default(), ImageKind::Layer);
    let mut tree = TreeBuilder::new();
    let dir = tree.insert(TreeBuilder::ROOT, b"dir", NodeKind::Directory, &plain_metadata()).unwrap();
    tree.set_opaque(dir, true);
    let opaque = write(&tree.finish().unwrap(), &Files::default(), ImageKind::Layer);
    for layer in [whiteout, opaque] {
        validated(&layer, ImageKind::Layer).unwrap();
        assert!(validated(&layer, ImageKind::Image).is_err());
    }
}
