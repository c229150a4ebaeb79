//! The same trees give the same bytes.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::Path;

use dimsum_convert::ConvertOptions;
use dimsum_format::media;

use crate::reader::{Read, read};
use crate::sources::{Case, Layer, noise, small_options};
use crate::tar::{Entry, Packing, dir, file, hard_link, symlink, whiteout};

fn lower() -> Vec<Entry> {
    let mut entries = vec![dir("a"), dir("b"), dir("b/c")];
    for i in 0..120usize {
        entries.push(file(&format!("b/c/{i:03}"), noise(i * 211 % 16_000 + 1, i as u64 % 90)));
    }
    for i in 0..9 {
        entries.push(file(&format!("a/big{i}"), noise(60_000 * i + 20_000, i as u64)));
    }
    entries.push(symlink("z", "a/big1"));
    entries.push(file("a/zero", vec![0; 300_000]));
    entries
}

fn upper() -> Vec<Entry> {
    vec![
        whiteout("a/big3"),
        file("a/big4", noise(140_000, 77)),
        file("b/c/new", noise(2_000, 5)),
        hard_link("l", "b/c/new"),
        file("copy", noise(260_000, 4)),
    ]
}

fn convert(layers: &[(Vec<Entry>, Packing)], options: &ConvertOptions) -> (Case, Read) {
    let case = Case::of(layers.iter().map(|(entries, packing)| Layer::new(entries, *packing)).collect());
    let converted = case.convert(options);
    let read = read(&case.target(), converted.manifest);
    (case, read)
}

