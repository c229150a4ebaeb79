//! A source that is damaged, lies or is refused: an error that names it, and nothing in the target.

use dimsum_convert::{ConversionProgress, ConvertError};
use dimsum_format::Digest;

use crate::sources::{Case, Layer, noise, small_options};
use crate::tar::{Entry, Packing, file};

fn entries() -> Vec<Entry> {
    vec![file("a", noise(300_000, 1)), file("b", noise(2_000, 2))]
}

fn fails(case: &Case) -> ConvertError {
    let error = case.try_convert(&small_options()).unwrap_err();
    assert_nothing(case);
    error
}

fn assert_nothing(case: &Case) {
    let left: Vec<_> = std::fs::read_dir(case.target().join("blobs/sha256")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    let index = std::fs::read_to_string(case.target().join("index.json")).unwrap();
    assert!(index.contains("\"manifests\":[]"), "{index}");
}

/// A good layer below, so that something could have been published.
fn over_a_good_layer(layer: Layer) -> Case {
    Case::of(vec![Layer::new(&[file("lower", noise(100_000, 9))], Packing::Gzip), layer])
}

#[test]
fn a_flipped_bit_in_any_layer_is_found_by_its_digest() {
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let mut layer = Layer::new(&entries(), packing);
        let middle = layer.blob.len() / 2;
        layer.blob[middle] ^= 4;
        let digest = layer.digest;
        match fails(&over_a_good_layer(layer)) {
            ConvertError::LayerDigest { must, .. } => assert_eq!(must, digest),
            other => panic!("{packing:?}: {other}"),
        }
    }
}

#[test]
fn a_wrong_diff_id_is_found() {
    let mut layer = Layer::new(&entries(), Packing::Gzip);
    layer.diff_id = Digest::of(b"something else");
    assert!(matches!(fails(&over_a_good_layer(layer)), ConvertError::DiffId { .. }));
}

#[test]
fn a_truncated_blob_is_found_even_if_it_has_the_digest_the_manifest_names() {
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let mut layer = Layer::new(&entries(), packing);
        layer.blob.truncate(layer.blob.len() - if packing == Packing::Plain { 2_000 } else { 9 });
        layer.digest = Digest::of(&layer.blob);
        let name = layer.digest.to_string();
        let error = fails(&over_a_good_layer(layer));
        // A plain tar may end anywhere behind its last file: then only the diff_id tells.
        assert!(matches!(error, ConvertError::Tree { .. } | ConvertError::DiffId { .. }), "{packing:?}: {error}");
        assert!(error.to_string().contains(&name), "{error}");
    }
}

#[test]
fn garbage_behind_the_end_of_a_blob_is_found() {
    let mut layer = Layer::new(&entries(), Packing::Gzip);
    layer.blob.extend_from_slice(b"more");
    assert!(matches!(fails(&over_a_good_layer(layer)), ConvertError::LayerDigest { .. }));
}

#[test]
fn a_missing_blob_and_a_refused_entry_are_named() {
    let case = Case::of(vec![Layer::new(&entries(), Packing::Gzip)]);
    let layer = Layer::new(&entries(), Packing::Gzip).digest;
    std::fs::remove_file(case.dir.path().join("source/blobs/sha256").join(layer.hex())).unwrap();
    assert!(fails(&case).to_string().contains(&layer.to_string()));
    let case = over_a_good_layer(Layer::new(&[file("x/../../etc/passwd", "x")], Packing::Gzip));
    assert!(fails(&case).to_string().contains("x/../../etc/passwd"));
}

#[test]
fn a_dimsum_image_is_not_converted_again() {
    let case = Case::new(&[entries()]);
    let converted = case.convert(&small_options());
    let source = dimsum_layout::OciLayout::open(case.target(), None).unwrap();
    let target = dimsum_layout::OciLayout::create(case.dir.path().join("again"), None).unwrap();
    let input = dimsum_convert::Input::Image { source: &source, manifest: converted.manifest };
    let error = dimsum_convert::convert(input, &target, &small_options(), &()).unwrap_err();
    assert!(matches!(error, ConvertError::AlreadyDimsum { .. }));
}

#[test]
fn a_cancelled_conversion_leaves_nothing() {
    /// Says stop after so many questions.
    struct After(std::sync::atomic::AtomicU32);
    impl ConversionProgress for After {
        fn cancelled(&self) -> bool {
            use std::sync::atomic::Ordering::SeqCst;
            self.0.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_err()
        }
    }
    let case = Case::new(&[entries(), vec![file("c", noise(100_000, 5))]]);
    let target = dimsum_layout::OciLayout::create(case.target(), None).unwrap();
    let source = case.source();
    let mut cancelled = 0;
    for after in 0.. {
        let input = dimsum_convert::Input::Image { source: &source, manifest: case.manifest };
        match dimsum_convert::convert(input, &target, &small_options(), &After(after.into())) {
            Err(ConvertError::Cancelled) => assert_nothing(&case),
            Err(other) => panic!("after {after}: {other}"),
            Ok(_) => break,
        }
        cancelled += 1;
    }
    assert!(cancelled > 10);
}
