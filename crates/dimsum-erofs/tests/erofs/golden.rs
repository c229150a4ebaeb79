//! The bytes of version 1, as they were when it was made: they are the same for ever.
//!
//! A difference is not repaired by new files but by the old bytes, unless the version of the format changes.

use std::path::Path;

use dimsum_erofs::ImageKind;
use dimsum_tree::{Metadata, NodeKind, Tree, TreeBuilder};

use crate::common::{Files, plain_metadata, write, xattr};
use crate::hostile::small;

fn layer() -> (Tree, Files) {
    let mut tree = TreeBuilder::new();
    let root = TreeBuilder::ROOT;
    tree.insert(root, b"gone", NodeKind::Whiteout, &plain_metadata()).unwrap();
    let dir = tree.insert(root, b"opaque", NodeKind::Directory, &plain_metadata()).unwrap();
    tree.set_opaque(dir, true);
    let metadata = Metadata {
        xattrs: &[xattr("user.z", b"behind the mark"), xattr("security.a", b"before it")],
        ..plain_metadata()
    };
    let both = tree.insert(root, b"opaque-with-xattrs", NodeKind::Directory, &metadata).unwrap();
    tree.set_opaque(both, true);
    (tree.finish().unwrap(), Files::default())
}

fn compare(name: &str, (tree, files): (Tree, Files), kind: ImageKind) {
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let written = write(&tree, &files, kind).meta;
    if std::fs::read(&expected).ok().as_ref() != Some(&written) {
        let actual = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&actual, written).unwrap();
        panic!("{} is not what is written now, see {}", expected.display(), actual.display());
    }
}

#[test]
fn the_smallest_image_is_what_it_was() {
    compare("root-v1.erofs", (TreeBuilder::new().finish().unwrap(), Files::default()), ImageKind::Image);
}

#[test]
fn a_small_image_is_what_it_was() {
    compare("small-v1.erofs", small(), ImageKind::Image);
}

#[test]
fn a_layer_is_what_it_was() {
    compare("layer-v1.erofs", layer(), ImageKind::Layer);
}