fn blobs(layout: &Path) -> BTreeSet<String> {
    let names = std::fs::read_dir(layout.join("blobs/sha256")).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn order_and_compression_of_the_tar_do_not_matter() {
    let (_keep, plain) = convert(&[(lower(), Packing::Plain), (upper(), Packing::Plain)], &small_options());
    let mut reordered = lower();
    reordered.reverse();
    // Files before the directories they are in, links last as their targets must come first.
    let mut reordered_upper = upper();
    reordered_upper.swap(0, 4);
    let others = [
        [(lower(), Packing::Gzip), (upper(), Packing::Gzip)],
        [(lower(), Packing::Zstd), (upper(), Packing::Gzip)],
        [(reordered, Packing::Gzip), (reordered_upper, Packing::Plain)],
    ];
    for layers in others {
        let (_keep, other) = convert(&layers, &small_options());
        assert_eq!(other.dimsum.packs, plain.dimsum.packs);
        assert_eq!((other.dimsum.meta, other.dimsum.root), (plain.dimsum.meta, plain.dimsum.root));
        assert_eq!(other.dimsum.config, plain.dimsum.config);
        assert_eq!(without_source(other), without_source(plain_again(&plain)));
    }
}

/// The manifest but for what it says of the source.
fn without_source(read: Read) -> Vec<u8> {
    let mut manifest = read.manifest;
    manifest.annotations.remove(media::ANNOTATION_SOURCE_MANIFEST);
    for layer in &mut manifest.layers {
        layer.annotations.remove(media::ANNOTATION_SOURCE_DIFF_ID);
        layer.annotations.remove(media::ANNOTATION_SOURCE_CHAIN_ID);
    }
    manifest.to_bytes()
}

fn plain_again(read: &Read) -> Read {
    Read {
        manifest: read.manifest.clone(),
        dimsum: read.dimsum.clone(),
        config: read.config.clone(),
        meta: Vec::new(),
        maps: read.maps.clone(),
        devices: Vec::new(),
    }
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let layers = [(lower(), Packing::Gzip), (upper(), Packing::Gzip)];
    let (case, _) = convert(&layers, &ConvertOptions { jobs: NonZeroUsize::MIN, ..small_options() });
    let expected = blobs(&case.target());
    for jobs in [2, 7] {
        let options = ConvertOptions { jobs: NonZeroUsize::new(jobs).unwrap(), ..small_options() };
        for _ in 0..3 {
            let (case, _) = convert(&layers, &options);
            assert_eq!(blobs(&case.target()), expected);
        }
    }
}

/// Layers that share, replace and delete, so that each needs what became of those before it; one brings
/// nothing, one is not listed.
fn many_layers() -> Vec<Vec<Entry>> {
    let mut layers: Vec<Vec<Entry>> = Vec::new();
    for k in 0..5u64 {
        // Replaced further on in the same tar: read, perhaps compressed, and without a place.
        let mut entries = vec![file("big", noise(150_000, 900 + k)), file("again", noise(3_000, 900 + k))];
        for i in 0..60 {
            entries.push(file(&format!("small{k}-{i:02}"), noise(500 + 211 * i as usize, i + 40 * k)));
        }
        for i in 0..4 {
            entries.push(file(&format!("large{k}-{i}"), noise(70_000 * (i as usize + 1), i + 3 * k)));
        }
        entries.push(file("big", noise(200_000, 500 + k)));
        entries.push(file("again", noise(4_000, 500 + k)));
        layers.push(entries);
    }
    layers.push(vec![file("copy", noise(70_000, 0))]);
    layers.push(vec![file("gone", noise(100_000, 7_000))]);
    layers.push(vec![whiteout("gone"), file("end", noise(10_000, 7_001))]);
    layers
}

/// Puts all but the first two and the last two entries, which belong to one another, into another order.
fn shuffle(entries: &mut [Entry], seed: usize) {
    if let Some(middle) = entries.len().checked_sub(2).and_then(|end| entries.get_mut(2..end)) {
        for i in (1..middle.len()).rev() {
            middle.swap(i, (i * 7_919 + seed * 104_729) % (i + 1));
        }
    }
}

#[test]
fn layers_in_flight_at_the_same_time_do_not_matter() {
    let options = |jobs| ConvertOptions { jobs: NonZeroUsize::new(jobs).unwrap(), ..small_options() };
    let plain: Vec<_> = many_layers().into_iter().map(|entries| (entries, Packing::Plain)).collect();
    let (_keep, expected) = convert(&plain, &options(1));
    assert_eq!(expected.dimsum.packs.len(), 5 + 1);
    for (seed, jobs) in [(0, 1), (1, 1), (0, 2), (1, 2), (2, 2), (0, 5), (1, 5), (2, 5)] {
        let mut layers = many_layers();
        if seed > 0 {
            layers.iter_mut().for_each(|entries| shuffle(entries, seed));
        }
        let packing = |k| if k % 2 == 0 { Packing::Gzip } else { Packing::Plain };
        let layers: Vec<_> = layers.into_iter().enumerate().map(|(k, entries)| (entries, packing(k))).collect();
        let (_keep, read) = convert(&layers, &options(jobs));
        assert_eq!(read.dimsum.packs, expected.dimsum.packs, "order {seed}, {jobs} threads");
        assert_eq!(read.config.diff_ids().unwrap(), expected.config.diff_ids().unwrap());
        assert_eq!(read.dimsum.root, expected.dimsum.root);
    }
}

#[test]
fn the_encoder_changes_frames_only() {
    let layers = [(lower(), Packing::Gzip), (upper(), Packing::Gzip)];
    let (_keep, three) = convert(&layers, &small_options());
    let (_keep, one) = convert(&layers, &ConvertOptions { level: 1, ..small_options() });
    assert_ne!(one.dimsum.packs, three.dimsum.packs);
    assert_ne!(one.dimsum.root, three.dimsum.root);
    assert_eq!(one.erofs(), three.erofs());
    assert_eq!(one.devices, three.devices);
    let ids = |read: &Read| read.maps.devices.iter().map(|device| device.id).collect::<Vec<_>>();
    assert_eq!(ids(&one), ids(&three));
    let diff_ids = one.config.diff_ids().unwrap();
    assert_eq!(diff_ids.split_last().unwrap().1, three.config.diff_ids().unwrap().split_last().unwrap().1);
}

#[test]
fn a_directory_gives_the_packs_of_the_tar_of_it() {
    let dir = tempfile::TempDir::new().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let files = [("big", noise(200_000, 1)), ("empty", vec![]), ("s1", noise(9_000, 2)), ("s2", noise(3, 3))];
    for (name, bytes) in &files {
        std::fs::write(root.join(name), bytes).unwrap();
    }
    let target = dir.path().join("target");
    let layout = dimsum_layout::OciLayout::create(&target, None).unwrap();
    let options = small_options();
    let input = dimsum_convert::Input::Directory { path: &root };
    let first = dimsum_convert::convert(input, &layout, &options, &()).unwrap();
    let again = dimsum_convert::convert(input, &layout, &options, &()).unwrap();
    assert_eq!(first.manifest, again.manifest);
    let from_dir = read(&target, first.manifest);
    let entries = files.iter().map(|(name, bytes)| file(name, bytes.clone())).collect();
    let (_keep, from_tar) = convert(&[(entries, Packing::Plain)], &options);
    assert_eq!(from_dir.devices, from_tar.devices);
    assert_eq!(from_dir.tree(), from_tar.tree());
}
