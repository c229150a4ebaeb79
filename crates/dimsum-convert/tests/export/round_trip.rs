//! Converted and exported, an image unpacks to the identical tree, whatever its layers were.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use dimsum_convert::export::{ExportMode, ExportOptions, LayerCompression};
use dimsum_format::Digest;
use dimsum_format::manifest::Manifest;
use dimsum_format::media;
use rustix::fs::{CWD, FileType, Mode as Bits, XattrFlags, makedev, mknodat, setxattr};

use crate::image::{Layout, blob, export_to};
use crate::sources::{Case, Layer, noise, small_options};
use crate::tar::{Entry, Packing, archive, dir, file, hard_link, symlink as link, whiteout};
use crate::trees;

pub(crate) fn gnu_tar(root: &Path, arguments: &[&str]) -> Layer {
    let packed =
        Command::new("tar").arg("-C").arg(root).args(["--numeric-owner", "-c"]).args(arguments).arg(".").output();
    let packed = packed.unwrap();
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
    plain(packed.stdout)
}

/// A layer that is not compressed.
pub(crate) fn plain(tar: Vec<u8>) -> Layer {
    Layer { digest: Digest::of(&tar), diff_id: Digest::of(&tar), blob: tar, media_type: media::LAYER_TAR }
}

/// A directory with what tars of the better formats can hold.
pub(crate) fn directory(root: &Path) {
    let at = |path: &str| root.join(path);
    fs::create_dir_all(at("d/deep")).unwrap();
    for size in [0, 1, 511, 512, 513, 70_000, 300_000] {
        fs::write(at(&format!("d/size{size}")), noise(size, size as u64 + 1)).unwrap();
    }
    fs::hard_link(at("d/size513"), at("d/deep/link")).unwrap();
    fs::hard_link(at("d/size513"), at("zz")).unwrap();
    symlink("d/deep", at("s")).unwrap();
    mknodat(CWD, at("pipe"), FileType::Fifo, Bits::from_raw_mode(0o622), 0).unwrap();
    fs::set_permissions(at("d/size1"), fs::Permissions::from_mode(0o6751)).unwrap();
    let long = format!("{}/{}", "e".repeat(120), "f".repeat(200));
    fs::create_dir_all(at(&long)).unwrap();
    fs::write(at(&format!("{long}/file")), "a long name").unwrap();
    symlink("t".repeat(2000), at("long target")).unwrap();
    let holes = File::create(at("holes")).unwrap();
    for offset in [0, 1 << 20, 7_777_777] {
        holes.write_all_at(&noise(5_000, offset), offset).unwrap();
    }
    holes.set_len(20 << 20).unwrap();
    fs::write(at("deleted later"), noise(90_000, 77)).unwrap();
}

/// Layers over [`directory`]: data, deletions, links across layers, and one that only changes attributes.
pub(crate) fn upper_layers() -> Vec<Vec<Entry>> {
    vec![
        vec![
            whiteout("deleted later"),
            file("d/.wh..wh..opq", ""),
            file("d/new", noise(80_000, 5)),
            file("s", "a file in the place of a link"),
            hard_link("late link", "zz"),
            dir("o/p"),
            file("o/p/q", noise(3_000, 6)),
        ],
        vec![Entry { mode: 0o700, mtime: 5, ..dir("o") }, whiteout("pipe"), Entry { mode: 0o600, ..dir("./") }],
        vec![file("o", "a file in the place of a directory"), link("d/link", "new"), file("late", noise(40_000, 8))],
        vec![whiteout("late"), Entry { mode: 0o4711, ..hard_link("last link", "d/new") }],
    ]
}

fn options(mode: ExportMode, compression: LayerCompression) -> ExportOptions {
    ExportOptions { mode, compression, temp_dir: std::env::temp_dir(), ..ExportOptions::default() }
}

/// Converts and exports in every way, and compares the trees.
fn survives(layers: Vec<Layer>, what: &str) {
    let case = Case::of(layers);
    let converted = case.convert(&small_options());
    let image = Layout::open(&case.target(), converted.manifest);
    let want = trees::of_image(&case.dir.path().join("source"), case.manifest);
    for mode in [ExportMode::PerLayer, ExportMode::Flatten] {
        for (compression, media_type) in [
            (LayerCompression::None, media::LAYER_TAR),
            (LayerCompression::Gzip, media::LAYER_GZIP),
            (LayerCompression::Zstd, media::LAYER_ZSTD),
        ] {
            let target = case.dir.path().join(format!("{mode:?}-{compression:?}"));
            let exported = export_to(&image, &target, &options(mode, compression), &()).unwrap();
            trees::assert_same(&trees::of_image(&target, exported.manifest), &want, what);
            let manifest = Manifest::parse(&blob(&target, exported.manifest)).unwrap();
            assert!(manifest.layers.iter().all(|layer| layer.media_type == media_type));
            if mode == ExportMode::Flatten {
                assert_eq!(exported.layers.len(), 1);
            }
        }
    }
}

