//! What images have in common stays in common, and nothing more is written than has to be.

use std::num::NonZeroUsize;

use dimsum_convert::export::{ExportMode, ExportOptions, Exported, LayerCompression};

use crate::image::{Layout, export_to};
use crate::sources::{Case, noise, small_options};
use crate::tar::{Entry, dir, file, whiteout};
use crate::trees;

fn base() -> Vec<Entry> {
    let mut entries = vec![dir("etc"), dir("bin"), file("etc/passwd", "root"), file("bin/sh", noise(400_000, 1))];
    entries.extend((0..300).map(|number| file(&format!("etc/{number:03}"), noise(number * 40, number as u64))));
    entries
}

fn exported(layers: &[Vec<Entry>], options: &ExportOptions) -> Exported {
    let case = Case::new(layers);
    let converted = case.convert(&small_options());
    let image = Layout::open(&case.target(), converted.manifest);
    let target = case.dir.path().join("exported");
    let exported = export_to(&image, &target, options, &()).unwrap();
    let want = trees::of_image(&case.dir.path().join("source"), case.manifest);
    trees::assert_same(&trees::of_image(&target, exported.manifest), &want, "tree");
    exported
}

#[test]
fn images_with_a_common_base_share_its_layer() {
    let one = exported(&[base(), vec![file("bin/one", noise(5_000, 2))]], &ExportOptions::default());
    let other =
        vec![base(), vec![whiteout("etc/passwd"), file("bin/other", noise(50_000, 3))], vec![whiteout("etc/000")]];
    let other = exported(&other, &ExportOptions::default());
    assert_eq!(one.layers[0], other.layers[0]);
    assert_eq!(one.layers.len(), 2, "everything is in packs");
    assert_eq!(other.layers.len(), 3, "the last deletion is in no pack");
    assert_eq!(other.layers[2].pack, None);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let layers = [base(), vec![file("big", noise(5_000_000, 9))]];
    for compression in [LayerCompression::Gzip, LayerCompression::Zstd] {
        let jobs = [1, 2, 5].map(|jobs| {
            let options =
                ExportOptions { compression, jobs: NonZeroUsize::new(jobs).unwrap(), ..ExportOptions::default() };
            exported(&layers, &options).manifest
        });
        assert!(jobs.iter().all(|manifest| *manifest == jobs[0]), "{compression:?}");
    }
}

#[test]
fn layers_without_data_are_one_last_layer() {
    let layers = [
        vec![dir("d"), file("d/a", noise(9_000, 1)), file("d/b", noise(9_000, 2))],
        vec![Entry { mode: 0o700, ..dir("d") }],
        vec![whiteout("d/b")],
        vec![Entry { mode: 0o400, ..file("d/a", noise(9_000, 1)) }],
    ];
    let exported = exported(&layers, &ExportOptions::default());
    let packs: Vec<bool> = exported.layers.iter().map(|layer| layer.pack.is_some()).collect();
    assert_eq!(packs, [true, false]);
}

#[test]
fn data_that_the_image_does_not_list_is_not_missed() {
    // The third layer's `f` is data of the second, of which the image uses nothing, so it is left out of its
    // layer. Then that of the first would be seen, for its deletion is in no pack.
    let layers = [
        vec![file("f", noise(8_000, 2)), file("first", noise(9_000, 1))],
        vec![file("second", noise(9_000, 3))],
        vec![file("f", noise(9_000, 3)), file("third", noise(7_000, 4))],
        vec![whiteout("second"), whiteout("f")],
    ];
    let exported = exported(&layers, &ExportOptions::default());
    let packs: Vec<bool> = exported.layers.iter().map(|layer| layer.pack.is_some()).collect();
    assert_eq!(packs, [true, true, false]);
}

#[test]
fn an_image_without_data_has_one_layer() {
    for layers in [vec![vec![]], vec![vec![dir("d"), file("empty", ""), file("zeros", [0; 10])]]] {
        for mode in [ExportMode::PerLayer, ExportMode::Flatten] {
            let exported = exported(&layers, &ExportOptions { mode, ..ExportOptions::default() });
            assert_eq!(exported.layers.len(), 1);
        }
    }
}
