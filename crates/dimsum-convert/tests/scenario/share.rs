//! What is stored once, what is not stored at all, and what is not even listed.

use crate::reader::{Node, read};
use crate::sources::{Case, Layer, noise, small_options};
use crate::tar::{Packing, file, whiteout};

const SLICE: usize = 64 << 10;

#[test]
fn equal_content_is_stored_once_in_a_layer_and_across_layers() {
    let big = noise(3 * SLICE, 1);
    let changed = [&big[..SLICE], &noise(SLICE, 2), &big[2 * SLICE..]].concat();
    let case = Case::new(&[
        vec![file("a", big.clone()), file("b", big.clone()), file("c", noise(9_000, 3)), file("d", noise(9_000, 3))],
        vec![file("e", changed.clone()), file("f", noise(9_000, 3)), file("g", big.clone())],
    ]);
    let converted = case.convert(&small_options());
    let image = read(&case.target(), converted.manifest);
    let blocks: Vec<_> = image.maps.devices.iter().map(|device| device.map.blocks()).collect();
    assert_eq!(blocks, [3 * 16 + 3, 16], "layer two brings one slice");
    assert_eq!((image.file("e"), image.file("f"), image.file("g")), (changed, noise(9_000, 3), big));
    let shared: Vec<_> = converted.layers.iter().map(|layer| layer.shared_bytes).collect();
    assert_eq!(shared, [3 * SLICE as u64 + 9_000, 5 * SLICE as u64 + 9_000]);
}

/// More than the tables of small files hold in memory.
#[test]
fn many_small_files_in_any_order_read_back() {
    let content = |i: u64| noise(20 + i as usize % 900, i + 1);
    let entries =
        |order: &dyn Fn(u64) -> u64| (0..7_000).map(|i| file(&format!("{:05}", order(i)), content(order(i)))).collect();
    let ascending: Vec<_> = entries(&|i| i);
    let scattered: Vec<_> = entries(&|i| i * 3_001 % 7_000);
    let images = [ascending, scattered].map(|entries| {
        let case = Case::new(&[entries, vec![file("again", content(6_999)), file("first", content(0))]]);
        let converted = case.convert(&small_options());
        assert_eq!(converted.layers[1].shared_bytes, 20 + (20 + 6_999 % 900));
        read(&case.target(), converted.manifest)
    });
    let tree = images[0].tree();
    for i in 0..7_000 {
        assert!(tree[&format!("{i:05}")] == Node::File(content(i)), "{i}");
    }
    assert_eq!(images[0].dimsum.packs, images[1].dimsum.packs);
}

#[test]
fn a_slice_that_repeats_in_its_own_file_is_stored_once() {
    let [a, b] = [1, 2].map(|seed| noise(SLICE, seed));
    let bytes = [&a[..], &a, &b, &a, &b, b"tail"].concat();
    let case = Case::new(&[vec![file("f", bytes.clone()), file("g", [&b[..], &a].concat())]]);
    let converted = case.convert(&small_options());
    let image = read(&case.target(), converted.manifest);
    // The last slice has the tail in it, so it is another one.
    assert_eq!(image.maps.devices[0].map.chunks(), 3);
    assert!(image.file("f") == bytes);
    assert!(image.file("g") == [&b[..], &a].concat());
}

#[test]
fn zeros_are_not_stored() {
    let mut partly = vec![0; 4 * SLICE];
    partly[2 * SLICE + 5] = 1;
    let case = Case::new(&[vec![
        file("small", vec![0; 100]),
        file("large", vec![0; 10 * SLICE + 17]),
        file("partly", partly.clone()),
        file("tail", [noise(SLICE, 1), vec![0; SLICE / 4]].concat()),
    ]]);
    let converted = case.convert(&small_options());
    let image = read(&case.target(), converted.manifest);
    assert_eq!(image.maps.devices[0].map.blocks(), 2 * 16, "one slice of two files each");
    assert_eq!(image.file("partly"), partly);
    assert_eq!(image.file("large"), vec![0; 10 * SLICE + 17]);
    assert_eq!(image.file("small"), vec![0; 100]);
    assert_eq!(converted.layers[0].null_bytes, 100 + 10 * SLICE as u64 + 17 + 3 * SLICE as u64 + SLICE as u64 / 4);
}

#[test]
fn a_short_tail_joins_the_slice_before_it() {
    let tail = SLICE / 4;
    for (size, chunks) in [
        (SLICE - 1, 1),
        (SLICE, 1),
        (SLICE + 1, 1),
        (SLICE + tail - 1, 1),
        (SLICE + tail, 2),
        (2 * SLICE - 1, 2),
        (2 * SLICE, 2),
        (2 * SLICE + tail - 1, 2),
        (2 * SLICE + tail, 3),
        ((32 << 10) / 2 + 1, 1),
    ] {
        let case = Case::new(&[vec![file("f", noise(size, 1))]]);
        let converted = case.convert(&small_options());
        let image = read(&case.target(), converted.manifest);
        assert_eq!(image.maps.devices[0].map.chunks(), chunks, "{size}");
        assert_eq!(image.devices[0].len(), size.next_multiple_of(4096));
        assert!(image.file("f") == noise(size, 1), "{size}");
    }
}

#[test]
fn a_pack_whose_files_are_all_deleted_is_not_listed() {
    let case = Case::new(&[
        vec![file("kept", noise(5_000, 1))],
        vec![file("gone", noise(80_000, 2)), file("gone too", noise(500, 3))],
        vec![whiteout("gone"), whiteout("gone too"), file("last", noise(700, 4))],
    ]);
    let converted = case.convert(&small_options());
    let image = read(&case.target(), converted.manifest);
    assert_eq!(image.dimsum.packs.len(), 2);
    let listed: Vec<_> = converted.layers.iter().map(|layer| layer.pack.is_some()).collect();
    assert_eq!(listed, [true, false, true]);
    let history: Vec<_> =
        image.config.object()["history"].as_array().unwrap().iter().map(|entry| entry["empty_layer"] == true).collect();
    assert_eq!(history, [false, true, false, false]);
    let blobs = std::fs::read_dir(case.target().join("blobs/sha256")).unwrap().count();
    assert_eq!(blobs, 2 + 3, "two packs, meta, config, manifest: the third pack was never made visible");
}

#[test]
fn a_file_that_a_later_entry_of_the_same_tar_replaces_leaves_nothing() {
    let case = Case::new(&[
        vec![file("f", noise(5_000, 1)), file("g", noise(90_000, 2)), file("f", "new"), file("g", noise(90_000, 3))],
        vec![file("h", noise(5_000, 1)), file("i", noise(90_000, 2))],
    ]);
    let converted = case.convert(&small_options());
    let image = read(&case.target(), converted.manifest);
    let blocks: Vec<_> = image.maps.devices.iter().map(|device| device.map.blocks()).collect();
    assert_eq!(blocks, [22 + 1, 22 + 2], "layer two stores what layer one did not");
    assert_eq!(image.file("f"), b"new");
    assert!(image.file("h") == noise(5_000, 1) && image.file("i") == noise(90_000, 2));
}

#[test]
fn an_image_without_data_has_a_meta_only() {
    for layers in [vec![], vec![vec![]], vec![vec![crate::tar::dir("d"), file("e", ""), file("n", [0; 10])]]] {
        let case = Case::of(layers.iter().map(|entries| Layer::new(entries, Packing::Plain)).collect());
        let converted = case.convert(&small_options());
        let image = read(&case.target(), converted.manifest);
        assert_eq!((image.dimsum.packs.len(), image.manifest.layers.len()), (0, 1));
        image.tree();
    }
}
