//! The other targets: a tar and a directory.

use dimsum_convert::export::{OmittedEntries, Owners, export_directory, export_tar};

use crate::image::Layout;
use crate::round_trip::{XATTRS, directory, gnu_tar, privileged_directory, upper_layers};
use crate::sources::{Case, Layer, small_options};
use crate::stock_tools::root;
use crate::tar::Packing;
use crate::trees;

fn layers(lower: Layer) -> Vec<Layer> {
    let upper = upper_layers();
    std::iter::once(lower).chain(upper.iter().map(|entries| Layer::new(entries, Packing::Plain))).collect()
}

#[test]
fn a_tar_has_the_whole_tree() {
    let place = tempfile::tempdir().unwrap();
    directory(place.path());
    let case = Case::of(layers(gnu_tar(place.path(), &["--format=pax"])));
    let converted = case.convert(&small_options());
    let image = Layout::open(&case.target(), converted.manifest);
    let mut tar = Vec::new();
    let left_out = export_tar(&image, &mut tar, None, &()).unwrap();
    assert_eq!(left_out, OmittedEntries::default());
    let want = trees::of_image(&case.dir.path().join("source"), case.manifest);
    trees::assert_same(&trees::of_tar(&tar), &want, "tar");
}

#[test]
fn privileged_a_directory_has_the_whole_tree() {
    if !root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let source = place.path().join("source");
    std::fs::create_dir(&source).unwrap();
    privileged_directory(&source);
    let case = Case::of(layers(gnu_tar(&source, XATTRS)));
    let converted = case.convert(&small_options());
    let image = Layout::open(&case.target(), converted.manifest);
    let target = place.path().join("target");
    let left_out = export_directory(&image, &target, Owners::Keep, &()).unwrap();
    assert_eq!(left_out, OmittedEntries::default());
    let want = trees::of_image(&case.dir.path().join("source"), case.manifest);
    trees::assert_same(&trees::of_directory(&target), &want, "directory");
}