#[test]
fn layers_of_every_dialect_give_the_same_tree() {
    let place = tempfile::tempdir().unwrap();
    directory(place.path());
    let formats: [&[&str]; 5] = [
        &["--format=gnu"],
        &["--format=gnu", "--sparse"],
        &["--format=pax"],
        &["--format=pax", "--sparse", "--sparse-version=0.1"],
        &["--format=pax", "--sparse", "--sparse-version=1.0"],
    ];
    for format in formats {
        let mut layers = vec![gnu_tar(place.path(), format)];
        layers.extend(upper_layers().iter().map(|entries| Layer::new(entries, Packing::Gzip)));
        survives(layers, &format.join(" "));
    }
}

#[test]
fn privileged_owners_devices_and_xattrs_survive() {
    if !crate::stock_tools::root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    privileged_directory(place.path());
    survives(vec![gnu_tar(place.path(), XATTRS), plain(archive(&[whiteout("b"), file("x", "1")]))], "xattrs");
}

/// Keeps everything.
pub(crate) const XATTRS: &[&str] = &["--format=pax", "--xattrs", "--xattrs-include=*"];

pub(crate) fn privileged_directory(root: &Path) {
    directory(root);
    mknodat(CWD, root.join("c"), FileType::CharacterDevice, Bits::RUSR, makedev(5, 70_000)).unwrap();
    mknodat(CWD, root.join("b"), FileType::BlockDevice, Bits::RUSR, makedev(259, 7)).unwrap();
    let owned = root.join("d/size300000");
    std::os::unix::fs::chown(&owned, Some(3_000_000), Some(u32::MAX - 1)).unwrap();
    setxattr(&owned, "user.text", b"a=b\nc", XattrFlags::empty()).unwrap();
    setxattr(root.join("d/size1"), "trusted.t", b"\0\xff", XattrFlags::empty()).unwrap();
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    setxattr(root.join("d/size513"), "security.capability", capability, XattrFlags::empty()).unwrap();
    setxattr(root.join("d/deep"), "user.on.directory", b"", XattrFlags::empty()).unwrap();
}

#[test]
fn a_file_of_mostly_holes_stays_small() {
    let place = tempfile::tempdir().unwrap();
    let vast = File::create(place.path().join("vast")).unwrap();
    vast.write_all_at(b"somewhere", 1_200_000_000).unwrap();
    vast.set_len(1_400_000_000).unwrap();
    let case = Case::of(vec![gnu_tar(place.path(), &["--format=pax", "--sparse"])]);
    let converted = case.convert(&small_options());
    let image = Layout::open(&case.target(), converted.manifest);
    let target = case.dir.path().join("exported");
    let exported = export_to(&image, &target, &options(ExportMode::PerLayer, LayerCompression::Gzip), &()).unwrap();
    assert!(exported.layers[0].tar_bytes < 1 << 20, "{:?}", exported.layers);
    let want = trees::of_image(&case.dir.path().join("source"), case.manifest);
    trees::assert_same(&trees::of_image(&target, exported.manifest), &want, "holes");
}

#[test]
fn a_flat_export_of_one_layer_converts_to_the_same_image() {
    let place = tempfile::tempdir().unwrap();
    directory(place.path());
    let case = Case::of(vec![gnu_tar(place.path(), &["--format=pax"])]);
    let first = case.convert(&small_options());
    let image = Layout::open(&case.target(), first.manifest);
    // In the place of the source.
    let source = case.dir.path().join("source");
    let exported = export_to(&image, &source, &options(ExportMode::Flatten, LayerCompression::Zstd), &()).unwrap();
    let again = Case { manifest: exported.manifest, ..case };
    let second = again.convert(&small_options());
    assert_eq!(second.meta, first.meta, "EROFS image, maps and device ids");
    assert_eq!(second.root, first.root);
    let packs =
        |converted: &dimsum_convert::Converted| converted.layers.iter().map(|layer| layer.pack).collect::<Vec<_>>();
    assert_eq!(packs(&second), packs(&first));
}
