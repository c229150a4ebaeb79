//! An image that is damaged or lies: an error that says so, and nothing in the target; never other bytes.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use dimsum_convert::export::{ExportMode, ExportOptions};
use dimsum_convert::{ConversionProgress, ConvertError};
use dimsum_format::Digest;
use dimsum_format::manifest::Manifest;
use dimsum_format::pack::{FOOTER_BYTES, PackFooter};
use dimsum_layout::OciLayout;
use dimsum_source::{ErrorKind, Role, Target};

use crate::image::{Layout, blob, blob_path, export_to};
use crate::sources::{Case, noise, small_options};
use crate::tar::{Entry, file};
use crate::trees;

fn entries(name: &str, seed: u64) -> Vec<Entry> {
    vec![file(name, noise(200_000, seed)), file("same", noise(2_000, 7))]
}

fn options(mode: ExportMode) -> ExportOptions {
    ExportOptions { mode, ..ExportOptions::default() }
}

fn assert_nothing(target: &Path) {
    let left: Vec<_> = std::fs::read_dir(target.join("blobs/sha256")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    let index = std::fs::read_to_string(target.join("index.json")).unwrap();
    assert!(index.contains("\"manifests\":[]"), "{index}");
}

#[test]
fn a_flipped_bit_anywhere_in_a_pack_is_damage_and_publishes_nothing() {
    let case = Case::new(&[vec![file("lower", noise(90_000, 9))], entries("a", 1)]);
    let converted = case.convert(&small_options());
    let image = Layout::open(&case.target(), converted.manifest);
    let pack = image.dimsum.packs[1];
    let path = blob_path(&case.target(), pack.digest);
    let good = std::fs::read(&path).unwrap();
    let frames = image.maps.devices[1].frames.length() as usize;
    let target = case.dir.path().join("exported");
    for at in [0, 5_000, frames - 1, frames, frames + 8, frames + 50, good.len() - 50, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 4;
        std::fs::write(&path, bad).unwrap();
        let image = Layout::open(&case.target(), converted.manifest);
        match export_to(&image, &target, &options(ExportMode::PerLayer), &()).unwrap_err() {
            error @ ConvertError::LayerDigest { must, .. } => {
                assert!(must == pack.digest && error.kind() == ErrorKind::Integrity);
            }
            other => panic!("at {at}: {other}"),
        }
        assert_nothing(&target);
        match export_to(&image, &target, &options(ExportMode::Flatten), &()) {
            Err(error) => {
                assert!(at < frames && error.kind() == ErrorKind::Integrity, "at {at}: {error}");
                assert!(matches!(error, ConvertError::Content { .. }), "names the file: {error}");
                assert_nothing(&target);
            }
            // The chunks are as they should be.
            Ok(_) => {
                assert!(at >= frames, "at {at}");
                std::fs::remove_dir_all(&target).unwrap();
            }
        }
    }
    for length in [0, 100, good.len() - 1] {
        std::fs::write(&path, &good[..length]).unwrap();
        let error = export_to(&image, &target, &options(ExportMode::PerLayer), &()).unwrap_err();
        assert!(matches!(error, ConvertError::LayerDigest { .. }), "{length}: {error}");
    }
    std::fs::write(&path, [&good[..], b"more"].concat()).unwrap();
    let error = export_to(&image, &target, &options(ExportMode::PerLayer), &()).unwrap_err();
    assert!(matches!(error, ConvertError::LayerDigest { .. }), "{error}");
    assert_nothing(&target);
}

/// Puts the layer meta of `other` behind the chunks of `pack`.
fn with_layer_meta_of(pack: &[u8], other: &[u8]) -> Vec<u8> {
    let footer = |pack: &[u8]| PackFooter::parse(&pack[pack.len() - FOOTER_BYTES..], pack.len() as u64).unwrap();
    let (own, foreign) = (footer(pack), footer(other));
    let layer_meta = &other[foreign.layer_meta_offset as usize..other.len() - FOOTER_BYTES];
    let footer = PackFooter { layer_meta_offset: own.layer_meta_offset, ..foreign };
    [&pack[..own.layer_meta_offset as usize], layer_meta, &footer.to_bytes()].concat()
}

#[test]
fn a_layer_meta_that_lies_changes_no_file() {
    let [case, other] = [entries("a", 1), entries("b", 2)].map(|entries| Case::new(&[entries]));
    let [image, lie] = [&case, &other].map(|case| {
        let converted = case.convert(&small_options());
        Layout::open(&case.target(), converted.manifest)
    });
    let pack = |case: &Case, image: &Layout| blob(&case.target(), image.dimsum.packs[0].digest);
    let forged = with_layer_meta_of(&pack(&case, &image), &pack(&other, &lie));
    // The manifest names the forged pack; its meta is that of the true image.
    let mut manifest = Manifest::parse(dimsum_convert::export::ExportImage::manifest(&image)).unwrap();
    manifest.layers[0].digest = Digest::of(&forged);
    manifest.layers[0].size = forged.len() as u64;
    std::fs::write(blob_path(&case.target(), Digest::of(&forged)), &forged).unwrap();
    let layout = OciLayout::open(case.target(), None).unwrap();
    let manifest = layout.put_manifest("", &manifest.to_bytes(), Role::Part).unwrap();

    let target = case.dir.path().join("exported");
    let image = Layout::open(&case.target(), manifest);
    let exported = export_to(&image, &target, &options(ExportMode::PerLayer), &()).unwrap();
    assert_eq!(exported.layers.len(), 2, "what the layer meta says is put right by one more layer");
    let want = trees::of_image(&case.dir.path().join("source"), case.manifest);
    trees::assert_same(&trees::of_image(&target, exported.manifest), &want, "tree");
}

#[test]
fn a_name_like_a_whiteout_is_refused_in_a_layer_by_its_path() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join(".wh.x"), "not deleted").unwrap();
    let target = place.path().join("target");
    let layout = OciLayout::create(&target, None).unwrap();
    let source = place.path().join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::rename(place.path().join(".wh.x"), source.join(".wh.x")).unwrap();
    let input = dimsum_convert::Input::Directory { path: &source };
    let converted = dimsum_convert::convert(input, &layout, &small_options(), &()).unwrap();
    let image = Layout::open(&target, converted.manifest);
    let exported = place.path().join("exported");
    let error = export_to(&image, &exported, &options(ExportMode::Flatten), &()).unwrap_err();
    assert!(error.to_string().contains(".wh.x"), "{error}");
    assert_nothing(&exported);
    let mut tar = Vec::new();
    dimsum_convert::export::export_tar(&image, &mut tar, None, &()).unwrap();
}

#[test]
fn a_cancelled_export_leaves_nothing() {
    /// Says stop after so many questions.
    struct After(AtomicU32);
    impl ConversionProgress for After {
        fn cancelled(&self) -> bool {
            self.0.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_err()
        }
    }
    let case = Case::new(&[entries("a", 1), entries("b", 2)]);
    let converted = case.convert(&small_options());
    let image = Layout::open(&case.target(), converted.manifest);
    for mode in [ExportMode::PerLayer, ExportMode::Flatten] {
        let mut cancelled = 0;
        for after in 0.. {
            let target = case.dir.path().join(format!("{mode:?}"));
            match export_to(&image, &target, &options(mode), &After(after.into())) {
                Err(ConvertError::Cancelled) => assert_nothing(&target),
                Err(other) => panic!("after {after}: {other}"),
                Ok(_) => break,
            }
            cancelled += 1;
        }
        assert!(cancelled > 3, "{mode:?}: {cancelled}");
    }
}
